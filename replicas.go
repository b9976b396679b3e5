package main

// What the replicas share through the database: the schema, leases, and notifications of changes.
//
// A lease is a row for a job. It holds the replica that does the job, and a time of expiry.
// Notifications are sent with NOTIFY. They may be lost, so every replica also compares the number of
// changes with the number of notifications.

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

//go:embed schema.sql
var schemaSQL string

const (
	// schemaVersion goes up with every change of schema.sql. migrations must then bring older schemas there.
	schemaVersion = 2

	// migrationLock is the key of createSchema's advisory lock: any number, the same in all replicas.
	migrationLock = 0x76697472

	// leaseDuration is how long a job stays with a replica that has died.
	leaseDuration = 30 * time.Second
)

// open creates the schema in an empty database. In any other it checks that the stored rows fit this
// program and its settings. After errUnavailable, another try may succeed. Every other error says what
// the operator must do.
func (p *postgres) open(ctx context.Context) error {
	err := p.attempt(ctx, queryReload, func(tx *transaction) error {
		return tx.checkServer(ctx)
	})
	if err != nil {
		return advise(err)
	}

	err = p.reload(ctx)
	if pq.As(err, pqerror.UndefinedTable) != nil { // the database is empty
		err = p.create(ctx)
	}
	return advise(err)
}

// create creates the schema. The column of vectors needs the embedder's dimensions, which are unknown
// until the embedding API has been asked once.
func (p *postgres) create(ctx context.Context) error {
	if p.embedder.dimensions() == 0 {
		if err := p.embedder.check(ctx); err != nil {
			return err
		}
	}

	err := p.attempt(ctx, queryMaintain, func(tx *transaction) error {
		return tx.createSchema(ctx, p.fingerprint())
	})
	if err != nil {
		return err
	}
	return p.reload(ctx)
}

// checkServer checks the versions of PostgreSQL and, once it is installed, of pgvector.
func (tx *transaction) checkServer(ctx context.Context) error {
	var version int
	var isCurrent sql.NullBool
	err := tx.row(ctx, []any{&version, &isCurrent}, `
		SELECT current_setting('server_version_num')::int, (
			SELECT string_to_array(extversion, '.')::int[] >= '{0,8}'
			FROM pg_extension WHERE extname = 'vector'
		)`)
	if err != nil {
		return err
	}

	if version < 140000 {
		return fmt.Errorf("the server is PostgreSQL %d: upgrade it to 14 or later", version/10000)
	}
	if isCurrent.Valid && !isCurrent.Bool {
		return errors.New("pgvector is too old: " +
			"install 0.8 or later on the server and run ALTER EXTENSION vector UPDATE")
	}
	return nil
}

// createSchema creates the tables, unless another replica has done so in the meantime.
func (tx *transaction) createSchema(ctx context.Context, current fingerprint) error {
	err := tx.exec(ctx, `SELECT pg_advisory_xact_lock($1)`, migrationLock)
	if err != nil {
		return err
	}

	var exists bool
	err = tx.row(ctx, []any{&exists}, `SELECT to_regclass('settings') IS NOT NULL`)
	if err != nil || exists {
		return err
	}

	if err := tx.exec(ctx, `CREATE EXTENSION IF NOT EXISTS vector`); err != nil {
		return err
	}
	if err := tx.checkServer(ctx); err != nil { // checks pgvector, which was not installed before
		return err
	}

	schema := strings.ReplaceAll(schemaSQL, "DIMENSIONS", strconv.Itoa(current.dimensions))
	if err := tx.exec(ctx, schema); err != nil {
		return err
	}
	return tx.exec(ctx, `
		INSERT INTO settings (schema, analyzer, model, dimensions)
		VALUES ($1, $2, $3, $4)`,
		current.schema,
		current.analyzer,
		current.model,
		current.dimensions)
}

// fingerprint identifies the program and the settings that computed the stored rows.
type fingerprint struct {
	schema     int // schemaVersion
	analyzer   int // analyzerVersion
	model      string
	dimensions int
}

// fingerprint returns the fingerprint of this program with its settings.
func (p *postgres) fingerprint() fingerprint {
	return fingerprint{
		schema:     schemaVersion,
		analyzer:   analyzerVersion,
		model:      p.embedder.model(),
		dimensions: p.embedder.dimensions(),
	}
}

