#!/usr/bin/env bash
# Reads trees of documents with other parsers and compares the result with ours: run.sh [FOLDER…]
# Without arguments it checks that own.json is what those parsers find in own.
set -euo pipefail
cd "$(dirname "$0")"
npm install --silent --no-progress --ignore-scripts
if (($# == 0)); then
  node reference.mjs own | diff own.json -
  exit
fi
trees=$(realpath -- "$@" | paste -s -d :)
cd ../..
TREES=$trees go test -count=1 -run TestTreesAreReadAsByOtherParsers -v .
