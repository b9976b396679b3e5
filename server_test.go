package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

func TestEveryRouteAnswersWithItsStatus(t *testing.T) {
	ts := newTestServer(t, "API_TOKEN=api-token")
	if a := ts.put("guide/install.md", "# Install\n\nRun the installer.\n"); a.status != http.StatusCreated {
		t.Fatalf("PUT: %d %s", a.status, a.body)
	}
	etag := ts.get("/documents/guide/install.md").header.Get("ETag")
	const none, api, wrong = "Authorization: ", "Authorization: Bearer api-token", "Authorization: Bearer wrong"
	big := strings.Repeat("a", maxDocumentBytes+1)
	tests := []struct {
		name, method, path, body string
		headers                  []string
		want                     int
		contains                 string // of the body, or "Header: value"
	}{
		{"search", "GET", "/search?q=install", "", []string{api}, 200, `"document":"guide/install.md"`},
		{"search with a limit", "GET", "/search?q=install&limit=100", "", nil, 200, `"took_ms":`},
		{"search that finds nothing", "GET", "/search?q=zxqvwk", "", nil, 200, `"hits":[]`},
		{"search with a prefix", "GET", "/search?q=install&prefix=other/", "", nil, 200, `"hits":[]`},
		{"search without q", "GET", "/search", "", nil, 400, "missing q: try /search?q=install"},
		{"search for blanks", "GET", "/search?q=+", "", nil, 400, "missing q"},
		{"search for too much", "GET", "/search?q=" + strings.Repeat("a", 1001), "", nil, 400, "1001 bytes"},
		{"search for bad UTF-8", "GET", "/search?q=%ff", "", nil, 400, "not UTF-8"},
		{"search for NUL", "GET", "/search?q=a%00", "", nil, 400, "not UTF-8 text"},
		{"search with limit 0", "GET", "/search?q=a&limit=0", "", nil, 400, "a number from 1 to 100"},
		{"search with limit 101", "GET", "/search?q=a&limit=101", "", nil, 400, "a number from 1 to 100"},
		{"search with limit x", "GET", "/search?q=a&limit=x", "", nil, 400, "limit="},
		{"search with a bad escape", "GET", "/search?q=%zz", "", nil, 400, "percent-encode"},
		{"search with a NUL prefix", "GET", "/search?q=a&prefix=%00", "", nil, 400, "prefix"},
		{"search without token", "GET", "/search?q=a", "", []string{none}, 401, "Www-Authenticate: Bearer"},
		{"search with a wrong token", "GET", "/search?q=a", "", []string{wrong}, 401, "no valid token"},
		{"search posted", "POST", "/search?q=a", "", nil, 405, "Allow: GET, HEAD"},
		{"list", "GET", "/documents", "", []string{api}, 200, `"id":"guide/install.md","title":"Install","bytes":30,"chunks":1,"updated":"`},
		{"list with a bad cursor", "GET", "/documents?cursor=%21", "", nil, 400, "bad cursor"},
		{"list with a cursor that is no id", "GET", "/documents?cursor=YQ", "", nil, 400, "bad cursor"},
		{"get", "GET", "/documents/guide/install.md", "", []string{api}, 200, "Content-Type: text/markdown; charset=utf-8"},
		{"get the text as it was put", "GET", "/documents/guide/install.md", "", nil, 200, "# Install\n\nRun the installer.\n"},
		{"get what is not there", "GET", "/documents/none.md", "", nil, 404, "no such document"},
		{"get a bad id", "GET", "/documents/guide", "", nil, 400, "does not end in .md"},
		{"get an id with dots", "GET", "/documents/..%2fsecret.md", "", nil, 400, "starts with a dot"},
		{"get again unchanged", "GET", "/documents/guide/install.md", "", []string{"If-None-Match: " + etag}, 304, ""},
		{"get again by a weak tag", "GET", "/documents/guide/install.md", "", []string{"If-None-Match: \"x\", W/" + etag}, 304, ""},
		{"get another than known", "GET", "/documents/guide/install.md", "", []string{`If-Match: "x"`}, 412, "If-Match"},
		{"head", "HEAD", "/documents/guide/install.md", "", nil, 200, "Content-Length: 30"},
		{"put with the API token", "PUT", "/documents/a.md", "a", []string{api}, 403, "use ADMIN_TOKEN"},
		{"put without token", "PUT", "/documents/a.md", "a", []string{none}, 401, `Www-Authenticate: Bearer realm="vitrine", Basic realm="vitrine"`},
		{"put again the same", "PUT", "/documents/guide/install.md", "# Install\n\nRun the installer.\n", nil, 204, "Etag: " + etag},
		{"put if it is new", "PUT", "/documents/guide/install.md", "x", []string{"If-None-Match: *"}, 412, "exists already"},
		{"put if unchanged, but it is not", "PUT", "/documents/guide/install.md", "x", []string{`If-Match: "x"`}, 412, "If-Match"},
		{"put if it is there, but it is not", "PUT", "/documents/none.md", "x", []string{"If-Match: *"}, 412, "If-Match"},
		{"put if unchanged", "PUT", "/documents/guide/install.md", "# Install\n\nRun the installer.\n", []string{"If-Match: " + etag}, 204, ""},
		{"put bad UTF-8", "PUT", "/documents/a.md", "\xff", nil, 400, "iconv"},
		{"put NUL", "PUT", "/documents/a.md", "a\x00", nil, 400, "NUL"},
		{"put too much", "PUT", "/documents/a.md", big, nil, 413, "8388608 bytes"},
		{"put below a document", "PUT", "/documents/guide/install.md/x.md", "x", nil, 409, "in the way"},
		{"put compressed", "PUT", "/documents/a.md", "x", []string{"Content-Encoding: gzip"}, 415, "Content-Encoding"},
		{"put multipart", "PUT", "/documents/a.md", "x", []string{"Content-Type: multipart/form-data; boundary=x"}, 415, "--data-binary"},
		{"delete what is not there", "DELETE", "/documents/none.md", "", nil, 404, "no such document"},
		{"delete if unchanged, but it is not", "DELETE", "/documents/guide/install.md", "", []string{`If-Match: "x"`}, 412, "If-Match"},
		{"delete a bad id", "DELETE", "/documents/a", "", nil, 400, "bad document id"},
		{"another origin", "GET", "/livez", "", []string{"Origin: https://evil.example"}, 403, "ALLOWED_ORIGINS"},
		{"origin null", "GET", "/livez", "", []string{"Origin: null"}, 403, "ALLOWED_ORIGINS"},
		{"own origin", "GET", "/livez", "", []string{"Origin: " + ts.url}, 200, "Access-Control-Allow-Origin: " + ts.url},
		{"another host", "GET", "/livez", "", []string{"Host: evil.example"}, 403, "ALLOWED_HOSTS"},
		{"another host that calls itself the origin", "GET", "/nope", "", []string{"Host: evil.example", "Origin: http://evil.example"}, 403, "ALLOWED_HOSTS"},
		{"own host with a port and a dot", "GET", "/livez", "", []string{"Host: LOCALHOST.:99"}, 200, "ok"},
		{"preflight", "OPTIONS", "/documents/a.md", "", []string{none, "Origin: " + ts.url, "Access-Control-Request-Method: PUT"}, 204, "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, DELETE"},
		{"preflight of another origin", "OPTIONS", "/search", "", []string{none, "Origin: https://evil.example", "Access-Control-Request-Method: GET"}, 403, "ALLOWED_ORIGINS"},
		{"options", "OPTIONS", "/search", "", nil, 405, "Allow: GET, HEAD"},
		{"index", "GET", "/", "", []string{none}, 200, "curl '" + ts.url + "/search?q=install'"},
		{"index posted", "POST", "/", "", nil, 405, "Allow: GET, HEAD"},
		{"no such page", "GET", "/nope", "", nil, 404, "GET / lists the routes"},
		{"livez", "GET", "/livez", "", []string{none}, 200, "ok"},
		{"healthz", "GET", "/healthz", "", []string{none}, 200, "ok"},
		{"readyz", "GET", "/readyz", "", []string{none}, 200, "ok"},
		{"readyz in full", "GET", "/readyz?verbose", "", []string{none}, 200, "store ok: 1 documents, 1 chunks"},
		{"log level", "GET", "/debug/loglevel", "", nil, 200, "info"},
		{"log level with the API token", "GET", "/debug/loglevel", "", []string{api}, 403, "ADMIN_TOKEN"},
		{"log level that is none", "PUT", "/debug/loglevel", "loud", nil, 400, "not debug, info, warn or error"},
		{"log level for no time", "PUT", "/debug/loglevel?for=x", "debug", nil, 400, "such as 10m"},
		{"log level by Basic password", "PUT", "/debug/loglevel", "info", []string{"Authorization: Basic eDphZG1pbi10b2tlbi1vZi10aGUtdGVzdHM="}, 200, "info"},
		{"delete", "DELETE", "/documents/guide/install.md", "", []string{"If-Match: " + etag}, 204, ""},
		{"get what was deleted", "GET", "/documents/guide/install.md", "", nil, 404, "no such document"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := ts.do(test.method, test.path, test.body, test.headers...)
			if a.status != test.want {
				t.Fatalf("status %d, want %d: %s", a.status, test.want, a.body)
			}
			key, value, isHeader := strings.Cut(test.contains, ": ")
			if got := a.header.Get(key); isHeader && got != "" {
				if !strings.Contains(got, value) {
					t.Errorf("header %s = %q, want %q", key, got, value)
				}
			} else if !strings.Contains(a.body, test.contains) {
				t.Errorf("body %q, want %q", a.body, test.contains)
			}
			if a.header.Get("X-Correlation-ID") == "" {
				t.Error("no X-Correlation-ID")
			}
			if a.status >= 400 && test.method != "HEAD" {
				checkErrorBody(t, a)
			}
		})
	}
}

