package main

// What the routes do. The methods below the handlers (search, list, …) are what MCP's tools call too: what curl
// shows is what a model gets.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // index.html
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
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
	annotate(ctx, slog.Int("hits", len(hits)))
	note(ctx, slog.Int("hits", len(hits)))
	s.log.LogAttrs(ctx, slog.LevelDebug, "searched", slog.String("query", q.text), slog.Int("hits", len(hits))) // above debug a question is in no log
	if degraded {
		note(ctx, slog.Bool("degraded", true))
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
	if matchesTag(pre.noneMatch, d.etag) {
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
	bodyRead(r.Context())
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

// maxBulkLineBytes lets through a document of the greatest size in which every character is escaped.
const maxBulkLineBytes = 6*maxDocumentBytes + 4096

// bulkLine is what POST /documents answers for a line of its body.
type bulkLine struct {
	ID     string `json:"id"`
	Status int    `json:"status"`
	Error  string `json:"error,omitempty"`
}

// handleBulk stores a document per line while it reads, and answers each with a line of its own as soon as it is
// stored. A client that stops reading or sending for readTimeout is cut off; one that sends nothing does not hold up a drain.
func (s *server) handleBulk(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	if err := control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err // HTTP/2 is full-duplex as it is
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.stopping:
			_ = control.SetReadDeadline(time.Now())
		case <-done:
		}
	}()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	encoder := json.NewEncoder(w)
	body := bufio.NewReaderSize(r.Body, 64<<10)
	for stored := 0; ; {
		if err := control.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
			return err
		}
		var line []byte
		var readErr error
		if !s.isStopping() { // after the deadline is set, which the drain sets to now
			line, readErr = readLine(body, maxBulkLineBytes)
		}
		result, more := s.bulkResult(r.Context(), line, readErr, stored)
		if result.Error == "" && result.ID != "" {
			stored++
		}
		if result != (bulkLine{}) {
			err := errors.Join(control.SetWriteDeadline(time.Now().Add(writeTimeout)), encoder.Encode(result), control.Flush())
			if err != nil {
				return err
			}
		}
		if !more {
			note(r.Context(), slog.Int("documents", stored))
			return nil
		}
	}
}

// bulkResult returns what to answer for a line that was read with that error after so many documents, the zero value for
// nothing, and whether to read on.
func (s *server) bulkResult(ctx context.Context, line []byte, err error, stored int) (result bulkLine, more bool) {
	line = bytes.TrimSpace(line)
	switch {
	case s.isStopping():
		return bulkLine{Status: http.StatusServiceUnavailable, Error: fmt.Sprintf("the server is stopping after %d documents: send the rest again", stored)}, false
	case errors.Is(err, errLineTooLong):
		return bulkLine{Status: http.StatusRequestEntityTooLarge, Error: "the line is too long: a document has at most 8 MiB"}, true
	case err != nil && !errors.Is(err, io.EOF):
		note(ctx, slog.String("error", err.Error()))
		return bulkLine{Status: http.StatusBadRequest, Error: fmt.Sprintf("the body was cut off after %d documents: send the rest again", stored)}, false
	case len(line) > 0:
		result = s.putLine(ctx, line)
	}
	return result, err == nil
}

// putLine stores the document of one line and returns the line to answer.
func (s *server) putLine(ctx context.Context, line []byte) bulkLine {
	var in struct {
		ID   *string `json:"id"`
		Text *string `json:"text"`
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&in)
	if _, rest := decoder.Token(); err != nil || rest != io.EOF || in.ID == nil || in.Text == nil || !utf8.Valid(line) || hasLoneSurrogate(line) {
		return bulkLine{Status: http.StatusBadRequest, Error: `not a line of the form {"id":"guide/install.md","text":"# Install\n…"} in UTF-8`}
	}
	// A line that was read whole is stored, though its sender may have gone, or have closed its half of the connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handlerBudget)
	defer cancel()
	d, err := newDocument(*in.ID, *in.Text, time.Now())
	var created bool
	if err == nil {
		created, err = s.store.put(ctx, d, precondition{})
	}
	if err == nil {
		return bulkLine{ID: *in.ID, Status: putStatus(created)}
	}
	user := told(err)
	if user.status == http.StatusInternalServerError {
		s.log.ErrorContext(ctx, "bulk line failed", "document", *in.ID, "error", err)
	}
	return bulkLine{*in.ID, user.status, user.message}
}

