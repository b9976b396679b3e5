package main

import (
	"crypto/sha256"
	"encoding/base64"
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
		root := `<html lang="en" data-serves="` + test.serves + `">`
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
		if isClosed := strings.Contains(a.body, `data-serves="search admin" data-closed>`); isClosed != want {
			t.Errorf("ADMIN_TOKEN=%s: closed %v, want %v", token, isClosed, want)
		}
	}
}

// TestPagePolicyAllowsOnlyThePage computes the hashes as a browser does, from the text of the elements.
func TestPagePolicyAllowsOnlyThePage(t *testing.T) {
	a := newTestServer(t).do("GET", "/", "", browserAccept)
	policy := a.header.Get("Content-Security-Policy")
	for _, directive := range []string{
		"default-src 'none'",
		"connect-src 'self'",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'",
	} {
		if !slices.Contains(strings.Split(policy, "; "), directive) {
			t.Errorf("no %s in %s", directive, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("the policy has holes: %s", policy)
	}

	for tag, directive := range map[string]string{"style": "style-src", "script": "script-src"} {
		element := regexp.MustCompile(`(?s)<` + tag + `[^>]*>(.*?)</` + tag + `>`)
		found := element.FindAllStringSubmatch(a.body, -1)
		if len(found) != 1 {
			t.Fatalf("%d elements %s: the policy has the hash of one", len(found), tag)
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		want := directive + " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"
		if !strings.Contains(policy, want) {
			t.Errorf("no %s in %s", want, policy)
		}
	}
}

// TestPageLoadsParsesAndKeepsNothing: nothing from other origins, no HTML or code from strings, no
// data in the browser.
func TestPageLoadsParsesAndKeepsNothing(t *testing.T) {
	for _, bad := range []string{
		`\bsrc=`, `@import`, `url\(`,
		`<[a-z][^>]*\son[a-z]+=`, `<[a-z][^>]*\sstyle=`,
		`innerHTML`, `outerHTML`, `insertAdjacentHTML`, `document\.write`, `\beval\(`,
		`localStorage`, `sessionStorage`, `document\.cookie`,
	} {
		if at := regexp.MustCompile(bad).FindStringIndex(page); at != nil {
			t.Errorf("index.html has %q", page[at[0]:min(at[1]+40, len(page))])
		}
	}
	for _, link := range regexp.MustCompile(`https?://[^'"\s/]+`).FindAllString(page, -1) {
		if link != "http://www.w3.org" && link != "http://x" { // a namespace; a base to resolve links with
			t.Errorf("index.html names %s", link)
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
