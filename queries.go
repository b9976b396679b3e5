package main

// The PostgreSQL store, for several replicas and large sets: every SQL statement of the program. All of them run in
// transact or on the second pool, jobs. They keep no state in a session, so they work through a transaction pooler;
// only the notifications do not get through one, and for them there is a look every recheckInterval.

import (
	"cmp"
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

const (
	// schemaVersion goes up with every change of schema.sql; migrate then has to bring the older one there.
	schemaVersion = 1

	// exactChunks is up to how many chunks a search looks at every one: below, that is faster than the indexes.
	exactChunks = 20_000

	// rareTerms is how many of a query's terms select the candidates of the lexical leg in a larger collection. On
	// 96,000 chunks the 50 best were the same as without.
	rareTerms = 4

	// maxDimensions is what pgvector's HNSW index takes of half-precision numbers.
	maxDimensions = 4000

	// statementTimeout ends a statement on the server, well before the caller's own deadline.
	statementTimeout = handlerBudget / 2

	// backgroundBudget is how long a transaction may take that no request waits for: a document of 8 MiB may have
	// 100,000 sections.
	backgroundBudget = 5 * time.Minute

	recheckInterval  = 30 * time.Second
	maintainInterval = 5 * time.Second
	leaseDuration    = 30 * time.Second

	// breakerFailures in a row open the circuit breaker: requests are refused at once, and one probe a second finds
	// out when the database is back.
	breakerFailures = 3
	probeInterval   = time.Second
)

// postgres is the store in a database. Between newPostgres and the end of open, every operation answers errUnavailable.
type postgres struct {
	watchers
	dsn          string
	db           *sql.DB // of the requests
	jobs         *sql.DB // of the few statements that may take as long as they need
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
	frequencies atomic.Pointer[frequencies]
	missing     chan struct{} // a chunk was stored without its vector
}

// newPostgres prepares the store without connecting.
func newPostgres(cfg *settings, e embedder, o *observer) (*postgres, error) {
	connector, err := pq.NewConnector(cfg.databaseURL)
	if err != nil {
		return nil, err
	}
	patient := sql.OpenDB(connector)
	patient.SetMaxOpenConns(2)
	patient.SetMaxIdleConns(0)
	hasty, err := pq.NewConnector(cfg.databaseURL)
	if err != nil {
		return nil, err
	}
	hasty.Dialer(hastyDialer{})
	db := sql.OpenDB(hasty)
	db.SetMaxOpenConns(cfg.dbMaxConns)
	db.SetMaxIdleConns(cfg.dbMaxConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	p := &postgres{
		dsn: cfg.databaseURL, db: db, jobs: patient, embedder: e, vectorWeight: cfg.vectorWeight, exactChunks: exactChunks, observe: o,
		replica: rand.Text(), missing: make(chan struct{}, 1),
	}
	p.setProblem("the database has not been opened yet")
	p.frequencies.Store(&frequencies{})
	return p, nil
}

// hastyDialer makes connections whose reads fail when the server is silent for longer than a statement may take. Where
// a network drops everything, lib/pq would wait for ever, even for the answer of a cancelled statement.
type hastyDialer struct{}

func (d hastyDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d hastyDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// DialContext dials like net.Dialer.
func (hastyDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	return hastyConn{c}, err
}

type hastyConn struct{ net.Conn }

func (c hastyConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(statementTimeout + time.Second)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// transaction is what the statements of one operation run in. Each begins with a comment that leads back to the request,
// at its front because pg_stat_activity cuts a statement at 1 kB.
type transaction struct {
	*sql.Tx
	comment string
	rows    int // returned so far
}

// transact does one of queries in one transaction, and tells what became of it: the time, the class of its
// error, the rows. Every statement of a request goes through here.
func (p *postgres) transact(ctx context.Context, name string, do func(tx *transaction) error) error {
	if err := p.refusal(); err != nil {
		return err
	}
	return p.attempt(ctx, name, do)
}

// attempt is transact whatever the state of the database.
func (p *postgres) attempt(ctx context.Context, name string, do func(tx *transaction) error) (err error) {
	ctx, end := stage(ctx, "db", append(queries[name], slog.String("db.system.name", "postgresql"))...)
	defer end(&err)
	budget := handlerBudget
	if _, ok := ctx.Deadline(); !ok {
		budget = backgroundBudget
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	p.users.Add(1)
	defer p.users.Add(-1)
	tx := &transaction{comment: sqlComment(ctx)}
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
	annotate(ctx, slog.Int("db.response.returned_rows", tx.rows))
	return p.classify(ctx, err)
}

// limit sets for the rest of the transaction what a session would have set: the server ends a statement before its caller
// gives up, and an approximate index scan yields the 100 rows that are asked for instead of 40. Of the ten best documents
// of real questions .98 are found, with ef_search 200 .99 and a third slower.
func (tx *transaction) limit(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	timeout := max(time.Until(deadline)*9/10, time.Millisecond)
	_, err := tx.exec(ctx, `SELECT set_config('statement_timeout', $1, true), set_config('jit', 'off', true),
		set_config('hnsw.ef_search', '100', true), set_config('hnsw.iterative_scan', 'relaxed_order', true)`,
		strconv.FormatInt(min(timeout, statementTimeout).Milliseconds(), 10))
	return err
}

func (tx *transaction) exec(ctx context.Context, statement string, args ...any) (affected int64, err error) {
	result, err := tx.ExecContext(ctx, tx.comment+statement, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// query calls scan for each row.
func (tx *transaction) query(ctx context.Context, scan func(rows *sql.Rows) error, statement string, args ...any) error {
	rows, err := tx.QueryContext(ctx, tx.comment+statement, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		tx.rows++
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// row scans the one row of the answer, or returns sql.ErrNoRows.
func (tx *transaction) row(ctx context.Context, to []any, statement string, args ...any) error {
	found := sql.ErrNoRows
	err := tx.query(ctx, func(rows *sql.Rows) error {
		found = nil
		return rows.Scan(to...)
	}, statement, args...)
	if err != nil {
		return err
	}
	return found
}

// sqlComment names the request that ctx belongs to (google.github.io/sqlcommenter). Neither id contains what would have to
// be escaped: see isCorrelationID.
func sqlComment(ctx context.Context) string {
	s := currentScope(ctx)
	if s == nil {
		return ""
	}
	return "/*correlation_id='" + s.record.correlation + "',traceparent='" + traceparent(ctx) + "'*/ "
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
	var user userError
	if err == nil || errors.As(err, &user) || errors.Is(err, sql.ErrNoRows) || errors.Is(err, errElsewhere) {
		p.failures.Store(0)
		return err
	}
	result := &databaseError{err: err, kind: errUnavailable}
	state := pq.As(err)
	var network net.Error
	if state != nil {
		annotate(ctx, slog.String("db.response.status_code", string(state.Code)))
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		result.class, result.kind = "canceled", context.Canceled
		return result
	case ctx.Err() != nil:
		result.class = "timeout"
	case state != nil:
		result.class = string(state.Code)
		switch string(state.Code)[:2] {
		case "08", "53", "57", "58": // connection, resources, operator, system
		default:
			if state.Code != "25006" { // writing to a standby: the primary has moved
				result.kind = nil
			}
		}
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		result.class = "connection"
	default:
		result.class, result.kind = "other", nil
	}
	if result.kind == nil {
		p.failures.Store(0)
	} else {
		p.failures.Add(1)
	}
	return result
}

// refusal tells whether there is any use in asking the database.
func (p *postgres) refusal() error {
	if problem := p.problem.Load(); problem != nil {
		return fmt.Errorf("%w: %s", errUnavailable, *problem)
	}
	if p.failures.Load() >= breakerFailures {
		return fmt.Errorf("%w: the database has failed %d times in a row and is probed every %v", errUnavailable, p.failures.Load(), probeInterval)
	}
	return nil
}

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
	var unknown bool
	migrate := func(tx *transaction) error {
		if err := tx.prepareServer(ctx); err != nil {
			return err
		}
		stored, err := tx.stored(ctx)
		switch {
		case err == nil && stored.model == p.embedder.model():
			_ = p.embedder.learn(stored.dimensions) // lets us search while the API is away; if they differ, reload says so
			return nil
		case !errors.Is(err, sql.ErrNoRows):
			return err
		case p.embedder.dimensions() == 0:
			unknown = true
			return nil
		}
		return tx.createSchema(ctx, p.making())
	}
	err := p.attempt(ctx, "maintain", migrate)
	if err == nil && unknown {
		if err = p.embedder.check(ctx); err == nil {
			err = p.attempt(ctx, "maintain", migrate)
		}
	}
	if err != nil {
		return startupAdvice(err)
	}
	return p.reload(ctx)
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

// prepareServer waits until no other replica is here and makes sure of pgvector.
func (tx *transaction) prepareServer(ctx context.Context) error {
	const migrationLock = 0x76697472 // any number that all replicas agree on
	var version int
	var isCurrent sql.NullBool
	if _, err := tx.exec(ctx, `SELECT pg_advisory_xact_lock($1)`, migrationLock); err != nil {
		return err
	}
	err := tx.row(ctx, []any{&version, &isCurrent}, `SELECT current_setting('server_version_num')::int,
		(SELECT string_to_array(extversion, '.')::int[] >= '{0,8}' FROM pg_extension WHERE extname = 'vector')`)
	switch {
	case err != nil:
		return err
	case version < 140000:
		return fmt.Errorf("the server is PostgreSQL %d: upgrade it to 14 or later", version/10000)
	case !isCurrent.Valid:
		_, err = tx.exec(ctx, `CREATE EXTENSION vector`)
	case !isCurrent.Bool:
		err = errors.New("pgvector is too old: install 0.8 or later on the server and run ALTER EXTENSION vector UPDATE")
	}
	return err
}

// stored returns what the schema was made with, or sql.ErrNoRows where there is none.
func (tx *transaction) stored(ctx context.Context) (m making, err error) {
	var exists bool
	if err := tx.row(ctx, []any{&exists}, `SELECT to_regclass('settings') IS NOT NULL`); err != nil || !exists {
		return m, cmp.Or(err, sql.ErrNoRows)
	}
	err = tx.row(ctx, []any{&m.schema, &m.analyzer, &m.model, &m.dimensions}, `SELECT schema, analyzer, model, dimensions FROM settings`)
	return m, err
}

func (tx *transaction) createSchema(ctx context.Context, m making) error {
	if _, err := tx.exec(ctx, strings.ReplaceAll(schemaSQL, "DIMENSIONS", strconv.Itoa(m.dimensions))); err != nil {
		return err
	}
	_, err := tx.exec(ctx, `INSERT INTO settings (schema, analyzer, model, dimensions) VALUES ($1, $2, $3, $4)`, m.schema, m.analyzer, m.model, m.dimensions)
	return err
}

// startupAdvice adds to an error of the first contact what to do about it.
func startupAdvice(err error) error {
	advice := ""
	if state := pq.As(err); state != nil {
		switch state.Code {
		case "42501", "3F000":
			advice = "let its owner run: CREATE EXTENSION IF NOT EXISTS vector; GRANT CREATE, USAGE ON SCHEMA public TO the role of DATABASE_URL"
		case "0A000", "58P01":
			advice = "install pgvector 0.8 or later on the server (Debian: postgresql-17-pgvector; image: pgvector/pgvector:pg17)"
		case "28P01", "28000":
			advice = "check user and password in DATABASE_URL"
		case "3D000":
			advice = "create the database that DATABASE_URL names with createdb"
		}
	}
	if advice == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, advice)
}

// start opens the store and keeps it going until ctx ends. A database that is away is waited for: requests are
// answered meanwhile with why there is no answer.
func (p *postgres) start(ctx context.Context, working *sync.WaitGroup) error {
	err := p.open(ctx)
	if err != nil && !errors.Is(err, errUnavailable) {
		return err
	}
	working.Go(func() {
		for wait := time.Second; err != nil; wait = min(2*wait, 8*time.Second) {
			p.setProblem(err.Error())
			p.observe.log.WarnContext(ctx, "database not ready", "error", err, "retry", wait.String())
			if !pause(ctx, wait) {
				break
			}
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
	_ = p.transact(ctx, "maintain", func(tx *transaction) error { // they expire anyway
		_, err := tx.exec(ctx, `UPDATE leases SET expires = now() WHERE holder = $1`, p.replica)
		return err
	})
	_, _ = p.db.Close(), p.jobs.Close()
}

// probe asks a database that has failed, once a second, until it answers.
func (p *postgres) probe(ctx context.Context) {
	for pause(ctx, probeInterval) {
		if p.failures.Load() < breakerFailures {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, probeInterval)
		if err := p.attempt(ctx, "maintain", func(*transaction) error { return nil }); err == nil {
			p.observe.log.InfoContext(ctx, "database answers again")
		}
		cancel()
	}
}

// listen passes on what other replicas changed. After a lost connection, and every recheckInterval for the case that
// notifications do not get through, it compares the count of changes.
func (p *postgres) listen(ctx context.Context) {
	listener := pq.NewListener(p.dsn, time.Second, recheckInterval, nil)
	listening := make(chan struct{}, 1)
	var connecting sync.WaitGroup
	connecting.Go(func() {
		_ = listener.Listen("vitrine") // returns once connected, or closed
		listening <- struct{}{}
	})
	defer connecting.Wait()
	defer func() { _ = listener.Close() }()
	ticker := time.NewTicker(recheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-listening: // what changed before was not told
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
	count, id, single := strings.Cut(text, " ")
	changes, _ := strconv.ParseInt(count, 10, 64)
	switch {
	case changes > 0:
		p.seen.Store(max(changes, p.seen.Load()))
	case replica != p.replica:
		_ = p.reload(ctx) // and again within recheckInterval
	}
	switch {
	case replica == p.replica || changes == 0: // told when it was done
	case single && id != "":
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

// reload reads what this process keeps of the database: the count of changes and the terms' frequencies.
func (p *postgres) reload(ctx context.Context) error {
	var changes int64
	var stored making
	f := &frequencies{}
	err := p.attempt(ctx, "maintain", func(tx *transaction) error {
		var err error
		if stored, err = tx.stored(ctx); err != nil {
			return err
		}
		if err := tx.row(ctx, []any{&changes}, `SELECT changes FROM settings`); err != nil {
			return err
		}
		f, err = tx.frequencies(ctx)
		return err
	})
	if err != nil {
		return err
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
	f.chunks = int(chunks)
	least := f.chunks
	for i, slot := range slots { // after the shares come their least, their greatest and that of NULL
		df := int(math.Round(shares[i] * chunks))
		f.counts[term(slot)] = df
		least = min(least, df)
	}
	f.rare = least / 2
	return f, nil
}

// maintain does what need not be done within a request, one thing after the other: vectors that are missing, the
// statistics behind the terms' frequencies, the indexes of a large collection.
func (p *postgres) maintain(ctx context.Context) {
	ticker := time.NewTicker(maintainInterval)
	defer ticker.Stop()
	var embedded time.Time
	var seen int64
	indexed := false
	for ctx.Err() == nil {
		if time.Since(embedded) >= recheckInterval {
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
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-p.missing:
			embedded = time.Time{}
			pause(ctx, time.Second) // for what is stored next to come along
		}
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
			mine, _, err = tx.claim(ctx, name, p.replica)
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
		var positions []int
		var inputs [][]byte
		err := p.transact(ctx, "embed", func(tx *transaction) error {
			return tx.query(ctx, func(rows *sql.Rows) error {
				var document, text string
				var position int
				var input []byte
				err := rows.Scan(&document, &position, &input, &text)
				documents, positions, inputs, texts = append(documents, document), append(positions, position), append(inputs, input), append(texts, text)
				return err
			}, `SELECT e.document, e.position, e.input, concat_ws(E'\n', d.title, c.heading, c.text)
				FROM embeddings AS e JOIN chunks AS c ON c.document = e.document AND c.position = e.position JOIN documents AS d ON d.id = e.document
				WHERE e.embedding IS NULL AND (e.attempted IS NULL OR e.attempted < now() - interval '20 seconds')
				ORDER BY e.attempted NULLS FIRST LIMIT $1`, batch)
		})
		if err != nil || len(texts) == 0 {
			return err
		}
		vectors, failure := p.embedder.documents(ctx, texts)
		literals := make([]sql.NullString, len(texts))
		for i := range texts {
			literals[i] = nullVector(vectors[i])
		}
		err = p.transact(ctx, "embed", func(tx *transaction) error {
			_, err := tx.exec(ctx, `UPDATE embeddings AS e SET embedding = new.embedding::halfvec, attempted = now()
				FROM unnest($1::text[], $2::int[], $3::bytea[], $4::text[]) AS new (document, position, input, embedding)
				WHERE e.document = new.document AND e.position = new.position AND e.input = new.input`,
				pq.Array(documents), pq.Array(positions), pq.Array(inputs), pq.Array(literals))
			return err
		})
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
	if _, err := p.jobs.ExecContext(ctx, sqlComment(ctx)+`ANALYZE chunks (slots)`); err != nil {
		return err
	}
	p.modified.Add(-modified)
	if err := p.reload(ctx); err != nil {
		return err
	}
	return p.transact(ctx, "maintain", func(tx *transaction) error {
		_, err := tx.exec(ctx, `SELECT pg_notify('vitrine', $1)`, p.replica)
		return err
	})
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
		if state := pq.As(err); state != nil && state.Code == "53100" {
			err = p.buildIndex(ctx, name, definition, 0)
		}
		if err != nil {
			return fmt.Errorf("building index %s: %w", name, err)
		}
	}
	return nil
}

// buildIndex uses one connection, whose settings end with it. Behind a transaction pooler they may miss their mark, which
// makes the build slower and nothing worse.
func (p *postgres) buildIndex(ctx context.Context, name, definition string, workers int) error {
	var valid sql.NullBool
	err := p.transact(ctx, "maintain", func(tx *transaction) error {
		return tx.row(ctx, []any{&valid}, `SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1))`, name)
	})
	if err != nil || valid.Bool {
		return err
	}
	conn, err := p.jobs.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	megabytes := min(2000, 64+p.frequencies.Load().chunks*(2*p.embedder.dimensions()+500)>>20)
	for _, statement := range []string{
		`SET statement_timeout = 0`,
		fmt.Sprintf(`SET maintenance_work_mem = '%dMB'`, megabytes), // an HNSW graph that does not fit is built ten times slower
		fmt.Sprintf(`SET max_parallel_maintenance_workers = %d`, workers),
		`DROP INDEX CONCURRENTLY IF EXISTS ` + name,
		`CREATE INDEX CONCURRENTLY ` + name + ` ON ` + definition,
		`RESET ALL`,
	} {
		if _, err := conn.ExecContext(ctx, sqlComment(ctx)+statement); err != nil {
			return err
		}
	}
	note(ctx, slog.String("index", name))
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
	for _, statement := range []string{
		`UPDATE settings SET model = ''`,
		`DROP INDEX IF EXISTS embeddings_embedding`,
		fmt.Sprintf(`ALTER TABLE embeddings ALTER embedding TYPE halfvec(%d) USING NULL`, p.embedder.dimensions()),
	} {
		if _, err := p.jobs.ExecContext(ctx, statement); err != nil {
			return startupAdvice(err)
		}
	}
	p.problem.Store(nil)
	if err := p.rechunk(ctx); err != nil {
		return err
	}
	if err := p.embedMissing(ctx); err != nil {
		return err
	}
	want := p.making()
	_, err := p.jobs.ExecContext(ctx, `UPDATE settings SET analyzer = $1, model = $2, dimensions = $3`, want.analyzer, want.model, want.dimensions)
	if err != nil {
		return err
	}
	return p.analyze(ctx)
}

// rechunk stores every document again with what the analyzer of this program makes of it.
func (p *postgres) rechunk(ctx context.Context) error {
	for after, last := "", false; !last; {
		last = true
		err := p.transact(ctx, "maintain", func(tx *transaction) error {
			var d *document
			var old storedDocument
			err := tx.query(ctx, func(rows *sql.Rows) (err error) {
				var text string
				var updated time.Time
				if err := rows.Scan(&after, &text, &updated, &old.etag, &old.source, &old.chunks); err != nil {
					return err
				}
				d, err = newDocument(after, text, updated)
				return err
			}, `SELECT id, text, updated, etag, source, chunks FROM documents WHERE id > $1 ORDER BY id LIMIT 1 FOR UPDATE`, after)
			if err != nil || d == nil {
				return err
			}
			last = false
			return p.store(ctx, tx, newPrepared(d), old, old.source)
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
	if isZero(vector) {
		vector = nil // text without a word is similar to nothing
	}
	lexical, rarest := p.frequencies.Load().weigh(queryTerms(q.text))
	var exact sql.NullBool // how many chunks have the prefix is counted by the statement
	if q.prefix == "" {
		exact = sql.NullBool{Bool: p.frequencies.Load().chunks <= p.exactChunks, Valid: true}
	}
	hits = []hit{}
	err = p.transact(ctx, "search", func(tx *transaction) error {
		return tx.query(ctx, func(rows *sql.Rows) error {
			var h hit
			err := rows.Scan(&h.Document, &h.Title, &h.Heading, &h.Line, &h.Score, &h.Text)
			hits = append(hits, h)
			return err
		}, searchSQL, lexical, nullVector(vector), likePrefix(q.prefix), exact, rarest, p.vectorWeight, p.embedder.floor(), q.limit, p.exactChunks)
	})
	if err != nil {
		return nil, false, err
	}
	return hits, degraded, nil
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
	(SELECT * FROM (SELECT document, position, -(embedding <#> $2) AS score FROM embeddings
		WHERE (SELECT yes FROM narrow) AND document LIKE $3 AND $2 IS NOT NULL AND embedding IS NOT NULL OFFSET 0) AS every
	ORDER BY score DESC, document, position LIMIT 100)
	UNION ALL
	(SELECT document, position, -(embedding <#> $2) AS score FROM embeddings
	WHERE NOT (SELECT yes FROM narrow) AND document LIKE $3 AND $2 IS NOT NULL
	ORDER BY embedding <#> $2 LIMIT 100)
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

func (p *postgres) document(ctx context.Context, id string) (d *document, err error) {
	var text string
	var updated time.Time
	err = p.transact(ctx, "document", func(tx *transaction) error {
		return tx.row(ctx, []any{&text, &updated}, `SELECT text, updated FROM documents WHERE id = $1`, id)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return newDocument(id, text, updated)
}

func (p *postgres) list(ctx context.Context, prefix, after string, limit int) ([]documentInfo, error) {
	infos := []documentInfo{}
	err := p.transact(ctx, "list", func(tx *transaction) error {
		return tx.query(ctx, func(rows *sql.Rows) error {
			var d documentInfo
			err := rows.Scan(&d.ID, &d.Title, &d.Bytes, &d.Chunks, &d.Updated)
			infos = append(infos, d)
			return err
		}, `SELECT id, title, bytes, chunks, updated FROM documents WHERE id LIKE $1 AND id > $2 ORDER BY id LIMIT $3`, likePrefix(prefix), after, limit)
	})
	return infos, err
}

func (p *postgres) size(ctx context.Context) (documents, chunks int, err error) {
	err = p.transact(ctx, "size", func(tx *transaction) error {
		return tx.row(ctx, []any{&documents, &chunks}, `SELECT documents, chunks FROM settings`)
	})
	return documents, chunks, err
}

const (
	fromFolder = "folder"
	fromAPI    = "api"
)

var errFromFolder = userError{http.StatusConflict, "this document comes from DOCS_DIR: change its file there"}

func (p *postgres) put(ctx context.Context, d *document, pre precondition) (created bool, err error) {
	prepared, err := p.prepare(ctx, []*document{d})
	if err != nil {
		return false, err
	}
	written := prepared[:0:0]
	err = p.transact(ctx, "put", func(tx *transaction) error {
		old, err := tx.lock(ctx, d.id)
		switch {
		case err != nil:
			return err
		case old.source == fromFolder:
			return errFromFolder
		}
		created = old.etag == ""
		if err := pre.check(old.etag); err != nil || old.etag == d.etag {
			return err
		}
		written = prepared
		return p.store(ctx, tx, prepared[0], old, fromAPI)
	})
	if err != nil {
		return false, err
	}
	p.stored(written)
	return created, nil
}

func (p *postgres) remove(ctx context.Context, id string, pre precondition) error {
	err := p.transact(ctx, "remove", func(tx *transaction) error {
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
		if _, err := tx.exec(ctx, `DELETE FROM documents WHERE id = $1`, id); err != nil {
			return err
		}
		return p.count(ctx, tx, -1, -old.chunks, id)
	})
	if err == nil {
		p.tell([]string{id})
	}
	return err
}

// folderIDs claims the folder for this replica.
func (p *postgres) folderIDs(ctx context.Context) (ids []string, err error) {
	err = p.transact(ctx, "sync", func(tx *transaction) error {
		mine, finished, err := tx.claim(ctx, "folder", p.replica)
		switch {
		case err != nil:
			return err
		case !mine && !finished:
			return userError{http.StatusServiceUnavailable, "another replica is reading the folder for the first time"}
		case !mine:
			return errElsewhere
		}
		return tx.query(ctx, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		}, `SELECT id FROM documents WHERE source = 'folder'`)
	})
	return ids, err
}

// sync writes what the scan found as long as this replica has the lease. What came over the API stays as it is.
func (p *postgres) sync(ctx context.Context, _ time.Time, changed []*document, gone []string) error {
	prepared, err := p.prepare(ctx, changed)
	if err != nil {
		return err
	}
	written := prepared[:0:0]
	for _, e := range prepared {
		if e.unchanged {
			continue
		}
		err := p.transact(ctx, "sync", func(tx *transaction) error {
			old, err := tx.lock(ctx, e.id)
			if err != nil || old.source == fromAPI || old.etag == e.etag {
				return err
			}
			if err := tx.fence(ctx, p.replica); err != nil {
				return err
			}
			written = append(written, e)
			return p.store(ctx, tx, e, old, fromFolder)
		})
		if err != nil {
			return err
		}
	}
	p.stored(written)
	return p.finish(ctx, gone, changed == nil)
}

// finish removes the documents whose files have gone. At the end of a scan it says that there has been one.
func (p *postgres) finish(ctx context.Context, gone []string, ended bool) error {
	err := p.transact(ctx, "sync", func(tx *transaction) error {
		if err := tx.fence(ctx, p.replica); err != nil {
			return err
		}
		if ended {
			if _, err := tx.exec(ctx, `UPDATE leases SET finished = true WHERE name = 'folder' AND NOT finished`); err != nil {
				return err
			}
		}
		if len(gone) == 0 {
			return nil
		}
		documents, chunks := 0, 0
		err := tx.query(ctx, func(rows *sql.Rows) error {
			var n int
			err := rows.Scan(&n)
			documents, chunks = documents-1, chunks-n
			return err
		}, `DELETE FROM documents WHERE id = ANY($1) AND source = 'folder' RETURNING chunks`, pq.Array(gone))
		if err != nil || documents == 0 {
			return err
		}
		return p.count(ctx, tx, documents, chunks, "")
	})
	if err == nil && len(gone) > 0 {
		p.tell(gone)
	}
	return err
}

// preparedDocument is a document with what is stored beside it, computed before any transaction begins.
type preparedDocument struct {
	*document
	hashes    [][]byte    // SHA-256 of what was embedded, by chunk
	vectors   [][]float32 // by chunk; nil: later
	unchanged bool        // it is stored as it is, and has no vectors here
}

func newPrepared(d *document) *preparedDocument {
	e := &preparedDocument{document: d, vectors: make([][]float32, len(d.chunks))}
	for _, text := range d.inputs() {
		sum := sha256.Sum256([]byte(text))
		e.hashes = append(e.hashes, sum[:])
	}
	return e
}

// prepare embeds the documents that are not stored already as they are. Of a changed document, the chunks that are the
// same keep their vectors. Where the embedder does not answer, vectors are left out: embedMissing fetches them later.
func (p *postgres) prepare(ctx context.Context, documents []*document) ([]*preparedDocument, error) {
	if len(documents) == 0 {
		return nil, nil
	}
	all := make([]*preparedDocument, len(documents))
	ids := make([]string, len(documents))
	var inputs [][]byte
	for i, d := range documents {
		all[i], ids[i] = newPrepared(d), d.id
		inputs = append(inputs, all[i].hashes...)
	}
	etags, vectors, err := p.known(ctx, ids, inputs)
	if err != nil {
		return nil, err
	}
	var texts []string
	var places []*[]float32
	for _, e := range all {
		if e.unchanged = etags[e.id] == e.etag; e.unchanged {
			continue
		}
		for i, text := range e.inputs() {
			if e.vectors[i] = vectors[string(e.hashes[i])]; e.vectors[i] == nil {
				texts, places = append(texts, text), append(places, &e.vectors[i])
			}
		}
	}
	embedded, err := embedInTime(ctx, p.embedder, texts)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for i, v := range embedded {
		*places[i] = v
	}
	if err != nil {
		note(ctx, slog.String("embedding_error", err.Error()))
	}
	return all, nil
}

// known returns the entity tags of those ids that are stored, and the vectors of those inputs that are.
func (p *postgres) known(ctx context.Context, ids []string, inputs [][]byte) (etags map[string]string, vectors map[string][]float32, err error) {
	etags, vectors = make(map[string]string), make(map[string][]float32)
	err = p.transact(ctx, "known", func(tx *transaction) error {
		err := tx.query(ctx, func(rows *sql.Rows) error {
			var id, etag string
			err := rows.Scan(&id, &etag)
			etags[id] = etag
			return err
		}, `SELECT id, etag FROM documents WHERE id = ANY($1)`, pq.Array(ids))
		if err != nil || !p.embedder.costly() {
			return err
		}
		return tx.query(ctx, func(rows *sql.Rows) error {
			var input []byte
			var text string
			if err := rows.Scan(&input, &text); err != nil {
				return err
			}
			v, err := parseVector(text)
			vectors[string(input)] = v
			return err
		}, `SELECT DISTINCT ON (input) input, embedding::text FROM embeddings WHERE input = ANY($1) AND embedding IS NOT NULL`, pq.Array(inputs))
	})
	return etags, vectors, err
}

// storedDocument is what a write has to know of what it replaces. The zero value: there is nothing.
type storedDocument struct {
	etag, source string
	chunks       int
}

// lock makes this transaction the only writer of id, whether it exists or not.
func (tx *transaction) lock(ctx context.Context, id string) (old storedDocument, err error) {
	if _, err := tx.exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, id); err != nil {
		return old, err
	}
	err = tx.row(ctx, []any{&old.etag, &old.source, &old.chunks}, `SELECT etag, source, chunks FROM documents WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return old, err
}

// claim takes or renews the lease of that name. finished: whoever had it before has done the work once.
func (tx *transaction) claim(ctx context.Context, name, replica string) (mine, finished bool, err error) {
	n, err := tx.exec(ctx, `INSERT INTO leases (name, holder, expires) VALUES ($1, $2, now() + $3::interval)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
		WHERE leases.holder = excluded.holder OR leases.expires < now()`, name, replica, leaseDuration.String())
	if err != nil || n > 0 {
		return n > 0, false, err
	}
	err = tx.row(ctx, []any{&finished}, `SELECT finished FROM leases WHERE name = $1`, name)
	return false, finished, err
}

// fence keeps a replica that lost the folder's lease without noticing from writing what it read before, and renews it.
func (tx *transaction) fence(ctx context.Context, replica string) error {
	mine, _, err := tx.claim(ctx, "folder", replica)
	if err == nil && !mine {
		return errElsewhere
	}
	return err
}

// store writes the document, its chunks and their vectors. insertChunks rows a statement bound the memory.
func (p *postgres) store(ctx context.Context, tx *transaction, d *preparedDocument, old storedDocument, source string) error {
	const insertChunks = 500
	_, err := tx.exec(ctx, `INSERT INTO documents (id, title, text, etag, bytes, chunks, source, updated) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET title = excluded.title, text = excluded.text, etag = excluded.etag, bytes = excluded.bytes,
			chunks = excluded.chunks, source = excluded.source, updated = excluded.updated`,
		d.id, d.title, d.text, d.etag, len(d.text), len(d.chunks), source, d.updated)
	if err == nil && old.etag != "" {
		_, err = tx.exec(ctx, `DELETE FROM chunks WHERE document = $1`, d.id)
	}
	if err != nil {
		return err
	}
	for from := 0; from < len(d.chunks); from += insertChunks {
		if err := tx.insertChunks(ctx, d, from, min(from+insertChunks, len(d.chunks))); err != nil {
			return err
		}
	}
	added := 0
	if old.etag == "" {
		added = 1
	}
	return p.count(ctx, tx, added, len(d.chunks)-old.chunks, d.id)
}

func (tx *transaction) insertChunks(ctx context.Context, d *preparedDocument, from, to int) error {
	n := to - from
	positions, lines := make([]int, n), make([]int, n)
	headings, texts, slots, weights := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	vectors := make([]sql.NullString, n)
	for i := range n {
		c := d.chunks[from+i]
		positions[i], lines[i], headings[i], texts[i] = from+i, c.line, c.heading, c.text
		slots[i], weights[i] = lexicalLiterals(lexicalVector(d.title+"\n"+c.heading, c.text))
		vectors[i] = nullVector(d.vectors[from+i])
	}
	_, err := tx.exec(ctx, `INSERT INTO chunks (document, position, heading, line, text, slots, lex)
		SELECT $1, position, heading, line, text, slots::int[], lex::sparsevec
		FROM unnest($2::int[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[]) AS new (position, heading, line, text, slots, lex)`,
		d.id, pq.Array(positions), pq.Array(headings), pq.Array(lines), pq.Array(texts), pq.Array(slots), pq.Array(weights))
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO embeddings (document, position, input, embedding)
		SELECT $1, position, input, embedding::halfvec FROM unnest($2::int[], $3::bytea[], $4::text[]) AS new (position, input, embedding)`,
		d.id, pq.Array(positions), pq.Array(d.hashes[from:to]), pq.Array(vectors))
	return err
}

// count tells the other replicas and the counters. It is the last statement of a write: it holds the row that all writes
// need, as NOTIFY makes all that notify wait for each other anyway.
func (p *postgres) count(ctx context.Context, tx *transaction, documents, chunks int, id string) error {
	_, err := tx.exec(ctx, `WITH counted AS (
			UPDATE settings SET changes = changes + 1, documents = documents + $1::int, chunks = chunks + $2::int RETURNING changes
		) SELECT pg_notify('vitrine', concat_ws(' ', $3::text, changes, $4::text)) FROM counted`, documents, chunks, p.replica, id)
	return err
}

// stored is to be called after documents were stored.
func (p *postgres) stored(documents []*preparedDocument) {
	var ids []string
	complete := true
	for _, d := range documents {
		ids = append(ids, d.id)
		p.modified.Add(int64(len(d.chunks)))
		complete = complete && !slices.ContainsFunc(d.vectors, func(v []float32) bool { return v == nil })
	}
	if len(ids) > 0 {
		p.tell(ids)
	}
	if !complete {
		select {
		case p.missing <- struct{}{}:
		default: // it is awake
		}
	}
}

// frequencies are how many chunks contain a term, as of the last ANALYZE of chunks.slots.
type frequencies struct {
	chunks int
	counts map[term]int // of the 10,000 most common terms
	rare   int          // what a term counts that is not among them
}

// weigh returns the query's lexical vector and, to select candidates, its rarest terms, both as literals. Before the
// first ANALYZE all terms weigh alike. A term that a tenth of the chunks contain selects only if there is no rarer one.
func (f *frequencies) weigh(query []term, counts []float64) (lexical, rarest string) {
	type weighted struct {
		weightedTerm
		df int
	}
	terms := make([]weighted, len(query))
	vector := make([]weightedTerm, len(query))
	for i, t := range query {
		df, ok := f.counts[t]
		if !ok {
			df = f.rare
		}
		if f.chunks > 0 {
			counts[i] *= idf(df, f.chunks)
		}
		vector[i] = weightedTerm{t, float32(counts[i])}
		terms[i] = weighted{vector[i], df}
	}
	slices.SortStableFunc(terms, func(a, b weighted) int { return a.df - b.df })
	var selecting []weightedTerm
	candidates := 0
	for i, t := range terms {
		if candidates < 5*legSize || i < rareTerms && t.df*10 <= f.chunks {
			selecting = append(selecting, t.weightedTerm)
			candidates += t.df
		}
	}
	_, lexical = lexicalLiterals(vector)
	rarest, _ = lexicalLiterals(selecting)
	return lexical, rarest
}

// lexicalLiterals writes a vector sorted by term as an array of its terms and as a sparsevec, whose indices begin at 1.
func lexicalLiterals(vector []weightedTerm) (slots, lex string) {
	array, sparse := []byte{'{'}, []byte{'{'}
	for i, t := range vector {
		if i > 0 {
			array, sparse = append(array, ','), append(sparse, ',')
		}
		array = strconv.AppendUint(array, uint64(t.term), 10)
		sparse = append(strconv.AppendUint(sparse, uint64(t.term)+1, 10), ':')
		sparse = strconv.AppendFloat(sparse, float64(t.weight), 'g', -1, 32)
	}
	return string(append(array, '}')), string(sparse) + "}/" + strconv.Itoa(1<<termBits)
}

// nullVector writes v as a vector literal, no vector as NULL.
func nullVector(v []float32) sql.NullString {
	if v == nil {
		return sql.NullString{}
	}
	text := []byte{'['}
	for i, x := range v {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendFloat(text, float64(x), 'g', -1, 32)
	}
	return sql.NullString{String: string(append(text, ']')), Valid: true}
}

func isZero(v []float32) bool {
	return !slices.ContainsFunc(v, func(x float32) bool { return x != 0 })
}

func parseVector(text string) ([]float32, error) {
	var v []float32
	for number := range strings.SplitSeq(strings.Trim(text, "[]"), ",") {
		x, err := strconv.ParseFloat(number, 32)
		if err != nil {
			return nil, err
		}
		v = append(v, float32(x))
	}
	return v, nil
}

// likePrefix returns the LIKE pattern of what begins with prefix.
func likePrefix(prefix string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(prefix) + "%"
}
