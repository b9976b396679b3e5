# shellcheck shell=bash disable=SC2034 # browser is for them
# Sourced by the scripts that need a browser: installs what is missing, Debian's chromium and playwright-core by
# package-lock.json, and sets $browser.
browser=$(command -v chromium || command -v chromium-headless-shell || true)
if [[ -z $browser ]]; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null
  browser=$(command -v chromium)
fi
command -v npm > /dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm > /dev/null; }
[[ -d node_modules/playwright-core ]] || npm ci --no-audit --no-fund --loglevel=error
