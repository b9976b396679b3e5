package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// newOverheadHandler returns the outermost handler over the manual, or the set that EVAL_DIR names, and questions to ask it.
// Everything is on, with a live collector and a log that is read, unless observability is off.
func newOverheadHandler(b *testing.B, observability, rate string) (http.Handler, []string) {
	b.Helper()
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	b.Cleanup(collector.Close)
	s, questions := newLoadedServer(b, observability, rate, collector.URL, io.Discard)
	return s.handler("search admin"), questions
}

func newLoadedServer(b *testing.B, observability, rate, collector string, stdout io.Writer) (*server, []string) {
	b.Helper()
	b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
	vars := map[string]string{"OBSERVABILITY": observability, "OTEL_TRACE_SAMPLE_RATE": rate, "OTEL_TRACES_EXPORTER": "otlp", "RATE_LIMIT": "0"}
	s := newServerOf(b, vars, stdout)
	b.Cleanup(s.close)
	set := manualSet(b)
	if dir := os.Getenv("EVAL_DIR"); dir != "" {
		set = directorySet(b, dir)
	}
	m := newMemory(nil, 0.5)
	if err := m.sync(b.Context(), time.Now(), set.documents, nil); err != nil {
		b.Fatal(err)
	}
	s.store = m
	s.ready.Store(true)
	questions := make([]string, 0, len(set.questions))
	for _, q := range set.questions {
		questions = append(questions, q.text)
	}
	return s, questions
}

// discard is a ResponseWriter that costs nearly nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

func ask(h http.Handler, r *http.Request) {
	h.ServeHTTP(&discard{make(http.Header)}, r)
}

// BenchmarkRequest shows what is added to a request of four stages: with everything off, on but not kept, and on and kept. The
// question is the cheapest, so that the difference is not lost in the search.
func BenchmarkRequest(b *testing.B) {
	for _, mode := range [][2]string{{"off", "0"}, {"on", "0"}, {"on", "1"}} {
		b.Run(fmt.Sprintf("observability=%s/rate=%s", mode[0], mode[1]), func(b *testing.B) {
			h, _ := newOverheadHandler(b, mode[0], mode[1])
			r := httptest.NewRequest(http.MethodGet, "/search?q=x", nil)
			r.Host = "localhost"
			b.ReportAllocs()
			for b.Loop() {
				ask(h, r)
			}
		})
	}
}

// BenchmarkOverhead measures what everything on at a rate of 0.1 costs a search: the CPU time of the whole process, exporter
// and log included, in turns of 200 requests on and 200 off, and reports the median of the turns' ratios:
// EVAL_DIR=<set> go test -run '^$' -bench Overhead -cpu 1 -benchtime 100x .
func BenchmarkOverhead(b *testing.B) {
	const turn = 200
	off, questions := newOverheadHandler(b, "off", "0")
	on, _ := newOverheadHandler(b, "on", "0.1")
	next := 0
	spend := func(h http.Handler, first int) time.Duration {
		started := cpuTime(b)
		for i := range turn {
			r := httptest.NewRequest(http.MethodGet, "/search?q="+url.QueryEscape(questions[(first+i)%len(questions)]), nil)
			r.Host = "localhost"
			ask(h, r)
		}
		return cpuTime(b) - started
	}
	spend(off, 0)
	spend(on, 0)
	var ratios, added []float64
	for b.Loop() {
		var spentOff, spentOn time.Duration
		if next%2 == 0 {
			spentOff, spentOn = spend(off, next*turn), spend(on, next*turn)
		} else {
			spentOn, spentOff = spend(on, next*turn), spend(off, next*turn)
		}
		next++
		ratios = append(ratios, float64(spentOn)/float64(spentOff))
		added = append(added, float64(spentOn-spentOff)/turn/float64(time.Microsecond))
	}
	slices.Sort(ratios)
	slices.Sort(added)
	b.ReportMetric(100*(ratios[len(ratios)/2]-1), "%overhead")
	b.ReportMetric(added[len(added)/2], "µs-added")
}

