package main

// The connections of the PostgreSQL store: what it does when the server has no more of them, and when what a session
// began with is out of date.

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// dbPool is the connection pool of a database.
type dbPool struct {
	db       *sql.DB
	maxConns int // that the settings allow

	// resized is called with how many connections there may be now.
	resized func(conns int)

	users      atomic.Int64 // callers that hold a connection or wait for one
	timeouts   atomic.Int64 // callers that timed out while they waited for one
	refusedAt  atomic.Int64 // when the server last refused one more connection, in Unix milliseconds
	readOnlyAt atomic.Int64 // when a session was last read-only by default, in Unix milliseconds
}

// open prepares the pool without connecting.
func (c *dbPool) open(connector driver.Connector, maxConns int) {
	c.db = sql.OpenDB(connector)
	c.maxConns = maxConns
	c.grow()
	c.db.SetConnMaxIdleTime(5 * time.Minute)
}

// grow lets the pool have as many connections as the settings allow.
func (c *dbPool) grow() {
	c.db.SetMaxOpenConns(c.maxConns)
	c.db.SetMaxIdleConns(c.maxConns)
	c.resized(c.maxConns)
}

// wait waits for a connection, in a stage of its own.
func (c *dbPool) wait(ctx context.Context) (_ *sql.Conn, err error) {
	ctx, end := stage(ctx, stagePoolWait)
	defer end(&err)

	conn, err := c.take(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		c.timeouts.Add(1)
	}
	return conn, err
}

// take takes a connection. If the server has no more, it waits for one of those that are open.
func (c *dbPool) take(ctx context.Context) (*sql.Conn, error) {
	conn, err := c.db.Conn(ctx)
	for c.makeDo(err) {
		conn, err = c.db.Conn(ctx)
	}
	return conn, err
}

// makeDo keeps the pool from asking for more connections than it has, if err says that the server has no more. Each
// refusal costs the server a process. It reports whether the pool has any connection to wait for.
func (c *dbPool) makeDo(err error) bool {
	if pq.As(err, pqerror.TooManyConnections) == nil {
		return false
	}
	open := c.db.Stats().OpenConnections
	if open == 0 {
		return false
	}
	c.refusedAt.Store(time.Now().UnixMilli())
	c.db.SetMaxOpenConns(open)
	c.resized(open)
	return true
}

// isShort reports whether the server has refused a connection just now.
func (c *dbPool) isShort() bool {
	refusedAt := time.UnixMilli(c.refusedAt.Load())
	return time.Since(refusedAt) < 2*probeInterval
}

// renew replaces connections after a second. A session keeps the default_transaction_read_only of the database or of the
// role that it began with, so only a new one is writable again.
func (c *dbPool) renew() {
	c.readOnlyAt.Store(time.Now().UnixMilli())
	c.db.SetConnMaxLifetime(probeInterval)
}

// restore ends what makeDo has begun, and what renew has begun unless it was called lately.
func (c *dbPool) restore() {
	readOnlyAt := time.UnixMilli(c.readOnlyAt.Load())
	if time.Since(readOnlyAt) > recheckInterval {
		c.db.SetConnMaxLifetime(0)
	}
	if c.db.Stats().MaxOpenConnections < c.maxConns {
		c.grow()
	}
}

// stats returns the statistics of the pool. sql.DBStats does not count the callers that wait.
func (c *dbPool) stats() poolStats {
	stats := c.db.Stats()
	return poolStats{
		used:     stats.InUse,
		idle:     stats.Idle,
		max:      stats.MaxOpenConnections,
		pending:  max(0, int(c.users.Load())-stats.InUse),
		waited:   stats.WaitDuration,
		timeouts: c.timeouts.Load(),
	}
}
