package main

// What clients, proxies and load balancers send that is not quite what the specification has in mind.

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestGetMCPStreamsOnlyToWhoAsksForIt asks with the headers of probes and clients. A 405 names POST.
func TestGetMCPStreamsOnlyToWhoAsksForIt(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, nil)
	const version = "MCP-Protocol-Version: "
	for _, test := range []struct {
		headers string // separated by |
		want    int
	}{
		{"", 405},
		{"Accept: */*", 405},
		{"Accept: text/*", 405},
		{"Accept: application/json", 405},
		{"Accept: text/event-stream", 405},
		{"Accept: */*|" + version + "2025-11-25", 405},
		{"Accept: text/*|" + version + "2025-06-18", 405},
		{"Accept: application/json, */*;q=0.1|" + version + "2025-06-18", 405},
		{"Accept: text/event-stream;q=0|" + version + "2025-06-18", 405},
		{"Accept: text/event-stream|" + version + "2024-11-05", 405},
		{"Accept: text/event-stream|" + version + "2026-07-28", 405},
		{"Accept: text/event-stream|" + version + "1999-01-01", 400},
		{"Accept: text/event-stream|" + version + "2025-06-18|" + version + "2025-11-25", 400},
		{"Accept: text/event-stream|" + version + "2025-03-26", 200},
		{"Accept: Text/Event-Stream; q=0.9, application/json|" + version + "2025-11-25", 200},
		{"Accept: application/json, text/event-stream|" + version + "2025-06-18", 200},
		{"Accept: text/event-stream|" + version + "2025-06-18|" + version + "2025-06-18", 200},
		{"Accept: text/event-stream|" + version + "2025-06-18, 2025-06-18", 200},
	} {
		for _, path := range []string{"/mcp", "/mcp/"} {
			answer := ts.open("GET", path, "", test.headers)
			if answer.StatusCode != test.want {
				t.Errorf("GET %s with %q: %s, want %d", path, test.headers, answer.Status, test.want)
			}
			if test.want == 405 && answer.Header.Get("Allow") != "POST" {
				t.Errorf("GET %s with %q: Allow %q", path, test.headers, answer.Header.Get("Allow"))
			}
		}
	}
}

// open sends a request with headers separated by | and returns the response without reading its body.
func (ts *testServer) open(method, path, body, headers string) *http.Response {
	ts.t.Helper()
	ctx, cancel := context.WithCancel(ts.t.Context())
	r, err := http.NewRequestWithContext(ctx, method, ts.url+path, strings.NewReader(body))
	if err != nil {
		ts.t.Fatal(err)
	}
	for header := range strings.SplitSeq(headers, "|") {
		if key, value, ok := strings.Cut(header, ": "); ok {
			r.Header.Add(key, value)
		}
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		ts.t.Fatal(err)
	}
	ts.t.Cleanup(func() {
		cancel()
		answer.Body.Close()
	})
	return answer
}