// checkErrorBody fails unless the body is the JSON form of an error, with the correlation id of the header.
func checkErrorBody(t *testing.T, a answer) {
	t.Helper()
	var body struct {
		Error struct {
			Code, Message string
			CorrelationID string `json:"correlation_id"`
		}
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Error.Code == "" || body.Error.Message == "" ||
		body.Error.CorrelationID != a.header.Get("X-Correlation-ID") || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("not the form of an error: %s %s", a.header.Get("Content-Type"), a.body)
	}
}

func TestAdminRoutesAreClosedWithoutToken(t *testing.T) {
	ts := newTestServer(t, "ADMIN_TOKEN=")
	if a := ts.put("a.md", "a"); a.status != http.StatusForbidden || !strings.Contains(a.body, "ADMIN_TOKEN") {
		t.Errorf("PUT: %d %s, want 403 that names ADMIN_TOKEN", a.status, a.body)
	}
	if a := ts.get("/search?q=a", "Authorization: "); a.status != http.StatusOK {
		t.Errorf("search is open without API_TOKEN: %d %s", a.status, a.body)
	}
}

func TestAdminAddrServesTheAdminRoutesAlone(t *testing.T) {
	ts := newTestServer(t, "ADMIN_ADDR=127.0.0.1:0")
	for path, want := range map[string]int{
		"/debug/loglevel": 404, "admin:/debug/loglevel": 200, "/search?q=a": 200, "admin:/search?q=a": 404,
		"/": 200, "admin:/": 200, "/livez": 200, "admin:/livez": 200, "admin:/readyz": 200,
	} {
		if a := ts.get(path); a.status != want {
			t.Errorf("GET %s: %d, want %d", path, a.status, want)
		}
	}
}

