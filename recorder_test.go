package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRecorderShowsRequestsInAllTheirStates(t *testing.T) {
	ts := newTestServer(t)
	ts.put("a.md", "# Alpha")
	ts.get("/search?q=alpha", "X-Correlation-ID: fine")

	inner := ts.store
	ts.store = storeStub{inner, func(context.Context) error { return errors.New("broken") }}
	ts.get("/search?q=alpha", "X-Correlation-ID: broken")

	entered := make(chan struct{})
	leave := make(chan struct{})
	ts.store = storeStub{inner, func(context.Context) error {
		close(entered)
		<-leave
		return nil
	}}
	var running sync.WaitGroup
	running.Go(func() { ts.get("/search?q=alpha", "X-Correlation-ID: running") })
	<-entered
	defer running.Wait()
	defer close(leave)

	var lists recordLists
	if err := json.Unmarshal([]byte(ts.get("/debug/requests", "Accept: application/json").body), &lists); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		list  string
		views []recordView
		id    string
		stage string
	}{
		{"in flight", lists.InFlight, "running", "retrieval documents"},
		{"failed", lists.Failed, "broken", ""},
		{"slowest", lists.Slowest, "fine", ""},
		{"recent", lists.Recent, "fine", ""},
		{"recent", lists.Recent, "broken", ""},
	} {
		isWanted := func(v recordView) bool { return v.CorrelationID == want.id && v.Stage == want.stage }
		if !slices.ContainsFunc(want.views, isWanted) {
			t.Errorf("%s: no %s in stage %q: %+v", want.list, want.id, want.stage, want.views)
		}
	}

	text := ts.get("/debug/requests").body
	if !strings.Contains(text, "GET /search                    500 _OTHER ") {
		t.Errorf("text:\n%s", text)
	}
	if a := ts.get("/debug/requests/running"); !strings.Contains(a.body, "retrieval documents") {
		t.Errorf("in flight: %s", a.body)
	}
	if a := ts.get("/debug/requests/none"); a.status != http.StatusNotFound {
		t.Errorf("an unknown id: %d", a.status)
	}
}

