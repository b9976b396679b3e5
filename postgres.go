package main

// The PostgreSQL store, for several replicas and large collections: its connection pool, its
// transactions and the classes of its errors.
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
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

const (
	// statementTimeout ends a statement on the server, well before the caller's own deadline.
	statementTimeout = handlerBudget / 2

	// exactChunks is the most chunks that a search scores one by one. For no more than these, that is
	// faster than the indexes.
	exactChunks = 20_000
)

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
	replica      string // names this process in leases and notifications

	unavailable atomic.Pointer[string] // why the store is not open; nil once it is
	breaker     breaker
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
	connector.Dialer(deadlineDialer{})

	p := &postgres{
		dsn:          cfg.databaseURL,
		db:           sql.OpenDB(connector),
		embedder:     e,
		vectorWeight: cfg.vectorWeight,
		exactChunks:  exactChunks,
		observe:      o,
		replica:      rand.Text(),
	}
	p.db.SetMaxOpenConns(cfg.dbMaxConns)
	p.db.SetMaxIdleConns(cfg.dbMaxConns)
	p.db.SetConnMaxIdleTime(5 * time.Minute)

	p.setUnavailable("the database has not been opened yet")
	p.frequencies.Store(&frequencies{})
	return p, nil
}

func (p *postgres) setUnavailable(reason string) { p.unavailable.Store(&reason) }

// deadlineDialer makes connections whose reads fail if the server is silent for longer than a statement
// may take. Without it, lib/pq waits forever on a network that drops every packet, even for the answer
// to a cancelled statement.
type deadlineDialer struct {
	pq.Dialer // nil: lib/pq calls only DialContext
}

// DialContext dials like net.Dialer.
func (deadlineDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	return deadlineConn{c}, err
}

type deadlineConn struct{ net.Conn }

func (c deadlineConn) Read(b []byte) (int, error) {
	// This fails only on a closed connection, where Read fails too.
	_ = c.SetReadDeadline(time.Now().Add(statementTimeout + time.Second))
	return c.Conn.Read(b)
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
	if open, failures := p.breaker.isOpen(); open {
		return fmt.Errorf("%w: the database has failed %d times in a row and is probed every %v",
			errUnavailable, failures, probeInterval)
	}
	return p.attempt(ctx, name, do)
}

// attempt is transact without its checks: it asks the database even if the store is not open or the
// breaker is. open and probe use it to find out whether the database is back.
func (p *postgres) attempt(
	ctx context.Context,
	name queryName,
	do func(tx *transaction) error,
) (err error) {
	attrs := append(name.attrs(), slog.String("db.system.name", "postgresql"))
	ctx, end := stage(ctx, stageDB, attrs...)
	defer end(&err)
	ctx, cancel := context.WithTimeout(ctx, timeLeft(ctx))
	defer cancel()
	p.users.Add(1)
	defer p.users.Add(-1)

	tx, err := p.begin(ctx)
	if err != nil {
		return p.classify(ctx, err)
	}

	err = tx.run(ctx, do)
	spanAttrs(ctx, slog.Int("db.response.returned_rows", tx.rows))
	if err != nil {
		return p.classify(ctx, err)
	}

	p.breaker.succeeded()
	p.committed(tx)
	return nil
}

// begin waits for a connection and begins a transaction on it.
func (p *postgres) begin(ctx context.Context) (*transaction, error) {
	begun, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			p.timeouts.Add(1)
		}
		return nil, err
	}

	return &transaction{Tx: begun, comment: sqlComment(ctx), replica: p.replica}, nil
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
	comment string // see sqlComment
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
			set_config('jit', 'off', true),
			set_config('hnsw.ef_search', '100', true),
			set_config('hnsw.iterative_scan', 'relaxed_order', true)`,
		strconv.FormatInt(timeout.Milliseconds(), 10))
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

// databaseError is an error of the database with the class that telemetry reports.
type databaseError struct {
	class string // canceled, timeout, connection, an SQLSTATE, or _OTHER
	err   error
	kind  error // for the caller: errUnavailable, context.Canceled or nil
}

func (e *databaseError) Error() string {
	return "database: " + e.class + ": " + e.err.Error()
}

func (e *databaseError) Unwrap() []error   { return []error{e.err, e.kind} }
func (e *databaseError) errorType() string { return e.class }

// classify returns the error of a transaction as a databaseError and tells the breaker whether the
// database works. It does not wrap an error that isAnswer accepts.
func (p *postgres) classify(ctx context.Context, err error) error {
	if isAnswer(err) {
		p.breaker.succeeded()
		return err
	}
	if state := pq.As(err); state != nil {
		spanAttrs(ctx, slog.String("db.response.status_code", string(state.Code)))
	}

	if errors.Is(ctx.Err(), context.Canceled) {
		// The caller has gone. That says nothing about the database.
		return &databaseError{class: "canceled", err: err, kind: context.Canceled}
	}

	class, isAway := errorClass(ctx, err)
	if isAway {
		p.breaker.failed(time.Now())
		return &databaseError{class: class, err: err, kind: errUnavailable}
	}
	p.breaker.succeeded()
	return &databaseError{class: class, err: err}
}

// isAnswer reports whether err is a normal result of a working database, such as no rows.
func isAnswer(err error) bool {
	_, isUserError := errors.AsType[userError](err)
	return isUserError ||
		errors.Is(err, sql.ErrNoRows) ||
		errors.Is(err, errElsewhere)
}

// errorClass returns the class of err, and whether the database is away, so that the same statement may
// succeed later. It checks ctx first, because a statement that reaches its deadline fails in many ways.
func errorClass(ctx context.Context, err error) (class string, isAway bool) {
	if ctx.Err() != nil {
		return "timeout", true
	}
	if state := pq.As(err); state != nil {
		isAway = slices.Contains(awayClasses, state.Code.Class()) ||
			state.Code == pqerror.ReadOnlySQLTransaction // a standby: the primary has moved
		return string(state.Code), isAway
	}
	if isConnectionError(err) {
		return "connection", true
	}
	return "_OTHER", false
}

// awayClasses are the classes of SQLSTATE that blame the server, not the statement.
var awayClasses = []pqerror.Class{
	pqerror.ClassConnectionException,
	pqerror.ClassInsufficientResources,
	pqerror.ClassOperatorIntervention,
	pqerror.ClassSystemError,
}

func isConnectionError(err error) bool {
	_, isNetwork := errors.AsType[net.Error](err)
	return isNetwork ||
		errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF)
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
