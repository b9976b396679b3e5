package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// tree draws the spans of a trace as an indented tree, in the order in which they began. It leaves out
// times, ids, and attributes that differ between runs.
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
			indent := strings.Repeat("  ", depth)
			fmt.Fprintf(&out, "%s%s (%s)%s %s\n",
				indent, s.Name, s.SpanKind, status, strings.Join(attrs, " "))
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

// waitForSpans returns the spans of the trace once n are exported.
func waitForSpans(
	t *testing.T, exporter *tracetest.InMemoryExporter, id string, n int,
) tracetest.SpanStubs {
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
	t.Parallel()
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
  retrieval documents (client) gen_ai.data_source.id=documents gen_ai.operation.name=retrieval gen_ai.request.top_k=3 hits=1
    embeddings hashed-512 (client) gen_ai.operation.name=embeddings gen_ai.provider.name=vitrine vitrine.embedding.kind=query
    search (client) db.operation.name=SELECT db.query.summary=search db.system.name=vitrine
    rank (internal) 
`},
		{"put", func(ts *testServer) { ts.do("PUT", "/documents/b.md", "x", parent) }, 4, `
PUT /documents/{id...} (server) client.address=127.0.0.1 http.request.method=PUT http.response.status_code=201 http.route=/documents/{id...} url.path=/documents/b.md url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=caller
  embeddings hashed-512 (client) gen_ai.operation.name=embeddings gen_ai.provider.name=vitrine vitrine.embedding.batch_size=1 vitrine.embedding.kind=batch
  put (client) db.operation.name=INSERT db.query.summary=put db.system.name=vitrine
    file (internal) operation=write
`},
		{"bulk load", func(ts *testServer) {
			ts.do("POST", "/documents", `{"id":"b.md","text":"x"}`+"\n"+`{"id":"c","text":"x"}`, parent)
		}, 4, `
POST /documents (server) client.address=127.0.0.1 documents=1 http.request.method=POST http.response.status_code=200 http.route=/documents url.path=/documents url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=caller
  embeddings hashed-512 (client) gen_ai.operation.name=embeddings gen_ai.provider.name=vitrine vitrine.embedding.batch_size=1 vitrine.embedding.kind=batch
  put (client) db.operation.name=INSERT db.query.summary=put db.system.name=vitrine
    file (internal) operation=write
`},
		{"failing store", func(ts *testServer) {
			ts.store = storeStub{ts.store, func(ctx context.Context) error {
				_, end := stage(ctx, stageDB, querySearch.attrs()...)
				err := fmt.Errorf("secret cause: %w", errUnavailable)
				end(&err)
				return err
			}}
			ts.get("/search?q=alpha", strings.Replace(parent, "-01", "-00", 1))
		}, 3, `
GET /search (server) ERROR client.address=127.0.0.1 error.type=unavailable error=secret cause: unavailable http.request.method=GET http.response.status_code=503 http.route=/search url.path=/search url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=failed
  retrieval documents (client) ERROR error.type=unavailable gen_ai.data_source.id=documents gen_ai.operation.name=retrieval gen_ai.request.top_k=5
    search (client) ERROR db.operation.name=SELECT db.query.summary=search db.system.name=vitrine error.type=unavailable
`},
		{"cancelled request", func(ts *testServer) {
			ctx, cancel := context.WithCancel(t.Context())
			ts.store = storeStub{ts.store, func(ctx context.Context) error {
				_, end := stage(ctx, stageDB, querySearch.attrs()...)
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
  retrieval documents (client) ERROR error.type=canceled gen_ai.data_source.id=documents gen_ai.operation.name=retrieval gen_ai.request.top_k=5
    search (client) ERROR db.operation.name=SELECT db.query.summary=search db.system.name=vitrine error.type=canceled
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
      retrieval documents (client) gen_ai.data_source.id=documents gen_ai.operation.name=retrieval gen_ai.request.top_k=5 hits=1
        embeddings hashed-512 (client) gen_ai.operation.name=embeddings gen_ai.provider.name=vitrine vitrine.embedding.kind=query
        search (client) db.operation.name=SELECT db.query.summary=search db.system.name=vitrine
        rank (internal) 
`},
		{"tool call of the initialize era that fails", func(ts *testServer) {
			ts.do("POST", "/mcp", `{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"get_document","arguments":{"id":"none.md"}}}`,
				"Content-Type: application/json", "Mcp-Protocol-Version: 2025-11-25", parent)
		}, 5, `
POST /mcp (server) client.address=127.0.0.1 error=no document "none.md": look for it with search_docs, or list_documents http.request.method=POST http.response.status_code=200 http.route=/mcp mcp_method=tools/call tool=get_document url.path=/mcp url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=caller
  tools/call get_document (server) ERROR error.type=tool_error gen_ai.operation.name=execute_tool gen_ai.tool.name=get_document jsonrpc.request.id=a mcp.method.name=tools/call mcp.protocol.version=2025-11-25 network.transport=tcp
    execute_tool get_document (internal) ERROR error.type=tool_error gen_ai.tool.name=get_document
      document (client) db.operation.name=SELECT db.query.summary=document db.system.name=vitrine error.type=404
      list (client) db.operation.name=SELECT db.query.summary=list db.system.name=vitrine
`},
		{"not found", func(ts *testServer) { ts.get("/documents/none.md", parent) }, 3, `
GET /documents/{id...} (server) client.address=127.0.0.1 error=no such document: GET /documents lists them http.request.method=GET http.response.status_code=404 http.route=/documents/{id...} url.path=/documents/none.md url.scheme=http user_agent.original=Go-http-client/1.1 vitrine.kept=caller
  document (client) db.operation.name=SELECT db.query.summary=document db.system.name=vitrine error.type=404
  list (client) db.operation.name=SELECT db.query.summary=list db.system.name=vitrine
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ts := newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=0", "DOCS_SYNC_INTERVAL=1h")
			ts.put("a.md", "# Alpha")
			exporter := ts.spans
			test.do(ts)
			spans := waitForSpans(t, exporter, id, test.spans)
			if got := tree(spans); got != test.want[1:] {
				t.Errorf("got\n%s\nwant%s", got, test.want)
			}
			for _, s := range spans {
				root := spans[0]
				isInside := !s.StartTime.Before(root.StartTime) && !s.EndTime.After(root.EndTime)
				if s.EndTime.Before(s.StartTime) || !isInside {
					t.Errorf("%s runs from %v to %v, not within its request", s.Name, s.StartTime, s.EndTime)
				}
			}
		})
	}
}

func TestTracingKeepsFailedRequestsWholeAtRateZero(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=0", "DOCS_SYNC_INTERVAL=1h", "SLOW_REQUEST=1h")
	ts.put("a.md", "# Alpha")
	exporter := ts.spans
	searches := 0

	inner := ts.store
	ts.store = storeStub{inner, func(ctx context.Context) error {
		searches++
		if searches%100 == 0 {
			_, end := stage(ctx, stageDB, querySearch.attrs()...)
			err := errors.New("broken")
			end(&err)
			return err
		}
		_, err := inner.search(ctx, query{text: "alpha", limit: 1})
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

	// Spans are exported in the order of their requests: with those of one more, which its caller samples, all are there.
	const last = "0af7651916cd43dd8448eb211c80319c"
	ts.get("/search?q=alpha", "Traceparent: 00-"+last+"-b7ad6b7169203331-01")
	after := len(waitForSpans(t, exporter, last, 1))
	perTrace := make(map[string]int)
	for _, s := range exporter.GetSpans() {
		perTrace[s.SpanContext.TraceID().String()]++
	}
	delete(perTrace, last)

	if len(want) != 10 || len(perTrace) != 10 {
		t.Fatalf("%d failed, %d traces exported, want 10", len(want), len(perTrace))
	}
	for id, n := range perTrace {
		if !want[id] || n != 3 {
			t.Errorf("trace %s: %d spans, failed %v; want 3 of a failed one", id, n, want[id])
		}
	}
	waitFor(t, "30 spans, and those of the last request, are counted as exported", func() bool {
		return ts.observe.traces.exported.Load() == int64(30+after)
	})
}

func TestTracingKeepsSlowOnesAndFewForTheirCallersSake(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=0", "SLOW_REQUEST=1ns")
	id := ts.get("/search?q=a").header.Get("X-Correlation-ID")
	line := ts.lines.find(t, "request", id)
	if line["kept"] != "slow" || line["level"] != "warn" {
		t.Errorf("log line: %v", line)
	}

	ts = newTestServer(t, "OTEL_TRACE_SAMPLE_RATE=0", "SLOW_REQUEST=1h")
	kept := 0
	began := time.Now()
	for i := range 100 {
		parent := fmt.Sprintf("Traceparent: 00-0af7651916cd43dd8448eb2100000%03d-b7ad6b7169203331-01", i)
		id := ts.get("/search?q=a", parent).header.Get("X-Correlation-ID")
		if ts.lines.find(t, "request", id)["kept"] == "caller" {
			kept++
		}
	}
	seconds := int(time.Since(began).Seconds()) + 2 // the first second's burst, and the one that has begun
	if kept < maxSampledByCaller || kept > maxSampledByCaller*seconds {
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
	ts := newTestServer(t,
		"OTEL_TRACE_SAMPLE_RATE=1",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL,
		"OTEL_SERVICE_NAME=docs")
	id, err := hex.DecodeString(ts.get("/search?q=a").header.Get("X-Correlation-ID"))
	if err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case body := <-received:
			hasName := bytes.Contains(body, []byte("GET /search"))
			hasService := bytes.Contains(body, []byte("docs"))
			if bytes.Contains(body, id) && hasName && hasService {
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
	t.Parallel()
	logs := new(logBuffer)
	cfg := testSettings(t)
	rec := &record{stages: make([]stageRecord, 2), start: time.Now()}
	for i := range rec.stages {
		rec.stages[i].parent = -1
	}
	t.Run("failed", func(t *testing.T) {
		e := startTraceExport(brokenExporter{}, cfg, newLogger(logs, newLogLevel(0), cfg))
		for range 10 {
			e.add(rec)
		}
		e.close(2 * time.Second)
		if failed, dropped := e.failed.Load(), e.dropped.Load(); failed != 30 || dropped != 0 {
			t.Errorf("%d failed, %d dropped, want 30 and 0", failed, dropped)
		}
		if n := strings.Count(logs.String(), "spans could not be exported"); n != 1 {
			t.Errorf("%d log lines, want 1", n)
		}
	})
	t.Run("dropped", func(t *testing.T) {
		hang := make(chan struct{})
		e := startTraceExport(brokenExporter{hang}, cfg, newLogger(logs, newLogLevel(0), cfg))
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

func TestTracingNamesADatabaseErrorByItsCode(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	ts := newTestServer(t, "DATABASE_URL="+url, "DOCS_DIR=", "OTEL_TRACE_SAMPLE_RATE=0")
	waitFor(t, "the store", func() bool { return ts.get("/readyz").status == http.StatusOK })
	exporter := ts.spans
	execSQL(t, url, "DROP TABLE chunks CASCADE")
	a := ts.get("/search?q=beta")
	if a.status != http.StatusInternalServerError || strings.Contains(a.body, "chunks") {
		t.Errorf("%d %s, want 500 without the cause", a.status, a.body)
	}
	spans := tree(waitForSpans(t, exporter, a.header.Get("X-Correlation-ID"), 4))
	for _, want := range []string{
		"GET /search (server) ERROR",
		"error.type=42P01",
		"  retrieval documents (client) ERROR",
		"    search (client) ERROR",
	} {
		if !strings.Contains(spans, want) {
			t.Errorf("no %q in\n%s", want, spans)
		}
	}
	want := `db_query_summary="search",db_system_name="postgresql",error_type="42P01"} 1`
	if !strings.Contains(ts.get("/metrics").body, want) {
		t.Errorf("/metrics has no %s", want)
	}
}

// TestTracingReachesJaeger sends a search to a real Jaeger, if its OTLP/HTTP and query addresses are given:
// JAEGER_OTLP=http://127.0.0.1:4318 JAEGER_QUERY=http://127.0.0.1:16686 go test -run Jaeger .
func TestTracingReachesJaeger(t *testing.T) {
	otlp := os.Getenv("JAEGER_OTLP")
	query := os.Getenv("JAEGER_QUERY")
	if otlp == "" || query == "" {
		t.Skip("JAEGER_OTLP and JAEGER_QUERY name no Jaeger")
	}
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
		return err == nil &&
			strings.Count(string(body), `"operationName"`) == 5 &&
			strings.Contains(string(body), "retrieval documents")
	})
}