func TestOwnAddressIsServedWhateverTheAllowedHosts(t *testing.T) {
	ts := newTestServer(t, "ALLOWED_HOSTS=docs.example.com", "ADMIN_ADDR=127.0.0.1:0")
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:99": 200, "[::ffff:127.0.0.1]:99": 200, "docs.example.com": 200,
		"127.0.0.2": 403, "[::1]": 403, "localhost": 403, "evil.example": 403,
	} {
		for _, path := range []string{"/readyz", "/search?q=a", "admin:/livez", "admin:/metrics", "admin:/debug/loglevel"} {
			if a := ts.get(path, "Host: "+host); a.status != want {
				t.Errorf("GET %s of %s: %d %s, want %d", path, host, a.status, a.body, want)
			}
		}
	}
}

func TestIndexListsWhatItsListenerServes(t *testing.T) {
	both, apart := newTestServer(t), newTestServer(t, "ADMIN_ADDR=127.0.0.1:0")
	for _, test := range []struct {
		ts     *testServer
		path   string
		serves string
		want   bool
	}{
		{both, "/", "/search?", true}, {both, "/", "/metrics", true}, {both, "/", "/debug/requests", true},
		{apart, "/", "/search?", true}, {apart, "/", "/metrics", false}, {apart, "/", "/debug/", false},
		{apart, "admin:/", "/search?", false}, {apart, "admin:/", "/documents", false}, {apart, "admin:/", "/mcp", false},
		{apart, "admin:/", "/metrics", true}, {apart, "admin:/", "/debug/loglevel", true}, {apart, "admin:/", "/readyz", true},
	} {
		if a := test.ts.get(test.path); strings.Contains(a.body, test.serves) != test.want {
			t.Errorf("GET %s names %s: %v, want %v:\n%s", test.path, test.serves, !test.want, test.want, a.body)
		}
	}
}

