package main

// The PostgreSQL store, for several replicas and large collections, and its transactions.
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
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
)

// exactChunks is the largest number of chunks that a search scores one by one. For more, the indexes are
// faster.
const exactChunks = 20_000

// postgres is the store in a PostgreSQL database. Until open has succeeded, every operation returns
// errUnavailable.
type postgres struct {
	watchers
	dsn          string
	conns        dbPool
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
	checking    atomic.Pointer[time.Time]   // when the running check began; nil: none runs
	frequencies atomic.Pointer[frequencies]
	recent      *recentDocuments

	changes    changeCount  // the changes that the watchers were told about
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
		recent:       newRecentDocuments(),
		writers:      newAdmission(1),
	}
	p.writers.maxWaiting = math.MaxInt // they wait for as long as their request may
	p.writers.maxWait = backgroundBudget
	connector.Dialer(deadlineDialer{heard: p.breaker.heard})
	p.conns.resized = func(conns int) { p.writers.resize(max(1, conns/2)) }
	p.conns.open(loginConnector{connector}, cfg.dbMaxConns)

	p.setUnavailable("the database has not been opened yet")
	p.frequencies.Store(&frequencies{})
	p.checked.Store(&storeStatus{})
	return p, nil
}

// setUnavailable makes every operation fail with errUnavailable and the reason.
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

// deadlineConn is a connection of deadlineDialer.
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
) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeLeft(ctx))
	defer cancel()
	p.conns.users.Add(1)
	defer p.conns.users.Add(-1)

	if !name.reads() {
		leave, err := p.writers.enter(ctx, clientOf(ctx))
		if err != nil {
			return p.classify(ctx, name, began, err)
		}
		defer leave()
	}
	tx := &transaction{name: name, replica: p.replica}
	defer tx.close()
	err := p.perform(ctx, tx, do)
	if err != nil {
		return err
	}
	p.committed(ctx, tx)
	return nil
}

// perform begins tx, runs do in a stage of its own, and commits. The caller must close tx.
func (p *postgres) perform(
	ctx context.Context,
	tx *transaction,
	do func(tx *transaction) error,
) (err error) {
	began := time.Now()
	tx.conn, err = p.conns.wait(ctx)
	ctx, end := stage(ctx, stageDB, tx.name.databaseAttrs()...)
	defer end(&err)
	if err != nil {
		return p.classify(ctx, tx.name, began, err)
	}
	err = p.begin(ctx, tx)
	if err != nil {
		return p.classify(ctx, tx.name, began, err)
	}

	err = tx.run(ctx, do)
	spanAttrs(ctx, slog.Int("db.response.returned_rows", tx.rows))
	if err != nil {
		return p.classify(ctx, tx.name, began, err)
	}
	p.breaker.answered()
	return nil
}

// databaseAttrs returns the attributes of a query to PostgreSQL.
func (q queryName) databaseAttrs() []slog.Attr {
	return append(q.attrs(), slog.String("db.system.name", "postgresql"))
}

// begin begins tx on its connection. It replaces a connection that has broken while it was idle, as
// sql.DB.BeginTx does. Each try discards one of them.
func (p *postgres) begin(ctx context.Context, tx *transaction) (err error) {
	tx.comment = sqlComment(ctx)
	options := &sql.TxOptions{
		// In another level, which a database may have as its default, a write that waits for the lock of its id fails: it does
		// not see what was written meanwhile.
		Isolation: sql.LevelReadCommitted,
		// A standby refuses to begin anything else, and can answer reads.
		ReadOnly: tx.name.reads(),
	}
	tx.Tx, err = tx.conn.BeginTx(ctx, options)
	for range p.conns.maxConns {
		if !errors.Is(err, driver.ErrBadConn) {
			break
		}
		tx.close()
		tx.conn, err = p.conns.take(ctx)
		if err != nil {
			return err
		}
		tx.Tx, err = tx.conn.BeginTx(ctx, options)
	}
	return standbyError(err)
}

// committed counts the chunks that tx has written, and notifies the watchers of all replicas.
func (p *postgres) committed(ctx context.Context, tx *transaction) {
	if len(tx.changed) == 0 {
		return
	}

	p.modified.Add(int64(tx.stored))
	if tx.missing {
		p.incomplete.Store(true)
	}
	p.changes.hear(tx.change)
	p.notify(tx.changed)
	p.announce(ctx, tx)
}

// maxAnnounceTime is how long a write waits for its notification to be sent.
const maxAnnounceTime = time.Second

// announce sends the notification of a change, in a stage of its own. If that fails, the other replicas find the change
// when they recheck.
func (p *postgres) announce(ctx context.Context, tx *transaction) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxAnnounceTime)
	defer cancel()
	ctx, end := stage(ctx, stageDB, queryNotify.databaseAttrs()...)

	began := time.Now()
	err := tx.announce(ctx)
	if err != nil {
		err = p.classify(ctx, queryNotify, began, err)
		logAttrs(ctx, slog.String("notify_error", err.Error()))
	}
	end(&err)
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

// rows is txRows in a transaction of its own.
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

func (p *postgres) pool() poolStats { return p.conns.stats() }

// close ends this replica's leases, so that others need not wait until they expire, and closes all
// connections.
func (p *postgres) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.exec(ctx, queryMaintain, `UPDATE leases SET expires = now() WHERE holder = $1`, p.replica)
	_ = p.conns.db.Close()
}
