package main

import (
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestWrongTokensShareOneBudgetPerAddress guesses on one route after the other.
func TestWrongTokensShareOneBudgetPerAddress(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t, "API_TOKEN=the-api-token", "ENABLE_PROFILING=true", "TRUSTED_PROXIES=127.0.0.0/8")
	const wrong = "Authorization: Bearer wrong"
	const from = "X-Forwarded-For: 203.0.113.7"
	routes := []struct{ method, path, body string }{
		{"GET", "/search?q=a", ""},
		{"GET", "/documents", ""},
		{"POST", "/mcp", "{}"},
		{"PUT", "/documents/a.md", "# A"},
		{"GET", "/debug/pprof/heap", ""},
		{"GET", "/debug/requests", ""},
		{"GET", "/sse", ""},
		{"DELETE", "/documents/a.md", ""},
		{"POST", "/documents", "{}"},
		{"PUT", "/debug/loglevel", "debug"},
		{"GET", "/documents/a.md", ""},
		{"GET", "/debug/pprof/", ""},
	}
	ask := func(i int, headers ...string) answer {
		rt := routes[i%len(routes)]
		return ts.do(rt.method, rt.path, rt.body, append(headers, "Content-Type: application/json")...)
	}

	for i := range routes { // asking without a token is no guess
		if a := ask(i, "Authorization: ", from); a.status != http.StatusUnauthorized {
			t.Fatalf("%v without a token: %d", routes[i], a.status)
		}
	}
	for i := range 5 {
		if a := ask(i, wrong, from); a.status != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d %s", i, a.status, a.body)
		}
	}
	for i := range routes {
		a := ask(i, wrong, from)
		if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
			t.Errorf("%v: %d %v", routes[i], a.status, a.header)
		}
	}
	if a := ts.get("/documents", from); a.status != http.StatusOK {
		t.Errorf("the right token from the same address: %d", a.status)
	}
	if a := ts.get("/documents", wrong, "X-Forwarded-For: 203.0.113.8"); a.status != http.StatusUnauthorized {
		t.Errorf("another address: %d", a.status)
	}
	if metrics := ts.get("/metrics").body; !strings.Contains(metrics, "vitrine_auth_failures_total 18\n") {
		t.Error("the failures are not counted")
	}
}

// TestReadinessTellsCausesOnlyWithTheAdminToken takes the folder away: its path is nobody's business.
func TestReadinessTellsCausesOnlyWithTheAdminToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/secret-place"
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	ts := openTestServer(t, dir, "API_TOKEN=the-api-token")
	ts.serve()
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a failed scan", func() bool {
		return strings.Contains(ts.get("/readyz?verbose").body, "last scan failed: opening DOCS_DIR")
	})
	for _, header := range []string{"Authorization: ", "Authorization: Bearer wrong", "Authorization: Bearer the-api-token"} {
		body := ts.get("/readyz?verbose", header).body
		if !strings.Contains(body, "last scan failed\n") || strings.Contains(body, "secret-place") {
			t.Errorf("with %q: %s", header, body)
		}
	}
}
