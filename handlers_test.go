package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadOnlyDocumentsAnswerWritesWithConflict(t *testing.T) {
	ts := newTestServer(t, "DOCS_DIR=")
	if ids := ts.search("q=documentation"); len(ids) == 0 {
		t.Error("the program's own manual is not found")
	}
	for _, method := range []string{"PUT", "DELETE"} {
		a := ts.do(method, "/documents/README.md", "x")
		if a.status != http.StatusConflict || !strings.Contains(a.body, "DOCS_DIR") {
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
		a := ts.get("/documents?prefix=a/&limit=10&cursor=" + cursor)
		if err := json.Unmarshal([]byte(a.body), &page); err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Documents {
			got = append(got, d.ID)
		}
		cursor = page.NextCursor
		if cursor == "" {
			break
		}
	}
	if len(got) != 25 || got[0] != "a/00.md" || got[24] != "a/24.md" {
		t.Errorf("got %v", got)
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

func TestGetServesRangesAndItsErrorsAreJSON(t *testing.T) {
	ts := newTestServer(t)
	ts.put("a.md", "# Alpha")
	etag := ts.get("/documents/a.md").header.Get("ETag")
	for _, test := range []struct {
		headers []string
		status  int
		body    string
	}{
		{nil, http.StatusOK, "# Alpha"},
		{[]string{"Range: bytes=2-4"}, http.StatusPartialContent, "Alp"},
		{[]string{"Range: bytes=2-4", `If-Range: "x"`}, http.StatusOK, "# Alpha"},
		{[]string{"Range: bytes=2-4", "If-Match: " + etag}, http.StatusPartialContent, "Alp"},
		{[]string{"Range: bytes=7-"}, http.StatusRequestedRangeNotSatisfiable, `{"error":{"code":"requested_range_not_satisfiable"`},
		{[]string{`If-Match: "x"`}, http.StatusPreconditionFailed, `{"error":{"code":"precondition_failed"`},
		{[]string{`If-Match: "x"`, "If-Match: " + etag}, http.StatusOK, "# Alpha"},
		{[]string{"If-None-Match: " + etag}, http.StatusNotModified, ""},
		{[]string{"If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT"}, http.StatusOK, "# Alpha"},
		{[]string{"If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"}, http.StatusOK, "# Alpha"},
	} {
		a := ts.get("/documents/a.md", test.headers...)
		if a.status != test.status || !strings.HasPrefix(a.body, test.body) {
			t.Errorf("%v: %d %s, want %d %s", test.headers, a.status, a.body, test.status, test.body)
		}
		isError := a.status >= http.StatusBadRequest
		if isError && a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%v: %v, want JSON", test.headers, a.header)
		}
		if !isError && a.header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%v: %v, want Cache-Control: no-cache", test.headers, a.header)
		}
	}
}

func TestWritesCompareWithTheFileItself(t *testing.T) {
	ts := newTestServer(t, "DOCS_SYNC_INTERVAL=1h")
	ts.put("a.md", "old")
	etag := ts.get("/documents/a.md").header.Get("ETag")
	ts.writeFile("a.md", "edited in the folder, not read yet")
	ts.writeFile("latin1.md", "caf\xe9")
	for _, test := range []struct{ method, id, condition string }{
		{"PUT", "a.md", "If-Match: " + etag},
		{"DELETE", "a.md", "If-Match: " + etag},
		{"PUT", "latin1.md", "If-None-Match: *"},
	} {
		a := ts.do(test.method, "/documents/"+test.id, "x", test.condition)
		if a.status != http.StatusPreconditionFailed {
			t.Errorf("%s %s %s: %d, want 412", test.method, test.id, test.condition, a.status)
		}
	}
	if a := ts.put("a.md", "x", "If-Match: W/"+etag); a.status != http.StatusPreconditionFailed {
		t.Errorf("a weak tag: %d, want 412", a.status)
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

// FuzzSearchParameters sends any query string to /search. The answer is 200 or 400, and always JSON.
func FuzzSearchParameters(f *testing.F) {
	ts := newTestServer(f)
	ts.put("a.md", "# Alpha\n\nbeta")
	for _, query := range []string{
		"q=beta", "q=%ff", "q=a&limit=-1", "q=a;b", "&&&", "q=%00", "q=a&prefix=%2e",
		"q=検索&limit=99999999999999999999",
	} {
		f.Add(query)
	}
	h := ts.handler("search")
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/search", nil)
		r.Host = "localhost"
		r.URL.RawQuery = query
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

// TestQuestionsAreLoggedOnlyAtDebug: above debug questions are private; at debug, RUNBOOK's
// VitrineZeroResultSurge reads them.
func TestQuestionsAreLoggedOnlyAtDebug(t *testing.T) {
	ts := newTestServer(t)
	ts.get("/search?q=zxqvwk")
	ts.lines.find(t, "request", "")
	if strings.Contains(ts.lines.String(), "zxqvwk") {
		t.Error("the question is in the log")
	}
	ts.level.change(slog.LevelDebug, 0)
	ts.get("/search?q=zxqvwk")
	if line := ts.lines.find(t, "searched", ""); line["query"] != "zxqvwk" || line["hits"] != 0.0 {
		t.Errorf("%v", line)
	}
}

func TestUnknownParametersAreRefused(t *testing.T) {
	ts := newTestServer(t, "ENABLE_PROFILING=true", "RECORD_GAPS=true")
	ts.put("guide/install.md", "# Install\n")
	for _, test := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/search?q=a&limt=1", 400, `\"limt\" is not a parameter: there are limit, q, prefix, partial, explain`},
		{"GET", "/search?q=a&Q=b", 400, `\"Q\" is not a parameter`},
		{"GET", "/search?q=a&q=b", 400, "q has 2 values: give one"},
		{"GET", "/search?q=a&limit=1&limit=2", 400, "limit has 2 values"},
		{"GET", "/search?q=install&limit=1", 200, `"hits"`},
		{"GET", "/documents?prefx=guide/", 400, `\"prefx\" is not a parameter: there are limit, prefix, cursor`},
		{"GET", "/documents?prefix=a&prefix=b", 400, "prefix has 2 values"},
		{"GET", "/documents/guide/install.md?format=html", 400, `\"format\" is not a parameter: there are none here`},
		{"GET", "/documents/guide/install.md?", 200, "# Install"},
		{"PUT", "/documents/guide/other.md?create=1", 400, `\"create\" is not a parameter`},
		{"DELETE", "/documents/guide/install.md?force", 400, `\"force\" is not a parameter`},
		{"POST", "/documents?overwrite=1", 400, `\"overwrite\" is not a parameter`},
		{"GET", "/debug/requests?fromat=json", 400, `\"fromat\" is not a parameter: there are format`},
		{"GET", "/debug/requests?format=xml", 400, `format=\"xml\" is neither json nor text`},
		{"GET", "/debug/requests?format=json&format=text", 400, "format has 2 values"},
		{"GET", "/debug/requests?format=text", 200, "in flight:"},
		{"GET", "/debug/requests?format=json", 200, `"in_flight"`},
		{"GET", "/debug/requests/none?verbose", 400, `\"verbose\" is not a parameter`},
		{"GET", "/debug/gaps?format=csv", 400, "neither json nor text"},
		{"GET", "/debug/gaps?limit=1", 400, `\"limit\" is not a parameter`},
		{"GET", "/debug/loglevel?for=10m", 400, `\"for\" is not a parameter`},
		{"PUT", "/debug/loglevel?four=10m", 400, `\"four\" is not a parameter: there are for`},
		{"GET", "/debug/pprof/profile?secnds=1", 400, `\"secnds\" is not a parameter: there are seconds, debug, gc`},
		{"GET", "/debug/pprof/heap?gc=1&debug=1", 200, "heap profile"},
		{"GET", "/debug/flight?seconds=1&seconds=2", 400, "seconds has 2 values"},

		// Links, probes and scrapers carry parameters that others have added.
		{"GET", "/?utm_source=mail", 200, "curl"},
		{"GET", "/read/guide/install.md?utm_source=mail", 200, "# Install"},
		{"GET", "/readyz?from=probe", 200, "ok"},
		{"GET", "/metrics?from=scraper", 200, "vitrine_ready"},
		{"GET", "/llms.txt?from=model", 200, "install.md"},
	} {
		a := ts.do(test.method, test.path, "")
		if a.status != test.status || !strings.Contains(a.body, test.want) {
			t.Errorf("%s %s: %d %.300s, want %d and %s", test.method, test.path, a.status, a.body, test.status, test.want)
		}
	}
}

// TestRangesAreBounded asks for many parts of one document, which cost more than the whole.
func TestRangesAreBounded(t *testing.T) {
	t.Parallel()
	text := "# A\n\n" + strings.Repeat("Some text.\n", 2000)
	ts := newMCPServer(t, map[string]string{"a.md": text}, nil)
	for n, want := range map[int]int{
		1:             http.StatusPartialContent,
		2:             http.StatusPartialContent,
		maxRanges:     http.StatusPartialContent,
		maxRanges + 1: http.StatusOK,
		5000:          http.StatusOK,
	} {
		var ranges []string
		for i := range n {
			ranges = append(ranges, fmt.Sprintf("%d-%d", 4*i, 4*i+1))
		}
		for _, path := range []string{"/documents/a.md", "/read/a.md"} {
			got := ts.get(path, "Range: bytes="+strings.Join(ranges, ","))
			if got.status != want || want == http.StatusOK && got.body != text {
				t.Errorf("%s: %d ranges: %d with %d bytes, want %d", path, n, got.status, len(got.body), want)
			}
		}
	}
}
