package main

// The PostgreSQL store under faults: a network that breaks, a server that crashes, replicas that
// restart, a pooler in between.

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// proxy is a TCP proxy in front of a server. Tests set its faults.
type proxy struct {
	net.Listener
	target string

	mu       sync.Mutex
	conns    []net.Conn
	latency  time.Duration // of each packet, each way
	down     bool          // new connections are reset
	silent   bool          // packets are dropped
	accepted int           // connections so far
	asked    int           // packets from clients so far
}

// newProxy returns a proxy and the URL that leads through it.
func newProxy(t testing.TB, databaseURL string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: listener, target: u.Host}
	u.Host = listener.Addr().String()
	go p.serve()
	t.Cleanup(func() {
		listener.Close()
		p.set(p.cut)
	})
	return p, u.String()
}

// set changes the proxy under its lock.
func (p *proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// cut resets all connections. The caller holds the lock.
func (p *proxy) cut() {
	for _, c := range p.conns {
		reset(c)
	}
	p.conns = nil
}

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func (p *proxy) serve() {
	for {
		client, err := p.Accept()
		if err != nil {
			return
		}
		p.set(func() { p.connect(client) })
	}
}

// connect connects the client to the server. The caller holds the lock.
func (p *proxy) connect(client net.Conn) {
	p.accepted++
	server, err := net.Dial("tcp", p.target)
	if p.down || err != nil {
		reset(client)
		if err == nil {
			server.Close()
		}
		return
	}

	p.conns = append(p.conns, client, server)
	go p.copy(client, server, nil)
	go p.copy(server, client, &p.asked)
}

// copy copies packets and counts them, unless packets is nil.
func (p *proxy) copy(to, from net.Conn, packets *int) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}

		p.mu.Lock()
		latency := p.latency
		silent := p.silent
		if packets != nil {
			*packets++
		}
		p.mu.Unlock()

		time.Sleep(latency)
		if silent {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func TestResetConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	proxy, url := newProxy(t, newDatabase(t))
	p := background(t, unopenedPostgres(t, url))
	if err := mark(t.Context(), p, "a.md", "lantern"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var answers atomic.Int64
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				found, err := p.search(t.Context(), query{text: "lantern", limit: 5})
				if errors.Is(err, errUnavailable) {
					continue
				}
				if err != nil || len(found.hits) != 1 {
					t.Errorf("search: %d found.hits, %v", len(found.hits), err)
				}
				answers.Add(1)
			}
		})
	}

	for range 20 {
		before := answers.Load()
		waitFor(t, "searches succeed", func() bool { return answers.Load() > before })
		proxy.set(proxy.cut)
	}
	cancel()
	clients.Wait()

	waitFor(t, "it answers again", func() bool {
		_, err := p.size(t.Context())
		return err == nil
	})
}

// TestRoundTripsAreFew counts what the latency of a network multiplies: how often an operation waits for the server.
func TestRoundTripsAreFew(t *testing.T) {
	t.Parallel()
	proxy, url := newProxy(t, newDatabase(t))
	p := openPostgres(t, url)
	const latency = 20 * time.Millisecond
	proxy.set(func() { proxy.latency = latency })

	version := 0
	put := func() error {
		version++
		return mark(t.Context(), p, "a.md", fmt.Sprintf("lantern%d", version))
	}
	search := func() error {
		q := query{text: fmt.Sprintf("lantern%d", version), limit: 5}
		found, err := p.search(t.Context(), q)
		if err == nil && len(found.hits) != 1 {
			err = fmt.Errorf("%d found.hits", len(found.hits))
		}
		return err
	}
	for _, test := range []struct {
		name     string
		run      func() error
		maxTrips int
	}{
		{"put", put, 14},      // the last one notifies the other replicas, after the commit
		{"search", search, 5}, // one asks which words exist
	} {
		if err := test.run(); err != nil { // opens the connection
			t.Fatalf("%s: %v", test.name, err)
		}
		trips := 0
		proxy.set(func() { proxy.asked = 0 })
		started := time.Now()
		err := test.run()
		took := time.Since(started)
		proxy.set(func() { trips = proxy.asked })

		if err != nil || trips > test.maxTrips {
			t.Errorf("%s: %d round trips, want at most %d; %v", test.name, trips, test.maxTrips, err)
		}
		if took < latency*2*time.Duration(max(trips, 1)) {
			t.Errorf("%s: %v for %d round trips: the proxy adds no latency", test.name, took, trips)
		}
	}
}

