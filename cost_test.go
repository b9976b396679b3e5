package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
)

// metric returns the value of a series of /metrics.
func (ts *testServer) metric(series string) float64 {
	ts.t.Helper()
	return seriesValue(ts.t, ts.get("/metrics").body, series)
}

// seriesValue returns the value of a series in the text of /metrics.
func seriesValue(t testing.TB, text, series string) float64 {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("/metrics has no %s", series)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TestObservabilityCostsAreMeasured compares what a load costs with observability on and off.
func TestObservabilityCostsAreMeasured(t *testing.T) {
	if threadCPUTime() == 0 {
		t.Skip("this system does not tell the CPU time of a thread")
	}
	const family = "vitrine_observability_cpu_seconds_total"
	spent := make(map[string]float64)
	for _, mode := range []string{"off", "on"} {
		ts := newTestServer(t, "OBSERVABILITY="+mode, "OTEL_TRACE_SAMPLE_RATE=1", "LOG_LEVEL=info")
		before := ts.metric(family)
		processBefore := ts.metric("process_cpu_seconds_total")
		for range 500 {
			ts.get("/search?q=alpha")
		}
		waitFor(t, "the exports", func() bool { return mode == "off" || ts.observe.traces.exported.Load() >= 500 })
		spent[mode] = ts.metric(family) - before
		if process := ts.metric("process_cpu_seconds_total") - processBefore; spent[mode] > process+0.01 {
			t.Errorf("%s: %v s of the %v s that the process took", mode, spent[mode], process)
		}
	}
	if spent["on"] <= 0 || spent["on"] <= 2*spent["off"] {
		t.Errorf("500 requests cost %v s with observability on, %v s with it off", spent["on"], spent["off"])
	}
}

func TestCostOfAnInterruptedSectionIsBounded(t *testing.T) {
	var m cpuMeter
	m.section(time.Now().Add(-time.Hour))
	if got := m.elapsed(); got != measuredShare*maxSection {
		t.Errorf("%v, want %v", got, measuredShare*maxSection)
	}
	m.run(func() {
		for began, n := threadCPUTime(), 0; began > 0 && threadCPUTime()-began < 20*time.Millisecond; {
			n++
		}
	})
	if got := m.elapsed() - measuredShare*maxSection; threadCPUTime() > 0 && got < 20*time.Millisecond {
		t.Errorf("a thread that has run for 20 ms counts %v", got)
	}
}

// BenchmarkOverheadOfTheProgram starts the program twice, with everything on (OTLP to a live collector, a rate of 0.1, a log that
// is read) and with observability off. It compares the CPU time per search from /proc, in turns of three seconds, and reports the
// median of nine turns beside the share that the program measures itself. EVAL_DIR names another set than the manual:
//
//	go test -run '^$' -bench OverheadOfTheProgram -benchtime 9x -timeout 30m .
func BenchmarkOverheadOfTheProgram(b *testing.B) {
	const turn = 3 * time.Second
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	set := manualSet(b)
	if dir := os.Getenv("EVAL_DIR"); dir != "" {
		set = directorySet(b, dir)
	}
	documents := make(map[string]string)
	for _, d := range set.documents {
		documents[d.id] = d.text
	}
	dir := datedFolder(b, documents)
	env := []string{"DOCS_DIR=" + dir, "DOCS_SYNC_INTERVAL=1h", "GOMAXPROCS=1"}
	off := start(b, append(env, "OBSERVABILITY=off"))
	on := start(b, append(env, "OTEL_TRACE_SAMPLE_RATE=0.1", "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL))
	on.logs.discard()

	next := 0
	spend := func(p *process) time.Duration { // per search
		before, searches := p.cpuTime(b), 0
		for began := time.Now(); time.Since(began) < turn; searches++ {
			status, body := p.get("/search?q=" + url.QueryEscape(set.questions[next%len(set.questions)].text))
			if status != http.StatusOK {
				b.Fatal(status, body)
			}
			next++
		}
		return (p.cpuTime(b) - before) / time.Duration(searches)
	}
	spend(off)
	spend(on)

	var ratios, added []float64
	for b.Loop() {
		spentOff, spentOn := spend(off), spend(on)
		ratios = append(ratios, float64(spentOn)/float64(spentOff))
		added = append(added, float64(spentOn-spentOff)/float64(time.Microsecond))
	}
	slices.Sort(ratios)
	slices.Sort(added)
	b.ReportMetric(100*(ratios[len(ratios)/2]-1), "%overhead")
	b.ReportMetric(added[len(added)/2], "µs-added")

	_, text := on.get("/metrics")
	measured := seriesValue(b, text, "vitrine_observability_cpu_seconds_total") / seriesValue(b, text, "process_cpu_seconds_total")
	b.ReportMetric(100*measured, "%measured")
}