func TestHeadOfAStreamIsNotAllowed(t *testing.T) {
	ts := newTestServer(t)
	for path, want := range map[string]string{"/mcp": "GET, POST", "/sse": "GET"} {
		for _, method := range []string{"HEAD", "PUT"} {
			if a := ts.do(method, path, ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != want {
				t.Errorf("%s %s: %d, Allow %q, want 405, %q", method, path, a.status, a.header.Get("Allow"), want)
			}
		}
	}
}

func TestAllowedOriginIsToldWhatItMayRead(t *testing.T) {
	ts := newTestServer(t, "ALLOWED_ORIGINS=https://app.example.com")
	a := ts.get("/search?q=a", "Origin: https://app.example.com")
	if a.status != 200 || a.header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || a.header.Get("Vary") != "Origin" {
		t.Errorf("%d %v", a.status, a.header)
	}
	for _, name := range []string{"X-Correlation-ID", "ETag", "Mcp-"} {
		if exposed := a.header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, name) {
			t.Errorf("%s is not exposed: %s", name, exposed)
		}
	}
}

func TestReadOnlyDocumentsAnswerWritesWithConflict(t *testing.T) {
	ts := newTestServer(t, "DOCS_DIR=")
	if ids := ts.search("q=documentation"); len(ids) == 0 {
		t.Error("the program's own manual is not found")
	}
	for _, method := range []string{"PUT", "DELETE"} {
		if a := ts.do(method, "/documents/README.md", "x"); a.status != http.StatusConflict || !strings.Contains(a.body, "DOCS_DIR") {
			t.Errorf("%s: %d %s, want 409 that names DOCS_DIR", method, a.status, a.body)
		}
	}
}

