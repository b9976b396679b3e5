package main

// The circuit breaker. The database has one, and so has the embeddings API.

import (
	"sync"
	"time"
)

const (
	breakerFailures = 3
	probeInterval   = time.Second
)

// breaker is a circuit breaker for a service that may be unavailable: the database or the embeddings API. It opens after
// breakerFailures failures in a row. The zero value is closed.
type breaker struct {
	mu       sync.Mutex
	failures int       // in a row
	probeAt  time.Time // when the open breaker lets the next call through
}

// isOpen reports whether the breaker is open, and how many calls have failed in a row.
func (b *breaker) isOpen() (open bool, failures int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= breakerFailures, b.failures
}

// allow reports whether a call may be made. A closed breaker allows all calls. An open one allows one call every
// probeInterval.
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