// check compares the stored fingerprint with that of this program. Its error says what to do.
func (stored fingerprint) check(want fingerprint) error {
	if stored == want {
		return nil
	}

	if stored.schema > want.schema {
		return fmt.Errorf("the database was written by a newer version of vitrine "+
			"(schema %d, this one knows %d): upgrade this program",
			stored.schema, want.schema)
	}

	return fmt.Errorf("the database holds vectors of model %q with %d dimensions by analyzer %d, "+
		"the settings ask for %q with %d by analyzer %d: "+
		"set EMBEDDING_* back, or stop all replicas and run vitrine reindex once",
		stored.model, stored.dimensions, stored.analyzer,
		want.model, want.dimensions, want.analyzer)
}

// advise adds to an error of open or reindex what the operator can do about it.
func advise(err error) error {
	state := pq.As(err)
	if state == nil || errors.Is(err, errStandby) {
		return err
	}

	advice, ok := startupAdvice[state.Code]
	if isRefusedLogin(err) && state.Code == pqerror.InsufficientPrivilege {
		advice = connectAdvice
	}
	if !ok {
		return err
	}
	return fmt.Errorf("database: %w: %s", state, advice) // not errUnavailable: waiting does not help
}

const (
	grantAdvice = "let its owner run: CREATE EXTENSION IF NOT EXISTS vector; " +
		"GRANT CREATE, USAGE ON SCHEMA public TO the role of DATABASE_URL"
	connectAdvice = "let the database's owner run: " +
		"GRANT CONNECT ON DATABASE its name TO the role of DATABASE_URL"
	installAdvice = "install pgvector 0.8 or later on the server " +
		"(Debian: postgresql-17-pgvector; image: pgvector/pgvector:pg17)"
	loginAdvice  = "check user and password in DATABASE_URL"
	createAdvice = "create the database that DATABASE_URL names with createdb"
)

// startupAdvice holds the advice by SQLSTATE.
var startupAdvice = map[pqerror.Code]string{
	pqerror.InsufficientPrivilege:             grantAdvice,
	pqerror.InvalidSchemaName:                 grantAdvice,
	pqerror.FeatureNotSupported:               installAdvice,
	pqerror.UndefinedFile:                     installAdvice,
	pqerror.InvalidPassword:                   loginAdvice,
	pqerror.InvalidAuthorizationSpecification: loginAdvice,
	pqerror.InvalidCatalogName:                createAdvice,
}

// reload reads what this process caches: the count of changes and the terms' frequencies. It tells the watchers
// about changes whose notifications were lost, without their ids. If the stored rows do not fit this
// program, it returns an error and the store answers errUnavailable from then on.
func (p *postgres) reload(ctx context.Context) error {
	var stored fingerprint
	var changes int64
	var f *frequencies
	err := p.attempt(ctx, queryReload, func(tx *transaction) error {
		err := tx.row(ctx, []any{
			&stored.schema,
			&stored.analyzer,
			&stored.model,
			&stored.dimensions,
			&changes,
		}, `SELECT schema, analyzer, model, dimensions, changes FROM settings`)
		if err != nil {
			return err
		}
		f, err = tx.frequencies(ctx)
		return err
	})
	if err != nil {
		return err
	}

	if stored.model == p.embedder.model() {
		// With the dimensions, the store works while the embedding API is away. If the settings ask
		// for other dimensions, this fails and the check below says so.
		_ = p.embedder.setDimensions(stored.dimensions)
	}
	if err := stored.check(p.fingerprint()); err != nil {
		p.setUnavailable(err.Error())
		return err
	}

	if p.unavailable.Load() != nil {
		p.checkHealth(ctx) // an open store knows its counts
	}
	p.unavailable.Store(nil)
	p.frequencies.Store(f)
	if p.changes.catchUp(changes) {
		p.notify(nil)
	}
	return nil
}

