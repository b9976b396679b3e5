package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestProfilingIsClosedUnlessEnabled(t *testing.T) {
	ts := newTestServer(t)
	for _, path := range []string{"/debug/pprof/heap", "/debug/pprof/", "/debug/flight"} {
		if a := ts.get(path); a.status != http.StatusNotFound {
			t.Errorf("GET %s: %d, want 404", path, a.status)
		}
	}
	_, err := readSettings(map[string]string{"ENABLE_PROFILING": "true"})
	if err == nil || !strings.Contains(err.Error(), "ADMIN_TOKEN") {
		t.Errorf("ENABLE_PROFILING without ADMIN_TOKEN: %v", err)
	}
}

func TestProfilesAreReadByGoTool(t *testing.T) {
	ts := newTestServer(t, "ENABLE_PROFILING=true")
	if a := ts.get("/debug/pprof/"); a.status != 200 || !strings.Contains(a.body, "heap") {
		t.Errorf("index: %d %s", a.status, a.body)
	}
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for i := range 200 {
		ts.put(filepath.Join("a", strings.Repeat("b", i%20+1)+".md"), strings.Repeat("# Alpha\n\nbeta gamma delta\n\n", 200))
	}
	busy.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				ts.search("q=alpha+beta+gamma")
				ts.do("POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_docs","arguments":{"query":"alpha beta gamma"}}}`,
					"Content-Type: application/json", "Mcp-Protocol-Version: 2025-11-25")
			}
		}
	})
	withToken := strings.Replace(ts.url, "http://", "http://x:"+testAdminToken+"@", 1)
	for _, path := range []string{"profile?seconds=1", "heap", "allocs", "goroutine", "block", "mutex", "threadcreate"} {
		cmd := exec.Command("go", "tool", "pprof", "-raw", withToken+"/debug/pprof/"+path)
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Samples:") {
			t.Errorf("%s: %v\n%.500s", path, err, out)
		}
		for _, label := range []string{"route:[GET /search]", "tool:[search_docs]"} {
			if strings.HasPrefix(path, "profile") && !strings.Contains(string(out), label) {
				t.Errorf("the CPU profile has no label %s:\n%.2000s", label, out)
			}
		}
	}
	close(stop)
	busy.Wait()
	for _, path := range []string{"/debug/pprof/trace?seconds=1", "/debug/flight"} {
		a := ts.get(path)
		if a.status != 200 || !strings.HasPrefix(a.body, "go 1.") {
			t.Errorf("%s: %d %.20q is no execution trace", path, a.status, a.body)
		}
		if line := ts.lines.find(t, "profile captured", a.header.Get("X-Correlation-ID")); line["client"] == nil {
			t.Errorf("audit line: %v", line)
		}
	}
}

func TestProfilingRefuses(t *testing.T) {
	ts := newTestServer(t, "ENABLE_PROFILING=true", "API_TOKEN=api-token")
	for _, test := range []struct {
		path, header string
		want         int
	}{
		{"/debug/pprof/profile?seconds=0", "", 400},
		{"/debug/pprof/profile?seconds=61", "", 400},
		{"/debug/pprof/heap?seconds=x", "", 400},
		{"/debug/pprof/heap", "Authorization: ", 401},
		{"/debug/pprof/heap", "Authorization: Bearer wrong", 401},
		{"/debug/pprof/heap", "Authorization: Bearer api-token", 403},
		{"/debug/pprof/cmdline", "", 404},
	} {
		if a := ts.get(test.path, test.header); a.status != test.want {
			t.Errorf("GET %s %s: %d, want %d", test.path, test.header, a.status, test.want)
		}
	}
}

func TestSecondCPUProfileIsToldUntilWhenToWait(t *testing.T) {
	ts := newTestServer(t, "ENABLE_PROFILING=true")
	var first sync.WaitGroup
	first.Go(func() {
		if a := ts.get("/debug/pprof/profile?seconds=2"); a.status != 200 {
			t.Errorf("first: %d", a.status)
		}
	})
	waitFor(t, "the first capture", func() bool {
		ts.profile.mu.Lock()
		defer ts.profile.mu.Unlock()
		return len(ts.profile.running) > 0
	})
	a := ts.get("/debug/pprof/profile?seconds=1")
	if a.status != http.StatusConflict || !strings.Contains(a.body, "until 20") || a.header.Get("Retry-After") == "" {
		t.Errorf("second: %d %s", a.status, a.body)
	}
	first.Wait()
	if a := ts.get("/debug/pprof/profile?seconds=1"); a.status != 200 {
		t.Errorf("after the first: %d %s", a.status, a.body)
	}
}

func TestProfilingHasItsOwnBudgets(t *testing.T) {
	ts := newTestServer(t, "ENABLE_PROFILING=true", "RATE_LIMIT=1")
	for range 3 { // a continuous profiler's round: five paths
		delete(ts.profile.budget.fullAt, anyClient)
		for _, name := range []string{"heap", "allocs", "goroutine", "block", "mutex"} {
			if a := ts.get("/debug/pprof/" + name); a.status != 200 {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
	}
	status := 0
	for range 20 {
		if status = ts.get("/debug/pprof/threadcreate").status; status != 200 {
			break
		}
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("twenty captures at once: %d, want 429", status)
	}
	delete(ts.profile.budget.fullAt, anyClient)
	for range 10 {
		status = ts.get("/debug/pprof/heap", "Authorization: Bearer wrong").status
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("ten wrong tokens: %d, want 429", status)
	}
	if a := ts.get("/debug/pprof/heap"); a.status != 200 {
		t.Errorf("the owner is locked out by others' failures: %d %s", a.status, a.body)
	}
}

// TestMissingRoutesSayWhereTheyAre asks for routes that the settings have taken away.
func TestMissingRoutesSayWhereTheyAre(t *testing.T) {
	one := newTestServer(t)
	two := newTestServer(t, "ADMIN_ADDR=127.0.0.1:0")
	for _, test := range []struct {
		ts         *testServer
		path, want string
	}{
		{one, "/debug/pprof/", "profiling is off: set ENABLE_PROFILING=true"},
		{one, "/debug/pprof/heap", "profiling is off"},
		{one, "/debug/flight", "profiling is off"},
		{one, "/debug/nothing", "no such page"},
		{one, "/nothing", "no such page: GET / lists the routes"},
		{two, "admin:/debug/pprof/heap", "profiling is off"},
		{two, "admin:/search", "the address in ADDR serves search"},
		{two, "admin:/mcp", "the address in ADDR serves search"},
		{two, "/metrics", "ask the one in ADMIN_ADDR"},
		{two, "/debug/requests", "ask the one in ADMIN_ADDR"},
		{two, "/nothing", "no such page"},
	} {
		a := test.ts.get(test.path)
		if a.status != 404 || !strings.Contains(a.body, test.want) {
			t.Errorf("%s: %d %s, want %s", test.path, a.status, a.body, test.want)
		}
	}
}

// TestSlowRequestKeepsItsExecutionTrace finds the trace from the waterfall, and lets go tool trace read it.
func TestSlowRequestKeepsItsExecutionTrace(t *testing.T) { // not parallel: a process has one flight recorder
	ts := newTestServer(t, "ENABLE_PROFILING=true", "SLOW_REQUEST=1ns")
	first := ts.get("/search?q=alpha", "X-Correlation-ID: slow-1").header.Get("X-Correlation-ID")
	ts.lines.find(t, "execution trace kept", first)
	waterfall := ts.get("/debug/requests/" + first).body
	const path = "/debug/requests/slow-1/trace"
	if !strings.Contains(waterfall, path) {
		t.Errorf("the waterfall does not name the trace:\n%s", waterfall)
	}
	if text := ts.get("/debug/requests/" + first + "?format=json").body; !strings.Contains(text, `"execution_trace":"`+path+`"`) {
		t.Errorf("JSON: %s", text)
	}
	a := ts.get(path)
	if a.status != http.StatusOK || !strings.HasPrefix(a.body, "go 1.") {
		t.Fatalf("%d %.100q", a.status, a.body)
	}
	name := filepath.Join(t.TempDir(), "slow.trace")
	if err := os.WriteFile(name, []byte(a.body), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "tool", "trace", "-d=footprint", name).CombinedOutput(); err != nil || len(out) == 0 {
		t.Errorf("go tool trace: %v %s", err, out)
	}

	// One a minute is kept. The second request has none, and both need the token.
	ts.get("/search?q=alpha", "X-Correlation-ID: slow-2")
	if a := ts.get("/debug/requests/slow-2/trace"); a.status != http.StatusNotFound {
		t.Errorf("a second trace within a minute: %d", a.status)
	}
	if a := ts.get(path, "Authorization: Bearer wrong"); a.status != http.StatusUnauthorized {
		t.Errorf("without the token: %d", a.status)
	}
	ts = newTestServer(t, "SLOW_REQUEST=1ns")
	ts.get("/search?q=alpha", "X-Correlation-ID: slow-1")
	if a := ts.get(path); a.status != http.StatusNotFound || !strings.Contains(a.body, "profiling is off") {
		t.Errorf("without profiling: %d %s", a.status, a.body)
	}
}

// TestSlowTracesAreBounded adds traces of several sizes.
func TestSlowTracesAreBounded(t *testing.T) {
	var s slowTraces
	newRecord := func(id string) *record { return &record{correlation: id, policy: new(recordPolicy)} }
	add := func(id string, size int) *record {
		rec := newRecord(id)
		s.add(slowTrace{rec, make([]byte, size)})
		return rec
	}
	a := add("a", 1)
	add("b", 2)
	c := add("c", 3)
	if len(s.kept) != maxSlowTraces || s.find("a") != nil || a.traced || !c.traced || len(s.find("c")) != 3 {
		t.Errorf("%d are kept, the oldest one of three: %v", len(s.kept), s.find("a"))
	}
	add("d", maxSlowTraceBytes)
	if len(s.kept) != 1 || len(s.find("d")) != maxSlowTraceBytes || c.traced {
		t.Errorf("%d are kept of more than 16 MiB", len(s.kept))
	}
	if n, err := new(boundedBuffer).Write(make([]byte, maxSlowTraceBytes+1)); n != 0 || err == nil {
		t.Errorf("a trace of more than 16 MiB: %d %v", n, err)
	}
}
