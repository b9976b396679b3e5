package main

import (
	"database/sql"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

func TestSchemaIsCreatedOnceByReplicasThatStartTogether(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	var replicas sync.WaitGroup
	for range 4 {
		p := unopenedPostgres(t, url)
		replicas.Go(func() {
			if err := p.open(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	replicas.Wait()

	if n := count(t, url, "SELECT count(*) FROM settings"); n != 1 {
		t.Errorf("%d rows of settings", n)
	}
}

func TestStartSaysWhatToRun(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		sql  []string // run before the store is opened again
		user string   // who opens it; empty: the owner
		want string
	}{
		{
			name: "another analyzer",
			sql:  []string{"UPDATE settings SET analyzer = 0"},
			want: "vitrine reindex",
		},
		{
			name: "another model",
			sql:  []string{"UPDATE settings SET model = 'bge'"},
			want: "vitrine reindex",
		},
		{
			name: "other dimensions",
			sql:  []string{"UPDATE settings SET dimensions = 7"},
			want: "vitrine reindex",
		},
		{
			name: "a newer schema",
			sql:  []string{"UPDATE settings SET schema = 99"},
			want: "upgrade this program",
		},
		{
			name: "no rights",
			sql: []string{
				"DROP SCHEMA public CASCADE",
				"CREATE SCHEMA public",
				"DROP ROLE IF EXISTS vitrine_poor",
				"CREATE ROLE vitrine_poor LOGIN",
			},
			user: "vitrine_poor",
			want: "CREATE EXTENSION IF NOT EXISTS vector; GRANT",
		},
		{
			name: "no right to connect",
			sql: []string{
				"DROP ROLE IF EXISTS vitrine_barred",
				"CREATE ROLE vitrine_barred LOGIN",
				"DO $$BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END$$",
			},
			user: "vitrine_barred",
			want: "GRANT CONNECT ON DATABASE",
		},
		{
			name: "an unknown user",
			user: "vitrine_nobody",
			want: "check user and password",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := newDatabase(t)
			openPostgres(t, url)
			execSQL(t, url, test.sql...)
			if test.user != "" {
				url = strings.Replace(url, "postgres@", test.user+"@", 1)
			}
			err := unopenedPostgres(t, url).open(t.Context())
			if err == nil || errors.Is(err, errUnavailable) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that says %q", err, test.want)
			}
		})
	}

	url := strings.Replace(newDatabase(t), "vitrine_test", "no_such_database", 1)
	err := unopenedPostgres(t, url).open(t.Context())
	if err == nil || !strings.Contains(err.Error(), "createdb") {
		t.Errorf("without database: %v", err)
	}
}

func TestFullNotifyQueueFailsNoWrite(t *testing.T) {
	t.Parallel()
	if count(t, needPostgres(t).url, "SELECT current_setting('server_version_num')::int") < 170_000 {
		t.Skip("PostgreSQL 17 is the first whose queue can be made small")
	}
	server := ownPostgres(t, "OPTIONS=-c max_notify_queue_pages=64")
	ts := newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+server.url)
	ts.put("old.md", "# Old lantern")
	other := openPostgres(t, server.url)
	var told atomic.Int64
	defer other.watch(func([]string) { told.Add(1) })()
	fillNotifyQueue(t, server.url)

	for _, ask := range []struct {
		method, path, body string
		want               int
	}{
		{"PUT", "/documents/new.md", "# New lantern", http.StatusCreated},
		{"PUT", "/documents/old.md", "# Another lantern", http.StatusNoContent},
		{"POST", "/documents", `{"id":"bulk.md","text":"# Bulk lantern"}`, http.StatusOK},
		{"DELETE", "/documents/new.md", "", http.StatusNoContent},
		{"GET", "/search?q=lantern", "", http.StatusOK},
	} {
		a := ts.do(ask.method, ask.path, ask.body)
		if a.status != ask.want || strings.Contains(a.body, `"error"`) {
			t.Errorf("%s %s: %d %s", ask.method, ask.path, a.status, a.body)
		}
	}

	const failed = `db_client_operation_duration_seconds_count{db_operation_name="NOTIFY",db_query_summary="notify",` +
		`db_system_name="postgresql",error_type="54000"}`
	if n := ts.metric(failed); n != 4 {
		t.Errorf("%v failures are counted, want 4", n)
	}
	if !strings.Contains(ts.lines.String(), `"notify_error":"database: 54000: `) {
		t.Error("the failure is not logged")
	}

	other.recheck(t.Context())
	if told.Load() != 1 {
		t.Errorf("another replica is told %d times after its check, want once", told.Load())
	}
	hits, err := other.search(t.Context(), query{text: "bulk lantern", limit: 10})
	if err != nil || len(hits.hits) != 2 {
		t.Errorf("another replica finds %v, %v", hits.hits, err)
	}
}

// fillNotifyQueue fills the queue of a server until the test ends. A listener in an open transaction keeps it full.
func fillNotifyQueue(t *testing.T, url string) {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	listener, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"LISTEN other", "BEGIN"} {
		if _, err := listener.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}

	for size := 7000; size > 0; size /= 2 { // smaller ones find room where larger ones do not
		for err = nil; err == nil; {
			_, err = db.ExecContext(t.Context(), "SELECT pg_notify('other', repeat('x', $1))", size)
		}
		if pq.As(err, pqerror.ProgramLimitExceeded) == nil {
			t.Fatal(err)
		}
	}
}

func TestChangesWithoutNotificationAreMissed(t *testing.T) {
	for _, test := range []struct {
		name  string
		heard []int64
		last  int64
		want  bool
	}{
		{"nothing changed", nil, 10, false},
		{"all heard", []int64{11, 12, 13}, 13, false},
		{"in another order", []int64{13, 11, 12}, 13, false},
		{"none heard", nil, 11, true},
		{"the last is lost", []int64{11}, 12, true},
		{"the first is lost", []int64{12}, 12, true},
		{"one of many is lost", []int64{11, 13, 14}, 14, true},
		{"old ones come late", []int64{9, 10}, 12, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c changeCount
			c.catchUp(10)
			for _, number := range test.heard {
				c.hear(number)
			}
			if got := c.catchUp(test.last); got != test.want {
				t.Errorf("missed: %v", got)
			}
			if c.catchUp(test.last) {
				t.Error("missed for a second time")
			}
		})
	}
}
