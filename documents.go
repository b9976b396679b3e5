package main

// Documents, the rules for their ids and texts, and the preconditions of a write.

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var errNotFound error = userError{
	http.StatusNotFound,
	"no such document: GET /documents lists them",
}

var errReadOnly = userError{
	http.StatusConflict,
	"these documents are read-only: set DOCS_DIR to a folder to keep your own",
}

// document is a Markdown text and what is derived from it. Stores share documents between
// requests, so nothing changes one after newDocument has returned it.
type document struct {
	id      string
	title   string
	text    string
	etag    string // see entityTag
	updated time.Time
	chunks  []chunk
}

// newDocument checks id and text and cuts the text into chunks. A document without a title is named
// after its file. An error is a userError with status 400 or 413.
func newDocument(id, text string, updated time.Time) (*document, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if err := checkText(text); err != nil {
		return nil, err
	}

	title, chunks := chunkMarkdown(text)
	if title == "" {
		title = strings.TrimSuffix(path.Base(id), ".md")
	}

	return &document{
		id:      id,
		title:   title,
		text:    text,
		etag:    entityTag(text),
		updated: updated,
		chunks:  chunks,
	}, nil
}

// inputs returns the text to embed for each chunk: title, heading and the chunk's own text.
func (d *document) inputs() []string {
	texts := make([]string, len(d.chunks))
	for i, c := range d.chunks {
		texts[i] = d.title + "\n" + c.heading + "\n" + c.text
	}
	return texts
}

// entityTag returns the strong entity tag of a text: its SHA-256 in hex, in double quotes.
func entityTag(text string) string {
	sum := sha256.Sum256([]byte(text))
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// documentInfo describes a document in a list, without its text.
type documentInfo struct {
	ID      string    `json:"id"`
	Title   string    `json:"title"`
	Bytes   int       `json:"bytes"`
	Chunks  int       `json:"chunks"`
	Updated time.Time `json:"updated"`
}

// hit is a document that matches a search, with its best chunk.
type hit struct {
	Document string  `json:"document"` // its id
	Title    string  `json:"title"`
	Heading  string  `json:"heading"` // see chunk
	Line     int     `json:"line"`    // see chunk
	Score    float64 `json:"score"`   // see fuse
	Text     string  `json:"text"`
}

// query is a search request.
type query struct {
	text   string
	prefix string // only documents whose id starts with it; "": all documents
	limit  int    // maximum number of documents
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
		return userError{
			http.StatusPreconditionFailed,
			"the document is not the one named by If-Match: get it again for its current ETag",
		}
	}
	if matchesWeakly(p.noneMatch, etag) {
		return userError{
			http.StatusPreconditionFailed,
			"the document exists already: leave If-None-Match out to replace it",
		}
	}
	return nil
}

// matchesStrongly compares as If-Match requires: a tag marked as weak never matches.
func matchesStrongly(tags []string, etag string) bool {
	return etag != "" && (slices.Contains(tags, "*") || slices.Contains(tags, etag))
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

const (
	maxIDBytes      = 512
	maxSegmentBytes = 200 // file systems allow 255
)

// checkID returns an error with status 400 unless id is a slash-separated relative path that ends in
// .md and is safe as a file name below DOCS_DIR.
func checkID(id string) error {
	problem := idProblem(id)
	if problem == "" {
		return nil
	}
	return userError{
		http.StatusBadRequest,
		fmt.Sprintf("bad document id %.80q: %s; an id looks like guide/install.md", id, problem),
	}
}

// idProblem returns the first rule that id breaks, or "".
func idProblem(id string) string {
	if len(id) > maxIDBytes {
		return fmt.Sprintf("longer than %d bytes", maxIDBytes)
	}
	if !utf8.ValidString(id) {
		return "not UTF-8"
	}
	if !strings.HasSuffix(id, ".md") {
		return "does not end in .md"
	}

	isForbidden := func(r rune) bool { return r == '\\' || unicode.IsControl(r) }
	if strings.ContainsFunc(id, isForbidden) {
		return "has a backslash or a control character"
	}

	rooted := "/" + id
	if strings.Contains(rooted, "//") {
		return "has an empty segment"
	}
	if strings.Contains(rooted, "/.") {
		return "has a segment that starts with a dot"
	}
	for segment := range strings.SplitSeq(id, "/") {
		if len(segment) > maxSegmentBytes {
			return fmt.Sprintf("has a segment longer than %d bytes", maxSegmentBytes)
		}
	}
	return ""
}

// checkText returns an error with status 400 or 413 unless text can be stored: PostgreSQL accepts
// neither invalid UTF-8 nor NUL.
func checkText(text string) error {
	if len(text) > maxDocumentBytes {
		return userError{
			http.StatusRequestEntityTooLarge,
			"the document is larger than 8 MiB: split it",
		}
	}
	if !utf8.ValidString(text) {
		return userError{
			http.StatusBadRequest,
			"the text is not UTF-8: convert it, for instance with iconv -t utf-8",
		}
	}
	if strings.ContainsRune(text, 0) {
		return userError{
			http.StatusBadRequest,
			"the text contains a NUL byte: it is not Markdown",
		}
	}
	return nil
}
