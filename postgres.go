package main

// The PostgreSQL store, for several replicas and large sets: its pool, its transactions and the classes of its errors. All
// statements run in transact, but for the few in run that take long. They keep no state in a session, so they work
// through a transaction pooler; only the notifications do not get through one, and for them there is a look every
// recheckInterval.

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
)

// statementTimeout ends a statement on the server, well before the caller's own deadline.
const statementTimeout = handlerBudget / 2

const (
	// exactChunks is up to how many chunks a search looks at every one: below, that is faster than the indexes.
	exactChunks = 20_000

	// rareTerms is how many of a query's terms select the candidates of the lexical leg in a larger collection. On
	// 96,000 chunks the 50 best were the same as without.
	rareTerms = 4
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
	breaker     breaker
	users       atomic.Int64 // who has a connection or waits for one
	timeouts    atomic.Int64 // who waited in vain
	seen        atomic.Int64 // settings.changes as far as the watchers know
	modified    atomic.Int64 // chunks written here since the last ANALYZE
	incomplete  atomic.Bool  // a document is stored without some of its vectors
	frequencies atomic.Pointer[frequencies]
}

// newPostgres prepares the store without connecting.
func newPostgres(cfg *settings, e embedder, o *observer) (*postgres, error) {
	connector, err := pq.NewConnector(cfg.databaseURL)
	if err != nil {
		return nil, err
	}
	connector.Dialer(deadlineDialer{})
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

// deadlineDialer makes connections whose reads fail when the server is silent for longer than a statement may take. Where
// a network drops everything, lib/pq would wait for ever, even for the answer of a cancelled statement.
type deadlineDialer struct{ pq.Dialer } // of which only DialContext is called where there is one

// DialContext dials like net.Dialer.
func (deadlineDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	return deadlineConn{c}, err
}

type deadlineConn struct{ net.Conn }

func (c deadlineConn) Read(b []byte) (int, error) {
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

// transact does a named query in one transaction, and tells what became of it: the time, the class of its
// error, the rows. Every statement of a request goes through here.
func (p *postgres) transact(ctx context.Context, name queryName, do func(tx *transaction) error) error {
	if problem := p.problem.Load(); problem != nil {
		return fmt.Errorf("%w: %s", errUnavailable, *problem)
	}
	if open, n := p.breaker.isOpen(); open {
		return fmt.Errorf("%w: the database has failed %d times in a row and is probed every %v", errUnavailable, n, probeInterval)
	}
	return p.attempt(ctx, name, do)
}

// attempt is transact whatever the state of the database.
func (p *postgres) attempt(ctx context.Context, name queryName, do func(tx *transaction) error) (err error) {
	ctx, end := stage(ctx, "db", append(name.attrs(), slog.String("db.system.name", "postgresql"))...)
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
	err = tx.setLocal(ctx)
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
		p.notify(tx.changed)
	}
	spanAttrs(ctx, slog.Int("db.response.returned_rows", tx.rows))
	return p.classify(ctx, err)
}

// exec runs one statement in a transaction of its own.
func (p *postgres) exec(ctx context.Context, name queryName, statement string, args ...any) error {
	return p.transact(ctx, name, func(tx *transaction) error { return tx.exec(ctx, statement, args...) })
}

// row asks for one row in a transaction of its own.
func (p *postgres) row(ctx context.Context, name queryName, to []any, statement string, args ...any) error {
	return p.transact(ctx, name, func(tx *transaction) error { return tx.row(ctx, to, statement, args...) })
}

// rows asks for any number of rows in a transaction of its own. columns says where in a T those of the statement go.
func rows[T any](ctx context.Context, p *postgres, name queryName, columns func(row *T) []any, statement string, args ...any) ([]T, error) {
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

// setLocal sets for the rest of the transaction what a session would have set: the server ends a statement before its caller
// gives up, and an approximate index scan yields the 100 rows that are asked for instead of 40. Of the ten best documents
// of real questions .98 are found, with ef_search 200 .99 and a third slower.
func (tx *transaction) setLocal(ctx context.Context) error {
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

func (e *databaseError) Error() string     { return "database: " + e.class + ": " + e.err.Error() }
func (e *databaseError) errorType() string { return e.class }
func (e *databaseError) Unwrap() []error   { return []error{e.err, e.kind} }

// classify tells by the context first what an error is, since a cancelled statement fails in many ways, then by SQLSTATE.
// It counts the failures that open the breaker.
func (p *postgres) classify(ctx context.Context, err error) error {
	_, isUsers := errors.AsType[userError](err)
	if err == nil || isUsers || errors.Is(err, sql.ErrNoRows) || errors.Is(err, errElsewhere) {
		p.breaker.succeeded()
		return err
	}
	state := pq.As(err)
	if state != nil {
		spanAttrs(ctx, slog.String("db.response.status_code", string(state.Code)))
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
		p.breaker.succeeded()
	} else {
		p.breaker.failed(time.Now())
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
		used: stats.InUse, idle: stats.Idle, max: stats.MaxOpenConnections, pending: max(0, int(p.users.Load())-stats.InUse),
		waited: stats.WaitDuration, timeouts: p.timeouts.Load(),
	}
}

// close gives the leases back, so that another replica need not wait for them, and ends the connections.
func (p *postgres) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.exec(ctx, queryMaintain, `UPDATE leases SET expires = now() WHERE holder = $1`, p.replica) // they expire anyway
	_ = p.db.Close()
}

// probe asks a database that has failed, once a second, until it answers.
func (p *postgres) probe(ctx context.Context) {
	for pause(ctx, probeInterval) {
		if open, _ := p.breaker.isOpen(); !open {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, probeInterval)
		if p.attempt(ctx, queryMaintain, func(*transaction) error { return nil }) == nil {
			p.observe.log.InfoContext(ctx, "database answers again")
		}
		cancel()
	}
}

// execLong runs statements that may take as long as they need, on a connection of their own. Behind a transaction pooler a SET
// may miss its mark, which makes a build slower and nothing worse.
func (p *postgres) execLong(ctx context.Context, statements ...string) error {
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
