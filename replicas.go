package main

// What replicas share: the schema, leases, and the news of what another one has changed.

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
)

//go:embed schema.sql
var schemaSQL string

// schemaVersion goes up with every change of schema.sql; open then has to bring the older one there.
const schemaVersion = 1

const leaseDuration = 30 * time.Second

// open creates the schema where there is none and checks that what is stored is of this program's making. Its errors
// that are not errUnavailable are mended by whoever runs the program.
func (p *postgres) open(ctx context.Context) error {
	err := p.attempt(ctx, queryMaintain, func(tx *transaction) error { return tx.checkServer(ctx) })
	if err == nil {
		err = p.reload(ctx)
	}
	if pq.As(err, "42P01") != nil { // there is no table settings
		err = nil
		if p.embedder.dimensions() == 0 {
			err = p.embedder.check(ctx)
		}
		if err == nil {
			err = p.attempt(ctx, queryMaintain, func(tx *transaction) error { return tx.createSchema(ctx, p.fingerprint()) })
		}
		if err == nil {
			err = p.reload(ctx)
		}
	}
	return advise(err)
}

// advise adds to an error of the first contact what to do about it.
func advise(err error) error {
	for states, advice := range startupAdvice {
		if state := pq.As(err); state != nil && strings.Contains(states, string(state.Code)) {
			return fmt.Errorf("%w: %s", err, advice)
		}
	}
	return err
}

// startupAdvice is by SQLSTATE.
var startupAdvice = map[string]string{
	"42501 3F000": "let its owner run: CREATE EXTENSION IF NOT EXISTS vector; GRANT CREATE, USAGE ON SCHEMA public TO the role of DATABASE_URL",
	"0A000 58P01": "install pgvector 0.8 or later on the server (Debian: postgresql-17-pgvector; image: pgvector/pgvector:pg17)",
	"28P01 28000": "check user and password in DATABASE_URL",
	"3D000":       "create the database that DATABASE_URL names with createdb",
}

// fingerprint is what the stored rows depend on beside the documents.
type fingerprint struct {
	schema, analyzer int
	model            string
	dimensions       int
}

func (p *postgres) fingerprint() fingerprint {
	return fingerprint{schemaVersion, analyzerVersion, p.embedder.model(), p.embedder.dimensions()}
}

func (stored fingerprint) check(want fingerprint) error {
	switch {
	case stored == want:
		return nil
	case stored.schema > want.schema:
		return fmt.Errorf("the database was written by a newer version of vitrine (schema %d, this one knows %d): upgrade this program", stored.schema, want.schema)
	}
	return fmt.Errorf("the database holds vectors of model %q with %d dimensions by analyzer %d, the settings ask for %q with %d by analyzer %d: "+
		"set EMBEDDING_* back, or stop all replicas and run vitrine -reindex once", stored.model, stored.dimensions, stored.analyzer, want.model, want.dimensions, want.analyzer)
}

// checkServer makes sure of the versions of PostgreSQL and of pgvector, if that is there.
func (tx *transaction) checkServer(ctx context.Context) error {
	var version int
	var isCurrent sql.NullBool
	err := tx.row(ctx, []any{&version, &isCurrent}, `SELECT current_setting('server_version_num')::int,
		(SELECT string_to_array(extversion, '.')::int[] >= '{0,8}' FROM pg_extension WHERE extname = 'vector')`)
	switch {
	case err == nil && version < 140000:
		err = fmt.Errorf("the server is PostgreSQL %d: upgrade it to 14 or later", version/10000)
	case err == nil && isCurrent.Valid && !isCurrent.Bool:
		err = errors.New("pgvector is too old: install 0.8 or later on the server and run ALTER EXTENSION vector UPDATE")
	}
	return err
}

// createSchema checks the server and creates the tables, unless another replica has done so meanwhile.
func (tx *transaction) createSchema(ctx context.Context, m fingerprint) error {
	const migrationLock = 0x76697472 // any number that all replicas agree on
	if err := tx.exec(ctx, `SELECT pg_advisory_xact_lock($1)`, migrationLock); err != nil {
		return err
	}
	var exists bool
	err := tx.row(ctx, []any{&exists}, `SELECT to_regclass('settings') IS NOT NULL`)
	if err != nil || exists {
		return err
	}
	err = tx.exec(ctx, `CREATE EXTENSION IF NOT EXISTS vector`)
	if err == nil {
		err = tx.checkServer(ctx)
	}
	if err == nil {
		err = tx.exec(ctx, strings.ReplaceAll(schemaSQL, "DIMENSIONS", strconv.Itoa(m.dimensions)))
	}
	if err == nil {
		err = tx.exec(ctx, `INSERT INTO settings (schema, analyzer, model, dimensions) VALUES ($1, $2, $3, $4)`, m.schema, m.analyzer, m.model, m.dimensions)
	}
	return err
}

