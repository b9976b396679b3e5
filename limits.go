package main

// Limits: sizes, deadlines, a token bucket per client, and jobs in parallel.

import (
	"cmp"
	"context"
	"net/netip"
	"sync"
	"time"
)

// Sizes of what is read from callers, in bytes.
const (
	maxBodyBytes     = 1 << 20
	maxDocumentBytes = 8 << 20
)

// Timeouts. An outer one is longer than those inside it.
const (
	readTimeout  = 30 * time.Second
	writeTimeout = 30 * time.Second

	// handlerBudget is the time that one request may spend in the store and the embedder.
	handlerBudget = 10 * time.Second

	// backgroundBudget is the time that one write of a background job may take. It is long, because a document of 8 MiB
	// may have 100,000 sections.
	backgroundBudget = 5 * time.Minute
)

// recheckInterval is how often background work looks for changes without a notification.
const recheckInterval = 30 * time.Second

// poolStats are the numbers of a connection pool. They are zero for a store without one.
type poolStats struct {
	used     int
	idle     int
	max      int
	pending  int           // callers that wait for a connection
	waited   time.Duration // by all callers together
	timeouts int64         // callers that gave up waiting
}

// limiter is a token bucket per client, in a map of bounded size.
type limiter struct {
	rate       float64 // tokens a second; 0: no limit
	burst      float64 // tokens in a full bucket
	maxClients int

	mu     sync.Mutex
	fullAt map[netip.Prefix]time.Time // when a client's bucket will be full again; absent: it is full
}

// anyClient is the client where clients are not told apart: in background work, and in a limiter with one bucket for all.
var anyClient netip.Prefix

// newLimiter returns a limiter that allows each client rate calls a second, and burst calls at once.
func newLimiter(rate, burst float64) *limiter {
	return &limiter{
		rate:       rate,
		burst:      burst,
		maxClients: 10_000,
		fullAt:     make(map[netip.Prefix]time.Time),
	}
}

// take takes a token from the client's bucket and returns 0. If there is none, it returns how long to wait for one. The
// limiter stores for each bucket only the time at which it will be full (generic cell rate algorithm, ITU-T I.371). Each
// token taken adds 1/rate seconds. An empty bucket is full again after burst/rate seconds.
func (l *limiter) take(client netip.Prefix, now time.Time) (wait time.Duration) {
	if l.rate == 0 {
		return 0
	}
	perToken := time.Duration(float64(time.Second) / l.rate)
	perBucket := time.Duration(float64(time.Second) * l.burst / l.rate)

	l.mu.Lock()
	defer l.mu.Unlock()
	fullAt, exists := l.fullAt[client]
	if fullAt.Before(now) {
		fullAt = now
	}
	fullAt = fullAt.Add(perToken)
	wait = fullAt.Sub(now) - perBucket
	if wait > 0 {
		return wait
	}
	if !exists && len(l.fullAt) >= l.maxClients {
		l.evict()
	}
	l.fullAt[client] = fullAt
	return 0
}

// clientPrefix returns the network that counts as one client: one IPv4 address, or an IPv6 /64. An IPv4 address mapped into
// IPv6 counts as the IPv4 address.
func clientPrefix(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // the number of bits fits the address
	return prefix
}

// evict removes the fullest of 16 buckets, which it takes in the map's random order. A full bucket loses least.
func (l *limiter) evict() {
	const sample = 16
	var victim netip.Prefix
	seen := 0
	for client, fullAt := range l.fullAt {
		if seen == 0 || fullAt.Before(l.fullAt[victim]) {
			victim = client
		}
		seen++
		if seen == sample {
			break
		}
	}
	delete(l.fullAt, victim)
}

// pause sleeps for duration or until ctx ends. It reports whether ctx has not ended.
func pause(ctx context.Context, duration time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(duration):
	}
	return ctx.Err() == nil
}

// inParallel runs jobs, as many at once as slots has room for. It returns the first error in the order of the jobs. A job
// that waits for a slot when ctx ends is not started.
func inParallel(ctx context.Context, slots chan struct{}, jobs []func() error) error {
	errs := make([]error, len(jobs))
	var running sync.WaitGroup
	for i, job := range jobs {
		select {
		case slots <- struct{}{}:
			running.Go(func() {
				defer func() { <-slots }()
				errs[i] = job()
			})
		case <-ctx.Done():
			errs[i] = ctx.Err()
		}
	}
	running.Wait()
	return cmp.Or(errs...)
}

const (
	// reservedFiles are for the documents, the database and the logs.
	reservedFiles = 64

	minConnections = 16
)

// defaultMaxConnections returns how many connections the limit of open files leaves room for.
func defaultMaxConnections() int {
	return max(minConnections, maxOpenFiles()-reservedFiles)
}
