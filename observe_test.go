package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// newOverheadHandler returns the outermost handler over the manual, or the set that EVAL_DIR names, and questions to ask it.
// Everything is on, with a live collector, unless observability is off.
func newOverheadHandler(b *testing.B, observability, rate string) (http.Handler, []string) {
	b.Helper()
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	b.Cleanup(collector.Close)
	b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	vars := map[string]string{"OBSERVABILITY": observability, "OTEL_TRACE_SAMPLE_RATE": rate, "OTEL_TRACES_EXPORTER": "otlp", "RATE_LIMIT": "0"}
	cfg, err := readSettings(func(key string) string { return vars[key] })
	if err != nil {
		b.Fatal(err)
	}
	s, err := newServer(cfg, io.Discard)
	if err != nil {
		b.Fatal(err)
	}
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
	return s.handler(slices.Concat(s.routes(), s.adminRoutes(), s.sharedRoutes())), questions
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

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
