package main

// Fuzz targets of the small decoders: headers, settings, answers of other programs. Those of the large ones stand beside
// their rooms. .ci/run fuzzes each of all for some seconds; testdata/fuzz has the inputs that every run of the tests tries.

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// FuzzInlines parses the text of a block. Its tokens must be in balance, and not more than the text has characters.
func FuzzInlines(f *testing.F) {
	for _, text := range []string{
		"**a *b* ~~c~~** `d` [e](f \"g\") ![h][i] <b> <https://x.org> www.x.org a@b.org &amp; :i: [^1]  \nj\\*",
		strings.Repeat("*a ", 50), strings.Repeat("[", 50) + strings.Repeat("](x)", 50), strings.Repeat("`", 40) + " " + strings.Repeat("``", 9),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		notes := &linkNotes{links: map[string]link{"i": {target: "x"}}, room: 1000}
		parsed := parseInlines(text, notes)
		if len(parsed.tokens) > 2*len(text)+2 {
			t.Errorf("%d tokens for %d bytes", len(parsed.tokens), len(text))
		}
		open := 0
		for _, token := range parsed.tokens {
			if token.kind == tokenLink || token.kind == tokenImage {
				open++
			}
			if token.kind == tokenEnd || token.kind == tokenAltEnd {
				open--
			}
			if open < 0 {
				t.Fatalf("%q ends a link that has not begun", text)
			}
		}
		if open != 0 {
			t.Errorf("%q leaves %d links open", text, open)
		}
	})
}

// FuzzSlugs makes the slugs of the lines of a text. Without ids of their own, all differ, and none ends an attribute or a URL.
func FuzzSlugs(f *testing.F) {
	for _, text := range []string{"a\nA\na-1\na", "Ünïcode & <b>\n日本語\n\u202e", "x {#own}\ny\n <a id=\"z\">", "İ\nI\u0307\nSS ß", "-\n \n\n--"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		slugs := make(slugger)
		var seen []string
		for line := range strings.Lines(text) {
			slug := slugs.slug("", strings.TrimSuffix(line, "\n"))
			isUnsafe := func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("\"'<>&#?/%", r) }
			if strings.ContainsFunc(slug, isUnsafe) || !utf8.ValidString(slug) {
				t.Errorf("%q has the slug %q", line, slug)
			}
			if slices.Contains(seen, slug) && len(seen) < 1000 {
				t.Errorf("%q has the slug %q again", line, slug)
			}
			seen = append(seen, slug)
		}
	})
}

// FuzzBulkLine parses a line of a bulk load. What it accepts is stored byte by byte as encoding/json reads it.
func FuzzBulkLine(f *testing.F) {
	for _, line := range []string{
		`{"id":"a.md","text":"# A\n"}`, `{"id":"a.md","text":"\ud800"}`, `{"id":"a.md","text":"a","text":"b"}`, `{"ID":"a.md","text":"a"}`,
		`{"id":null,"text":1}`, `{"id":"a.md","text":"\u0000\\"} {}`, `[{"id":"a.md"}]`, "{\"id\":\"\xff\",\"text\":\"\"}",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		id, text, ok := parseBulkLine(line)
		if !ok {
			return
		}
		if !utf8.ValidString(id) || !utf8.ValidString(text) {
			t.Errorf("%q gives %q, %q", line, id, text)
		}
		var plain struct{ ID, Text string }
		if err := json.Unmarshal(line, &plain); err != nil || plain.ID != id || plain.Text != text {
			t.Errorf("%q gives %q, %q; encoding/json %+v, %v", line, id, text, plain, err)
		}
	})
}

// FuzzSettings sets a variable. What is wrong is said in one piece of text, in which a secret never stands.
func FuzzSettings(f *testing.F) {
	names := []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_TIMEOUT"}
	secret := map[string]bool{"OTEL_EXPORTER_OTLP_HEADERS": true}
	for _, v := range variables(new(settings)) {
		names = append(names, v.name)
		secret[v.name] = v.secret
	}
	values := []string{"", "-1", "NaN", "9999999999999h", "a=b,a=c", "http://u:p@h:99999/%zz", "[::1]:http", "10.0.0.0/33", "\x00", "%", "a b", "\xff"}
	for i := range 4 * len(names) {
		f.Add(uint8(i%len(names)), values[i%len(values)])
	}
	f.Fuzz(func(t *testing.T, which uint8, value string) {
		const password = "hunter2hunter2"
		name := names[int(which)%len(names)]
		if secret[name] {
			value += password
		}
		_, err := readSettings(map[string]string{name: value})
		if err == nil {
			return
		}
		if !errors.Is(err, errUsage) {
			t.Errorf("%s=%q: %v", name, value, err)
		}
		if strings.Contains(err.Error(), password) {
			t.Errorf("%s=%q: the secret is shown: %v", name, value, err)
		}
	})
}

