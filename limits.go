package main

// What bounds work: a token bucket per client, a pause that ends early, jobs side by side.

import (
	"cmp"
	"context"
	"net/netip"
	"sync"
	"time"
)

// anyClient is the key of a limiter that all clients share.
var anyClient netip.Prefix

func newLimiter(rate, burst float64) *limiter {
	return &limiter{rate: rate, burst: burst, max: 10_000, buckets: make(map[netip.Prefix]time.Time)}
}

// take takes a token of the client's bucket, or says how long it takes until there is one.
func (l *limiter) take(client netip.Prefix, now time.Time) (wait time.Duration) {
	if l.rate == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	full, known := l.buckets[client]
	if full.Before(now) {
		full = now
	}
	full = full.Add(time.Duration(float64(time.Second) / l.rate))
	if wait = full.Sub(now) - time.Duration(float64(time.Second)*l.burst/l.rate); wait > 0 {
		return wait
	}
	if !known && len(l.buckets) >= l.max {
		l.evict()
	}
	l.buckets[client] = full
	return 0
}

// evict keeps the map bounded: of a few buckets, whichever the map yields first, the fullest goes.
func (l *limiter) evict() {
	var victim netip.Prefix
	looked := 0
	for client, full := range l.buckets {
		if looked == 0 || full.Before(l.buckets[victim]) {
			victim = client
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(l.buckets, victim)
}

const (
	breakerFailures = 3
	probeInterval   = time.Second
)

// breaker is a circuit breaker for something that may be away: the database, the embeddings API. After breakerFailures
// failures in a row it is open. Its zero value is closed.
type breaker struct {
	mu       sync.Mutex
	failures int       // in a row
	probeAt  time.Time // when an open breaker lets the next call through
}

// isOpen reports whether calls are refused, and how many have failed in a row.
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
	b.probeAt = time.Time{}
}

// failed counts a failure and reports whether the breaker is open now.
func (b *breaker) failed(now time.Time) (open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	b.probeAt = now.Add(probeInterval)
	return b.failures >= breakerFailures
}

// recheckInterval is how often background work looks for what it was not told of.
const recheckInterval = 30 * time.Second

// pause reports whether ctx is still wanted after that time.
func pause(ctx context.Context, duration time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(duration):
	}
	return ctx.Err() == nil
}

// inParallel does the jobs, as many at once as there are slots, and returns one of the errors. Once ctx ends, it starts
// no more of them.
func inParallel(ctx context.Context, slots chan struct{}, jobs []func() error) error {
	errs := make([]error, len(jobs))
	var working sync.WaitGroup
	for i, job := range jobs {
		select {
		case slots <- struct{}{}:
			working.Go(func() {
				defer func() { <-slots }()
				errs[i] = job()
			})
		case <-ctx.Done():
			errs[i] = ctx.Err()
		}
	}
	working.Wait()
	return cmp.Or(errs...)
}

const (
	handlerBudget = 10 * time.Second // of the store and the embedder, for one request

	// backgroundBudget is for a document of 8 MiB too, which may have 100,000 sections.
	backgroundBudget = 5 * time.Minute
)

// limiter is a token bucket per client, in a map of bounded size.
type limiter struct {
	rate, burst float64 // rate 0: no limit
	max         int

	mu      sync.Mutex
	buckets map[netip.Prefix]time.Time // when each will be full again, which says how full it is
}

// Deadlines nest: what is outside waits longer than what is inside.
const (
	writeTimeout = 30 * time.Second
	readTimeout  = 30 * time.Second

	maxBodyBytes = 1 << 20
)

const maxDocumentBytes = 8 << 20