// listen passes on what other replicas changed. After a lost connection, and every recheckInterval for the case that
// notifications do not get through, it compares the count of changes.
func (p *postgres) listen(ctx context.Context) {
	listener := pq.NewListener(p.dsn, time.Second, recheckInterval, nil)
	var connecting sync.WaitGroup
	connecting.Go(func() {
		if listener.Listen("vitrine") == nil { // connected at last: what changed before was not told
			p.recheck(ctx)
		}
	})
	defer connecting.Wait()
	defer func() { _ = listener.Close() }()
	ticker := time.NewTicker(recheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-listener.Notify:
			if n != nil {
				p.notified(ctx, n.Extra)
				continue
			}
		case <-ticker.C:
		}
		p.recheck(ctx)
	}
}

// notified takes in a notification: who, the count of changes, and the document's id unless there are several. One
// without a count says that ANALYZE has run.
func (p *postgres) notified(ctx context.Context, text string) {
	replica, text, _ := strings.Cut(text, " ")
	count, id, _ := strings.Cut(text, " ")
	changes, _ := strconv.ParseInt(count, 10, 64)
	p.seen.Store(max(changes, p.seen.Load()))
	switch {
	case replica == p.replica: // told when it was done
	case changes == 0:
		_ = p.reload(ctx) // and again within recheckInterval
	case id != "":
		p.notify([]string{id})
	default:
		p.notify(nil)
	}
}

// recheck finds out what notifications have not told.
func (p *postgres) recheck(ctx context.Context) {
	ctx, end := p.observe.job(ctx, "recheck")
	before := p.seen.Load()
	err := p.reload(ctx)
	if err == nil && p.seen.Load() != before {
		p.notify(nil)
	}
	end(&err)
}

// reload reads what this process keeps of the database: the count of changes and the terms' frequencies. It refuses a
// database that is not of this program's making, or no longer.
func (p *postgres) reload(ctx context.Context) error {
	var changes int64
	var stored fingerprint
	var f *frequencies
	err := p.attempt(ctx, queryMaintain, func(tx *transaction) error {
		err := tx.row(ctx, []any{&stored.schema, &stored.analyzer, &stored.model, &stored.dimensions, &changes},
			`SELECT schema, analyzer, model, dimensions, changes FROM settings`)
		if err == nil {
			f, err = tx.frequencies(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	if stored.model == p.embedder.model() {
		_ = p.embedder.setDimensions(stored.dimensions) // lets us search while the API is away; if they differ, check says so
	}
	if err := stored.check(p.fingerprint()); err != nil {
		p.setProblem(err.Error())
		return err
	}
	p.problem.Store(nil)
	p.seen.Store(changes)
	p.frequencies.Store(f)
	return nil
}

// frequencies reads them from the planner's statistics: how often each of the most common elements of chunks.slots occurs.
func (tx *transaction) frequencies(ctx context.Context) (*frequencies, error) {
	f := &frequencies{counts: make(map[term]int)}
	var slots []int64
	var shares []float64
	var chunks float64
	err := tx.row(ctx, []any{&chunks, pq.Array(&slots), pq.Array(&shares)}, `SELECT c.reltuples, s.most_common_elems::text::bigint[], s.most_common_elem_freqs
		FROM pg_class AS c LEFT JOIN pg_stats AS s ON s.schemaname = c.relnamespace::regnamespace::text AND s.tablename = c.relname AND s.attname = 'slots'
		WHERE c.oid = 'chunks'::regclass`)
	if err != nil || chunks <= 0 || len(slots) == 0 {
		return f, err
	}
	count := func(i int) int { return int(math.Round(shares[i] * chunks)) }
	for i, slot := range slots {
		f.counts[term(slot)] = count(i)
	}
	f.chunks, f.rare = int(chunks), count(len(slots))/2 // after the shares comes the least of them
	return f, nil
}

// claim takes or renews the lease of that name. finished: whoever had it before has done the work once.
func (tx *transaction) claim(ctx context.Context, name string) (mine, finished bool, err error) {
	err = tx.row(ctx, []any{&mine, &finished}, `WITH claimed AS (
			INSERT INTO leases (name, holder, expires) VALUES ($1, $2, now() + $3::interval)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
			WHERE leases.holder = excluded.holder OR leases.expires < now() RETURNING name
		) SELECT EXISTS (SELECT FROM claimed), EXISTS (SELECT FROM leases WHERE name = $1 AND finished)`, name, tx.replica, leaseDuration.String())
	return mine, finished, err
}

// fence keeps a replica that lost the folder's lease without noticing from writing what it read before, and renews it.
func (tx *transaction) fence(ctx context.Context) error {
	mine, _, err := tx.claim(ctx, "folder")
	if err == nil && !mine {
		return errElsewhere
	}
	return err
}