// BenchmarkTrouble reports the 50th and 99th percentile of searches while what is around the server is in trouble, every trace
// kept, and the memory that waits: go test -run '^$' -bench Trouble -benchtime 3000x .
func BenchmarkTrouble(b *testing.B) {
	answer := func(status int, hang bool) string {
		collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if hang {
				<-r.Context().Done()
			}
			w.WriteHeader(status)
		}))
		b.Cleanup(func() { collector.CloseClientConnections(); collector.Close() })
		return collector.URL
	}
	blocked := &blockedWriter{released: make(chan struct{})}
	b.Cleanup(func() { close(blocked.released) })
	for _, trouble := range []struct {
		name, collector string
		stdout          io.Writer
		scrapers        int
	}{
		{"none", answer(200, false), io.Discard, 0},
		{"collector=refuses", "http://127.0.0.1:1", io.Discard, 0},
		{"collector=503", answer(503, false), io.Discard, 0},
		{"collector=hangs", answer(200, true), io.Discard, 0},
		{"stdout=blocked", answer(200, false), blocked, 0},
		{"scrapes=20", answer(200, false), io.Discard, 20},
	} {
		b.Run(trouble.name, func(b *testing.B) {
			s, questions := newLoadedServer(b, "on", "1", trouble.collector, trouble.stdout)
			h := s.handler("search admin")
			request := func(path string) *http.Request {
				r := httptest.NewRequest(http.MethodGet, path, nil)
				r.Host = "localhost"
				return r
			}
			ctx, cancel := context.WithCancel(b.Context())
			var scraping sync.WaitGroup
			for range trouble.scrapers {
				scraping.Go(func() {
					for ctx.Err() == nil {
						ask(h, request("/metrics"))
						time.Sleep(time.Second)
					}
				})
			}
			var took []time.Duration
			for b.Loop() {
				started := time.Now()
				ask(h, request("/search?q="+url.QueryEscape(questions[len(took)%len(questions)])))
				took = append(took, time.Since(started))
			}
			cancel()
			scraping.Wait()
			slices.Sort(took)
			b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
			b.ReportMetric(milliseconds(took[len(took)*99/100]), "p99-ms")
			b.ReportMetric(float64(heapBytes())/(1<<20), "heap-MB")
		})
	}
}

