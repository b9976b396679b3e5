package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestWrongTokensShareOneBudgetPerAddress guesses on one route after the other.
func TestWrongTokensShareOneBudgetPerAddress(t *testing.T) { // not parallel: a process has one flight recorder
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

// TestForgedCookiesCountAsWrongTokens sends the cookies that guessed tokens would make. The server still shows the form, because
// after a change of the token all browsers send such cookies.
func TestForgedCookiesCountAsWrongTokens(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t, "API_TOKEN=the-api-token")
	guess := newServerOf(t, map[string]string{"API_TOKEN": "guessed", "ADMIN_TOKEN": "guessed-too"}, new(logBuffer))
	defer guess.close()
	at := time.Now()
	count := func() (n int) {
		_, rest, _ := strings.Cut(ts.get("/metrics").body, "\nvitrine_auth_failures_total ")
		_, _ = fmt.Sscan(rest, &n)
		return n
	}
	for _, test := range []struct {
		path, cookie, accept string
		status               int
		isGuess              bool
	}{
		{"/search?q=a", guess.cookieValue(signedInAPI, at), "*/*", 401, true},
		{"/debug/requests", guess.cookieValue(signedInAdmin, at), "*/*", 401, true},
		{"/read/a.md", guess.cookieValue(signedInAPI, at), "text/html", 401, true},
		{"/", guess.cookieValue(signedInAdmin, at), "text/html", 200, true}, // the page says whether it is signed in
		{"/search?q=a", "api.1.", "*/*", 401, true},
		{"/search?q=a", "of another program", "*/*", 401, false},
		{"/search?q=a", "root." + strings.Repeat("0", 64), "*/*", 401, false},
		{"/search?q=a", ts.cookieValue(signedInAPI, at.Add(-2*signInLifetime)), "*/*", 401, false}, // expired
		{"/search?q=a", ts.cookieValue(signedInAPI, at), "*/*", 200, false},
		{"/debug/requests", ts.cookieValue(signedInAPI, at), "*/*", 403, false},
	} {
		before := count()
		a := ts.get(test.path, "Authorization: ", "Accept: "+test.accept, "Cookie: "+signInCookie+"="+test.cookie)
		isCounted := count() > before
		if a.status != test.status || isCounted != test.isGuess {
			t.Errorf("%s with %s: %d, counted %v", test.path, test.cookie, a.status, isCounted)
		}
	}
}

// TestCookiesOfNoTokenAreNoGuesses sends the cookie that a browser has kept of a server with a token to one without.
func TestCookiesOfNoTokenAreNoGuesses(t *testing.T) {
	t.Parallel()
	other := newServerOf(t, map[string]string{"API_TOKEN": "the-api-token"}, new(logBuffer))
	defer other.close()
	ts := newTestServer(t)
	for _, kind := range []string{signedInAPI, ""} {
		a := ts.get("/search?q=a", "Authorization: ", "Cookie: "+signInCookie+"="+other.cookieValue(kind, time.Now()))
		if metrics := ts.get("/metrics").body; a.status != 200 || !strings.Contains(metrics, "\nvitrine_auth_failures_total 0\n") {
			t.Errorf("%q: %d, or a failure is counted", kind, a.status)
		}
	}
}

// TestEveryRouteThatWantsATokenCountsGuesses asks each route of both listeners with a wrong token, from an address that has used
// up its budget on another one.
func TestEveryRouteThatWantsATokenCountsGuesses(t *testing.T) { // not parallel: a process has one flight recorder
	ts := newTestServer(t, "API_TOKEN=the-api-token", "ENABLE_PROFILING=true", "ADMIN_ADDR=127.0.0.1:0", "RECORD_GAPS=true")
	wrong := func(method, path string) answer {
		return ts.do(method, path, "", "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("x:wrong")))
	}
	for range 5 {
		wrong("GET", "/documents")
	}
	for listener, serves := range map[string]string{"": servesSearch, "admin:": servesAdmin} {
		for _, rt := range ts.routes(serves) {
			method, path, _ := strings.Cut(rt.pattern, " ")
			path = strings.NewReplacer("{$}", "", "{id...}", "a.md", "{path...}", "a.png", "{id}", "a", "{name}", "page.js").Replace(path)
			wantsToken := rt.access == api || rt.access == admin || rt.access == profiling || path == "/signin"
			a := wrong(method, listener+path)
			if (a.status == http.StatusTooManyRequests) != wantsToken {
				t.Errorf("%s%s: %d", listener, rt.pattern, a.status)
			}
		}
	}
	if a := ts.get("admin:/debug/pprof/"); a.status != http.StatusOK {
		t.Errorf("the right token after them: %d", a.status)
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
