package main

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

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
		if got := parseTraceparent(text).IsValid(); got != want {
			t.Errorf("parseTraceparent(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestStagesBeyondTheRoomAreSummedAndCounted(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	var lines strings.Builder
	for i := range 100 {
		fmt.Fprintf(&lines, "{\"id\":\"%d.md\",\"text\":\"x\"}\n", i)
	}
	id := ts.do("POST", "/documents", lines.String()).header.Get("X-Correlation-ID")
	if line := ts.lines.find(t, "request", id); line["stages_summed"] != 236.0 { // 300 stages, embed, put and file, less 64
		t.Errorf("log line: %v", line)
	}
	if want := `db_query_summary="put",db_system_name="vitrine",error_type=""} 100`; !strings.Contains(ts.get("/metrics").body, want) {
		t.Errorf("/metrics has no %s", want)
	}
}

// TestRecordsAreWholeAndBounded sends what repeats attributes thousands of times. A line has each key once, is under 8 KB, and
// says how often.
func TestRecordsAreWholeAndBounded(t *testing.T) {
	t.Parallel()
	f := newFakeEmbedder(t, 6)
	ts := newTestServer(t, f.env("OTEL_TRACE_SAMPLE_RATE=1")...)
	f.set(func(w http.ResponseWriter, _ *http.Request, _ fakeRequest) bool {
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	var load, batch, mixed strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&load, "{\"id\":\"%d.md\",\"text\":\"# Alpha %d\"}\n", i, i)
	}
	for i := range 50 {
		fmt.Fprintf(&batch, `,{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"list_documents","arguments":{"x%d":1}}}`, i, i)
		fmt.Fprintf(&mixed, `,{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"search_docs","arguments":{"query":"alpha"}}}`, i)
	}
	post := func(body string) string {
		return ts.do("POST", "/mcp", "["+body[1:]+"]", "Content-Type: application/json", "MCP-Protocol-Version: 2025-03-26").header.Get("X-Correlation-ID")
	}
	for _, test := range []struct {
		name, id string
		want     map[string]any
	}{
		{"a bulk load with a failing embedder", ts.do("POST", "/documents", load.String()).header.Get("X-Correlation-ID"),
			map[string]any{"documents": 3000.0, "embedding_error_count": 3000.0}},
		{"a batch of mistakes", post(batch.String()), map[string]any{"tool": "list_documents", "mcp_method_count": 50.0, "tool_count": 50.0, "error_count": 50.0}},
		{"a batch of searches", post(mixed.String()), map[string]any{"hits": 250.0, "tool_count": 50.0, "degraded": true}},
	} {
		line := ts.lines.find(t, "request", test.id)
		for key, want := range test.want {
			if line[key] != want {
				t.Errorf("%s: %s is %v, want %v", test.name, key, line[key], want)
			}
		}
		for text := range strings.Lines(ts.lines.String()) {
			if !strings.Contains(text, test.id) || !strings.Contains(text, `"message":"request"`) {
				continue
			}
			if len(text) > 8<<10 || len(line) != strings.Count(text, `":`)-strings.Count(text, `\":`) {
				t.Errorf("%s: %d bytes, %d keys: %s", test.name, len(text), len(line), text)
			}
		}
		if spent, took := cmp.Or(line["embed_ms"], any(0.0)).(float64), line["took_ms"].(float64); spent > took {
			t.Errorf("%s: embed_ms %v of %v", test.name, spent, took)
		}
	}
}

// TestAttributesAreAtMost32 adds a hundred keys.
func TestAttributesAreAtMost32(t *testing.T) {
	ts := newTestServer(t)
	ctx, end := ts.observe.job(t.Context(), "many")
	inside, endStage := stage(ctx, stageFile)
	for i := range 100 {
		logAttrs(ctx, slog.Int(fmt.Sprint("key", i), i))
		spanAttrs(inside, slog.Int(fmt.Sprint("key", i), i), slog.String("last", fmt.Sprint(i)))
	}
	rec := currentScope(ctx).record
	if got := rec.stages[0].text("last"); got != "99" || len(rec.stages[0].attrs) != maxAttrs {
		t.Errorf("last %q of %d attributes", got, len(rec.stages[0].attrs))
	}
	endStage(nil)
	end(nil)
	line := ts.lines.find(t, "job", rec.correlation)
	if _, has := line["key31"]; !has || line["key32"] != nil || line["attributes_dropped"] != 68.0 {
		t.Errorf("log line: %v", line)
	}
}

// TestParallelStagesTakeTheirWallTime runs stages that overlap, more than a record has room for.
func TestParallelStagesTakeTheirWallTime(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	for _, n := range []int{4, 2 * maxStages} {
		ctx, end := ts.observe.job(t.Context(), "parallel")
		logAttrs(ctx, slog.Int("stages", n))
		var work sync.WaitGroup
		for range n {
			work.Go(func() {
				_, end := stage(ctx, stageEmbed)
				defer end(nil)
				time.Sleep(50 * time.Millisecond)
			})
		}
		work.Wait()
		end(nil)
		line := ts.lines.find(t, "job", currentScope(ctx).record.correlation)
		embedding, took := line["embed_ms"].(float64), line["took_ms"].(float64)
		if embedding < 50 || embedding > took {
			t.Errorf("%d stages of 50 ms: embed_ms %v, took_ms %v", n, embedding, took)
		}
		for _, st := range currentScope(ctx).record.stages {
			if st.end > currentScope(ctx).record.took {
				t.Errorf("a stage ends at %v, after its record at %v", st.end, currentScope(ctx).record.took)
			}
		}
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
	spans := tree(waitForSpans(t, exporter, traceID, 4))
	if !strings.Contains(spans, "search (client) db.operation.name=SELECT db.query.summary=search db.response.returned_rows=2 db.system.name=postgresql") {
		t.Errorf("spans:\n%s", spans)
	}
	if profile := ts.get("/debug/pprof/goroutine?debug=1").body; !strings.Contains(profile, `"route":"GET /debug/pprof/goroutine"`) {
		t.Errorf("the profile has no label of the route:\n%.1000s", profile)
	}
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
	markBodyRead(ctx)
	if left := timeLeft(ctx); left < handlerBudget/2 {
		t.Errorf("%v left once the body is there", left)
	}
	rec.job = "test"
	var read []bool
	ts.store = storeStub{ts.store, func(ctx context.Context) error {
		read = append(read, !currentScope(ctx).record.bodyReadAt.IsZero())
		return nil
	}}
	ts.do("POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_docs","arguments":{"query":"a"}}}`, "Content-Type: application/json")
	if !slices.Equal(read, []bool{true}) {
		t.Errorf("the body of a message begins the budget: %v", read)
	}
}