func TestListIsPaged(t *testing.T) {
	ts := newTestServer(t)
	for i := range 25 {
		ts.put(fmt.Sprintf("a/%02d.md", i), "x")
	}
	ts.put("b.md", "x")
	var got []string
	cursor := ""
	for range 4 {
		var page listAnswer
		if err := json.Unmarshal([]byte(ts.get("/documents?prefix=a/&limit=10&cursor="+cursor).body), &page); err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Documents {
			got = append(got, d.ID)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if len(got) != 25 || got[0] != "a/00.md" || got[24] != "a/24.md" {
		t.Errorf("got %v", got)
	}
}

func TestCorrelationIDIsTakenOverOrIsTheTraceID(t *testing.T) {
	ts := newTestServer(t)
	const trace = "0af7651916cd43dd8448eb211c80319c"
	parent := "Traceparent: 00-" + trace + "-b7ad6b7169203331-01"
	for _, test := range []struct{ name, sent, want string }{
		{"usable", "X-Correlation-ID: order-7.b_9", "order-7.b_9"},
		{"unusable start", "X-Correlation-ID: .a", trace},
		{"unusable character", "X-Correlation-ID: a*/", trace},
		{"too long", "X-Correlation-ID: " + strings.Repeat("a", 129), trace},
		{"longest", "X-Correlation-ID: " + strings.Repeat("a", 128), strings.Repeat("a", 128)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := ts.get("/livez", test.sent, parent).header.Get("X-Correlation-ID"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	a := ts.get("/livez")
	if id := a.header.Get("X-Correlation-ID"); len(id) != 32 || id == trace {
		t.Errorf("without headers: %q, want 32 hex digits", id)
	}
}

func TestTraceparentIsParsedAsW3CSays(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for text, want := range map[string]bool{
		good:                      true,
		"cc" + good[2:] + "-what": true,
		"cc" + good[2:] + "what":  false,
		good + "-what":            false,
		"ff" + good[2:]:           false,
		strings.ToUpper(good):     false,
		good[:54]:                 false,
		strings.Replace(good, "0af7651916cd43dd8448eb211c80319c", strings.Repeat("0", 32), 1): false,
		strings.Replace(good, "b7ad6b7169203331", strings.Repeat("0", 16), 1):                 false,
		"": false,
	} {
		if got := callersSpan(text).IsValid(); got != want {
			t.Errorf("callersSpan(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestEachRequestHasOneLogLine(t *testing.T) {
	ts := newTestServer(t)
	ts.put("a.md", "# Alpha\n\nbeta\n")
	id := ts.get("/search?q=secretquestion+beta", "User-Agent: tester").header.Get("X-Correlation-ID")
	line := ts.lines.find(t, "request", id)
	for key, want := range map[string]any{
		"level": "info", "service_name": "vitrine", "environment": "development", "trace_id": id, "method": "GET",
		"route": "/search", "status": 200.0, "hits": 1.0, "user_agent": "tester",
	} {
		if line[key] != want {
			t.Errorf("%s = %v, want %v", key, line[key], want)
		}
	}
	for _, key := range []string{"timestamp", "version", "span_id", "took_ms", "db_ms", "embed_ms", "bytes", "client"} {
		if line[key] == nil {
			t.Errorf("no %s in %v", key, line)
		}
	}
	if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(line["timestamp"])); err != nil || at.Location() != time.UTC {
		t.Errorf("timestamp %v is not RFC 3339 in UTC: %v", line["timestamp"], err)
	}
	if n := strings.Count(ts.lines.String(), id); n != 2 { // correlation and trace id of one line
		t.Errorf("%d mentions of %s, want one line", n, id)
	}
	for _, secret := range []string{"secretquestion", testAdminToken, "beta"} {
		if strings.Contains(ts.lines.String(), secret) {
			t.Errorf("the log contains %q", secret)
		}
	}
	ts.get("/livez")
	if strings.Contains(ts.lines.String(), "/livez") {
		t.Error("a probe is logged at info")
	}
}

func TestLogLevelChangesForAWhile(t *testing.T) {
	ts := newTestServer(t)
	ts.do("PUT", "/debug/loglevel?for=1h", "debug")
	ts.lines.find(t, "request", ts.get("/livez").header.Get("X-Correlation-ID"))
	ts.do("PUT", "/debug/loglevel?for=20ms", "error")
	waitFor(t, "the level to go back", func() bool { return ts.get("/debug/loglevel").body == "info\n" })
}

// storeStub is the store but for its searches.
type storeStub struct {
	store
	answer func(ctx context.Context) error
}

func (s storeStub) search(ctx context.Context, _ query) ([]hit, bool, error) {
	return nil, false, s.answer(ctx)
}

func TestPanicIsAnInternalErrorWithTheID(t *testing.T) {
	ts := newTestServer(t)
	ts.store = storeStub{ts.store, func(context.Context) error { panic("secret cause") }}
	a := ts.get("/search?q=a")
	if a.status != http.StatusInternalServerError || strings.Contains(a.body, "secret cause") {
		t.Errorf("%d %s", a.status, a.body)
	}
	checkErrorBody(t, a)
	line := ts.lines.find(t, "handler panicked", a.header.Get("X-Correlation-ID"))
	if line["error"] != "panic: secret cause" || !strings.Contains(fmt.Sprint(line["stack"]), "handleSearch") {
		t.Errorf("log line: %v", line)
	}
	if line := ts.lines.find(t, "request", a.header.Get("X-Correlation-ID")); line["status"] != 500.0 || line["level"] != "error" {
		t.Errorf("log line: %v", line)
	}
}

func TestPanicAfterTheAnswerBeganCutsItOff(t *testing.T) {
	ts := newTestServer(t)
	h := ts.observe.observe(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("half an answer ", 1000))
		panic("too late")
	}))
	hs := httptest.NewServer(h)
	defer hs.Close()
	resp, err := http.Get(hs.URL) //nolint:noctx // a plain request is enough
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("the client took half an answer for a whole one")
	}
}

func TestStoreTroubleIsUnavailable(t *testing.T) {
	ts := newTestServer(t)
	for _, cause := range []error{fmt.Errorf("asking: %w", errUnavailable), context.DeadlineExceeded} {
		ts.store = storeStub{ts.store, func(context.Context) error { return cause }}
		if a := ts.get("/search?q=a"); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
			t.Errorf("%v: %d %v", cause, a.status, a.header)
		}
	}
	ts.store = storeStub{ts.store, func(context.Context) error { return fmt.Errorf("secret cause") }}
	a := ts.get("/search?q=a")
	if a.status != http.StatusInternalServerError || strings.Contains(a.body, "secret cause") {
		t.Errorf("%d %s, want 500 without the cause", a.status, a.body)
	}
	if line := ts.lines.find(t, "request", a.header.Get("X-Correlation-ID")); line["error"] != "secret cause" {
		t.Errorf("the log does not name the cause: %v", line)
	}
}

func TestClientThatGoesAwayStopsTheSearch(t *testing.T) {
	ts := newTestServer(t)
	entered := make(chan struct{})
	ts.store = storeStub{ts.store, func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", ts.url+"/search?q=a", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Correlation-ID", "gone")
	go func() {
		<-entered
		cancel()
	}()
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
		t.Fatal("the cancelled request was answered")
	}
	if line := ts.lines.find(t, "request", "gone"); line["status"] != 499.0 || line["level"] != "info" {
		t.Errorf("log line: %v", line)
	}
}

func TestRateLimitIsPerClient(t *testing.T) {
	ts := newTestServer(t, "RATE_LIMIT=1", "TRUSTED_PROXIES=127.0.0.0/8")
	ask := func(client string) answer { return ts.get("/search?q=a", "X-Forwarded-For: "+client) }
	for i, want := range []int{200, 200, 429} {
		if a := ask("192.0.2.1"); a.status != want {
			t.Errorf("request %d: %d, want %d", i, a.status, want)
		} else if a.status == 429 && a.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After %q, want 1", a.header.Get("Retry-After"))
		}
	}
	if a := ask("192.0.2.2"); a.status != 200 {
		t.Errorf("another client: %d", a.status)
	}
	if a := ask("2001:db8::1"); a.status != 200 {
		t.Errorf("IPv6: %d", a.status)
	}
	ask("2001:db8::2")
	if a := ask("2001:db8::3"); a.status != 429 {
		t.Errorf("the same /64: %d, want 429", a.status)
	}
	if a := ask("evil, 192.0.2.1"); a.status != 429 {
		t.Errorf("what a client writes in front of X-Forwarded-For: %d, want 429", a.status)
	}
	for range 5 {
		if a := ts.get("/livez"); a.status != 200 {
			t.Errorf("probes are limited: %d", a.status)
		}
	}
}

