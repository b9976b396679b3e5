package main

// The PostgreSQL store, for several replicas and large sets: every SQL statement of the program. All of them run in
// transact, but for the few in run that take long. They keep no state in a session, so they work through a transaction
// pooler; only the notifications do not get through one, and for them there is a look every recheckInterval.

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
)

//go:embed schema.sql
var schemaSQL string

// schemaVersion goes up with every change of schema.sql; open then has to bring the older one there.
const schemaVersion = 1

const leaseDuration = 30 * time.Second

const (
	// exactChunks is up to how many chunks a search looks at every one: below, that is faster than the indexes.
	exactChunks = 20_000

	// rareTerms is how many of a query's terms select the candidates of the lexical leg in a larger collection. On
	// 96,000 chunks the 50 best were the same as without.
	rareTerms = 4
)

// maxDimensions is what pgvector's HNSW index takes of half-precision numbers.
const maxDimensions = 4000

// statementTimeout ends a statement on the server, well before the caller's own deadline.
const statementTimeout = handlerBudget / 2

const (
	recheckInterval  = 30 * time.Second
	maintainInterval = 5 * time.Second
)

const (
	// breakerFailures in a row open the circuit breaker: requests are refused at once, and one probe a second finds
	// out when the database is back.
	breakerFailures = 3
	probeInterval   = time.Second
)

// postgres is the store in a database. Between newPostgres and the end of open, every operation answers errUnavailable.
type postgres struct {
	watchers
	dsn          string
	db           *sql.DB
	embedder     embedder
	vectorWeight float64
	exactChunks  int // see there
	observe      *observer
	replica      string // names this process in leases and notifications

	problem     atomic.Pointer[string] // why nothing can be asked yet; nil once open has succeeded
	failures    atomic.Int32           // of the database, in a row
	users       atomic.Int64           // who has a connection or waits for one
	timeouts    atomic.Int64           // who waited in vain
	seen        atomic.Int64           // settings.changes as far as the watchers know
	modified    atomic.Int64           // chunks written here since the last ANALYZE
	incomplete  atomic.Bool            // a document is stored without some of its vectors
	frequencies atomic.Pointer[frequencies]
}

// newPostgres prepares the store without connecting.
func newPostgres(cfg *settings, e embedder, o *observer) (*postgres, error) {
	connector, err := pq.NewConnector(cfg.databaseURL)
	if err != nil {
		return nil, err
	}
	connector.Dialer(hastyDialer{})
	p := &postgres{
		dsn: cfg.databaseURL, db: sql.OpenDB(connector), embedder: e, vectorWeight: cfg.vectorWeight, exactChunks: exactChunks, observe: o, replica: rand.Text(),
	}
	p.db.SetMaxOpenConns(cfg.dbMaxConns)
	p.db.SetMaxIdleConns(cfg.dbMaxConns)
	p.db.SetConnMaxIdleTime(5 * time.Minute)
	p.setProblem("the database has not been opened yet")
	p.frequencies.Store(&frequencies{})
	return p, nil
}

// hastyDialer makes connections whose reads fail when the server is silent for longer than a statement may take. Where
// a network drops everything, lib/pq would wait for ever, even for the answer of a cancelled statement.
type hastyDialer struct{ pq.Dialer } // of which only DialContext is called where there is one

// DialContext dials like net.Dialer.
func (hastyDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	return hastyConn{c}, err
}

type hastyConn struct{ net.Conn }

func (c hastyConn) Read(b []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(statementTimeout + time.Second)) // fails if the connection is closed, and so does Read
	return c.Conn.Read(b)
}

// transaction is what the statements of one operation run in. Each begins with a comment that leads back to the request,
// at its front because pg_stat_activity cuts a statement at 1 kB.
type transaction struct {
	*sql.Tx
	comment string
	replica string
	rows    int      // returned so far
	stored  int      // chunks
	missing bool     // some of them without their vector
	changed []string // ids of which the watchers are told once it is committed
}

// transact does one of queries in one transaction, and tells what became of it: the time, the class of its
// error, the rows. Every statement of a request goes through here.
func (p *postgres) transact(ctx context.Context, name string, do func(tx *transaction) error) error {
	if problem := p.problem.Load(); problem != nil {
		return fmt.Errorf("%w: %s", errUnavailable, *problem)
	}
	if n := p.failures.Load(); n >= breakerFailures {
		return fmt.Errorf("%w: the database has failed %d times in a row and is probed every %v", errUnavailable, n, probeInterval)
	}
	return p.attempt(ctx, name, do)
}

// attempt is transact whatever the state of the database.
func (p *postgres) attempt(ctx context.Context, name string, do func(tx *transaction) error) (err error) {
	ctx, end := stage(ctx, "db", append(queries[name], slog.String("db.system.name", "postgresql"))...)
	defer end(&err)
	ctx, cancel := context.WithTimeout(ctx, timeLeft(ctx))
	defer cancel()
	p.users.Add(1)
	defer p.users.Add(-1)
	tx := &transaction{comment: sqlComment(ctx), replica: p.replica}
	if tx.Tx, err = p.db.BeginTx(ctx, nil); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			p.timeouts.Add(1)
		}
		return p.classify(ctx, err)
	}
	err = tx.limit(ctx)
	if err == nil {
		err = do(tx)
	}
	if err == nil {
		err = tx.Commit()
	} else {
		_ = tx.Rollback() // what failed before says more
	}
	if err == nil && len(tx.changed) > 0 {
		p.modified.Add(int64(tx.stored))
		if tx.missing {
			p.incomplete.Store(true)
		}
		p.tell(tx.changed)
	}
	annotate(ctx, slog.Int("db.response.returned_rows", tx.rows))
	return p.classify(ctx, err)
}

// exec runs one statement in a transaction of its own.
func (p *postgres) exec(ctx context.Context, name, statement string, args ...any) error {
	return p.transact(ctx, name, func(tx *transaction) error { return tx.exec(ctx, statement, args...) })
}

