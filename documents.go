package main

// Documents, and what a store must do. Whatever holds documents passes testStore.

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// document is one Markdown text with what is derived from it. It is never changed after newDocument made it.
type document struct {
	id      string
	title   string
	text    string
	etag    string // SHA-256 of the text in hex, quoted: a strong entity tag
	updated time.Time
	chunks  []chunk
}

// newDocument checks id and text and cuts the text into chunks. Its errors are the caller's (400, 413).
func newDocument(id, text string, updated time.Time) (*document, error) {
	if err := cmp.Or(checkID(id), checkText(text)); err != nil {
		return nil, err
	}
	d := &document{id: id, text: text, etag: entityTag(text), updated: updated}
	d.title, d.chunks = chunkMarkdown(text)
	if d.title == "" {
		d.title = strings.TrimSuffix(path.Base(id), ".md")
	}
	return d, nil
}

// inputs returns what is embedded for each chunk.
func (d *document) inputs() []string {
	texts := make([]string, len(d.chunks))
	for i, c := range d.chunks {
		texts[i] = d.title + "\n" + c.heading + "\n" + c.text
	}
	return texts
}

// entityTag returns the strong entity tag of a text.
func entityTag(text string) string {
	sum := sha256.Sum256([]byte(text))
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// documentInfo is a document's line in a list.
type documentInfo struct {
	ID      string    `json:"id"`
	Title   string    `json:"title"`
	Bytes   int       `json:"bytes"`
	Chunks  int       `json:"chunks"`
	Updated time.Time `json:"updated"`
}

// hit is a document that a search found, shown by its best chunk.
type hit struct {
	Document string  `json:"document"`
	Title    string  `json:"title"`
	Heading  string  `json:"heading"`
	Line     int     `json:"line"`
	Score    float64 `json:"score"`
	Text     string  `json:"text"`
}

// query is what a search is asked for.
type query struct {
	text   string
	prefix string // of the documents' ids; empty: all
	limit  int
}

// legSize is how many chunks of each leg, lexical and vector, take part in the fusion.
const legSize = 100

// store keeps documents and finds them. An error of kind userError is the caller's fault; every other is the store's.
type store interface {
	// start opens the store and keeps it up in tasks until ctx ends. Its error is one that waiting does not mend.
	start(ctx context.Context, tasks *sync.WaitGroup) error
	// search returns at most q.limit documents, the best first, documents of equal score by id. degraded: the embedder
	// did not answer, and the words alone ranked them.
	search(ctx context.Context, q query) (hits []hit, degraded bool, err error)
	// document returns the document of that id or errNotFound.
	document(ctx context.Context, id string) (*document, error)
	// list returns the documents whose id has the prefix and comes after the id after, by id, at most limit.
	list(ctx context.Context, prefix, after string, limit int) ([]documentInfo, error)
	// put stores d durably if pre holds and reports whether its id is new. An identical document is left as it is.
	put(ctx context.Context, d *document, pre precondition) (created bool, err error)
	// remove deletes the document of that id durably if pre holds, or returns errNotFound.
	remove(ctx context.Context, id string, pre precondition) error
	// sync takes over what a scan of the folder that began then found: documents new or changed, and ids that are gone.
	// The call without changed documents ends the scan.
	sync(ctx context.Context, began time.Time, changed []*document, gone []string) error
	// folderIDs returns the ids that came from the folder, those that a scan may remove, or errElsewhere if another replica
	// scans it.
	folderIDs(ctx context.Context) ([]string, error)
	// size counts documents and chunks.
	size(ctx context.Context) (documents, chunks int, err error)
	// pool returns the numbers of the connections to a database.
	pool() poolStats
	// watch calls changed after each change with the ids that changed, nil if any may have, until stop is called. changed
	// must not block.
	watch(changed func(ids []string)) (stop func())
	// close ends what start opened, once its tasks have ended.
	close()
}

// watchers are whom a store tells of its changes.
type watchers struct{ called sync.Map } // of *func(ids []string)

func (w *watchers) watch(changed func(ids []string)) (stop func()) {
	w.called.Store(&changed, nil)
	return func() { w.called.Delete(&changed) }
}

func (w *watchers) tell(ids []string) {
	for changed := range w.called.Range {
		(*changed.(*func(ids []string)))(ids)
	}
}

// queryName is an operation of a store as telemetry names it, the same in every store. It is a number, because an untyped
// string would convert to a string type: a misspelt name does not compile.
type queryName uint8

const (
	querySearch queryName = iota
	queryDocument
	queryList
	querySize
	queryKnown
	queryPut
	querySync
	queryRemove
	queryEmbed
	queryMaintain
)

// queryAttrs are the attributes of every queryName: first its operation, then its summary.
var queryAttrs = [...][]slog.Attr{
	querySearch:   newQueryAttrs("SELECT", "search"),
	queryDocument: newQueryAttrs("SELECT", "document"),
	queryList:     newQueryAttrs("SELECT", "list"),
	querySize:     newQueryAttrs("SELECT", "size"),
	queryKnown:    newQueryAttrs("SELECT", "known"),
	queryPut:      newQueryAttrs("INSERT", "put"),
	querySync:     newQueryAttrs("INSERT", "sync"),
	queryRemove:   newQueryAttrs("DELETE", "remove"),
	queryEmbed:    newQueryAttrs("UPDATE", "embed"),
	queryMaintain: newQueryAttrs("UPDATE", "maintain"),
}

// newQueryAttrs returns a slice without spare capacity, so that append copies it.
func newQueryAttrs(operation, summary string) []slog.Attr {
	return []slog.Attr{
		slog.String("db.operation.name", operation),
		slog.String("db.query.summary", summary),
	}
}

// attrs returns the attributes of the query's stage without allocating. The caller must not change them.
func (q queryName) attrs() []slog.Attr { return queryAttrs[q] }

var errNotFound error = userError{http.StatusNotFound, "no such document: GET /documents lists them"}
var errReadOnly = userError{http.StatusConflict, "these documents are read-only: set DOCS_DIR to a folder to keep your own"}

// precondition is what If-Match and If-None-Match ask of a write (RFC 9110, section 13.1). The zero value always holds.
type precondition struct {
	match     []string // entity tags, or "*"
	noneMatch []string
}

// check compares the precondition with the entity tag of what is stored, empty if nothing is.
func (p precondition) check(etag string) error {
	switch {
	case len(p.match) > 0 && (etag == "" || !slices.Contains(p.match, "*") && !slices.Contains(p.match, etag)):
		return userError{http.StatusPreconditionFailed, "the document is not the one named by If-Match: get it again, its ETag tells the current one"}
	case len(p.noneMatch) > 0 && matchesTag(p.noneMatch, etag):
		return userError{http.StatusPreconditionFailed, "the document exists already: leave If-None-Match out to replace it"}
	}
	return nil
}

// matchesTag compares weakly, as If-None-Match asks; If-Match compares strongly.
func matchesTag(tags []string, etag string) bool {
	for _, tag := range tags {
		if etag != "" && (tag == "*" || strings.TrimPrefix(tag, "W/") == etag) {
			return true
		}
	}
	return false
}

// checkID says whether id may name a document: a slash-separated relative path that ends in .md, at most 512 bytes,
// its segments of 1 to 200 bytes, none starting with a dot, no backslash and no control character.
func checkID(id string) error {
	var why string
	switch rooted := "/" + id; {
	case len(id) > 512:
		why = "longer than 512 bytes"
	case !utf8.ValidString(id):
		why = "not UTF-8"
	case !strings.HasSuffix(id, ".md"):
		why = "does not end in .md"
	case strings.ContainsFunc(id, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }):
		why = "has a backslash or a control character"
	case strings.Contains(rooted, "//"):
		why = "has an empty segment"
	case strings.Contains(rooted, "/."):
		why = "has a segment that starts with a dot"
	case slices.ContainsFunc(strings.Split(id, "/"), func(segment string) bool { return len(segment) > 200 }):
		why = "has a segment longer than 200 bytes"
	default:
		return nil
	}
	return userError{http.StatusBadRequest, fmt.Sprintf("bad document id %.80q: %s; an id looks like guide/install.md", id, why)}
}

func checkText(text string) error {
	switch {
	case len(text) > maxDocumentBytes:
		return userError{http.StatusRequestEntityTooLarge, "the document is larger than 8 MiB: split it"}
	case !utf8.ValidString(text):
		return userError{http.StatusBadRequest, "the text is not UTF-8: convert it, for instance with iconv -t utf-8"}
	case strings.ContainsRune(text, 0):
		return userError{http.StatusBadRequest, "the text contains a NUL byte: it is not Markdown"}
	}
	return nil
}
