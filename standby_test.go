package main

// A standby of PostgreSQL: what the program can do with a database that only reads, and after it is promoted.

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStandbyAnswersReadsUntilItIsPromoted(t *testing.T) {
	t.Parallel()
	primary := ownPostgres(t)
	if _, err := os.Stat(filepath.Join(primary.dir, "container")); err == nil {
		t.Skip("a standby needs a PostgreSQL without Docker")
	}
	first := newTestServer(t, "DATABASE_URL="+primary.url)
	first.writeFile("folder.md", "# Folder lantern")
	waitFor(t, "the file", func() bool { return first.get("/documents/folder.md").status == http.StatusOK })
	first.put("a.md", "# Copper lantern")

	standby := ownPostgres(t, "PRIMARY="+primary.dir)
	for name, ts := range map[string]*testServer{
		"alone":         newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+standby.url),
		"with a folder": newTestServer(t, "DATABASE_URL="+standby.url),
	} {
		t.Run(name, func(t *testing.T) {
			ts.t = t
			ts.wantReadOnly()
		})
	}

	ts := newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+standby.url)
	first.put("later.md", "# Later lantern")
	waitFor(t, "replication", func() bool { return ts.get("/documents/later.md").status == http.StatusOK })

	execSQL(t, standby.url, "SELECT pg_promote()")
	if a := ts.put("new.md", "# New lantern"); a.status != http.StatusCreated {
		t.Errorf("put after the promotion: %d %s", a.status, a.body)
	}
	waitFor(t, "a store that is no standby", func() bool {
		return !strings.Contains(ts.get("/readyz?verbose").body, "standby")
	})
}

// wantReadOnly reads, and tries to write, with a standby that has a.md.
func (ts *testServer) wantReadOnly() {
	ts.t.Helper()
	waitFor(ts.t, "a standby", func() bool {
		a := ts.get("/readyz?verbose")
		return a.status == http.StatusOK && strings.Contains(a.body, "read-only: the database is a standby")
	})

	const writes, reads = http.StatusServiceUnavailable, http.StatusOK
	for _, ask := range []struct {
		method, path, body string
		want               int
	}{
		{"PUT", "/documents/b.md", "# B", writes},
		{"PUT", "/documents/a.md", "# Other", writes},
		{"DELETE", "/documents/a.md", "", writes},
		{"GET", "/search?q=copper+lantern", "", reads},
		{"GET", "/search?q=copper+lantirn&prefix=a", "", reads},
		{"GET", "/documents/a.md", "", reads},
		{"GET", "/documents", "", reads},
		{"GET", "/read/a.md", "", reads},
		{"GET", "/readyz", "", reads},
	} {
		a := ts.do(ask.method, ask.path, ask.body)
		if a.status != ask.want {
			ts.t.Errorf("%s %s: %d %s", ask.method, ask.path, a.status, a.body)
		}
		isTold := strings.Contains(a.body, "read-only standby") && a.header.Get("Retry-After") != ""
		if ask.want == writes && !isTold {
			ts.t.Errorf("%s %s does not say why: %v %s", ask.method, ask.path, a.header, a.body)
		}
	}

	for range 20 {
		if a := ts.put("b.md", "# B"); a.status != writes {
			ts.t.Fatalf("put: %d", a.status)
		}
	}
	if found := ts.search("q=copper+lantern"); len(found) == 0 || found[0] != "a.md" {
		ts.t.Errorf("after many refused writes, a search finds %v", found)
	}
	if a := ts.do("POST", "/documents", `{"id":"b.md","text":"# B"}`); !strings.Contains(a.body, `"status":503,"error":"the database is a read-only standby`) {
		ts.t.Errorf("bulk: %s", a.body)
	}
}
