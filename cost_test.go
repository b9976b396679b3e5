package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
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
// is read) and with observability off. It compares the CPU time per search from /proc in nine pairs of turns of three seconds,
// which takes a minute, and reports the median of the pairs and their quartiles, beside the share that the program measures
// itself. The order changes from pair to pair. Other processes have the least influence on the best turns of both, which
// "least-added" compares. EVAL_DIR names another set than the manual, or any folder of Markdown:
//
//	go test -run '^$' -bench OverheadOfTheProgram .
func BenchmarkOverheadOfTheProgram(b *testing.B) {
	const pairs = 9
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	set := evalSetOfTest(b)
	documents := make(map[string]string)
	for _, d := range set.documents {
		documents[d.id] = d.text
	}
	env := []string{"DOCS_DIR=" + datedFolder(b, documents), "DOCS_SYNC_INTERVAL=1h", "GOMAXPROCS=1", "RATE_LIMIT=0"}
	off := &overheadTurns{process: start(b, append(env, "OBSERVABILITY=off"))}
	on := &overheadTurns{process: start(b, append(env, "OTEL_TRACE_SAMPLE_RATE=0.1", "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL))}
	on.logs.discard()
	turns := []*overheadTurns{off, on}
	for _, t := range turns {
		t.spend(b, set.questions)
	}

	var ratios, added []float64
	for b.Loop() {
		off.spent, on.spent = nil, nil
		for range pairs {
			slices.Reverse(turns)
			for _, t := range turns {
				t.spent = append(t.spent, t.spend(b, set.questions))
			}
		}
		for i, without := range off.spent {
			ratios = append(ratios, 100*(on.spent[i]/without-1))
			added = append(added, on.spent[i]-without)
		}
	}
	slices.Sort(ratios)
	slices.Sort(added)
	b.ReportMetric(ratios[len(ratios)/2], "%overhead")
	b.ReportMetric(ratios[len(ratios)/4], "%quartile1")
	b.ReportMetric(ratios[len(ratios)*3/4], "%quartile3")
	b.ReportMetric(added[len(added)/2], "µs-added")
	b.ReportMetric(slices.Min(on.spent)-slices.Min(off.spent), "µs-least-added")
	b.ReportMetric(slices.Min(off.spent), "µs-search")

	_, text := on.get("/metrics")
	measured := seriesValue(b, text, "vitrine_observability_cpu_seconds_total") / seriesValue(b, text, "process_cpu_seconds_total")
	b.ReportMetric(100*measured, "%measured")
}

// overheadTurns is one of the two processes that BenchmarkOverheadOfTheProgram compares.
type overheadTurns struct {
	*process
	asked   int
	counted time.Duration // CPU time until the end of the last turn
	spent   []float64     // microseconds of CPU time per search, by turn
}

// spend searches for three seconds and returns the CPU time per search in microseconds. What was exported since the last turn
// belongs to this one.
func (p *overheadTurns) spend(b *testing.B, questions []evalQuestion) float64 {
	const turn = 3 * time.Second
	searches := 0
	for began := time.Now(); time.Since(began) < turn; searches++ {
		question := questions[p.asked%len(questions)]
		p.asked++
		status, body := p.get("/search?q=" + url.QueryEscape(question.text))
		if status != http.StatusOK {
			b.Fatal(status, body)
		}
	}
	before := p.counted
	p.counted = p.cpuTime(b)
	return float64(p.counted-before) / float64(searches) / float64(time.Microsecond)
}