// row asks for one row in a transaction of its own.
func (p *postgres) row(ctx context.Context, name string, to []any, statement string, args ...any) error {
	return p.transact(ctx, name, func(tx *transaction) error { return tx.row(ctx, to, statement, args...) })
}

// rows asks for any number of rows in a transaction of its own. columns says where in a T those of the statement go.
func rows[T any](ctx context.Context, p *postgres, name string, columns func(row *T) []any, statement string, args ...any) ([]T, error) {
	all := []T{}
	err := p.transact(ctx, name, func(tx *transaction) error {
		found, err := tx.QueryContext(ctx, tx.comment+statement, args...)
		if err != nil {
			return err
		}
		defer found.Close()
		for found.Next() {
			var row T
			if err := found.Scan(columns(&row)...); err != nil {
				return err
			}
			all = append(all, row)
		}
		tx.rows += len(all)
		return found.Err()
	})
	return all, err
}

// limit sets for the rest of the transaction what a session would have set: the server ends a statement before its caller
// gives up, and an approximate index scan yields the 100 rows that are asked for instead of 40. Of the ten best documents
// of real questions .98 are found, with ef_search 200 .99 and a third slower.
func (tx *transaction) limit(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	timeout := max(time.Until(deadline)*9/10, time.Millisecond)
	return tx.exec(ctx, `SELECT set_config('statement_timeout', $1, true), set_config('jit', 'off', true),
		set_config('hnsw.ef_search', '100', true), set_config('hnsw.iterative_scan', 'relaxed_order', true)`,
		strconv.FormatInt(min(timeout, statementTimeout).Milliseconds(), 10))
}

func (tx *transaction) exec(ctx context.Context, statement string, args ...any) error {
	_, err := tx.ExecContext(ctx, tx.comment+statement, args...)
	return err
}

// row scans the one row of the answer, or returns sql.ErrNoRows.
func (tx *transaction) row(ctx context.Context, to []any, statement string, args ...any) error {
	err := tx.QueryRowContext(ctx, tx.comment+statement, args...).Scan(to...)
	if err == nil {
		tx.rows++
	}
	return err
}

// sqlComment names the request that ctx belongs to (google.github.io/sqlcommenter). Neither id contains what would have to
// be escaped: see isCorrelationID.
func sqlComment(ctx context.Context) string {
	h := make(http.Header)
	if propagate(ctx, h); len(h) == 0 {
		return ""
	}
	return "/*correlation_id='" + h.Get("X-Correlation-Id") + "',traceparent='" + h.Get("Traceparent") + "'*/ "
}

// databaseError is an error of the database with its class: what it is counted under.
type databaseError struct {
	class string // canceled, timeout, connection, or an SQLSTATE
	err   error
	kind  error // errUnavailable, context.Canceled or nil: what the caller has to know
}

func (e *databaseError) Error() string { return "database: " + e.class + ": " + e.err.Error() }

func (e *databaseError) errorType() string { return e.class }

func (e *databaseError) Unwrap() []error { return []error{e.err, e.kind} }

// classify tells by the context first what an error is, since a cancelled statement fails in many ways, then by SQLSTATE.
// It counts the failures that open the breaker.
func (p *postgres) classify(ctx context.Context, err error) error {
	_, isUsers := errors.AsType[userError](err)
	if err == nil || isUsers || errors.Is(err, sql.ErrNoRows) || errors.Is(err, errElsewhere) {
		p.failures.Store(0)
		return err
	}
	state := pq.As(err)
	if state != nil {
		annotate(ctx, slog.String("db.response.status_code", string(state.Code)))
	}
	_, isNetwork := errors.AsType[net.Error](err)
	class, kind := "other", error(nil)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return &databaseError{"canceled", err, context.Canceled}
	case ctx.Err() != nil:
		class, kind = "timeout", errUnavailable
	case state != nil:
		class = string(state.Code)
		if slices.Contains(awayStates, class[:2]) || class == "25006" { // writing to a standby: the primary has moved
			kind = errUnavailable
		}
	case isNetwork, errors.Is(err, driver.ErrBadConn), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		class, kind = "connection", errUnavailable
	}
	if kind == nil {
		p.failures.Store(0)
	} else {
		p.failures.Add(1)
	}
	return &databaseError{class, err, kind}
}

// awayStates are the classes of SQLSTATE that say nothing of the statement: connection, resources, operator, system.
var awayStates = []string{"08", "53", "57", "58"}

func (p *postgres) setProblem(text string) { p.problem.Store(&text) }

// pool returns the numbers of the requests' connections. How many callers wait for one is not among sql.DBStats.
func (p *postgres) pool() poolStats {
	stats := p.db.Stats()
	return poolStats{
		used: stats.InUse, idle: stats.Idle, most: stats.MaxOpenConnections, pending: max(0, int(p.users.Load())-stats.InUse),
		waited: stats.WaitDuration, timeouts: p.timeouts.Load(),
	}
}

// open creates the schema where there is none and checks that what is stored is of this program's making. Its errors
// that are not errUnavailable are mended by whoever runs the program.
func (p *postgres) open(ctx context.Context) error {
	err := p.attempt(ctx, "maintain", func(tx *transaction) error { return tx.checkServer(ctx) })
	if err == nil {
		err = p.reload(ctx)
	}
	if pq.As(err, "42P01") != nil { // there is no table settings
		err = nil
		if p.embedder.dimensions() == 0 {
			err = p.embedder.check(ctx)
		}
		if err == nil {
			err = p.attempt(ctx, "maintain", func(tx *transaction) error { return tx.createSchema(ctx, p.making()) })
		}
		if err == nil {
			err = p.reload(ctx)
		}
	}
	return advise(err)
}

// advise adds to an error of the first contact what to do about it.
func advise(err error) error {
	for states, advice := range startupAdvice {
		if state := pq.As(err); state != nil && strings.Contains(states, string(state.Code)) {
			return fmt.Errorf("%w: %s", err, advice)
		}
	}
	return err
}

