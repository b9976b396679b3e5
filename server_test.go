package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestEveryRouteAnswersWithItsStatus(t *testing.T) {
	ts := newTestServer(t, "API_TOKEN=api-token")
	if a := ts.put("guide/install.md", "# Install\n\nRun the installer.\n"); a.status != http.StatusCreated {
		t.Fatalf("PUT: %d %s", a.status, a.body)
	}
	etag := ts.get("/documents/guide/install.md").header.Get("ETag")
	const none, api, wrong = "Authorization: ", "Authorization: Bearer api-token", "Authorization: Bearer wrong"
	big := strings.Repeat("a", maxDocumentBytes+1)
	tests := []struct {
		name, method, path, body string
		headers                  []string
		want                     int
		contains                 string // of the body, or "Header: value"
	}{
		{"search", "GET", "/search?q=install", "", []string{api}, 200, `"document":"guide/install.md"`},
		{"search with a limit", "GET", "/search?q=install&limit=100", "", nil, 200, `"took_ms":`},
		{"search that finds nothing", "GET", "/search?q=zxqvwk", "", nil, 200, `"hits":[]`},
		{"search with a prefix", "GET", "/search?q=install&prefix=other/", "", nil, 200, `"hits":[]`},
		{"search without q", "GET", "/search", "", nil, 400, "missing q: try /search?q=install"},
		{"search for blanks", "GET", "/search?q=+", "", nil, 400, "missing q"},
		{"search for what is invisible", "GET", "/search?q=%E2%80%8B%C2%AD+%C2%A0", "", nil, 400, "missing q"},
		{"search for too much", "GET", "/search?q=" + strings.Repeat("a", 1001), "", nil, 400, "1001 characters"},
		{"search for bad UTF-8", "GET", "/search?q=%ff", "", nil, 400, "not UTF-8"},
		{"search for NUL", "GET", "/search?q=a%00", "", nil, 400, "not UTF-8 text"},
		{"search with limit 0", "GET", "/search?q=a&limit=0", "", nil, 400, "a number from 1 to 100"},
		{"search with limit 101", "GET", "/search?q=a&limit=101", "", nil, 400, "a number from 1 to 100"},
		{"search with limit x", "GET", "/search?q=a&limit=x", "", nil, 400, "limit="},
		{"search with a bad escape", "GET", "/search?q=%zz", "", nil, 400, "percent-encode"},
		{"search with a NUL prefix", "GET", "/search?q=a&prefix=%00", "", nil, 400, "prefix"},
		{"search without token", "GET", "/search?q=a", "", []string{none}, 401, "Www-Authenticate: Bearer"},
		{"search with a wrong token", "GET", "/search?q=a", "", []string{wrong}, 401, "no valid token"},
		{"search posted", "POST", "/search?q=a", "", nil, 405, "Allow: GET, HEAD"},
		{"list", "GET", "/documents", "", []string{api}, 200, `"id":"guide/install.md","title":"Install","bytes":30,"chunks":1,"updated":"`},
		{"list with a bad cursor", "GET", "/documents?cursor=%21", "", nil, 400, "bad cursor"},
		{"list with a cursor that is no id", "GET", "/documents?cursor=YQ", "", nil, 400, "bad cursor"},
		{"links for models", "GET", "/llms.txt", "", []string{api}, 200, "- [Install](" + ts.url + "/read/guide/install.md)\n"},
		{"links for models as text", "GET", "/llms.txt", "", nil, 200, "Content-Type: text/plain; charset=utf-8"},
		{"links for models without token", "GET", "/llms.txt", "", []string{none}, 401, "no valid token"},
		{"links for models posted", "POST", "/llms.txt", "", nil, 405, "Allow: GET, HEAD"},
		{"get", "GET", "/documents/guide/install.md", "", []string{api}, 200, "Content-Type: text/markdown; charset=utf-8"},
		{"get the text as it was put", "GET", "/documents/guide/install.md", "", nil, 200, "# Install\n\nRun the installer.\n"},
		{"get what is not there", "GET", "/documents/none.md", "", nil, 404, "no such document"},
		{"get a bad id", "GET", "/documents/guide", "", nil, 400, "does not end in .md"},
		{"get an id with dots", "GET", "/documents/..%2fsecret.md", "", nil, 400, "starts with a dot"},
		{"get again unchanged", "GET", "/documents/guide/install.md", "", []string{"If-None-Match: " + etag}, 304, ""},
		{"get again by a weak tag", "GET", "/documents/guide/install.md", "", []string{"If-None-Match: \"x\", W/" + etag}, 304, ""},
		{"get another than known", "GET", "/documents/guide/install.md", "", []string{`If-Match: "x"`}, 412, "If-Match"},
		{"head", "HEAD", "/documents/guide/install.md", "", nil, 200, "Content-Length: 30"},
		{"put with the API token", "PUT", "/documents/a.md", "a", []string{api}, 403, "use ADMIN_TOKEN"},
		{"put without token", "PUT", "/documents/a.md", "a", []string{none}, 401, `Www-Authenticate: Bearer realm="vitrine", Basic realm="vitrine"`},
		{"put again the same", "PUT", "/documents/guide/install.md", "# Install\n\nRun the installer.\n", nil, 204, "Etag: " + etag},
		{"put if it is new", "PUT", "/documents/guide/install.md", "x", []string{"If-None-Match: *"}, 412, "exists already"},
		{"put if unchanged, but it is not", "PUT", "/documents/guide/install.md", "x", []string{`If-Match: "x"`}, 412, "If-Match"},
		{"put if it is there, but it is not", "PUT", "/documents/none.md", "x", []string{"If-Match: *"}, 412, "If-Match"},
		{"put if unchanged", "PUT", "/documents/guide/install.md", "# Install\n\nRun the installer.\n", []string{"If-Match: " + etag}, 204, ""},
		{"put bad UTF-8", "PUT", "/documents/a.md", "\xff", nil, 400, "iconv"},
		{"put NUL", "PUT", "/documents/a.md", "a\x00", nil, 400, "NUL"},
		{"put too much", "PUT", "/documents/a.md", big, nil, 413, "8388608 bytes"},
		{"put below a document", "PUT", "/documents/guide/install.md/x.md", "x", nil, 409, "in the way"},
		{"put compressed", "PUT", "/documents/a.md", "x", []string{"Content-Encoding: gzip"}, 415, "Content-Encoding"},
		{"put multipart", "PUT", "/documents/a.md", "x", []string{"Content-Type: multipart/form-data; boundary=x"}, 415, "--data-binary"},
		{"delete what is not there", "DELETE", "/documents/none.md", "", nil, 404, "no such document"},
		{"delete if unchanged, but it is not", "DELETE", "/documents/guide/install.md", "", []string{`If-Match: "x"`}, 412, "If-Match"},
		{"delete a bad id", "DELETE", "/documents/a", "", nil, 400, "bad document id"},
		{"another origin", "GET", "/livez", "", []string{"Origin: https://evil.example"}, 403, "ALLOWED_ORIGINS"},
		{"origin null", "GET", "/livez", "", []string{"Origin: null"}, 403, "ALLOWED_ORIGINS"},
		{"own origin", "GET", "/livez", "", []string{"Origin: " + ts.url}, 200, "Access-Control-Allow-Origin: " + ts.url},
		{"another host", "GET", "/search?q=a", "", []string{"Host: evil.example"}, 403, "ALLOWED_HOSTS"},
		{"a probe of another host", "GET", "/livez", "", []string{"Host: evil.example"}, 200, "ok"},
		{"another host that calls itself the origin", "GET", "/nope", "", []string{"Host: evil.example", "Origin: http://evil.example"}, 403, "ALLOWED_HOSTS"},
		{"own host with a port and a dot", "GET", "/livez", "", []string{"Host: LOCALHOST.:99"}, 200, "ok"},
		{"preflight", "OPTIONS", "/documents/a.md", "", []string{none, "Origin: " + ts.url, "Access-Control-Request-Method: PUT"}, 204, "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, DELETE"},
		{"preflight of another origin", "OPTIONS", "/search", "", []string{none, "Origin: https://evil.example", "Access-Control-Request-Method: GET"}, 403, "ALLOWED_ORIGINS"},
		{"options", "OPTIONS", "/search", "", []string{none}, 204, "Allow: GET, HEAD, OPTIONS"},
		{"options of documents", "OPTIONS", "/documents/a.md", "", []string{none}, 204, "Allow: GET, HEAD, PUT, DELETE, OPTIONS"},
		{"options of MCP", "OPTIONS", "/mcp", "", []string{none}, 204, "Allow: GET, POST, OPTIONS"},
		{"options of what is not there", "OPTIONS", "/nope", "", nil, 404, "no such page"},
		{"options of another host", "OPTIONS", "/", "", []string{"Host: evil.example"}, 403, "ALLOWED_HOSTS"},
		{"index", "GET", "/", "", []string{none}, 200, "curl '" + ts.url + "/search?q=install'"},
		{"index posted", "POST", "/", "", nil, 405, "Allow: GET, HEAD"},
		{"no such page", "GET", "/nope", "", nil, 404, "GET / lists the routes"},
		{"livez", "GET", "/livez", "", []string{none}, 200, "ok"},
		{"healthz", "GET", "/healthz", "", []string{none}, 200, "ok"},
		{"readyz", "GET", "/readyz", "", []string{none}, 200, "ok"},
		{"readyz in full", "GET", "/readyz?verbose", "", []string{none}, 200, "store ok: 1 documents, 1 chunks"},
		{"gaps that are not recorded", "GET", "/debug/gaps", "", nil, 404, "RECORD_GAPS=true"},
		{"gaps with the API token", "GET", "/debug/gaps", "", []string{api}, 403, "ADMIN_TOKEN"},
		{"log level", "GET", "/debug/loglevel", "", nil, 200, "info"},
		{"log level with the API token", "GET", "/debug/loglevel", "", []string{api}, 403, "ADMIN_TOKEN"},
		{"log level that is none", "PUT", "/debug/loglevel", "loud", nil, 400, "not debug, info, warn or error"},
		{"log level for no time", "PUT", "/debug/loglevel?for=x", "debug", nil, 400, "such as 10m"},
		{"log level by Basic password", "PUT", "/debug/loglevel", "info", []string{"Authorization: Basic eDphZG1pbi10b2tlbi1vZi10aGUtdGVzdHM="}, 200, "info"},
		{"read", "GET", "/read/guide/install.md", "", []string{api, browserAccept}, 200, "<title>Install"},
		{"read without a browser", "GET", "/read/guide/install.md", "", []string{api}, 200, "# Install"},
		{"read without token", "GET", "/read/guide/install.md", "", []string{none}, 401, "no valid token"},
		{"read what is not there", "GET", "/read/none.md", "", nil, 404, "no such document"},
		{"read posted", "POST", "/read/guide/install.md", "", nil, 405, "Allow: GET, HEAD"},
		{"file that is not there", "GET", "/files/a.png", "", []string{api}, 404, "no such file"},
		{"file of another type", "GET", "/files/a.sh", "", []string{api}, 404, "png, jpg"},
		{"file without token", "GET", "/files/a.png", "", []string{none}, 401, "no valid token"},
		{"style of the page", "GET", "/page/page.css", "", []string{none}, 200, "Content-Type: text/css"},
		{"no part of the page", "GET", "/page/none", "", []string{none}, 404, "no such page"},
		{"search of browsers", "GET", "/opensearch.xml", "", []string{none}, 200, "OpenSearchDescription"},
		{"sign in", "POST", "/signin", "token=api-token", []string{none, "Content-Type: application/x-www-form-urlencoded"}, 204, "Set-Cookie: vitrine=api."},
		{"sign in with a wrong token", "POST", "/signin", "token=x", []string{none, "Content-Type: application/x-www-form-urlencoded"}, 401, "not accepted"},
		{"sign in by GET", "GET", "/signin", "", nil, 405, "Allow: POST"},
		{"sign out", "POST", "/signout", "", []string{none}, 204, "Set-Cookie: vitrine=; Max-Age=0"},
		{"delete", "DELETE", "/documents/guide/install.md", "", []string{"If-Match: " + etag}, 204, ""},
		{"get what was deleted", "GET", "/documents/guide/install.md", "", nil, 404, "no such document"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := ts.do(test.method, test.path, test.body, test.headers...)
			if a.status != test.want {
				t.Fatalf("status %d, want %d: %s", a.status, test.want, a.body)
			}
			key, value, isHeader := strings.Cut(test.contains, ": ")
			if got := a.header.Get(key); isHeader && got != "" {
				if !strings.Contains(got, value) {
					t.Errorf("header %s = %q, want %q", key, got, value)
				}
			} else if !strings.Contains(a.body, test.contains) {
				t.Errorf("body %q, want %q", a.body, test.contains)
			}
			if a.header.Get("X-Correlation-ID") == "" {
				t.Error("no X-Correlation-ID")
			}
			if a.status >= 400 && test.method != "HEAD" {
				checkErrorBody(t, a)
			}
		})
	}
}

