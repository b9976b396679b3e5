package main

// Documents as pages, files beside them, and signing in.

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// newReadServer serves a small tree of documents and pictures, two folders deep.
func newReadServer(t *testing.T, env ...string) *testServer {
	t.Helper()
	dir := datedFolder(t, map[string]string{
		"index.md":              "# Home\n\nSee [install](guide/install.md#from-source).\n",
		"guide/README.md":       "---\ntitle: Guide\ndescription: Everything that a new reader of these pages needs to know.\n---\n\nWelcome.\n",
		"guide/install.md":      "# Install\n\nRun it.\n\n## From source\n\nBuild it.\n\n### Tools & more\n\n| a |\n|---|\n| b |\n",
		"guide/10-last.md":      "# Last\n",
		"guide/2-second.mdx":    "import A from 'a'\n\n# Second\n",
		"api/deep/calls.md":     "# Calls\n",
		"notes/100% & é 🙂.md":   "# Odd\n\n![p](pic.png)\n",
		"notes/plain.txt":       "a  <b>\n# no heading\n",
		"notes/bad <script>.md": "# <img src=x onerror=alert(1)>\n",
		"guide/pic.png":         "\x89PNG\r\n\x1a\n",
		"guide/drawing.svg":     "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
		"guide/manual.PDF":      "%PDF-1.4",
		"guide/data.json":       "{}",
		"guide/.secret.png":     "x",
		".git/x.png":            "x",
		"node_modules/x/y.png":  "x",
		"private/p.png":         "x",
	})
	ts := openTestServer(t, dir, append(env, "DOCS_EXCLUDE=private")...)
	ts.serve()
	return ts
}

func TestReadShowsDocumentsAsPages(t *testing.T) {
	ts := newReadServer(t)
	for _, test := range []struct {
		path     string
		status   int
		contains []string
	}{
		{"/read/guide/install.md", 200, []string{
			"<title>Install – Vitrine</title>",
			`<h1 id="install" data-line="1">Install<a class="anchor" href="#install"`,
			`<h2 id="from-source" data-line="5">From source<a class="anchor" href="#from-source" aria-label="Link to “From source”">#</a></h2>`,
			`<li class="level1"><a href="#from-source">From source</a></li>`,
			`<li class="level2"><a href="#tools--more">Tools &amp; more</a></li>`,
			`<a href="../../read/guide/">guide</a>`,
			`<a rel="prev" href="../../read/guide/10-last.md"><span>Previous</span> Last</a>`,
			`<a rel="next" href="../../read/notes/100%25%20&amp;%20%C3%A9%20%F0%9F%99%82.md">`,
			`<time datetime="2026-01-02T03:04:05Z">2 January 2026</time>`,
			`<a id="source" href="../../documents/guide/install.md">Source</a>`,
			`<a href="../../read/guide/install.md" aria-current="page">Install</a>`,
			`<details open="open"><summary>Guide</summary>`,
			`<details><summary>api</summary>`,
			`href="../../page/page.css?v=`,
			`<meta property="og:title" content="Install">`,
			`<meta name="description" content="Run it.">`,
		}},
		{"/read/guide/install.md?line=7", 200, []string{`<p data-line="7" data-marked="7">Build it.</p>`}},
		{"/read/guide/install.md?line=13", 200, []string{`<tr data-line="13" data-marked="13">`}},
		{"/read/guide/install.md?line=99", 200, []string{"data-marked"}},
		{"/read/guide/install.md?line=x&other=1", 200, []string{"<h1"}},
		{"/read/guide/README.md", 200, []string{`<h1>Guide</h1>`, `content="Everything that a new reader`}},
		{"/read/guide/2-second.mdx", 200, []string{`<h1 id="second"`}},
		{"/read/notes/plain.txt", 200, []string{`<pre class="source" tabindex="0">a  &lt;b&gt;` + "\n# no heading\n</pre>"}},
		{"/read/notes/100%25%20%26%20%C3%A9%20%F0%9F%99%82.md", 200, []string{`<h1 id="odd"`, `<img src="../../files/notes/pic.png" alt="p"`}},
		{"/read/notes/bad%20%3Cscript%3E.md", 200, []string{`<span class="mono">notes/bad &lt;script&gt;.md</span>`}},
		{"/read/index.md", 200, []string{`<a href="../read/guide/install.md#from-source">install</a>`}},
		{"/read/api%2Fdeep%2Fcalls.md", 200, []string{`href="../page/page.css`}},
		{"/read/notes/", 200, []string{`<h1>notes</h1>`, `<a href="../../read/notes/plain.txt">no heading</a>`}},
		{"/read/api", 200, []string{`<a href="../read/api/deep/">deep/</a>`}},
		{"/read/guide/instal.md", 404, []string{"There is no document of this name.", `<a href="../../read/guide/install.md">guide/install.md</a>`}},
		{"/read/%3Cb%3E", 404, []string{"<code>&lt;b&gt;</code>"}},
		{"/read/..%2f..%2fetc%2fpasswd", 404, nil},
	} {
		a := ts.get(test.path, browserAccept)
		if a.status != test.status || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("GET %s: %d %s, want %d", test.path, a.status, a.header.Get("Content-Type"), test.status)
		}
		for _, want := range test.contains {
			if !strings.Contains(a.body, want) {
				t.Errorf("GET %s has no\n%s\n%s", test.path, want, a.body)
			}
		}
		if strings.Contains(a.body, "<img src=x") || strings.Contains(a.body, "ZgotmplZ") {
			t.Errorf("GET %s is not escaped", test.path)
		}
	}
}

