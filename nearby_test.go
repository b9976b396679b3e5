package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestUnknownIDNamesTheNearest asks for ids that are nearly those of documents.
func TestUnknownIDNamesTheNearest(t *testing.T) {
	ts := newMCPServer(t, map[string]string{
		"team/deploy.md": "# D", "team/rollback.md": "# R", "api/auth.md": "# A", "api/auth-tokens.md": "# T", "readme.md": "# M",
		"kitchen.md": "# K", "über/größe.md": "# G", "e\u0301te\u0301.md": "# E",
	}, nil)
	c := &mcpClient{testServer: ts, version: modernVersion}
	for id, want := range map[string]string{
		"deploy.md":            "did you mean team/deploy.md?",
		"Team/Deploy.md":       "did you mean team/deploy.md, team/rollback.md?",
		"team/deployment.md":   "did you mean team/deploy.md, team/rollback.md?",
		"api/authenticate.md":  "did you mean api/auth.md, api/auth-tokens.md?",
		"guide/auth_tokens.md": "did you mean api/auth-tokens.md, api/auth.md?",
		"README2.md":           "did you mean readme.md?",
		"kitchn.md":            "did you mean kitchen.md?",
		"kitchens.md":          "did you mean kitchen.md?",
		"Ktichen.md":           "did you mean kitchen.md?",
		"team/rolback.md":      "did you mean team/rollback.md, team/deploy.md?",
		"auto.md":              "did you mean api/auth.md, api/auth-tokens.md?",
		"uber/grosse.md":       "did you mean über/größe.md?",
		"u\u0308ber/GRÖSSE.md": "did you mean über/größe.md?",
		"été.md":               "did you mean e\u0301te\u0301.md?",
		"ete.md":               "did you mean e\u0301te\u0301.md?",
		"kitten.md":            "no",
		"zzz.md":               "no",
	} {
		if a := ts.get("/documents/" + id); a.status != 404 || !strings.Contains(a.body, want) || want == "no" && strings.Contains(a.body, "did you mean") {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
		if text, result := c.call("get_document", map[string]any{"id": id}); !result.IsError || !strings.Contains(text, want) {
			t.Errorf("get_document %s: %s", id, text)
		}
	}
}

// TestUnknownResourceNamesTheNearest reads URIs that are nearly those of documents, in both eras.
func TestUnknownResourceNamesTheNearest(t *testing.T) {
	ts := newMCPServer(t, map[string]string{
		"guide/install.md": "# I", "api/auth.md": "# A", "on call/größe & so.md": "# G",
	}, nil)
	const install = "no such resource: did you mean docs:///guide/install.md?"
	for uri, want := range map[string]string{
		"docs:///guide/instal.md":                   install,
		"docs:///Guide/Install.md":                  install,
		"docs:///install":                           install,
		"docs://guide/install.md":                   install,
		"guide/install.md":                          install,
		"docs:///guide/install.md#linux":            install,
		"docs:///guide/install.md?x=1":              install,
		"http://127.0.0.1:8080/read/api/auth.md":    "did you mean docs:///api/auth.md?",
		"docs:///on%20call/gr%C3%B6%C3%9Fe.md":      "did you mean docs:///on%20call/gr%C3%B6%C3%9Fe%20&%20so.md?",
		"docs:///on-call/grosse.md":                 "did you mean docs:///on%20call/gr%C3%B6%C3%9Fe%20&%20so.md?",
		"docs:///zzz.md":                            "no such resource: resources/list lists them",
		"docs:///":                                  "no such resource: resources/list lists them",
		"docs:///%00%ff":                            "no such resource: resources/list lists them",
		"docs:///%zz":                               "no such resource: resources/list lists them",
		"":                                          "no such resource: resources/list lists them",
		"docs:///" + strings.Repeat("install/", 99): "no such resource: resources/list lists them",
	} {
		for _, version := range []string{modernVersion, legacyVersions[0]} {
			if uri == "" && version == modernVersion {
				continue // the header Mcp-Name cannot repeat it
			}
			c := &mcpClient{testServer: ts, version: version}
			answer := c.send(t.Context(), "/mcp", "resources/read", 1, map[string]any{"uri": uri})
			var body struct{ Error rpcError }
			if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || !strings.Contains(body.Error.Message, want) {
				t.Errorf("%s in %s: %+v, %v", uri, version, body, err)
			}
		}
	}
}

// manyDocuments is a store with more documents in its first folder than are compared.
type manyDocuments struct{ store }

func (manyDocuments) list(_ context.Context, prefix, _ string, limit int) ([]documentInfo, error) {
	var list []documentInfo
	for i := range maxNearbyIDs {
		list = append(list, documentInfo{ID: fmt.Sprintf("archive/%05d.md", i)})
	}
	list = append(list, documentInfo{ID: "archive/x/deploy.md"}, documentInfo{ID: "team/deploy.md"})
	list = slices.DeleteFunc(list, func(d documentInfo) bool { return !strings.HasPrefix(d.ID, prefix) })
	return list[:min(limit, len(list))], nil
}

// TestLargeSetsNameTheNearestOfTheFolder asks for ids behind the first ones of a large set.
func TestLargeSetsNameTheNearestOfTheFolder(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, func(s *server) { s.store = manyDocuments{s.store} })
	for id, want := range map[string]string{
		"team/deplyo.md":      "did you mean team/deploy.md?",
		"team/Deploy":         "did you mean team/deploy.md?",
		"/team/deploy.md":     "did you mean team/deploy.md?",
		"./team/deploy.md":    "did you mean team/deploy.md?",
		"team/nope/deploy.md": "did you mean team/deploy.md?",
		"archive/x/deploi.md": "did you mean archive/x/deploy.md, archive/00000.md, archive/00001.md?",
		"archive/00007":       "did you mean archive/00007.md, archive/00000.md, archive/00001.md?",
		"zzz/zzz.md":          "look for it with search_docs",
		"a\x00/deploy.md":     "look for it with search_docs",
	} {
		c := &mcpClient{testServer: ts, version: modernVersion}
		text, result := c.call("get_document", map[string]any{"id": id})
		if !result.IsError || !strings.Contains(text, want) {
			t.Errorf("%q: %s", id, text)
		}
	}
}

