package main

// GET /: the page for browsers, and an index of the routes for curl.

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"net/http"
	"strings"
	"sync"
)

// The parts of the index, for fmt.Sprintf: [1] is the base URL, [2] the version.
const (
	indexIntro = `vitrine %[2]s: documentation search that you can see through
What is marked * needs ADMIN_TOKEN: curl -H "Authorization: Bearer $ADMIN_TOKEN"

curl '%[1]s/readyz?verbose'                     can it serve, and what does it hold; /livez: is it alive
`
	indexSearch = `curl '%[1]s/search?q=install'                   search; also &limit=5&prefix=guide/
curl '%[1]s/documents?prefix=guide/'            list documents
curl %[1]s/documents/README.md                  read one
curl %[1]s/llms.txt                             links to all of them, for models
claude mcp add --transport http docs %[1]s/mcp  connect an agent (MCP); for clients of 2024: %[1]s/sse
curl -T install.md %[1]s/documents/guide/install.md  * write one
curl -X DELETE %[1]s/documents/guide/install.md      * remove one
curl --data-binary @docs.ndjson %[1]s/documents      * write many, {"id","text"} a line
`
	indexAdmin = `curl %[1]s/metrics                              metrics for Prometheus
curl %[1]s/debug/requests                       * recent requests; /debug/requests/{id}: the waterfall of one
curl %[1]s/debug/gaps                           * questions that found nothing, or that agents reported
curl -X PUT -d debug '%[1]s/debug/loglevel?for=10m'  * change the log level for a while
`
)

//go:embed index.html
var page string

// handleIndex returns the handler of GET / on a listener that serves "search", "admin" or
// "search admin". It answers browsers with the page, all others with the index.
func (s *server) handleIndex(serves string) func(http.ResponseWriter, *http.Request) error {
	document := pageFor(serves, s.cfg.title(), s.cfg.adminToken == "")
	format := indexFormat(serves)
	return func(w http.ResponseWriter, r *http.Request) error {
		h := w.Header()
		h.Set("Vary", "Accept")
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			own := s.ownURL(r)
			return writeText(w, http.StatusOK, fmt.Sprintf(format, own.String(), version()))
		}

		h.Set("Content-Security-Policy", pagePolicy())
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		_, err := io.WriteString(w, document)
		return err
	}
}

// pageFor returns the page with its title, and with serves in its attribute data-serves, which the page's script reads. If
// the admin routes are closed it has the attribute data-closed too, and the page does not link to them.
func pageFor(serves, title string, isClosed bool) string {
	attributes := `data-serves="` + serves + `"`
	if isClosed {
		attributes += " data-closed"
	}
	served := strings.Replace(page, `data-serves="search admin"`, attributes, 1)
	return strings.Replace(served, "<title>Vitrine</title>", "<title>"+html.EscapeString(title)+"</title>", 1)
}

// indexFormat returns the index with the parts that the listener serves.
func indexFormat(serves string) string {
	format := indexIntro
	if strings.Contains(serves, "search") {
		format += indexSearch
	}
	if strings.Contains(serves, "admin") {
		format += indexAdmin
	}
	return format
}

// pagePolicy returns the page's Content-Security-Policy. It admits the page's own style and script,
// by their hashes, and requests to its origin. If a bug inserts a document's text as markup or code,
// the browser refuses it.
var pagePolicy = sync.OnceValue(func() string {
	return strings.Join([]string{
		"default-src 'none'",
		"style-src " + elementHash("style"),
		"script-src " + elementHash("script"),
		"connect-src 'self'",
		"img-src data:",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'",
		"trusted-types 'none'",
	}, "; ")
})

// elementHash returns the CSP source expression of the page's only element with this tag.
func elementHash(tag string) string {
	_, rest, _ := strings.Cut(page, "<"+tag+">")
	content, _, _ := strings.Cut(rest, "</"+tag+">")
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