// frequencies reads the planner's statistics of chunks.slots: its most common elements, and the share of
// the chunks that contain each (pg_stats.most_common_elem_freqs).
func (tx *transaction) frequencies(ctx context.Context) (*frequencies, error) {
	var chunks float64
	var slots []int64
	var shares []float64
	err := tx.row(ctx, []any{&chunks, pq.Array(&slots), pq.Array(&shares)}, `
		SELECT c.reltuples, s.most_common_elems::text::bigint[], s.most_common_elem_freqs
		FROM pg_class AS c
		LEFT JOIN pg_stats AS s ON s.schemaname = c.relnamespace::regnamespace::text
			AND s.tablename = c.relname AND s.attname = 'slots'
		WHERE c.oid = 'chunks'::regclass`)
	if err != nil {
		return nil, err
	}

	f := &frequencies{counts: make(map[term]int)}
	if chunks <= 0 || len(slots) == 0 {
		return f, nil // ANALYZE has not run yet
	}
	count := func(share float64) int {
		return int(math.Round(share * chunks))
	}
	for i, slot := range slots {
		f.counts[term(slot)] = count(shares[i])
	}

	// The share after those of the slots is the smallest of them. Other terms are rarer.
	f.rare = count(shares[len(slots)]) / 2
	f.chunks = int(chunks)
	return f, nil
}

// listen tells the watchers about the changes of other replicas, until ctx ends. It calls recheck after
// a lost connection, and every recheckInterval in case notifications do not get through.
func (p *postgres) listen(ctx context.Context) {
	listener := pq.NewListener(p.dsn, probeInterval, probeInterval, nil)
	var connecting sync.WaitGroup
	connecting.Go(func() {
		for listener.Listen("vitrine") != nil { // a standby refuses until it is promoted
			if !pause(ctx, recheckInterval) {
				return
			}
		}
		p.recheck(ctx) // for changes before the connection
	})
	defer connecting.Wait()
	defer func() { _ = listener.Close() }() // ends a Listen that is still connecting

	ticker := time.NewTicker(recheckInterval)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case n := <-listener.Notify:
			if n == nil { // after a lost connection
				p.recheck(ctx)
				continue
			}
			p.notified(ctx, n.Extra)
		case <-ticker.C:
			p.recheck(ctx)
		}
	}
}

// notified handles the payload of a notification: "REPLICA CHANGES ID" after a change of one document,
// "REPLICA CHANGES" after a change of several, "REPLICA" after ANALYZE. announce and analyze send
// them.
func (p *postgres) notified(ctx context.Context, payload string) {
	replica, rest, _ := strings.Cut(payload, " ")
	count, id, _ := strings.Cut(rest, " ")
	changes, _ := strconv.ParseInt(count, 10, 64)
	if replica == p.replica { // its watchers were told on commit
		return
	}
	if changes == 0 {
		_ = p.reload(ctx) // recheck tries again
		return
	}

	p.changes.hear(changes)
	if id == "" {
		p.notify(nil)
		return
	}
	p.notify([]string{id})
}

// recheck reloads, for changes whose notifications were lost.
func (p *postgres) recheck(ctx context.Context) {
	ctx, end := p.observe.job(ctx, "recheck")
	err := p.reload(ctx)
	end(&err)
}

// claim takes or renews the lease with this name, unless another replica holds it. mine reports whether
// this replica holds it now. finished reports whether any replica has ever finished its job.
func (tx *transaction) claim(
	ctx context.Context,
	name string,
) (mine, finished bool, err error) {
	err = tx.row(ctx, []any{&mine, &finished}, `
		WITH claimed AS (
			INSERT INTO leases (name, holder, expires) VALUES ($1, $2, now() + $3::interval)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
			WHERE leases.holder = excluded.holder OR leases.expires < now()
			RETURNING name
		)
		SELECT EXISTS (SELECT FROM claimed),
			EXISTS (SELECT FROM leases WHERE name = $1 AND finished)`,
		name,
		tx.replica,
		leaseDuration.String())
	return mine, finished, err
}

// fence renews the folder's lease. It returns errElsewhere if another replica has taken the lease. What
// this replica has read from the folder may then be out of date, so it must not be written.
func (tx *transaction) fence(ctx context.Context) error {
	mine, _, err := tx.claim(ctx, "folder")
	if err != nil {
		return err
	}
	if !mine {
		return errElsewhere
	}
	return nil
}