func TestRateLimitBelowOneLetsARequestThrough(t *testing.T) {
	ts := newTestServer(t, "RATE_LIMIT=0.01")
	for i, want := range []int{200, 429} {
		if a := ts.get("/search?q=a"); a.status != want {
			t.Errorf("request %d: %d, want %d", i, a.status, want)
		}
	}
}

func TestForwardedForIsNotBelievedFromStrangers(t *testing.T) {
	ts := newTestServer(t, "RATE_LIMIT=1")
	status := 0
	for i := range 3 {
		status = ts.get("/search?q=a", fmt.Sprintf("X-Forwarded-For: 192.0.2.%d", i)).status
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("the third request under another forwarded address: %d, want 429", status)
	}
}

func TestLimiterIsBoundedAndRefills(t *testing.T) {
	l := newLimiter(10, 2)
	l.max = 100
	now := time.Now()
	client := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	for i := range 1000 {
		if wait := l.take(client(i), now); wait != 0 {
			t.Fatalf("client %d waits %v", i, wait)
		}
	}
	if len(l.buckets) > l.max {
		t.Errorf("%d buckets, want at most %d", len(l.buckets), l.max)
	}
	l.take(client(1), now)
	l.take(client(1), now)
	if wait := l.take(client(1), now); wait <= 0 || wait > 100*time.Millisecond {
		t.Errorf("an empty bucket waits %v, want up to 100ms", wait)
	}
	if wait := l.take(client(1), now.Add(100*time.Millisecond)); wait != 0 {
		t.Errorf("a refilled bucket waits %v", wait)
	}
}

