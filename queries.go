package main

// Every operation of the PostgreSQL store on documents, in the order of the store interface. The steps
// that its writes share are in writes.go.

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
)

// search ranks by the lexical and the vector leg and fuses the two document by document, as the embedded
// store does: see fuse. If the embedder does not answer, the lexical leg ranks alone.
func (p *postgres) search(ctx context.Context, q query) (hits []hit, degraded bool, err error) {
	vector, err := p.embedder.query(ctx, q.text)
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}

	degraded = err != nil
	if isZero(vector) {
		vector = nil // a query without words is similar to no text
	}

	frequencies := p.frequencies.Load()
	lexical, selecting := frequencies.weigh(queryTerms(q.text))

	var isExact sql.NullBool
	if q.prefix == "" {
		isExact = sql.NullBool{
			Bool:  frequencies.chunks <= p.exactChunks,
			Valid: true,
		}
	}

	columns := func(h *hit) []any {
		return []any{&h.Document, &h.Title, &h.Heading, &h.Line, &h.Score, &h.Text}
	}
	hits, err = rows(ctx, p, querySearch, columns, searchSQL,
		lexical,
		pq.Array(vector),
		likePrefix(q.prefix),
		isExact,
		selecting,
		p.vectorWeight,
		p.embedder.minCosine(),
		q.limit,
		p.exactChunks)
	return hits, degraded, err
}

// searchSQL ranks in these steps:
//   - narrow: whether there are so few chunks that each can be scored
//   - lexical, vector: the 100 best chunks of each leg
//   - scaled: their scores, scaled to 0..1 within the leg; the vector leg's times its weight
//   - best: the best chunk of each document in each leg
//   - fused: the documents by the sum of the two, with the chunk that contributes more
//
// Each leg has an exact branch, which scores every chunk, and a branch that uses its index. The
// condition on narrow does not depend on a row, so the branch not taken costs nothing. OFFSET 0 keeps
// the planner from computing a score twice, and from using the vector index in the exact branch.
//
// Its parameters are:
//   - $1 the query's lexical vector
//   - $2 the query's embedding, or NULL
//   - $3 LIKE pattern of the ids
//   - $4 whether to take the exact branches; NULL: if at most $9 chunks match $3
//   - $5 terms that select the candidates of the lexical leg
//   - $6 weight of the vector leg
//   - $7 minimum cosine for a chunk to count as found
//   - $8 maximum number of documents
//   - $9 exactChunks
const searchSQL = `
WITH narrow AS MATERIALIZED (
	SELECT coalesce($4::boolean, (
		SELECT count(*) <= $9 FROM (SELECT FROM chunks WHERE document LIKE $3 LIMIT $9 + 1) AS few
	)) AS yes
),

lexical AS MATERIALIZED (
	(SELECT * FROM (
		SELECT document, position, -(lex <#> $1) AS score FROM chunks
		WHERE (SELECT yes FROM narrow) AND document LIKE $3 OFFSET 0
	) AS every
	WHERE score > 0 ORDER BY score DESC, document, position LIMIT 100)
	UNION ALL
	(SELECT * FROM (
		SELECT document, position, -(lex <#> $1) AS score FROM chunks
		WHERE NOT (SELECT yes FROM narrow) AND document LIKE $3 AND slots && $5::int[] OFFSET 0
	) AS candidates
	ORDER BY score DESC, document, position LIMIT 100)
),

vector AS MATERIALIZED (
	(SELECT * FROM (
		SELECT document, position, -(embedding <#> $2::real[]::halfvec) AS score FROM embeddings
		WHERE (SELECT yes FROM narrow) AND document LIKE $3
			AND $2::real[] IS NOT NULL AND embedding IS NOT NULL OFFSET 0
	) AS every
	ORDER BY score DESC, document, position LIMIT 100)
	UNION ALL
	(SELECT document, position, -(embedding <#> $2::real[]::halfvec) AS score FROM embeddings
	WHERE NOT (SELECT yes FROM narrow) AND document LIKE $3 AND $2::real[] IS NOT NULL
	ORDER BY embedding <#> $2::real[]::halfvec LIMIT 100)
),

scaled AS (
	SELECT 1 AS leg, document, position, true AS found,
		coalesce((score - min(score) OVER ()) / nullif(max(score) OVER () - min(score) OVER (), 0), 1) AS part
	FROM lexical
	UNION ALL
	SELECT 2, document, position, score >= $7,
		$6 * coalesce((score - min(score) OVER ()) / nullif(max(score) OVER () - min(score) OVER (), 0), 1)
	FROM vector
),

best AS (
	SELECT DISTINCT ON (document, leg) * FROM scaled ORDER BY document, leg, part DESC, position
),

fused AS (
	SELECT document, sum(part) AS score, (array_agg(position ORDER BY part DESC, leg DESC))[1] AS position
	FROM best GROUP BY document HAVING bool_or(found)
	ORDER BY score DESC, document LIMIT $8
)

SELECT f.document, d.title, c.heading, c.line, f.score, c.text
FROM fused AS f
JOIN documents AS d ON d.id = f.document
JOIN chunks AS c ON c.document = f.document AND c.position = f.position
ORDER BY f.score DESC, f.document`