// TestDescriptionIsProse: previews of links show no code, headings or markup.
func TestDescriptionIsProse(t *testing.T) {
	long := strings.Repeat("words of a sentence, ", 20)
	for _, test := range []struct{ name, id, text, want string }{
		{"a paragraph", "a.md", "# A\n\nRun *it* with `go run .` [now](x.md).\n", "Run it with go run . now."},
		{"code first", "a.md", "# A\n\n```js\nlet x = 1\n```\n\nThen prose.\n", "Then prose."},
		{"indented code first", "a.md", "# A\n\n    go run .\n\nThen prose.\n", "Then prose."},
		{"code between paragraphs", "a.md", "One.\n\n```\nx\n```\n\nTwo.\n\n## B\n\nThree.\n", "One. Two."},
		{"a heading without text", "a.md", "# A\n\n## B\n\n### C\n\nText.\n", "Text."},
		{"a table first", "a.md", "# A\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nAfter it.\n", "After it."},
		{"badges", "a.md", "# A\n\n[![build](b.svg)](https://ci) ![c](c.svg)\n\nReal.\n", "Real."},
		{"badges by reference", "a.md", "[![build][b]][c]\n\nReal.\n\n[b]: b.svg\n[c]: https://ci\n", "Real."},
		{"a picture in prose", "a.md", "See ![the screen](s.png) here.\n", "See here."},
		{"a comment", "a.md", "<!-- note -->\n\nText.\n", "Text."},
		{"HTML", "a.md", "<p align=center>\n<img src=x>\n</p>\n\nText.\n", "Text."},
		{"MDX", "a.mdx", "import A from 'a'\n\n# T\n\nText.\n", "Text."},
		{"a list alone", "a.md", "# A\n\n- First *item*\n- Second\n", "First item"},
		{"a callout alone", "a.md", "# A\n\n> [!NOTE]\n> Mind the gap.\n", "Mind the gap."},
		{"a list before prose", "a.md", "- item\n\nProse.\n", "Prose."},
		{"a quote", "a.md", "> Quoted.\n", "Quoted."},
		{"nothing but code", "a.md", "```\nx\n```\n", ""},
		{"an empty document", "a.md", "", ""},
		{"front matter", "a.md", "---\ndescription: How to install.\n---\nText.\n", "How to install."},
		{"tags alone", "a.md", "---\ntags: [one, two]\n---\nText.\n", "Text."},
		{"the title as text", "a.md", "---\ntitle: A page\n---\nA page\n\nText.\n", "Text."},
		{"a long one", "a.md", long, strings.Repeat("words of a sentence, ", 9) + "words of…"},
		{"without spaces", "a.md", strings.Repeat("検索", 150), strings.Repeat("検索", 99) + "検…"},
		{"plain text", "a.txt", "a  <b>\n# no heading\n", "a <b> # no heading"},
	} {
		d, err := newDocument(test.id, test.text, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if got := description(d); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestReadFindsTheDocumentThatAnAddressMeans(t *testing.T) {
	ts := newReadServer(t)
	for _, test := range []struct{ path, location string }{
		{"/read/guide", "../read/guide/README.md"},
		{"/read/guide/", "../../read/guide/README.md"},
		{"/read/guide/index", "../../read/guide/README.md"},
		{"/read/guide/install?line=7&q=a", "../../read/guide/install.md?line=7&q=a"},
		{"/read/guide/Install/", "../../../read/guide/install.md"},
		{"/read/", "../read/index.md"},
		{"/read/index", "../read/index.md"},
		{"/read/api/deep/calls", "../../../read/api/deep/calls.md"},
	} {
		a := ts.get(test.path, browserAccept)
		if a.status != http.StatusFound || a.header.Get("Location") != test.location {
			t.Errorf("GET %s: %d to %q, want %q", test.path, a.status, a.header.Get("Location"), test.location)
		}
	}
}

// TestReadAnswersOthersWithTheText: what is no browser gets Markdown, and errors as JSON.
func TestReadAnswersOthersWithTheText(t *testing.T) {
	ts := newReadServer(t)
	a := ts.get("/read/guide/10-last.md")
	if a.status != http.StatusOK || a.body != "# Last\n" || a.header.Get("Content-Type") != "text/markdown; charset=utf-8" {
		t.Errorf("%d %v %q", a.status, a.header, a.body)
	}
	a = ts.get("/read/guide/instal.md")
	if a.status != http.StatusNotFound || !strings.Contains(a.body, "did you mean guide/install.md") {
		t.Errorf("%d %s", a.status, a.body)
	}
	ts.store = storeStub{ts.store, func(context.Context) error { return errors.New("invalid byte sequence") }}
	for _, path := range []string{"/read/%00.md", "/read/%FF.md", "/read/guide/%00"} {
		if a := ts.get(path); a.status != http.StatusNotFound { // PostgreSQL refuses such a text
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	ts.store = ts.store.(storeStub).store
	page := ts.get("/read/guide/10-last.md", browserAccept)
	again := ts.get("/read/guide/10-last.md", browserAccept, "If-None-Match: "+page.header.Get("ETag"))
	if again.status != http.StatusNotModified || !strings.Contains(fmt.Sprint(page.header.Values("Vary")), "Accept") {
		t.Errorf("%d %v", again.status, page.header)
	}
}

// TestReadMarksTheBlockAroundAParagraphWithoutAnElement: the items of tight lists and the titles of callouts have no
// element for their paragraph.
func TestReadMarksTheBlockAroundAParagraphWithoutAnElement(t *testing.T) {
	for _, test := range []struct {
		text string
		line int
		want string
	}{
		{"- one\n- two\n- three\n", 2, `<li data-line="2" data-marked="2">two</li>`},
		{"- one\n  - two\n", 2, `<li data-line="2" data-marked="2">two</li>`},
		{"- [x] done\n", 1, `<li class="task" data-line="1" data-marked="1">`},
		{"- one\n\n- two\n", 3, `<p data-line="3" data-marked="3">two</p>`},
		{"- > one\n", 1, `<p data-line="1" data-marked="1">one</p>`},
		{"> [!NOTE]\n> one\n", 2, `<div class="callout note" data-line="1" data-marked="2">`},
		{"!!! tip \"Title\"\n    one\n", 1, `<div class="callout tip" data-line="1" data-marked="1">`},
		{"!!! tip \"Title\"\n    one\n", 2, `<p data-line="2" data-marked="2">one</p>`},
		{"=== \"Tab\"\n\n    one\n", 1, `<div class="callout tab" data-line="1" data-marked="1">`},
		{":::cards Title\none\n:::\n", 1, `<p data-line="1" data-marked="1">Title</p>`},
	} {
		html := renderMarkdown(renderInput{text: test.text}, test.line, pageTargets{root: "./"}).html
		if !strings.Contains(html, test.want) || strings.Count(html, "data-marked") != 1 {
			t.Errorf("line %d of %q: %s, want %s", test.line, test.text, html, test.want)
		}
	}
}

// TestReadOfALargeDocumentShowsItsSource with the line that was found.
func TestReadOfALargeDocumentShowsItsSource(t *testing.T) {
	ts := newTestServer(t)
	text := "# Large\n\n" + strings.Repeat("A *word* <b>.\n", (maxDocumentBytes-100)/14)
	if a := ts.put("large.md", text); a.status != http.StatusCreated {
		t.Fatalf("PUT: %d %s", a.status, a.body)
	}
	a := ts.get("/read/large.md?line=4", browserAccept)
	for _, want := range []string{"too large to render", "A *word* &lt;b&gt;.\n<span data-marked=\"4\">A *word* &lt;b&gt;.\n</span>A "} {
		if a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("%d has no %q: %.300s", a.status, want, a.body)
		}
	}
}

// TestReadOfSourceChangesNoCharacter shows long lines of characters of all lengths.
func TestReadOfSourceChangesNoCharacter(t *testing.T) {
	ts := newTestServer(t)
	for shift := range 4 {
		id := fmt.Sprintf("source%d.txt", shift)
		line := strings.Repeat("a", shift) + strings.Repeat("é中🙂<&\"'>+", 5000)
		text := line + "\n" + line + "\n\n" + line
		ts.put(id, text)
		for _, query := range []string{"", "?line=2", "?line=3", "?line=4"} {
			a := ts.get("/read/"+id+query, browserAccept)
			_, rest, _ := strings.Cut(a.body, `<pre class="source" tabindex="0">`)
			shown, _, _ := strings.Cut(rest, "</pre>")
			marks := regexp.MustCompile("</?span[^>]*>")
			if html.UnescapeString(marks.ReplaceAllString(shown, "")) != text {
				t.Errorf("%s%s shows %d characters that are not the text: %.300s", id, query, len(shown), shown)
			}
			if marked := len(marks.FindAllString(shown, -1)); marked != 2*len(query)/len("?line=2") {
				t.Errorf("%s%s has %d tags", id, query, marked)
			}
		}
	}
}

// TestReadOfALineThatADocumentDoesNotHave: the line is a number of the client's choice, so no work may depend on it.
func TestReadOfALineThatADocumentDoesNotHave(t *testing.T) {
	ts := newTestServer(t)
	ts.put("source.txt", "One\n\nTwo.\n")
	ts.put("page.md", "# One\n\nTwo.\n")
	for _, line := range []string{"4", "4294967297", "9223372036854775807", "99999999999999999999"} {
		a := ts.get("/read/source.txt?line="+line, browserAccept)
		if a.status != http.StatusOK || strings.Contains(a.body, "data-marked") {
			t.Errorf("source, line %s: %d %.300s", line, a.status, a.body)
		}
		a = ts.get("/read/page.md?line="+line, browserAccept)
		if a.status != http.StatusOK || !strings.Contains(a.body, `<p data-line="3" data-marked="`) {
			t.Errorf("page, line %s: %d %.300s", line, a.status, a.body)
		}
	}
}

func TestFilesBesideDocuments(t *testing.T) {
	ts := newReadServer(t)
	if err := os.Symlink("/etc/hostname", filepath.Join(ts.dir, "guide", "link.png")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(ts.dir, "guide", "folder.png"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path, contentType string
		status            int
	}{
		{"/files/guide/pic.png", "image/png", 200},
		{"/files/guide/drawing.svg", "image/svg+xml", 200},
		{"/files/guide/manual.PDF", "application/pdf", 200},
		{"/files/guide/data.json", "", 404},
		{"/files/guide/install.md", "", 404},
		{"/files/guide/none.png", "", 404},
		{"/files/guide/.secret.png", "", 404},
		{"/files/.git/x.png", "", 404},
		{"/files/node_modules/x/y.png", "", 404},
		{"/files/private/p.png", "", 404},
		{"/files/guide/link.png", "", 404},
		{"/files/guide/folder.png", "", 404},
		{"/files/..%2fguide/pic.png", "", 404},
		{"/files/guide%2f..%2f..%2fx.png", "", 404},
		{"/files/guide%5cpic.png", "", 404},
		{"/files/", "", 404},
	} {
		a := ts.get(test.path)
		if a.status != test.status {
			t.Errorf("GET %s: %d, want %d: %s", test.path, a.status, test.status, a.body)
		}
		if test.status != http.StatusOK {
			continue
		}
		isSafe := a.header.Get("X-Content-Type-Options") == "nosniff" &&
			strings.HasPrefix(a.header.Get("Content-Security-Policy"), "sandbox; default-src 'none'")
		if !isSafe || a.header.Get("Content-Type") != test.contentType {
			t.Errorf("GET %s: %v", test.path, a.header)
		}
		again := ts.get(test.path, "If-None-Match: "+a.header.Get("ETag"))
		part := ts.get(test.path, "Range: bytes=1-2")
		if again.status != http.StatusNotModified || part.status != http.StatusPartialContent || len(part.body) != 2 {
			t.Errorf("GET %s again: %d, a part: %d %q", test.path, again.status, part.status, part.body)
		}
		for condition, status := range map[string]int{
			`If-Match: "x"`: http.StatusPreconditionFailed,
			"If-Unmodified-Since: Mon, 02 Jan 2006 15:04:05 GMT": http.StatusPreconditionFailed,
			"Range: bytes=999-": http.StatusRequestedRangeNotSatisfiable,
		} {
			a := ts.get(test.path, condition)
			header, _, _ := strings.Cut(condition, ":")
			if a.status != status || !strings.Contains(a.body, header) || !strings.Contains(a.body, " out to get") {
				t.Errorf("GET %s with %s: %d %s", test.path, condition, a.status, a.body)
			}
		}
	}

	if err := os.Truncate(filepath.Join(ts.dir, "guide", "pic.png"), maxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	if a := ts.get("/files/guide/pic.png"); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a file that is too large: %d", a.status)
	}
}

func TestFilesOfSeveralFolders(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	for dir, name := range map[string]string{one: "a.png", two: "b.png"} {
		for _, file := range []string{name, "x.md"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	ts := openTestServer(t, "one="+one+",two="+two)
	ts.serve()
	for path, want := range map[string]int{"/files/one/a.png": 200, "/files/two/b.png": 200, "/files/one/b.png": 404, "/files/a.png": 404} {
		if a := ts.get(path); a.status != want {
			t.Errorf("GET %s: %d, want %d", path, a.status, want)
		}
	}
}

// signIn returns the cookie that a token is exchanged for.
func (ts *testServer) signIn(token string) string {
	ts.t.Helper()
	a := ts.do("POST", "/signin", "token="+token, "Authorization: ", "Content-Type: application/x-www-form-urlencoded")
	if a.status != http.StatusNoContent {
		ts.t.Fatalf("POST /signin: %d %s", a.status, a.body)
	}
	cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
	return "Cookie: " + cookie
}

// TestSignInOpensReading: the cookie opens GET and HEAD of what its token opens, and nothing else.
func TestSignInOpensReading(t *testing.T) {
	ts := newTestServer(t, "API_TOKEN=api-token")
	ts.put("a.md", "# A\n")
	api, admin := ts.signIn("api-token"), ts.signIn(testAdminToken)
	const none = "Cookie: "
	for _, test := range []struct {
		method, path, cookie string
		want                 int
	}{
		{"GET", "/search?q=a", none, 401},
		{"GET", "/search?q=a", api, 200},
		{"HEAD", "/search?q=a", api, 200},
		{"GET", "/documents/a.md", api, 200},
		{"GET", "/read/a.md", api, 200},
		{"GET", "/read/a.md", none, 401},
		{"GET", "/files/a.png", none, 401},
		{"GET", "/files/a.png", api, 404},
		{"GET", "/debug/requests", api, 403},
		{"GET", "/debug/requests", admin, 200},
		{"GET", "/search?q=a", admin, 200},
		{"PUT", "/documents/b.md", admin, 401},
		{"DELETE", "/documents/a.md", admin, 401},
		{"POST", "/documents", admin, 401},
		{"PUT", "/debug/loglevel", admin, 401},
		{"POST", "/mcp", api, 401},
		{"GET", "/search?q=a", strings.Replace(api, "api", "admin", 1), 401},
		{"GET", "/search?q=a", api[:len(api)-1] + "g", 401},
		{"GET", "/search?q=a", "Cookie: vitrine=api", 401},
		{"GET", "/search?q=a", "Cookie: vitrine=api.1.2", 401},
		{"GET", "/search?q=a", "Cookie: vitrine=" + ts.cookieValue(signedInAPI, time.Now().Add(-signInLifetime-time.Hour)), 401},
		{"GET", "/search?q=a", "Cookie: vitrine=" + ts.cookieValue(signedInAPI, time.Now().Add(time.Hour)), 401},
	} {
		a := ts.do(test.method, test.path, "info", "Authorization: ", test.cookie)
		if a.status != test.want {
			t.Errorf("%s %s with %.20q: %d, want %d: %s", test.method, test.path, test.cookie, a.status, test.want, a.body)
		}
	}

	other := newTestServer(t, "API_TOKEN=another-token")
	if a := other.do("GET", "/documents", "", "Authorization: ", api); a.status != http.StatusUnauthorized {
		t.Errorf("the cookie outlives its token: %d", a.status)
	}
	open := newTestServer(t, "ADMIN_TOKEN=")
	if a := open.do("GET", "/debug/requests", "", "Authorization: ", "Cookie: vitrine="+open.cookieValue(signedInAdmin, time.Now())); a.status != http.StatusForbidden {
		t.Errorf("a cookie of no token opens: %d", a.status)
	}
}

func TestSignInCookie(t *testing.T) {
	ts := newTestServer(t, "API_TOKEN=api-token", "TRUSTED_PROXIES=127.0.0.1/32")
	const form = "Content-Type: application/x-www-form-urlencoded"
	a := ts.do("POST", "/signin", "token=api-token", form)
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Max-Age=2592000"} {
		if !strings.Contains(a.header.Get("Set-Cookie"), want) {
			t.Errorf("no %s in %s", want, a.header.Get("Set-Cookie"))
		}
	}
	if cookie := a.header.Get("Set-Cookie"); strings.Contains(cookie, "Secure") || strings.Contains(cookie, "api-token") || strings.Contains(cookie, "Path") {
		t.Error(cookie)
	}
	a = ts.do("POST", "/signin", "token=api-token", form, "X-Forwarded-Proto: https")
	if !strings.Contains(a.header.Get("Set-Cookie"), "Secure") {
		t.Error("not secure over https")
	}
	a = ts.do("POST", "/signout", "", form)
	if a.status != http.StatusNoContent || !strings.Contains(a.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("sign-out: %d %v", a.status, a.header)
	}
	a = ts.do("POST", "/signin", "token=api-token", form, "Origin: https://evil.example")
	if a.status != http.StatusForbidden || a.header.Get("Set-Cookie") != "" {
		t.Errorf("another origin signs in: %d", a.status)
	}
	if a := ts.get("/signin"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("GET /signin: %d", a.status)
	}
}

// TestSignInOfABrowserWithoutScript: the page that needs a token has a form, which leads back to it and nowhere else.
func TestSignInOfABrowserWithoutScript(t *testing.T) {
	ts := newTestServer(t, "API_TOKEN=api-token")
	ts.put("a b.md", "# A\n")
	const form = "Content-Type: application/x-www-form-urlencoded"
	a := ts.do("GET", "/read/a%20b.md?line=2", "", "Authorization: ", browserAccept)
	if a.status != http.StatusUnauthorized || !strings.Contains(a.body, `<form class="sign-in" action="../signin" method="post">`) ||
		!strings.Contains(a.body, `name="to" value="read/a%20b.md?line=2"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	for to, want := range map[string]string{
		"read/a%20b.md?line=2": "./read/a%20b.md?line=2",
		"":                     "./",
		"?q=x":                 "./?q=x",
		"//evil.example":       "./",
		"https://evil.example": "./",
		"/evil":                "./",
		`\\evil.example`:       "./",
		`read/\evil`:           "./",
		"javascript:alert(1)":  "./",
		"../x":                 "./",
	} {
		body := "token=api-token&to=" + strings.NewReplacer("%", "%25", "?", "%3F", "=", "%3D").Replace(to)
		a := ts.do("POST", "/signin", body, form, browserAccept)
		if a.status != http.StatusSeeOther || a.header.Get("Location") != want {
			t.Errorf("to %q: %d %q, want %q", to, a.status, a.header.Get("Location"), want)
		}
	}
	a = ts.do("POST", "/signin", "token=wrong&to=read/x.md", form, browserAccept)
	if a.status != http.StatusUnauthorized || !strings.Contains(a.body, "That token was not accepted") || !strings.Contains(a.body, `value="read/x.md"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestAnswerToALongPathIsShort: an error page has the relative address of the root in a dozen places.
func TestAnswerToALongPathIsShort(t *testing.T) {
	ts := newTestServer(t)
	path := "/read" + strings.Repeat("/a", 20_000)
	a := ts.get(path, browserAccept)
	if a.status != http.StatusNotFound || len(a.body) > len(path) {
		t.Errorf("%d with %d bytes for a path of %d", a.status, len(a.body), len(path))
	}
}

// TestWrongSignInsAreCounted like other failed tokens.
func TestWrongSignInsAreCounted(t *testing.T) {
	ts := newTestServer(t, "API_TOKEN=api-token")
	last := 0
	for range 8 {
		a := ts.do("POST", "/signin", "token=wrong", "Content-Type: application/x-www-form-urlencoded", "Authorization: ")
		last = a.status
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("after 8 wrong tokens: %d", last)
	}
}

func TestOpenSearch(t *testing.T) {
	ts := newTestServer(t)
	a := ts.get("/opensearch.xml")
	if a.status != http.StatusOK || !strings.Contains(a.body, `template="`+ts.url+`/?q={searchTerms}"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	page := ts.get("/", browserAccept).body
	if !regexp.MustCompile(`<link rel="search" href="\./opensearch.xml" type="application/opensearchdescription\+xml"`).MatchString(page) {
		t.Error("the page does not name it")
	}
}
