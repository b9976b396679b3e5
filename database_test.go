package main

// A PostgreSQL of the tests' own.

import (
	"context"
	"database/sql"
	"fmt"
	"io"
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

// testPostgres is a server of the tests' own, or the one that VITRINE_TEST_DATABASE_URL names.
type testPostgres struct {
	url string
	dir string // where its data is; empty for a given server

	running io.Closer // its end is the server's
}

var sharedPostgres = sync.OnceValues(func() (testPostgres, error) {
	if given := os.Getenv("VITRINE_TEST_DATABASE_URL"); given != "" {
		return testPostgres{url: given}, nil
	}
	return startPostgres()
})

// startPostgres starts a server that is stopped by testdata/postgres-down.sh when this process has ended, however: the
// script waits for the end of a pipe.
func startPostgres() (testPostgres, error) {
	dir, err := os.MkdirTemp("", "vitrine-postgres-")
	if err != nil {
		return testPostgres{}, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the server runs as another user where the tests run as root
		return testPostgres{}, err
	}
	url, err := upPostgres(dir)
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

func upPostgres(dir string) (url string, err error) {
	up := exec.Command("testdata/postgres-up.sh", dir)
	log := new(strings.Builder)
	up.Stderr = log
	out, err := up.Output()
	if err != nil {
		return "", fmt.Errorf("testdata/postgres-up.sh: %w: %s", err, log)
	}
	return strings.TrimSpace(string(out)), nil
}

// needPostgres returns the tests' server. Without one the test is skipped, but fails where CI is set.
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

var databases atomic.Int64

// newDatabase returns the URL of an empty database of the test's own.
func newDatabase(t testing.TB) string {
	t.Helper()
	server := needPostgres(t)
	name := fmt.Sprintf("vitrine_test_%d_%d", os.Getpid(), databases.Add(1))
	execSQL(t, server.url, "CREATE DATABASE "+name)
	t.Cleanup(func() { execSQL(t, server.url, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	u, err := url.Parse(server.url)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

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

// openPostgres opens the store in that database, with the built-in embedder and nothing in the background.
func openPostgres(t testing.TB, url string, env ...string) *postgres {
	t.Helper()
	p := unopenedPostgres(t, url, env...)
	if err := p.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func unopenedPostgres(t testing.TB, url string, env ...string) *postgres {
	t.Helper()
	cfg := testSettings(t, append([]string{"DATABASE_URL=" + url}, env...)...)
	var e embedder = hashedEmbedder{}
	if cfg.embeddingURL != "" {
		e = newRemoteEmbedder(cfg)
	}
	p, err := newPostgres(cfg, e, quietObserver())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// background starts the store as the server does, and ends it with the test.
func background(t testing.TB, p *postgres) *postgres {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		working.Wait()
	})
	if err := p.start(ctx, &working); err != nil {
		t.Fatal(err)
	}
	return p
}

// mark puts a document whose chunks all carry one word.
func mark(ctx context.Context, st store, id, word string) error {
	d, err := newDocument(id, fmt.Sprintf("# %s\n\n## One\n\n%s\n\n## Two\n\n%s\n", word, word, word), time.Now())
	if err == nil {
		_, err = st.put(ctx, d, precondition{})
	}
	return err
}

// count returns the number that a statement asks for.
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