// BenchmarkScrape shows what one GET /metrics takes.
func BenchmarkScrape(b *testing.B) {
	h, _ := newOverheadHandler(b, "on", "0")
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Host = "localhost"
	for b.Loop() {
		ask(h, r)
	}
}

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func TestMetricsAreThereFromTheStart(t *testing.T) {
	ts := newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=0")
	ts.get("/livez")
	text := ts.get("/metrics").body
	for _, want := range []string{
		`http_server_request_duration_seconds_bucket{http_request_method="GET",http_response_status_code="200",http_route="/livez",le="0.1"}`,
		`http_server_active_requests 1`,
		`mcp_server_operation_duration_seconds_count{error_type="",gen_ai_tool_name="search_docs",mcp_method_name="tools/call"} 0`,
		`db_client_operation_duration_seconds_count{db_operation_name="SELECT",db_query_summary="search",error_type=""} 0`,
		`db_client_connection_count{db_client_connection_state="used"} 0`,
		`db_client_connection_count{db_client_connection_state="idle"} 0`,
		`db_client_connection_pending_requests 0`,
		`db_client_connection_max 0`,
		`db_client_connection_timeouts_total 0`,
		`vitrine_db_wait_seconds_total 0`,
		`gen_ai_client_operation_duration_seconds_count{error_type="",gen_ai_operation_name="embeddings",gen_ai_request_model="hashed-512",vitrine_embedding_kind="query"} 0`,
		`vitrine_embedding_batch_size_count 0`,
		`gen_ai_client_token_usage_count 0`,
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
		`vitrine_ready{check="index"} 1`,
		`vitrine_ready{check="store"} 1`,
		`vitrine_log_lines_dropped_total 0`,
		`vitrine_trace_queue_records 0`,
		`vitrine_spans_total{outcome="exported"} 0`,
		`vitrine_spans_total{outcome="dropped"} 0`,
		`vitrine_spans_total{outcome="failed"} 0`,
		`vitrine_span_export_last_success_timestamp_seconds 0`,
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
	ts := newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=1")
	ts.put("a.md", "# Alpha\n\nbeta")
	ts.get("/search?q=beta")
	ts.get("/search?q=zxqvwk")
	ts.get("/search")
	ts.do("BREW", "/search", "")
	id := ts.get("/documents/none.md").header.Get("X-Correlation-ID")
	time.Sleep(1100 * time.Millisecond) // the store is asked once a second
	for _, want := range []string{
		`http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200",http_route="/search"} 2`,
		`http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="400",http_route="/search"} 1`,
		`http_server_request_duration_seconds_count{http_request_method="_OTHER",http_response_status_code="405",http_route="unmatched"} 1`,
		`http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="404",http_route="/documents/{id...}"} 1`,
		`db_client_operation_duration_seconds_count{db_operation_name="SELECT",db_query_summary="search",error_type=""} 2`,
		`db_client_operation_duration_seconds_count{db_operation_name="SELECT",db_query_summary="document",error_type="404"} 1`,
		`db_client_operation_duration_seconds_count{db_operation_name="INSERT",db_query_summary="put",error_type=""} 1`,
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
	ts := newTestServer(t)
	h := ts.handler("search admin")
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
	if n := series(ts.get("/metrics").body); n >= 2000 {
		t.Errorf("%d series, want fewer than 2,000", n)
	}
}

func TestMetricsFoldCombinationsBeyondTheirCap(t *testing.T) {
	h := newClosedHistogram("test_seconds", "A test.", []float64{1}, 10, "a", "b", "c")
	for i := range 1000 {
		h.observe(time.Second, nil, strconv.Itoa(i), "b", "c")
	}
	if len(h.seen) != 11 { // and the one that the others are folded into
		t.Errorf("%d combinations, want 11", len(h.seen))
	}
}

// tree draws the spans of a trace as an indented tree, in the order in which they began, without times and ids.
func tree(spans tracetest.SpanStubs) string {
	var out strings.Builder
	var draw func(parent trace.SpanID, depth int)
	draw = func(parent trace.SpanID, depth int) {
		for _, s := range spans {
			if s.Parent.SpanID() != parent {
				continue
			}
			attrs := make([]string, 0, len(s.Attributes))
			for _, a := range s.Attributes {
				switch a.Key {
				case "vitrine.correlation_id", "client.port", "http.response.body.size", "gen_ai.request.model":
				default:
					attrs = append(attrs, fmt.Sprintf("%s=%s", a.Key, a.Value.String()))
				}
			}
			slices.Sort(attrs)
			status := ""
			if s.Status.Code == codes.Error {
				status = " ERROR"
			}
			fmt.Fprintf(&out, "%s%s (%s)%s %s\n", strings.Repeat("  ", depth), s.Name, s.SpanKind, status, strings.Join(attrs, " "))
			draw(s.SpanContext.SpanID(), depth+1)
		}
	}
	roots := make(map[trace.SpanID]bool)
	for _, s := range spans {
		roots[s.Parent.SpanID()] = true
	}
	for _, s := range spans {
		delete(roots, s.SpanContext.SpanID())
	}
	for parent := range roots {
		draw(parent, 0)
	}
	return out.String()
}

// wait returns the spans of the trace once n are exported.
func wait(t *testing.T, exporter *tracetest.InMemoryExporter, id string, n int) tracetest.SpanStubs {
	t.Helper()
	var found tracetest.SpanStubs
	waitFor(t, fmt.Sprintf("%d spans of %s", n, id), func() bool {
		found = nil
		for _, s := range exporter.GetSpans() {
			if s.SpanContext.TraceID().String() == id {
				found = append(found, s)
			}
		}
		return len(found) >= n
	})
	return found
}

func TestTracingDrawsTheTreeOfARequest(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	parent := "Traceparent: 00-" + id + "-b7ad6b7169203331-01"
	for _, test := range []struct {
		name  string
		do    func(ts *testServer)
		spans int
		want  string
	}{
		{"search", func(ts *testServer) { ts.get("/search?q=alpha&limit=3", parent) }, 5, `
GET /search (server) client.address=127.0.0.1 hits=1 http.request.method=GET http.response.status_code=200 http.route=/search url.path=/search url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=caller
  retrieval documents (client) gen_ai.operation.name=retrieval gen_ai.request.top_k=3 hits=1
    embeddings hashed-512 (client) gen_ai.operation.name=embeddings vitrine.embedding.kind=query
    search (client) db.operation.name=SELECT db.query.summary=search
    rank (internal) 
`},
		{"put", func(ts *testServer) { ts.do("PUT", "/documents/b.md", "x", parent) }, 4, `
PUT /documents/{id...} (server) client.address=127.0.0.1 http.request.method=PUT http.response.status_code=201 http.route=/documents/{id...} url.path=/documents/b.md url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=caller
  embeddings hashed-512 (client) gen_ai.operation.name=embeddings vitrine.embedding.batch_size=1 vitrine.embedding.kind=batch
  put (client) db.operation.name=INSERT db.query.summary=put
    file (internal) operation=write
`},
		{"bulk load", func(ts *testServer) {
			ts.do("POST", "/documents", `{"id":"b.md","text":"x"}`+"\n"+`{"id":"c","text":"x"}`, parent)
		}, 4, `
POST /documents (server) client.address=127.0.0.1 documents=1 http.request.method=POST http.response.status_code=200 http.route=/documents url.path=/documents url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=caller
  embeddings hashed-512 (client) gen_ai.operation.name=embeddings vitrine.embedding.batch_size=1 vitrine.embedding.kind=batch
  put (client) db.operation.name=INSERT db.query.summary=put
    file (internal) operation=write
`},
		{"failing store", func(ts *testServer) {
			ts.store = storeStub{ts.store, func(ctx context.Context) error {
				_, end := stage(ctx, "db", queries["search"]...)
				err := fmt.Errorf("secret cause: %w", errUnavailable)
				end(&err)
				return err
			}}
			ts.get("/search?q=alpha", strings.Replace(parent, "-01", "-00", 1))
		}, 3, `
GET /search (server) ERROR client.address=127.0.0.1 error.type=unavailable error=secret cause: unavailable http.request.method=GET http.response.status_code=503 http.route=/search url.path=/search url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=failed
  retrieval documents (client) ERROR error.type=unavailable gen_ai.operation.name=retrieval gen_ai.request.top_k=5
    search (client) ERROR db.operation.name=SELECT db.query.summary=search error.type=unavailable
`},
		{"cancelled request", func(ts *testServer) {
			ctx, cancel := context.WithCancel(t.Context())
			ts.store = storeStub{ts.store, func(ctx context.Context) error {
				_, end := stage(ctx, "db", queries["search"]...)
				cancel() // the client goes while the store works
				<-ctx.Done()
				err := ctx.Err()
				end(&err)
				return err
			}}
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, ts.url+"/search?q=alpha", http.NoBody)
			r.Header.Set("Traceparent", strings.TrimPrefix(parent, "Traceparent: "))
			if _, err := http.DefaultClient.Do(r); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}, 3, `
GET /search (server) client.address=127.0.0.1 error=context canceled http.request.method=GET http.response.status_code=499 http.route=/search url.path=/search url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=caller
  retrieval documents (client) ERROR error.type=canceled gen_ai.operation.name=retrieval gen_ai.request.top_k=5
    search (client) ERROR db.operation.name=SELECT db.query.summary=search error.type=canceled
`},
		{"tool call of the 2026 era", func(ts *testServer) {
			ts.do("POST", "/mcp", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search_docs","arguments":{"query":"alpha"},"_meta":{
				"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},
				"io.modelcontextprotocol/clientInfo":{"name":"tester","version":"1"},"traceparent":"00-`+id+`-b7ad6b7169203331-01"}}}`,
				"Content-Type: application/json", "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: search_docs")
		}, 7, `
POST /mcp (server) client.address=127.0.0.1 hits=1 http.request.method=POST http.response.status_code=200 http.route=/mcp mcp_client=tester 1 mcp_method=tools/call tool=search_docs url.path=/mcp url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=caller
  tools/call search_docs (server) gen_ai.operation.name=execute_tool gen_ai.tool.name=search_docs jsonrpc.request.id=7 mcp.method.name=tools/call mcp.protocol.version=2026-07-28 network.transport=tcp
    execute_tool search_docs (internal) gen_ai.tool.name=search_docs
      retrieval documents (client) gen_ai.operation.name=retrieval gen_ai.request.top_k=5 hits=1
        embeddings hashed-512 (client) gen_ai.operation.name=embeddings vitrine.embedding.kind=query
        search (client) db.operation.name=SELECT db.query.summary=search
        rank (internal) 
`},
		{"tool call of the initialize era that fails", func(ts *testServer) {
			ts.do("POST", "/mcp", `{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"get_document","arguments":{"id":"none.md"}}}`,
				"Content-Type: application/json", "Mcp-Protocol-Version: 2025-11-25", parent)
		}, 4, `
POST /mcp (server) client.address=127.0.0.1 error=no document "none.md": look for it with search_docs, or list_documents {"prefix":""} http.request.method=POST http.response.status_code=200 http.route=/mcp mcp_method=tools/call tool=get_document url.path=/mcp url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=caller
  tools/call get_document (server) ERROR error.type=tool_error gen_ai.operation.name=execute_tool gen_ai.tool.name=get_document jsonrpc.request.id=a mcp.method.name=tools/call mcp.protocol.version=2025-11-25 network.transport=tcp
    execute_tool get_document (internal) ERROR error.type=tool_error gen_ai.tool.name=get_document
      document (client) db.operation.name=SELECT db.query.summary=document error.type=404
`},
		{"not found", func(ts *testServer) { ts.get("/documents/none.md", parent) }, 2, `
GET /documents/{id...} (server) client.address=127.0.0.1 error=no such document: GET /documents lists them http.request.method=GET http.response.status_code=404 http.route=/documents/{id...} url.path=/documents/none.md url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=caller
  document (client) db.operation.name=SELECT db.query.summary=document error.type=404
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			ts := newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=0", "DOCS_SYNC_INTERVAL=1h")
			ts.put("a.md", "# Alpha")
			exporter := ts.spans
			test.do(ts)
			spans := wait(t, exporter, id, test.spans)
			if got := tree(spans); got != test.want[1:] {
				t.Errorf("got\n%s\nwant%s", got, test.want)
			}
			for _, s := range spans {
				if s.EndTime.Before(s.StartTime) || s.StartTime.Before(spans[0].StartTime) || s.EndTime.After(spans[0].EndTime) {
					t.Errorf("%s runs from %v to %v, not within its request", s.Name, s.StartTime, s.EndTime)
				}
			}
		})
	}
}

