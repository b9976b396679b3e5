package main

// How the replicas of one database hear of each other's changes. A notification is only a hint: the number of changes in
// the database is the truth, so a change whose notification is lost or cannot be sent is found later.

import (
	"context"
	"fmt"
	"sync"

	"github.com/lib/pq"
)

// changeCount compares the changes of all replicas with those that the watchers of this one were told about. The number
// of a change is the value of settings.changes after it. The zero value is ready to use.
type changeCount struct {
	mu    sync.Mutex
	known int64 // the number of the last change that was read from the database
	heard int64 // how many changes after that the watchers were told about
}

// hear counts a change that the watchers are told about.
func (c *changeCount) hear(number int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if number > c.known {
		c.heard++
	}
}

// catchUp takes the number of the last change in the database. It reports whether the watchers may have missed a change.
// They may be told once too often, if a notification is on its way.
func (c *changeCount) catchUp(last int64) (missed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	missed = last-c.known > c.heard
	c.known = last
	c.heard = 0
	return missed
}

// total returns how many changes are known.
func (c *changeCount) total() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known + c.heard
}

// announce notifies the other replicas of the change that tx has committed: see postgres.notified. It does so in a
// transaction of its own, because PostgreSQL fails a transaction for whose notification its queue has no room. Its
// commit does not wait for the disk, because a notification does not survive a crash of the server anyway.
func (tx *transaction) announce(ctx context.Context) error {
	payload := fmt.Sprint(tx.replica, " ", tx.change)
	if len(tx.changed) == 1 {
		payload += " " + tx.changed[0]
	}
	_, err := tx.conn.ExecContext(ctx, tx.comment+
		"SELECT set_config('synchronous_commit', 'off', true), "+
		"pg_notify('vitrine', "+pq.QuoteLiteral(payload)+")")
	return err
}
