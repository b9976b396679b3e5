package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestStatementsNameTheirRequest(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	p := openPostgres(t, url)
	rec := quietObserver().policy.newRecord(http.Header{"X-Correlation-Id": {"find-me-42"}})
	ctx, cancel := context.WithCancel(rec.newScope(t.Context(), -1))
	defer cancel()

	failed := make(chan error)
	go func() {
		failed <- p.transact(ctx, querySearch, func(tx *transaction) error {
			return tx.exec(ctx, "SELECT pg_sleep(60)")
		})
	}()
	const running = `
		SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE
			'/*correlation_id=''find-me-42'',traceparent=''00-%''*/ SELECT pg_sleep%'`
	waitFor(t, "the statement runs", func() bool { return count(t, url, running) == 1 })
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	waitFor(t, "a cancelled request leaves nothing running", func() bool {
		return count(t, url, running) == 0
	})

	if len(rec.stages) != 2 || rec.stages[0].kind != stagePoolWait || rec.stages[1].kind != stageDB {
		t.Fatalf("stages are %+v", rec.stages)
	}
	st := rec.stages[1]
	for _, want := range []string{
		"db.system.name=postgresql",
		"db.operation.name=SELECT",
		"db.query.summary=search",
	} {
		isWanted := func(a slog.Attr) bool { return a.String() == want }
		if !slices.ContainsFunc(st.attrs, isWanted) {
			t.Errorf("no %s in %v", want, st.attrs)
		}
	}
	e, ok := errors.AsType[*databaseError](st.err)
	if !ok || e.class != "canceled" {
		t.Errorf("the stage's error is %v", st.err)
	}
}

func TestServerEndsAStatementBeforeItsCallerDoes(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, newDatabase(t))
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()

	err := p.transact(ctx, querySearch, func(tx *transaction) error {
		return tx.exec(context.WithoutCancel(ctx), "SELECT pg_sleep(60)")
	})
	e, ok := errors.AsType[*databaseError](err)
	if !ok || e.class != "57014" || !errors.Is(err, errUnavailable) {
		t.Errorf("got %v, want the server's statement_timeout", err)
	}
}

func TestPendingIsExact(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, newDatabase(t), "DB_MAX_CONNS=2")
	release := make(chan struct{})
	var callers sync.WaitGroup
	hold := func(timeout time.Duration) {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_ = p.transact(ctx, querySearch, func(*transaction) error {
				<-release
				return nil
			})
		})
	}
	pool := func(used, pending int, timeouts int64) func() bool {
		return func() bool {
			stats := p.pool()
			return stats.used == used && stats.pending == pending && stats.timeouts == timeouts
		}
	}

	for range 5 {
		hold(time.Minute)
	}
	waitFor(t, "two have a connection, three wait", pool(2, 3, 0))

	for range 3 {
		hold(100 * time.Millisecond)
	}
	waitFor(t, "three more have given up", pool(2, 3, 3))

	close(release)
	callers.Wait()
	waitFor(t, "nobody waits", pool(0, 0, 3))
}

// TestErrorsOfTheDatabase lets the server itself fail with an SQLSTATE. Only some say that nobody can use the database.
func TestErrorsOfTheDatabase(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, newDatabase(t))
	for _, test := range []struct {
		state  string
		status int
		isAway bool
	}{
		{"08000", 503, true},
		{"08006", 503, true},
		{"28000", 503, true},
		{"28P01", 503, true},
		{"3D000", 503, true},
		{"53300", 503, true},
		{"57P01", 503, true},
		{"57P03", 503, true},
		{"58030", 503, true},
		{"53100", 507, false}, // no space: reading still works
		{"57014", 503, false}, // one statement's timeout
		{"55P03", 503, false},
		{"40001", 503, false},
		{"40P01", 503, false},
		{"25006", 503, false},
		{"42P01", 500, false},
		{"22021", 500, false},
		{"XX000", 500, false},
	} {
		p.breaker.answered()
		var err error
		for range breakerFailures {
			err = p.attempt(t.Context(), querySearch, func(tx *transaction) error {
				return tx.exec(t.Context(), "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '"+test.state+"'; END $$")
			})
		}
		if got := publicError(err).status; got != test.status {
			t.Errorf("%s: status %d, want %d: %v", test.state, got, test.status, err)
		}
		if kind := errorType(err); kind != test.state {
			t.Errorf("%s: error.type %q", test.state, kind)
		}
		if open, _ := p.breaker.isOpen(); open != test.isAway {
			t.Errorf("%s: the breaker is open: %v, want %v", test.state, open, test.isAway)
		}
	}
}

