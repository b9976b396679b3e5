#!/usr/bin/env bash
# The pictures of the README: builds vitrine, serves testdata/manual on a free loopback port, asks it like a reader, and
# writes pictures/*.png in a real Chromium.
#   testdata/browser/pictures.sh
set -euo pipefail
cd "$(dirname "$0")"
source chromium.sh
source ../serve.sh
# The manual has a Japanese page.
[[ -n $(fc-list :lang=ja) ]] || apt-get install -y -qq --no-install-recommends fonts-ipafont-gothic > /dev/null
mkdir -p pictures
timeout 120 node pictures.mjs "$browser" "$URL" "$ADMIN_TOKEN"
ls -l pictures
