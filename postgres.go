package main

// The PostgreSQL store, for several replicas and large collections: its connection pool and its
// transactions.
//
// All statements run in transactions, through transact, except the few in execLong that may take
// minutes. None relies on session state, so the store works behind a transaction pooler. A pooler
// does not pass notifications on: without them, replicas look for changes every recheckInterval.

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
)

// exactChunks is the most chunks that a search scores one by one. For no more than these, that is faster
// than the indexes.
const exactChunks = 20_000

// postgres is the store in a PostgreSQL database. Until open has succeeded, every operation returns
// errUnavailable.
type postgres struct {
	watchers
	dsn          string
	db           *sql.DB
	embedder     embedder
	vectorWeight float64
	exactChunks  int // the constant, except in tests
	observe      *observer
	admission    *admission // of searches; nil: no limit
	writers      *admission // of writes: readers have the other half of the connections
	replica      string     // names this process in leases and notifications

	unavailable atomic.Pointer[string] // why the store is not open; nil once it is
	breaker     breaker
	checks      sync.Mutex                  // serializes checkHealth
	checked     atomic.Pointer[storeStatus] // what checkHealth found last
	checking    atomic.Int64                // when the running check began, in Unix milliseconds; 0: none runs
	frequencies atomic.Pointer[frequencies]

	users      atomic.Int64 // callers that hold a connection or wait for one
	timeouts   atomic.Int64 // callers that timed out while they waited for one
	changes    atomic.Int64 // the value of settings.changes that the watchers know
	modified   atomic.Int64 // chunks written here since the last ANALYZE
	incomplete atomic.Bool  // chunks were stored here without their vectors
}

// newPostgres prepares the store without connecting.
func newPostgres(cfg *settings, e embedder, o *observer) (*postgres, error) {
	connector, err := pq.NewConnector(cfg.databaseURL)
	if err != nil {
		return nil, err
	}

	p := &postgres{
		dsn:          cfg.databaseURL,
		embedder:     e,
		vectorWeight: cfg.vectorWeight,
		exactChunks:  exactChunks,
		observe:      o,
		replica:      rand.Text(),
		writers:      newAdmission(max(1, cfg.dbMaxConns/2)),
	}
	p.writers.maxWaiting = math.MaxInt // they wait for as long as their request may
	p.writers.maxWait = backgroundBudget
	connector.Dialer(deadlineDialer{heard: p.breaker.heard})
	p.db = sql.OpenDB(connector)
	p.db.SetMaxOpenConns(cfg.dbMaxConns)
	p.db.SetMaxIdleConns(cfg.dbMaxConns)
	p.db.SetConnMaxIdleTime(5 * time.Minute)

	p.setUnavailable("the database has not been opened yet")
	p.frequencies.Store(&frequencies{})
	p.checked.Store(&storeStatus{})
	return p, nil
}

func (p *postgres) setUnavailable(reason string) { p.unavailable.Store(&reason) }

// deadlineDialer makes connections whose reads fail if the server is silent for longer than a statement
// may take. Without it, lib/pq waits forever on a network that drops every packet, even for the answer
// to a cancelled statement.
type deadlineDialer struct {
	pq.Dialer        // nil: lib/pq calls only DialContext
	heard     func() // called for everything that the server sends
}

// DialContext dials like net.Dialer.
func (d deadlineDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	return deadlineConn{c, d.heard}, err
}

type deadlineConn struct {
	net.Conn
	heard func()
}

func (c deadlineConn) Read(b []byte) (int, error) {
	// This fails only on a closed connection, where Read fails too.
	_ = c.SetReadDeadline(time.Now().Add(statementTimeout + time.Second))
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard()
	}
	return n, err
}

// transact runs do in a transaction, which it commits unless do fails. Telemetry gets the duration, the
// number of rows and the class of the error, under name. While the store is not open, or its breaker is
// open, transact returns errUnavailable at once. Other errors are as classify returns them.
func (p *postgres) transact(
	ctx context.Context,
	name queryName,
	do func(tx *transaction) error,
) error {
	if reason := p.unavailable.Load(); reason != nil {
		return fmt.Errorf("%w: %s", errUnavailable, *reason)
	}
	if open, cause := p.breaker.isOpen(); open {
		return fmt.Errorf("%w: the database does not answer and is probed every %v: %s",
			errUnavailable, probeInterval, cause)
	}
	return p.attempt(ctx, name, do)
}

