package main

// What clients, proxies and load balancers send that is not quite what the specification has in mind.

import (
	"bufio"
	"context"
	"fmt"
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
		if got := answer.Header.Get("X-Accel-Buffering"); got != "no" {
			t.Errorf("%s: X-Accel-Buffering %q", name, got)
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
		"OPTIONS / HTTP/1.0\r\n\r\n":                        "204 No Content",
		"OPTIONS * HTTP/1.0\r\n\r\n":                        "200 OK",
		"OPTIONS /livez HTTP/1.0\r\n\r\n":                   "204 No Content",
		"OPTIONS /nope HTTP/1.0\r\n\r\n":                    "404 Not Found",
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
		"POST /register/",
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
		if got := a.header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control %q", request, got)
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
		"POST /messages/": 400, "POST /messages/?sessionId=none": 404, "GET /messages/": 405,
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

// TestLostClientsAreToldWhereToConnect asks as clients do that were given another address of the server.
func TestLostClientsAreToldWhereToConnect(t *testing.T) {
	ts := newTestServer(t)
	const hint = "MCP clients connect to /mcp"
	for request, isLost := range map[string]bool{
		"POST / application/json":                 true,
		"POST /sse application/json":              true,
		"POST /sse/ application/json":             true,
		"POST /MCP application/json":              true,
		"POST /api/mcp application/json":          true,
		"POST /mcp/mcp application/json":          true,
		"POST /rpc application/json":              true,
		"POST /message application/json":          true,
		"GET /mcp/sse text/event-stream":          true,
		"GET /SSE text/event-stream":              true,
		"GET /v1/mcp/ text/event-stream":          true,
		"POST / application/x-www-form":           false,
		"POST /search application/json":           false,
		"POST /documents/x.md application/json":   false,
		"PUT /mcp application/json":               false,
		"DELETE /sse application/json":            false,
		"GET /nowhere text/html":                  false,
		"GET /documents/mcp/x.md text/html":       false,
		"GET /read/mcp text/html":                 false,
		"POST /mcp text/plain":                    false,
		"GET /.well-known/oauth-x/mcp text/plain": false,
	} {
		parts := strings.Fields(request)
		a := ts.do(parts[0], parts[1], `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Content-Type: "+parts[2])
		if a.status < 400 || strings.Contains(a.body, hint) != isLost {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
	}
}

const legacyHeaders = "Content-Type: application/json|Accept: application/json, text/event-stream|Mcp-Protocol-Version: 2025-03-26"

// post sends a message to POST /mcp and returns the status and the body.
func (ts *testServer) post(body, headers string) (status int, text string) {
	ts.t.Helper()
	answer := ts.open("POST", "/mcp", body, headers)
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		ts.t.Fatal(err)
	}
	return answer.StatusCode, string(got)
}

// TestNotificationsAreNeverAnswered sends notifications that carry whatever, alone and in a batch.
func TestNotificationsAreNeverAnswered(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, nil)
	for _, params := range []string{
		`[]`, `[1,2]`, `"x"`, `5`, `null`, `{}`, `{"_meta":[]}`, `{"_meta":5}`, `{"requestId":{}}`, `{"name":5}`, `{"a":1,"a":2}`,
		`{"_meta":{"io.modelcontextprotocol/protocolVersion":5}}`, `{"uri":[],"cursor":{}}`,
	} {
		for _, method := range []string{"notifications/initialized", "notifications/cancelled", "notifications/x", "tools/call", "initialize"} {
			message := `{"jsonrpc":"2.0","method":"` + method + `","params":` + params + `}`
			for _, body := range []string{message, "[" + message + "]", "[" + message + "," + message + "]"} {
				if status, text := ts.post(body, legacyHeaders); status != 202 || text != "" {
					t.Errorf("%s: %d %s", body, status, text)
				}
			}
		}
	}
	const notification = `{"jsonrpc":"2.0","method":"notifications/initialized","params":[]}`
	const ping = `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	if _, text := ts.post("["+notification+","+ping+"]", legacyHeaders); text != `[{"jsonrpc":"2.0","id":7,"result":{}}]` {
		t.Error(text)
	}
}

// TestResponsesAreNeverAnswered sends responses, which the server has not asked for, alone and in a batch. What is
// neither a request nor a response is refused.
func TestResponsesAreNeverAnswered(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, nil)
	for _, test := range []struct{ members, want string }{
		{`"id":1,"result":{}`, ""},
		{`"id":"a","result":{"method":"ping"}`, ""},
		{`"id":1,"result":null`, ""},
		{`"id":1,"method":null,"result":{}`, ""},
		{`"id":1,"error":{"code":-32601,"message":"x"}`, ""},
		{`"id":1,"error":null`, ""},
		{`"id":null,"error":{"code":-32700,"message":"x"}`, ""}, // JSON-RPC: the id could not be read
		{`"error":{"code":-32700,"message":"x"}`, ""},
		{`"id":[],"result":{}`, ""},
		{`"id":1,"result":{},"params":[5]`, ""},
		{`"id":1,"method":"ping","result":null,"error":null`, `"id":1,"result":{}`}, // Jackson writes members that are null
		{`"id":1,"method":"ping","result":{}`, `"id":1,"error":{"code":-32600`},
		{`"id":1,"method":"ping","result":0`, `"id":1,"error":{"code":-32600`},
		{`"id":1,"method":"tools/list","error":{"code":1,"message":"x"}`, `"id":1,"error":{"code":-32600`},
		{`"method":"notifications/initialized","result":{}`, `"id":null,"error":{"code":-32600`},
		{`"id":null,"method":"ping"`, `"id":null,"error":{"code":-32600`},
	} {
		message := `{"jsonrpc":"2.0",` + test.members + `}`
		for _, body := range []string{message, "[" + message + "]"} {
			_, got := ts.post(body, legacyHeaders)
			if !strings.Contains(got, test.want) || (test.want == "") != (got == "") {
				t.Errorf("%s\ngot  %s\nwant %s", body, got, test.want)
			}
		}
	}
}

// TestMemberNamesAreExact sends names in another case, which are ignored, and names twice, which are refused.
func TestMemberNamesAreExact(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, nil)
	const get = `"method":"tools/call","params":{"name":"get_document","arguments":{"id":"a b.md"}}`
	for _, test := range []struct{ body, want string }{
		{`{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/list"}`, `{"jsonrpc":"2.0","id":1,"result":{}}`},
		{`{"jsonrpc":"2.0","id":1,"Method":"tools/list","method":"ping","METHOD":"x"}`, `{"jsonrpc":"2.0","id":1,"result":{}}`},
		{`{"jsonrpc":"2.0","JSONRPC":"1.0","id":1,"ID":2,"Id":[],"method":"ping"}`, `"id":1,"result":{}`},
		{`{"Jsonrpc":"2.0","id":1,"method":"ping"}`, `"id":1,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","ID":1,"method":"ping"}`, ``},
		{`{"jsonrpc":"2.0","id":1,"Method":"ping"}`, `"id":1,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":1,` + get + `,"Params":{"name":"x"},"paramſ":{"name":"y"}}`, `No newline at the end`},
		{`{"jsonrpc":"2.0","id":1,"paramſ":{"name":"y"},"method":"tools/call"}`, `no tool \"\"`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"x","name":"get_document","Arguments":{},"arguments":{"id":"a b.md"}}}`, `No newline at the end`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_document","arguments":{"ID":"a b.md"}}}`, `unknown argument \"ID\"`},
		{`{"jsonrpc":"2.0","id":1,"\u006dethod":"ping"}`, `"id":1,"result":{}`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}`, `"id":1,"error":{"code":-32600`},
		{`{"method":"ping","method":"ping","jsonrpc":"2.0","id":"a"}`, `"id":"a","error":{"code":-32600`},
		{`{"jsonrpc":"2.0","x":1,"x":1,"id":1,"id":1,"method":"ping"}`, `"id":null,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/list"}`, `-32600`},
		{`{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}`, `"id":null,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping"}`, `-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{},"params":{}}`, `-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_document","name":"x","arguments":{}}}`, `"id":1,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_document","arguments":{"id":"a b.md"},"arguments":{}}}`, `-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_document","arguments":{"id":"a b.md","\u0069d":"x"}}}`, `-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"x":[{"a":1,"a":2}]}}}`, `-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","x":[[],{"":1,"":2}]}`, `-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","params":{` + manyMembers(40) + `}}`, `"id":1,"result":{}`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","params":{` + manyMembers(40) + `,"m39":0}}`, `-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","params":{` + manyMembers(40) + `,"m3":0}}`, `-32600`},
	} {
		_, got := ts.post(test.body, legacyHeaders)
		if !strings.Contains(got, test.want) || (test.want == "") != (got == "") {
			t.Errorf("%s\ngot  %s\nwant %s", test.body, got, test.want)
		}
	}
}

func manyMembers(n int) string {
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf(`"m%d":%d`, i, i))
	}
	return strings.Join(members, ",")
}

// TestDeepMessagesAreReadInOnePass would take minutes if each level were skipped anew.
func TestDeepMessagesAreReadInOnePass(t *testing.T) {
	const depth = 9000
	deep := strings.Repeat(`[`, depth) + strings.Repeat(" ", maxBodyBytes/2) + strings.Repeat(`]`, depth)
	for range 20 {
		_, err := parseMessage([]byte(`{"jsonrpc":"2.0","id":1,"method":"ping","x":` + deep + `}`))
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestOneValueTwoSpellings sends what has one meaning in another form.
func TestOneValueTwoSpellings(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, nil)
	call := func(tool, arguments string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments + `}}`
	}
	const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	const modernCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_documents","_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	const modernHeaders = "Content-Type: application/json|Mcp-Protocol-Version: 2026-07-28|Mcp-Method: tools/call"
	for _, test := range []struct{ body, headers, want string }{
		{call("search_docs", `{"query":"install","limit":"1"}`), legacyHeaders, `"document\":\"guide/install.md`},
		{call("search_docs", `{"query":"install","limit":"1.0"}`), legacyHeaders, `"document\":\"guide/install.md`},
		{call("search_docs", `{"query":"install","limit":"0"}`), legacyHeaders, `limit must be an integer from 1 to`},
		{call("search_docs", `{"query":"install","limit":"five"}`), legacyHeaders, `limit must be an integer from 1 to`},
		{call("search_docs", `{"query":"install","limit":""}`), legacyHeaders, `limit must be an integer from 1 to`},
		{call("search_docs", `{"query":"install","limit":"0x5"}`), legacyHeaders, `limit must be an integer from 1 to`},
		{call("search_docs", `{"query":"install","limit":"0x1p1"}`), legacyHeaders, `limit must be an integer from 1 to`},
		{call("search_docs", `{"query":"install","limit":"1_0"}`), legacyHeaders, `limit must be an integer from 1 to`},
		{call("search_docs", `{"query":"install","limit":"Infinity"}`), legacyHeaders, `limit must be an integer from 1 to`},
		{call("search_docs", `{"query":"install","limit":"1e999"}`), legacyHeaders, `limit must be an integer from 1 to`},
		{call("search_docs", `{"query":"install","limit":true}`), legacyHeaders, `limit must be an integer from 1 to`},
		{call("search_docs", `{"query":"install","limit":" 1 "}`), legacyHeaders, `"document\":\"guide/install.md`},
		{call("search_docs", `{"query":"install","limit":"+1"}`), legacyHeaders, `"document\":\"guide/install.md`},
		{call("search_docs", `{"query":"install","limit":"\u0031"}`), legacyHeaders, `"document\":\"guide/install.md`},
		{call("search_docs", `{"query":5}`), legacyHeaders, `query must be a string`},
		{call("get_document", `{"id":"guide/install.md","from_line":"3"}`), legacyHeaders, `lines 3 to 11`},
		{call("get_document", `{"id":"guide/install.md","max_chars":"5000"}`), legacyHeaders, `lines 1 to 11`},
		{call("list_documents", `[]`), legacyHeaders, `a b.md`},
		{call("list_documents", `[ ]`), legacyHeaders, `a b.md`},
		{call("list_documents", `{"limit":"2"}`), legacyHeaders, `next_cursor`},
		{call("list_documents", `[1]`), legacyHeaders, `params.arguments must be an object, not an array`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}`, legacyHeaders, `"result":{}`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[ ]}`, legacyHeaders, `search_docs`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":[]}}`, legacyHeaders, `search_docs`},
		{`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":[],"clientInfo":[]}}`, legacyHeaders, `"protocolVersion":"2025-06-18"`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}`, legacyHeaders, `params must be an object, not an array`},
		{"\ufeff" + ping, legacyHeaders, `"result":{}`},
		{"\ufeff [" + ping + "]", legacyHeaders, `[{"jsonrpc":"2.0","id":1,"result":{}}]`},
		{ping, legacyHeaders + "|Mcp-Protocol-Version: 2025-03-26", `"result":{}`},
		{ping, legacyHeaders + "|Mcp-Protocol-Version: 2025-06-18", `is not spoken here`},
		{ping, "Content-Type: application/json|Mcp-Protocol-Version: 2025-06-18, 2025-06-18", `"result":{}`},
		{ping, "Content-Type: application/json|Mcp-Protocol-Version: 2025-06-18, 2025-11-25", `is not spoken here`},
		{modernCall, modernHeaders + "|Mcp-Name: list_documents", `a b.md`},
		{modernCall, modernHeaders + "|Mcp-Name: list_documents|Mcp-Name: list_documents", `a b.md`},
		{modernCall, modernHeaders + "|Mcp-Name: list_documents, list_documents", `a b.md`},
		{modernCall, modernHeaders + "|Mcp-Name: list_documents, search_docs", `-32020`},
		{modernCall, modernHeaders + "|Mcp-Name: search_docs, search_docs", `-32020`},
		{ping, "Content-Type: application/json|Accept: text/event-stream", "event: message\ndata: " + `{"jsonrpc":"2.0","id":1,"result":{}}` + "\n\n"},
		{"[" + ping + "]", "Content-Type: application/json|Accept: text/event-stream", "event: message\ndata: [{"},
		{`{"jsonrpc":"2.0","id":1,"method":"no/such"}`, "Content-Type: application/json|Accept: text/event-stream", `data: {"jsonrpc":"2.0","id":1,"error":{"code":-32601`},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, "Content-Type: application/json|Accept: text/event-stream", ""},
		{ping, "Content-Type: application/json|Accept: text/html", `send Accept`},
		{"[" + ping + "]", "Content-Type: application/json|Accept: text/html", `"id":null,"error":{"code":-32600,"message":"send Accept`},
		{"[5," + ping + "]", "Content-Type: application/json|Accept: application/json;q=0", `"id":null,"error":{"code":-32600,"message":"send Accept`},
		{`[{"jsonrpc":"2.0","method":"notifications/initialized"}]`, "Content-Type: application/json|Accept: text/html", ""},
		{ping, "Content-Type: application/json|Content-Type: Application/JSON; charset=utf-8", `"result":{}`},
		{ping, "Content-Type: application/json, application/json", `"result":{}`},
		{ping, "Content-Type: application/json|Content-Type: text/plain", `send Content-Type`},
		{ping, "Content-Type: application/json; charset=utf-8, text/plain", `send Content-Type`},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, "Content-Type: application/json|Accept: text/html", ""},
	} {
		if _, got := ts.post(test.body, test.headers); !strings.Contains(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%s\n%s\ngot  %s\nwant %s", test.headers, test.body, got, test.want)
		}
	}
}

// TestEveryListRefusesABadCursor sends cursors that nobody gave out to all lists.
func TestEveryListRefusesABadCursor(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, nil)
	for _, method := range []string{"tools/list", "resources/list", "resources/templates/list", "prompts/list"} {
		for cursor, want := range map[string]string{
			`"!"`: "-32602", `"%%%"`: "-32602", `"Lg"`: "-32602", `5`: "-32602", `{}`: "-32602", `""`: "result", `null`: "result",
		} {
			body := `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{"cursor":` + cursor + `}}`
			if _, got := ts.post(body, legacyHeaders); !strings.Contains(got, want) {
				t.Errorf("%s: %s", body, got)
			}
		}
	}
}

// TestQueriesAreCountedInCharacters sends queries as long as the schema allows, and longer.
func TestQueriesAreCountedInCharacters(t *testing.T) {
	ts := newTestServer(t)
	c := &mcpClient{testServer: ts, version: modernVersion}
	for _, character := range []string{"a", "ß", "数", "😀"} {
		for n, isRefused := range map[int]bool{400: false, 1000: false, 1001: true} {
			text := strings.Repeat(character, n)
			_, result := c.call("search_docs", map[string]any{"query": text})
			if result.IsError != isRefused {
				t.Errorf("search_docs with %d %s: error %v", n, character, result.IsError)
			}
			if a := ts.get("/search?q=" + url.QueryEscape(text)); (a.status == 400) != isRefused {
				t.Errorf("GET /search with %d %s: %d %s", n, character, a.status, a.body)
			}
		}
	}
}

// TestEveryAnswerIsKeptOutOfCaches expects Cache-Control on answers in each form, and no-transform on events.
func TestEveryAnswerIsKeptOutOfCaches(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, nil)
	const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	for _, body := range []string{ping, "[" + ping + "]", "[" + ping + "," + ping + "]", "[]", "{"} {
		for accept, want := range map[string]string{"application/json": "no-store", "text/event-stream": "no-store, no-transform"} {
			a := ts.do("POST", "/mcp", body, "Content-Type: application/json", "Accept: "+accept)
			if a.status != 200 {
				want = "no-store"
			}
			if got := a.header.Get("Cache-Control"); got != want {
				t.Errorf("%s for %s: %q, want %q", body, accept, got, want)
			}
		}
	}
}

