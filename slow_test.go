package main

// What is slow is not down: PostgreSQL behind a real Toxiproxy, and an embeddings API that hangs.

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// toxiproxyProgram builds github.com/Shopify/toxiproxy, which has a module of its own.
var toxiproxyProgram = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("vitrine-toxiproxy-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	name := filepath.Join(dir, "toxiproxy-server")
	build := exec.Command("go", "build", "-C", "testdata/toxiproxy", "-o", name, "github.com/Shopify/toxiproxy/v2/cmd/server")
	out, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return name, nil
})

// toxiproxy is a Toxiproxy with one proxy.
type toxiproxy struct {
	t   *testing.T
	api string // URL of the proxy in its API
}

// newToxiproxy starts a Toxiproxy in front of a server and returns the URL that leads through it.
func newToxiproxy(t *testing.T, serverURL string) (toxiproxy, string) {
	t.Helper()
	name, err := toxiproxyProgram()
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}

	host, port, _ := strings.Cut(freeAddr(t), ":")
	cmd := exec.Command(name, "-host", host, "-port", port)
	startCommand(t, cmd)

	base := "http://" + host + ":" + port
	waitForOK(t, base+"/version")
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	x := toxiproxy{t, base + "/proxies/server"}
	listen := freeAddr(t)
	x.post(base+"/proxies", map[string]any{"name": "server", "listen": listen, "upstream": u.Host, "enabled": true})
	u.Host = listen
	return x, u.String()
}

func (x toxiproxy) post(url string, body any) {
	x.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		x.t.Fatal(err)
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(text))
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		x.t.Fatalf("toxiproxy: %s for %s", resp.Status, text)
	}
}

// toxic adds a fault.
func (x toxiproxy) toxic(kind, stream string, attributes map[string]any) {
	x.t.Helper()
	x.post(x.api+"/toxics", map[string]any{"type": kind, "name": kind, "stream": stream, "attributes": attributes})
}

// TestSlowDatabaseIsNotDown searches over a network of 400 ms a round trip, with a readiness probe every 5 s and a scrape
// every 15 s, compressed. VITRINE_SLOW_TEST sets how long it takes, such as 1m.
func TestSlowDatabaseIsNotDown(t *testing.T) {
	t.Parallel()
	lasts := 10 * time.Second
	if given, err := time.ParseDuration(os.Getenv("VITRINE_SLOW_TEST")); err == nil {
		lasts = given
	}
	x, through := newToxiproxy(t, newDatabase(t))
	ts := newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+through)
	if a := ts.put("a.md", "# Lantern"); a.status != http.StatusCreated {
		t.Fatalf("put: %d %s", a.status, a.body)
	}
	x.toxic("latency", "downstream", map[string]any{"latency": 400})

	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	var clients sync.WaitGroup
	every := func(interval time.Duration, do func()) {
		clients.Go(func() {
			for pause(ctx, interval) {
				clients.Go(do)
			}
		})
	}
	var searches atomic.Int64
	var slow atomic.Bool
	every(time.Second, func() {
		searches.Add(1)
		if a := ts.get("/search?q=lantern"); a.status != http.StatusOK || !strings.Contains(a.body, "a.md") {
			t.Errorf("search: %d %s", a.status, a.body)
		}
	})
	every(500*time.Millisecond, func() { // ten times as often as the manifest's probe
		a := ts.get("/readyz?verbose")
		if a.status != http.StatusOK {
			t.Errorf("/readyz: %d %s", a.status, a.body)
		}
		if strings.Contains(a.body, "store ok: 1 documents, 1 chunks, slow: ") {
			slow.Store(true)
		}
	})
	every(time.Second, func() {
		if a := ts.get("/metrics"); !strings.Contains(a.body, `vitrine_ready{check="store"} 1`) {
			t.Errorf("/metrics: %d", a.status)
		}
	})
	clients.Wait()
	t.Logf("%d searches", searches.Load())
	if !slow.Load() {
		t.Errorf("/readyz never said how slow the store is: %s", ts.get("/readyz?verbose").body)
	}
}

