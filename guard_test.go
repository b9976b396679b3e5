package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestAdminRoutesAreClosedWithoutToken(t *testing.T) {
	ts := newTestServer(t, "ADMIN_TOKEN=")
	if a := ts.put("a.md", "a"); a.status != http.StatusForbidden || !strings.Contains(a.body, "ADMIN_TOKEN") {
		t.Errorf("PUT: %d %s, want 403 that names ADMIN_TOKEN", a.status, a.body)
	}
	if a := ts.get("/search?q=a", "Authorization: "); a.status != http.StatusOK {
		t.Errorf("search is open without API_TOKEN: %d %s", a.status, a.body)
	}
}

func TestOwnAddressIsServedWhateverTheAllowedHosts(t *testing.T) {
	ts := newTestServer(t, "ALLOWED_HOSTS=docs.example.com", "ADMIN_ADDR=127.0.0.1:0")
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:99": 200, "[::ffff:127.0.0.1]:99": 200, "docs.example.com": 200,
		"127.0.0.2": 403, "[::1]": 403, "localhost": 403, "evil.example": 403,
	} {
		for _, path := range []string{"/readyz", "/livez", "admin:/healthz"} {
			if a := ts.get(path, "Host: "+host); a.status != 200 {
				t.Errorf("GET %s of %s: %d %s, want 200 of a probe", path, host, a.status, a.body)
			}
		}
		for _, path := range []string{"/", "/search?q=a", "admin:/", "admin:/metrics", "admin:/debug/loglevel"} {
			if a := ts.get(path, "Host: "+host); a.status != want {
				t.Errorf("GET %s of %s: %d %s, want %d", path, host, a.status, a.body, want)
			}
		}
	}
}

func TestAllowedOriginIsToldWhatItMayRead(t *testing.T) {
	ts := newTestServer(t, "ALLOWED_ORIGINS=https://app.example.com")
	a := ts.get("/search?q=a", "Origin: https://app.example.com")
	if a.status != 200 || a.header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || a.header.Get("Vary") != "Origin" {
		t.Errorf("%d %v", a.status, a.header)
	}
	for _, name := range []string{"X-Correlation-ID", "ETag", "Mcp-"} {
		if exposed := a.header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, name) {
			t.Errorf("%s is not exposed: %s", name, exposed)
		}
	}
}

// TestOwnOriginMayLeaveOutTheDefaultPort sends Origin as browsers do and Host as proxies do.
func TestOwnOriginMayLeaveOutTheDefaultPort(t *testing.T) {
	ts := newTestServer(t, "ALLOWED_HOSTS=*")
	for _, test := range []struct {
		host, origin string
		want         int
	}{
		{"docs.example.com", "https://docs.example.com", 200},
		{"docs.example.com:443", "https://docs.example.com", 200},
		{"Docs.Example.com:443", "https://docs.example.com", 200},
		{"docs.example.com", "https://docs.example.com:443", 200},
		{"docs.example.com:80", "http://docs.example.com", 200},
		{"[2001:db8::1]:443", "https://[2001:db8::1]", 200},
		{"docs.example.com:8443", "https://docs.example.com:8443", 200},
		{"docs.example.com:80", "https://docs.example.com", 403},
		{"docs.example.com:443", "http://docs.example.com", 403},
		{"docs.example.com", "https://docs.example.com:8443", 403},
		{"docs.example.com:8443", "https://docs.example.com", 403},
		{"docs.example.com:443", "https://example.com", 403},
		{"docs.example.com", "docs.example.com", 403},
		{"docs.example.com:443", "app://docs.example.com", 403},
		{":443", "https://:443", 403},
	} {
		a := ts.get("/search?q=install", "Host: "+test.host, "Origin: "+test.origin)
		if a.status != test.want {
			t.Errorf("%s at %s: %d, want %d", test.origin, test.host, a.status, test.want)
		}
	}
}

func TestRateLimitIsPerClient(t *testing.T) {
	ts := newTestServer(t, "RATE_LIMIT=1", "TRUSTED_PROXIES=127.0.0.0/8")
	ask := func(client string) answer { return ts.get("/search?q=a", "X-Forwarded-For: "+client) }
	for i, want := range []int{200, 200, 429} {
		if a := ask("192.0.2.1"); a.status != want {
			t.Errorf("request %d: %d, want %d", i, a.status, want)
		} else if a.status == 429 && a.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After %q, want 1", a.header.Get("Retry-After"))
		}
	}
	if a := ask("192.0.2.2"); a.status != 200 {
		t.Errorf("another client: %d", a.status)
	}
	if a := ask("2001:db8::1"); a.status != 200 {
		t.Errorf("IPv6: %d", a.status)
	}
	ask("2001:db8::2")
	if a := ask("2001:db8::3"); a.status != 429 {
		t.Errorf("the same /64: %d, want 429", a.status)
	}
	if a := ask("evil, 192.0.2.1"); a.status != 429 {
		t.Errorf("what a client writes in front of X-Forwarded-For: %d, want 429", a.status)
	}
	for range 5 {
		if a := ts.get("/livez"); a.status != 200 {
			t.Errorf("probes are limited: %d", a.status)
		}
	}
}

func TestRateLimitBelowOneLetsARequestThrough(t *testing.T) {
	ts := newTestServer(t, "RATE_LIMIT=0.01")
	for i, want := range []int{200, 429} {
		if a := ts.get("/search?q=a"); a.status != want {
			t.Errorf("request %d: %d, want %d", i, a.status, want)
		}
	}
}

func TestForwardedForIsNotBelievedFromStrangers(t *testing.T) {
	ts := newTestServer(t, "RATE_LIMIT=1")
	status := 0
	for i := range 3 {
		status = ts.get("/search?q=a", fmt.Sprintf("X-Forwarded-For: 192.0.2.%d", i)).status
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("the third request under another forwarded address: %d, want 429", status)
	}
}

func TestLogNamesTheClientBehindAProxy(t *testing.T) {
	ts := newTestServer(t, "TRUSTED_PROXIES=127.0.0.0/8")
	id := ts.get("/search?q=a", "X-Forwarded-For: 7.7.7.7").header.Get("X-Correlation-ID")
	if line := ts.lines.find(t, "request", id); line["client"] != "7.7.7.7" {
		t.Errorf("client %v", line["client"])
	}
}