// TestAcceptIsDecidedByTheMostSpecificRange asks what an Accept header allows, as in RFC 9110, section 12.5.1.
func TestAcceptIsDecidedByTheMostSpecificRange(t *testing.T) {
	for _, test := range []struct {
		accept       []string
		json, events bool
	}{
		{nil, true, true},
		{[]string{"*/*"}, true, true},
		{[]string{"application/*"}, true, false},
		{[]string{"TEXT/*"}, false, true},
		{[]string{"text/html"}, false, false},
		{[]string{"application/json;q=0, */*"}, false, true},
		{[]string{"*/*, Application/JSON ; Q=0.000"}, false, true},
		{[]string{"application/*;q=0", "*/*;q=0.1"}, false, true},
		{[]string{"application/*;q=0, application/json"}, true, false},
		{[]string{"text/*;q=0, text/event-stream;q=0.5, */*"}, true, true},
		{[]string{"text/event-stream;q=0, */*"}, true, false},
		{[]string{"*/*;q=0"}, false, false},
		{[]string{"application/json;q=0, application/json;charset=utf-8"}, true, false},
		{[]string{"text/html, application/xhtml+xml, */*;q=0.8"}, true, true},
		{[]string{"text/event-stream", "application/json"}, true, true},
	} {
		r := &http.Request{Header: http.Header{"Accept": test.accept}}
		if got := accepts(r, "application/json"); got != test.json {
			t.Errorf("%q allows JSON: %v", test.accept, got)
		}
		if got := accepts(r, "text/event-stream"); got != test.events {
			t.Errorf("%q allows events: %v", test.accept, got)
		}
	}
}

