package main

// What bounds work: sizes and deadlines, a token bucket per client, a circuit breaker, jobs side by side.

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

// Deadlines nest: an outer one is longer than those inside it.
const (
	readTimeout  = 30 * time.Second
	writeTimeout = 30 * time.Second

	// handlerBudget is for the store and the embedder, for one request.
	handlerBudget = 10 * time.Second

	// backgroundBudget is for one write of a background job. A document of 8 MiB may have 100,000 sections.
	backgroundBudget = 5 * time.Minute
)

// recheckInterval is how often background work looks for changes that no notification has told it of.
const recheckInterval = 30 * time.Second

// poolStats are the numbers of a pool of connections. The zero value is for a store that has none.
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

// anyClient is the key of a limiter that all clients share.
var anyClient netip.Prefix

// newLimiter returns a limiter that lets through rate calls a second per client, and burst calls at once.
func newLimiter(rate, burst float64) *limiter {
	return &limiter{
		rate:       rate,
		burst:      burst,
		maxClients: 10_000,
		fullAt:     make(map[netip.Prefix]time.Time),
	}
}

// take takes a token from the client's bucket and returns 0, or else how long to wait for one. A bucket is kept as the
// time at which it will be full (the generic cell rate algorithm, ITU-T I.371): a token adds 1/rate seconds, and an empty
// bucket is full again in burst/rate seconds.
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

// evict keeps the map bounded: of 16 buckets in the map's random order, the fullest goes.
func (l *limiter) evict() {
	const sample = 16
	var victim netip.Prefix
	looked := 0
	for client, fullAt := range l.fullAt {
		if looked == 0 || fullAt.Before(l.fullAt[victim]) {
			victim = client
		}
		looked++
		if looked == sample {
			break
		}
	}
	delete(l.fullAt, victim)
}

const (
	breakerFailures = 3
	probeInterval   = time.Second
)

// breaker is a circuit breaker for a service that may be away: the database, the embeddings API. It opens after
// breakerFailures failures in a row. Its zero value is closed.
type breaker struct {
	mu       sync.Mutex
	failures int       // in a row
	probeAt  time.Time // when the open breaker lets the next call through
}

// isOpen reports whether the service is taken to be away, and how many calls have failed in a row.
func (b *breaker) isOpen() (open bool, failures int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= breakerFailures, b.failures
}

// allow reports whether a call may be made: any while the breaker is closed, one every probeInterval while it is open.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures >= breakerFailures && now.Before(b.probeAt) {
		return false
	}
	b.probeAt = now.Add(probeInterval)
	return true
}

// succeeded closes the breaker.
func (b *breaker) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = 0
}

// failed counts a failure and reports whether the breaker is open now.
func (b *breaker) failed(now time.Time) (open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	b.probeAt = now.Add(probeInterval)
	return b.failures >= breakerFailures
}

// pause sleeps and reports whether ctx is still alive. It ends early with ctx.
func pause(ctx context.Context, duration time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(duration):
	}
	return ctx.Err() == nil
}

// inParallel runs jobs, as many at once as slots has room for, and returns the first error by the order of the jobs.
// Once ctx has ended it starts no more of them.
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
