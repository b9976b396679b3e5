package main

// The page for browsers, and the index for curl.

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// The index for curl, in parts for what a listener serves; [1] is where it is reached.
const (
	indexText = `vitrine %[2]s: documentation search that you can see through
What is marked * needs ADMIN_TOKEN: curl -H "Authorization: Bearer $ADMIN_TOKEN"

curl '%[1]s/readyz?verbose'                     can it serve, and what does it hold; /livez: is it alive
`
	searchIndex = `curl '%[1]s/search?q=install'                   search; also &limit=5&prefix=guide/
curl '%[1]s/documents?prefix=guide/'            list documents
curl %[1]s/documents/README.md                  read one
claude mcp add --transport http docs %[1]s/mcp  connect an agent (MCP); for clients of 2024: %[1]s/sse
curl -T install.md %[1]s/documents/guide/install.md  * write one
curl -X DELETE %[1]s/documents/guide/install.md      * remove one
curl --data-binary @docs.ndjson %[1]s/documents      * write many, {"id","text"} a line
`
	adminIndex = `curl %[1]s/metrics                              metrics for Prometheus
curl %[1]s/debug/requests                       * recent requests; /debug/requests/{id}: the waterfall of one
curl -X PUT -d debug '%[1]s/debug/loglevel?for=10m'  * change the log level for a while
`
)

//go:embed index.html
var page string

// pagePolicy allows the page its own style and script, by their hashes, and to ask where it comes from: nothing else. A name in
// the page that turns into markup or code by mistake would be refused by the browser.
var pagePolicy = sync.OnceValue(func() string {
	hash := func(tag string) string {
		_, text, _ := strings.Cut(page, "<"+tag+">")
		text, _, _ = strings.Cut(text, "</"+tag+">")
		sum := sha256.Sum256([]byte(text))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; style-src " + hash("style") + "; script-src " + hash("script") + "; connect-src 'self'; img-src data:; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
})

// handleIndex returns the handler of GET / on a listener that serves "search", "admin" or both: the page for browsers,
// text for curl.
func (s *server) handleIndex(serves string) func(http.ResponseWriter, *http.Request) error {
	html := strings.Replace(page, `data-serves="search admin"`, `data-serves="`+serves+`"`, 1)
	text := indexText
	if strings.Contains(serves, "search") {
		text += searchIndex
	}
	if strings.Contains(serves, "admin") {
		text += adminIndex
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		h := w.Header()
		h.Set("Vary", "Accept")
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			return writeText(w, http.StatusOK, fmt.Sprintf(text, "http://"+r.Host, version()))
		}
		h.Set("Content-Security-Policy", pagePolicy())
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		_, err := io.WriteString(w, html)
		return err
	}
}
