package main

// PostgreSQL for the tests: a server of their own, and a database for each test.

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// testPostgres is a server that the tests have started, or the one that VITRINE_TEST_DATABASE_URL names.
type testPostgres struct {
	url string
	dir string // where its data is; empty for a given server

	running io.Closer // the pipe of startPostgres: when it is closed, the server stops
}

var sharedPostgres = sync.OnceValues(func() (testPostgres, error) {
	if given := os.Getenv("VITRINE_TEST_DATABASE_URL"); given != "" {
		return testPostgres{url: given}, nil
	}
	return startPostgres()
})

// startPostgres starts a server. testdata/postgres-down.sh stops it when this process ends for whatever
// reason: until then a shell waits for the end of a pipe. env are variables of testdata/postgres-up.sh.
func startPostgres(env ...string) (testPostgres, error) {
	dir, err := os.MkdirTemp("", "vitrine-postgres-")
	if err != nil {
		return testPostgres{}, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // if the tests run as root, the server does not
		return testPostgres{}, err
	}

	url, err := upPostgres(dir, env...)
	if err != nil {
		return testPostgres{}, err
	}

	down := exec.Command("sh", "-c", `cat; exec testdata/postgres-down.sh "$0"`, dir)
	down.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // not interrupted along with the tests
	running, err := down.StdinPipe()
	if err != nil {
		return testPostgres{}, err
	}
	return testPostgres{url, dir, running}, down.Start()
}

// upPostgres starts a server with its data in dir and returns its URL.
func upPostgres(dir string, env ...string) (url string, err error) {
	up := exec.Command("testdata/postgres-up.sh", dir)
	up.Env = append(os.Environ(), env...)
	log := new(strings.Builder)
	up.Stderr = log
	out, err := up.Output()
	if err != nil {
		return "", fmt.Errorf("testdata/postgres-up.sh: %w: %s", err, log)
	}
	return strings.TrimSpace(string(out)), nil
}

// needPostgres returns the tests' server. If it does not start, the test is skipped, or fails where CI is
// set.
func needPostgres(t testing.TB) testPostgres {
	t.Helper()
	server, err := sharedPostgres()
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return server
}

// ownPostgres starts a server that stops at the end of the test. env are variables of testdata/postgres-up.sh. Where
// needPostgres skips a test, it does too.
func ownPostgres(t testing.TB, env ...string) testPostgres {
	t.Helper()
	needPostgres(t)
	server, err := startPostgres(env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.running.Close() })
	return server
}

var databases atomic.Int64

// newDatabase returns the URL of an empty database of the test's own.
func newDatabase(t testing.TB) string {
	t.Helper()
	server := needPostgres(t)
	name := fmt.Sprintf("vitrine_test_%d_%d", os.Getpid(), databases.Add(1))
	execSQL(t, server.url, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		execSQL(t, server.url, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	})

	u, err := url.Parse(server.url)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// execSQL runs statements on a connection of its own.
func execSQL(t testing.TB, url string, statements ...string) {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// openPostgres opens the store in that database without its background jobs. env are more settings.
func openPostgres(t testing.TB, url string, env ...string) *postgres {
	t.Helper()
	p := unopenedPostgres(t, url, env...)
	if err := p.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// unopenedPostgres returns the store in that database before it is opened.
func unopenedPostgres(t testing.TB, url string, env ...string) *postgres {
	t.Helper()
	cfg := testSettings(t, append([]string{"DATABASE_URL=" + url}, env...)...)

	var e embedder = hashedEmbedder{}
	if cfg.embeddingURL != "" {
		e = newRemoteEmbedder(cfg)
		go e.probe(t.Context(), slog.New(slog.DiscardHandler), func() {})
	}

	p, err := newPostgres(cfg, e, quietObserver())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// background starts the store as the server does. It ends with the test.
func background(t testing.TB, p *postgres) *postgres {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		tasks.Wait()
	})

	if err := p.start(ctx, &tasks); err != nil {
		t.Fatal(err)
	}
	return p
}

// mark puts a document whose title and chunks all have one word.
func mark(ctx context.Context, st store, id, word string) error {
	text := fmt.Sprintf("# %s\n\n## One\n\n%s\n\n## Two\n\n%s\n", word, word, word)
	d, err := newDocument(id, text, time.Now())
	if err != nil {
		return err
	}
	_, err = st.put(ctx, d, precondition{})
	return err
}

// count returns the number that a statement yields.
func count(t testing.TB, url, statement string, args ...any) (n int) {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(statement, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return n
}