func TestBreakerSparesADatabaseThatIsAway(t *testing.T) {
	t.Parallel()
	proxy, url := newProxy(t, newDatabase(t))
	p := background(t, unopenedPostgres(t, url))
	proxy.set(func() {
		proxy.down = true
		proxy.cut()
	})
	waitFor(t, "the breaker opens", func() bool {
		_, err := p.search(t.Context(), query{text: "lantern", limit: 5})
		return err != nil && strings.Contains(err.Error(), "probed")
	})

	before := 0
	proxy.set(func() { before = proxy.accepted })
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			for range 20 {
				started := time.Now()
				_, err := p.search(t.Context(), query{text: "lantern", limit: 5})
				took := time.Since(started)
				if !errors.Is(err, errUnavailable) || took > time.Second {
					t.Errorf("got %v after %v", err, took)
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	clients.Wait()

	proxy.set(func() {
		// Within two seconds only the probe and the listener try to connect.
		if n := proxy.accepted - before; n > 20 {
			t.Errorf("%d connections were tried: a storm", n)
		}
		proxy.down = false
	})
	waitFor(t, "it answers again", func() bool {
		_, err := p.size(t.Context())
		return err == nil
	})
}

// TestSilentNetworkIsNotWaitedForForEver takes as long as a statement may take.
func TestSilentNetworkIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	proxy, url := newProxy(t, newDatabase(t))
	p := openPostgres(t, url)
	proxy.set(func() { proxy.silent = true })

	ctx, cancel := context.WithTimeout(t.Context(), handlerBudget) // like a request
	defer cancel()
	started := time.Now()
	_, err := p.size(ctx)
	took := time.Since(started)
	if !errors.Is(err, errUnavailable) || took > 3*handlerBudget {
		t.Errorf("got %v after %v", err, took)
	}
}

func TestDatabaseThatIsAwayAtStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	proxy, url := newProxy(t, newDatabase(t))
	proxy.set(func() { proxy.down = true })
	ts := newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+url)
	if status := ts.get("/livez").status; status != http.StatusOK {
		t.Errorf("/livez is %d", status)
	}
	for path, want := range map[string]string{
		"/readyz":           "database: connection",
		"/search?q=lantern": "try again",
	} {
		a := ts.get(path)
		isTold := strings.Contains(a.body, want) && a.header.Get("Retry-After") == "1"
		if a.status != http.StatusServiceUnavailable || !isTold {
			t.Errorf("%s: %d %s, want 503 with %q", path, a.status, a.body, want)
		}
	}

	proxy.set(func() { proxy.down = false })
	waitFor(t, "it is ready", func() bool { return ts.get("/readyz").status == http.StatusOK })
}

// TestKilledServerLosesNothingAcknowledged kills a backend during writes, which makes the whole server
// crash and recover. Afterwards all acknowledged writes must be there, and no write in part.
func TestKilledServerLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	rounds := 200
	if testing.Short() {
		rounds = 10
	}
	server := ownPostgres(t) // not the shared one: each round ends all of its connections
	p := openPostgres(t, server.url)
	ctx, cancel := context.WithCancel(t.Context())

	const writers = 4
	// Each writer puts word0, word1, … into its document.
	var acknowledged [writers]int // the last number whose put has succeeded
	var attempted [writers]int    // the last number
	var writes atomic.Int64
	var tasks sync.WaitGroup
	for w := range writers {
		tasks.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				attempted[w] = i
				err := mark(t.Context(), p, fmt.Sprintf("%d.md", w), fmt.Sprintf("word%d", i))
				switch {
				case err == nil:
					acknowledged[w] = i
					writes.Add(1)
				case !errors.Is(err, errUnavailable):
					t.Errorf("put: %v", err)
				default:
					p.breaker.answered() // there is no probe to close it
					time.Sleep(time.Millisecond)
				}
			}
		})
	}

	for range rounds {
		before := writes.Load()
		waitFor(t, "writes succeed", func() bool { return writes.Load() > before })
		server.killBackend(t)
	}
	cancel()
	tasks.Wait()

	p.breaker.answered()
	for w := range writers {
		var d *document
		waitFor(t, "it has recovered", func() bool {
			found, err := p.document(t.Context(), fmt.Sprintf("%d.md", w))
			p.breaker.answered()
			d = found
			return err == nil
		})
		// A put that was not acknowledged may have been committed.
		stored, err := strconv.Atoi(strings.TrimPrefix(d.title, "word"))
		if err != nil || stored < acknowledged[w] || stored > attempted[w] {
			t.Errorf("document %d is %q, acknowledged was word%d, attempted word%d",
				w, d.title, acknowledged[w], attempted[w])
		}
		var hits []hit
		waitFor(t, "searches have recovered", func() bool { // the server may end all connections only now
			result, err := p.search(t.Context(), query{text: d.title, prefix: d.id, limit: 1})
			p.breaker.answered()
			hits = result.hits
			return err == nil
		})
		if len(hits) != 1 || hits[0].Title != hits[0].Text {
			t.Errorf("document %d is found as %+v", w, hits)
		}
	}
	wantWhole(t, server.url)
	t.Logf("%d writes in %d rounds", writes.Load(), rounds)
}

