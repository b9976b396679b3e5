package main

import (
	"database/sql"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
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
	r := newRecentDocuments()
	for i := range 100 {
		d := &document{id: fmt.Sprint(i), text: strings.Repeat("a", maxRecentBytes/7)}
		r.keep(d)
		if r.get(d.id, d.etag, d.updated) != d {
			t.Fatal("the last document is not kept")
		}
	}
	kept := 0
	for _, d := range r.documents {
		kept += len(d.text)
	}
	if len(r.documents) != 7 || kept > maxRecentBytes {
		t.Errorf("%d documents of %d bytes are kept", len(r.documents), kept)
	}
}

// TestSlowReadersOfADatabaseShareTheDocument has many clients ask for a document of the largest size and read nothing.
func TestSlowReadersOfADatabaseShareTheDocument(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	p := start(t, []string{"DOCS_DIR=", "DATABASE_URL=" + url})
	d := mustDocument(t, "large.md", repeated("lantern wick ", maxDocumentBytes))
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.Exec(`
		INSERT INTO documents (id, title, title_key, text, etag, bytes, chunks, indexed, source, updated)
		VALUES ($1, $1, 0, $2, $3, $4, 0, 0, 'api', now())`,
		d.id, d.text, d.etag, len(d.text))
	if err != nil {
		t.Fatal(err)
	}

	before := p.forgetPeak(t)
	readers := slowRounds(100, 300)
	var reading sync.WaitGroup
	for range readers {
		reading.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			fmt.Fprint(conn, "GET /documents/large.md HTTP/1.1\r\nHost: localhost\r\n\r\n")
			status := make([]byte, len("HTTP/1.1 200"))
			if _, err := io.ReadFull(conn, status); err != nil || !strings.HasSuffix(string(status), "200") {
				t.Errorf("%s %v", status, err)
			}
		})
	}
	reading.Wait()
	grown := p.peakMemory(t) - before
	t.Logf("%d readers: %d MiB more", readers, grown>>20)
	if grown > 128<<20 {
		t.Errorf("%d readers of 8 MiB take %d MiB", readers, grown>>20)
	}
}
