package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestLinksForModelsAreByFolder(t *testing.T) {
	t.Parallel()
	dir := datedFolder(t, map[string]string{
		"index.md":            "# Home\n",
		"api/v1/auth.md":      "---\ntitle: \"[x](javascript:1) *a*\\nb <i>\"\n---\n",
		"api/cards & co.md":   "# Cards\n",
		"api/zeta.md":         "# Zeta\n",
		"guide/_index.md":     "# Guide `code`\n",
		"guide/[1]/100%.md":   "no heading\n",
		"guide/left-out.html": "<h1>Left out</h1>",
	})
	ts := openTestServer(t, dir, "DOCS_SYNC_INTERVAL=1h", "DOCS_URL=https://docs.example.com/p/", "DOCS_TITLE=Payments [2]", "DOCS_DESCRIPTION=Cards and refunds.")
	ts.serve()
	want := `# Payments \[2\]

> Cards and refunds.

## Documents

- [Home](https://docs.example.com/p/)

## api

- [Cards](https://docs.example.com/p/api/cards%20&%20co)
- [Zeta](https://docs.example.com/p/api/zeta)

## api/v1

- [\[x\](javascript:1) \*a\* b \<i\>](https://docs.example.com/p/api/v1/auth)

## guide

- [Guide code](https://docs.example.com/p/guide/)

## guide/\[1\]

- [100%](https://docs.example.com/p/guide/%5B1%5D/100%25)
`
	if got := ts.get("/llms.txt"); got.body != want {
		t.Errorf("got\n%s\nwant\n%s", got.body, want)
	}
}

// TestLinksForModelsShowNoControlCharacters has characters in titles and names that change how a terminal shows the text.
func TestLinksForModelsShowNoControlCharacters(t *testing.T) {
	t.Parallel()
	titles := map[string]string{
		"override.md":  "gpj\u202e.exe",
		"isolate.md":   "a\u2066b\u2069",
		"c1.md":        "a\u009b31mb",
		"escape.md":    "a\x1b[31mb",
		"zero.md":      "pay\u200bpal",
		"bom.md":       "a\ufeffb",
		"tag.md":       "a\U000e0041b",
		"separator.md": "a\u2028b",
		"private.md":   "a\ue000b",
		"plain.md":     "Ärger 一 🙂",
	}
	documents := make(map[string]string)
	for id, title := range titles {
		documents["fol\u202eder/"+id] = "# " + title + "\n"
	}
	dir := datedFolder(t, documents)
	ts := openTestServer(t, dir, "DOCS_TITLE=Docs\u202e", "DOCS_DESCRIPTION=Says\u2066 hello")
	ts.serve()

	text := ts.get("/llms.txt").body
	for _, r := range text {
		if r != '\n' && isUnsafe(r) {
			t.Errorf("%U in\n%q", r, text)
		}
	}
	for _, want := range []string{
		"# Docs\\\\u202e\n",
		"> Says\\\\u2066 hello\n",
		"[gpj\\\\u202e.exe]",
		"[pay\\\\u200bpal]",
		"[Ärger 一 🙂]",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}

	// JSON has the title as it is.
	if list := ts.get("/documents").body; !strings.Contains(list, "gpj\u202e.exe") && !strings.Contains(list, `gpj\u202e.exe`) {
		t.Errorf("the title is changed in JSON: %s", list)
	}
}

func TestLinksForModelsAreBounded(t *testing.T) {
	t.Parallel()
	documents := make(map[string]string)
	for i := range maxListedLinks + 5 {
		documents[fmt.Sprintf("%04d.md", i)] = "# Page\n"
	}
	ts := newMCPServer(t, documents, nil)
	text := ts.get("/llms.txt").body
	if n := strings.Count(text, "\n- [Page]("); n != maxListedLinks {
		t.Errorf("%d links, want %d", n, maxListedLinks)
	}
	_, rest, _ := strings.Cut(text, "("+ts.url+"/documents?cursor=")
	cursor, _, _ := strings.Cut(rest, ")")
	if more := ts.get("/documents?cursor=" + cursor).body; !strings.Contains(more, `"id":"1000.md"`) {
		t.Errorf("the link to the rest answers %.200s", more)
	}
}
