package main

// What need not be done within a request: missing vectors, statistics, indexes, and reindexing.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lib/pq"
)

const maintainInterval = 5 * time.Second

// start opens the store and keeps it going until ctx ends. A database that is away is waited for: requests are
// answered meanwhile with why there is no answer.
func (p *postgres) start(ctx context.Context, tasks *sync.WaitGroup) error {
	err := p.open(ctx)
	if err != nil && !errors.Is(err, errUnavailable) {
		return err
	}
	tasks.Go(func() {
		for wait := time.Second; err != nil && ctx.Err() == nil; wait = min(2*wait, 8*time.Second) {
			p.setProblem(err.Error())
			p.observe.log.WarnContext(ctx, "database not ready", "error", err, "retry", wait.String())
			pause(ctx, wait)
			err = p.open(ctx)
		}
		tasks.Go(func() { p.listen(ctx) })
		tasks.Go(func() { p.maintain(ctx) })
		tasks.Go(func() { p.probe(ctx) })
	})
	return nil
}

// maintain does what need not be done within a request, one thing after the other: vectors that are missing, the
// statistics behind the terms' frequencies, the indexes of a large collection.
func (p *postgres) maintain(ctx context.Context) {
	var embedded time.Time
	var seen int64
	indexed := false
	for ctx.Err() == nil {
		if p.incomplete.Swap(false) || time.Since(embedded) >= recheckInterval {
			p.withLease(ctx, "embed_missing", p.embedMissing)
			embedded = time.Now()
		}
		if modified := p.modified.Load(); modified > 0 && modified*10 >= int64(p.frequencies.Load().chunks) {
			p.withLease(ctx, "analyze", p.analyze)
		}
		isLoading := p.seen.Load()-seen > 10*int64(maintainInterval/time.Second)
		seen = p.seen.Load()
		if !indexed && !isLoading && p.frequencies.Load().chunks > p.exactChunks {
			indexed = p.withLease(ctx, "build_indexes", p.buildIndexes)
		}
		pause(ctx, maintainInterval)
	}
}

// withLease does a job of that name under its lease and reports whether it is done. Where another replica has the lease, it
// does nothing.
func (p *postgres) withLease(ctx context.Context, name string, do func(ctx context.Context) error) (done bool) {
	var err error
	ctx, end := p.observe.job(ctx, name)
	defer end(&err)
	claim := func() (mine bool, err error) {
		err = p.transact(ctx, queryMaintain, func(tx *transaction) error {
			mine, _, err = tx.claim(ctx, name)
			return err
		})
		return mine, err
	}
	mine, err := claim()
	if err != nil || !mine {
		return false
	}
	working, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		for pause(working, leaseDuration/3) {
			if mine, err := claim(); err == nil && !mine {
				cancel()
			}
		}
	})
	err = do(working)
	cancel()
	renewing.Wait()
	return err == nil
}

// embedMissing embeds the chunks that were stored without a vector: they are the queue, so it survives a restart. What
// the embedder refuses is tried again after everything else.
func (p *postgres) embedMissing(ctx context.Context) error {
	const batch = 256
	for embedded := 0; ; {
		var documents, texts []string
		var positions []int64
		var inputs [][]byte
		err := p.row(ctx, queryEmbed, []any{pq.Array(&documents), pq.Array(&positions), pq.Array(&inputs), pq.Array(&texts)}, `
			SELECT array_agg(document), array_agg(position), array_agg(input), array_agg(text) FROM (
				SELECT e.document, e.position, e.input, concat_ws(E'\n', d.title, c.heading, c.text) AS text
				FROM embeddings AS e JOIN chunks AS c ON c.document = e.document AND c.position = e.position JOIN documents AS d ON d.id = e.document
				WHERE e.embedding IS NULL AND (e.attempted IS NULL OR e.attempted < now() - interval '20 seconds')
				ORDER BY e.attempted NULLS FIRST LIMIT $1
			) AS missing`, batch)
		if err != nil || len(texts) == 0 {
			return err
		}
		vectors, failure := p.embedder.documents(ctx, texts)
		embeddings := make([]pq.Float32Array, len(texts)) // nil is NULL
		for i, v := range vectors {
			embeddings[i] = v
		}
		err = p.exec(ctx, queryEmbed, `UPDATE embeddings AS e SET embedding = new.embedding::real[]::halfvec, attempted = now()
			FROM unnest($1::text[], $2::int[], $3::bytea[], $4::text[]) AS new (document, position, input, embedding)
			WHERE e.document = new.document AND e.position = new.position AND e.input = new.input`,
			pq.Array(documents), pq.Array(positions), pq.Array(inputs), pq.Array(embeddings))
		if err != nil {
			return err
		}
		if failure != nil && isEmpty(vectors) {
			return failure
		}
		embedded += len(texts)
		logAttrs(ctx, slog.Int("chunks", embedded))
	}
}

