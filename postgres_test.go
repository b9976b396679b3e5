package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestStatementsNameTheirRequest(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	p := openPostgres(t, url)
	rec := quietObserver().policy.newRecord(http.Header{"X-Correlation-Id": {"find-me-42"}})
	ctx, cancel := context.WithCancel(rec.newScope(t.Context(), -1))
	defer cancel()

	failed := make(chan error)
	go func() {
		failed <- p.transact(ctx, querySearch, func(tx *transaction) error {
			return tx.exec(ctx, "SELECT pg_sleep(60)")
		})
	}()
	const running = `
		SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE
			'/*correlation_id=''find-me-42'',traceparent=''00-%''*/ SELECT pg_sleep%'`
	waitFor(t, "the statement runs", func() bool { return count(t, url, running) == 1 })
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	waitFor(t, "a cancelled request leaves nothing running", func() bool {
		return count(t, url, running) == 0
	})

	if len(rec.stages) != 1 || rec.stages[0].kind != stageDB {
		t.Fatalf("stages are %+v", rec.stages)
	}
	st := rec.stages[0]
	for _, want := range []string{
		"db.system.name=postgresql",
		"db.operation.name=SELECT",
		"db.query.summary=search",
	} {
		isWanted := func(a slog.Attr) bool { return a.String() == want }
		if !slices.ContainsFunc(st.attrs, isWanted) {
			t.Errorf("no %s in %v", want, st.attrs)
		}
	}
	e, ok := errors.AsType[*databaseError](st.err)
	if !ok || e.class != "canceled" {
		t.Errorf("the stage's error is %v", st.err)
	}
}

func TestServerEndsAStatementBeforeItsCallerDoes(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, newDatabase(t))
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()

	err := p.transact(ctx, querySearch, func(tx *transaction) error {
		return tx.exec(context.WithoutCancel(ctx), "SELECT pg_sleep(60)")
	})
	e, ok := errors.AsType[*databaseError](err)
	if !ok || e.class != "57014" || !errors.Is(err, errUnavailable) {
		t.Errorf("got %v, want the server's statement_timeout", err)
	}
}

func TestPendingIsExact(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, newDatabase(t), "DB_MAX_CONNS=2")
	release := make(chan struct{})
	var callers sync.WaitGroup
	hold := func(timeout time.Duration) {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_ = p.transact(ctx, querySearch, func(*transaction) error {
				<-release
				return nil
			})
		})
	}
	pool := func(used, pending int, timeouts int64) func() bool {
		return func() bool {
			stats := p.pool()
			return stats.used == used && stats.pending == pending && stats.timeouts == timeouts
		}
	}

	for range 5 {
		hold(time.Minute)
	}
	waitFor(t, "two have a connection, three wait", pool(2, 3, 0))

	for range 3 {
		hold(100 * time.Millisecond)
	}
	waitFor(t, "three more have given up", pool(2, 3, 3))

	close(release)
	callers.Wait()
	waitFor(t, "nobody waits", pool(0, 0, 3))
}