// killBackend kills the server's process for one of the store's connections, preferably a busy one.
func (s testPostgres) killBackend(t *testing.T) {
	t.Helper()
	db, err := sql.Open("postgres", s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var pid int
	waitFor(t, "the store has a connection", func() bool {
		return db.QueryRow(`
			SELECT pid FROM pg_stat_activity WHERE application_name = 'vitrine'
			ORDER BY state = 'idle', random() LIMIT 1`).Scan(&pid) == nil
	})

	err = s.kill(pid)
	if err != nil && !errors.Is(err, syscall.ESRCH) { // it may have ended by itself
		t.Fatal(err)
	}
}

// kill kills a process of the server, which may run in a container.
func (s testPostgres) kill(pid int) error {
	container, err := os.ReadFile(filepath.Join(s.dir, "container"))
	if err != nil {
		return syscall.Kill(pid, syscall.SIGKILL)
	}
	name := strings.TrimSpace(string(container))
	return exec.Command("docker", "exec", name, "kill", "-9", strconv.Itoa(pid)).Run()
}

// wantWhole checks that all tables agree.
func wantWhole(t *testing.T, url string) {
	t.Helper()
	for what, statement := range map[string]string{
		"documents without all their chunks": `
			SELECT count(*) FROM documents AS d
			WHERE chunks <> (SELECT count(*) FROM chunks WHERE document = d.id)`,
		"chunks without a row of embeddings": `
			SELECT count(*) FROM chunks AS c WHERE NOT EXISTS (
				SELECT FROM embeddings AS e WHERE e.document = c.document AND e.position = c.position
			)`,
		"documents that are counted too many": `
			SELECT documents - (SELECT count(*) FROM documents) FROM settings`,
		"chunks that are counted too many": `
			SELECT chunks - (SELECT count(*) FROM chunks) FROM settings`,
	} {
		if n := count(t, url, statement); n != 0 {
			t.Errorf("%d %s", n, what)
		}
	}
}

func TestReplicasHearOfEachOther(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	a := background(t, unopenedPostgres(t, url))
	proxy, urlOfB := newProxy(t, url)
	b := background(t, unopenedPostgres(t, urlOfB))
	told := make(chan []string, 100)
	defer b.watch(func(ids []string) { told <- ids })()

	i := 0
	hears := func(what string, ok func(ids []string) bool) {
		t.Helper()
		waitFor(t, what, func() bool {
			i++ // again and again: until b listens, notifications are lost
			if err := mark(t.Context(), a, "a.md", fmt.Sprintf("word%d", i)); err != nil {
				t.Fatal(err)
			}
			select {
			case ids := <-told:
				return ok(ids)
			case <-time.After(50 * time.Millisecond):
				return false
			}
		})
	}
	isOne := func(ids []string) bool { return slices.Equal(ids, []string{"a.md"}) }
	isAny := func(ids []string) bool { return ids == nil }

	hears("b hears of a.md", isOne)
	proxy.set(func() {
		proxy.down = true
		proxy.cut()
	})
	if err := mark(t.Context(), a, "a.md", "untold"); err != nil {
		t.Fatal(err)
	}
	proxy.set(func() { proxy.down = false })
	hears("b checks everything after a lost connection", isAny)
	hears("b hears of a.md again", isOne)
}

func TestRecheckFindsWhatNoNotificationTold(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	a := openPostgres(t, url) // neither listens
	b := openPostgres(t, url)
	var told atomic.Int64
	defer b.watch(func([]string) { told.Add(1) })()

	b.recheck(t.Context())
	if err := mark(t.Context(), a, "a.md", "lantern"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.recheck(t.Context())
	}
	if told.Load() != 1 {
		t.Errorf("told %d times, want once", told.Load())
	}
}

func TestOneReplicaAtATimeFollowsTheFolder(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.md", "# One")
	a := openPostgres(t, url)
	b := openPostgres(t, url)
	folderOfA := &folder{roots: []docsRoot{{dir: dir}}, observe: quietObserver()}
	folderOfB := &folder{roots: []docsRoot{{dir: dir}}, observe: quietObserver()}
	scan := func(f *folder, p *postgres) {
		t.Helper()
		if err := f.scan(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	title := func(want string) {
		t.Helper()
		if d, err := a.document(t.Context(), "a.md"); err != nil || d.title != want {
			t.Errorf("a.md is %+v, %v, want %q", d, err, want)
		}
	}

	if _, err := a.folderIDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := folderOfB.scan(t.Context(), b); err == nil || errors.Is(err, errElsewhere) {
		t.Errorf("b is ready before the first scan has ended: %v", err)
	}
	scan(folderOfA, a)
	title("One")

	write("a.md", "# Two")
	scan(folderOfB, b)
	title("One") // b left it to a

	if err := mark(t.Context(), b, "api.md", "lantern"); err != nil {
		t.Fatal(err)
	}
	write("api.md", "# Not this")
	scan(folderOfA, a)
	if d, err := b.document(t.Context(), "api.md"); err != nil || d.title != "lantern" {
		t.Errorf("the scan touched what came over the API: %+v, %v", d, err)
	}
	wantStatus(t, "put of the folder's document", mark(t.Context(), a, "a.md", "lantern"), http.StatusConflict)
	wantStatus(t, "removal of the folder's document", a.remove(t.Context(), "a.md", precondition{}), http.StatusConflict)

	execSQL(t, url, "UPDATE leases SET expires = now() - interval '1 second'") // a has died
	write("a.md", "# Three")
	scan(folderOfB, b)
	title("Three")
	d, _ := newDocument("a.md", "# Four", time.Now())
	if err := a.sync(t.Context(), time.Now(), []*document{d}, nil); !errors.Is(err, errElsewhere) {
		t.Errorf("a wrote without the lease: %v", err)
	}
	title("Three")

	a.close()
	b.close() // gives the lease back
	c := openPostgres(t, url)
	if _, err := c.folderIDs(t.Context()); err != nil {
		t.Errorf("the lease was not given back: %v", err)
	}
}

// TestRollingRestartLosesNothing restarts two replicas in turn while clients write and search. They ask
// the replica that answers.
func TestRollingRestartLosesNothing(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "folder.md"), []byte("# Lantern"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"DATABASE_URL=" + databaseURL, "DOCS_DIR=" + dir, "DOCS_SYNC_INTERVAL=100ms", "DRAIN_DELAY=200ms"}
	replicas := []*process{start(t, env), start(t, env)}
	var mu sync.Mutex
	urls := []string{replicas[0].url, replicas[1].url}

	// do asks the replicas in turn until one accepts the request, as a load balancer does.
	do := func(method, path, body string) (status int, answer string) {
		for attempt := range 100 {
			mu.Lock()
			base := urls[attempt%len(urls)]
			mu.Unlock()
			r, err := http.NewRequest(method, base+path, strings.NewReader(body))
			if err != nil {
				return 0, err.Error()
			}
			r.Header.Set("Authorization", "Bearer "+testAdminToken)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				return 0, err.Error()
			}
			return resp.StatusCode, string(text)
		}
		return 0, "no replica answers"
	}

	stop := make(chan struct{})
	var clients sync.WaitGroup
	var written [3]int
	for w := range written {
		clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					written[w] = i
					return
				default:
				}

				path := fmt.Sprintf("/documents/w%d/%d.md", w, i)
				status, answer := do("PUT", path, fmt.Sprintf("# Copper %d", i))
				if status != http.StatusCreated && status != http.StatusNoContent {
					t.Errorf("put: %d %s", status, answer)
				}
				status, answer = do("GET", "/search?q=lantern", "")
				if status != http.StatusOK || !strings.Contains(answer, "folder.md") {
					t.Errorf("search: %d %s", status, answer)
				}
			}
		})
	}

	for i := range 4 {
		old := replicas[i%2]
		if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := old.cmd.Wait(); err != nil {
			t.Errorf("exit: %v\n%s", err, old.logs)
		}
		replicas[i%2] = start(t, env)
		mu.Lock()
		urls[i%2] = replicas[i%2].url
		mu.Unlock()
	}
	close(stop)
	clients.Wait()

	total := 1
	for w, n := range written {
		total += n
		prefix := fmt.Sprintf("w%d/%%", w)
		got := count(t, databaseURL, "SELECT count(*) FROM documents WHERE id LIKE $1", prefix)
		if got != n {
			t.Errorf("writer %d has %d documents, wrote %d", w, got, n)
		}
	}
	wantWhole(t, databaseURL)
	t.Logf("%d documents", total)
}