// analyze refreshes the statistics and lets all replicas know.
func (p *postgres) analyze(ctx context.Context) error {
	modified := p.modified.Load()
	if err := p.execLong(ctx, `ANALYZE chunks (slots)`); err != nil {
		return err
	}
	p.modified.Add(-modified)
	if err := p.reload(ctx); err != nil {
		return err
	}
	return p.exec(ctx, queryMaintain, `SELECT pg_notify('vitrine', $1)`, p.replica)
}

// buildIndexes builds the indexes that a large collection is searched by, which is far faster after a bulk load than
// along with it, and drops what a build that was broken off left. Where shared memory is scarce (a container has
// 64 MB), it builds without parallel workers.
func (p *postgres) buildIndexes(ctx context.Context) error {
	for name, definition := range map[string]string{
		"chunks_slots":         `chunks USING gin (slots)`,
		"embeddings_embedding": `embeddings USING hnsw (embedding halfvec_ip_ops)`,
	} {
		err := p.buildIndex(ctx, name, definition, 2)
		if pq.As(err, "53100") != nil {
			err = p.buildIndex(ctx, name, definition, 0)
		}
		if err != nil {
			return fmt.Errorf("building index %s: %w", name, err)
		}
	}
	return nil
}

func (p *postgres) buildIndex(ctx context.Context, name, definition string, workers int) error {
	var isBuilt bool
	err := p.row(ctx, queryMaintain, []any{&isBuilt}, `SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid)`, name)
	if err != nil || isBuilt {
		return err
	}
	megabytes := min(2000, 64+p.frequencies.Load().chunks*(2*p.embedder.dimensions()+500)>>20)
	err = p.execLong(ctx, `SET statement_timeout = 0`,
		fmt.Sprintf(`SET maintenance_work_mem = '%dMB'`, megabytes), // an HNSW graph that does not fit is built ten times slower
		fmt.Sprintf(`SET max_parallel_maintenance_workers = %d`, workers),
		`DROP INDEX CONCURRENTLY IF EXISTS `+name,
		`CREATE INDEX CONCURRENTLY `+name+` ON `+definition,
		`RESET ALL`)
	if err == nil {
		logAttrs(ctx, slog.String("index", name))
	}
	return err
}

// reindex makes what is stored what the settings ask for: the chunks if the analyzer has changed, and all vectors. Until it
// has ended the model's name is missing, and nothing but another reindex will work with the database.
func (p *postgres) reindex(ctx context.Context) error {
	if err := p.embedder.check(ctx); err != nil {
		return err
	}
	if err := p.open(ctx); errors.Is(err, errUnavailable) {
		return err
	} // any other error is what we are here for, or comes back below
	err := p.execLong(ctx, `UPDATE settings SET model = ''`, `DROP INDEX IF EXISTS embeddings_embedding`,
		fmt.Sprintf(`ALTER TABLE embeddings ALTER embedding TYPE halfvec(%d) USING NULL`, p.embedder.dimensions()))
	if err != nil {
		return advise(err)
	}
	p.problem.Store(nil)
	if err := p.rechunk(ctx); err != nil {
		return err
	}
	if err := p.embedMissing(ctx); err != nil {
		return err
	}
	want := p.fingerprint()
	err = p.exec(ctx, queryMaintain, `UPDATE settings SET analyzer = $1, model = $2, dimensions = $3`, want.analyzer, want.model, want.dimensions)
	if err != nil {
		return err
	}
	return p.analyze(ctx)
}

// rechunk stores every document again with what the analyzer of this program makes of it.
func (p *postgres) rechunk(ctx context.Context) error {
	var ids []string
	if err := p.row(ctx, queryMaintain, []any{pq.Array(&ids)}, `SELECT array_agg(id) FROM documents`); err != nil {
		return err
	}
	for _, id := range ids {
		d, err := p.document(ctx, id)
		if errors.Is(err, errNotFound) { // since it was listed
			continue
		}
		if err != nil {
			return err
		}
		err = p.transact(ctx, queryMaintain, func(tx *transaction) error {
			old, err := tx.lock(ctx, id)
			if err != nil || old.etag != d.etag {
				return err
			}
			return tx.store(ctx, d, nil, old, old.source)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