func TestWaterfall(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	embedAttrs := []slog.Attr{slog.String("gen_ai.request.model", "m")}
	dbAttrs := []slog.Attr{slog.String("db.query.summary", "search"), slog.Int("rows", 3)}
	rec := &record{
		correlation: "order-7",
		trace:       [16]byte{1},
		method:      "GET",
		route:       "/search",
		status:      503,
		failure:     "unavailable",
		kept:        "failed",
		start:       time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
		took:        ms(100),
		stages: []stageRecord{
			{kind: stageSearch, parent: -1, start: ms(10), end: ms(90)},
			{kind: stageEmbed, parent: 0, start: ms(10), end: ms(30), attrs: embedAttrs},
			{kind: stageDB, parent: 0, start: ms(30), end: ms(90), attrs: dbAttrs, err: errUnavailable},
		},
	}
	var got strings.Builder
	rec.view(true).draw(&got)

	want := `GET /search  503 unavailable
2026-11-22T10:00:00Z  correlation order-7
trace 01000000000000000000000000000000  kept: failed
GET /search                              100.000 ms |==============================================|
  retrieval documents                     80.000    |    =====================================     |
    embeddings m                          20.000    |    ==========                                |
    search                                60.000    |             ============================     |
      rows = 3
      error.type = unavailable

`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	for line := range strings.Lines(got.String()) {
		if len(line) > waterfallColumns+1 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}

func TestRecorderIsBounded(t *testing.T) {
	t.Parallel()
	r := newRecorder()
	for i := range 20_000 {
		rec := &record{
			correlation: strings.Repeat("x", 128),
			path:        strings.Repeat("y", 256),
			took:        time.Duration(i),
			failure:     "x",
			stages:      make([]stageRecord, i%maxStages),
		}
		for j := range rec.stages {
			rec.stages[j].attrs = make([]slog.Attr, 8)
		}
		r.begin(rec)
		r.end(rec)
	}

	total := 0
	for _, list := range []recordList{r.recent, r.slowest, r.failed} {
		sum := 0
		for _, rec := range list.records {
			sum += rec.size()
		}
		if sum != list.bytes {
			t.Errorf("%d bytes counted, %d kept", list.bytes, sum)
		}
		total += sum
	}
	if total > recorderBytes || len(r.inFlight) != 0 {
		t.Errorf("%d bytes kept, %d in flight", total, len(r.inFlight))
	}
	if r.slowest.records[0].took != 19_999 || len(r.slowest.records) < 10 {
		t.Errorf("%d slowest, the first %v", len(r.slowest.records), r.slowest.records[0].took)
	}
}

// TestRecorderForgetsSlowRequestsOfLongAgo fills the list of the slowest, and lets faster requests follow.
func TestRecorderForgetsSlowRequestsOfLongAgo(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		name  string
		after time.Duration
		want  time.Duration // the slowest
		n     int
	}{
		{"at once", 0, time.Minute, 50},
		{"within the hour", 59 * time.Minute, time.Minute, 50},
		{"two hours later", 2 * time.Hour, 2 * time.Second, 2},
		{"a week later", 7 * 24 * time.Hour, 2 * time.Second, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRecorder()
			end := func(start time.Time, took time.Duration) {
				rec := &record{start: start, took: took}
				r.begin(rec)
				r.end(rec)
			}
			for range 60 {
				end(began, time.Minute)
			}
			end(began.Add(tc.after), time.Second)
			end(began.Add(tc.after), 2*time.Second)

			slowest := r.lists().Slowest
			if len(slowest) != tc.n || slowest[0].TookMS != float64(tc.want.Milliseconds()) {
				t.Errorf("%d slowest, the first of %v ms", len(slowest), slowest[0].TookMS)
			}
			sum := 0
			for _, rec := range r.slowest.records {
				sum += rec.bytes
			}
			if sum != r.slowest.bytes {
				t.Errorf("%d bytes counted, %d kept", r.slowest.bytes, sum)
			}
		})
	}
}

// BenchmarkRecorderMemory reports the memory of a full recorder: go test -run '^$' -bench RecorderMemory .
func BenchmarkRecorderMemory(b *testing.B) {
	for b.Loop() {
		before := heapBytes()
		cfg := &settings{observability: true}
		o := newTestObserver(cfg, slog.New(slog.DiscardHandler))
		for i := range 20_000 {
			rec := o.policy.newRecord(nil)
			ctx := rec.newScope(b.Context(), -1)
			for range 5 {
				_, end := stage(ctx, stageDB, slog.String("db.query.summary", fmt.Sprint(i)), slog.Int("rows", i))
				end(nil)
			}
			rec.failure = "x"
			rec.took = time.Duration(i)
			o.recent.begin(rec)
			o.recent.end(rec)
		}
		b.ReportMetric(float64(heapBytes()-before)/(1<<20), "MB")
	}
}

func TestRecordsAreFoundWhileAMessageContinuesItsTrace(t *testing.T) {
	ts := newTestServer(t)
	done := make(chan struct{})
	var finder sync.WaitGroup
	finder.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				ts.observe.recent.find("none")
			}
		}
	})

	const trace = "0af7651916cd43dd8448eb211c80319c"
	const ping = `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"traceparent":"00-` +
		trace + `-b7ad6b7169203331-01"}}}`
	for range 200 {
		a := ts.do("POST", "/mcp", ping,
			"Content-Type: application/json", "Mcp-Protocol-Version: 2025-11-25")
		if id := a.header.Get("X-Correlation-ID"); id != trace {
			t.Fatalf("the answer names %s, not its trace", id)
		}
	}
	close(done)
	finder.Wait()
}