// TestStreamsMustNotBeTransformed opens each stream and expects a proxy to be told not to compress it.
func TestStreamsMustNotBeTransformed(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, nil)
	const listen = `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	for name, answer := range map[string]*http.Response{
		"notifications": ts.open("GET", "/mcp", "", "Accept: text/event-stream|Mcp-Protocol-Version: 2025-11-25"),
		"sse":           ts.open("GET", "/sse", "", "Accept: text/event-stream"),
		"sse/":          ts.open("GET", "/sse/", "", ""),
		"listen":        ts.open("POST", "/mcp", listen, "Content-Type: application/json|Accept: text/event-stream|Mcp-Protocol-Version: 2026-07-28|Mcp-Method: subscriptions/listen"),
		"bulk":          ts.open("POST", "/documents", `{"id":"x.md","text":"x"}`, "Authorization: Bearer "+testAdminToken),
	} {
		if got := answer.Header.Get("Cache-Control"); answer.StatusCode != 200 || got != "no-store, no-transform" {
			t.Errorf("%s: %s, Cache-Control %q", name, answer.Status, got)
		}
	}
}

// TestSSEWorksBelowAPrefix follows the endpoint event as a browser resolves it.
func TestSSEWorksBelowAPrefix(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, nil)
	for path, want := range map[string]string{"/sse": "/docs/messages", "/sse/": "/docs/messages"} {
		answer := ts.open("GET", path, "", "")
		_, address, _ := strings.Cut(events(t, bufio.NewReader(answer.Body), "data: "), "data: ")
		base, _ := url.Parse("http://proxy/docs" + path)
		got, err := base.Parse(strings.TrimSpace(address))
		if err != nil || got.Path != want || got.Query().Get("sessionId") == "" {
			t.Errorf("%s: %s, %v", path, got, err)
		}
	}
}

// TestRequestsWithoutHostAreServed speaks HTTP/1.0 as load balancers do.
func TestRequestsWithoutHostAreServed(t *testing.T) {
	ts := newTestServer(t, "ALLOWED_HOSTS=docs.example.com")
	for request, want := range map[string]string{
		"GET /livez HTTP/1.0\r\n\r\n":                       "200 OK",
		"GET /readyz HTTP/1.0\r\n\r\n":                      "200 OK",
		"OPTIONS / HTTP/1.0\r\n\r\n":                        "405 Method Not Allowed",
		"GET /search?q=a HTTP/1.0\r\n\r\n":                  "200 OK",
		"HEAD /livez HTTP/1.0\r\nHost: lb.internal\r\n\r\n": "200 OK",
		"GET /search?q=a HTTP/1.0\r\nHost: evil\r\n\r\n":    "403 Forbidden",
		"GET /metrics HTTP/1.0\r\nHost: evil\r\n\r\n":       "403 Forbidden",
		"GET /livez HTTP/1.0\r\nOrigin: http://e\r\n\r\n":   "403 Forbidden",
		"GET /livez HTTP/1.1\r\n\r\n":                       "400 Bad Request",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(ts.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, request)
		status, _ := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if !strings.Contains(status, want) {
			t.Errorf("%q: %q, want %s", request, status, want)
		}
	}
}

// TestOAuthDiscoveryIsToldToSendTheToken asks what clients ask after a 401.
func TestOAuthDiscoveryIsToldToSendTheToken(t *testing.T) {
	ts := newTestServer(t, "API_TOKEN=t", "ALLOWED_ORIGINS=https://app.example.com")
	for _, request := range []string{
		"POST /register",
		"GET /authorize",
		"POST /token",
		"GET /.well-known/oauth-protected-resource",
		"GET /.well-known/oauth-protected-resource/mcp",
		"GET /.well-known/oauth-authorization-server",
		"GET /.well-known/oauth-authorization-server/mcp",
		"GET /.well-known/openid-configuration",
		"GET /mcp/.well-known/openid-configuration",
	} {
		method, path, _ := strings.Cut(request, " ")
		a := ts.do(method, path, "{}", "Authorization: ", "Content-Type: application/json")
		const want = `"error_description":"no OAuth here: send the header Authorization: Bearer TOKEN"`
		if a.status != 404 || !strings.Contains(a.body, `"error":"`) || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
	}
	a := ts.do("POST", "/mcp", "{}", "Authorization: ", "Origin: https://app.example.com")
	if exposed := a.header.Get("Access-Control-Expose-Headers"); a.status != 401 || !strings.Contains(exposed, "WWW-Authenticate") {
		t.Errorf("%d exposes %q", a.status, exposed)
	}
	if a := ts.get("/.well-known/security.txt"); !strings.Contains(a.body, "no such page") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestEndpointsMayEndWithASlash asks the endpoints of MCP with a slash more.
func TestEndpointsMayEndWithASlash(t *testing.T) {
	ts := newTestServer(t)
	for request, want := range map[string]int{
		"POST /mcp/": 200, "HEAD /mcp/": 405, "PUT /mcp/": 405, "HEAD /sse/": 405, "GET /mcp/x": 404, "GET /sse/x": 404,
	} {
		method, path, _ := strings.Cut(request, " ")
		a := ts.do(method, path, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Content-Type: application/json")
		if a.status != want {
			t.Errorf("%s: %d, want %d", request, a.status, want)
		}
	}
	a := ts.do("POST", "/mcp/", "{", "Content-Type: text/plain")
	if !strings.Contains(a.body, `"jsonrpc"`) {
		t.Error("not in the protocol's form:", a.body)
	}
	if line := ts.lines.find(t, "request", a.header.Get("X-Correlation-ID")); line["route"] != "/mcp" {
		t.Errorf("route %v", line["route"])
	}
}