func TestBulkAnswersEachLineWhileItReads(t *testing.T) {
	ts := newTestServer(t)
	body, send := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", ts.url+"/documents", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+testAdminToken)
	lines := make(chan string)
	go func() {
		defer close(lines)
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	for _, exchange := range [][2]string{
		{`{"id":"a.md","text":"# A\n\nalpha"}`, `{"id":"a.md","status":201}`},
		{`{"id":"a.md","text":"# A\n\nother"}`, `{"id":"a.md","status":204}`},
		{`{"id":"a","text":""}`, `"status":400`},
		{`{"id":"b.md"}`, `"status":400`},
		{`{"id":"b.md","text":"` + "\xff" + `"}`, `"status":400`},
		{`nonsense`, `"status":400`},
		{`{"id":"b.md","text":"x"} {"id":"c.md","text":"x"}`, `"status":400`},
		{"\n" + `{"id":"b.md","text":"beta"}`, `{"id":"b.md","status":201}`},
	} {
		if _, err := io.WriteString(send, exchange[0]+"\n"); err != nil {
			t.Fatal(err)
		}
		if got := <-lines; !strings.Contains(got, exchange[1]) { // before the next line is sent
			t.Errorf("%s: answered %s, want %s", exchange[0], got, exchange[1])
		}
	}
	_, _ = io.WriteString(send, `{"id":"last.md","text":"no newline"}`)
	send.Close()
	if got := <-lines; !strings.Contains(got, `{"id":"last.md","status":201}`) {
		t.Errorf("the last line: %s", got)
	}
	if line, more := <-lines; more {
		t.Errorf("one line too many: %s", line)
	}
	if a := ts.get("/documents/a.md"); a.body != "# A\n\nother" {
		t.Errorf("a.md = %q", a.body)
	}
}

func TestBulkTakesTheLongestDocumentAndRefusesALongerLine(t *testing.T) {
	ts := newTestServer(t)
	longest := strings.Repeat("word ", maxDocumentBytes/5)
	a := ts.do("POST", "/documents", `{"id":"a.md","text":"`+longest+`"}`+"\n"+
		`{"id":"b.md","text":"`+longest+`too much"}`+"\n"+
		`{"id":"c.md","text":"`+strings.Repeat("a", maxBulkLineBytes)+`"}`+"\n"+`{"id":"d.md","text":"d"}`)
	var statuses []int
	for line := range strings.Lines(a.body) {
		var result bulkLine
		if err := json.Unmarshal([]byte(line), &result); err != nil {
			t.Fatal(err)
		}
		statuses = append(statuses, result.Status)
	}
	if fmt.Sprint(statuses) != "[201 413 413 201]" {
		t.Errorf("statuses %v: %.300s", statuses, a.body)
	}
}

func TestBulkThatIsCutOffEndsWithAnErrorLine(t *testing.T) {
	ts := newTestServer(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(ts.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	line := `{"id":"a.md","text":"a"}` + "\n"
	fmt.Fprintf(conn, "POST /documents HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n5\r\n{\"i", testAdminToken, len(line), line)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got), `{"id":"a.md","status":201}`) || !strings.Contains(string(got), "cut off after 1 documents") {
		t.Errorf("got %s", got)
	}
}

// FuzzSearchParameters asks /search with any query string: it may be refused, but never breaks.
func FuzzSearchParameters(f *testing.F) {
	ts := newTestServer(f)
	ts.put("a.md", "# Alpha\n\nbeta")
	for _, query := range []string{"q=beta", "q=%ff", "q=a&limit=-1", "q=a;b", "&&&", "q=%00", "q=a&prefix=%2e", "q=検索&limit=99999999999999999999"} {
		f.Add(query)
	}
	h := ts.handler("search")
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/search", nil)
		r.Host, r.URL.RawQuery = "localhost", query
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("not JSON: %s", w.Body)
		}
	})
}

