package main

// Documents, and the rules for their ids and texts.

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
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
// requests, so nothing but the outline changes after newDocument has returned it.
type document struct {
	id string
	metadata
	text    string
	etag    string // see entityTag
	updated time.Time
	chunks  []chunk
	outline documentOutline
}

// documentOutline has the headings of a document that begin sections. Only readers of single sections and of long documents need
// them, so they are found when they are first asked for.
type documentOutline struct {
	once     sync.Once
	headings []heading
}

// sectionHeadings returns the headings of d that begin sections, in their order.
func (d *document) sectionHeadings() []heading {
	d.outline.once.Do(func() {
		d.outline.headings = sectionHeadings(d.text)
	})
	return d.outline.headings
}

// newDocument checks id and text and parses the text. An error is a userError with status 400 or 413.
func newDocument(id, text string, updated time.Time) (*document, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if err := checkText(text); err != nil {
		return nil, err
	}

	m, chunks := parseMarkdown(id, text)
	return &document{
		id:       id,
		metadata: m,
		text:     text,
		etag:     entityTag(text),
		updated:  plausibleTime(updated),
		chunks:   chunks,
	}, nil
}

// The times that JSON and every store can express. A file may have any.
var (
	earliestTime = time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)
	latestTime   = time.Date(9999, 12, 30, 0, 0, 0, 0, time.UTC)
)

// plausibleTime returns t, or the nearest time that can be expressed.
func plausibleTime(t time.Time) time.Time {
	switch {
	case t.Before(earliestTime):
		return earliestTime
	case t.After(latestTime):
		return latestTime
	}
	return t
}

// inputs returns the text to embed for each chunk.
func (d *document) inputs() []string {
	texts := make([]string, len(d.chunks))
	for i := range d.chunks {
		texts[i] = d.input(i)
	}
	return texts
}

// input returns the text to embed for chunk i: title, heading and the chunk's own text.
func (d *document) input(i int) string {
	c := d.chunks[i]
	return d.title + "\n" + c.heading + "\n" + c.text
}

// passage returns what the index knows of chunk i. The words of the id and of the front matter belong to the
// first chunk, because people look for INC-4711 whatever the title says.
func (d *document) passage(i int) passage {
	c := d.chunks[i]
	tags := ""
	if i == 0 {
		tags = withoutSuffix(d.id) + "\n" + d.keywords
	}
	return passage{d.title, c.heading, c.text, tags}
}

// entityTag returns the strong entity tag of a text: its SHA-256 in hex, in double quotes.
func entityTag(text string) string {
	sum := sha256.New()
	_, _ = io.Copy(sum, struct{ io.Reader }{strings.NewReader(text)}) // not all of it at once, as with its WriteTo
	return `"` + hex.EncodeToString(sum.Sum(nil)) + `"`
}

const (
	maxIDBytes      = 512
	maxSegmentBytes = 200 // file systems allow 255
)

// documentTypes maps the suffixes of documents, in lower case, to their media types.
var documentTypes = map[string]string{
	".md":       "text/markdown",
	".markdown": "text/markdown",
	".mdx":      "text/markdown", // no type is registered for MDX
	".txt":      "text/plain",
}

// documentSuffixes lists the suffixes for messages.
const documentSuffixes = ".md, .markdown, .mdx or .txt"

// isDocumentName reports whether a file with this name is a document.
func isDocumentName(name string) bool { return mediaType(name) != "" }

// mediaType returns the media type of a document by its id, or "" if the id has no suffix of a document.
func mediaType(id string) string {
	return documentTypes[strings.ToLower(path.Ext(id))]
}

// withoutSuffix returns id without the suffix of its file.
func withoutSuffix(id string) string { return strings.TrimSuffix(id, path.Ext(id)) }

// foldedWords returns the words of an id or a heading in the form in which readers take two for the same: neither case nor
// accents nor what stands between words matters.
func foldedWords(text string) []string {
	return strings.FieldsFunc(foldWord(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
	})
}

// checkID returns an error with status 400 unless id is a slash-separated relative path that ends in
// the suffix of a document and is safe as a file name below DOCS_DIR.
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
	if !isDocumentName(id) {
		return "does not end in " + documentSuffixes
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
			"the text contains a NUL byte: it is not text",
		}
	}
	return nil
}