// FuzzTraceContext parses the headers of a caller. What is valid is passed on as it came; the rest counts as absent.
func FuzzTraceContext(f *testing.F) {
	const valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, parent := range []string{valid, valid + "-x", "01" + valid[2:] + "-x", "ff" + valid[2:], strings.ToUpper(valid), "", "00-0-0-0", strings.Repeat("0", 55)} {
		f.Add(parent, "a=b,c@d=e")
		f.Add(parent, strings.Repeat("a=b,", 40)+"\x00")
	}
	f.Fuzz(func(t *testing.T, parent, state string) {
		remote := parseTraceparent(parent, state)
		if !remote.IsValid() {
			return
		}
		sent := "-" + remote.TraceID().String() + "-" + remote.SpanID().String() + "-"
		if !strings.Contains(parent, sent) {
			t.Errorf("%q is read as %s", parent, sent)
		}
		passed := remote.TraceState().String()
		if strings.ContainsFunc(passed, unicode.IsControl) || len(passed) > maxTracestateBytes {
			t.Errorf("tracestate %q is passed on as %q", state, passed)
		}
	})
}

// FuzzRetryAfter reads the waits that a collector and an embedding API ask for. They are bounded.
func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"", "0", "-1", "7", "86400", "1e300", "Inf", "-Inf", "NaN", "0x1p-2", "Fri, 27 Nov 2026 09:01:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		f.Add(value)
	}
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		if wait := retryAfter(value, now); wait < 0 || wait > maxCollectorWait {
			t.Errorf("collector: %q is %v", value, wait)
		}
		for _, header := range []string{"Retry-After", "Retry-After-Ms"} {
			wait := parseRetryAfter(http.Header{header: {value}})
			if wait < 0 || wait > maxRetryAfter {
				t.Errorf("API: %s: %q is %v", header, value, wait)
			}
		}
	})
}