func TestTracingKeepsFailedRequestsWholeAtRateZero(t *testing.T) {
	ts := newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=0", "DOCS_SYNC_INTERVAL=1h", "SLOW_REQUEST=1h")
	ts.put("a.md", "# Alpha")
	exporter := ts.spans
	fails := 0
	inner := ts.store
	ts.store = storeStub{inner, func(ctx context.Context) error {
		if fails++; fails%100 == 0 {
			_, end := stage(ctx, "db", queries["search"]...)
			err := errors.New("broken")
			end(&err)
			return err
		}
		_, _, err := inner.search(ctx, query{text: "alpha", limit: 1})
		return err
	}}
	want := make(map[string]bool)
	for i := range 1000 {
		parent := ""
		if i%2 == 0 { // a caller that does not sample has no veto
			parent = fmt.Sprintf("Traceparent: 00-0af7651916cd43dd8448eb2100000%03d-b7ad6b7169203331-00", i)
		}
		a := ts.get("/search?q=alpha", parent)
		if a.status == http.StatusInternalServerError {
			want[a.header.Get("X-Correlation-ID")] = true
		}
	}
	waitFor(t, "the export", func() bool { return ts.observe.traces.exported.Load() >= 30 })
	time.Sleep(2 * exportPause) // were there more, they would come now
	perTrace := make(map[string]int)
	for _, s := range exporter.GetSpans() {
		perTrace[s.SpanContext.TraceID().String()]++
	}
	if len(want) != 10 || len(perTrace) != 10 {
		t.Fatalf("%d failed, %d traces exported, want 10", len(want), len(perTrace))
	}
	for id, n := range perTrace {
		if !want[id] || n != 3 {
			t.Errorf("trace %s: %d spans, failed %v; want 3 of a failed one", id, n, want[id])
		}
	}
	if n := ts.observe.traces.exported.Load(); n != 30 {
		t.Errorf("%d spans counted as exported, want 30", n)
	}
}