func TestWritesCompareWithTheFileItself(t *testing.T) {
	ts := newTestServer(t, "DOCS_SYNC_INTERVAL=1h")
	ts.put("a.md", "old")
	etag := ts.get("/documents/a.md").header.Get("ETag")
	ts.writeFile("a.md", "edited in the folder, not read yet")
	ts.writeFile("latin1.md", "caf\xe9")
	for _, test := range []struct{ method, id, condition string }{
		{"PUT", "a.md", "If-Match: " + etag}, {"DELETE", "a.md", "If-Match: " + etag}, {"PUT", "latin1.md", "If-None-Match: *"},
	} {
		if a := ts.do(test.method, "/documents/"+test.id, "x", test.condition); a.status != http.StatusPreconditionFailed {
			t.Errorf("%s %s %s: %d, want 412", test.method, test.id, test.condition, a.status)
		}
	}
	if a := ts.put("a.md", "x", "If-Match: W/"+etag); a.status != http.StatusPreconditionFailed {
		t.Errorf("a weak tag: %d, want 412", a.status)
	}
}

func TestBulkRefusesWhatIsNotOneDocument(t *testing.T) {
	ts := newTestServer(t)
	for line, want := range map[string]int{
		`{"id":"a.md","text":"x"}}`:                http.StatusBadRequest,
		`{"id":"a.md","text":"x"}]`:                http.StatusBadRequest,
		`{"id":"a.md","text":"\ud800"}`:            http.StatusBadRequest,
		`{"id":"a.md","text":"\uDC00\uD800"}`:      http.StatusBadRequest,
		`{"id":"pair.md","text":"\ud83d\ude00"}`:   http.StatusCreated,
		`{"id":"slash.md","text":"a\\ud800 b"}`:    http.StatusCreated,
		"{\"id\":\"real.md\",\"text\":\"\ufffd\"}": http.StatusCreated,
	} {
		if a := ts.do("POST", "/documents", line); !strings.Contains(a.body, fmt.Sprintf(`"status":%d`, want)) {
			t.Errorf("%s: %s, want %d", line, a.body, want)
		}
	}
	if a := ts.get("/documents/pair.md"); a.body != "😀" {
		t.Errorf("got %q", a.body)
	}
}

func TestWritesThroughLinkedFoldersAreRefused(t *testing.T) {
	ts := newTestServer(t)
	ts.put("real/a.md", "a")
	for link, target := range map[string]string{"inside": "real", "outside": t.TempDir()} {
		if err := os.Symlink(target, filepath.Join(ts.dir, link)); err != nil {
			t.Fatal(err)
		}
		if a := ts.put(link+"/b.md", "b"); a.status != http.StatusConflict {
			t.Errorf("%s: %d %s, want 409", link, a.status, a.body)
		}
	}
}

func TestMethodsOfACollectionAreRefusedNotRedirected(t *testing.T) {
	ts := newTestServer(t)
	for _, method := range []string{"PUT", "DELETE"} {
		if a := ts.do(method, "/documents", "x"); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD, POST" {
			t.Errorf("%s /documents: %d %q", method, a.status, a.header.Get("Allow"))
		}
	}
}

func TestLogNamesTheClientBehindAProxy(t *testing.T) {
	ts := newTestServer(t, "TRUSTED_PROXIES=127.0.0.0/8")
	id := ts.get("/search?q=a", "X-Forwarded-For: 7.7.7.7").header.Get("X-Correlation-ID")
	if line := ts.lines.find(t, "request", id); line["client"] != "7.7.7.7" {
		t.Errorf("client %v", line["client"])
	}
}

func TestCredentialsInURLsAreRedacted(t *testing.T) {
	for value, want := range map[string]string{
		"http://u:SECRET@h/v1": "http://(redacted)@h/v1", "https://h/v1?key=SECRET": "https://(redacted)@h/v1", "http://h/v1": "http://h/v1", "./docs": "./docs",
	} {
		if got := redact(value); got != want {
			t.Errorf("redact(%q) = %q, want %q", value, got, want)
		}
	}
}

func TestRefusalsLeaveRoomForWhatSucceeds(t *testing.T) {
	ts := newTestServer(t)
	for i := range 500 {
		ts.observe.metrics.requests.observe(time.Millisecond, nil, "GET", fmt.Sprint(i), "403")
	}
	ts.get("/search?q=a")
	if want := `http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200",http_route="/search"} 1`; !strings.Contains(ts.get("/metrics").body, want) {
		t.Errorf("/metrics has no %s", want)
	}
}
