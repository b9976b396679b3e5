package main

// Admission: how many operations of a kind run at once, and how many wait. Without it, a load of twice the capacity
// delays all requests until each of them misses its deadline.

import (
	"context"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"
)

// maxAdmissionWait is how long a search waits at most. A search that began later would miss its deadline.
const maxAdmissionWait = 500 * time.Millisecond

// maxSearches is how many searches of the embedded store run at once. They only compute, so more would not be faster.
func maxSearches() int { return 2 * runtime.GOMAXPROCS(0) }

var errBusy = userError{
	http.StatusServiceUnavailable,
	"too many searches at once: try again as soon as Retry-After says",
}

// admission admits operations while there is room. nil admits all.
type admission struct {
	slots      chan struct{} // its capacity is how many run at once
	maxWaiting int64
	maxWait    time.Duration
	waiting    atomic.Int64
	refused    atomic.Int64 // operations, since the start
}

// newAdmission returns an admission of n operations at once. As many more may wait.
func newAdmission(n int) *admission {
	return &admission{
		slots:      make(chan struct{}, n),
		maxWaiting: int64(n),
		maxWait:    maxAdmissionWait,
	}
}

// enter waits until there is room. The caller calls leave when it has finished. If too many wait already, or it
// has waited for too long, the error is errBusy.
func (a *admission) enter(ctx context.Context) (leave func(), err error) {
	if a == nil {
		return func() {}, nil
	}
	select {
	case a.slots <- struct{}{}:
		return a.leave, nil
	default:
	}

	defer a.waiting.Add(-1)
	if a.waiting.Add(1) > a.maxWaiting {
		a.refused.Add(1)
		return nil, errBusy
	}
	timer := time.NewTimer(a.maxWait)
	defer timer.Stop()
	select {
	case a.slots <- struct{}{}:
		return a.leave, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		a.refused.Add(1)
		return nil, errBusy
	}
}

func (a *admission) leave() { <-a.slots }

// stats returns how many operations wait now, and how many were refused.
func (a *admission) stats() (waiting, refused int64) {
	if a == nil {
		return 0, 0
	}
	return max(0, min(a.waiting.Load(), a.maxWaiting)), a.refused.Load()
}
