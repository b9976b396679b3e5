package main

// GET /: the page for browsers, and an index of the routes for curl. The template in page/index.html is also that of
// the pages of documents. page/page.css and page/page.js are files of their own, so that the policy can forbid all
// inline code.

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"iter"
	"net/http"
	"strings"
	"time"
)

// The parts of the index, for fmt.Sprintf: [1] is the base URL, [2] the version.
const (
	indexIntro = `vitrine %[2]s: documentation search that you can see through
What is marked * needs ADMIN_TOKEN: curl -H "Authorization: Bearer $ADMIN_TOKEN"

curl '%[1]s/readyz?verbose'                     can it serve, and what does it hold; /livez: is it alive
`
	indexSearch = `curl '%[1]s/search?q=install'                   search; also &limit=5&prefix=guide/
curl '%[1]s/documents?prefix=guide/'            list documents
curl %[1]s/documents/README.md                  read one; as a page: %[1]s/read/README.md
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

//go:embed page
var pageFiles embed.FS

var pageTemplate = template.Must(
	template.ParseFS(pageFiles, "page/index.html"))

// pagePolicy is the Content-Security-Policy of all pages. It allows the page's own files and requests to its origin.
// If a bug inserts a document's text as markup or code, the browser refuses it.
const pagePolicy = "default-src 'none'; " +
	"style-src 'self'; " +
	"script-src 'self'; " +
	"connect-src 'self'; " +
	"img-src 'self' data:; " +
	"base-uri 'none'; " +
	"form-action 'self'; " +
	"frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; " +
	"trusted-types 'none'"

// asset is a file that pages load.
type asset struct {
	body        []byte
	contentType string
	version     string // a part of its hash
}

const (
	styleType  = "text/css; charset=utf-8"
	scriptType = "text/javascript; charset=utf-8"
)

// assets are the files that pages load, by name.
var assets = map[string]asset{
	"page.css":  newAsset("page.css", styleType),
	"page.js":   newAsset("page.js", scriptType),
	"read.js":   newAsset("read.js", scriptType),
	"search.js": newAsset("search.js", scriptType),
	"status.js": newAsset("status.js", scriptType),
	"icon.svg":  newAsset("icon.svg", "image/svg+xml"),
}

func newAsset(name, contentType string) asset {
	body, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	sum := sha256.Sum256(body)
	return asset{
		body:        body,
		contentType: contentType,
		version:     hex.EncodeToString(sum[:8]),
	}
}

// handleIcon answers GET /favicon.ico. Browsers ask for it when they show a response that is not a page with an icon.
func (s *server) handleIcon(w http.ResponseWriter, r *http.Request) error {
	r.SetPathValue("name", "icon.svg")
	return s.handleAsset(w, r)
}

// handleAsset answers GET /page/{name}. With its version in the address, a file never changes.
func (s *server) handleAsset(w http.ResponseWriter, r *http.Request) error {
	found, ok := assets[r.PathValue("name")]
	if !ok {
		return errNoPage
	}

	caching := "no-cache"
	if r.URL.Query().Get("v") == found.version {
		caching = "public, max-age=31536000, immutable"
	}
	h := w.Header()
	h.Set("Content-Type", found.contentType)
	h.Set("ETag", `"`+found.version+`"`)
	h.Set("Cache-Control", caching)
	return serveBytes(w, r, found.body)
}

var errNoPage = userError{
	http.StatusNotFound,
	"no such page: GET / lists the routes",
}

// serveBytes answers with body, or with 304 if If-None-Match has the ETag that the caller has set.
func serveBytes(w http.ResponseWriter, r *http.Request, body []byte) error {
	content := &contentWriter{ResponseWriter: w}
	unknown := time.Time{} // when it was modified
	http.ServeContent(content, r, "", unknown, bytes.NewReader(body))
	return content.err
}

// pageData is what the template shows.
type pageData struct {
	Site        string // name of the documents
	Title       string // of the page, empty for the search
	Description string // for previews of links
	Root        string // relative address of the server's root
	MCP         string // address for agents
	Query       string

	// Serves says which routes the listener has, as in handleIndex.
	Serves string

	// SignedIn is what the cookie opens: "api", "admin" or nothing.
	SignedIn string

	HasTokens bool // there is something to sign in for
	IsClosed  bool // no ADMIN_TOKEN: nobody may see requests
	HasGaps   bool // RECORD_GAPS

	Read   *readPage // nil: the search
	SignIn *signInForm
}

// Asset returns the address of a file that the page loads.
func (p *pageData) Asset(name string) string {
	current := assets[name].version
	return p.Root + "page/" + name + "?v=" + current
}

// readPage is a document, a folder, or what is shown instead of one.
type readPage struct {
	ID       string
	Crumbs   []crumb
	Body     template.HTML
	Text     *sourceText // instead of Body, for a document that is not rendered
	HasTitle bool        // Body begins with it
	Contents []contentsEntry
	Updated  time.Time
	Source   string // address of the document's text
	Previous *pageLink
	Next     *pageLink
	Tree     template.HTML
	Notice   string // why the text is shown as its source
	Nearest  []pageLink
	Problem  string // why there is no document
	Query    string // what was searched for
}

// sourceText is a document as it was written, with one line marked. It is in parts: the template copies twice what it
// escapes.
type sourceText struct {
	Before iter.Seq[string]
	Marked iter.Seq[string]
	After  iter.Seq[string]
	Line   int // number of the marked line, 0 without one
}

// crumb is a folder above a document.
type crumb struct{ Name, Href string }

// pageLink leads to another document.
type pageLink struct{ Title, Href string }

// contentsEntry is a heading in the contents of a page.
type contentsEntry struct {
	Level int
	Title string
	Slug  string
}

// signInForm is the form that a page shows.
type signInForm struct {
	Why string
	To  string // where to go afterwards, relative to the root
}

// newPageData returns the data that all pages have.
func (s *server) newPageData(r *http.Request, title string) *pageData {
	own := s.ownURL(r)
	cfg := s.cfg
	return &pageData{
		Site:      cfg.title(),
		Title:     title,
		Root:      siteRoot(r),
		Serves:    servesBoth,
		SignedIn:  s.signedInAs(r),
		IsClosed:  cfg.adminToken == "",
		HasTokens: cfg.apiToken+cfg.adminToken != "",
		HasGaps:   cfg.recordGaps,
		MCP:       own.String() + "/mcp",
		Query:     r.URL.Query().Get("q"),
	}
}

// siteRoot returns the relative address of the server's root, as the browser sees it from the address of r.
func siteRoot(r *http.Request) string {
	depth := strings.Count(r.URL.EscapedPath(), "/") - 1
	if depth <= 0 || depth > maxIDBytes { // no page is so deep, and each link of an error would be as long as the path
		return "./"
	}
	return strings.Repeat("../", depth)
}

// acceptsHTML reports whether the client is a browser.
func acceptsHTML(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "text/html")
}

// handleIndex returns the handler of GET / on a listener that serves servesSearch, servesAdmin or servesBoth. It answers
// browsers with the page, all others with the index.
func (s *server) handleIndex(serves string) func(http.ResponseWriter, *http.Request) error {
	format := indexFormat(serves)
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Add("Vary", "Accept")
		if !acceptsHTML(r) {
			own := s.ownURL(r)
			text := fmt.Sprintf(format, own.String(), version())
			return writeText(w, http.StatusOK, text)
		}

		data := s.newPageData(r, "")
		data.Serves = serves
		data.Description = cmp.Or(
			s.cfg.docsDescription,
			"Search the documents")
		return writePage(w, r, http.StatusOK, data)
	}
}

// writePage answers with a page.
func writePage(w http.ResponseWriter, r *http.Request, status int, data *pageData) error {
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, data); err != nil {
		return err
	}

	h := w.Header()
	h.Set("Content-Security-Policy", pagePolicy)
	// With no-referrer, forms would have the Origin null.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Add("Vary", "Cookie")
	if status != http.StatusOK {
		h["Cache-Control"] = noStore
		w.WriteHeader(status)
		_, err := w.Write(body.Bytes())
		return err
	}

	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", contentTag(body.Bytes()))
	return serveBytes(w, r, body.Bytes())
}

// contentTag returns an entity tag of a response.
func contentTag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// indexFormat returns the index with the parts that the listener serves.
func indexFormat(serves string) string {
	format := indexIntro
	if strings.Contains(serves, servesSearch) {
		format += indexSearch
	}
	if strings.Contains(serves, servesAdmin) {
		format += indexAdmin
	}
	return format
}

// openSearch describes the search to browsers (https://github.com/dewitt/opensearch). [1] is the base URL, [2] the name.
const openSearch = `<?xml version="1.0" encoding="UTF-8"?>

<OpenSearchDescription xmlns="http://a9.com/-/spec/opensearch/1.1/">
<ShortName>%[2]s</ShortName>
<Description>Search %[2]s</Description>
<InputEncoding>UTF-8</InputEncoding>
<Image type="image/svg+xml">%[1]s/page/icon.svg</Image>
<Url type="text/html" template="%[1]s/?q={searchTerms}"/>
</OpenSearchDescription>
`

// handleOpenSearch answers GET /opensearch.xml, from which browsers add a search to their address bar.
func (s *server) handleOpenSearch(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "application/opensearchdescription+xml")
	h.Set("Cache-Control", "no-cache")

	const maxShortName = 16 // characters, by the format
	name := firstRunes(s.cfg.title(), maxShortName)
	own := s.ownURL(r)
	_, err := fmt.Fprintf(w, openSearch,
		htmlEscaper.Replace(own.String()),
		htmlEscaper.Replace(name))
	return err
}
