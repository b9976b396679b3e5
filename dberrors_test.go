package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// TestWritersTroubleDoesNotRefuseReaders classifies what each SQLSTATE says of reading and of writing.
func TestWritersTroubleDoesNotRefuseReaders(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code  pqerror.Code
		name  queryName
		opens bool // the breaker, after three of them
		kind  error
	}{
		{"53100", queryPut, false, errDiskFull},
		{"53200", queryPut, false, errUnavailable}, // out of memory
		{"53400", queryRemove, false, errUnavailable},
		{"58030", querySync, false, errUnavailable}, // an I/O error
		{"58030", querySearch, true, errUnavailable},
		{"53200", querySearch, true, errUnavailable},
		{"53300", queryPut, true, errUnavailable}, // no connection is left, whatever for
		{"57P01", queryPut, true, errUnavailable},
		{"28P01", querySearch, true, errUnavailable},
		{"55P03", queryPut, false, errUnavailable}, // lock_timeout
		{"22001", queryPut, false, nil},
	} {
		p := unopenedPostgres(t, "postgres://127.0.0.1:1/none?sslmode=disable")
		var err error
		for range breakerFailures {
			err = p.classify(t.Context(), test.name, time.Now(), &pq.Error{Code: test.code})
		}
		open, _ := p.breaker.isOpen()
		if open != test.opens || test.kind != nil && !errors.Is(err, test.kind) {
			t.Errorf("%s while %s: open %v, %v", test.code, test.name.attrs()[1].Value, open, err)
		}
	}
}

// TestRefusedLoginIsNoAnswer gives a login each SQLSTATE that means less if a statement has it.
func TestRefusedLoginIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, code := range []pqerror.Code{"53100", "53200", "58030", "42501", "55000", "XX000"} {
		for _, name := range []queryName{querySearch, queryPut} {
			p := unopenedPostgres(t, "postgres://127.0.0.1:1/none?sslmode=disable")
			var err error
			for range breakerFailures {
				err = p.classify(t.Context(), name, time.Now(), loginError{&pq.Error{Code: code}})
			}
			open, cause := p.breaker.isOpen()
			if !open || !strings.Contains(cause, string(code)) || publicError(err).status != http.StatusServiceUnavailable {
				t.Errorf("%s while %s: open %v, %q, %v", code, name.attrs()[1].Value, open, cause, err)
			}
		}
	}
}

func TestStandbyIsNotTakenForAMissingExtension(t *testing.T) {
	t.Parallel()
	p := unopenedPostgres(t, "postgres://127.0.0.1:1/none?sslmode=disable")
	for _, code := range []pqerror.Code{"0A000", "25006"} {
		refused := &pq.Error{Code: code, Message: "cannot set transaction read-write mode during recovery"}
		err := p.classify(t.Context(), queryPut, time.Now(), standbyError(refused))
		if !errors.Is(err, errUnavailable) || !strings.Contains(advise(err).Error(), "standby") || strings.Contains(advise(err).Error(), "pgvector") {
			t.Errorf("%s: %v", code, advise(err))
		}
	}
	if open, _ := p.breaker.isOpen(); open {
		t.Error("a standby opens the breaker")
	}
}

// TestReadersOnlyRead runs a write in the transaction of each query that reads.
func TestReadersOnlyRead(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, newDatabase(t))
	for _, name := range []queryName{querySearch, queryDocument, queryList, querySize, queryKnown, queryReload, queryPut} {
		err := p.exec(t.Context(), name, `UPDATE settings SET changes = changes`)
		isRefused := pq.As(err, pqerror.ReadOnlySQLTransaction) != nil
		if isRefused != name.reads() || !name.reads() && err != nil {
			t.Errorf("%s: %v", name.attrs()[1].Value, err)
		}
	}
}

// TestWritersLeaveConnectionsToReaders holds the row that every write needs, while many write.
func TestWritersLeaveConnectionsToReaders(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	p := openPostgres(t, url, "DB_MAX_CONNS=4")
	if _, err := p.put(t.Context(), mustDocument(t, "a.md", "# Install\n"), precondition{}); err != nil {
		t.Fatal(err)
	}
	holder := openPostgres(t, url)
	held := make(chan struct{})
	release := make(chan struct{})
	var tasks sync.WaitGroup
	tasks.Go(func() {
		_ = holder.transact(t.Context(), queryMaintain, func(tx *transaction) error {
			err := tx.exec(t.Context(), `UPDATE settings SET changes = changes`)
			close(held)
			<-release
			return err
		})
	})
	<-held

	var refused sync.Map
	for i := range 30 {
		tasks.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), handlerBudget)
			defer cancel()
			_, err := p.put(ctx, mustDocument(t, fmt.Sprintf("%d.md", i), "# Other\n"), precondition{})
			if err != nil {
				refused.Store(i, err)
			}
		})
	}
	waitFor(t, "writers that wait", func() bool { waiting, _ := p.writers.stats(); return waiting > 10 })
	for range 20 {
		if _, err := p.search(t.Context(), query{text: "install", limit: 5}); err != nil {
			t.Errorf("a search beside them: %v", err)
		}
	}
	waitFor(t, "a writer that gives up", func() bool {
		n := 0
		refused.Range(func(_, err any) bool {
			if !errors.Is(err.(error), errUnavailable) {
				t.Errorf("refused with %v", err)
			}
			n++
			return true
		})
		return n > 0
	})
	close(release)
	tasks.Wait()
}

// TestWritersWaitForALockShortly holds the row that every write needs. A write must end by lock_timeout, not by the longer
// statement_timeout.
func TestWritersWaitForALockShortly(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	p := openPostgres(t, url)
	holder := openPostgres(t, url)
	err := holder.transact(t.Context(), queryMaintain, func(tx *transaction) error {
		err := tx.exec(t.Context(), `UPDATE settings SET changes = changes`)
		if err != nil {
			return err
		}
		_, err = p.put(t.Context(), mustDocument(t, "a.md", "# Lantern"), precondition{})
		if errorType(err) != string(pqerror.LockNotAvailable) || !errors.Is(err, errUnavailable) {
			t.Errorf("put: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
