package main

// A PostgreSQL whose disk is full.

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// mountForPostgres mounts a file system of the user whom the tests' server runs as.
func mountForPostgres(t *testing.T, dir, size string) {
	t.Helper()
	server := needPostgres(t)
	if _, err := os.Stat(filepath.Join(server.dir, "container")); server.dir == "" || err == nil {
		t.Skip("the server's disk is not ours")
	}
	info, err := os.Stat(server.dir)
	if err != nil {
		t.Fatal(err)
	}
	mount(t, dir, fmt.Sprintf("size=%s,mode=700,uid=%d", size, info.Sys().(*syscall.Stat_t).Uid))
}

// fullDisk is a disk on which clients write documents until it is full.
type fullDisk struct {
	ts     *testServer
	text   string // of each document
	stored []string
}

// write puts documents from several clients until each of them was refused as often, with one of these statuses. It keeps the
// ids of those that were acknowledged.
func (d *fullDisk) write(refusals int, statuses ...int) {
	d.ts.t.Helper()
	const clients = 4
	var mu sync.Mutex
	var writing sync.WaitGroup
	for client := range clients {
		writing.Go(func() {
			left := refusals
			for i := 0; left > 0; i++ {
				id := fmt.Sprintf("%d/%d.md", client, i)
				a := d.ts.put(id, d.text)
				if a.status == http.StatusCreated {
					mu.Lock()
					d.stored = append(d.stored, id)
					mu.Unlock()
					continue
				}
				left--
				if !slices.Contains(statuses, a.status) {
					d.ts.t.Errorf("PUT %s: %d %s", id, a.status, a.body)
				}
			}
		})
	}
	writing.Wait()
}

// want checks that what was acknowledged is there, whole, and found.
func (d *fullDisk) want() {
	d.ts.t.Helper()
	for _, id := range d.stored {
		if a := d.ts.get("/documents/" + id); a.body != d.text {
			d.ts.t.Errorf("%s: %d, %d bytes", id, a.status, len(a.body))
		}
	}
	last := d.stored[len(d.stored)-1]
	if found := d.ts.search("q=lantern&prefix=" + last); !slices.Equal(found, []string{last}) {
		d.ts.t.Errorf("found %v instead of %s", found, last)
	}
}

// TestFullTablespaceRefusesOnlyWrites fills the disk of the documents, but not that of the write-ahead log.
func TestFullTablespaceRefusesOnlyWrites(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	dir := filepath.Join(server.dir, "space")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	mountForPostgres(t, dir, "20m")
	execSQL(t, server.url, "CREATE TABLESPACE small LOCATION '"+dir+"'", "CREATE DATABASE small TABLESPACE small")
	u, err := url.Parse(server.url)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "small"
	ts := newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+u.String())
	free := occupy(t, dir, 4<<20)
	d := &fullDisk{ts: ts, text: "# Lantern\n\n" + distinctWords(50_000, 10)}

	d.write(3, http.StatusInsufficientStorage)
	d.want()
	line := mustJSON(map[string]string{"id": "bulk.md", "text": d.text})
	if a := ts.do("POST", "/documents", line); !strings.Contains(a.body, `"status":507`) {
		t.Errorf("bulk: %s", a.body)
	}
	if a := ts.get("/readyz"); a.status != http.StatusOK {
		t.Errorf("/readyz: %d %s", a.status, a.body)
	}

	free()
	if a := ts.put("new.md", d.text); a.status != http.StatusCreated {
		t.Errorf("with room again: %d %s", a.status, a.body)
	}
	d.want()
	wantWhole(t, u.String())
	t.Logf("%d documents", len(d.stored))
}

// TestFullDiskOfPostgresLosesNothing fills the disk of the whole server, which crashes when it cannot write its write-ahead log.
func TestFullDiskOfPostgresLosesNothing(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "vitrine-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	mountForPostgres(t, dir, "120m")
	databaseURL, err := upPostgres(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("testdata/postgres-down.sh", dir).Run() })
	ts := newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+databaseURL)
	free := occupy(t, dir, 20<<20)
	d := &fullDisk{ts: ts, text: "# Lantern\n\n" + distinctWords(50_000, 10)}
	d.write(20, http.StatusInsufficientStorage, http.StatusServiceUnavailable)

	free()
	waitFor(t, "it is ready", func() bool {
		if ts.get("/readyz").status == http.StatusOK {
			return true
		}
		_, _ = upPostgres(dir) // unless it recovers by itself
		return false
	})
	d.want()
	wantWhole(t, databaseURL)
	t.Logf("%d documents", len(d.stored))
}
