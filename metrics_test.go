package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// BenchmarkScrape shows what one GET /metrics takes.
func BenchmarkScrape(b *testing.B) {
	h, _ := newOverheadHandler(b, "on", "0")
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Host = "localhost"
	for b.Loop() {
		ask(h, r)
	}
}

func TestMetricsAreThereFromTheStart(t *testing.T) {
	ts := newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=0")
	ts.get("/livez")
	text := ts.get("/metrics").body
	for _, want := range []string{
		`http_server_request_duration_seconds_bucket{http_request_method="GET",http_response_status_code="200",http_route="/livez",url_scheme="http",le="0.1"}`,
		`http_server_active_requests 1`,
		`mcp_server_operation_duration_seconds_count{error_type="",gen_ai_tool_name="search_docs",mcp_method_name="tools/call",rpc_response_status_code=""} 0`,
		`db_client_operation_duration_seconds_count{db_operation_name="SELECT",db_query_summary="search",db_system_name="vitrine",error_type=""} 0`,
		`db_client_connection_count{db_client_connection_pool_name="vitrine",db_client_connection_state="used"} 0`,
		`db_client_connection_count{db_client_connection_pool_name="vitrine",db_client_connection_state="idle"} 0`,
		`db_client_connection_pending_requests{db_client_connection_pool_name="vitrine"} 0`,
		`db_client_connection_max{db_client_connection_pool_name="vitrine"} 0`,
		`db_client_connection_timeouts_total{db_client_connection_pool_name="vitrine"} 0`,
		`vitrine_db_wait_seconds_total 0`,
		`gen_ai_client_operation_duration_seconds_count{error_type="",gen_ai_operation_name="embeddings",gen_ai_provider_name="vitrine",gen_ai_request_model="hashed-512",vitrine_embedding_kind="query"} 0`,
		`vitrine_embedding_batch_size_count 0`,
		`gen_ai_client_token_usage_count{gen_ai_operation_name="embeddings",gen_ai_provider_name="vitrine",gen_ai_request_model="hashed-512",gen_ai_token_type="input"} 0`,
		`vitrine_embedding_cache_requests_total{result="hit"} 0`,
		`vitrine_embedding_cache_requests_total{result="miss"} 0`,
		`vitrine_http_connections{state="active"} 1`,
		`vitrine_http_connections{state="idle"} 0`,
		`vitrine_sse_streams{transport="streamable_http"} 0`,
		`vitrine_sse_stream_duration_seconds_count{transport="sse"} 0`,
		`vitrine_search_results_bucket{le="0"} 0`,
		`vitrine_documents 0`,
		`vitrine_chunks 0`,
		`vitrine_index_last_success_timestamp_seconds `,
		`vitrine_index_age_seconds `,
		`vitrine_ready{check="index"} 1`,
		`vitrine_ready{check="store"} 1`,
		`vitrine_log_lines_dropped_total 0`,
		`vitrine_observability_cpu_seconds_total `,
		`vitrine_trace_queue_records 0`,
		`vitrine_spans_total{outcome="exported"} 0`,
		`vitrine_spans_total{outcome="dropped"} 0`,
		`vitrine_spans_total{outcome="failed"} 0`,
		`vitrine_span_export_last_success_timestamp_seconds 0`,
		`vitrine_span_export_age_seconds 0`,
		`vitrine_build_info{goversion="go`,
		`target_info{deployment_environment_name="development",service_name="vitrine",service_version=`,
		`go_goroutines `,
		`process_cpu_seconds_total `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	for _, le := range []string{"0.1", "0.5", "1", "2", "5"} {
		for _, family := range []string{"http_server_request", "mcp_server_operation", "db_client_operation", "gen_ai_client_operation"} {
			if !regexp.MustCompile(family + `_duration_seconds_bucket\{.*le="` + le + `"\}`).MatchString(text) {
				t.Errorf("%s has no bucket %s", family, le)
			}
		}
	}
	problems, err := testutil.GatherAndLint(ts.observe.metrics.registry)
	problems = slices.DeleteFunc(problems, func(p promlint.Problem) bool { return p.Metric == "db_client_connection_count" }) // OpenTelemetry's name
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

func TestMetricsCountWhatHappens(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=1")
	ts.put("a.md", "# Alpha\n\nbeta")
	ts.get("/search?q=beta")
	ts.get("/search?q=zxqvwk")
	ts.get("/search")
	ts.do("BREW", "/search", "")
	id := ts.get("/documents/none.md").header.Get("X-Correlation-ID")
	waitFor(t, "the size of the store, which is asked once a second", func() bool {
		return strings.Contains(ts.get("/metrics").body, "vitrine_documents 1\n")
	})
	for _, want := range []string{
		`http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200",http_route="/search",url_scheme="http"} 2`,
		`http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="400",http_route="/search",url_scheme="http"} 1`,
		`http_server_request_duration_seconds_count{http_request_method="_OTHER",http_response_status_code="405",http_route="unmatched",url_scheme="http"} 1`,
		`http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="404",http_route="/documents/{id...}",url_scheme="http"} 1`,
		`db_client_operation_duration_seconds_count{db_operation_name="SELECT",db_query_summary="search",db_system_name="vitrine",error_type=""} 2`,
		`db_client_operation_duration_seconds_count{db_operation_name="SELECT",db_query_summary="document",db_system_name="vitrine",error_type="404"} 1`,
		`db_client_operation_duration_seconds_count{db_operation_name="INSERT",db_query_summary="put",db_system_name="vitrine",error_type=""} 1`,
		`vitrine_embedding_kind="query"} 2`,
		`vitrine_search_results_bucket{le="0"} 1`,
		`vitrine_search_results_count 2`,
		`vitrine_documents 1`,
		`vitrine_chunks 1`,
	} {
		if text := ts.get("/metrics").body; !strings.Contains(text, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if text := ts.get("/metrics", "Accept: application/openmetrics-text").body; !strings.Contains(text, `span_id="`) || !strings.Contains(text, `trace_id="`+id+`"`) {
		t.Error("OpenMetrics shows no exemplar of the last request")
	}
	if text := ts.get("/metrics?name[]=vitrine_documents").body; strings.Contains(text, "go_") || !strings.Contains(text, "vitrine_documents 1") {
		t.Errorf("filtered: %s", text)
	}
}

// series counts the lines of /metrics that are samples.
func series(text string) int {
	n := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

func TestMetricsStayBoundedWhateverClientsSend(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t, "RECORD_GAPS=true", "ENABLE_PROFILING=true")
	before := series(ts.get("/metrics").body)
	h := ts.handler("search admin")
	askEverything(ts, h)
	random := func() string { return strconv.FormatUint(rand.Uint64(), 36) }
	for i := range 100_000 {
		r := httptest.NewRequest(http.MethodGet, "/"+random(), nil)
		switch i % 6 {
		case 0:
			r.Method = strings.ToUpper(random())
		case 1:
			r.Host = random()
		case 2:
			r = httptest.NewRequest([]string{"GET", "PUT", "DELETE", "POST", "HEAD"}[rand.IntN(5)], "/documents/"+random()+".md", nil)
		case 3:
			r = httptest.NewRequest(http.MethodGet, "/search?q="+random()+"&limit="+random(), nil)
		case 4:
			r.Header.Set("Origin", random())
		}
		r.Header.Set("User-Agent", random())
		if r.Host == "example.com" {
			r.Host = "localhost"
		}
		ask(h, r)
	}
	after := series(ts.get("/metrics").body)
	if after <= before || after >= 2000 {
		t.Errorf("%d series after %d, want more, but fewer than 2,000", after, before)
	}
}

// askEverything sends the messages of all goldens, and requests to all routes with headers that change the status.
func askEverything(ts *testServer, h http.Handler) {
	goldens, _ := filepath.Glob("testdata/mcp/*.golden")
	for _, file := range goldens {
		text, err := os.ReadFile(file)
		if err != nil {
			ts.t.Fatal(err)
		}
		request, _, _ := strings.Cut(string(text), "\n---\n")
		goldenResponse(ts.t, ts.url, request)
	}

	ts.writeFile("guide/install.md", "# Install")
	waitFor(ts.t, "the document", func() bool { return ts.get("/documents/guide/install.md").status == http.StatusOK })
	for _, route := range ts.routes("search admin") {
		method, path, _ := strings.Cut(route.pattern, " ")
		path = regexp.MustCompile(`\{(id|path)\.\.\.\}`).ReplaceAllString(path, "guide/install.md")
		path = strings.NewReplacer("{$}", "", "{name}", "page.css").Replace(path)
		if strings.Contains(path, "pprof/profile") || strings.Contains(path, "pprof/trace") {
			continue // they take seconds
		}
		for _, header := range []string{"X-None: a", "Range: bytes=0-1", "Range: bytes=9-", "If-None-Match: *", "If-Match: *", "Accept: text/html",
			"Authorization: Bearer " + testAdminToken, "Cookie: vitrine=a", "Content-Type: application/json"} {
			for _, method := range []string{method, "HEAD", "OPTIONS", "TRACE"} {
				ctx, cancel := context.WithTimeout(ts.t.Context(), 100*time.Millisecond) // streams do not end
				r := httptest.NewRequestWithContext(ctx, method, path, nil)
				name, value, _ := strings.Cut(header, ": ")
				r.Header.Set(name, value)
				r.Host = "localhost"
				ask(h, r)
				cancel()
			}
		}
	}
}

func TestRefusalsBeyondTheirCapShareASeries(t *testing.T) {
	h := newCappedHistogram(cappedOpts{
		name:        "test_seconds",
		help:        "A test.",
		labels:      []string{"a", "b", "error_type"},
		maxRefusals: 10,
		isRefusal:   isErrorRefusal,
		overflow:    labelValues{"other", "other", "other"},
	})
	for i := range 1000 {
		h.with(labelValues{strconv.Itoa(i), "b", "tool_error"}).ObserveWithExemplar(1, nil)
	}
	if len(h.series) != 11 { // the last one is that of all others
		t.Errorf("%d series, want 11", len(h.series))
	}
}

// TestFailuresOfOursAlwaysHaveTheirSeries makes more kinds of refusals than have a series of their own, and expects every
// failure of ours under its own labels all the same.
func TestFailuresOfOursAlwaysHaveTheirSeries(t *testing.T) {
	ts := newTestServer(t)
	h := ts.observe.metrics.operations
	for method := range methods {
		for _, code := range []string{"-32700", "-32600", "-32601", "-32602", "-32002", "-32020", "-32022"} {
			h.with(labelValues{method, "", "", code}).ObserveWithExemplar(1, nil)
		}
	}
	if text := ts.get("/metrics").body; !strings.Contains(text, `rpc_response_status_code="other"`) {
		t.Error("no refusal was folded: the test does not reach the cap")
	}
	for _, own := range ownOutcomes {
		h.with(labelValues{"tools/call", "search_docs", own}).ObserveWithExemplar(1, nil)
	}
	h.with(labelValues{"tools/call", "search_docs", toolFailure}).ObserveWithExemplar(1, nil)
	text := ts.get("/metrics").body
	for _, own := range append(ownOutcomes, toolFailure) {
		want := fmt.Sprintf(`mcp_server_operation_duration_seconds_count{error_type=%q,gen_ai_tool_name="search_docs",mcp_method_name="tools/call",rpc_response_status_code=""} 1`, own)
		if !strings.Contains(text, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
}

// TestFailuresAreBornAtZero asks a server that has not answered anything for the series that alerts divide by.
func TestFailuresAreBornAtZero(t *testing.T) {
	ts := newTestServer(t)
	text := ts.get("/metrics").body
	expect := func(format string, args ...any) {
		t.Helper()
		if want := fmt.Sprintf(format, args...); !strings.Contains(text, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	for _, rt := range ts.routes(servesBoth) {
		method, path, _ := strings.Cut(rt.pattern, " ")
		if rt.kind != short || rt.pattern == "GET /sse" || rt.pattern == "GET /mcp" {
			continue
		}
		for _, status := range []string{"200", "429", "500", "503"} {
			expect(`http_server_request_duration_seconds_count{http_request_method=%q,http_response_status_code=%q,http_route=%q,url_scheme="http"} 0`, method, status, routeLabel(path))
		}
	}
	for _, failure := range messageFailures {
		for _, tool := range tools {
			expect(`mcp_server_operation_duration_seconds_count{error_type=%q,gen_ai_tool_name=%q,mcp_method_name="tools/call",rpc_response_status_code=""} 0`, failure, tool.Name)
		}
		for method, m := range methods {
			if m.call != nil && !trivialMethods[method] {
				expect(`mcp_server_operation_duration_seconds_count{error_type=%q,gen_ai_tool_name="",mcp_method_name=%q,rpc_response_status_code="-32603"} 0`, failure, method)
			}
		}
	}
	for _, failure := range embedderFailures {
		expect(`error_type=%q,gen_ai_operation_name="embeddings",gen_ai_provider_name="vitrine",gen_ai_request_model="hashed-512",vitrine_embedding_kind="query"} 0`, failure)
	}
	if n := series(text); n > 1200 {
		t.Errorf("%d series at first", n)
	} else {
		t.Logf("%d series at first", n)
	}

	// What is born at zero counts like any other, with all its buckets.
	ts.store = storeStub{ts.store, func(context.Context) error { return errUnavailable }}
	ts.get("/search?q=a")
	text = ts.get("/metrics").body
	expect(`http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="503",http_route="/search",url_scheme="http"} 1`)
	expect(`http_server_request_duration_seconds_bucket{http_request_method="GET",http_response_status_code="503",http_route="/search",url_scheme="http",le="5"} 1`)
}

// TestOutcomesOfMessages calls what fails in every way, and expects the caller's mistakes as codes and ours as types.
func TestOutcomesOfMessages(t *testing.T) {
	for _, test := range []struct {
		name                 string
		err                  error
		wantKind, wantStatus string
	}{
		{"success", nil, "", ""},
		{"not JSON", rpcErrorf(codeParse, "x"), "", "-32700"},
		{"no method", rpcErrorf(codeMethodNotFound, "x"), "", "-32601"},
		{"bad parameters", rpcErrorf(codeInvalidParams, "x"), "", "-32602"},
		{"no resource", rpcErrorf(codeResourceNotFound, "x"), "", "-32002"},
		{"other version", rpcErrorf(codeUnsupportedVersion, "x"), "", "-32022"},
		{"not found", userError{http.StatusNotFound, "x"}, "", "-32602"},
		{"too many", tooManyRequests(1, "x"), "", "-32600"},
		{"a model's mistake", toolError{message: "x"}, "tool_error", ""},
		{"a broken tool", toolError{message: "x", cause: errUnavailable}, "unavailable", ""},
		{"a tool and the database", toolError{message: "x", cause: &databaseError{class: "57014", err: errUnavailable}}, "57000", ""},
		{"unavailable", errUnavailable, "unavailable", "-32603"},
		{"late", context.DeadlineExceeded, "timeout", "-32603"},
		{"gone", context.Canceled, "canceled", ""},
		{"no connection left", &databaseError{class: "53300", err: errUnavailable, kind: errUnavailable}, "53000", "-32603"},
		{"no table", &databaseError{class: "42P01", err: errUnavailable}, "_OTHER", "-32603"},
		{"broken", errors.New("x"), "_OTHER", "-32603"},
		{"not ready", userError{http.StatusServiceUnavailable, "x"}, "503", "-32603"},
	} {
		kind, status := messageOutcome(test.err)
		if kind != test.wantKind || status != test.wantStatus {
			t.Errorf("%s: %q %q, want %q %q", test.name, kind, status, test.wantKind, test.wantStatus)
		}
	}

	ts := newTestServer(t)
	ts.rpc("nothing/such", nil)
	ts.rpc("resources/read", map[string]any{"uri": "docs:///none.md"})
	ts.rpc("tools/call", map[string]any{"name": "get_document", "arguments": map[string]any{}})
	text := ts.get("/metrics").body
	for _, want := range []string{
		`{error_type="",gen_ai_tool_name="",mcp_method_name="_OTHER",rpc_response_status_code="-32601"} 1`,
		`{error_type="",gen_ai_tool_name="",mcp_method_name="resources/read",rpc_response_status_code="-32002"} 1`,
		`{error_type="tool_error",gen_ai_tool_name="get_document",mcp_method_name="tools/call",rpc_response_status_code=""} 1`,
	} {
		if !strings.Contains(text, "mcp_server_operation_duration_seconds_count"+want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
}

func TestSQLStatesAreAClosedSet(t *testing.T) {
	for class, want := range map[string]string{
		"57014":    "57014", // a state of its own
		"53300":    "53300",
		"53999":    "53000", // the first of its class
		"57P99":    "57000",
		"99999":    "_OTHER",
		"timeout":  "timeout",
		"canceled": "canceled",
	} {
		if got := outcome(&databaseError{class: class, err: errUnavailable}); got != want {
			t.Errorf("%s counts as %s, want %s", class, got, want)
		}
	}
}

func TestMetricsCountStreams(t *testing.T) {
	ts := newTestServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, ts.url+"/sse", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if want := `vitrine_sse_streams{transport="sse"} 1`; !strings.Contains(ts.get("/metrics").body, want) {
		t.Errorf("/metrics has no %s", want)
	}
	ts.put("a.md", "# Alpha")
	id := resp.Header.Get("X-Correlation-ID")
	waitFor(t, "the events", func() bool { return strings.Contains(ts.get("/debug/requests/"+id+"?format=json").body, "GET /sse") })
	cancel()
	for _, want := range []string{`vitrine_sse_streams{transport="sse"} 0`, `vitrine_sse_stream_duration_seconds_count{transport="sse"} 1`} {
		waitFor(t, want, func() bool { return strings.Contains(ts.get("/metrics").body, want) })
	}
	if text := ts.get("/metrics").body; strings.Contains(text, `http_route="/sse"`) {
		t.Error("a stream is counted among the requests")
	}
}

func TestRefusalsLeaveRoomForWhatSucceeds(t *testing.T) {
	ts := newTestServer(t)
	for i := range 500 {
		ts.observe.metrics.requests.with(labelValues{"GET", fmt.Sprint(i), "403"}).ObserveWithExemplar(.001, nil)
	}
	ts.get("/search?q=a")
	if want := `http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200",http_route="/search",url_scheme="http"} 1`; !strings.Contains(ts.get("/metrics").body, want) {
		t.Errorf("/metrics has no %s", want)
	}
}