// TestLostLoginIsTold refuses every login while the server runs.
func TestLostLoginIsTold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ statement, state string }{
		{"ALTER ROLE ROLENAME NOLOGIN", "28000"},
		{"ALTER ROLE ROLENAME CONNECTION LIMIT 0", "53300"},
		{"REVOKE CONNECT ON DATABASE DATABASENAME FROM PUBLIC", "42501"},
		{"ALTER DATABASE DATABASENAME ALLOW_CONNECTIONS false", "55000"},
	} {
		t.Run(test.state, func(t *testing.T) {
			t.Parallel()
			loseLogin(t, test.statement, test.state)
		})
	}
}

func loseLogin(t *testing.T, statement, state string) {
	t.Helper()
	server, databaseURL := needPostgres(t).url, newDatabase(t)
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	database, role := strings.TrimPrefix(u.Path, "/"), fmt.Sprintf("reader_%d_%d", os.Getpid(), databases.Add(1))
	execSQL(t, databaseURL, "CREATE EXTENSION vector", "CREATE ROLE "+role+" LOGIN", "GRANT ALL ON SCHEMA public TO "+role)
	t.Cleanup(func() {
		execSQL(t, server, "ALTER DATABASE "+database+" ALLOW_CONNECTIONS true")
		execSQL(t, databaseURL, "DROP OWNED BY "+role, "DROP ROLE "+role)
	})
	u.User = url.User(role)
	ts := newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+u.String())
	execSQL(t, server, strings.NewReplacer("ROLENAME", role, "DATABASENAME", database).Replace(statement))

	waitFor(t, "it is not ready", func() bool {
		// Again and again: a connection may have logged in just before, and be listed just after.
		execSQL(t, server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+role+"'")
		return ts.get("/readyz").status == http.StatusServiceUnavailable
	})
	waitFor(t, "the cause", func() bool { return strings.Contains(ts.get("/readyz").body, state) })
	if a := ts.get("/search?q=lantern"); a.status != http.StatusServiceUnavailable {
		t.Errorf("search: %d %s", a.status, a.body)
	}
}

// TestFullDiskIsTold writes to a store whose folder has no space left.
func TestFullDiskIsTold(t *testing.T) {
	f := &folder{roots: []docsRoot{{dir: t.TempDir()}}}
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		err := f.inRoot(t.Context(), "write", "a.md", func(*os.Root, string) error { return &os.PathError{Op: "write", Err: cause} })
		if got := publicError(err).status; got != http.StatusInsufficientStorage || !errors.Is(err, cause) {
			t.Errorf("%v: status %d, %v", cause, got, err)
		}
	}
}

// TestPasswordFilesAreNotRead serves with a role that needs a password, which only files have. lib/pq warns about those that
// others can read, in plain text.
func TestPasswordFilesAreNotRead(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	const password = "CANARY7f3a"
	execSQL(t, server.url, "CREATE ROLE reader LOGIN PASSWORD '"+password+"'",
		`DO $$BEGIN EXECUTE format('COPY (VALUES (%L), (%L)) TO %L', 'host all reader all scram-sha-256', 'host all postgres all trust',
			current_setting('hba_file')); END$$`,
		"SELECT pg_reload_conf()")
	u, err := url.Parse(server.url)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("reader")

	for _, test := range []struct {
		variable, file string
		mode           os.FileMode
	}{
		{"PGPASSFILE", "passwords", 0o600},
		{"PGPASSFILE", "passwords", 0o644},
		{"PGPASSFILE", "passwords", 0o640},
		{"HOME", ".pgpass", 0o600},
		{"HOME", ".pgpass", 0o666},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, test.file)
		if err := os.WriteFile(file, []byte("*:*:*:*:"+password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, test.mode); err != nil {
			t.Fatal(err)
		}
		value := file
		if test.variable == "HOME" {
			value = dir
		}

		p := launch(t, []string{"DATABASE_URL=" + u.String(), test.variable + "=" + value}, "sh", "-c", `exec "$0" 2>&1`)
		waitFor(t, "the end of the login", func() bool {
			status, _ := p.get("/readyz")
			return status == http.StatusOK || strings.Contains(p.logs.String(), "28P01")
		})
		if !strings.Contains(p.logs.String(), "28P01") {
			t.Errorf("%s, %v: its password was used", test.file, test.mode)
		}
		for line := range strings.Lines(p.logs.String()) {
			isOurs := json.Valid([]byte(line)) || strings.HasPrefix(line, "vitrine: ")
			if !isOurs || strings.Contains(line, password) {
				t.Errorf("%s, %v: %s", test.file, test.mode, line)
			}
		}
	}
}