func (p *postgres) document(ctx context.Context, id string) (*document, error) {
	var text string
	var updated time.Time
	err := p.row(ctx, queryDocument, []any{&text, &updated}, `
		SELECT text, updated FROM documents WHERE id = $1`,
		id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return newDocument(id, text, updated)
}

// list reads a range of the primary key. The key has COLLATE "C", so LIKE 'guide/%' is a range of it.
func (p *postgres) list(
	ctx context.Context,
	prefix string,
	after string,
	limit int,
) ([]documentInfo, error) {
	columns := func(d *documentInfo) []any {
		return []any{&d.ID, &d.Title, &d.Bytes, &d.Chunks, &d.Updated}
	}

	return rows(ctx, p, queryList, columns, `
		SELECT id, title, bytes, chunks, updated FROM documents
		WHERE id LIKE $1 AND id > $2
		ORDER BY id LIMIT $3`,
		likePrefix(prefix),
		after,
		limit)
}

// The values of documents.source. The API does not change documents of the folder, and a scan does not
// change documents of the API.
const (
	fromFolder = "folder"
	fromAPI    = "api"
)

var errFromFolder = userError{
	http.StatusConflict,
	"this document comes from DOCS_DIR: change its file there",
}

// put checks pre while it holds the id's lock, so pre still holds when the document is written.
func (p *postgres) put(
	ctx context.Context,
	d *document,
	pre precondition,
) (created bool, err error) {
	vectors, err := p.embed(ctx, []*document{d}, embedNow)
	if err != nil {
		return false, err
	}

	err = p.transact(ctx, queryPut, func(tx *transaction) error {
		old, err := tx.lock(ctx, d.id)
		if err != nil {
			return err
		}
		if old.source == fromFolder {
			return errFromFolder
		}
		if err := pre.check(old.etag); err != nil {
			return err
		}
		if old.etag == d.etag {
			return nil
		}

		created = old.etag == ""
		return tx.store(ctx, d, vectors[d.id], old, fromAPI)
	})
	return created, err
}

// remove deletes the document's row, and ON DELETE CASCADE those of its chunks and embeddings.
func (p *postgres) remove(ctx context.Context, id string, pre precondition) error {
	return p.transact(ctx, queryRemove, func(tx *transaction) error {
		old, err := tx.lock(ctx, id)
		if err != nil {
			return err
		}
		if old.etag == "" {
			return errNotFound
		}
		if old.source == fromFolder {
			return errFromFolder
		}
		if err := pre.check(old.etag); err != nil {
			return err
		}

		err = tx.exec(ctx, `DELETE FROM documents WHERE id = $1`, id)
		if err != nil {
			return err
		}
		return tx.recordChange(ctx, -1, -old.chunks, id)
	})
}

// sync writes what the scan has found as long as this replica holds the folder's lease. Each document
// has a transaction of its own, which renews the lease.
func (p *postgres) sync(
	ctx context.Context,
	_ time.Time,
	changed []*document,
	gone []string,
) error {
	vectors, err := p.embed(ctx, changed, embedLater)
	if err != nil {
		return err
	}

	for _, d := range changed {
		embedded, isChanged := vectors[d.id]
		if !isChanged {
			continue
		}
		if err := p.syncDocument(ctx, d, embedded); err != nil {
			return err
		}
	}

	err = p.transact(ctx, querySync, func(tx *transaction) error {
		if err := tx.fence(ctx); err != nil {
			return err
		}
		if changed == nil { // the last call of a scan
			if err := tx.finishScan(ctx); err != nil {
				return err
			}
		}
		return tx.removeGone(ctx, gone)
	})
	isLast := len(changed) == 0
	if err == nil && isLast {
		p.checkHealth(ctx)
	}
	return err
}

// syncDocument stores d unless it is stored already, or the API has written a document with its id.
func (p *postgres) syncDocument(ctx context.Context, d *document, vectors [][]float32) error {
	return p.transact(ctx, querySync, func(tx *transaction) error {
		old, err := tx.lock(ctx, d.id)
		if err != nil {
			return err
		}
		if old.source == fromAPI || old.etag == d.etag {
			return nil
		}
		if err := tx.fence(ctx); err != nil {
			return err
		}

		return tx.store(ctx, d, vectors, old, fromFolder)
	})
}

// finishScan records that a scan of the folder has ended: see errFirstScan.
func (tx *transaction) finishScan(ctx context.Context) error {
	return tx.exec(ctx, `
		UPDATE leases SET finished = true WHERE name = 'folder' AND NOT finished`)
}

// removeGone removes the documents with these ids that came from the folder.
func (tx *transaction) removeGone(ctx context.Context, gone []string) error {
	if len(gone) == 0 {
		return nil
	}

	var removed []string
	var chunks int
	err := tx.row(ctx, []any{pq.Array(&removed), &chunks}, `
		WITH removed AS (
			DELETE FROM documents WHERE id = ANY($1) AND source = 'folder' RETURNING id, chunks
		)
		SELECT array_agg(id), coalesce(sum(chunks), 0) FROM removed`,
		pq.Array(gone))
	if err != nil || len(removed) == 0 {
		return err
	}
	return tx.recordChange(ctx, -len(removed), -chunks, removed...)
}

// folderIDs first claims the folder's lease: only its holder scans.
func (p *postgres) folderIDs(ctx context.Context) (ids []string, err error) {
	err = p.transact(ctx, querySync, func(tx *transaction) error {
		mine, finished, err := tx.claim(ctx, "folder")
		if err != nil {
			return err
		}
		if !mine && !finished {
			return errFirstScan
		}
		if !mine {
			return errElsewhere
		}

		return tx.row(ctx, []any{pq.Array(&ids)}, `
			SELECT array_agg(id) FROM documents WHERE source = 'folder'`)
	})
	return ids, err
}

// errFirstScan keeps a replica from being ready before the first scan of the folder has ended: searches
// would miss documents.
var errFirstScan = userError{
	http.StatusServiceUnavailable,
	"another replica is reading the folder for the first time",
}

// isZero reports whether v is the zero vector, as of a text without words, or nil.
func isZero(v []float32) bool {
	return !slices.ContainsFunc(v, func(x float32) bool { return x != 0 })
}

// likePrefix returns the LIKE pattern of strings that begin with prefix.
func likePrefix(prefix string) string {
	escaper := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)
	return escaper.Replace(prefix) + "%"
}