// TestPostgresIsAStoreThroughAPooler runs through PgBouncer in transaction mode, where no statement may
// rely on a session.
func TestPostgresIsAStoreThroughAPooler(t *testing.T) {
	t.Parallel()
	server := needPostgres(t)
	pooler := startPgBouncer(t, server.url)
	testStore(t, func(t *testing.T) store {
		u, err := url.Parse(newDatabase(t))
		if err != nil {
			t.Fatal(err)
		}
		u.Host = pooler
		return openPostgres(t, u.String())
	})
}

// startPgBouncer starts a PgBouncer in transaction mode and returns its address.
func startPgBouncer(t *testing.T, databaseURL string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath(filepath.Join(postgresCache(), "bin", "pgbouncer"))
	if err != nil {
		program, err = exec.LookPath("pgbouncer")
	}
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}

	dir, err := os.MkdirTemp("", "vitrine-pgbouncer-") // not t.TempDir, which another user cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}

	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	config := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf(`
[databases]
* = host=%s port=%s user=postgres
[pgbouncer]
listen_addr=127.0.0.1
listen_port=%s
unix_socket_dir=
auth_type=any
pool_mode=transaction
default_pool_size=3
max_prepared_statements=0
ignore_startup_parameters=extra_float_digits
`, u.Hostname(), u.Port(), port)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}

	args := []string{program, config}
	if os.Getuid() == 0 { // it refuses to run as root
		args = append([]string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}, args...)
	}

	cmd := exec.Command(args[0], args[1:]...)
	log := new(logBuffer)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})

	waitFor(t, "PgBouncer listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return addr
}