// startupAdvice is by SQLSTATE.
var startupAdvice = map[string]string{
	"42501 3F000": "let its owner run: CREATE EXTENSION IF NOT EXISTS vector; GRANT CREATE, USAGE ON SCHEMA public TO the role of DATABASE_URL",
	"0A000 58P01": "install pgvector 0.8 or later on the server (Debian: postgresql-17-pgvector; image: pgvector/pgvector:pg17)",
	"28P01 28000": "check user and password in DATABASE_URL",
	"3D000":       "create the database that DATABASE_URL names with createdb",
}

// making is what the stored rows depend on beside the documents.
type making struct {
	schema, analyzer int
	model            string
	dimensions       int
}

func (p *postgres) making() making {
	return making{schemaVersion, analyzerVersion, p.embedder.model(), p.embedder.dimensions()}
}

func (stored making) check(want making) error {
	switch {
	case stored == want:
		return nil
	case stored.schema > want.schema:
		return fmt.Errorf("the database was written by a newer version of vitrine (schema %d, this one knows %d): upgrade this program", stored.schema, want.schema)
	}
	return fmt.Errorf("the database holds vectors of model %q with %d dimensions by analyzer %d, the settings ask for %q with %d by analyzer %d: "+
		"set EMBEDDING_* back, or stop all replicas and run vitrine -reindex once", stored.model, stored.dimensions, stored.analyzer, want.model, want.dimensions, want.analyzer)
}

// checkServer makes sure of the versions of PostgreSQL and of pgvector, if that is there.
func (tx *transaction) checkServer(ctx context.Context) error {
	var version int
	var isCurrent sql.NullBool
	err := tx.row(ctx, []any{&version, &isCurrent}, `SELECT current_setting('server_version_num')::int,
		(SELECT string_to_array(extversion, '.')::int[] >= '{0,8}' FROM pg_extension WHERE extname = 'vector')`)
	switch {
	case err == nil && version < 140000:
		err = fmt.Errorf("the server is PostgreSQL %d: upgrade it to 14 or later", version/10000)
	case err == nil && isCurrent.Valid && !isCurrent.Bool:
		err = errors.New("pgvector is too old: install 0.8 or later on the server and run ALTER EXTENSION vector UPDATE")
	}
	return err
}

// createSchema checks the server and creates the tables, unless another replica has done so meanwhile.
func (tx *transaction) createSchema(ctx context.Context, m making) error {
	const migrationLock = 0x76697472 // any number that all replicas agree on
	if err := tx.exec(ctx, `SELECT pg_advisory_xact_lock($1)`, migrationLock); err != nil {
		return err
	}
	var exists bool
	err := tx.row(ctx, []any{&exists}, `SELECT to_regclass('settings') IS NOT NULL`)
	if err != nil || exists {
		return err
	}
	err = tx.exec(ctx, `CREATE EXTENSION IF NOT EXISTS vector`)
	if err == nil {
		err = tx.checkServer(ctx)
	}
	if err == nil {
		err = tx.exec(ctx, strings.ReplaceAll(schemaSQL, "DIMENSIONS", strconv.Itoa(m.dimensions)))
	}
	if err == nil {
		err = tx.exec(ctx, `INSERT INTO settings (schema, analyzer, model, dimensions) VALUES ($1, $2, $3, $4)`, m.schema, m.analyzer, m.model, m.dimensions)
	}
	return err
}

// start opens the store and keeps it going until ctx ends. A database that is away is waited for: requests are
// answered meanwhile with why there is no answer.
func (p *postgres) start(ctx context.Context, working *sync.WaitGroup) error {
	err := p.open(ctx)
	if err != nil && !errors.Is(err, errUnavailable) {
		return err
	}
	working.Go(func() {
		for wait := time.Second; err != nil && ctx.Err() == nil; wait = min(2*wait, 8*time.Second) {
			p.setProblem(err.Error())
			p.observe.log.WarnContext(ctx, "database not ready", "error", err, "retry", wait.String())
			pause(ctx, wait)
			err = p.open(ctx)
		}
		var background sync.WaitGroup
		background.Go(func() { p.listen(ctx) })
		background.Go(func() { p.maintain(ctx) })
		background.Go(func() { p.probe(ctx) })
		background.Wait()
		p.close()
	})
	return nil
}

// pause reports whether ctx is still wanted after that time.
func pause(ctx context.Context, duration time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(duration):
	}
	return ctx.Err() == nil
}

// close gives the leases back, so that another replica need not wait for them, and ends the connections.
func (p *postgres) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.exec(ctx, "maintain", `UPDATE leases SET expires = now() WHERE holder = $1`, p.replica) // they expire anyway
	_ = p.db.Close()
}

// probe asks a database that has failed, once a second, until it answers.
func (p *postgres) probe(ctx context.Context) {
	for pause(ctx, probeInterval) {
		if p.failures.Load() < breakerFailures {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, probeInterval)
		if p.attempt(ctx, "maintain", func(*transaction) error { return nil }) == nil {
			p.observe.log.InfoContext(ctx, "database answers again")
		}
		cancel()
	}
}

// listen passes on what other replicas changed. After a lost connection, and every recheckInterval for the case that
// notifications do not get through, it compares the count of changes.
func (p *postgres) listen(ctx context.Context) {
	listener := pq.NewListener(p.dsn, time.Second, recheckInterval, nil)
	var connecting sync.WaitGroup
	connecting.Go(func() {
		if listener.Listen("vitrine") == nil { // connected at last: what changed before was not told
			p.recheck(ctx)
		}
	})
	defer connecting.Wait()
	defer func() { _ = listener.Close() }()
	ticker := time.NewTicker(recheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-listener.Notify:
			if n != nil {
				p.notified(ctx, n.Extra)
				continue
			}
		case <-ticker.C:
		}
		p.recheck(ctx)
	}
}

