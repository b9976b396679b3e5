# shellcheck shell=bash disable=SC2034 # URL is for them
# Sourced by the scripts that try real peers: builds vitrine and serves a copy of the manual at $URL, a free port of
# the loopback, until the script ends. $ADMIN_TOKEN may write.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
stop() {
	if [ -n "${server:-}" ]; then kill "$server" && wait "$server" || true; fi
	rm -rf "$work"
}
trap stop EXIT
(cd "$root" && go build -o "$work/vitrine" .)
cp -r "$root/testdata/manual" "$work/docs"
export ADMIN_TOKEN=admin-token
ADDR=127.0.0.1:0 DOCS_DIR=$work/docs RATE_LIMIT=0 "$work/vitrine" >"$work/log" &
server=$!
for _ in $(seq 100); do
	address=$(sed -n 's/.*"message":"serving".*"addr":"\([^"]*\)".*/\1/p' "$work/log")
	[ -n "$address" ] && node -e 'fetch(process.argv[1]).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))' "http://$address/readyz" && break
	sleep 0.1
done
URL=http://$address