// TestWrongTypesNameTheRightOne sends members of wrong types.
func TestWrongTypesNameTheRightOne(t *testing.T) {
	for message, want := range map[string]string{
		`"x"`:                                  `it must be an object, not a string`,
		`true`:                                 `it must be an object, not a boolean`,
		`null`:                                 `it must be an object, not null`,
		`{"jsonrpc":2,"id":1,"method":"ping"}`: `jsonrpc must be a string, not a number`,
		`{"jsonrpc":"2.0","id":1,"method":{}}`: `method must be a string, not an object`,
		`{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}`:                                                              `params must be an object, not a string`,
		`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":false}}`:                                                  `params._meta must be an object, not a boolean`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["x"]}}`:                                             `params.name must be a string, not an array`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":"{}"}}`:                              `params.arguments must be an object, not a string`,
		`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":3}}`:                                          `params.level must be a string, not a number`,
		`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":"x"}}}`:  `params.notifications.resourceSubscriptions must be an array of strings, not a string`,
		`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":[1]}}}`:  `params.notifications.resourceSubscriptions[] must be a string, not a number`,
		`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourcesListChanged":"yes"}}}`: `params.notifications.resourcesListChanged must be a boolean, not a string`,
	} {
		if _, err := parseMessage([]byte(message)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", message, err, want)
		}
	}
}

