package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAddressesOfASite(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ site, id, slug, want string }{
		{"https://docs.example.com", "guide/install.md", "docker", "https://docs.example.com/guide/install#docker"},
		{"https://docs.example.com/", "guide/install.mdx", "", "https://docs.example.com/guide/install"},
		{"https://example.com/docs/", "install.MD", "", "https://example.com/docs/install"},
		{"https://example.com/docs", "v1.2.md", "", "https://example.com/docs/v1.2"},
		{"https://example.com/docs", "index.md", "", "https://example.com/docs/"},
		{"https://example.com/docs", "README.md", "use", "https://example.com/docs/#use"},
		{"https://example.com/docs", "guide/_index.markdown", "", "https://example.com/docs/guide/"},
		{"https://example.com/docs", "guide/Readme.txt", "", "https://example.com/docs/guide/"},
		{"https://example.com/docs", "guide/index/a.md", "", "https://example.com/docs/guide/index/a"},
		{"https://example.com/docs", "my-index.md", "", "https://example.com/docs/my-index"},
		{"http://h:8080/a%20b", "100% #1?.md", "größe--📏", "http://h:8080/a%20b/100%25%20%231%3F#gr%C3%B6%C3%9Fe--%F0%9F%93%8F"},
		{"https://h", "日本語/🚀.md", "見出し", "https://h/%E6%97%A5%E6%9C%AC%E8%AA%9E/%F0%9F%9A%80#%E8%A6%8B%E5%87%BA%E3%81%97"},
		{"https://h", "a:b&c;d=(e).md", "", "https://h/a:b&c;d=%28e%29"},
		{"https://h", strings.Repeat("🚀", 50) + "/a.md", strings.Repeat("見", 300), "https://h/" + strings.Repeat("%F0%9F%9A%80", 50) + "/a"},
	} {
		site, err := parseSite(test.site)
		if err != nil {
			t.Fatal(err)
		}
		if got := (addresses{site: *site}).of(test.id, test.slug); got != test.want {
			t.Errorf("%s of %s: %s, want %s", test.id, test.site, got, test.want)
		}
	}
}

func TestSitesAreChecked(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"docs", "ftp://h/", "https://", "https://h/?a=b", "https://h/#a", "https://u:p@h/", "https://h/" + strings.Repeat("a", 500)} {
		if site, err := parseSite(bad); err == nil {
			t.Errorf("%s is accepted as %v", bad, site)
		}
	}
}

