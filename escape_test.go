package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDisplayable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		n    int
		want string
	}{
		{"guide/install.md", 256, "guide/install.md"},
		{"Straße 北京 é", 256, "Straße 北京 é"},
		{"\x1b[31mred\x07", 256, `\u001b[31mred\u0007`},
		{"a\nb\tc\rd\x7f", 256, `a\u000ab\u0009c\u000dd\u007f`},
		{"\u009b31m\u0085", 256, `\u009b31m\u0085`},
		{"gnp.\u202efdp", 256, `gnp.\u202efdp`},
		{"a\u2066b\u200fc\u2028d\u2029e\ufeff", 256, `a\u2066b\u200fc\u2028d\u2029e\ufeff`},
		{"\U000e0041", 256, `\ue0041`},
		{"abcdef", 3, "abc"},
		{"ab\u00e9", 3, "ab"},
		{"ab\x1b", 5, "ab"},
		{"a\xffb", 256, "ab"},
	} {
		if got := displayable(test.text, test.n); got != test.want {
			t.Errorf("displayable(%q, %d) = %q, want %q", test.text, test.n, got, test.want)
		}
	}
}

func FuzzDisplayable(f *testing.F) {
	for _, s := range []string{"a", "\x1b[0m", "\u202e", "\u009b", "\xff\xfe", "北京"} {
		f.Add(s, 7)
	}
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = max(0, n%300)
		got := displayable(s, n)
		if len(got) > n || !utf8.ValidString(got) || strings.ContainsFunc(got, isUnsafe) {
			t.Errorf("displayable(%q, %d) = %q", s, n, got)
		}
	})
}

// hostileTexts are what a terminal obeys, and what fills memory.
var hostileTexts = []string{
	"\x1b[2J\x1b[31mred\x07",
	"\u009b2J\u0085\u202egnp.exe\u2066",
	"line\nfake=1\r\n{\"level\":\"error\"}\u2028",
	strings.Repeat("long ", 40_000),
	strings.Repeat("\u202e", 10_000),
}

// TestNothingHostileReachesRecordsAndLogs puts such texts into every part of a request that a caller chooses.
func TestNothingHostileReachesRecordsAndLogs(t *testing.T) {
	ts := newTestServer(t, "LOG_LEVEL=debug", "RATE_LIMIT=0")
	for i, text := range hostileTexts {
		cut := text[:min(len(text), 4000)]
		query := url.QueryEscape(cut)
		header := strings.Map(func(r rune) rune { // what net/http sends
			if r == '\n' || r == '\r' || r == 0x1b || r == 7 {
				return -1
			}
			return r
		}, cut)
		id := fmt.Sprintf("hostile-%d", i)
		ts.get("/search?q="+query, "X-Correlation-ID: "+id)
		ts.get("/documents?prefix="+query+"&cursor="+query, "X-Correlation-ID: "+id)
		ts.get("/documents/"+url.PathEscape(cut)+".md", "X-Correlation-ID: "+id)
		ts.get("/nothing/"+url.PathEscape(cut), "User-Agent: "+header, "X-Forwarded-For: "+header, "Origin: http://"+header,
			"Traceparent: "+header, "Tracestate: a="+header, "Accept: "+header, "X-Correlation-ID: "+header, "Content-Type: "+header)
		params := map[string]any{
			"name": text, "uri": "docs:///" + text, "cursor": text, "protocolVersion": text,
			"clientInfo":    map[string]any{"name": text, "version": text},
			"arguments":     map[string]any{"query": text, "id": text, "question": text, text: text},
			"ref":           map[string]any{"type": text, "uri": "docs:///" + text, "name": text},
			"argument":      map[string]any{"name": "id", "value": text},
			"notifications": map[string]any{"resourceSubscriptions": []string{text}},
			"_meta": map[string]any{
				"traceparent": text,
				"io.modelcontextprotocol/protocolVersion":    modernVersion,
				"io.modelcontextprotocol/clientCapabilities": map[string]any{},
				"io.modelcontextprotocol/clientInfo":         map[string]any{"name": text, "version": text},
			},
		}
		for method := range methods {
			message := mustJSON(map[string]any{"jsonrpc": "2.0", "id": text, "method": method, "params": params})
			ts.do("POST", "/mcp", message, "Content-Type: application/json", "X-Correlation-ID: "+id)
			ts.do("POST", "/mcp", message, "Content-Type: application/json", "X-Correlation-ID: "+id,
				"Mcp-Protocol-Version: "+modernVersion, "Mcp-Method: "+method, "Mcp-Name: "+header)
		}
		message := mustJSON(map[string]any{"jsonrpc": "2.0", "id": text, "method": text, "params": params})
		batch := "[" + strings.Join(slices.Repeat([]string{message[:min(len(message), 10_000)]}, 1), ",") + "]"
		ts.do("POST", "/mcp", batch, "Content-Type: application/json", "X-Correlation-ID: "+id)
		ts.do("POST", "/documents", mustJSON(map[string]string{"id": cut + ".md", "text": cut}), "X-Correlation-ID: "+id)
	}
	many := strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+strings.Repeat("x", 900)+`"}},`, maxBatch-1)
	ts.do("POST", "/mcp", "["+many+`{"jsonrpc":"2.0","id":1,"method":"ping"}]`, "Content-Type: application/json", "X-Correlation-ID: many-1")

	ts.observe.report()
	for _, path := range []string{"/debug/requests", "/debug/requests?format=json", "/debug/requests/hostile-0", "/debug/requests/hostile-1",
		"/debug/requests/hostile-2", "/debug/requests/hostile-3", "/debug/requests/hostile-4", "/debug/requests/many-1", "/debug/requests/hostile-1?format=json"} {
		shown := ts.get(path).body
		if i := strings.IndexFunc(strings.ReplaceAll(shown, "\n", ""), isUnsafe); i >= 0 {
			t.Errorf("%s shows %q", path, strings.ReplaceAll(shown, "\n", "")[i:][:10])
		}
	}
	ts.observe.recent.mu.Lock()
	recent := ts.observe.recent.recent.all()
	ts.observe.recent.mu.Unlock()
	for _, rec := range recent {
		checkBounds(t, rec)
	}
	ts.lines.find(t, "request", "many-1")
	for line := range strings.Lines(ts.lines.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		isRecord := fields["message"] == "request"
		if isRecord && len(line) > 9<<10 || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), isUnsafe) {
			t.Errorf("a line of %d bytes: %.300q", len(line), line)
		}
	}
}

// checkBounds fails unless all values of rec are bounded.
func checkBounds(t *testing.T, rec *record) {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	attrs := slices.Clone(rec.attrs)
	for i := range rec.stages {
		attrs = append(attrs, rec.stages[i].attrs...)
	}
	for key, value := range map[string]string{"method": rec.method, "path": rec.path, "user_agent": rec.userAgent,
		"client": rec.client, "correlation": rec.correlation, "tracestate": rec.state.String()} {
		limit := maxValueBytes
		if key == "tracestate" {
			limit = maxTracestateBytes
		}
		if len(value) > limit {
			t.Errorf("%s has %d bytes", key, len(value))
		}
	}
	for _, a := range attrs {
		if a.Value.Kind() == slog.KindString && len(a.Value.String()) > maxErrorTextBytes {
			t.Errorf("%s has %d bytes", a.Key, len(a.Value.String()))
		}
	}
}