// notified takes in a notification: who, the count of changes, and the document's id unless there are several. One
// without a count says that ANALYZE has run.
func (p *postgres) notified(ctx context.Context, text string) {
	replica, text, _ := strings.Cut(text, " ")
	count, id, _ := strings.Cut(text, " ")
	changes, _ := strconv.ParseInt(count, 10, 64)
	p.seen.Store(max(changes, p.seen.Load()))
	switch {
	case replica == p.replica: // told when it was done
	case changes == 0:
		_ = p.reload(ctx) // and again within recheckInterval
	case id != "":
		p.tell([]string{id})
	default:
		p.tell(nil)
	}
}

// recheck finds out what notifications have not told.
func (p *postgres) recheck(ctx context.Context) {
	ctx, end := p.observe.job(ctx, "recheck")
	before := p.seen.Load()
	err := p.reload(ctx)
	if err == nil && p.seen.Load() != before {
		p.tell(nil)
	}
	end(&err)
}

// reload reads what this process keeps of the database: the count of changes and the terms' frequencies. It refuses a
// database that is not of this program's making, or no longer.
func (p *postgres) reload(ctx context.Context) error {
	var changes int64
	var stored making
	var f *frequencies
	err := p.attempt(ctx, "maintain", func(tx *transaction) error {
		err := tx.row(ctx, []any{&stored.schema, &stored.analyzer, &stored.model, &stored.dimensions, &changes},
			`SELECT schema, analyzer, model, dimensions, changes FROM settings`)
		if err == nil {
			f, err = tx.frequencies(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	if stored.model == p.embedder.model() {
		_ = p.embedder.learn(stored.dimensions) // lets us search while the API is away; if they differ, check says so
	}
	if err := stored.check(p.making()); err != nil {
		p.setProblem(err.Error())
		return err
	}
	p.problem.Store(nil)
	p.seen.Store(changes)
	p.frequencies.Store(f)
	return nil
}

// frequencies reads them from the planner's statistics: how often each of the most common elements of chunks.slots occurs.
func (tx *transaction) frequencies(ctx context.Context) (*frequencies, error) {
	f := &frequencies{counts: make(map[term]int)}
	var slots []int64
	var shares []float64
	var chunks float64
	err := tx.row(ctx, []any{&chunks, pq.Array(&slots), pq.Array(&shares)}, `SELECT c.reltuples, s.most_common_elems::text::bigint[], s.most_common_elem_freqs
		FROM pg_class AS c LEFT JOIN pg_stats AS s ON s.schemaname = c.relnamespace::regnamespace::text AND s.tablename = c.relname AND s.attname = 'slots'
		WHERE c.oid = 'chunks'::regclass`)
	if err != nil || chunks <= 0 || len(slots) == 0 {
		return f, err
	}
	count := func(i int) int { return int(math.Round(shares[i] * chunks)) }
	for i, slot := range slots {
		f.counts[term(slot)] = count(i)
	}
	f.chunks, f.rare = int(chunks), count(len(slots))/2 // after the shares comes the least of them
	return f, nil
}

// maintain does what need not be done within a request, one thing after the other: vectors that are missing, the
// statistics behind the terms' frequencies, the indexes of a large collection.
func (p *postgres) maintain(ctx context.Context) {
	var embedded time.Time
	var seen int64
	indexed := false
	for ctx.Err() == nil {
		if p.incomplete.Swap(false) || time.Since(embedded) >= recheckInterval {
			p.work(ctx, "embed_missing", p.embedMissing)
			embedded = time.Now()
		}
		if modified := p.modified.Load(); modified > 0 && modified*10 >= int64(p.frequencies.Load().chunks) {
			p.work(ctx, "analyze", p.analyze)
		}
		isLoading := p.seen.Load()-seen > 10*int64(maintainInterval/time.Second)
		seen = p.seen.Load()
		if !indexed && !isLoading && p.frequencies.Load().chunks > p.exactChunks {
			indexed = p.work(ctx, "build_indexes", p.buildIndexes)
		}
		pause(ctx, maintainInterval)
	}
}

// work does a job of that name under its lease and reports whether it is done. Where another replica has the lease, it
// does nothing.
func (p *postgres) work(ctx context.Context, name string, do func(ctx context.Context) error) (done bool) {
	var err error
	ctx, end := p.observe.job(ctx, name)
	defer end(&err)
	claim := func() (mine bool, err error) {
		err = p.transact(ctx, "maintain", func(tx *transaction) error {
			mine, _, err = tx.claim(ctx, name)
			return err
		})
		return mine, err
	}
	mine, err := claim()
	if err != nil || !mine {
		return false
	}
	working, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		for pause(working, leaseDuration/3) {
			if mine, err := claim(); err == nil && !mine {
				cancel()
			}
		}
	})
	err = do(working)
	cancel()
	renewing.Wait()
	return err == nil
}

// embedMissing embeds the chunks that were stored without a vector: they are the queue, so it survives a restart. What
// the embedder refuses is tried again after everything else.
func (p *postgres) embedMissing(ctx context.Context) error {
	const batch = 256
	for embedded := 0; ; {
		var documents, texts []string
		var positions []int64
		var inputs [][]byte
		err := p.row(ctx, "embed", []any{pq.Array(&documents), pq.Array(&positions), pq.Array(&inputs), pq.Array(&texts)}, `
			SELECT array_agg(document), array_agg(position), array_agg(input), array_agg(text) FROM (
				SELECT e.document, e.position, e.input, concat_ws(E'\n', d.title, c.heading, c.text) AS text
				FROM embeddings AS e JOIN chunks AS c ON c.document = e.document AND c.position = e.position JOIN documents AS d ON d.id = e.document
				WHERE e.embedding IS NULL AND (e.attempted IS NULL OR e.attempted < now() - interval '20 seconds')
				ORDER BY e.attempted NULLS FIRST LIMIT $1
			) AS missing`, batch)
		if err != nil || len(texts) == 0 {
			return err
		}
		vectors, failure := p.embedder.documents(ctx, texts)
		embeddings := make([]pq.Float32Array, len(texts)) // nil is NULL
		for i, v := range vectors {
			embeddings[i] = v
		}
		err = p.exec(ctx, "embed", `UPDATE embeddings AS e SET embedding = new.embedding::real[]::halfvec, attempted = now()
			FROM unnest($1::text[], $2::int[], $3::bytea[], $4::text[]) AS new (document, position, input, embedding)
			WHERE e.document = new.document AND e.position = new.position AND e.input = new.input`,
			pq.Array(documents), pq.Array(positions), pq.Array(inputs), pq.Array(embeddings))
		if err != nil {
			return err
		}
		if failure != nil && isEmpty(vectors) {
			return failure
		}
		embedded += len(texts)
		note(ctx, slog.Int("chunks", embedded))
	}
}

// analyze refreshes the statistics and lets all replicas know.
func (p *postgres) analyze(ctx context.Context) error {
	modified := p.modified.Load()
	if err := p.run(ctx, `ANALYZE chunks (slots)`); err != nil {
		return err
	}
	p.modified.Add(-modified)
	if err := p.reload(ctx); err != nil {
		return err
	}
	return p.exec(ctx, "maintain", `SELECT pg_notify('vitrine', $1)`, p.replica)
}

// buildIndexes builds the indexes that a large collection is searched by, which is far faster after a bulk load than
// along with it, and drops what a build that was broken off left. Where shared memory is scarce (a container has
// 64 MB), it builds without parallel workers.
func (p *postgres) buildIndexes(ctx context.Context) error {
	for name, definition := range map[string]string{
		"chunks_slots":         `chunks USING gin (slots)`,
		"embeddings_embedding": `embeddings USING hnsw (embedding halfvec_ip_ops)`,
	} {
		err := p.buildIndex(ctx, name, definition, 2)
		if pq.As(err, "53100") != nil {
			err = p.buildIndex(ctx, name, definition, 0)
		}
		if err != nil {
			return fmt.Errorf("building index %s: %w", name, err)
		}
	}
	return nil
}

func (p *postgres) buildIndex(ctx context.Context, name, definition string, workers int) error {
	var isBuilt bool
	err := p.row(ctx, "maintain", []any{&isBuilt}, `SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid)`, name)
	if err != nil || isBuilt {
		return err
	}
	megabytes := min(2000, 64+p.frequencies.Load().chunks*(2*p.embedder.dimensions()+500)>>20)
	err = p.run(ctx, `SET statement_timeout = 0`,
		fmt.Sprintf(`SET maintenance_work_mem = '%dMB'`, megabytes), // an HNSW graph that does not fit is built ten times slower
		fmt.Sprintf(`SET max_parallel_maintenance_workers = %d`, workers),
		`DROP INDEX CONCURRENTLY IF EXISTS `+name,
		`CREATE INDEX CONCURRENTLY `+name+` ON `+definition,
		`RESET ALL`)
	if err == nil {
		note(ctx, slog.String("index", name))
	}
	return err
}

// run runs statements that may take as long as they need, on a connection of their own. Behind a transaction pooler a SET
// may miss its mark, which makes a build slower and nothing worse.
func (p *postgres) run(ctx context.Context, statements ...string) error {
	db, err := sql.Open("postgres", p.dsn)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, sqlComment(ctx)+statement); err != nil {
			return err
		}
	}
	return nil
}

