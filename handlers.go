package main

// What the routes do. The methods below the handlers (search, list) are what MCP's tools call too: what curl shows is
// what a model gets.

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxQueryBytes = 1000
	maxSearchHits = 100
	maxListLength = 1000
)

// searchAnswer is the answer of GET /search.
type searchAnswer struct {
	Query    string  `json:"query"`
	TookMS   float64 `json:"took_ms"`
	Degraded bool    `json:"degraded,omitempty"` // the embedder did not answer: lexical hits only
	Hits     []hit   `json:"hits"`
}

func (s *server) handleSearch(w http.ResponseWriter, r *http.Request) error {
	p, limit, err := parameters(r, 5, maxSearchHits)
	if err != nil {
		return err
	}
	answer, err := s.search(r.Context(), query{text: p.Get("q"), prefix: p.Get("prefix"), limit: limit})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// search checks the query and runs it.
func (s *server) search(ctx context.Context, q query) (answer searchAnswer, err error) {
	ctx, end := stage(ctx, "search", slog.String("gen_ai.operation.name", "retrieval"), slog.Int("gen_ai.request.top_k", q.limit))
	defer end(&err)
	started := time.Now()
	switch {
	case strings.TrimSpace(q.text) == "":
		return answer, userError{http.StatusBadRequest, "missing q: try /search?q=install"}
	case len(q.text) > maxQueryBytes:
		return answer, userError{http.StatusBadRequest, fmt.Sprintf("q is %d bytes long: %d are enough for a question", len(q.text), maxQueryBytes)}
	case !isPlain(q.text):
		return answer, userError{http.StatusBadRequest, "q is not UTF-8 text: percent-encode it as UTF-8"}
	}
	if err := checkPrefix(q.prefix); err != nil {
		return answer, err
	}
	hits, degraded, err := s.store.search(ctx, q)
	if err != nil {
		return answer, err
	}
	spanAttrs(ctx, slog.Int("hits", len(hits)))
	logAttrs(ctx, slog.Int("hits", len(hits)))
	s.log.LogAttrs(ctx, slog.LevelDebug, "searched", slog.String("query", q.text), slog.Int("hits", len(hits))) // above debug a question is in no log
	if degraded {
		logAttrs(ctx, slog.Bool("degraded", true))
	}
	return searchAnswer{Query: q.text, TookMS: milliseconds(time.Since(started)), Degraded: degraded, Hits: hits}, nil
}

// listAnswer is the answer of GET /documents.
type listAnswer struct {
	Documents  []documentInfo `json:"documents"`
	NextCursor string         `json:"next_cursor,omitempty"`
}

func (s *server) handleList(w http.ResponseWriter, r *http.Request) error {
	p, limit, err := parameters(r, 100, maxListLength)
	if err != nil {
		return err
	}
	answer, err := s.list(r.Context(), p.Get("prefix"), p.Get("cursor"), limit)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// list returns a page of the documents whose id has the prefix, by id. cursor is the next_cursor of the page before.
func (s *server) list(ctx context.Context, prefix, cursor string, limit int) (listAnswer, error) {
	if err := checkPrefix(prefix); err != nil {
		return listAnswer{}, err
	}
	after, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(after) > 0 && checkID(string(after)) != nil {
		return listAnswer{}, userError{http.StatusBadRequest, "bad cursor: use the next_cursor of the page before, or none to start"}
	}
	documents, err := s.store.list(ctx, prefix, string(after), limit+1)
	if err != nil {
		return listAnswer{}, err
	}
	answer := listAnswer{Documents: documents}
	if len(documents) > limit {
		answer.Documents = documents[:limit]
		answer.NextCursor = cursorAfter(documents[limit-1].ID)
	}
	return answer, nil
}

func cursorAfter(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

func (s *server) handleGet(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if err := checkID(id); err != nil {
		return err
	}
	d, err := s.store.document(r.Context(), id)
	if err != nil {
		return err
	}
	pre := requestPrecondition(r)
	if err := (precondition{match: pre.match}).check(d.etag); err != nil {
		return err
	}
	h := w.Header()
	h.Set("ETag", d.etag)
	h.Set("Last-Modified", d.updated.UTC().Format(http.TimeFormat))
	h.Set("Cache-Control", "no-cache") // may be kept, must be asked for again: that is what the ETag is for
	if matchesWeakly(pre.noneMatch, d.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "text/markdown; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(d.text)))
	_, err = io.WriteString(w, d.text)
	return err
}

func (s *server) handlePut(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return bodyError(err)
	}
	markBodyRead(r.Context())
	d, err := newDocument(r.PathValue("id"), string(body), time.Now())
	if err != nil {
		return err
	}
	created, err := s.store.put(r.Context(), d, requestPrecondition(r))
	if err != nil {
		return err
	}
	w.Header().Set("ETag", d.etag)
	w.WriteHeader(putStatus(created))
	return nil
}

func putStatus(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusNoContent
}

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

func (s *server) handleRequests(w http.ResponseWriter, r *http.Request) error {
	s.observe.report()
	lists := s.observe.recent.lists()
	if wantsJSON(r) {
		writeJSON(w, http.StatusOK, lists)
		return nil
	}
	var text strings.Builder
	for _, list := range []struct {
		title string
		views []view
	}{{"in flight", lists.InFlight}, {"failed", lists.Failed}, {"slowest", lists.Slowest}, {"recent", lists.Recent}} {
		fmt.Fprintf(&text, "%s: %d\n", list.title, len(list.views))
		for _, v := range list.views[:min(len(list.views), 20)] {
			outcome := cmp.Or(v.Stage, v.Error)
			if v.Status != 0 {
				outcome = strings.TrimSpace(fmt.Sprintf("%d %s", v.Status, outcome))
			}
			fmt.Fprintf(&text, "  %s  %10.3f ms  %-30.30s %-12.12s %s\n", v.Started.Format("15:04:05.000"), v.TookMS, v.Name, outcome, v.CorrelationID)
		}
	}
	fmt.Fprintf(&text, "one whole: /debug/requests/{correlation or trace id}\n")
	return writeText(w, http.StatusOK, text.String())
}

func (s *server) handleRequest(w http.ResponseWriter, r *http.Request) error {
	s.observe.report()
	found := s.observe.recent.find(r.PathValue("id"))
	if len(found) == 0 {
		return userError{http.StatusNotFound, "no request of that id is remembered: the log has it for longer, and /debug/requests lists those that are"}
	}
	if wantsJSON(r) {
		writeJSON(w, http.StatusOK, found)
		return nil
	}
	var text strings.Builder
	for _, v := range found {
		v.draw(&text)
	}
	return writeText(w, http.StatusOK, text.String())
}

func wantsJSON(r *http.Request) bool {
	return r.URL.Query().Get("format") == "json" || strings.Contains(r.Header.Get("Accept"), "application/json")
}

func (s *server) handleMetrics(w http.ResponseWriter, r *http.Request) error {
	s.observe.report() // so that nothing that has finished is missing
	s.scrape.ServeHTTP(w, r)
	return nil
}

func (s *server) handleLogLevel(w http.ResponseWriter, _ *http.Request) error {
	return writeText(w, http.StatusOK, levelName(s.level.Level())+"\n")
}

// handleSetLogLevel changes the level, with ?for=10m for that long.
func (s *server) handleSetLogLevel(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return bodyError(err)
	}
	level, err := parseLevel(strings.TrimSpace(string(body)))
	if err != nil {
		return userError{http.StatusBadRequest, "the body must be a level: " + err.Error()}
	}
	var duration time.Duration
	if text := r.URL.Query().Get("for"); text != "" {
		if duration, err = time.ParseDuration(text); err != nil || duration <= 0 {
			return userError{http.StatusBadRequest, fmt.Sprintf("for=%.20q is not a duration such as 10m", text)}
		}
	}
	loudest := min(level, s.level.Level()) // so that the change itself is in the log
	s.level.Set(loudest)
	s.log.Log(r.Context(), max(loudest, slog.LevelInfo), "log level changed", "to", levelName(level), "for", duration.String())
	s.level.change(level, duration)
	return s.handleLogLevel(w, r)
}

// parameters parses the query of r's URL, and its limit: the usual one if it is absent, or an error unless it is in 1..most.
func parameters(r *http.Request, usual, most int) (values url.Values, limit int, err error) {
	values, err = url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, 0, userError{http.StatusBadRequest, "the query string is malformed: percent-encode its values, with curl -G --data-urlencode q='…'"}
	}
	text := values.Get("limit")
	if text == "" {
		return values, usual, nil
	}
	limit, err = strconv.Atoi(text)
	if err != nil || limit < 1 || limit > most {
		return nil, 0, userError{http.StatusBadRequest, fmt.Sprintf("limit=%.20q is not a number from 1 to %d", text, most)}
	}
	return values, limit, nil
}

func checkPrefix(prefix string) error {
	if len(prefix) > 512 || !isPlain(prefix) {
		return userError{http.StatusBadRequest, "prefix is not the beginning of a document id such as guide/"}
	}
	return nil
}

// isPlain reports whether s is UTF-8 without NUL.
func isPlain(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// requestPrecondition reads If-Match and If-None-Match. Our entity tags contain no comma.
func requestPrecondition(r *http.Request) precondition {
	tags := func(header string) []string { return splitList(strings.Join(r.Header.Values(header), ",")) }
	return precondition{match: tags("If-Match"), noneMatch: tags("If-None-Match")}
}
