package main

// What the tests share: the server that is asked through its outermost handler, the program as a process, the embeddings
// API that answers as a test says, PostgreSQL, and stores that fail.

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// testServer is a server on a loopback port, asked through its outermost handler.
type testServer struct {
	*server
	t       testing.TB
	url     string
	admin   string // URL of ADMIN_ADDR's listener, if that is set
	dir     string // DOCS_DIR
	lines   *logBuffer
	spans   *tracetest.InMemoryExporter // what is exported, unless the settings name an exporter
	timeout time.Duration               // of reading a request and of writing a response; 0: the server's own
}

// logBuffer keeps what several goroutines write, such as log lines.
type logBuffer struct {
	mu       sync.Mutex
	lines    bytes.Buffer
	discards bool
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.discards {
		return len(p), nil
	}
	return b.lines.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.String()
}

// discard keeps nothing from now on.
func (b *logBuffer) discard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.discards = true
}

// find waits for the log line with that message and correlation id, "" for any, and returns it.
func (b *logBuffer) find(t testing.TB, message, correlation string) (found map[string]any) {
	t.Helper()
	defer func() {
		if found == nil {
			t.Logf("the log:\n%s", b)
		}
	}()
	waitFor(t, fmt.Sprintf("the log line %q of %q", message, correlation), func() bool {
		for line := range strings.Lines(b.String()) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatalf("log line is not JSON: %s", line)
			}
			if fields["message"] == message && (correlation == "" || fields["correlation_id"] == correlation) {
				found = fields
				return true
			}
		}
		return false
	})
	return found
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
	s.scrapes.lifetime = 0 // a test sees at once what it has done
	return s
}

// newTestServer serves an empty folder with ADMIN_TOKEN set. env is more settings, KEY=value.
func newTestServer(t testing.TB, env ...string) *testServer {
	t.Helper()
	ts := openTestServer(t, t.TempDir(), env...)
	ts.serve()
	return ts
}

// newMCPServer serves documents, id to text, that nobody edits. change, if any, alters the server before it serves.
func newMCPServer(t testing.TB, documents map[string]string, change func(*server)) *testServer {
	t.Helper()
	ts := openTestServer(t, datedFolder(t, documents), "DOCS_SYNC_INTERVAL=1h")
	if change != nil {
		change(ts.server)
	}
	ts.serve()
	return ts
}

// fileTime is when the documents of a datedFolder were last changed.
var fileTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// datedFolder returns a temporary folder with documents, id to text, of a fixed time.
func datedFolder(t testing.TB, documents map[string]string) string {
	t.Helper()
	ts := &testServer{t: t, dir: t.TempDir()}
	for id, text := range documents {
		ts.writeFile(id, text)
		if err := os.Chtimes(filepath.Join(ts.dir, id), fileTime, fileTime); err != nil {
			t.Fatal(err)
		}
	}
	return ts.dir
}

// openTestServer returns a server that has its store and has read the folder, but does not serve yet.
func openTestServer(t testing.TB, dir string, env ...string) *testServer {
	t.Helper()
	vars := map[string]string{"DOCS_DIR": dir, "ADMIN_TOKEN": testAdminToken, "DOCS_SYNC_INTERVAL": "100ms", "RATE_LIMIT": "0"}
	for _, pair := range env {
		key, value, _ := strings.Cut(pair, "=")
		vars[key] = value
	}
	logs := new(logBuffer)
	s := newServerOf(t, vars, logs)
	spans := tracetest.NewInMemoryExporter()
	if s.observe.traces == nil {
		s.observe.traces = startTraceExport(spans, s.cfg, s.log)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		tasks.Wait()
		s.close()
	})
	if err := s.makeStore(); err != nil {
		t.Fatal(err)
	}
	if err := s.openStore(ctx, &tasks); err != nil {
		t.Fatal(err)
	}
	if s.folder != nil {
		waitFor(t, "the first scan", func() bool { return s.folder.synced.Load() != nil })
	}
	return &testServer{server: s, t: t, dir: vars["DOCS_DIR"], lines: logs, spans: spans}
}

// serve serves until the test ends. It then waits for all requests.
func (ts *testServer) serve() {
	var urls []string
	for _, config := range ts.httpServers() {
		if ts.timeout > 0 {
			config.ReadTimeout = ts.timeout
			config.WriteTimeout = ts.timeout
		}
		hs := httptest.NewUnstartedServer(nil)
		hs.Config = config
		hs.Start()
		ts.t.Cleanup(func() {
			hs.CloseClientConnections()
			hs.Close()
		})
		urls = append(urls, hs.URL)
	}
	ts.url = urls[0]
	ts.admin = urls[len(urls)-1]
	ts.ready.Store(true)
}

// runMoreAtOnce lets more parallel tests run at once than there are cores, unless -parallel says how many: they wait for
// intervals, deadlines, processes and databases more than they compute.
func runMoreAtOnce() {
	flag.Parse()
	isSet := false
	flag.Visit(func(f *flag.Flag) { isSet = isSet || f.Name == "test.parallel" })
	if isSet {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(max(8, 2*runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
}

// waitFor waits until done returns true. It is how every test waits for what happens in the background.
func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// waitForScans waits until a folder that nobody changes is not scanned any more. The program must log at level debug,
// which shows the scans that found nothing.
func waitForScans(t testing.TB, log fmt.Stringer) {
	t.Helper()
	scans := 1
	if runtime.GOOS == "linux" {
		scans = 2 // the second one begins once inotify tells of changes
	}
	waitFor(t, "the scans at the start have ended", func() bool {
		return strings.Count(log.String(), `"job":"folder_scan"`) >= scans
	})
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

// storeStub is a store whose searches and documents fail, or block, as answer does. It succeeds with nothing.
type storeStub struct {
	store
	answer func(ctx context.Context) error
}

func (s storeStub) search(ctx context.Context, _ query) (found, error) {
	return found{}, s.answer(ctx)
}

func (s storeStub) document(ctx context.Context, _ string) (*document, error) {
	return new(document), s.answer(ctx)
}

// blockade tells of the calls of a store that blocks: each sends to began, waits until its context ends, and sends to
// ended.
type blockade struct{ began, ended chan struct{} }

// newBlockingServer returns a server whose searches block until their context ends.
func newBlockingServer(t *testing.T) (*testServer, blockade) {
	blocking := blockade{began: make(chan struct{}), ended: make(chan struct{})}
	return newMCPServer(t, goldenDocuments, func(s *server) {
		s.store = storeStub{s.store, func(ctx context.Context) error {
			blocking.began <- struct{}{}
			<-ctx.Done()
			blocking.ended <- struct{}{}
			return ctx.Err()
		}}
	}), blocking
}

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

// rpc calls a method of the initialize era and returns the answer. params may be nil.
func (ts *testServer) rpc(method string, params map[string]any) answer {
	ts.t.Helper()
	message := map[string]any{"jsonrpc": "2.0", "id": 1, "method": method}
	if params != nil {
		message["params"] = params
	}
	return ts.do("POST", "/mcp", mustJSON(message), "Content-Type: application/json", "MCP-Protocol-Version: 2025-06-18")
}
