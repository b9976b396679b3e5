package main

// The soak: a mixed load on the program with each store, after which it must hold no more than before.
//
//	go test -count=1 -run Soak -soak 10m -v .

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var soak = flag.Duration("soak", 4*time.Second, "how long TestSoak sends requests")

// loadClients is how many clients a mixed load has.
const loadClients = 6

func TestSoak(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"embedded", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, storeEnv(t, name, "ENABLE_PROFILING=true", "DB_MAX_CONNS=8"))
			lasts := soakTime(t)
			sendLoad(t, p.url, lasts/4) // fills caches and pools
			before := p.holdings(t)
			sendLoad(t, p.url, lasts-lasts/4)
			after := p.holdings(t)
			t.Logf("goroutines %d, then %d; heap %.1f, then %.1f MB; descriptors %d, then %d",
				before.goroutines, after.goroutines, mb(before.heap), mb(after.heap), before.files, after.files)

			if after.goroutines > before.goroutines+4 {
				t.Errorf("%d more goroutines", after.goroutines-before.goroutines)
			}
			if after.files > before.files+4 {
				t.Errorf("%d more descriptors", after.files-before.files)
			}
			// The recorder keeps up to 8 MB of requests, which a short warm-up does not reach.
			if after.heap > before.heap+before.heap/10+8<<20 {
				t.Errorf("%.1f MB more heap", mb(after.heap-before.heap))
			}
		})
	}
}

// soakTime returns how long the load lasts: as -soak says, but not longer than go test's own -timeout allows.
func soakTime(t *testing.T) time.Duration {
	lasts := *soak
	deadline, isSet := t.Deadline()
	if isSet && time.Until(deadline) < lasts+time.Minute {
		lasts = time.Until(deadline) - time.Minute
		t.Logf("the load lasts %v: -timeout allows no more", lasts.Round(time.Second))
	}
	return lasts
}

// storeEnv returns the settings of a server with an empty store of that name, and then more.
func storeEnv(t testing.TB, name string, more ...string) []string {
	t.Helper()
	if name == "postgres" {
		return append(more, "DATABASE_URL="+newDatabase(t))
	}
	return append(more, "DOCS_DIR="+t.TempDir(), "DATABASE_URL=")
}

// sendLoad sends a mixed load and reports on it.
func sendLoad(t *testing.T, url string, lasts time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	l := &mixedLoad{url: url, token: testAdminToken}
	l.run(ctx, loadClients)
	l.report(t)
}

// holdings are what a process holds when it has nothing to do.
type holdings struct{ goroutines, heap, files int }

// holdings asks the program repeatedly, because what requests have used is given back in the background.
func (p *process) holdings(t *testing.T) holdings {
	t.Helper()
	var least holdings
	for i := range 20 {
		r, err := http.NewRequest("GET", p.url+"/debug/pprof/heap?gc=1", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+testAdminToken)
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			resp.Body.Close()
		}

		_, metrics := p.get("/metrics")
		now := holdings{
			goroutines: int(gaugeValue(t, metrics, "go_goroutines")),
			heap:       int(gaugeValue(t, metrics, "go_memstats_heap_alloc_bytes")),
			files:      int(gaugeValue(t, metrics, "process_open_fds")),
		}
		if i == 0 {
			least = now
		}
		least.goroutines = min(least.goroutines, now.goroutines)
		least.heap = min(least.heap, now.heap)
		least.files = min(least.files, now.files)
		time.Sleep(100 * time.Millisecond)
	}
	return least
}

// gaugeValue returns the value of a series without labels.
func gaugeValue(t *testing.T, metrics, name string) (value float64) {
	t.Helper()
	_, rest, found := strings.Cut(metrics, "\n"+name+" ")
	if _, err := fmt.Sscan(rest, &value); err != nil || !found {
		t.Fatalf("no %s: %v", name, err)
	}
	return value
}

func mb(bytes int) float64 { return float64(bytes) / 1e6 }

// TestMixedLoadInProcess sends the load to servers in this process, for the race detector.
func TestMixedLoadInProcess(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"embedded", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := newTestServer(t, storeEnv(t, name)...)
			waitForOK(t, ts.url+"/readyz")
			sendLoad(t, ts.url, *soak)
		})
	}
}

// slowRounds returns how many rounds a test of repeated faults has: many if VITRINE_SLOW_TEST is set.
func slowRounds(few, many int) int {
	if os.Getenv("VITRINE_SLOW_TEST") != "" {
		return many
	}
	return few
}

// steppedNow is time.Now of a program whose clock steps by CLOCK_STEP seconds, two seconds after the start.
const steppedNow = `func Now() Time {
	t := systemNow()
	step, ok := syscall.Getenv("CLOCK_STEP")
	if !ok || runtimeNano()-startNano < 2e9 {
		return t
	}
	sign := int64(1)
	if step[0] == '-' {
		sign, step = -1, step[1:]
	}
	seconds, _ := atoi(step)
	t.wall += uint64(sign*int64(seconds)) << nsecShift
	return t
}

func systemNow() Time {`

// steppedProgram builds the program with that clock. faketime cannot do it: Go reads the clock without the C library.
func steppedProgram(t *testing.T) string {
	t.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(goroot)), "src", "time", "time.go")
	text := strings.Replace(readFile(t, source), "func Now() Time {", steppedNow, 1)
	text = strings.Replace(text, "import (", "import (\n\t\"syscall\"", 1)

	dir := t.TempDir()
	replaced, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	files := map[string]string{
		replaced: text,
		overlay:  mustJSON(map[string]any{"Replace": map[string]string{source: replaced}}),
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, "vitrine")
	out, err := exec.Command("go", "build", "-overlay", overlay, "-o", name, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return name
}

// TestClockThatStepsMovesNoAge corrects the clock by an hour while the program runs, as NTP does after a long outage.
func TestClockThatStepsMovesNoAge(t *testing.T) {
	t.Parallel()
	if os.Getenv("VITRINE_SLOW_TEST") == "" {
		t.Skip("set VITRINE_SLOW_TEST to build the program with another clock")
	}
	name := steppedProgram(t)
	collector := httptest.NewServer(newSpanSink(t))
	t.Cleanup(collector.Close)
	for _, seconds := range []string{"3600", "-3600"} {
		t.Run(seconds, func(t *testing.T) {
			t.Parallel()
			p := start(t, []string{
				"CLOCK_STEP=" + seconds, "DOCS_DIR=" + t.TempDir(), "DOCS_SYNC_INTERVAL=1h",
				"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_TRACE_SAMPLE_RATE=1",
			}, "sh", "-c", "exec "+name)
			p.get("/search?q=lantern")
			waitFor(t, "the step", func() bool {
				resp, err := http.Get(p.url + "/livez")
				if err != nil {
					return false
				}
				resp.Body.Close()
				date, err := http.ParseTime(resp.Header.Get("Date"))
				return err == nil && time.Since(date).Abs() > time.Minute
			})
			for range 3 {
				_, text := p.get("/metrics?name[]=vitrine_index_age_seconds&name[]=vitrine_span_export_age_seconds", "Authorization: Bearer "+testAdminToken)
				for _, age := range regexp.MustCompile(`(?m)^vitrine_\w+ (.*)$`).FindAllStringSubmatch(text, 2) {
					value, err := strconv.ParseFloat(age[1], 64)
					if err != nil || value <= 0 || value > 60 {
						t.Errorf("%s: %v", age[0], err)
					}
				}
				time.Sleep(time.Second)
			}
		})
	}
}
