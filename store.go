package main

// The interface of a store, the names of its operations, the watchers of its changes, and the preconditions of writes. Every
// store passes testStore.

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// store keeps documents and searches them. An error of kind userError is the caller's fault; any
// other is the store's.
type store interface {
	// start opens the store and runs its background work in tasks until ctx ends. It returns an
	// error only if retrying cannot help.
	start(ctx context.Context, tasks *sync.WaitGroup) error

	// search returns at most q.limit documents, by descending score, then by id.
	search(ctx context.Context, q query) (found, error)

	// document returns the document with this id, or errNotFound.
	document(ctx context.Context, id string) (*document, error)

	// list returns at most limit documents in the byte order of their ids: those whose id starts
	// with prefix and is greater than after.
	list(ctx context.Context, prefix, after string, limit int) ([]documentInfo, error)

	// put stores d durably if pre holds, and reports whether the id is new. It leaves an identical
	// document alone.
	put(ctx context.Context, d *document, pre precondition) (created bool, err error)

	// remove durably deletes the document with this id if pre holds, or returns errNotFound.
	remove(ctx context.Context, id string, pre precondition) error

	// sync applies the results of the folder scan that began at the given time: new and changed
	// documents, and the ids of removed files. A scan may take several calls. Only in the last one,
	// changed has no documents: it is nil, or empty if some files could not be read. After it, status
	// has what the scan stored.
	sync(ctx context.Context, began time.Time, changed []*document, gone []string) error

	// folderIDs returns the ids of the documents that came from the folder: a scan may remove only
	// these. It returns errElsewhere if another replica scans the folder.
	folderIDs(ctx context.Context) ([]string, error)

	// status returns what is known of the store. It never waits, and never asks a database.
	status() storeStatus

	// pool returns the statistics of the database connections.
	pool() poolStats

	// watch calls changed after each change, with the changed ids, or with nil if any document may
	// have changed. changed must not block. stop ends the calls.
	watch(changed func(ids []string)) (stop func())

	// close releases what start opened. Call it after the tasks have ended.
	close()
}

// storeStatus is what is known of a store.
type storeStatus struct {
	problem string // why the store cannot answer; empty if it can
	cause   string // of the problem

	documents int
	chunks    int
	cut       int // documents that are indexed by their beginning

	readOnly string // why the database only reads; empty if it does not
	isShort  bool   // the database has no more connections

	// How long the last answer took, or how long the running check has waited, if that is longer.
	took time.Duration
}

// documentInfo describes a document in a list, without its text.
type documentInfo struct {
	ID      string    `json:"id"`
	Title   string    `json:"title"`
	Bytes   int       `json:"bytes"`
	Chunks  int       `json:"chunks"`
	Indexed int       `json:"indexed_lines,omitempty"` // see metadata
	Updated time.Time `json:"updated"`

	// See addresses. The store does not set it.
	URL string `json:"url"`
}

// hit is a document that matches a search, with its best chunk.
type hit struct {
	Document string  `json:"document"` // its id
	Title    string  `json:"title"`
	Heading  string  `json:"heading"` // see chunk
	Line     int     `json:"line"`    // see chunk
	URL      string  `json:"url"`     // see documentInfo
	Score    float64 `json:"score"`   // see fuse
	Text     string  `json:"text"`

	slug string // see chunk

	// Other documents with the same text, by the length of the id.
	Also []string `json:"also,omitempty"`

	// Only if the query asks for it.
	Why *why `json:"why,omitempty"`
}

// setTwins names h after the shortest of the ids that have its text, and lists the others.
func (h *hit) setTwins(ids []string) {
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(
			cmp.Compare(len(a), len(b)),
			strings.Compare(a, b))
	})
	if len(ids) < 2 {
		return
	}
	h.Document = ids[0]
	h.Also = ids[1:min(len(ids), 1+maxAlso)]
}

// maxAlso bounds hit.Also.
const maxAlso = 20

// why says how the score of a hit came about: it is the sum of lexical, vector and title.
type why struct {
	// The words of the query that the passage contains.
	Words []wordWeight `json:"words"`
	// The shares of the two legs: see fuse.
	Lexical float64 `json:"lexical"`
	Vector  float64 `json:"vector"`
	// titleBonus, if the query is the document's title.
	Title float64 `json:"title"`
}

