package main

// The circuit breaker. The database has one, and so has the embeddings API. It opens if the service cannot be reached or
// stays silent. A slow service does not open it. While it is open, a background loop asks the service whether it is back.
// Requests are never used for that.

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// breakerFailures is how many calls in a row must fail to reach the service before the breaker opens.
	breakerFailures = 3

	// probeInterval is the pause between two probes by the background loop.
	probeInterval = time.Second
)

// breaker is a circuit breaker for a service that may be unavailable. The zero value is closed.
type breaker struct {
	mu       sync.Mutex
	failures int       // in a row
	cause    string    // of the last failure
	heardAt  time.Time // when the service last sent anything
}

// isOpen reports whether calls must not be made, and why.
func (b *breaker) isOpen() (open bool, cause string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= breakerFailures, b.cause
}

// heard records a sign of life, such as a part of an answer. It does not close the breaker, because a service that
// refuses to work also sends something.
func (b *breaker) heard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heardAt = time.Now()
}

// answered closes the breaker: a call was answered.
func (b *breaker) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = 0
	b.heardAt = time.Now()
}

// refused counts a call that failed because the service could not be reached, or said that it cannot work at all. It
// reports whether the breaker is open now.
func (b *breaker) refused(cause error) (open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	b.cause = cause.Error()
	return b.failures >= breakerFailures
}

// timedOut records a call that began at began and got no answer in time. It opens the breaker if the call waited for the
// whole budget, and the service has sent nothing since, to any caller. A shorter wait ends at the caller's own deadline,
// which says nothing about the service. timedOut reports whether the breaker is open now.
func (b *breaker) timedOut(began time.Time, budget time.Duration, cause error) (open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	isSilent := time.Since(began) >= budget && b.heardAt.Before(began)
	if isSilent {
		b.failures = max(b.failures+1, breakerFailures)
		b.cause = cause.Error()
	}
	return b.failures >= breakerFailures
}

// probe calls ask every probeInterval while the breaker is open, until ctx ends. ask tells the breaker what it finds.
// probe calls away with the cause when it finds the breaker open, and back when ask has closed it.
func (b *breaker) probe(
	ctx context.Context,
	ask func(context.Context),
	away func(cause string),
	back func(),
) {
	isAway := false
	for pause(ctx, probeInterval) {
		open, cause := b.isOpen()
		if !open {
			isAway = false
			continue
		}
		if !isAway {
			away(cause)
		}
		ask(ctx)
		isAway, _ = b.isOpen()
		if !isAway {
			back()
		}
	}
}

// isTimeout reports whether err means that an answer did not come in time.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && timeout.Timeout()
}