func TestTracingKeepsSlowOnesAndFewForTheirCallersSake(t *testing.T) {
	ts := newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=0", "SLOW_REQUEST=1ns")
	if line := ts.lines.find(t, "request", ts.get("/search?q=a").header.Get("X-Correlation-ID")); line["kept"] != "slow" || line["level"] != "warn" {
		t.Errorf("log line: %v", line)
	}
	ts = newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=0", "SLOW_REQUEST=1h")
	kept := 0
	for i := range 100 {
		id := ts.get("/search?q=a", fmt.Sprintf("Traceparent: 00-0af7651916cd43dd8448eb2100000%03d-b7ad6b7169203331-01", i)).header.Get("X-Correlation-ID")
		if ts.lines.find(t, "request", id)["kept"] == "caller" {
			kept++
		}
	}
	if kept < maxSampledByCaller || kept == 100 {
		t.Errorf("%d of 100 kept because their caller asked for it, want about %d a second", kept, maxSampledByCaller)
	}
}

func TestTracingSendsOTLP(t *testing.T) {
	received := make(chan []byte, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/v1/traces" {
			received <- body
		}
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	ts := newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=1", "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_SERVICE_NAME=docs")
	id, err := hex.DecodeString(ts.get("/search?q=a").header.Get("X-Correlation-ID"))
	if err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case body := <-received:
			if bytes.Contains(body, id) && bytes.Contains(body, []byte("GET /search")) && bytes.Contains(body, []byte("docs")) {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the trace did not reach the collector")
		}
	}
}

// brokenExporter fails, or hangs until it is released.
type brokenExporter struct{ hang chan struct{} }

func (e brokenExporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	if e.hang == nil {
		return errors.New("refused")
	}
	<-e.hang
	return nil
}
func (e brokenExporter) Shutdown(context.Context) error { return nil }

