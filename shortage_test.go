package main

// A PostgreSQL whose connections others have used up.

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// crowd is who uses up the connections of a server.
type crowd struct {
	t     *testing.T
	db    *sql.DB
	conns []*sql.Conn
}

// newCrowd returns a crowd that goes away with the test.
func newCrowd(t *testing.T, url string) *crowd {
	t.Helper()
	db, err := sql.Open("postgres", url+"&application_name=crowd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &crowd{t: t, db: db}
}

// fill takes all connections that are left.
func (c *crowd) fill() {
	c.t.Helper()
	for {
		conn, err := c.db.Conn(c.t.Context())
		if pq.As(err, pqerror.TooManyConnections) != nil {
			return
		}
		if err != nil {
			c.t.Fatal(err)
		}
		c.conns = append(c.conns, conn)
	}
}

// expel ends the connections of the program, and takes them.
func (c *crowd) expel() {
	c.t.Helper()
	_, err := c.conns[0].ExecContext(c.t.Context(), `
		SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE application_name = 'vitrine'`)
	if err != nil {
		c.t.Fatal(err)
	}
	c.fill()
}

// leave gives all connections back.
func (c *crowd) leave() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	_ = c.db.Close()
}

// TestSearchesShareTheConnectionsThatAreLeft uses up the connections of a server, then takes those of the program too. Meanwhile
// another one starts.
func TestSearchesShareTheConnectionsThatAreLeft(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t, "OPTIONS=-c max_connections=14")
	env := []string{"DOCS_DIR=", "DATABASE_URL=" + server.url, "DB_MAX_CONNS=8"}
	ts := newTestServer(t, env...)
	ts.put("a.md", "# Copper lantern")
	others := newCrowd(t, server.url)
	others.fill()

	const clients = 8
	var searching sync.WaitGroup
	var isShort atomic.Bool
	for range clients {
		searching.Go(func() {
			for range 50 {
				if a := ts.get("/search?q=lantern"); a.status != http.StatusOK || !strings.Contains(a.body, "a.md") {
					t.Errorf("search: %d %s", a.status, a.body)
				}
				a := ts.get("/readyz?verbose")
				if a.status != http.StatusOK {
					t.Errorf("/readyz: %d %s", a.status, a.body)
				}
				if strings.Contains(a.body, "short of connections") {
					isShort.Store(true)
				}
			}
		})
	}
	searching.Wait()
	if !isShort.Load() {
		t.Error("/readyz never said that connections are short")
	}
	if a := ts.put("b.md", "# B"); a.status != http.StatusCreated {
		t.Errorf("put: %d %s", a.status, a.body)
	}

	waitFor(t, "no connection is left to it", func() bool {
		others.expel()
		return ts.get("/readyz").status == http.StatusServiceUnavailable
	})
	second := newTestServer(t, env...)
	for _, ts := range []*testServer{ts, second} {
		for path, want := range map[string]string{
			"/readyz?verbose":   "53300",
			"/search?q=lantern": "cannot answer right now",
			"/documents/a.md":   "cannot answer right now",
		} {
			a := ts.get(path)
			isTold := strings.Contains(a.body, want) && a.header.Get("Retry-After") == "1"
			if a.status != http.StatusServiceUnavailable || !isTold {
				t.Errorf("%s: %d %s, want 503 with %q", path, a.status, a.body, want)
			}
		}
		if a := ts.put("c.md", "# C"); a.status != http.StatusServiceUnavailable {
			t.Errorf("put: %d %s", a.status, a.body)
		}
		if status := ts.get("/livez").status; status != http.StatusOK {
			t.Errorf("/livez is %d", status)
		}
	}

	others.leave()
	left := time.Now()
	for _, ts := range []*testServer{ts, second} {
		waitFor(t, "a search", func() bool { return ts.get("/search?q=lantern").status == http.StatusOK })
		waitFor(t, "/readyz", func() bool { return ts.get("/readyz").status == http.StatusOK })
		t.Logf("it searches again after %v", time.Since(left).Round(time.Millisecond))
	}
	waitFor(t, "the whole pool", func() bool {
		return ts.store.pool().max == 8 && !strings.Contains(ts.get("/readyz?verbose").body, "short")
	})
}

// TestWritersShareTheConnectionsThatAreLeft uses up the connections of a server but for some of the program, and lets
// writers wait for a lock on them.
func TestWritersShareTheConnectionsThatAreLeft(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, newDatabase(t), "DB_MAX_CONNS=12")
	for _, test := range []struct{ left, writers int }{
		{12, 6},
		{5, 2},
		{4, 2},
		{2, 1},
		{1, 1},
		{12, 6},
	} {
		p.conns.resized(test.left)
		leave := fill(t, p.writers)
		if got := p.writers.limit; got != test.writers {
			t.Errorf("of %d connections that are left, writers have %d, want %d", test.left, got, test.writers)
		}
		leave()
	}

	taken, err := p.conns.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	refusal := &pq.Error{Code: pqerror.TooManyConnections}
	if !p.conns.makeDo(refusal) || p.writers.limit != max(1, p.conns.db.Stats().OpenConnections/2) {
		t.Errorf("after a refusal, writers have %d", p.writers.limit)
	}
	p.conns.restore()
	if p.writers.limit != 6 {
		t.Errorf("after it, writers have %d", p.writers.limit)
	}
}

// TestIsolationOfTheDatabaseDoesNotMatter writes the same documents at once, in databases with each default.
func TestIsolationOfTheDatabaseDoesNotMatter(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"serializable", "repeatable read", "read committed", "read uncommitted"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			address := newDatabase(t)
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			execSQL(t, address, fmt.Sprintf("ALTER DATABASE %s SET default_transaction_isolation = '%s'",
				strings.TrimPrefix(u.Path, "/"), level))
			p := openPostgres(t, address)
			var writing sync.WaitGroup
			for i := range 20 {
				writing.Go(func() {
					d := mustDocument(t, fmt.Sprintf("%d.md", i%3), fmt.Sprintf("# Text %d\n", i))
					if _, err := p.put(t.Context(), d, precondition{}); err != nil {
						t.Error(err)
					}
				})
			}
			writing.Wait()
		})
	}
}