// FuzzEmbeddings reads what an embedding API answers. Vectors that are accepted have the length 1, or 0.
func FuzzEmbeddings(f *testing.F) {
	for _, body := range []string{
		`{"data":[{"index":1,"embedding":[3,4]},{"index":0,"embedding":"AACAPwAAAAA="}]}`,
		`{"data":[{"index":0,"embedding":[1e38,1e38]},{"index":1,"embedding":[1e-45,0]}]}`,
		`{"data":[{"index":0,"embedding":"AADAfwAAAAA="},{"index":1,"embedding":[]}]}`, // NaN
		`{"data":[{"index":0},{"index":0}]}`, `{"data":null}`, `[]`, `{"data":[{"index":-1,"embedding":[1,2]},{"index":1,"embedding":"A"}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e := new(remoteEmbedder)
		e.vectorLength.Store(2)
		vectors, _, err := e.parseResponse(body, 2)
		if err != nil {
			return
		}
		for _, v := range vectors {
			length := math.Hypot(float64(v[0]), float64(v[1]))
			if len(v) != 2 || length != 0 && math.Abs(length-1) > 1e-3 {
				t.Errorf("%s gives %v of length %v", body, v, length)
			}
		}
	})
}

// FuzzSparseVector reads what the database may return for a sparsevec, and what the program writes itself.
func FuzzSparseVector(f *testing.F) {
	for _, text := range []string{"{1:0.5,7:2}/16", "{}/16", "", "{1:NaN,x:y,-3:1}", "{9223372036854775807:1e300}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var written []weightedTerm
		weights := parseSparseVector(text)
		for _, key := range slices.Sorted(maps.Keys(weights)) {
			weight := float32(weights[key])
			isStored := !math.IsNaN(float64(weight)) && !math.IsInf(float64(weight), 0)
			if isStored && key < 1<<termBits {
				written = append(written, weightedTerm{term: key, weight: weight})
			}
		}
		read := parseSparseVector(sparseVector(written))
		if len(read) != len(written) {
			t.Errorf("%d terms written, %d read", len(written), len(read))
		}
		for _, w := range written {
			if float32(read[w.term]) != w.weight {
				t.Errorf("%v is read as %v", w, read[w.term])
			}
		}
	})
}

// FuzzSignInCookie sends any cookie. It opens nothing: only the server can make one.
func FuzzSignInCookie(f *testing.F) {
	s := newServerOf(f, map[string]string{"API_TOKEN": "the-api-token", "ADMIN_TOKEN": testAdminToken}, new(logBuffer))
	f.Cleanup(s.close)
	for _, value := range []string{"admin.1.00", "api..", "..", "admin.9223372036854775808.0", "admin.-1." + strings.Repeat("0", 64), "\"admin.1.0\""} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/documents", http.NoBody)
		r.Header.Set("Cookie", signInCookie+"="+value)
		if kind := s.signedInAs(r); kind != "" {
			t.Errorf("%q signs in as %s", value, kind)
		}
	})
}

// FuzzClientAddress sends any address and any X-Forwarded-For. Only a trusted proxy's is believed, and a client always has a
// prefix to count against.
func FuzzClientAddress(f *testing.F) {
	for _, forwarded := range []string{"203.0.113.7", "203.0.113.7, 10.0.0.2", "unknown, 10.1.1.1", "::ffff:10.0.0.9", "fe80::1%eth0", "1.2.3.4:80", ",,,", "[::1]"} {
		f.Add("10.0.0.1:1", forwarded)
		f.Add("[2001:db8::1]:1", forwarded)
	}
	trusted := proxies{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {forwarded}}}
		addr := trusted.addr(r)
		if addr.Zone() != "" || addr.Is4In6() {
			t.Errorf("%q for %q: %v is another bucket of the same client", peer, forwarded, addr)
		}
		own, err := netip.ParseAddrPort(peer)
		isTrusted := err == nil && trusted.contains(own.Addr().Unmap())
		if !isTrusted && err == nil && addr != own.Addr().Unmap().WithZone("") {
			t.Errorf("a stranger, %q, is believed to be %v", peer, addr)
		}
	})
}

// FuzzRequestHeaders sends hosts, origins and preconditions through the whole server. Nothing of ours fails, and no foreign
// host or origin is served.
func FuzzRequestHeaders(f *testing.F) {
	ts := newTestServer(f, "ALLOWED_HOSTS=docs.example.com")
	ts.put("a.md", "# A")
	ts.lines.discard()
	for _, host := range []string{"docs.example.com", "DOCS.example.com.:80", "evil.example", "[::1]:80", "", "docs.example.com@evil.example", "docs.example.com\x00"} {
		f.Add(host, "https://"+host, `"x", W/"y"`)
		f.Add(host, "null", "*")
	}
	h := ts.handler(servesBoth)
	f.Fuzz(func(t *testing.T, host, origin, tags string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/documents/a.md", http.NoBody)
		r.Host = host
		r.Header.Set("Origin", origin)
		r.Header.Set("If-None-Match", tags)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		isServed := w.Code == http.StatusOK || w.Code == http.StatusNotModified
		if !isServed && w.Code != http.StatusForbidden {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		name := hostname(host)
		if isServed && name != "docs.example.com" && name != "" {
			t.Errorf("host %q is served", host)
		}
		isOwn := false
		for scheme, port := range map[string]string{"http": ":80", "https": ":443", "": "none"} {
			place := strings.TrimSuffix(strings.ToLower(origin), port)
			isOwn = isOwn || strings.HasPrefix(place, scheme) && strings.HasSuffix(place, "://"+strings.TrimSuffix(strings.ToLower(host), port))
		}
		if isServed && origin != "" && !isOwn {
			t.Errorf("origin %q is served at host %q", origin, host)
		}
	})
}

// FuzzCursor reads cursors of lists. Only those of a list name an id.
func FuzzCursor(f *testing.F) {
	for _, cursor := range []string{"", cursorAfter("a/b.md"), cursorAfter("../x.md"), cursorAfter("\xff.md"), "====", "YQ"} {
		f.Add(cursor)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		id, err := parseCursor(cursor)
		if err == nil && id != "" && checkID(id) != nil {
			t.Errorf("cursor %q names %q", cursor, id)
		}
	})
}

// FuzzQuestion analyzes queries. The terms grow with the query's length, and no faster.
func FuzzQuestion(f *testing.F) {
	for _, text := range []string{"restore a file", "maxConns --no-cache C# 3.12", `"a b" «c» “d`, "検索エンジン", strings.Repeat("aB", 200), "a\u0301\u0301\u0301", "\u202e\x00"} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, partial bool) {
		if !utf8.ValidString(text) || utf8.RuneCountInString(text) > maxQueryChars {
			return
		}
		q := newQuestion(text, partial)
		terms := len(q.words)
		for _, w := range q.words {
			terms += len(w.inner)
		}
		if terms > 4*utf8.RuneCountInString(text)+4 {
			t.Errorf("%d terms for %d characters", terms, utf8.RuneCountInString(text))
		}
	})
}