// query is a search request.
type query struct {
	text    string
	prefix  string // of the ids of the documents to search; "": all
	limit   int    // maximum number of documents
	partial bool   // the last word may be incomplete
	explain bool   // hits say why they are found
}

// found is the result of a search.
type found struct {
	hits []hit

	// The embedder failed, so the lexical leg alone ranked the hits.
	degraded bool

	// The query that was searched for instead, because no document has one of the words.
	corrected string
}

// A search has two legs, lexical and vector. Each passes its best chunks, at most legSize, to the
// fusion.
const legSize = 100

// watchers are the callbacks of a store's watch. The zero value is ready to use.
type watchers struct {
	// Its keys are of type *func(ids []string), because functions are not comparable.
	callbacks sync.Map
}

func (w *watchers) watch(changed func(ids []string)) (stop func()) {
	w.callbacks.Store(&changed, nil)
	return func() { w.callbacks.Delete(&changed) }
}

// notify calls every callback with the changed ids, or with nil if any document may have changed.
func (w *watchers) notify(ids []string) {
	for callback := range w.callbacks.Range {
		changed := *callback.(*func(ids []string))
		changed(ids)
	}
}

// queryName names an operation of a store in telemetry. Both stores use the same names. It is a
// number so that a misspelt name does not compile. Of a string type, any literal would compile.
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
	queryNotify
	queryEmbed
	queryMaintain
	queryReload
)

// queryAttrs holds the attributes of every queryName: the operation, then the summary.
var queryAttrs = [...][]slog.Attr{
	querySearch:   newQueryAttrs("SELECT", "search"),
	queryDocument: newQueryAttrs("SELECT", "document"),
	queryList:     newQueryAttrs("SELECT", "list"),
	querySize:     newQueryAttrs("SELECT", "size"),
	queryKnown:    newQueryAttrs("SELECT", "known"),
	queryPut:      newQueryAttrs("INSERT", "put"),
	querySync:     newQueryAttrs("INSERT", "sync"),
	queryRemove:   newQueryAttrs("DELETE", "remove"),
	queryNotify:   newQueryAttrs("NOTIFY", "notify"),
	queryEmbed:    newQueryAttrs("UPDATE", "embed"),
	queryMaintain: newQueryAttrs("UPDATE", "maintain"),
	queryReload:   newQueryAttrs("SELECT", "reload"),
}

// newQueryAttrs returns a slice without spare capacity, so that append copies it.
func newQueryAttrs(operation, summary string) []slog.Attr {
	return []slog.Attr{
		slog.String("db.operation.name", operation),
		slog.String("db.query.summary", summary),
	}
}

// attrs returns the attributes of the query's stage. All stages share them, which saves an
// allocation, so the caller must not change them.
func (q queryName) attrs() []slog.Attr {
	return queryAttrs[q]
}

// precondition holds the If-Match and If-None-Match headers of a request (RFC 9110, section 13.1).
// The zero value always holds.
type precondition struct {
	match     []string // entity tags, or "*"
	noneMatch []string
}

// check compares the precondition with etag, the entity tag of the stored document, or "" if there
// is no document. Its error has status 412.
func (p precondition) check(etag string) error {
	if len(p.match) > 0 && !matchesStrongly(p.match, etag) {
		return errNotMatched
	}
	if matchesWeakly(p.noneMatch, etag) {
		return errExists
	}
	return nil
}

var (
	errNotMatched = userError{
		http.StatusPreconditionFailed,
		"the document is not the one named by If-Match: " +
			"get it again for its current ETag",
	}
	errExists = userError{
		http.StatusPreconditionFailed,
		"the document exists already: " +
			"leave If-None-Match out to replace it",
	}
)

// matchesStrongly compares as If-Match requires: a tag marked as weak never matches.
func matchesStrongly(tags []string, etag string) bool {
	if etag == "" {
		return false
	}
	return slices.Contains(tags, "*") ||
		slices.Contains(tags, etag)
}

// matchesWeakly compares as If-None-Match requires: a tag marked as weak matches too.
func matchesWeakly(tags []string, etag string) bool {
	if etag == "" {
		return false
	}
	for _, tag := range tags {
		if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}
