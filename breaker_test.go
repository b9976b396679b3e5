package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestBreakerOpensOnlyIfNobodyIsThere(t *testing.T) {
	const budget = 5 * time.Second
	errAway := errors.New("connection refused")
	answered := func(b *breaker) { b.answered() }
	heard := func(b *breaker) { b.heard() }
	refused := func(b *breaker) { b.refused(errAway) }
	// waits calls, waits and times out. meanwhile is what others hear in the middle of that time.
	waits := func(d time.Duration, meanwhile ...func(b *breaker)) func(b *breaker) {
		return func(b *breaker) {
			began := time.Now()
			time.Sleep(d / 2)
			for _, step := range meanwhile {
				step(b)
			}
			time.Sleep(d / 2)
			b.timedOut(began, budget, context.DeadlineExceeded)
		}
	}

	for _, test := range []struct {
		name  string
		steps []func(b *breaker)
		open  bool
	}{
		{"nothing has happened", nil, false},
		{"two refusals", []func(*breaker){refused, refused}, false},
		{"three refusals", []func(*breaker){refused, refused, refused}, true},
		{"an answer between refusals", []func(*breaker){refused, refused, answered, refused, refused}, false},
		{"refusals in words", []func(*breaker){heard, refused, heard, refused, heard, refused}, true},
		{"silence for a whole budget", []func(*breaker){waits(budget)}, true},
		{"silence after an answer", []func(*breaker){answered, waits(budget)}, true},
		{"callers that are in a hurry", []func(*breaker){waits(time.Second), waits(time.Second), waits(4 * time.Second), waits(4 * time.Second)}, false},
		{"one slow call beside an answer", []func(*breaker){waits(budget, answered)}, false},
		{"one slow call beside a part of an answer", []func(*breaker){waits(2*budget, heard)}, false},
		{"slow calls, each heard of", []func(*breaker){waits(budget, heard), waits(budget, heard), waits(budget, heard), waits(budget, heard)}, false},
		{"an answer after all", []func(*breaker){waits(budget), answered}, false},
		{"a sign of life is no answer", []func(*breaker){waits(budget), heard}, true},
		{"a hurried caller while it is open", []func(*breaker){waits(budget), waits(time.Second)}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b breaker
				time.Sleep(time.Second)
				for _, step := range test.steps {
					step(&b)
					time.Sleep(time.Millisecond)
				}
				if open, cause := b.isOpen(); open != test.open || open && cause == "" {
					t.Errorf("open is %v (%q), want %v", open, cause, test.open)
				}
			})
		})
	}
}

// TestBreakerIsProbedInTheBackground counts the questions while a service is away for ten seconds.
func TestBreakerIsProbedInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		asked, away, back := 0, 0, 0
		ctx, cancel := context.WithCancel(t.Context())
		ask := func(context.Context) {
			asked++
			if asked == 10 {
				b.answered()
			}
		}
		go b.probe(ctx, ask, func(string) { away++ }, func() { back++ })

		time.Sleep(time.Minute)
		synctest.Wait()
		if asked != 0 {
			t.Errorf("a closed breaker was probed %d times", asked)
		}
		for range breakerFailures {
			b.refused(errUnavailable)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked != 10 || away != 1 || back != 1 {
			t.Errorf("asked %d times, told %d times that it is away and %d times that it is back, want 10, 1, 1", asked, away, back)
		}
		cancel()
		synctest.Wait()
	})
}