// TestLockedTableRefusesOnlyItsReaders locks the chunks as a migration by hand does.
func TestLockedTableRefusesOnlyItsReaders(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	ts := newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+databaseURL)
	ts.put("a.md", "# Lantern")

	db, err := sql.Open("postgres", databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("LOCK TABLE chunks IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}

	var readers sync.WaitGroup
	var done atomic.Int64
	for range 6 {
		readers.Go(func() {
			defer done.Add(1)
			a := ts.get("/search?q=lantern")
			if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "the log says why") {
				t.Errorf("search: %d %s", a.status, a.body)
			}
		})
	}
	for done.Load() < 6 {
		for _, path := range []string{"/readyz", "/documents", "/documents/a.md"} {
			if a := ts.get(path); a.status != http.StatusOK {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	readers.Wait()
	if a := ts.get("/documents"); a.status != http.StatusOK {
		t.Errorf("after six timeouts: %d %s", a.status, a.body)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	ts.search("q=lantern")
}

// TestHurriedCallersDoNotOpenTheBreaker lets callers give up after less than a round trip.
func TestHurriedCallersDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	x, through := newToxiproxy(t, newDatabase(t))
	p := openPostgres(t, through)
	x.toxic("latency", "downstream", map[string]any{"latency": 300})
	for range 12 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := p.search(ctx, query{text: "lantern", limit: 5})
		cancel()
		if err == nil {
			t.Error("answered in time")
		}
	}
	if open, cause := p.breaker.isOpen(); open {
		t.Errorf("open: %s", cause)
	}
	if _, err := p.search(t.Context(), query{text: "lantern", limit: 5}); err != nil {
		t.Error(err)
	}
}

// TestSilentDatabaseOpensTheBreaker drops what the server sends. Then requests are refused at once, and work again without a
// restart.
func TestSilentDatabaseOpensTheBreaker(t *testing.T) {
	t.Parallel()
	x, through := newToxiproxy(t, newDatabase(t))
	ts := newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+through)
	x.toxic("timeout", "downstream", map[string]any{"timeout": 0})
	waitFor(t, "it is not ready", func() bool { return ts.get("/readyz").status == http.StatusServiceUnavailable })
	if a := ts.get("/search?q=lantern"); a.status != http.StatusServiceUnavailable {
		t.Errorf("search: %d %s", a.status, a.body)
	}
	r, err := http.NewRequest(http.MethodDelete, x.api+"/toxics/timeout", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	waitFor(t, "it is ready", func() bool { return ts.get("/readyz").status == http.StatusOK })
}

// TestHangingEmbedderIsNotProbedByRequests asks new questions slowly. Only the first waits.
func TestHangingEmbedderIsNotProbedByRequests(t *testing.T) {
	t.Parallel()
	f := newFakeEmbedder(t, 6)
	ts := newTestServer(t, f.env()...)
	ts.put("a.md", "# Lantern")
	asked := make(map[string]int)
	var mu sync.Mutex
	f.set(func(_ http.ResponseWriter, r *http.Request, in fakeRequest) bool {
		mu.Lock()
		asked[in.Input[0]]++
		mu.Unlock()
		<-r.Context().Done()
		return true
	})

	waited := 0
	for i := range 10 {
		question := fmt.Sprintf("lantern-%d", i)
		if a := ts.get("/search?q=" + question); a.status != http.StatusOK || !strings.Contains(a.body, `"degraded":true`) {
			t.Errorf("search: %d %s", a.status, a.body)
		}
		mu.Lock()
		waited += asked[question]
		mu.Unlock()
		time.Sleep(time.Second / 2)
	}
	if waited > breakerFailures {
		t.Errorf("%d of 10 searches asked an API that hangs", waited)
	}
	f.set(nil)
	waitFor(t, "searches use vectors again", func() bool {
		return !strings.Contains(ts.get("/search?q=lantern+again").body, `"degraded":true`)
	})
}

// TestHangingEmbedderDoesNotDelayTheStart starts the program. It must be alive at once, ready before the API answers, and end
// at once.
func TestHangingEmbedderDoesNotDelayTheStart(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{
		"its own documents": "",
		"a folder":          datedFolder(t, map[string]string{"a.md": "# Install"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeEmbedder(t, 6)
			f.set(func(_ http.ResponseWriter, r *http.Request, _ fakeRequest) bool {
				<-r.Context().Done()
				return true
			})
			p := start(t, f.env("DOCS_DIR="+dir))
			status, body := p.get("/search?q=install")
			if status != http.StatusOK || !strings.Contains(body, `"document"`) {
				t.Errorf("search: %d %s", status, body)
			}
		})
	}
}

// TestSignalIsHeededFromTheFirstMoment stops the program while it waits for an embedding API or a database that hangs. It must
// have been alive before, and ends at once with 0.
func TestSignalIsHeededFromTheFirstMoment(t *testing.T) {
	t.Parallel()
	f := newFakeEmbedder(t, 6)
	f.set(func(_ http.ResponseWriter, r *http.Request, _ fakeRequest) bool {
		<-r.Context().Done()
		return true
	})
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	folder := datedFolder(t, map[string]string{"a.md": "# Install"})
	for name, env := range map[string][]string{
		"a hanging embedder":              f.env("DOCS_DIR="),
		"a hanging embedder and a folder": f.env("DOCS_DIR=" + folder),
		"a silent database":               {"DATABASE_URL=postgres://u@" + silent.Addr().String() + "/v?sslmode=disable"},
		"a folder that is missing":        {"DOCS_DIR=" + folder + "/none", "DOCS_WAIT=true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := launch(t, env)
			waitForOK(t, p.url+"/livez")
			p.terminate(t)
		})
	}
}