// attempt is transact without its checks: it asks the database even if the store is not open or the
// breaker is. open and checkHealth use it to find out whether the database is back.
func (p *postgres) attempt(
	ctx context.Context,
	name queryName,
	do func(tx *transaction) error,
) (err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeLeft(ctx))
	defer cancel()
	p.users.Add(1)
	defer p.users.Add(-1)

	if !name.reads() {
		leave, err := p.writers.enter(ctx, clientOf(ctx))
		if err != nil {
			return p.classify(ctx, name, began, err)
		}
		defer leave()
	}
	conn, err := p.connection(ctx)
	attrs := append(name.attrs(), slog.String("db.system.name", "postgresql"))
	ctx, end := stage(ctx, stageDB, attrs...)
	defer end(&err)
	if err != nil {
		return p.classify(ctx, name, began, err)
	}

	tx, err := p.begin(ctx, conn, name)
	if err != nil {
		return p.classify(ctx, name, began, err)
	}
	defer func() { _ = tx.conn.Close() }() // gives the connection back

	err = tx.run(ctx, do)
	spanAttrs(ctx, slog.Int("db.response.returned_rows", tx.rows))
	if err != nil {
		return p.classify(ctx, name, began, err)
	}

	p.breaker.answered()
	p.committed(tx)
	return nil
}

// connection waits for a connection of the pool, in a stage of its own. The caller must close it.
func (p *postgres) connection(ctx context.Context) (_ *sql.Conn, err error) {
	ctx, end := stage(ctx, stagePoolWait)
	defer end(&err)

	conn, err := p.db.Conn(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		p.timeouts.Add(1)
	}
	return conn, err
}

// begin begins a transaction on conn. A connection that has broken while it was idle is replaced, as
// sql.DB.BeginTx does. Each try discards one of them. If begin fails, it closes conn.
func (p *postgres) begin(ctx context.Context, conn *sql.Conn, name queryName) (*transaction, error) {
	// A standby refuses to begin anything else, and can answer reads.
	options := &sql.TxOptions{ReadOnly: name.reads()}
	begun, err := conn.BeginTx(ctx, options)
	for range p.db.Stats().MaxOpenConnections {
		if !errors.Is(err, driver.ErrBadConn) {
			break
		}
		_ = conn.Close()
		conn, err = p.db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		begun, err = conn.BeginTx(ctx, options)
	}
	if err != nil {
		_ = conn.Close()
		return nil, standbyError(err)
	}

	return &transaction{
		Tx:      begun,
		name:    name,
		conn:    conn,
		comment: sqlComment(ctx),
		replica: p.replica,
	}, nil
}

// committed counts the chunks that tx has written and notifies the watchers.
func (p *postgres) committed(tx *transaction) {
	if len(tx.changed) == 0 {
		return
	}

	p.modified.Add(int64(tx.stored))
	if tx.missing {
		p.incomplete.Store(true)
	}
	p.notify(tx.changed)
}

// transaction runs the statements of one operation. Each statement begins with a comment that names the
// request. The comment comes first because pg_stat_activity cuts statements off at 1 kB.
type transaction struct {
	*sql.Tx
	name    queryName
	conn    *sql.Conn // on which it runs
	comment string    // see sqlComment
	replica string
	rows    int      // number of rows returned so far
	stored  int      // number of chunks written so far
	missing bool     // at least one of these chunks has no vector
	changed []string // ids of changed documents, for the watchers
}