// TestOwnAddressIsThatOfTheClient asks as clients of the server, of proxies, and of those who pretend to be one.
func TestOwnAddressIsThatOfTheClient(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, trusted, peer, host, forwarded, want string }{
		{"direct", "", "192.0.2.1:5", "docs.test:8080", "", "http://docs.test:8080/read/a.md"},
		{"IPv6", "", "[2001:db8::1]:5", "[2001:db8::2]:80", "", "http://[2001:db8::2]:80/read/a.md"},
		{"HTTP/1.0", "", "192.0.2.1:5", "", "", "http://198.51.100.7:80/read/a.md"},
		{"bad Host", "", "192.0.2.1:5", `a"<b>`, "", "http://198.51.100.7:80/read/a.md"},
		{"untrusted", "", "192.0.2.1:5", "docs.test", "Proto: https\nHost: evil.test\nPrefix: /x", "http://docs.test/read/a.md"},
		{"another peer", "10.0.0.0/8", "192.0.2.1:5", "docs.test", "Proto: https\nHost: evil.test", "http://docs.test/read/a.md"},
		{"TLS", "10.0.0.0/8", "10.1.1.1:5", "docs.test", "Proto: https", "https://docs.test/read/a.md"},
		{"TLS in capitals", "10.0.0.0/8", "10.1.1.1:5", "docs.test", "Proto: HTTPS", "https://docs.test/read/a.md"},
		{"mapped", "10.0.0.0/8", "[::ffff:10.1.1.1]:5", "docs.test", "Proto: https", "https://docs.test/read/a.md"},
		{"all", "10.0.0.0/8", "10.1.1.1:5", "vitrine:8080", "Proto: https\nHost: docs.test\nPrefix: /docs/", "https://docs.test/docs/read/a.md"},
		{"two proxies", "10.0.0.0/8", "10.1.1.1:5", "b", "Proto: https, http\nHost: docs.test, inner", "https://docs.test/read/a.md"},
		{"hostile values", "10.0.0.0/8", "10.1.1.1:5", "docs.test", "Proto: javascript\nHost: a/b\nPrefix: //evil.test", "http://docs.test/read/a.md"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServerOf(t, map[string]string{"TRUSTED_PROXIES": test.trusted}, new(logBuffer))
			defer s.close()
			r := httptest.NewRequest("GET", "/search", http.NoBody)
			r.RemoteAddr, r.Host = test.peer, test.host
			local := testAddr("198.51.100.7:80")
			r = r.WithContext(contextWith(r, local))
			for line := range strings.Lines(test.forwarded) {
				key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				r.Header.Set("X-Forwarded-"+key, value)
			}
			if got := s.addresses(r).of("a.md", ""); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// TestEveryAnswerHasTheURL asks each route and tool that names a document, with names that need escaping, with a site and
// without one, and opens the URL.
func TestEveryAnswerHasTheURL(t *testing.T) {
	t.Parallel()
	const id = "guide/100% #1 🚀.md"
	documents := map[string]string{id: "# Guide\n\nintro\n\n## Größe & Maß\n\nlantern\n"}
	for _, site := range []string{"", "https://docs.example.com/base/"} {
		dir := datedFolder(t, documents)
		ts := openTestServer(t, dir, "DOCS_SYNC_INTERVAL=1h", "DOCS_URL="+site)
		ts.serve()
		page := ts.url + "/read/guide/100%25%20%231%20%F0%9F%9A%80.md"
		if site != "" {
			page = "https://docs.example.com/base/guide/100%25%20%231%20%F0%9F%9A%80"
		}
		section := page + "#gr%C3%B6%C3%9Fe--ma%C3%9F"

		call := func(tool, arguments string) string {
			params := map[string]any{"name": tool, "arguments": json.RawMessage(arguments)}
			return ts.rpc("tools/call", params).body
		}
		read := map[string]any{"uri": documentURI(id)}
		prompt := map[string]any{"name": promptName, "arguments": map[string]string{"question": "lantern"}}
		for _, test := range []struct{ name, got, want string }{
			{"/search", ts.get("/search?q=lantern").body, `"url":"` + section + `"`},
			{"/documents", ts.get("/documents").body, `"url":"` + page + `"`},
			{"search_docs", call("search_docs", `{"query":"lantern"}`), `"url":"` + section + `"`},
			{"list_documents", call("list_documents", `{}`), `"url":"` + page + `"`},
			{"get_document", call("get_document", `{"id":"`+id+`"}`), page + `\n`},
			{"get_document from a line", call("get_document", `{"id":"`+id+`","from_line":7}`), section + `\n`},
			{"get_document of a heading", call("get_document", `{"id":"`+id+`","heading":"Größe & Maß"}`), section + `\n`},
			{"resources/list", ts.rpc("resources/list", nil).body, `"_meta":{"url":"` + page + `"}`},
			{"resources/read", ts.rpc("resources/read", read).body, `"_meta":{"url":"` + page + `"}`},
			{"prompts/get", ts.rpc("prompts/get", prompt).body, section + `\n`},
		} {
			if !strings.Contains(test.got, test.want) {
				t.Errorf("%s with %q: %s, want %s", test.name, site, test.got, test.want)
			}
		}
	}
}

// testAddr is the address at which a request arrived.
type testAddr string

func (a testAddr) String() string { return string(a) }

func contextWith(r *http.Request, local testAddr) context.Context {
	return context.WithValue(r.Context(), http.LocalAddrContextKey, local)
}

// TestProxyOfALinkLocalAddressIsTrusted: the zone of a peer's address is not a part of TRUSTED_PROXIES.
func TestProxyOfALinkLocalAddressIsTrusted(t *testing.T) {
	t.Parallel()
	s := newServerOf(t, map[string]string{"TRUSTED_PROXIES": "fe80::/10"}, new(logBuffer))
	defer s.close()
	r := httptest.NewRequest("GET", "/search", http.NoBody)
	r.RemoteAddr = "[fe80::1%eth0]:5"
	r.Header.Set("X-Forwarded-For", "192.0.2.7")
	if name := s.proxies.name(r); name != "192.0.2.7" {
		t.Errorf("the client is named %s", name)
	}
	if addr := s.proxies.addr(r).String(); addr != "192.0.2.7" {
		t.Errorf("the client is limited as %s", addr)
	}
}

func TestPlainHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"docs.example.com":      true,
		"localhost:8080":        true,
		"my_host-1":             true,
		"127.0.0.1:80":          true,
		"[::1]":                 true,
		"[2001:DB8::1]:65535":   true,
		"":                      false,
		":80":                   false,
		"a b":                   false,
		"a:":                    false,
		"a:123456":              false,
		"a:8x":                  false,
		"a:1:2":                 false,
		"::1":                   false,
		"[::1":                  false,
		"[]":                    false,
		"[fe80::1%eth0]":        false,
		"[::1]x":                false,
		"a/b":                   false,
		"a\"b":                  false,
		"user@docs.example.com": false,
		"bücher.example":        false,
	} {
		if got := isPlainHost(host); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
}
