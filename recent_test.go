package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestReadersOfALargeDocumentShareIt(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	a := openPostgres(t, url)
	b := openPostgres(t, url)
	put := func(id, text string) {
		t.Helper()
		if _, err := b.put(t.Context(), mustDocument(t, id, text), precondition{}); err != nil {
			t.Fatal(err)
		}
	}
	read := func(id string) *document {
		t.Helper()
		d, err := a.document(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}

	large := "# Large\n\n" + strings.Repeat("lantern ", minRecentBytes/8)
	put("a.md", large)
	first := read("a.md")
	for range 3 {
		if d := read("a.md"); d != first || d.text != large {
			t.Error("two readers have copies of their own")
		}
	}

	put("a.md", large+"more")
	if d := read("a.md"); d.text != large+"more" || d.etag == first.etag {
		t.Error("a reader gets what another replica has replaced")
	}
	put("a.md", large)
	if d := read("a.md"); d.text != large || !d.updated.After(first.updated) {
		t.Error("a reader gets an old version")
	}
	if err := b.remove(t.Context(), "a.md", precondition{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.document(t.Context(), "a.md"); err == nil {
		t.Error("a reader gets what another replica has removed")
	}
}

func TestRecentDocumentsAreBounded(t *testing.T) {
	t.Parallel()
	var r recentDocuments
	for i := range 100 {
		d := &document{id: fmt.Sprint(i), text: strings.Repeat("a", maxRecentBytes/7)}
		if r.share(d) != d || r.get(d.id) != d {
			t.Fatal("the last document is not kept")
		}
		r.share(&document{id: "small", text: "a"})
	}
	kept := 0
	for _, d := range r.documents {
		kept += len(d.text)
	}
	if len(r.documents) != 7 || kept > maxRecentBytes {
		t.Errorf("%d documents of %d bytes are kept", len(r.documents), kept)
	}
}