// reindex makes what is stored what the settings ask for: the chunks if the analyzer has changed, and all vectors. Until it
// has ended the model's name is missing, and nothing but another reindex will work with the database.
func (p *postgres) reindex(ctx context.Context) error {
	if err := p.embedder.check(ctx); err != nil {
		return err
	}
	if err := p.open(ctx); errors.Is(err, errUnavailable) {
		return err
	} // any other error is what we are here for, or comes back below
	err := p.run(ctx, `UPDATE settings SET model = ''`, `DROP INDEX IF EXISTS embeddings_embedding`,
		fmt.Sprintf(`ALTER TABLE embeddings ALTER embedding TYPE halfvec(%d) USING NULL`, p.embedder.dimensions()))
	if err != nil {
		return advise(err)
	}
	p.problem.Store(nil)
	if err := p.rechunk(ctx); err != nil {
		return err
	}
	if err := p.embedMissing(ctx); err != nil {
		return err
	}
	want := p.making()
	err = p.exec(ctx, "maintain", `UPDATE settings SET analyzer = $1, model = $2, dimensions = $3`, want.analyzer, want.model, want.dimensions)
	if err != nil {
		return err
	}
	return p.analyze(ctx)
}

// rechunk stores every document again with what the analyzer of this program makes of it.
func (p *postgres) rechunk(ctx context.Context) error {
	var ids []string
	if err := p.row(ctx, "maintain", []any{pq.Array(&ids)}, `SELECT array_agg(id) FROM documents`); err != nil {
		return err
	}
	for _, id := range ids {
		d, err := p.document(ctx, id)
		if errors.Is(err, errNotFound) { // since it was listed
			continue
		}
		if err != nil {
			return err
		}
		err = p.transact(ctx, "maintain", func(tx *transaction) error {
			old, err := tx.lock(ctx, id)
			if err != nil || old.etag != d.etag {
				return err
			}
			return tx.store(ctx, d, nil, old, old.source)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// search ranks by the lexical and the vector leg, each as far as its best 100 chunks, and fuses the two document by
// document: see snapshot.fuse, which it agrees with. Without the embedder's answer the hits are lexical, and degraded.
func (p *postgres) search(ctx context.Context, q query) (hits []hit, degraded bool, err error) {
	vector, err := p.embedder.query(ctx, q.text)
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	degraded = err != nil
	if !slices.ContainsFunc(vector, func(x float32) bool { return x != 0 }) {
		vector = nil // text without a word is similar to nothing
	}
	lexical, rarest := p.frequencies.Load().weigh(queryTerms(q.text))
	var exact sql.NullBool // how many chunks have the prefix is counted by the statement
	if q.prefix == "" {
		exact = sql.NullBool{Bool: p.frequencies.Load().chunks <= p.exactChunks, Valid: true}
	}
	hits, err = rows(ctx, p, "search", func(h *hit) []any {
		return []any{&h.Document, &h.Title, &h.Heading, &h.Line, &h.Score, &h.Text}
	}, searchSQL, lexical, pq.Array(vector), likePrefix(q.prefix), exact, rarest, p.vectorWeight, p.embedder.floor(), q.limit, p.exactChunks)
	return hits, degraded, err
}

// searchSQL: each leg has an exact branch, for few chunks, and one that uses its index; the condition on narrow does not
// depend on a row, so the branch not taken costs nothing. OFFSET 0 keeps a leg's score from being computed twice, and
// the vector index from being used by the exact branch.
const searchSQL = `
WITH narrow AS MATERIALIZED (
	SELECT coalesce($4::boolean, (SELECT count(*) <= $9 FROM (SELECT FROM chunks WHERE document LIKE $3 LIMIT $9 + 1) AS few)) AS yes
),
lexical AS MATERIALIZED (
	(SELECT * FROM (SELECT document, position, -(lex <#> $1) AS score FROM chunks
		WHERE (SELECT yes FROM narrow) AND document LIKE $3 OFFSET 0) AS every
	WHERE score > 0 ORDER BY score DESC, document, position LIMIT 100)
	UNION ALL
	(SELECT * FROM (SELECT document, position, -(lex <#> $1) AS score FROM chunks
		WHERE NOT (SELECT yes FROM narrow) AND document LIKE $3 AND slots && $5::int[] OFFSET 0) AS candidates
	ORDER BY score DESC, document, position LIMIT 100)
),
vector AS MATERIALIZED (
	(SELECT * FROM (SELECT document, position, -(embedding <#> $2::real[]::halfvec) AS score FROM embeddings
		WHERE (SELECT yes FROM narrow) AND document LIKE $3 AND $2::real[] IS NOT NULL AND embedding IS NOT NULL OFFSET 0) AS every
	ORDER BY score DESC, document, position LIMIT 100)
	UNION ALL
	(SELECT document, position, -(embedding <#> $2::real[]::halfvec) AS score FROM embeddings
	WHERE NOT (SELECT yes FROM narrow) AND document LIKE $3 AND $2::real[] IS NOT NULL
	ORDER BY embedding <#> $2::real[]::halfvec LIMIT 100)
),
scaled AS (
	SELECT 1 AS leg, document, position, true AS found, coalesce((score - min(score) OVER ()) / nullif(max(score) OVER () - min(score) OVER (), 0), 1) AS part
	FROM lexical
	UNION ALL
	SELECT 2, document, position, score >= $7, $6 * coalesce((score - min(score) OVER ()) / nullif(max(score) OVER () - min(score) OVER (), 0), 1)
	FROM vector
),
best AS (
	SELECT DISTINCT ON (document, leg) * FROM scaled ORDER BY document, leg, part DESC, position
),
fused AS (
	SELECT document, sum(part) AS score, (array_agg(position ORDER BY part DESC, leg DESC))[1] AS position
	FROM best GROUP BY document HAVING bool_or(found) ORDER BY score DESC, document LIMIT $8
)
SELECT f.document, d.title, c.heading, c.line, f.score, c.text
FROM fused AS f JOIN documents AS d ON d.id = f.document JOIN chunks AS c ON c.document = f.document AND c.position = f.position
ORDER BY f.score DESC, f.document`

func (p *postgres) document(ctx context.Context, id string) (*document, error) {
	var text string
	var updated time.Time
	err := p.row(ctx, "document", []any{&text, &updated}, `SELECT text, updated FROM documents WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return newDocument(id, text, updated)
}

func (p *postgres) list(ctx context.Context, prefix, after string, limit int) ([]documentInfo, error) {
	return rows(ctx, p, "list", func(d *documentInfo) []any {
		return []any{&d.ID, &d.Title, &d.Bytes, &d.Chunks, &d.Updated}
	}, `SELECT id, title, bytes, chunks, updated FROM documents WHERE id LIKE $1 AND id > $2 ORDER BY id LIMIT $3`, likePrefix(prefix), after, limit)
}

func (p *postgres) size(ctx context.Context) (documents, chunks int, err error) {
	err = p.row(ctx, "size", []any{&documents, &chunks}, `SELECT documents, chunks FROM settings`)
	return documents, chunks, err
}

const (
	fromFolder = "folder"
	fromAPI    = "api"
)

var errFromFolder = userError{http.StatusConflict, "this document comes from DOCS_DIR: change its file there"}

func (p *postgres) put(ctx context.Context, d *document, pre precondition) (created bool, err error) {
	vectors, err := p.embed(ctx, []*document{d})
	if err != nil {
		return false, err
	}
	err = p.transact(ctx, "put", func(tx *transaction) error {
		old, err := tx.lock(ctx, d.id)
		if err == nil && old.source == fromFolder {
			err = errFromFolder
		}
		if err == nil {
			err = pre.check(old.etag)
		}
		created = err == nil && old.etag == ""
		if err != nil || old.etag == d.etag {
			return err
		}
		return tx.store(ctx, d, vectors[d.id], old, fromAPI)
	})
	return created, err
}

func (p *postgres) remove(ctx context.Context, id string, pre precondition) error {
	return p.transact(ctx, "remove", func(tx *transaction) error {
		old, err := tx.lock(ctx, id)
		switch {
		case err != nil:
			return err
		case old.etag == "":
			return errNotFound
		case old.source == fromFolder:
			return errFromFolder
		}
		if err := pre.check(old.etag); err != nil {
			return err
		}
		if err := tx.exec(ctx, `DELETE FROM documents WHERE id = $1`, id); err != nil {
			return err
		}
		return tx.count(ctx, -1, -old.chunks, id)
	})
}

// folderIDs claims the folder for this replica.
func (p *postgres) folderIDs(ctx context.Context) (ids []string, err error) {
	err = p.transact(ctx, "sync", func(tx *transaction) error {
		mine, finished, err := tx.claim(ctx, "folder")
		switch {
		case err != nil:
			return err
		case !mine && !finished:
			return userError{http.StatusServiceUnavailable, "another replica is reading the folder for the first time"}
		case !mine:
			return errElsewhere
		}
		return tx.row(ctx, []any{pq.Array(&ids)}, `SELECT array_agg(id) FROM documents WHERE source = 'folder'`)
	})
	return ids, err
}

// sync writes what the scan found as long as this replica has the lease. What came over the API stays as it is.
func (p *postgres) sync(ctx context.Context, _ time.Time, changed []*document, gone []string) error {
	vectors, err := p.embed(ctx, changed)
	if err != nil {
		return err
	}
	for _, d := range changed {
		embedded, isNew := vectors[d.id]
		if !isNew {
			continue
		}
		err := p.transact(ctx, "sync", func(tx *transaction) error {
			old, err := tx.lock(ctx, d.id)
			if err != nil || old.source == fromAPI || old.etag == d.etag {
				return err
			}
			if err := tx.fence(ctx); err != nil {
				return err
			}
			return tx.store(ctx, d, embedded, old, fromFolder)
		})
		if err != nil {
			return err
		}
	}
	return p.transact(ctx, "sync", func(tx *transaction) error { return tx.finish(ctx, gone, changed == nil) })
}

// finish removes the documents whose files have gone. At the end of a scan it says that there has been one.
func (tx *transaction) finish(ctx context.Context, gone []string, ended bool) error {
	err := tx.fence(ctx)
	if err == nil && ended {
		err = tx.exec(ctx, `UPDATE leases SET finished = true WHERE name = 'folder' AND NOT finished`)
	}
	if err != nil || len(gone) == 0 {
		return err
	}
	var removed []string
	var chunks int
	err = tx.row(ctx, []any{pq.Array(&removed), &chunks}, `WITH removed AS (DELETE FROM documents WHERE id = ANY($1) AND source = 'folder' RETURNING id, chunks)
		SELECT array_agg(id), coalesce(sum(chunks), 0) FROM removed`, pq.Array(gone))
	if err != nil || len(removed) == 0 {
		return err
	}
	return tx.count(ctx, -len(removed), -chunks, removed...)
}

// embed returns by id the vectors of the chunks of those documents that are not stored as they are, before any transaction
// begins. Chunks that are stored already keep their vectors. Where the embedder does not answer, vectors are nil:
// embedMissing fetches them later.
func (p *postgres) embed(ctx context.Context, documents []*document) (map[string][][]float32, error) {
	documents, err := p.unstored(ctx, documents)
	if err != nil {
		return nil, err
	}
	var texts, unknown []string
	for _, d := range documents {
		texts = append(texts, d.inputs()...)
	}
	vectors, err := p.known(ctx, texts)
	if err != nil {
		return nil, err
	}
	var places []*[]float32
	for i, text := range texts {
		if vectors[i] == nil {
			unknown, places = append(unknown, text), append(places, &vectors[i])
		}
	}
	embedded, err := embedInTime(ctx, p.embedder, unknown)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for i, v := range embedded {
		*places[i] = v
	}
	if err != nil {
		note(ctx, slog.String("embedding_error", err.Error()))
	}
	byID := make(map[string][][]float32)
	for _, d := range documents {
		byID[d.id], vectors = vectors[:len(d.chunks)], vectors[len(d.chunks):]
	}
	return byID, nil
}

// unstored returns those of the documents that are not stored as they are.
func (p *postgres) unstored(ctx context.Context, documents []*document) ([]*document, error) {
	if len(documents) == 0 {
		return nil, nil
	}
	var ids, etags, same []string
	for _, d := range documents {
		ids, etags = append(ids, d.id), append(etags, d.etag)
	}
	err := p.row(ctx, "known", []any{pq.Array(&same)}, `SELECT array_agg(id) FROM documents
		JOIN unnest($1::text[], $2::text[]) AS new (id, etag) USING (id, etag)`, pq.Array(ids), pq.Array(etags))
	return slices.DeleteFunc(slices.Clone(documents), func(d *document) bool { return slices.Contains(same, d.id) }), err
}

// known returns the vectors of those texts that are stored with one, nil for the others.
func (p *postgres) known(ctx context.Context, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	if !p.embedder.costly() || len(texts) == 0 {
		return vectors, nil
	}
	type known struct {
		text   int // from 1
		vector []float32
	}
	inputs := make([][]byte, len(texts))
	for i, text := range texts {
		sum := sha256.Sum256([]byte(text))
		inputs[i] = sum[:]
	}
	found, err := rows(ctx, p, "known", func(k *known) []any { return []any{&k.text, pq.Array(&k.vector)} }, `SELECT i, e.embedding::real[]
		FROM unnest($1::bytea[]) WITH ORDINALITY AS new (input, i), LATERAL (
			SELECT embedding FROM embeddings WHERE input = new.input AND embedding IS NOT NULL LIMIT 1
		) AS e`, pq.Array(inputs))
	for _, k := range found {
		vectors[k.text-1] = k.vector
	}
	return vectors, err
}

// storedDocument is what a write has to know of what it replaces. The zero value: there is nothing.
type storedDocument struct {
	etag, source string
	chunks       int
}

// lock makes this transaction the only writer of id, whether it exists or not.
func (tx *transaction) lock(ctx context.Context, id string) (old storedDocument, err error) {
	if err := tx.exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, id); err != nil {
		return old, err
	}
	err = tx.row(ctx, []any{&old.etag, &old.source, &old.chunks}, `SELECT etag, source, chunks FROM documents WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return old, nil
	}
	return old, err
}

// claim takes or renews the lease of that name. finished: whoever had it before has done the work once.
func (tx *transaction) claim(ctx context.Context, name string) (mine, finished bool, err error) {
	err = tx.row(ctx, []any{&mine, &finished}, `WITH claimed AS (
			INSERT INTO leases (name, holder, expires) VALUES ($1, $2, now() + $3::interval)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
			WHERE leases.holder = excluded.holder OR leases.expires < now() RETURNING name
		) SELECT EXISTS (SELECT FROM claimed), EXISTS (SELECT FROM leases WHERE name = $1 AND finished)`, name, tx.replica, leaseDuration.String())
	return mine, finished, err
}

// fence keeps a replica that lost the folder's lease without noticing from writing what it read before, and renews it.
func (tx *transaction) fence(ctx context.Context) error {
	mine, _, err := tx.claim(ctx, "folder")
	if err == nil && !mine {
		return errElsewhere
	}
	return err
}

// store writes the document, its chunks and their vectors, of which it may be given none. insertChunks rows a statement
// bound the memory.
func (tx *transaction) store(ctx context.Context, d *document, vectors [][]float32, old storedDocument, source string) error {
	const insertChunks = 500
	added := 1
	if old.etag != "" {
		added = 0
		if err := tx.exec(ctx, `DELETE FROM documents WHERE id = $1`, d.id); err != nil {
			return err
		}
	}
	err := tx.exec(ctx, `INSERT INTO documents (id, title, text, etag, bytes, chunks, source, updated) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		d.id, d.title, d.text, d.etag, len(d.text), len(d.chunks), source, d.updated)
	if err != nil {
		return err
	}
	embeddings := make([]pq.Float32Array, len(d.chunks)) // nil is NULL
	for i, v := range vectors {
		embeddings[i] = v
		tx.missing = tx.missing || v == nil
	}
	for from := 0; from < len(d.chunks); from += insertChunks {
		if err := tx.insertChunks(ctx, d, embeddings, from, min(from+insertChunks, len(d.chunks))); err != nil {
			return err
		}
	}
	tx.stored += len(d.chunks)
	return tx.count(ctx, added, len(d.chunks)-old.chunks, d.id)
}

func (tx *transaction) insertChunks(ctx context.Context, d *document, embeddings []pq.Float32Array, from, to int) error {
	var positions, lines []int
	var headings, texts, lex []string
	var slots []pq.Int64Array
	for i := from; i < to; i++ {
		c := d.chunks[i]
		terms := pq.Int64Array{}
		lexical := lexicalVector(d.title+"\n"+c.heading, c.text)
		for _, t := range lexical {
			terms = append(terms, int64(t.term))
		}
		positions, headings, lines, texts = append(positions, i), append(headings, c.heading), append(lines, c.line), append(texts, c.text)
		slots, lex = append(slots, terms), append(lex, sparseVector(lexical))
	}
	return tx.exec(ctx, `WITH new AS (
			SELECT * FROM unnest($3::int[], $4::text[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[])
				AS new (position, heading, line, text, slots, lex, embedding)
		), stored AS (
			INSERT INTO chunks (document, position, heading, line, text, slots, lex)
			SELECT $1, position, heading, line, text, slots::int[], lex::sparsevec FROM new
		)
		INSERT INTO embeddings (document, position, input, embedding)
		SELECT $1, position, sha256(convert_to(concat_ws(E'\n', $2::text, heading, text), 'UTF8')), embedding::real[]::halfvec FROM new`,
		d.id, d.title, pq.Array(positions), pq.Array(headings), pq.Array(lines), pq.Array(texts), pq.Array(slots), pq.Array(lex), pq.Array(embeddings[from:to]))
}

// count tells the other replicas and the counters. It is the last statement of a write: it holds the row that all writes
// need, as NOTIFY makes all that notify wait for each other anyway.
func (tx *transaction) count(ctx context.Context, documents, chunks int, ids ...string) error {
	tx.changed = ids
	return tx.exec(ctx, `WITH counted AS (
			UPDATE settings SET changes = changes + 1, documents = documents + $1::int, chunks = chunks + $2::int RETURNING changes
		)
		SELECT pg_notify('vitrine', concat_ws(' ', $3::text, changes, CASE cardinality($4::text[]) WHEN 1 THEN ($4::text[])[1] END)) FROM counted`,
		documents, chunks, tx.replica, pq.Array(ids))
}

// frequencies are how many chunks contain a term, as of the last ANALYZE of chunks.slots.
type frequencies struct {
	chunks int
	counts map[term]int // of the 10,000 most common terms
	rare   int          // what a term counts that is not among them
}

func (f *frequencies) of(t term) int {
	if n, ok := f.counts[t]; ok {
		return n
	}
	return f.rare
}

// weigh returns the query's lexical vector and, to select candidates, its rarest terms, both as literals. Before the
// first ANALYZE all terms weigh alike. A term that a tenth of the chunks contain selects only if there is no rarer one.
func (f *frequencies) weigh(query []term, counts []float64) (lexical, rarest string) {
	vector := make([]weightedTerm, len(query))
	for i, t := range query {
		if f.chunks > 0 {
			counts[i] *= idf(f.of(t), f.chunks)
		}
		vector[i] = weightedTerm{t, float32(counts[i])}
	}
	slices.SortStableFunc(query, func(a, b term) int { return f.of(a) - f.of(b) })
	var selecting []string
	candidates := 0
	for i, t := range query {
		if n := f.of(t); candidates < 5*legSize || i < rareTerms && n*10 <= f.chunks {
			selecting = append(selecting, strconv.Itoa(int(t)))
			candidates += n
		}
	}
	return sparseVector(vector), "{" + strings.Join(selecting, ",") + "}"
}

// sparseVector writes a vector sorted by term as a sparsevec, whose indices begin at 1.
func sparseVector(vector []weightedTerm) string {
	text := []byte{'{'}
	for i, t := range vector {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(strconv.AppendUint(text, uint64(t.term)+1, 10), ':')
		text = strconv.AppendFloat(text, float64(t.weight), 'g', -1, 32)
	}
	return string(text) + "}/" + strconv.Itoa(1<<termBits)
}

// likePrefix returns the LIKE pattern of what begins with prefix.
func likePrefix(prefix string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(prefix) + "%"
}
