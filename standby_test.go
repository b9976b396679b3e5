package main

// Databases that only read: a standby, one whose transactions are read-only by default, a role that may only read. What the
// program can do with them, and after they write again.

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refusal is what the program says of a database that only reads.
type refusal struct {
	ready  string // by /readyz
	told   string // to who writes
	status int    // of a write
}

var standbyOnlyReads = refusal{
	ready:  "the database is a standby",
	told:   "the database is a read-only standby",
	status: http.StatusServiceUnavailable,
}

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
			ts.wantReadOnly(standbyOnlyReads)
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

// TestReadOnlyDatabaseRefusesOnlyWrites makes a database read-only in the ways that PostgreSQL has, and writable again.
func TestReadOnlyDatabaseRefusesOnlyWrites(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t) // ALTER SYSTEM and roles are of a whole server
	byDefault := refusal{
		ready:  "default_transaction_read_only is on",
		told:   "the database is read-only: its default_transaction_read_only is on",
		status: http.StatusServiceUnavailable,
	}
	noRight := refusal{
		ready:  "the role of DATABASE_URL may not write",
		told:   "the role of DATABASE_URL may only read: GRANT",
		status: http.StatusConflict,
	}
	for i, test := range []struct {
		name       string
		begin, end string // statements, in which NAME is the database and its role
		want       refusal
	}{
		{
			name:  "the database",
			begin: "ALTER DATABASE NAME SET default_transaction_read_only = on",
			end:   "ALTER DATABASE NAME RESET default_transaction_read_only",
			want:  byDefault,
		},
		{
			name:  "the role",
			begin: "ALTER ROLE NAME SET default_transaction_read_only = on",
			end:   "ALTER ROLE NAME RESET default_transaction_read_only",
			want:  byDefault,
		},
		{
			name:  "a role that may only read",
			begin: "REASSIGN OWNED BY NAME TO postgres; GRANT SELECT ON ALL TABLES IN SCHEMA public TO NAME",
			end:   "GRANT ALL ON ALL TABLES IN SCHEMA public TO NAME",
			want:  noRight,
		},
		{
			name:  "the whole server", // the last one, because the others run on it
			begin: "ALTER SYSTEM SET default_transaction_read_only = on",
			end:   "ALTER SYSTEM RESET default_transaction_read_only",
			want:  byDefault,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := fmt.Sprintf("vitrine_%d", i)
			execSQL(t, server.url, "CREATE ROLE "+name+" LOGIN", "CREATE DATABASE "+name+" OWNER "+name)
			u, err := url.Parse(server.url)
			if err != nil {
				t.Fatal(err)
			}
			u.Path = name
			asSuperuser := u.String() + "&default_transaction_read_only=off"
			u.User = url.User(name)
			execSQL(t, asSuperuser, "CREATE EXTENSION vector")
			alter := func(statements string) {
				for statement := range strings.SplitSeq(strings.ReplaceAll(statements, "NAME", name), "; ") {
					execSQL(t, asSuperuser, statement)
				}
				execSQL(t, asSuperuser, "SELECT pg_reload_conf()")
			}
			env := []string{"DOCS_DIR=", "DATABASE_URL=" + u.String()}
			ts := newTestServer(t, env...)
			ts.put("a.md", "# Copper lantern")
			for range 20 {
				ts.search("q=copper") // the pool has several sessions
			}

			alter(test.begin)
			execSQL(t, asSuperuser, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+name+"'")
			ts.wantReadOnly(test.want)
			started := newTestServer(t, env...)
			started.wantReadOnly(test.want)

			alter(test.end)
			ended := time.Now()
			for _, ts := range []*testServer{ts, started} {
				waitFor(t, "a write", func() bool { return ts.put("new.md", "# New").status < 300 })
				t.Logf("written after %v", time.Since(ended).Round(time.Millisecond))
				waitFor(t, "/readyz", func() bool { return !strings.Contains(ts.get("/readyz?verbose").body, "read-only") })
			}
			ts.put("a.md", "# Copper lantern") // restored
		})
	}
}

// TestEmptyReadOnlyDatabaseIsWaitedFor starts with a database in which nothing can be created yet.
func TestEmptyReadOnlyDatabaseIsWaitedFor(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	asWriter := databaseURL + "&default_transaction_read_only=off"
	alter := "ALTER DATABASE " + strings.TrimPrefix(u.Path, "/")
	execSQL(t, asWriter, alter+" SET default_transaction_read_only = on")
	ts := newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+databaseURL)
	if a := ts.get("/readyz"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "default_transaction_read_only") {
		t.Errorf("/readyz: %d %s", a.status, a.body)
	}
	if a := ts.put("a.md", "# Lantern"); a.status != http.StatusServiceUnavailable {
		t.Errorf("put: %d %s", a.status, a.body)
	}

	execSQL(t, asWriter, alter+" RESET default_transaction_read_only")
	waitFor(t, "a write", func() bool { return ts.put("a.md", "# Lantern").status == http.StatusCreated })
}

// wantReadOnly reads, and tries to write, with a database that only reads and has a.md.
func (ts *testServer) wantReadOnly(want refusal) {
	ts.t.Helper()
	waitFor(ts.t, "a database that only reads", func() bool {
		a := ts.get("/readyz?verbose")
		return a.status == http.StatusOK && strings.Contains(a.body, "read-only: "+want.ready)
	})

	const reads = http.StatusOK
	for _, ask := range []struct {
		method, path, body string
		want               int
	}{
		{"PUT", "/documents/b.md", "# B", want.status},
		{"PUT", "/documents/a.md", "# Other", want.status},
		{"DELETE", "/documents/a.md", "", want.status},
		{"GET", "/search?q=copper+lantern", "", reads},
		{"GET", "/search?q=copper+lantirn&prefix=a", "", reads},
		{"GET", "/documents/a.md", "", reads},
		{"GET", "/documents", "", reads},
		{"GET", "/read/a.md", "", reads},
		{"GET", "/readyz", "", reads},
	} {
		a := ts.doInTime(ask.method, ask.path, ask.body)
		if a.status != ask.want {
			ts.t.Errorf("%s %s: %d %s", ask.method, ask.path, a.status, a.body)
		}
		if ask.want == reads {
			continue
		}
		isRetried := a.header.Get("Retry-After") != ""
		if !strings.Contains(a.body, want.told) || isRetried != (a.status == http.StatusServiceUnavailable) {
			ts.t.Errorf("%s %s does not say why: %v %s", ask.method, ask.path, a.header, a.body)
		}
	}

	for range 20 {
		if a := ts.doInTime("PUT", "/documents/b.md", "# B"); a.status != want.status {
			ts.t.Fatalf("put: %d", a.status)
		}
	}
	if found := ts.search("q=copper+lantern"); len(found) == 0 || found[0] != "a.md" {
		ts.t.Errorf("after many refused writes, a search finds %v", found)
	}
	told := fmt.Sprintf(`"status":%d,"error":"%s`, want.status, want.told)
	if a := ts.do("POST", "/documents", `{"id":"b.md","text":"# B"}`); !strings.Contains(a.body, told) {
		ts.t.Errorf("bulk: %s", a.body)
	}
}

// doInTime sends a request again for as long as a busy machine does not answer it in time.
func (ts *testServer) doInTime(method, path, body string) (a answer) {
	ts.t.Helper()
	waitFor(ts.t, "an answer in time", func() bool {
		a = ts.do(method, path, body)
		return !strings.Contains(a.body, "cannot answer right now")
	})
	return a
}
