package main

// The health of the database. A background check reads its counts. status returns what the last check found.

import (
	"context"
	"time"
)

// checkHealth reads the counts of documents and chunks. It may take as long as any statement, so that a slow
// database does not count as unavailable. An answer closes the breaker. One check runs at a time, so that an
// older count never replaces a newer one.
func (p *postgres) checkHealth(ctx context.Context) {
	p.checks.Lock()
	defer p.checks.Unlock()
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()

	began := time.Now()
	p.checking.Store(&began)
	defer p.checking.Store(nil)
	found, err := p.size(ctx)
	if err != nil {
		found = *p.checked.Load()
	}
	found.took = time.Since(began)
	p.checked.Store(&found)

	if found.readOnly == readOnlyByDefault {
		p.conns.renew()
	}
	p.conns.restore()
}

// readOnlyByDefault is the reason that size gives for a session whose transactions are read-only by default.
const readOnlyByDefault = "default_transaction_read_only is on"

// status returns what checkHealth found last. It does not wait for the database.
func (p *postgres) status() storeStatus {
	s := *p.checked.Load()
	s.isShort = p.conns.isShort()
	if began := p.checking.Load(); began != nil {
		s.took = max(s.took, time.Since(*began))
	}

	if reason := p.unavailable.Load(); reason != nil {
		s.problem = "the database is not open"
		s.cause = *reason
	} else if open, cause := p.breaker.isOpen(); open {
		s.problem = "the database does not answer and is asked once a second"
		s.cause = cause
	}
	return s
}

// size reads the counts that recordChange keeps, because counting rows would be slow. It asks the database
// even if the breaker is open.
func (p *postgres) size(ctx context.Context) (found storeStatus, err error) {
	err = p.attempt(ctx, querySize, func(tx *transaction) error {
		return tx.row(ctx, []any{
			&found.documents,
			&found.chunks,
			&found.cut,
			&found.readOnly,
		}, `
			SELECT documents, chunks, (SELECT count(*) FROM documents WHERE indexed > 0), CASE
				WHEN pg_is_in_recovery() THEN 'the database is a standby'
				WHEN current_setting('default_transaction_read_only')::bool THEN $1
				WHEN NOT has_table_privilege('documents', 'INSERT')
					THEN 'the role of DATABASE_URL may not write'
				ELSE ''
			END
			FROM settings`,
			readOnlyByDefault)
	})
	return found, err
}