// checkErrorBody fails unless the body is the JSON form of an error, with the correlation id of the header.
func checkErrorBody(t *testing.T, a answer) {
	t.Helper()
	var body struct {
		Error struct {
			Code, Message string
			CorrelationID string `json:"correlation_id"`
		}
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Error.Code == "" || body.Error.Message == "" ||
		body.Error.CorrelationID != a.header.Get("X-Correlation-ID") || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("not the form of an error: %s %s", a.header.Get("Content-Type"), a.body)
	}
}

func TestAdminAddrServesTheAdminRoutesAlone(t *testing.T) {
	ts := newTestServer(t, "ADMIN_ADDR=127.0.0.1:0")
	for path, want := range map[string]int{
		"/debug/loglevel": 404, "admin:/debug/loglevel": 200, "/search?q=a": 200, "admin:/search?q=a": 404,
		"/": 200, "admin:/": 200, "/livez": 200, "admin:/livez": 200, "admin:/readyz": 200,
	} {
		if a := ts.get(path); a.status != want {
			t.Errorf("GET %s: %d, want %d", path, a.status, want)
		}
	}
}

func TestHeadOfAStreamIsNotAllowed(t *testing.T) {
	ts := newTestServer(t)
	for path, want := range map[string]string{"/mcp": "GET, POST", "/sse": "GET"} {
		for _, method := range []string{"HEAD", "PUT"} {
			if a := ts.do(method, path, ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != want {
				t.Errorf("%s %s: %d, Allow %q, want 405, %q", method, path, a.status, a.header.Get("Allow"), want)
			}
		}
	}
}

func TestMethodsOfACollectionAreRefusedNotRedirected(t *testing.T) {
	ts := newTestServer(t)
	for _, method := range []string{"PUT", "DELETE"} {
		if a := ts.do(method, "/documents", "x"); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD, POST" {
			t.Errorf("%s /documents: %d %q", method, a.status, a.header.Get("Allow"))
		}
	}
}

