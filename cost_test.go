package main

import (
	"regexp"
	"strconv"
	"testing"
	"time"
)

// metric returns the value of a series of /metrics.
func (ts *testServer) metric(series string) float64 {
	ts.t.Helper()
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(ts.get("/metrics").body)
	if found == nil {
		ts.t.Fatalf("/metrics has no %s", series)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		ts.t.Fatal(err)
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
		for began := threadCPUTime(); began > 0 && threadCPUTime()-began < 20*time.Millisecond; {
		}
	})
	if got := m.elapsed() - measuredShare*maxSection; threadCPUTime() > 0 && got < 20*time.Millisecond {
		t.Errorf("a thread that has run for 20 ms counts %v", got)
	}
}
