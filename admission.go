package main

// Admission: how many operations of a kind run at once, and how many wait. Without it, a load of twice the capacity
// delays all requests until each of them misses its deadline. Clients share it: the client with the fewest running
// operations comes first, so that many requests of one client do not keep another waiting.

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"
)

// maxAdmissionWait is the longest that a search waits. A search that began later would miss its deadline.
const maxAdmissionWait = 500 * time.Millisecond

// maxSearches is how many searches of the embedded store run at once. They only compute, so more would not be faster.
func maxSearches() int { return 2 * runtime.GOMAXPROCS(0) }

// errBusy is the error of an operation that is not admitted.
var errBusy = userError{
	http.StatusServiceUnavailable,
	"too many requests of this kind at once: try again as soon as Retry-After says",
}

// admission admits operations while there is room. nil admits all.
type admission struct {
	limit      int // of operations that run at once
	perClient  int // of these, at most so many are of one client
	maxWaiting int
	maxWait    time.Duration

	mu      sync.Mutex // guards the following
	running map[netip.Prefix]int
	total   int       // of running
	queue   []*waiter // in the order in which they came
	refused int64     // operations, since the start
}

// waiter is an operation that waits.
type waiter struct {
	client  netip.Prefix
	outcome chan error // gets nil when the operation may run, errBusy when it must not
}

// newSharedAdmission returns an admission of at least two operations at once. One client has at most half of them, so that
// another one need not wait until an operation has ended.
func newSharedAdmission(n int) *admission {
	const clients = 2
	a := newAdmission(max(n, clients))
	a.perClient = a.limit / clients
	return a
}

// newWorkAdmission returns an admission of work that only computes, as searches do, and may take a second. One client gets
// half of the cores, so that the searches of others have the rest. More of it may wait than of searches, because most
// pages take less than a millisecond.
func newWorkAdmission() *admission {
	const maxWaiting = 128
	a := newSharedAdmission(runtime.GOMAXPROCS(0))
	a.maxWaiting = maxWaiting
	return a
}

// newTurns returns an admission of work in small parts, such as those of a response that has begun. One client gets half of
// the cores. No part is refused, because its response cannot become an error any more.
func newTurns() *admission {
	a := newSharedAdmission(runtime.GOMAXPROCS(0))
	a.maxWaiting = math.MaxInt
	a.maxWait = writeTimeout
	return a
}

// newDatabaseAdmission returns an admission of searches in PostgreSQL. They wait for the database more than they compute,
// so there are as many as connections. If clients have a rate limit, one of them has a tenth: with more, its searches take
// the database's cores from those of others, and with two it can reach the default limit of 50 a second.
func newDatabaseAdmission(cfg *settings) *admission {
	a := newAdmission(cfg.dbMaxConns)
	if cfg.rateLimit > 0 {
		a.perClient = min(max(2, a.limit/10), a.limit)
	}
	return a
}

// newAdmission returns an admission of n operations at once. As many more may wait.
func newAdmission(n int) *admission {
	return &admission{
		limit:      n,
		perClient:  n,
		maxWaiting: n,
		maxWait:    maxAdmissionWait,
		running:    make(map[netip.Prefix]int),
	}
}

// enter waits until there is room for an operation of the client. The caller calls leave when it has finished. If too
// many wait already, or it has waited for too long, the error is errBusy.
func (a *admission) enter(ctx context.Context, client netip.Prefix) (leave func(), err error) {
	if a == nil {
		return func() {}, nil
	}
	waiting, err := a.join(client)
	if err != nil {
		return nil, err
	}
	if waiting != nil {
		err := a.wait(ctx, waiting)
		if err != nil {
			return nil, err
		}
	}
	return func() { a.leave(client) }, nil
}

// wait waits for the outcome of a queued operation. It returns nil when the operation may run.
func (a *admission) wait(ctx context.Context, waiting *waiter) error {
	timer := time.NewTimer(a.maxWait)
	defer timer.Stop()
	select {
	case err := <-waiting.outcome:
		return err
	case <-ctx.Done():
		return a.giveUp(waiting, ctx.Err())
	case <-timer.C:
		return a.giveUp(waiting, errBusy)
	}
}

// join begins an operation if there is room, else it queues the operation and returns its place.
func (a *admission) join(client netip.Prefix) (waiting *waiter, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.total < a.limit && a.running[client] < a.perClient {
		a.begin(client)
		return nil, nil
	}
	if len(a.queue) >= a.maxWaiting && !a.makeRoom(client) {
		a.refused++
		return nil, errBusy
	}
	waiting = &waiter{
		client:  client,
		outcome: make(chan error, 1),
	}
	a.queue = append(a.queue, waiting)
	return waiting, nil
}

// begin counts an operation as running. The caller holds a.mu.
func (a *admission) begin(client netip.Prefix) {
	a.running[client]++
	a.total++
}

// leave ends an operation of the client, and begins the next one.
func (a *admission) leave(client netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	a.running[client]--
	if a.running[client] == 0 {
		delete(a.running, client)
	}
	a.beginNext()
}

// beginNext begins the operation that has waited for its turn. It reports false if there is none, or no room for it. The
// caller holds a.mu.
func (a *admission) beginNext() bool {
	if len(a.queue) == 0 || a.total >= a.limit {
		return false
	}
	next := a.next()
	if a.running[next.client] >= a.perClient {
		return false // there is room for other clients only
	}
	a.remove(next)
	a.begin(next.client)
	next.outcome <- nil
	return true
}

// resize sets how many operations run at once, and begins those for which there is room now. If more are running, the
// others wait until enough of them have ended.
func (a *admission) resize(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limit = n
	a.perClient = n
	for a.beginNext() {
	}
}

// next returns the waiter of the client that has the fewest operations running, the oldest first. The queue is not empty.
func (a *admission) next() *waiter {
	return slices.MinFunc(a.queue, func(x, y *waiter) int {
		return a.running[x.client] - a.running[y.client]
	})
}

// makeRoom finds the client that has the most operations in the queue. If these are at least two more than those of the
// given client, it refuses the newest of them and reports true.
func (a *admission) makeRoom(client netip.Prefix) bool {
	if len(a.queue) == 0 {
		return false
	}
	waiting := make(map[netip.Prefix]int)
	newest := a.queue[0]
	for _, w := range a.queue {
		waiting[w.client]++
	}
	for _, w := range a.queue {
		if waiting[w.client] >= waiting[newest.client] {
			newest = w
		}
	}
	if waiting[newest.client] < waiting[client]+2 {
		return false
	}
	a.remove(newest)
	a.refused++
	newest.outcome <- errBusy
	return true
}

// remove takes an operation out of the queue. It reports false if it is not there. The caller holds a.mu.
func (a *admission) remove(w *waiter) bool {
	i := slices.Index(a.queue, w)
	if i < 0 {
		return false
	}
	a.queue = slices.Delete(a.queue, i, i+1)
	return true
}

// giveUp takes an operation out of the queue and returns cause. If its outcome has come meanwhile, giveUp returns that.
func (a *admission) giveUp(w *waiter, cause error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.remove(w) {
		return <-w.outcome
	}
	if errors.Is(cause, errBusy) {
		a.refused++
	}
	return cause
}

// stats returns how many operations wait now, and how many were refused.
func (a *admission) stats() (waiting, refused int64) {
	if a == nil {
		return 0, 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return int64(len(a.queue)), a.refused
}