func TestPanicIsAnInternalErrorWithTheID(t *testing.T) {
	ts := newTestServer(t)
	ts.store = storeStub{ts.store, func(context.Context) error { panic("secret cause") }}
	a := ts.get("/search?q=a")
	if a.status != http.StatusInternalServerError || strings.Contains(a.body, "secret cause") {
		t.Errorf("%d %s", a.status, a.body)
	}
	checkErrorBody(t, a)
	line := ts.lines.find(t, "handler panicked", a.header.Get("X-Correlation-ID"))
	if line["error"] != "panic: secret cause" || !strings.Contains(fmt.Sprint(line["stack"]), "handleSearch") {
		t.Errorf("log line: %v", line)
	}
	if line := ts.lines.find(t, "request", a.header.Get("X-Correlation-ID")); line["status"] != 500.0 || line["level"] != "error" {
		t.Errorf("log line: %v", line)
	}
}

func TestPanicAfterTheAnswerBeganCutsItOff(t *testing.T) {
	ts := newTestServer(t)
	half := func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = io.WriteString(w, strings.Repeat("half an answer ", 1000))
		panic("too late")
	}
	h := ts.observe.middleware(ts.handle(route{pattern: "/", handler: half}))
	hs := httptest.NewServer(h)
	defer hs.Close()
	resp, err := http.Get(hs.URL) //nolint:noctx // a plain request is enough
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("the client took half an answer for a whole one")
	}
}

func TestStoreTroubleIsUnavailable(t *testing.T) {
	ts := newTestServer(t)
	for _, cause := range []error{fmt.Errorf("asking: %w", errUnavailable), context.DeadlineExceeded} {
		ts.store = storeStub{ts.store, func(context.Context) error { return cause }}
		if a := ts.get("/search?q=a"); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
			t.Errorf("%v: %d %v", cause, a.status, a.header)
		}
	}
	ts.store = storeStub{ts.store, func(context.Context) error { return fmt.Errorf("secret cause") }}
	a := ts.get("/search?q=a")
	if a.status != http.StatusInternalServerError || strings.Contains(a.body, "secret cause") {
		t.Errorf("%d %s, want 500 without the cause", a.status, a.body)
	}
	if line := ts.lines.find(t, "request", a.header.Get("X-Correlation-ID")); line["error"] != "secret cause" {
		t.Errorf("the log does not name the cause: %v", line)
	}
}