// TestLongIDsAreNotCompared: the cost of a comparison grows with the words of the id, and a path has up to 64 KiB. The page
// has no tree of documents, because the relative address of the root, as long as the path, would be in each of its links.
func TestLongIDsAreNotCompared(t *testing.T) {
	ts := newMCPServer(t, map[string]string{"guide/install.md": "# I"}, nil)
	id := "guide/install" + strings.Repeat("/a", maxIDBytes/2) + ".md"
	for path, status := range map[string]int{"/documents/" + id: 400, "/read/" + id: 404} {
		if a := ts.get(path); a.status != status || strings.Contains(a.body, "did you mean") {
			t.Errorf("%.20s…: %d %s", path, a.status, a.body)
		}
	}
	a := ts.get("/read/"+id, browserAccept)
	if a.status != 404 || strings.Contains(a.body, "Did you mean") || strings.Contains(a.body, `id="tree"`) {
		t.Errorf("as a page: %d %.2000s", a.status, a.body)
	}
}

// TestBadIDNamesTheNearest asks for what cannot be an id. The error says why, and what is like it.
func TestBadIDNamesTheNearest(t *testing.T) {
	ts := newMCPServer(t, map[string]string{"guide/install.md": "# I", "api/auth.md": "# A"}, nil)
	for id, want := range map[string]string{
		"guide/install":       "does not end in .md",
		"guide/%2Finstall.md": "has an empty segment",
		"guide/install.md/":   "does not end in .md",
		"guide%5Cinstall.md":  "has a backslash",
		"guide/install.html":  "does not end in .md",
	} {
		a := ts.get("/documents/" + id)
		if a.status != 400 || !strings.Contains(a.body, want) || !strings.Contains(a.body, "did you mean guide/install.md?") {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
	}
	for _, id := range []string{"zzz", "%FF", "%00"} {
		if a := ts.get("/documents/" + id); a.status != 400 || strings.Contains(a.body, "did you mean") {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
	}
}

// TestNothingFoundNamesWhatIsOutsideThePrefix searches below a prefix that has nothing.
func TestNothingFoundNamesWhatIsOutsideThePrefix(t *testing.T) {
	ts := newMCPServer(t, map[string]string{
		"guide/a.md": "# A\n\nOther.", "api/auth.md": "# Auth\n\nrotate tokens", "b.md": "# B\n\nrotate tokens", "c.md": "# C\n\nrotate tokens", "d.md": "# D\n\nrotate tokens",
	}, nil)
	c := &mcpClient{testServer: ts, version: modernVersion}
	text, _ := c.call("search_docs", map[string]any{"query": "rotate tokens", "prefix": "guide/"})
	if !strings.Contains(text, "4 outside guide/: ") || !strings.Contains(text, " …") || strings.Contains(text, "guide/a.md") {
		t.Error(text)
	}
	text, _ = c.call("search_docs", map[string]any{"query": "rotate tokens", "prefix": "gui\nde\x1b/"})
	if !strings.Contains(text, `4 outside gui\\u000ade\\u001b/: `) {
		t.Error(text)
	}
	text, _ = c.call("search_docs", map[string]any{"query": "rotaet tokens", "prefix": "guide/"})
	if !strings.Contains(text, `4 outside guide/: `) || !strings.Contains(text, `showing results for \"rotate tokens\"; search again`) {
		t.Error(text)
	}
	text, _ = c.call("search_docs", map[string]any{"query": `"tokens rotate"`})
	if !strings.Contains(text, "without the double quotes") {
		t.Error(text)
	}
	text, _ = c.call("search_docs", map[string]any{"query": "xylophone"})
	if strings.Contains(text, "prefix") {
		t.Error("advice about a prefix that there is not:", text)
	}
	text, _ = c.call("search_docs", map[string]any{"query": "xylophone", "prefix": "guide/"})
	if !strings.Contains(text, "nothing found: try other") {
		t.Error(text)
	}
}

// TestMoreThanOneSearchFindsIsNotCounted: a search finds at most maxToolHits documents, so there may be more.
func TestMoreThanOneSearchFindsIsNotCounted(t *testing.T) {
	documents := map[string]string{"guide/a.md": "# A"}
	for i := range maxToolHits + 1 {
		documents[fmt.Sprintf("api/%d.md", i)] = fmt.Sprintf("# Page %d\n\nrotate the token number %d", i, i)
	}
	c := &mcpClient{testServer: newMCPServer(t, documents, nil), version: modernVersion}
	text, _ := c.call("search_docs", map[string]any{"query": "rotate token", "prefix": "guide/"})
	if !strings.Contains(text, "20 or more outside guide/: api/") {
		t.Error(text)
	}
}

// TestNothingListedNamesTheNearest lists below prefixes that no id has.
func TestNothingListedNamesTheNearest(t *testing.T) {
	ts := newMCPServer(t, map[string]string{"guide/install.md": "# A", "api/auth.md": "# B"}, nil)
	c := &mcpClient{testServer: ts, version: modernVersion}
	for prefix, want := range map[string]string{
		"/guide/":   `no id begins with \"/guide/\": leave prefix out, or did you mean guide/install.md?`,
		"Guide":     "did you mean guide/install.md?",
		"guides/":   "did you mean guide/install.md?",
		"nothing/":  `no id begins with \"nothing/\": leave prefix out"`,
		"x\u202e/":  `no id begins with \"x\\u202e/\"`,
		"guide/":    `"id":"guide/install.md"`,
		"guide/ins": `"id":"guide/install.md"`,
	} {
		text, result := c.call("list_documents", map[string]any{"prefix": prefix})
		isListed := strings.HasPrefix(want, `"id"`)
		if result.IsError || !strings.Contains(text, want) || isListed && strings.Contains(text, `"next"`) {
			t.Errorf("%s: %s", prefix, text)
		}
	}
}

// TestHintsAreBounded asks for documents that do not exist. The hint costs a bounded number of comparisons, and is left out
// while too many ask.
func TestHintsAreBounded(t *testing.T) {
	t.Parallel()
	for _, id := range []string{
		strings.Repeat("a-", 250) + ".md",
		strings.Repeat("ab/", 160) + "install.md",
		strings.Repeat("é ", 160) + ".md",
		"install",
	} {
		if words := pathWords(id); len(words) > maxPathWords {
			t.Errorf("%.20s…: %d words", id, len(words))
		}
	}
	if words := pathWords(strings.Repeat("ab/", 100) + "install.md"); words[len(words)-1] != "install" {
		t.Error("the name of the file does not count", words)
	}

	s := newMCPServer(t, goldenDocuments, nil)
	leave := fill(t, s.hints)
	for _, path := range []string{"/documents/guide/instal.md", "/read/guide/instal.md"} {
		got := s.get(path)
		if got.status != 404 || strings.Contains(got.body, "did you mean") {
			t.Errorf("%s while many ask: %d %s", path, got.status, got.body)
		}
	}
	leave()
	if got := s.get("/documents/guide/instal.md"); !strings.Contains(got.body, "did you mean guide/install.md") {
		t.Error(got.body)
	}
}
