package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
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
	vars := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OBSERVABILITY": observability, "OTEL_TRACE_SAMPLE_RATE": rate, "OTEL_TRACES_EXPORTER": "otlp", "RATE_LIMIT": "0"}
	s := newServerOf(b, vars, stdout)
	b.Cleanup(s.close)
	set := evalSetOfTest(b)
	m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
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

func TestObservabilityOffKeepsTheIDsAndTheFailures(t *testing.T) {
	ts := newTestServer(t, "OBSERVABILITY=off")
	id := ts.get("/search?q=a").header.Get("X-Correlation-ID")
	if len(id) != 32 {
		t.Errorf("id %q", id)
	}
	if text := ts.get("/metrics").body; strings.Contains(text, "http_server_request_duration_seconds_count{") || !strings.Contains(text, "go_goroutines") {
		t.Error("requests are measured, or the runtime is not")
	}
	ts.store = storeStub{ts.store, func(context.Context) error { return errors.New("broken") }}
	ts.lines.find(t, "request", ts.get("/search?q=a").header.Get("X-Correlation-ID"))
	if strings.Contains(ts.lines.String(), id) {
		t.Errorf("a request that succeeded is logged: %s", ts.lines)
	}
}

func TestSecretsAreInNoOutput(t *testing.T) {
	t.Parallel()
	const canary = "CANARY7f3a"
	ts := newTestServer(t, "API_TOKEN=api-"+canary, "OTEL_TRACE_SAMPLE_RATE=1", "RECORD_GAPS=true")
	exporter := ts.spans
	ts.put("a.md", "# Title "+canary+"\n\ntext "+canary)
	ts.get("/search?q="+canary, "Authorization: Bearer api-"+canary)
	ts.get("/search?q="+canary, "Authorization: Bearer wrong-"+canary)
	ts.get("/search?q="+canary, "Authorization: Basic "+canary, "Cookie: "+canary)
	ts.do("POST", "/documents", `{"id":"b.md","text":"`+canary+`"}`+"\nnot json "+canary)
	ts.get("/search?q=zzq" + canary)
	for _, arguments := range []map[string]any{
		{"question": "why " + canary, "problem": "wrong", "document": "a.md"},
		{"question": "why " + canary, "problem": canary},
		{"question": "why " + canary + strings.Repeat("x", maxReportChars), "problem": "wrong"},
		{"question": []string{canary}, "problem": "wrong", "document": canary},
	} {
		ts.callTool("report_gap", arguments)
	}
	if gaps := ts.get("/debug/gaps").body; strings.Count(gaps, strings.ToLower(canary)) < 2 {
		t.Errorf("the gaps do not show the questions: %s", gaps)
	}
	ts.store = storeStub{ts.store, func(context.Context) error { return errors.New("broken") }}
	last := ts.get("/search?q=" + canary).header.Get("X-Correlation-ID")
	ts.lines.find(t, "request", last)
	waitForSpans(t, exporter, last, 2)
	outputs := map[string]string{
		"log":       ts.lines.String(),
		"spans":     fmt.Sprintf("%+v", exporter.GetSpans()),
		"metrics":   ts.get("/metrics", "Accept: application/openmetrics-text").body,
		"requests":  ts.get("/debug/requests?format=json").body,
		"waterfall": ts.get("/debug/requests/" + last).body,
	}
	for name, text := range outputs {
		if !strings.Contains(text, last) {
			t.Errorf("%s says nothing of the last request: %s", name, text)
		}
		if strings.Contains(strings.ToLower(text), strings.ToLower(canary)) || strings.Contains(text, testAdminToken) {
			t.Errorf("%s shows a secret: %s", name, text)
		}
	}
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
