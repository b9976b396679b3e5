package main

// What the tests share: the server that is asked through its outermost handler, the program as a process, the embeddings
// API that answers as a test says, PostgreSQL, and stores that fail.

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// testServer is a server on a loopback port, asked through its outermost handler.
type testServer struct {
	*server
	t     testing.TB
	url   string
	admin string // URL of ADMIN_ADDR's listener, if that is set
	dir   string // DOCS_DIR
	lines *logBuffer
	spans *tracetest.InMemoryExporter // what is exported, unless the settings name an exporter
}

// logBuffer keeps the log lines.
type logBuffer struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.String()
}

// find waits for the log line with that message and correlation id, "" for any, and returns it.
func (b *logBuffer) find(t testing.TB, message, correlation string) map[string]any {
	t.Helper()
	for range 500 {
		for line := range strings.Lines(b.String()) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatalf("log line is not JSON: %s", line)
			}
			if fields["message"] == message && (correlation == "" || fields["correlation_id"] == correlation) {
				return fields
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no log line %q of %q in:\n%s", message, correlation, b)
	return nil
}

const testAdminToken = "admin-token-of-the-tests"

// newServerOf returns a server of those settings, without a store.
func newServerOf(t testing.TB, vars map[string]string, stdout io.Writer) *server {
	t.Helper()
	cfg, err := readSettings(vars)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(cfg, stdout)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newTestServer serves an empty folder with ADMIN_TOKEN set. env is more settings, KEY=value.
func newTestServer(t testing.TB, env ...string) *testServer {
	t.Helper()
	dir := t.TempDir()
	vars := map[string]string{"DOCS_DIR": dir, "ADMIN_TOKEN": testAdminToken, "DOCS_SYNC_INTERVAL": "100ms", "RATE_LIMIT": "0"}
	for _, pair := range env {
		key, value, _ := strings.Cut(pair, "=")
		vars[key] = value
	}
	logs := new(logBuffer)
	s := newServerOf(t, vars, logs)
	spans := tracetest.NewInMemoryExporter()
	if s.observe.traces == nil {
		s.observe.traces = startTraceExport(spans, resource.Empty(), s.log)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	if err := s.openStore(ctx, &working); err != nil {
		t.Fatal(err)
	}
	ts := &testServer{server: s, t: t, dir: vars["DOCS_DIR"], lines: logs, spans: spans}
	var urls []string
	for _, hs := range s.httpServers() {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, "http://"+listener.Addr().String())
		working.Go(func() { _ = hs.Serve(listener) })
		defer t.Cleanup(func() { _ = hs.Close() }) // before what is cleaned up below
	}
	ts.url, ts.admin = urls[0], urls[len(urls)-1]
	s.ready.Store(true)
	t.Cleanup(func() {
		cancel()
		working.Wait()
		s.close()
		http.DefaultClient.CloseIdleConnections()
	})
	if s.folder != nil {
		waitFor(t, "the first scan", func() bool { return s.folder.synced.Load() > 0 })
	}
	return ts
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   string
}

// do asks and reads the answer. headers are "Key: value"; without an Authorization header the admin token is sent.
func (ts *testServer) do(method, path, body string, headers ...string) answer {
	ts.t.Helper()
	base := ts.url
	if rest, ok := strings.CutPrefix(path, "admin:"); ok {
		base, path = ts.admin, rest
	}
	r, err := http.NewRequestWithContext(context.Background(), method, base+path, strings.NewReader(body))
	if err != nil {
		ts.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+testAdminToken)
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		switch {
		case key == "Host":
			r.Host = value
		case value == "":
			r.Header.Del(key)
		case key == "Authorization":
			r.Header.Set(key, value)
		default:
			r.Header.Add(key, value)
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		ts.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		ts.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

func (ts *testServer) get(path string, headers ...string) answer {
	ts.t.Helper()
	return ts.do("GET", path, "", headers...)
}

func (ts *testServer) put(id, text string, headers ...string) answer {
	ts.t.Helper()
	return ts.do("PUT", "/documents/"+id, text, headers...)
}

// search returns the ids that a search finds, which must succeed.
func (ts *testServer) search(query string) []string {
	ts.t.Helper()
	a := ts.get("/search?" + query)
	var found searchAnswer
	if err := json.Unmarshal([]byte(a.body), &found); err != nil || a.status != http.StatusOK {
		ts.t.Fatalf("GET /search?%s: %d %s", query, a.status, a.body)
	}
	ids := []string{}
	for _, h := range found.Hits {
		ids = append(ids, h.Document)
	}
	return ids
}

func (ts *testServer) writeFile(id, text string) {
	ts.t.Helper()
	name := filepath.Join(ts.dir, id)
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		ts.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		ts.t.Fatal(err)
	}
}

func testSettings(t testing.TB, env ...string) *settings {
	t.Helper()
	cfg, err := readSettings(environment(env))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func quietObserver() *observer {
	cfg, err := readSettings(nil)
	if err != nil {
		panic(err) // the defaults are valid
	}
	return newTestObserver(cfg, slog.New(slog.DiscardHandler))
}

// mcpServer is a server over a folder of documents, reached through its outermost handler over real connections.
type mcpServer struct {
	*server
	t   testing.TB
	url string
	log *lockedBuffer
}

// testTimeout is what streams must outlive.
const testTimeout = 2 * time.Second

// fileTime is when the documents of a test were last changed.
var fileTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// newMCPServer starts a server over docs, id to text. change, if any, alters it before it serves.
func newMCPServer(t testing.TB, docs map[string]string, change func(*server)) *mcpServer {
	t.Helper()
	dir := t.TempDir()
	for id, text := range docs {
		path := filepath.Join(dir, id)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, fileTime, fileTime); err != nil {
			t.Fatal(err)
		}
	}
	log := new(lockedBuffer)
	s := newServerOf(t, map[string]string{"DOCS_DIR": dir, "RATE_LIMIT": "0", "ADMIN_TOKEN": "admin-token"}, log)
	s.folder = &folder{dir: dir, observe: s.observe}
	s.store = newMemory(s.folder, hashedEmbedder{}, s.cfg.vectorWeight, quietObserver())
	if err := s.folder.scan(t.Context(), s.store); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(s)
	}
	s.ready.Store(true)
	hs := httptest.NewUnstartedServer(nil)
	hs.Config = s.httpServers()[0]
	hs.Config.ReadTimeout, hs.Config.WriteTimeout = testTimeout, testTimeout
	hs.Start()
	t.Cleanup(func() {
		if !s.isStopping() {
			close(s.stopping)
		}
		hs.CloseClientConnections()
		hs.Close()
		s.close()
	})
	return &mcpServer{s, t, hs.URL, log}
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu       sync.Mutex
	b        bytes.Buffer
	discards bool
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.discards {
		return len(p), nil
	}
	return l.b.Write(p)
}

func (l *lockedBuffer) discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.discards = true
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// storeStub is the store but for its searches.
type storeStub struct {
	store
	answer func(ctx context.Context) error
}

func (s storeStub) search(ctx context.Context, _ query) ([]hit, bool, error) {
	return nil, false, s.answer(ctx)
}

// blockingStore is a store whose searches block until their context ends.
type blockingStore struct {
	store
	began, ended chan struct{}
}

func (b *blockingStore) search(ctx context.Context, _ query) ([]hit, bool, error) {
	b.began <- struct{}{}
	<-ctx.Done()
	b.ended <- struct{}{}
	return nil, false, ctx.Err()
}

func newBlockingServer(t *testing.T) (*mcpServer, *blockingStore) {
	blocking := &blockingStore{began: make(chan struct{}), ended: make(chan struct{})}
	return newMCPServer(t, goldenDocuments, func(s *server) {
		blocking.store, s.store = s.store, blocking
	}), blocking
}

// brokenStore is a store whose reads fail.
type brokenStore struct {
	store
	err error
}

func (b brokenStore) document(context.Context, string) (*document, error) { return nil, b.err }

// discard is a ResponseWriter that costs nearly nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

func ask(h http.Handler, r *http.Request) {
	h.ServeHTTP(&discard{make(http.Header)}, r)
}

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// newTestObserver returns an observer that names clients by their address.
func newTestObserver(cfg *settings, log *slog.Logger) *observer {
	clientName := func(r *http.Request) string { return r.RemoteAddr }
	return newObserver(cfg, log, newMetrics(cfg, labelsFor(cfg)), clientName)
}