// postgresCache is where testdata/postgres-up.sh unpacks what it downloads.
func postgresCache() string {
	if dir := os.Getenv("CACHE"); dir != "" {
		return dir
	}
	dir := cmp.Or(os.Getenv("XDG_CACHE_HOME"), "/var/tmp")
	return filepath.Join(dir, "vitrine-postgres")
}

// TestServiceRecoversWhenADependencyReturns prints how long it takes until searches succeed again. The log says what was away,
// why, and that it is back.
func TestServiceRecoversWhenADependencyReturns(t *testing.T) {
	t.Parallel()
	proxy, url := newProxy(t, newDatabase(t))
	f := newFakeEmbedder(t, 6)
	ts := newTestServer(t, f.env("DOCS_DIR=", "DATABASE_URL="+url)...)
	ts.put("a.md", "# Lantern")
	question := 0
	search := func() answer {
		question++ // the vectors of earlier questions are cached
		return ts.get(fmt.Sprintf("/search?q=lantern+%d", question))
	}
	wantAway := func(name, cause string) {
		for range breakerFailures {
			search()
		}
		line := ts.lines.find(t, name+" is away", "")
		if told, _ := line["error"].(string); line["level"] != "warn" || !strings.Contains(told, cause) {
			t.Errorf("%s: %v", name, line)
		}
	}
	isDegraded := func() bool { return strings.Contains(search().body, `"degraded":true`) }

	for range slowRounds(1, 10) {
		proxy.set(func() {
			proxy.down = true
			proxy.cut()
		})
		waitFor(t, "searches are refused", func() bool { return search().status == http.StatusServiceUnavailable })
		wantAway("database", classConnection)
		time.Sleep(time.Second) // within the pause of the probe
		proxy.set(func() { proxy.down = false })
		returned := time.Now()
		waitFor(t, "searches succeed", func() bool { return search().status == http.StatusOK })
		t.Logf("the database was used again after %v", time.Since(returned).Round(time.Millisecond))

		f.set(refuse(http.StatusServiceUnavailable))
		waitFor(t, "searches are degraded", isDegraded)
		wantAway("embedding API", "503")
		time.Sleep(time.Second)
		f.set(nil)
		returned = time.Now()
		waitFor(t, "searches have vectors", func() bool { return !isDegraded() })
		t.Logf("the embedding API was used again after %v", time.Since(returned).Round(time.Millisecond))
	}
	ts.lines.find(t, "database answers again", "")
	ts.lines.find(t, "embedding API answers again", "")
}