func TestTracingCountsEveryLoss(t *testing.T) {
	logs := new(logBuffer)
	cfg := new(settings)
	rec := &record{stages: make([]stageRecord, 2), start: time.Now()}
	for i := range rec.stages {
		rec.stages[i].parent = -1
	}
	t.Run("failed", func(t *testing.T) {
		e := startTraceExport(brokenExporter{}, resource.Empty(), newLogger(logs, newLogLevel(0), cfg))
		for range 10 {
			e.add(rec)
		}
		e.close(10 * time.Second)
		if failed, dropped := e.failed.Load(), e.dropped.Load(); failed != 30 || dropped != 0 {
			t.Errorf("%d failed, %d dropped, want 30 and 0", failed, dropped)
		}
		if n := strings.Count(logs.String(), "spans could not be exported"); n != 1 {
			t.Errorf("%d log lines, want 1", n)
		}
	})
	t.Run("dropped", func(t *testing.T) {
		hang := make(chan struct{})
		e := startTraceExport(brokenExporter{hang}, resource.Empty(), newLogger(logs, newLogLevel(0), cfg))
		const records = 2 * traceQueueRecords
		for range records {
			e.add(rec)
		}
		close(hang)
		e.close(30 * time.Second)
		if exported, dropped := e.exported.Load(), e.dropped.Load(); exported+dropped != 3*records || dropped == 0 {
			t.Errorf("%d exported, %d dropped, want %d together", exported, dropped, 3*records)
		}
	})
}

// blockedWriter takes nothing until it is released.
type blockedWriter struct {
	released chan struct{}
	logBuffer
}

func (w *blockedWriter) Write(p []byte) (int, error) {
	<-w.released
	return w.logBuffer.Write(p)
}

func TestLogThatNobodyReadsBlocksNobodyAndCountsItsLosses(t *testing.T) {
	w := &blockedWriter{released: make(chan struct{})}
	cfg := &settings{serviceName: "docs"}
	l := newLogWriter(w, newLogger(w, newLogLevel(0), cfg))
	log := newLogger(l, newLogLevel(0), cfg)
	const lines = 20_000
	for i := range lines {
		log.Info("line", "number", i, "padding", strings.Repeat("x", 100))
	}
	dropped := l.dropped.Load()
	if dropped == 0 || len(l.waiting) > maxLogBytes {
		t.Errorf("%d lines dropped, %d bytes waiting", dropped, len(l.waiting))
	}
	close(w.released)
	waitFor(t, "the report", func() bool { return strings.Contains(w.String(), "log lines dropped") })
	l.close(5 * time.Second)
	if written := int64(strings.Count(w.String(), `"message":"line"`)); written+dropped != lines {
		t.Errorf("%d written + %d dropped, want %d", written, dropped, lines)
	}
	if report := w.find(t, "log lines dropped", ""); report["count"] != float64(dropped) || report["service_name"] != "docs" {
		t.Errorf("the report is %v, want the number %d", report, dropped)
	}
}

func TestObservabilityOffKeepsTheIDsAndTheFailures(t *testing.T) {
	ts := newTestServer(t, "OBSERVABILITY=off")
	id := ts.get("/search?q=a").header.Get("X-Correlation-ID")
	if len(id) != 32 || strings.Contains(ts.lines.String(), id) {
		t.Errorf("id %q, log %s", id, ts.lines)
	}
	if text := ts.get("/metrics").body; strings.Contains(text, "http_server_request_duration_seconds_count{") || !strings.Contains(text, "go_goroutines") {
		t.Error("requests are measured, or the runtime is not")
	}
	ts.store = storeStub{ts.store, func(context.Context) error { return errors.New("broken") }}
	ts.lines.find(t, "request", ts.get("/search?q=a").header.Get("X-Correlation-ID"))
}

func TestSecretsAreInNoOutput(t *testing.T) {
	const canary = "CANARY7f3a"
	ts := newTestServer(t, "API_TOKEN=api-"+canary, "OTEL_TRACE_SAMPLE_RATE=1")
	exporter := ts.spans
	ts.put("a.md", "# Title "+canary+"\n\ntext "+canary)
	ts.get("/search?q="+canary, "Authorization: Bearer api-"+canary)
	ts.get("/search?q="+canary, "Authorization: Bearer wrong-"+canary)
	ts.get("/search?q="+canary, "Authorization: Basic "+canary, "Cookie: "+canary)
	ts.do("POST", "/documents", `{"id":"b.md","text":"`+canary+`"}`+"\nnot json "+canary)
	ts.store = storeStub{ts.store, func(context.Context) error { return errors.New("broken") }}
	last := ts.get("/search?q=" + canary).header.Get("X-Correlation-ID")
	ts.lines.find(t, "request", last)
	wait(t, exporter, last, 2)
	outputs := map[string]string{
		"log": ts.lines.String(), "spans": fmt.Sprintf("%+v", exporter.GetSpans()), "metrics": ts.get("/metrics").body,
		"requests": ts.get("/debug/requests?format=json").body, "waterfall": ts.get("/debug/requests/" + last).body,
	}
	for name, text := range outputs {
		if strings.Contains(text, canary) || strings.Contains(text, testAdminToken) {
			t.Errorf("%s shows a secret: %s", name, text)
		}
	}
}

