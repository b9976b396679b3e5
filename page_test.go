package main

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const browserAccept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"

func TestPageIsServedToBrowsersOnEveryListener(t *testing.T) {
	ts := newTestServer(t, "ADMIN_ADDR=127.0.0.1:0")
	for _, test := range []struct{ path, serves string }{{"/", "search"}, {"admin:/", "admin"}} {
		a := ts.do("GET", test.path, "", browserAccept)
		isHTML := strings.HasPrefix(a.header.Get("Content-Type"), "text/html")
		root := `<html lang="en" data-serves="` + test.serves + `"`
		if a.status != http.StatusOK || !isHTML || !strings.Contains(a.body, root) {
			t.Errorf("%s: %d %v %.100q", test.path, a.status, a.header, a.body)
		}

		a = ts.do("GET", test.path, "", "Accept: */*")
		if !strings.HasPrefix(a.body, "vitrine ") || a.header.Get("Vary") != "Accept" {
			t.Errorf("%s for curl: %v %.100q", test.path, a.header, a.body)
		}
	}

	a := newTestServer(t).do("GET", "/", "", browserAccept)
	if !strings.Contains(a.body, `data-serves="search admin"`) {
		t.Error("a single listener does not say that it serves both")
	}
}

func TestPageKnowsThatTheAdminRoutesAreClosed(t *testing.T) {
	for token, want := range map[string]bool{"": true, "the-admin-token": false} {
		a := newTestServer(t, "ADMIN_TOKEN="+token).do("GET", "/", "", browserAccept)
		if isClosed := strings.Contains(a.body, `data-serves="search admin" data-closed`); isClosed != want {
			t.Errorf("ADMIN_TOKEN=%s: closed %v, want %v", token, isClosed, want)
		}
	}
}

// TestPagePolicyAllowsOnlyThePage: no inline style or script, nothing from other origins, no markup from strings.
func TestPagePolicyAllowsOnlyThePage(t *testing.T) {
	ts := newTestServer(t)
	ts.put("a.md", "# A\n")
	for _, path := range []string{"/", "/read/a.md", "/read/none.md"} {
		policy := ts.get(path, browserAccept).header.Get("Content-Security-Policy")
		for _, directive := range []string{
			"default-src 'none'",
			"style-src 'self'",
			"script-src 'self'",
			"connect-src 'self'",
			"img-src 'self' data:",
			"base-uri 'none'",
			"form-action 'self'",
			"frame-ancestors 'none'",
			"require-trusted-types-for 'script'",
			"trusted-types 'none'",
		} {
			if !slices.Contains(strings.Split(policy, "; "), directive) {
				t.Errorf("%s: no %s in %s", path, directive, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: the policy has holes: %s", path, policy)
		}
	}
}

// TestPageFilesAreCached: with their version in the address for good, else by their entity tag.
func TestPageFilesAreCached(t *testing.T) {
	ts := newTestServer(t)
	html := ts.get("/", browserAccept).body
	for _, name := range []string{"page.css", "page.js", "search.js"} {
		address := regexp.MustCompile(`page/` + regexp.QuoteMeta(name) + `\?v=[0-9a-f]+`).FindString(html)
		a := ts.get("/" + address)
		if address == "" || a.status != http.StatusOK || a.header.Get("Content-Type") != assets[name].contentType {
			t.Errorf("%s at %q: %d %v", name, address, a.status, a.header)
		}
		isLasting := strings.Contains(a.header.Get("Cache-Control"), "immutable")
		if isLasting != strings.HasSuffix(address, assets[name].version) {
			t.Errorf("%s is cached as %q", address, a.header.Get("Cache-Control"))
		}
		a = ts.get("/page/"+name, "If-None-Match: "+a.header.Get("ETag"))
		if a.status != http.StatusNotModified || a.header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s again: %d %v", name, a.status, a.header)
		}
	}
	if a := ts.get("/page/index.html"); a.status != http.StatusNotFound {
		t.Errorf("the template is served: %d", a.status)
	}
}

// TestPageLoadsParsesAndKeepsNothing: nothing from other origins, no HTML or code from strings, no
// data in the browser.
func TestPageLoadsParsesAndKeepsNothing(t *testing.T) {
	page := readFile(t, "page/index.html")
	for name := range assets {
		page += readFile(t, "page/"+name)
	}
	page = regexp.MustCompile(` src="\{\{\.Asset "[a-z]+\.js"\}\}"`).ReplaceAllString(page, "")
	for _, bad := range []string{
		`\bsrc=`, `@import`, `url\(`,
		`<[a-z][^>]*\son[a-z]+=`, `<[a-z][^>]*\sstyle=`,
		`innerHTML`, `outerHTML`, `insertAdjacentHTML`, `document\.write`, `\beval\(`,
		`localStorage`, `sessionStorage`, `document\.cookie`,
	} {
		if at := regexp.MustCompile(bad).FindStringIndex(page); at != nil {
			t.Errorf("the page has %q", page[at[0]:min(at[1]+40, len(page))])
		}
	}
	for _, link := range regexp.MustCompile(`https?://[^'"\s/]+`).FindAllString(page, -1) {
		if link != "http://www.w3.org" && link != "http://x" { // a namespace; a base to resolve links with
			t.Errorf("the page names %s", link)
		}
	}
}

// TestIconIsWhereBrowsersAsk: beside the pages that name it, for text and JSON that a browser shows.
func TestIconIsWhereBrowsersAsk(t *testing.T) {
	ts := newTestServer(t, "API_TOKEN=api-token-for-tests")
	icon := ts.get("/favicon.ico")
	if icon.status != http.StatusOK || icon.header.Get("Content-Type") != "image/svg+xml" || !strings.Contains(icon.body, "<svg") {
		t.Errorf("%d %v", icon.status, icon.header)
	}
	again := ts.get("/favicon.ico", "If-None-Match: "+icon.header.Get("ETag"))
	if again.status != http.StatusNotModified {
		t.Errorf("again: %d", again.status)
	}
}

// TestPageSaysWhetherGapsAreRecorded: without it the page does not ask for them.
func TestPageSaysWhetherGapsAreRecorded(t *testing.T) {
	for env, want := range map[string]bool{"RECORD_GAPS=true": true, "RECORD_GAPS=false": false} {
		html := newTestServer(t, env).get("/", browserAccept).body
		if strings.Contains(html, " data-gaps") != want {
			t.Errorf("%s: %.200s", env, html)
		}
	}
}

func TestIndexListsWhatItsListenerServes(t *testing.T) {
	both := newTestServer(t)
	apart := newTestServer(t, "ADMIN_ADDR=127.0.0.1:0")
	for _, test := range []struct {
		ts     *testServer
		path   string
		serves string
		want   bool
	}{
		{both, "/", "/search?", true},
		{both, "/", "/metrics", true},
		{both, "/", "/debug/requests", true},
		{apart, "/", "/search?", true},
		{apart, "/", "/metrics", false},
		{apart, "/", "/debug/", false},
		{apart, "admin:/", "/search?", false},
		{apart, "admin:/", "/documents", false},
		{apart, "admin:/", "/mcp", false},
		{apart, "admin:/", "/metrics", true},
		{apart, "admin:/", "/debug/loglevel", true},
		{apart, "admin:/", "/readyz", true},
	} {
		a := test.ts.get(test.path)
		if strings.Contains(a.body, test.serves) != test.want {
			t.Errorf("GET %s names %s: %v, want %v:\n%s",
				test.path, test.serves, !test.want, test.want, a.body)
		}
	}
}
