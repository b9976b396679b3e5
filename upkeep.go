package main

// The PostgreSQL store's start and its background jobs: missing vectors, statistics, indexes, and
// the check of the database's health. Also reindex, for vitrine reindex.
//
// A lease makes sure that only one replica at a time does a job.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

const (
	// maintainInterval is how often maintain looks for work.
	maintainInterval = 5 * time.Second

	// loadingChanges is how many changes within maintainInterval count as a bulk load: ten a second.
	// maintain builds indexes after the load.
	loadingChanges = 10 * int64(maintainInterval/time.Second)

	// embedBatch is how many chunks embedMissing embeds at once.
	embedBatch = 256
)

// start opens the store and runs its background jobs until ctx ends. If the database is away, it keeps
// trying in the background, and requests get errUnavailable with the reason.
func (p *postgres) start(ctx context.Context, tasks *sync.WaitGroup) error {
	err := p.open(ctx)
	if err != nil && !errors.Is(err, errUnavailable) {
		return err
	}

	tasks.Go(func() {
		p.embedder.probe(ctx, p.observe.log, func() { p.incomplete.Store(true) })
	})
	tasks.Go(func() {
		p.retryOpen(ctx, err)
		tasks.Go(func() { p.listen(ctx) })
		tasks.Go(func() { p.maintain(ctx) })
		tasks.Go(func() { p.watchHealth(ctx) })
	})
	return nil
}

// retryOpen calls open until it succeeds or ctx ends. err is what the first call returned.
func (p *postgres) retryOpen(ctx context.Context, err error) {
	const triesPerLogLine = 30
	for try := 0; err != nil && ctx.Err() == nil; try++ {
		p.setUnavailable(err.Error())
		if try%triesPerLogLine == 0 {
			p.observe.log.WarnContext(ctx, "database not ready", "error", err, "retry", probeInterval.String())
		}
		pause(ctx, probeInterval)
		err = p.open(ctx)
	}
}

// watchHealth checks the database at once and then every probeInterval, until ctx ends. While the breaker
// is open, only this asks the database.
func (p *postgres) watchHealth(ctx context.Context) {
	wasAway := false
	for {
		p.checkHealth(ctx)
		isAway, cause := p.breaker.isOpen()
		switch {
		case isAway && !wasAway:
			p.observe.log.WarnContext(ctx, "database is away", "error", cause)
		case wasAway && !isAway:
			p.observe.log.InfoContext(ctx, "database answers again")
		}
		wasAway = isAway
		if !pause(ctx, probeInterval) {
			return
		}
	}
}

// maintain runs the background jobs one after the other until ctx ends. While the database only reads, they rest: nobody
// can take a lease there.
func (p *postgres) maintain(ctx context.Context) {
	var embeddedAt time.Time
	var lastChanges int64
	isIndexed := false
	for ; ctx.Err() == nil; pause(ctx, maintainInterval) {
		if p.checked.Load().readOnly != "" {
			continue
		}
		if p.incomplete.Swap(false) || time.Since(embeddedAt) >= recheckInterval {
			p.withLease(ctx, "embed_missing", p.embedMissing)
			embeddedAt = time.Now()
		}

		if p.isStale() {
			p.withLease(ctx, "analyze", p.analyze)
		}

		changes := p.changes.total()
		isLoading := changes-lastChanges > loadingChanges
		lastChanges = changes
		isLarge := p.frequencies.Load().chunks > p.exactChunks
		if isLarge && !isLoading && !isIndexed {
			isIndexed = p.withLease(ctx, "build_indexes", p.buildIndexes)
		}
	}
}

// isStale reports whether this replica has written a tenth of the collection since the last ANALYZE.
func (p *postgres) isStale() bool {
	modified := p.modified.Load()
	return modified > 0 && modified*10 >= int64(p.frequencies.Load().chunks)
}

// withLease runs do while it holds the lease with this name, and reports whether do has succeeded. It
// does nothing if another replica holds the lease. The context of do ends if the lease is lost.
func (p *postgres) withLease(
	ctx context.Context,
	name string,
	do func(ctx context.Context) error,
) (done bool) {
	ctx, end := p.observe.job(ctx, name)
	var err error
	defer end(&err)

	mine, err := p.claim(ctx, name)
	if err != nil || !mine {
		return false
	}

	leased, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		for pause(leased, leaseDuration/3) {
			mine, err := p.claim(ctx, name)
			isLost := err == nil && !mine // if the database is away, no other replica can take it
			if isLost {
				cancel()
			}
		}
	})

	err = do(leased)
	cancel()
	renewing.Wait()
	return err == nil
}