func TestStagesBeyondTheRoomAreSummedAndCounted(t *testing.T) {
	ts := newTestServer(t)
	var lines strings.Builder
	for i := range 100 {
		fmt.Fprintf(&lines, "{\"id\":\"%d.md\",\"text\":\"x\"}\n", i)
	}
	id := ts.do("POST", "/documents", lines.String()).header.Get("X-Correlation-ID")
	if line := ts.lines.find(t, "request", id); line["stages_summed"] != 236.0 { // 300 stages, embed, put and file, less 64
		t.Errorf("log line: %v", line)
	}
	if want := `db_query_summary="put",error_type=""} 100`; !strings.Contains(ts.get("/metrics").body, want) {
		t.Errorf("/metrics has no %s", want)
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

func TestFolderScansAreJobsWithTheirOwnRecord(t *testing.T) {
	ts := newTestServer(t, "DOCS_SYNC_INTERVAL=100ms")
	ts.writeFile("a.md", "# Alpha")
	line := ts.lines.find(t, "job", "")
	if line["job"] != "folder_scan" || line["read"] != 1.0 || line["trace_id"] == nil || line["took_ms"] == nil {
		t.Errorf("log line: %v", line)
	}
	id := fmt.Sprint(line["correlation_id"])
	if a := ts.get("/debug/requests/" + id); !strings.Contains(a.body, "folder_scan  ok") || !strings.Contains(a.body, "  sync ") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestOneIDLeadsThroughAllPlaces follows a search on a real PostgreSQL from its id, while it runs and afterwards.
func TestOneIDLeadsThroughAllPlaces(t *testing.T) {
	url := newDatabase(t)
	ts := newTestServer(t, "DATABASE_URL="+url, "DOCS_DIR=", "OTEL_TRACE_SAMPLE_RATE=1", "ENABLE_PROFILING=true")
	waitFor(t, "the store", func() bool { return ts.get("/readyz").status == http.StatusOK })
	if a := ts.put("a.md", "# Alpha\n\nbeta"); a.status != http.StatusCreated {
		t.Fatalf("PUT: %d %s", a.status, a.body)
	}
	exporter := ts.spans
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	lock, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.Exec("LOCK TABLE chunks IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	const id, traceID = "one-id", "0af7651916cd43dd8448eb211c80319c"
	answers := make(chan answer)
	go func() {
		answers <- ts.get("/search?q=beta", "X-Correlation-ID: "+id, "Traceparent: 00-"+traceID+"-b7ad6b7169203331-01")
	}()
	statement := ""
	waitFor(t, "the statement in pg_stat_activity", func() bool {
		row := db.QueryRow("SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '/*correlation_id=''" + id + "''%'")
		return row.Scan(&statement) == nil
	})
	if !strings.Contains(statement, ",traceparent='00-"+traceID+"-") {
		t.Errorf("the statement does not name its trace: %.200s", statement)
	}
	if text := ts.get("/debug/requests").body; !regexp.MustCompile(`in flight: \d+\n(  .*\n)*  .*GET /search +search +` + id).MatchString(text) {
		t.Errorf("the request is not in flight in the stage search:\n%s", text)
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	a := <-answers
	if a.status != http.StatusOK || a.header.Get("X-Correlation-ID") != id || !strings.Contains(a.header.Get("Server-Timing"), "db;dur=") {
		t.Errorf("answer: %d %v", a.status, a.header)
	}
	if line := ts.lines.find(t, "request", id); line["trace_id"] != traceID || line["db_ms"] == nil {
		t.Errorf("log line: %v", line)
	}
	if text := ts.get("/debug/requests/" + id).body; !strings.Contains(text, "GET /search  200") || !strings.Contains(text, "db.system.name = postgresql") {
		t.Errorf("waterfall:\n%s", text)
	}
	if ts.get("/debug/requests/"+traceID).body != ts.get("/debug/requests/"+id).body {
		t.Error("the trace id does not lead to the same waterfall")
	}
	if text := ts.get("/metrics", "Accept: application/openmetrics-text").body; !regexp.MustCompile(`db_client_operation_duration_seconds_bucket\{.*db_query_summary="search".*trace_id="` + traceID + `"`).MatchString(text) {
		t.Error("no exemplar of the trace on the query's latency")
	}
	spans := tree(wait(t, exporter, traceID, 4))
	if !strings.Contains(spans, "search (client) db.operation.name=SELECT db.query.summary=search db.response.returned_rows=1 db.system.name=postgresql") {
		t.Errorf("spans:\n%s", spans)
	}
	if profile := ts.get("/debug/pprof/goroutine?debug=1").body; !strings.Contains(profile, `"route":"GET /debug/pprof/goroutine"`) {
		t.Errorf("the profile has no label of the route:\n%.1000s", profile)
	}
}

func TestTracingNamesADatabaseErrorByItsCode(t *testing.T) {
	url := newDatabase(t)
	ts := newTestServer(t, "DATABASE_URL="+url, "DOCS_DIR=", "OTEL_TRACE_SAMPLE_RATE=0")
	waitFor(t, "the store", func() bool { return ts.get("/readyz").status == http.StatusOK })
	exporter := ts.spans
	execSQL(t, url, "DROP TABLE chunks CASCADE")
	a := ts.get("/search?q=beta")
	if a.status != http.StatusInternalServerError || strings.Contains(a.body, "chunks") {
		t.Errorf("%d %s, want 500 without the cause", a.status, a.body)
	}
	spans := tree(wait(t, exporter, a.header.Get("X-Correlation-ID"), 4))
	for _, want := range []string{"GET /search (server) ERROR", "error.type=42P01", "  retrieval documents (client) ERROR", "    search (client) ERROR"} {
		if !strings.Contains(spans, want) {
			t.Errorf("no %q in\n%s", want, spans)
		}
	}
	if want := `db_query_summary="search",error_type="42P01"} 1`; !strings.Contains(ts.get("/metrics").body, want) {
		t.Errorf("/metrics has no %s", want)
	}
}

// TestTracingReachesJaeger sends a search to a real Jaeger, where one is named by its OTLP/HTTP and query addresses:
// JAEGER_OTLP=http://127.0.0.1:4318 JAEGER_QUERY=http://127.0.0.1:16686 go test -run Jaeger .
func TestTracingReachesJaeger(t *testing.T) {
	otlp, query := os.Getenv("JAEGER_OTLP"), os.Getenv("JAEGER_QUERY")
	if otlp == "" || query == "" {
		t.Skip("JAEGER_OTLP and JAEGER_QUERY name no Jaeger")
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp)
	ts := newTestServer(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+otlp, "OTEL_TRACE_SAMPLE_RATE=1")
	ts.put("a.md", "# Alpha")
	id := ts.get("/search?q=alpha").header.Get("X-Correlation-ID")
	waitFor(t, "the trace in Jaeger", func() bool {
		resp, err := http.Get(query + "/api/traces/" + id)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && strings.Count(string(body), `"operationName"`) == 5 && strings.Contains(string(body), "retrieval documents")
	})
}

func TestBodyThatComesSlowlyDoesNotTakeTheStoresTime(t *testing.T) {
	ts := newTestServer(t)
	ctx, end := ts.observe.job(t.Context(), "test")
	defer end(nil)
	rec := currentScope(ctx).record
	rec.job, rec.start = "", time.Now().Add(-2*handlerBudget)
	if left := timeLeft(ctx); left > 0 {
		t.Errorf("%v left of a request that began long ago", left)
	}
	bodyRead(ctx)
	if left := timeLeft(ctx); left < handlerBudget/2 {
		t.Errorf("%v left once the body is there", left)
	}
	rec.job = "test"
	var read []bool
	ts.store = storeStub{ts.store, func(ctx context.Context) error {
		read = append(read, !currentScope(ctx).record.read.IsZero())
		return nil
	}}
	ts.do("POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_docs","arguments":{"query":"a"}}}`, "Content-Type: application/json")
	if !slices.Equal(read, []bool{true}) {
		t.Errorf("the body of a message begins the budget: %v", read)
	}
}

func TestLossesAreReportedWhateverTheLogLevel(t *testing.T) {
	w := &blockedWriter{released: make(chan struct{})}
	s := newServerOf(t, map[string]string{"LOG_LEVEL": "error"}, w)
	for s.logs.dropped.Load() == 0 {
		s.log.Error("line", "padding", strings.Repeat("x", 1000))
	}
	close(w.released)
	w.find(t, "log lines dropped", "")
	s.close()
}

func TestRequestThatEndsAfterTheReportsIsLogged(t *testing.T) {
	lines := new(logBuffer)
	s := newServerOf(t, nil, lines)
	s.observe.close()
	r := httptest.NewRequest(http.MethodGet, "/search", http.NoBody)
	r.Host = "localhost"
	answer := httptest.NewRecorder()
	s.handler("search").ServeHTTP(answer, r)
	lines.find(t, "request", answer.Header().Get("X-Correlation-ID"))
	s.logs.close(time.Second)
}
