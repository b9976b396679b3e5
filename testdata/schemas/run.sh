#!/usr/bin/env bash
# Calls the tools with random arguments and compares what they do with what their schemas say: run.sh [SECONDS [SEED]]
set -euo pipefail
cd "$(dirname "$0")"
npm install --silent --no-progress --ignore-scripts
export RECORD_GAPS=true DOCS_URL=https://docs.example.com # so that all tools are offered
source ../serve.sh
node schemas.mjs "$URL" "$@"
