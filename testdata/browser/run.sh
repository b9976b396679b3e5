#!/usr/bin/env bash
# The page in a real Chromium: builds vitrine, starts it twice on free loopback ports, runs page.mjs against it, and
# stops it. Installs what it needs: Debian's chromium, and playwright-core by package-lock.json.
#   testdata/browser/run.sh             SCREENSHOTS=DIR keeps a picture of each step
set -euo pipefail
cd "$(dirname "$0")"

source chromium.sh

work=$(mktemp -d)
started=()
finish() {
  for pid in "${started[@]}"; do kill "$pid" 2> /dev/null && wait "$pid" || true; done
  rm -rf "$work"
}
trap finish EXIT

(cd ../.. && go build -o "$work/vitrine" .)
cp -r ../manual "$work/docs"
cp kitchen.md "$work/docs/guide/kitchen.md"
cp pixel.png "$work/docs/guide/pixel.png"
node xss.mjs > "$work/docs/hostile.md"
for n in {1..12}; do printf '# Walrus %s\n\nA walrus of the many.\n' "$n" > "$work/docs/walrus-$n.md"; done
{ printf '# Long\n\n'; for n in {1..700}; do printf '## Section %s\n\nSome *words* of `code` and [a link](hostile.md) to fill this document, again and again, until it is long enough for it.\n\n' "$n"; done; } > "$work/docs/long.md"

# start NAME VARIABLE=value…: waits until it serves and prints the URLs of its listeners, ADMIN_ADDR's last.
start() {
  local log=$work/$1.log listeners=1
  : > "$log"
  [[ "$*" == *ADMIN_ADDR=* ]] && listeners=2
  env ADDR=127.0.0.1:0 DOCS_DIR="$work/docs" ADMIN_TOKEN=the-admin-token RATE_LIMIT=0 "${@:2}" "$work/vitrine" > "$log" 2>&1 &
  started+=($!)
  for _ in {1..200}; do
    urls=$(sed -n 's/.*"message":"serving".*"addr":"\([^"]*\)".*/http:\/\/\1/p' "$log")
    [[ $(wc -w <<< "$urls") == "$listeners" ]] && grep -q folder_scan "$log" && return
    sleep 0.1
  done
  cat "$log"
  exit 1
}

start open RECORD_GAPS=true ENABLE_PROFILING=true SLOW_REQUEST=1ms
open=$urls
start closed ADMIN_ADDR=127.0.0.1:0 API_TOKEN=the-api-token
{ read -r main; read -r admin; } <<< "$urls"
timeout 300 node page.mjs "$browser" "$open" "$main" "$admin"
