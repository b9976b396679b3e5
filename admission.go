package main

// Admission control: how many operations of a kind run at once, and how many wait. Without it, a load of twice the capacity
// delays all requests until each of them misses its deadline. Admission is fair: the waiting client with the fewest running
// operations comes first, so a client that sends many requests delays mostly its own.

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

// maxAdmissionWait is the longest that an operation waits by default. A search that began later would miss its deadline.
const maxAdmissionWait = 500 * time.Millisecond

// maxSearches is how many searches of the embedded store run at once. They are CPU-bound, so more would not be faster.
func maxSearches() int { return 2 * runtime.GOMAXPROCS(0) }

// errBusy is the error of an operation that is refused.
var errBusy = userError{
	http.StatusServiceUnavailable,
	"too many requests of this kind at once: try again as soon as Retry-After says",
}

// admission admits operations while fewer than limit are running, and queues the others. A nil admission admits all.
type admission struct {
	maxWaiting int
	maxWait    time.Duration

	mu        sync.Mutex           // guards the following
	limit     int                  // operations that run at once
	perClient int                  // operations of one client that run at once
	running   map[netip.Prefix]int // operations by client
	total     int                  // sum of running
	queue     []*waiter            // oldest first
	refused   int64                // operations since the start
}

// waiter is an operation that waits.
type waiter struct {
	client  netip.Prefix
	outcome chan error // gets nil when the operation may run, errBusy when it must not
}

// newSharedAdmission returns an admission of n operations at once, but at least two. One client gets at most half of them, so
// that another client need not wait for an operation of the first to end.
func newSharedAdmission(n int) *admission {
	const clients = 2
	a := newAdmission(max(n, clients))
	a.perClient = a.limit / clients
	return a
}

// newWorkAdmission returns an admission of CPU-bound work that may take a second, such as making a page. As many operations
// run as there are cores, and one client gets half of them, so that the searches of others have the rest. More operations
// may wait than in other admissions, because most pages take less than a millisecond.
func newWorkAdmission() *admission {
	const maxWaiting = 128
	a := newSharedAdmission(runtime.GOMAXPROCS(0))
	a.maxWaiting = maxWaiting
	return a
}

// newTurns returns an admission of short pieces of CPU-bound work, such as encoding the next part of a response. One client
// gets half of the cores. Parts may wait for as long as a response may take, and none is refused before, because a response
// that has begun cannot become an error any more.
func newTurns() *admission {
	a := newSharedAdmission(runtime.GOMAXPROCS(0))
	a.maxWaiting = math.MaxInt
	a.maxWait = writeTimeout
	return a
}

// newDatabaseAdmission returns an admission of searches in PostgreSQL. They wait for the database more than they compute,
// so as many run as there are connections. If RATE_LIMIT is on, one client gets a tenth of them, but at least two. With more,
// its searches would take the database's cores from those of others. Two are enough for the default limit of 50 requests a
// second. Without RATE_LIMIT, one client gets all.
func newDatabaseAdmission(cfg *settings) *admission {
	a := newAdmission(cfg.dbMaxConns)
	if cfg.rateLimit > 0 {
		a.perClient = min(max(2, a.limit/10), a.limit)
	}
	return a
}

// newAdmission returns an admission of n operations at once, which may all be of one client. Another n may wait.
func newAdmission(n int) *admission {
	return &admission{
		limit:      n,
		perClient:  n,
		maxWaiting: n,
		maxWait:    maxAdmissionWait,
		running:    make(map[netip.Prefix]int),
	}
}

// enter waits until an operation of the client may run. The caller must call leave when the operation has ended. The error
// is errBusy if the queue is full or the operation has waited for maxWait, or ctx's error.
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

// join begins an operation and returns nil if there is room. Otherwise it queues the operation and returns its waiter. The
// error is errBusy if the queue is full.
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

// leave ends an operation of the client and begins the next one in the queue.
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

// beginNext begins the operation whose turn it is, if there is room for it. It reports whether it has begun one. The caller
// holds a.mu.
func (a *admission) beginNext() bool {
	if len(a.queue) == 0 || a.total >= a.limit {
		return false
	}
	next := a.next()
	if a.running[next.client] >= a.perClient {
		return false // every waiting client has perClient running: next has the fewest
	}
	a.remove(next)
	a.begin(next.client)
	next.outcome <- nil
	return true
}

// resize sets how many operations run at once, which may all be of one client, and begins those for which there is room now.
// If more than n are running, none begins until fewer than n are.
func (a *admission) resize(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limit = n
	a.perClient = n
	for a.beginNext() {
	}
}

// next returns the oldest waiter of the clients that have the fewest operations running. The queue must not be empty. The
// caller holds a.mu.
func (a *admission) next() *waiter {
	return slices.MinFunc(a.queue, func(x, y *waiter) int {
		return a.running[x.client] - a.running[y.client]
	})
}

// makeRoom refuses the newest operation of the client that has the most in the queue, if these are at least two more than
// those of the given client: with one more, the two clients would only change places. It reports whether there is room now.
// The caller holds a.mu.
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

// remove takes an operation out of the queue. It reports false if the operation is not there. The caller holds a.mu.
func (a *admission) remove(w *waiter) bool {
	i := slices.Index(a.queue, w)
	if i < 0 {
		return false
	}
	a.queue = slices.Delete(a.queue, i, i+1)
	return true
}

// giveUp takes an operation out of the queue and returns cause. If the operation has been begun or refused meanwhile, giveUp
// returns that outcome.
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

// stats returns how many operations wait now, and how many have been refused since the start.
func (a *admission) stats() (waiting, refused int64) {
	if a == nil {
		return 0, 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return int64(len(a.queue)), a.refused
}