// claim is transaction.claim in a transaction of its own.
func (p *postgres) claim(ctx context.Context, name string) (mine bool, err error) {
	err = p.transact(ctx, queryMaintain, func(tx *transaction) error {
		var err error
		mine, _, err = tx.claim(ctx, name)
		return err
	})
	return mine, err
}

// embedMissing embeds the chunks that are stored without a vector. Their rows are the queue, so the
// queue survives a restart. Chunks that the embedder refuses go to its end.
func (p *postgres) embedMissing(ctx context.Context) error {
	for {
		chunks, err := p.missingVectors(ctx)
		if err != nil || len(chunks.texts) == 0 {
			return err
		}

		vectors, failure := p.embedder.documents(ctx, chunks.texts)
		stored, err := p.storeVectors(ctx, chunks, vectors)
		if err != nil {
			return err
		}
		if failure != nil && stored == 0 {
			return failure
		}

		logAttrs(ctx, slog.Int("chunks", stored)) // the log line has the sum of all batches
	}
}

// unembeddedChunks are rows of embeddings without a vector, column by column.
type unembeddedChunks struct {
	documents []string
	positions []int64
	inputs    [][]byte // the SHA-256 of each text
	texts     []string
}

// missingVectors returns the next batch of chunks to embed. Chunks that have never been tried come first.
// It leaves out chunks that were tried in the last 20 seconds.
func (p *postgres) missingVectors(ctx context.Context) (unembeddedChunks, error) {
	var chunks unembeddedChunks
	err := p.row(ctx, queryEmbed, []any{
		pq.Array(&chunks.documents),
		pq.Array(&chunks.positions),
		pq.Array(&chunks.inputs),
		pq.Array(&chunks.texts),
	}, `
		SELECT array_agg(document), array_agg(position), array_agg(input), array_agg(text) FROM (
			SELECT e.document, e.position, e.input, concat_ws(E'\n', d.title, c.heading, c.text) AS text
			FROM embeddings AS e
			JOIN chunks AS c ON c.document = e.document AND c.position = e.position
			JOIN documents AS d ON d.id = e.document
			WHERE e.embedding IS NULL
				AND (e.attempted IS NULL OR e.attempted < now() - interval '20 seconds')
			ORDER BY e.attempted NULLS FIRST LIMIT $1
		) AS missing`,
		embedBatch)
	return chunks, err
}

// storeVectors stores the vectors of chunks, except those that have changed in the meantime. For a vector
// that is nil it stores only the time of the attempt. stored is the number of the other vectors.
func (p *postgres) storeVectors(
	ctx context.Context,
	chunks unembeddedChunks,
	vectors [][]float32,
) (stored int, err error) {
	embeddings := make([]pq.Float32Array, len(chunks.texts)) // nil is NULL
	for i, v := range vectors {
		embeddings[i] = v
		if v != nil {
			stored++
		}
	}

	err = p.exec(ctx, queryEmbed, `
		UPDATE embeddings AS e
		SET embedding = new.embedding::real[]::halfvec, attempted = now()
		FROM unnest($1::text[], $2::int[], $3::bytea[], $4::text[])
			AS new (document, position, input, embedding)
		WHERE e.document = new.document AND e.position = new.position AND e.input = new.input`,
		pq.Array(chunks.documents),
		pq.Array(chunks.positions),
		pq.Array(chunks.inputs),
		pq.Array(embeddings))
	return stored, err
}

// analyze refreshes the statistics behind frequencies and lets all replicas reload them.
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

// largeIndexes defines, by name, the indexes that searches use in a large collection.
var largeIndexes = map[string]string{
	"chunks_slots":         `chunks USING gin (slots)`,
	"embeddings_embedding": `embeddings USING hnsw (embedding halfvec_ip_ops)`,
}

// buildIndexes builds the missing largeIndexes. Building an index after a bulk load is far faster than
// updating it during the load.
func (p *postgres) buildIndexes(ctx context.Context) error {
	for name, definition := range largeIndexes {
		err := p.buildIndex(ctx, name, definition, 2)
		if pq.As(err, pqerror.DiskFull) != nil {
			// Parallel workers need more shared memory than the 64 MB of a container.
			err = p.buildIndex(ctx, name, definition, 0)
		}
		if err != nil {
			return fmt.Errorf("building index %s: %w", name, err)
		}
	}
	return nil
}