// surrogates finds the escaped halves of characters beyond 16 bits, in pairs (2) and alone (1, 3); escaped backslashes first.
var surrogates = regexp.MustCompile(`(?i)\\\\|\\u(d[89ab]..)(\\ud[c-f]..)?|\\u(d[c-f]..)`)

// hasLoneSurrogate reports whether a JSON text escapes what is no character: encoding/json would put another in its place.
func hasLoneSurrogate(text []byte) bool {
	for _, found := range surrogates.FindAllSubmatch(text, -1) {
		if found[1] != nil && found[2] == nil || found[3] != nil {
			return true
		}
	}
	return false
}

var errLineTooLong = errors.New("line too long")

// readLine reads the next line. Of a line longer than most it returns nothing but errLineTooLong.
func readLine(r *bufio.Reader, most int) (line []byte, err error) {
	for length := 0; ; {
		part, err := r.ReadSlice('\n')
		if length += len(part); length <= most {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull): // there is more of it
		case length > most:
			return nil, errLineTooLong // and an error comes again with the next
		default:
			return line, err
		}
	}
}

func (s *server) handleLive(w http.ResponseWriter, _ *http.Request) error {
	return writeText(w, http.StatusOK, "ok\n")
}

func (s *server) handleReady(w http.ResponseWriter, r *http.Request) error {
	status, lines := http.StatusOK, ""
	for _, c := range s.state(r.Context()).checks {
		state := "ok"
		if c.problem != "" {
			status, state = http.StatusServiceUnavailable, "not ready: "+c.problem
		}
		lines += fmt.Sprintf("%s %s%s\n", c.name, state, c.detail)
	}
	switch {
	case status != http.StatusOK:
		w.Header().Set("Retry-After", "1")
	case !r.URL.Query().Has("verbose"):
		lines = "ok\n"
	}
	return writeText(w, status, lines)
}

// state is what is known of the server: for /readyz and for the metrics.
type state struct {
	checks            []check
	documents, chunks int
	indexed           time.Time // when the index was last in step with the folder
}

// check is one line of /readyz?verbose.
type check struct {
	name    string
	problem string // empty: fine
	detail  string
}

// knownState is what the store said a moment ago: it is asked once a second, however often others ask.
type knownState struct {
	mu                sync.Mutex
	asked             time.Time
	documents, chunks int
	err               error
}

// state tells what must be fine for the server to be sent requests.
func (s *server) state(ctx context.Context) state {
	k := &s.known
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.asked) > time.Second {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		documents, chunks, err := s.store.size(ctx)
		if err == nil {
			k.documents, k.chunks = documents, chunks
		}
		k.asked, k.err = time.Now(), err
	}
	serving, index, stored := check{name: "serving"}, check{name: "index"}, check{name: "store"}
	if !s.ready.Load() {
		serving.problem = "starting or stopping"
	}
	if k.err != nil {
		stored.problem = k.err.Error()
	} else {
		stored.detail = fmt.Sprintf(": %d documents, %d chunks", k.documents, k.chunks)
	}
	indexed := time.Now() // what is never changed is never stale
	if s.folder != nil {
		index.problem, index.detail = s.folder.status()
		indexed = time.UnixMilli(s.folder.synced.Load())
	}
	return state{[]check{serving, index, stored}, k.documents, k.chunks, indexed}
}

func (s *server) handleMetrics(w http.ResponseWriter, r *http.Request) error {
	s.observe.report() // so that nothing that has finished is missing
	s.metrics.ServeHTTP(w, r)
	return nil
}

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

func writeText(w http.ResponseWriter, status int, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, err := io.WriteString(w, text)
	return err
}

// bodyError is the error of a body that could not be read: too large (413, made by answerError) or cut off.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return userError{http.StatusBadRequest, "the body was cut off: send it again"}
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