// run calls do and commits, or rolls back after the first error.
func (tx *transaction) run(ctx context.Context, do func(*transaction) error) error {
	defer func() { _ = tx.Rollback() }() // does nothing after Commit

	if err := tx.setLocal(ctx); err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// setLocal sets parameters of the server for this transaction, because the store uses no session state.
// statement_timeout ends a statement on the server before its caller gives up. With hnsw.ef_search, an
// approximate index scan returns the 100 rows asked for instead of 40. It finds 98 % of the ten best
// documents of real questions. A value of 200 finds 99 % and takes a third longer.
func (tx *transaction) setLocal(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	timeout := max(time.Until(deadline)*9/10, time.Millisecond)
	timeout = min(timeout, statementTimeout)

	return tx.exec(ctx, `
		SELECT
			set_config('statement_timeout', $1, true),
			set_config('lock_timeout', $2, true),
			set_config('jit', 'off', true),
			set_config('hnsw.ef_search', '100', true),
			set_config('hnsw.iterative_scan', 'relaxed_order', true)`,
		strconv.FormatInt(timeout.Milliseconds(), 10),
		strconv.FormatInt(tx.lockTimeout().Milliseconds(), 10))
}

// isWriterWaiting reports whether somebody waits for what the query writes.
func (q queryName) isWriterWaiting() bool { return q == queryPut || q == queryRemove }

// maxLockWait is how long a write of a request waits for a lock. A lock that is held for longer, such as that of a
// person at psql, would otherwise take one connection after the other.
const maxLockWait = time.Second

// lockTimeout returns the lock_timeout of this transaction, 0 for none.
func (tx *transaction) lockTimeout() time.Duration {
	if tx.name.isWriterWaiting() {
		return maxLockWait
	}
	return 0
}

func (tx *transaction) exec(ctx context.Context, statement string, args ...any) error {
	_, err := tx.ExecContext(ctx, tx.comment+statement, args...)
	return err
}

// row scans the only row of the answer into to, or returns sql.ErrNoRows.
func (tx *transaction) row(ctx context.Context, to []any, statement string, args ...any) error {
	err := tx.QueryRowContext(ctx, tx.comment+statement, args...).Scan(to...)
	if err != nil {
		return err
	}
	tx.rows++
	return nil
}

// exec runs one statement in a transaction of its own.
func (p *postgres) exec(
	ctx context.Context,
	name queryName,
	statement string,
	args ...any,
) error {
	return p.transact(ctx, name, func(tx *transaction) error {
		return tx.exec(ctx, statement, args...)
	})
}

// row is transaction.row in a transaction of its own.
func (p *postgres) row(
	ctx context.Context,
	name queryName,
	to []any,
	statement string,
	args ...any,
) error {
	return p.transact(ctx, name, func(tx *transaction) error {
		return tx.row(ctx, to, statement, args...)
	})
}

// rows is transaction rows in a transaction of its own: see txRows.
func rows[T any](
	ctx context.Context,
	p *postgres,
	name queryName,
	columns func(row *T) []any,
	statement string,
	args ...any,
) (all []T, err error) {
	err = p.transact(ctx, name, func(tx *transaction) error {
		all, err = txRows(ctx, tx, columns, statement, args...)
		return err
	})
	return all, err
}

// txRows returns all rows of one statement. columns returns the addresses in row that the statement's
// columns are scanned into. The slice is not nil, so JSON has [] for no rows.
func txRows[T any](
	ctx context.Context,
	tx *transaction,
	columns func(row *T) []any,
	statement string,
	args ...any,
) ([]T, error) {
	all := []T{}
	found, err := tx.QueryContext(ctx, tx.comment+statement, args...)
	if err != nil {
		return all, err
	}
	defer found.Close()

	for found.Next() {
		var row T
		if err := found.Scan(columns(&row)...); err != nil {
			return all, err
		}
		all = append(all, row)
	}
	tx.rows += len(all)
	return all, found.Err()
}

// sqlComment returns a comment that names the request of ctx (google.github.io/sqlcommenter). Its values
// need no escaping: see isCorrelationID.
func sqlComment(ctx context.Context) string {
	h := make(http.Header)
	propagate(ctx, h)
	if len(h) == 0 {
		return ""
	}
	return "/*correlation_id='" + h.Get("X-Correlation-Id") + "'," +
		"traceparent='" + h.Get("Traceparent") + "'*/ "
}

// execLong runs statements without a deadline, on a connection of their own. Behind a transaction
// pooler a SET may reach another session, which makes building an index slower and nothing worse.
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

// pool returns the statistics of the connection pool. sql.DBStats does not count the callers that wait.
func (p *postgres) pool() poolStats {
	stats := p.db.Stats()
	return poolStats{
		used:     stats.InUse,
		idle:     stats.Idle,
		max:      stats.MaxOpenConnections,
		pending:  max(0, int(p.users.Load())-stats.InUse),
		waited:   stats.WaitDuration,
		timeouts: p.timeouts.Load(),
	}
}

// close ends this replica's leases, so that others need not wait until they expire, and closes all
// connections.
func (p *postgres) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.exec(ctx, queryMaintain, `UPDATE leases SET expires = now() WHERE holder = $1`, p.replica)
	_ = p.db.Close()
}