// buildIndex builds an index unless it exists. First it drops what an interrupted build has left.
func (p *postgres) buildIndex(ctx context.Context, name, definition string, workers int) error {
	var isBuilt bool
	err := p.row(ctx, queryMaintain, []any{&isBuilt}, `
		SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid)`,
		name)
	if err != nil || isBuilt {
		return err
	}

	// An HNSW graph that does not fit into maintenance_work_mem takes ten times as long to build.
	chunkBytes := 2*p.embedder.dimensions() + 500
	graphBytes := p.frequencies.Load().chunks * chunkBytes
	megabytes := min(2000, 64+graphBytes>>20)
	err = p.execLong(ctx,
		`SET statement_timeout = 0`,
		fmt.Sprintf(`SET maintenance_work_mem = '%dMB'`, megabytes),
		fmt.Sprintf(`SET max_parallel_maintenance_workers = %d`, workers),
		`DROP INDEX CONCURRENTLY IF EXISTS `+name,
		`CREATE INDEX CONCURRENTLY `+name+` ON `+definition,
		`RESET ALL`)
	if err != nil {
		return err
	}
	logAttrs(ctx, slog.String("index", name))
	return nil
}

// reindex makes the stored rows fit this program and its settings: it computes all chunks and vectors
// again. Until it has ended, settings.model is empty, and only another reindex accepts the database.
func (p *postgres) reindex(ctx context.Context) error {
	if err := p.embedder.check(ctx); err != nil {
		return err
	}
	// open is expected to fail because the stored rows do not fit. Any other error occurs again below.
	if err := p.open(ctx); errors.Is(err, errUnavailable) {
		return err
	}

	err := p.execLong(ctx, append(migrations,
		`UPDATE settings SET model = ''`,
		`TRUNCATE words`,
		`DROP INDEX IF EXISTS embeddings_embedding`,
		fmt.Sprintf(`ALTER TABLE embeddings ALTER embedding TYPE halfvec(%d) USING NULL`,
			p.embedder.dimensions()))...)
	if err != nil {
		return advise(err)
	}
	p.unavailable.Store(nil)

	if err := p.rechunk(ctx); err != nil {
		return err
	}
	if err := p.embedMissing(ctx); err != nil {
		return err
	}

	want := p.fingerprint()
	err = p.exec(ctx, queryMaintain, `
		UPDATE settings SET schema = $1, analyzer = $2, model = $3, dimensions = $4`,
		want.schema,
		want.analyzer,
		want.model,
		want.dimensions)
	if err != nil {
		return err
	}
	return p.analyze(ctx)
}

// migrations bring an older schema to that of schema.sql. They change nothing in a current one.
var migrations = []string{
	`ALTER TABLE documents ADD COLUMN IF NOT EXISTS title_key bigint NOT NULL DEFAULT 0`,
	`ALTER TABLE documents ADD COLUMN IF NOT EXISTS indexed int NOT NULL DEFAULT 0`,
	`ALTER TABLE chunks ADD COLUMN IF NOT EXISTS slug text NOT NULL DEFAULT ''`,
	`CREATE TABLE IF NOT EXISTS words (word text COLLATE "C" PRIMARY KEY, term int NOT NULL)`,
	`CREATE INDEX IF NOT EXISTS words_term ON words (term)`,
	`CREATE INDEX IF NOT EXISTS documents_title ON documents (title_key)`,
	`CREATE INDEX IF NOT EXISTS documents_indexed ON documents (indexed) WHERE indexed > 0`,
	`CREATE INDEX IF NOT EXISTS documents_etag ON documents (etag)`,
}

// rechunk stores every document again, with the chunks of this program's analyzer.
func (p *postgres) rechunk(ctx context.Context) error {
	var ids []string
	err := p.row(ctx, queryMaintain, []any{pq.Array(&ids)}, `SELECT array_agg(id) FROM documents`)
	if err != nil {
		return err
	}

	for _, id := range ids {
		if err := p.rechunkDocument(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// rechunkDocument stores a document again, unless it has been removed or replaced in the meantime.
func (p *postgres) rechunkDocument(ctx context.Context, id string) error {
	d, err := p.document(ctx, id)
	if errors.Is(err, errNotFound) {
		return nil
	}
	if err != nil {
		return err
	}

	return p.transact(ctx, queryMaintain, func(tx *transaction) error {
		old, err := tx.lock(ctx, id)
		if err != nil || old.etag != d.etag {
			return err
		}
		return tx.store(ctx, d, nil, old, old.source)
	})
}
