package main

// The handlers of the HTTP API. The MCP tools call search and list as well, so an agent gets the same
// results as curl.

import (
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxQueryChars = 1000 // of q

	defaultSearchLimit = 5 // documents
	maxSearchLimit     = 100
	defaultListLimit   = 100 // documents
	maxListLimit       = 1000
)

// searchAnswer is the response of GET /search.
type searchAnswer struct {
	Query     string  `json:"query"`
	TookMS    float64 `json:"took_ms"`
	Degraded  bool    `json:"degraded,omitempty"`  // the embedder failed: lexical hits only
	Corrected string  `json:"corrected,omitempty"` // see found
	Hits      []hit   `json:"hits"`
}

// handleSearch answers GET /search?q=…&prefix=…&limit=….
func (s *server) handleSearch(w http.ResponseWriter, r *http.Request) error {
	values, limit, err := parseParameters(r, defaultSearchLimit, maxSearchLimit,
		"q", "prefix", "partial", "explain")
	if err != nil {
		return err
	}
	partial, err := parseSwitch(values, "partial")
	if err != nil {
		return err
	}
	explain, err := parseSwitch(values, "explain")
	if err != nil {
		return err
	}

	q := query{
		text:    values.Get("q"),
		prefix:  values.Get("prefix"),
		limit:   limit,
		partial: partial,
		explain: explain,
	}
	answer, err := s.search(r.Context(), q, s.addresses(r))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// search checks the query and runs it. Mistakes in the query are errors with status 400. urls makes the URLs of the hits.
func (s *server) search(ctx context.Context, q query, urls addresses) (answer searchAnswer, err error) {
	ctx, end := stage(ctx, stageSearch,
		slog.String("gen_ai.operation.name", "retrieval"),
		slog.Int("gen_ai.request.top_k", q.limit))
	defer end(&err)

	started := time.Now()
	err = checkQuery(q)
	if err != nil {
		return searchAnswer{}, err
	}
	result, err := s.store.search(ctx, q)
	if err != nil {
		return searchAnswer{}, err
	}

	urls.setHits(result.hits)
	count := slog.Int("hits", len(result.hits))
	spanAttrs(ctx, count)
	logAttrs(ctx, count)
	if result.degraded {
		logAttrs(ctx, slog.Bool("degraded", true))
	}
	s.gaps.searched(ctx, q, result)
	// Queries are private: only debug lines contain them.
	s.log.LogAttrs(ctx, slog.LevelDebug, "searched", slog.String("query", q.text), count)

	return searchAnswer{
		Query:     q.text,
		TookMS:    milliseconds(time.Since(started)),
		Degraded:  result.degraded,
		Corrected: result.corrected,
		Hits:      result.hits,
	}, nil
}

// checkQuery returns an error with status 400 for a query that cannot be searched.
func checkQuery(q query) error {
	if isBlank(q.text) {
		return userError{http.StatusBadRequest, "missing q: try /search?q=install"}
	}
	if chars := utf8.RuneCountInString(q.text); chars > maxQueryChars {
		return userErrorf(http.StatusBadRequest,
			"q has %d characters: %d are enough for a question", chars, maxQueryChars)
	}
	if !isPlain(q.text) {
		return userError{http.StatusBadRequest, "q is not UTF-8 text: percent-encode it as UTF-8"}
	}
	return checkPrefix(q.prefix)
}

// listAnswer is the response of GET /documents.
type listAnswer struct {
	Documents  []documentInfo `json:"documents"`
	NextCursor string         `json:"next_cursor,omitempty"` // absent on the last page
}

// handleList answers GET /documents?prefix=…&cursor=…&limit=….
func (s *server) handleList(w http.ResponseWriter, r *http.Request) error {
	values, limit, err := parseParameters(r, defaultListLimit, maxListLimit, "prefix", "cursor")
	if err != nil {
		return err
	}

	answer, err := s.list(r.Context(), values.Get("prefix"), values.Get("cursor"), limit)
	if err != nil {
		return err
	}
	s.addresses(r).setDocuments(answer.Documents)
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// list returns one page of the documents whose ids start with prefix, in the order of their ids.
// cursor is the NextCursor of the previous page, "" for the first page.
func (s *server) list(ctx context.Context, prefix, cursor string, limit int) (listAnswer, error) {
	if err := checkPrefix(prefix); err != nil {
		return listAnswer{}, err
	}
	after, err := parseCursor(cursor)
	if err != nil {
		return listAnswer{}, err
	}

	documents, err := s.store.list(ctx, prefix, after, limit+1) // one more shows that there is a next page
	if err != nil {
		return listAnswer{}, err
	}
	if len(documents) <= limit {
		return listAnswer{Documents: documents}, nil
	}
	return listAnswer{
		Documents:  documents[:limit],
		NextCursor: cursorAfter(documents[limit-1].ID),
	}, nil
}

// cursorAfter returns the cursor of the page that starts after the document with this id.
func cursorAfter(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

// handleGet answers GET /documents/{id} with the text as it was written.
func (s *server) handleGet(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if err := s.checkReadID(r.Context(), id); err != nil {
		return err
	}
	d, err := s.document(r.Context(), id)
	if err != nil {
		return err
	}

	// ServeContent handles If-None-Match, Range and HEAD. It does not see If-Match, because it parses
	// that header more strictly than precondition does.
	ifMatch := precondition{match: entityTags(r, "If-Match")}
	if err := ifMatch.check(d.etag); err != nil {
		return err
	}
	r.Header.Del("If-Match")

	h := w.Header()
	h.Set("Content-Type", mediaType(id)+"; charset=utf-8")
	h.Set("Cache-Control", "no-cache") // caches may store it, but must revalidate it by its ETag
	h.Set("ETag", d.etag)
	h.Set("Last-Modified", d.updated.UTC().Format(http.TimeFormat))

	// With a zero modification time, ServeContent ignores If-Modified-Since. That header has a
	// resolution of a second, and a document may change twice within one.
	content := &contentWriter{ResponseWriter: w}
	http.ServeContent(content, r, "", time.Time{}, strings.NewReader(d.text))
	return content.err
}

// contentWriter keeps two errors that ServeContent does not return: the error of a write, and an HTTP
// error, which ServeContent would answer in plain text.
type contentWriter struct {
	http.ResponseWriter
	err error
}

// WriteHeader withholds an error status: that of a precondition that does not hold, or of a Range that does not fit.
func (w *contentWriter) WriteHeader(status int) {
	switch {
	case status == http.StatusPreconditionFailed:
		w.err = userError{status, "it has changed since then: " +
			"leave If-Match and If-Unmodified-Since out to get it as it is now"}
	case status >= http.StatusBadRequest:
		w.err = userError{status, "no such range: leave Range out to get all of it"}
	default:
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *contentWriter) Write(b []byte) (n int, err error) {
	if w.err != nil {
		return len(b), nil //nolint:nilerr // handleGet returns w.err
	}
	n, w.err = w.ResponseWriter.Write(b)
	return n, w.err
}

// handlePut stores the body as the document of this id: 201 if it is new, else 204.
func (s *server) handlePut(w http.ResponseWriter, r *http.Request) error {
	var text strings.Builder
	text.Grow(int(min(max(r.ContentLength, 0), maxDocumentBytes)))
	if _, err := io.Copy(&text, r.Body); err != nil {
		return bodyError(err)
	}
	markBodyRead(r.Context())

	d, err := s.newDocument(r.PathValue("id"), text.String())
	if err != nil {
		return err
	}
	created, err := s.store.put(r.Context(), d, requestPrecondition(r))
	if err != nil {
		return err
	}
	if d.indexed > 0 {
		logAttrs(r.Context(), slog.Int("indexed_lines", d.indexed))
	}

	w.Header().Set("ETag", d.etag)
	w.WriteHeader(putStatus(created))
	return nil
}

// newDocument returns a document to put. It refuses one that would not be served.
func (s *server) newDocument(id, text string) (*document, error) {
	d, err := newDocument(id, text, time.Now())
	if err != nil {
		return nil, err
	}
	if d.unpublished != "" {
		return nil, userErrorf(http.StatusUnprocessableEntity,
			"a page with %q in its front matter is not served: remove that line to publish it, "+
				"or DELETE the document to withdraw it",
			d.unpublished)
	}
	return d, s.folder.checkTarget(id)
}

// putStatus returns the HTTP status of a successful put.
func putStatus(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusNoContent
}

// handleDelete deletes a document: 204, or 404 if there is none.
func (s *server) handleDelete(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if err := checkID(id); err != nil {
		return err
	}

	if err := s.store.remove(r.Context(), id, requestPrecondition(r)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// handleMetrics answers with metrics that include the records which had finished when they were collected.
func (s *server) handleMetrics(w http.ResponseWriter, r *http.Request) error {
	s.scrapes.ServeHTTP(w, r)
	return nil
}

// handleRequests lists the requests that the recorder remembers. It reports the finished ones
// first, as scrapes do.
func (s *server) handleRequests(w http.ResponseWriter, r *http.Request) error {
	s.observe.report()
	lists := s.observe.recent.lists()
	asJSON, err := wantsJSON(r)
	if err != nil {
		return err
	}
	if asJSON {
		writeJSON(w, http.StatusOK, lists)
		return nil
	}
	var text strings.Builder
	lists.draw(&text)
	return writeText(w, http.StatusOK, text.String())
}

// handleRequest draws the waterfalls of all remembered records with a correlation or trace id.
func (s *server) handleRequest(w http.ResponseWriter, r *http.Request) error {
	s.observe.report()
	views := s.observe.recent.find(r.PathValue("id"))
	if len(views) == 0 {
		return userError{
			http.StatusNotFound,
			"no request of that id is remembered: the log has it for longer, and /debug/requests lists those that are",
		}
	}
	asJSON, err := wantsJSON(r)
	if err != nil {
		return err
	}
	if asJSON {
		writeJSON(w, http.StatusOK, views)
		return nil
	}

	var text strings.Builder
	for _, v := range views {
		v.draw(&text)
	}
	return writeText(w, http.StatusOK, text.String())
}

// handleLogLevel answers with the current level.
func (s *server) handleLogLevel(w http.ResponseWriter, _ *http.Request) error {
	return writeText(w, http.StatusOK, levelName(s.level.Level())+"\n")
}

// handleSetLogLevel sets the log level to the one in the body: for good, or with ?for=10m for that
// long.
func (s *server) handleSetLogLevel(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return bodyError(err)
	}

	level, err := parseLevel(strings.TrimSpace(string(body)))
	if err != nil {
		return userError{http.StatusBadRequest, "the body must be a level: " + err.Error()}
	}
	duration, err := parseFor(r)
	if err != nil {
		return err
	}

	// The line about the change must not be filtered out. So it is logged while the lower of the old
	// and the new level applies. Its own level is info, or that lower level if it is above info.
	verbose := min(level, s.level.Level())
	s.level.Set(verbose)
	s.log.Log(r.Context(), max(verbose, slog.LevelInfo), "log level changed",
		"to", levelName(level), "for", duration.String())

	s.level.change(level, duration)
	return s.handleLogLevel(w, r)
}