// TestCompletionOfWhatBeginsNoIDIsEmpty completes values that no id begins with. None of them is an error.
func TestCompletionOfWhatBeginsNoIDIsEmpty(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, nil)
	for value, want := range map[string]string{
		"guide/":                          `"guide/install.md"`,
		"a b":                             `"a b.md"`,
		"nope":                            `"values":[]`,
		"guide/\x00":                      `"values":[]`,
		strings.Repeat("x", maxIDBytes):   `"values":[]`,
		strings.Repeat("x", 2000):         `"values":[]`,
		strings.Repeat("字", maxIDBytes+1): `"values":[]`,
		"%":                               `"values":[]`,
	} {
		a := ts.rpc("completion/complete", map[string]any{
			"ref":      map[string]string{"type": "ref/resource", "uri": "docs:///{+id}"},
			"argument": map[string]string{"name": "id", "value": value},
		})
		if !strings.Contains(a.body, want) || strings.Contains(a.body, `"error"`) {
			t.Errorf("%.20q: %s", value, a.body)
		}
	}
}

// TestPromptSaysWhatItSearchedFor asks with misspelt words. The quotes answer the corrected ones.
func TestPromptSaysWhatItSearchedFor(t *testing.T) {
	ts := newMCPServer(t, map[string]string{"a.md": "# Rotation\n\nrotate the tokens"}, nil)
	for question, want := range map[string]string{
		"rotaet tokens":  `the quotes are for \"rotate tokens\".`,
		"rotate tokens":  `Question: rotate tokens\n\n[begin`,
		"xylophone solo": `Question: xylophone solo\n\nThe search found nothing.`,
	} {
		a := ts.rpc("prompts/get", map[string]any{
			"name":      "answer_from_docs",
			"arguments": map[string]string{"question": question},
		})
		if !strings.Contains(a.body, want) {
			t.Errorf("%s: %s", question, a.body)
		}
	}
}
