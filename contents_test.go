package main

// The tree of documents: how much of it a page shows, and how often it is read.

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// treeOf returns the documents of a large folder with a page, beside many small ones.
func treeOf(inLarge, folders int) []documentInfo {
	var documents []documentInfo
	for n := range folders {
		for _, name := range []string{"a.md", "b.md", "deep/c.md"} {
			documents = append(documents, documentInfo{ID: fmt.Sprintf("f%d/%s", n, name), Title: "T"})
		}
	}
	documents = append(documents, documentInfo{ID: "large/README.md", Title: "Large"})
	for n := range inLarge {
		documents = append(documents, documentInfo{ID: fmt.Sprintf("large/%d.md", n), Title: fmt.Sprintf("Page %d", n)})
	}
	return documents
}

func writtenTree(tree *documentTree, current string) string {
	m := new(markup)
	treeWriter{m, tree, current, "../"}.write()
	return m.out.String()
}

func TestTreeShowsWhatIsNear(t *testing.T) {
	whole := newDocumentTree(treeOf(500, 400))
	large := newDocumentTree(treeOf(10_000, 3300))
	for _, test := range []struct {
		name     string
		tree     *documentTree
		current  string
		links    int
		contains []string
	}{
		{"all of a small tree", whole, "f1/a.md", 500 + 1 + 3*400, []string{
			`<a href="../read/f1/a.md" aria-current="page">T</a>`,
		}},
		{"around a document", large, "large/5000.md", 2*maxSiblings + 1 + 2 + 1 + maxSiblings + 2, []string{
			`<details open="open"><summary>Large</summary><ul><li><a href="../read/large/README.md">Overview</a></li></ul>`,
			`<a href="../read/large/5000.md" aria-current="page">Page 5000</a>`,
			`<a href="../read/large/?list" class="rest">4900 more</a>`,
			`<a href="../read/large/?list" class="rest">4899 more</a>`,
			`<a href="../read/?list" class="rest">3200 more</a>`,
			`<a href="../read/?list" class="rest">All documents</a>`,
		}},
		{"at the beginning", large, "large/0.md", maxSiblings + 1 + 1 + 1 + maxSiblings + 2, []string{
			`<a href="../read/large/?list" class="rest">9899 more</a>`,
		}},
		{"in a small folder", large, "f7/deep/c.md", 3 + maxSiblings + 7 + 2, []string{
			`<a href="../read/f8/" class="folder">f8</a>`,
			`<a href="../read/f7/deep/c.md" aria-current="page">T</a>`,
			`<a href="../read/?list" class="rest">3193 more</a>`,
		}},
		{"of no document", large, "", maxSiblings + 1 + 2, []string{
			`<a href="../read/?list" class="rest">3200 more</a>`,
		}},
	} {
		html := writtenTree(test.tree, test.current)
		if links := strings.Count(html, "<a "); links != test.links {
			t.Errorf("%s: %d links, want %d", test.name, links, test.links)
		}
		for _, want := range test.contains {
			if !strings.Contains(html, want) {
				t.Errorf("%s: no %s in %.3000s", test.name, want, html)
			}
		}
	}
}

func TestReadListsAFolderThatHasAPage(t *testing.T) {
	ts := newReadServer(t)
	for path, wants := range map[string][]string{
		"/read/guide?list": {`<a href="../read/guide/install.md">Install</a>`, "<title>Guide – Vitrine</title>",
			`<li><a href="../read/guide/README.md">Overview</a></li>`},
		"/read/guide/?list": {`<a href="../../read/guide/2-second.mdx">Second</a>`},
		"/read/?list":       {`<a href="../read/api/">api/</a>`, `<a href="../read/notes/">notes/</a>`, "<h1>"},
		"/read/api/?list":   {`<a href="../../read/api/deep/">deep/</a>`},
	} {
		a := ts.get(path, browserAccept)
		_, list, _ := strings.Cut(a.body, `<ul class="folder-list">`)
		for _, want := range wants {
			if a.status != http.StatusOK || !strings.Contains(a.body, want) {
				t.Errorf("GET %s: %d, no %s in %.600s", path, a.status, want, list)
			}
		}
	}
	if a := ts.get("/read/none/?list", browserAccept); a.status != http.StatusNotFound {
		t.Errorf("a folder that is not there: %d", a.status)
	}
}

// countingStore counts the lists of all documents.
type countingStore struct {
	store
	lists atomic.Int64
}

func (s *countingStore) list(ctx context.Context, prefix, after string, limit int) ([]documentInfo, error) {
	if limit == maxTreeDocuments {
		s.lists.Add(1)
	}
	return s.store.list(ctx, prefix, after, limit)
}

func TestTreeIsReadAgainAfterAChange(t *testing.T) {
	ts := newTestServer(t)
	counting := &countingStore{store: ts.store}
	ts.store = counting
	step := func(name string, change func(), shows string, isShown bool) {
		t.Helper()
		before := counting.lists.Load()
		change()
		for range 3 {
			html := ts.get("/read/none", browserAccept).body
			if strings.Contains(html, shows) != isShown {
				t.Errorf("%s: %s is shown: %t", name, shows, !isShown)
			}
		}
		if lists := counting.lists.Load() - before; lists != 1 {
			t.Errorf("%s: the documents were listed %d times for three pages", name, lists)
		}
	}

	step("a document is put", func() { ts.put("one.md", "# First\n") }, ">First</a>", true)
	step("its title changes", func() { ts.put("one.md", "# Other\n") }, ">Other</a>", true)
	step("it is removed", func() {
		ts.do("DELETE", "/documents/one.md", "")
	}, ">Other</a>", false)
}

// heldList is a store whose lists wait until the test lets them go.
type heldList struct {
	store
	begun   atomic.Int64
	release chan struct{}
}

func (s *heldList) list(context.Context, string, string, int) ([]documentInfo, error) {
	s.begun.Add(1)
	<-s.release
	return nil, nil
}

// TestTreeIsReadOnceForAllReaders lets many readers ask at once, before the tree is known and after a change.
func TestTreeIsReadOnceForAllReaders(t *testing.T) {
	t.Parallel()
	held := &heldList{release: make(chan struct{})}
	cache := new(treeCache)
	get := func() *documentTree {
		tree, err := cache.get(t.Context(), held)
		if err != nil {
			t.Error(err)
		}
		return tree
	}
	var readers sync.WaitGroup
	read := func() { readers.Go(func() { get() }) }
	for range 50 {
		read()
	}
	waitFor(t, "the first list", func() bool { return held.begun.Load() > 0 })
	held.release <- struct{}{}
	readers.Wait()
	if n := held.begun.Load(); n != 1 {
		t.Errorf("%d lists for readers at once", n)
	}

	before := get()
	cache.changed(nil)
	read()
	waitFor(t, "the second list", func() bool { return held.begun.Load() == 2 })
	for range 50 {
		if get() != before {
			t.Error("a reader waited for the list of another")
		}
	}
	held.release <- struct{}{}
	readers.Wait()
	if get() == before || held.begun.Load() != 2 {
		t.Errorf("%d lists after a change, and the old tree", held.begun.Load())
	}
}
