package main

// Every SQL statement about documents. Both stores rank alike: see snapshot.fuse.

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
)

// search ranks by the lexical and the vector leg, each as far as its best 100 chunks, and fuses the two document by
// document: see snapshot.fuse, which it agrees with. Without the embedder's answer the hits are lexical, and degraded.
func (p *postgres) search(ctx context.Context, q query) (hits []hit, degraded bool, err error) {
	vector, err := p.embedder.query(ctx, q.text)
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	degraded = err != nil
	if !slices.ContainsFunc(vector, func(x float32) bool { return x != 0 }) {
		vector = nil // text without a word is similar to nothing
	}
	lexical, rarest := p.frequencies.Load().weigh(queryTerms(q.text))
	var exact sql.NullBool // how many chunks have the prefix is counted by the statement
	if q.prefix == "" {
		exact = sql.NullBool{Bool: p.frequencies.Load().chunks <= p.exactChunks, Valid: true}
	}
	hits, err = rows(ctx, p, querySearch, func(h *hit) []any {
		return []any{&h.Document, &h.Title, &h.Heading, &h.Line, &h.Score, &h.Text}
	}, searchSQL, lexical, pq.Array(vector), likePrefix(q.prefix), exact, rarest, p.vectorWeight, p.embedder.minCosine(), q.limit, p.exactChunks)
	return hits, degraded, err
}

// searchSQL: each leg has an exact branch, for few chunks, and one that uses its index; the condition on narrow does not
// depend on a row, so the branch not taken costs nothing. OFFSET 0 keeps a leg's score from being computed twice, and
// the vector index from being used by the exact branch.
const searchSQL = `
WITH narrow AS MATERIALIZED (
	SELECT coalesce($4::boolean, (SELECT count(*) <= $9 FROM (SELECT FROM chunks WHERE document LIKE $3 LIMIT $9 + 1) AS few)) AS yes
),
lexical AS MATERIALIZED (
	(SELECT * FROM (SELECT document, position, -(lex <#> $1) AS score FROM chunks
		WHERE (SELECT yes FROM narrow) AND document LIKE $3 OFFSET 0) AS every
	WHERE score > 0 ORDER BY score DESC, document, position LIMIT 100)
	UNION ALL
	(SELECT * FROM (SELECT document, position, -(lex <#> $1) AS score FROM chunks
		WHERE NOT (SELECT yes FROM narrow) AND document LIKE $3 AND slots && $5::int[] OFFSET 0) AS candidates
	ORDER BY score DESC, document, position LIMIT 100)
),
vector AS MATERIALIZED (
	(SELECT * FROM (SELECT document, position, -(embedding <#> $2::real[]::halfvec) AS score FROM embeddings
		WHERE (SELECT yes FROM narrow) AND document LIKE $3 AND $2::real[] IS NOT NULL AND embedding IS NOT NULL OFFSET 0) AS every
	ORDER BY score DESC, document, position LIMIT 100)
	UNION ALL
	(SELECT document, position, -(embedding <#> $2::real[]::halfvec) AS score FROM embeddings
	WHERE NOT (SELECT yes FROM narrow) AND document LIKE $3 AND $2::real[] IS NOT NULL
	ORDER BY embedding <#> $2::real[]::halfvec LIMIT 100)
),
scaled AS (
	SELECT 1 AS leg, document, position, true AS found, coalesce((score - min(score) OVER ()) / nullif(max(score) OVER () - min(score) OVER (), 0), 1) AS part
	FROM lexical
	UNION ALL
	SELECT 2, document, position, score >= $7, $6 * coalesce((score - min(score) OVER ()) / nullif(max(score) OVER () - min(score) OVER (), 0), 1)
	FROM vector
),
best AS (
	SELECT DISTINCT ON (document, leg) * FROM scaled ORDER BY document, leg, part DESC, position
),
fused AS (
	SELECT document, sum(part) AS score, (array_agg(position ORDER BY part DESC, leg DESC))[1] AS position
	FROM best GROUP BY document HAVING bool_or(found) ORDER BY score DESC, document LIMIT $8
)
SELECT f.document, d.title, c.heading, c.line, f.score, c.text
FROM fused AS f JOIN documents AS d ON d.id = f.document JOIN chunks AS c ON c.document = f.document AND c.position = f.position
ORDER BY f.score DESC, f.document`

func (p *postgres) document(ctx context.Context, id string) (*document, error) {
	var text string
	var updated time.Time
	err := p.row(ctx, queryDocument, []any{&text, &updated}, `SELECT text, updated FROM documents WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return newDocument(id, text, updated)
}

func (p *postgres) list(ctx context.Context, prefix, after string, limit int) ([]documentInfo, error) {
	return rows(ctx, p, queryList, func(d *documentInfo) []any {
		return []any{&d.ID, &d.Title, &d.Bytes, &d.Chunks, &d.Updated}
	}, `SELECT id, title, bytes, chunks, updated FROM documents WHERE id LIKE $1 AND id > $2 ORDER BY id LIMIT $3`, likePrefix(prefix), after, limit)
}

const (
	fromFolder = "folder"
	fromAPI    = "api"
)

var errFromFolder = userError{http.StatusConflict, "this document comes from DOCS_DIR: change its file there"}

func (p *postgres) put(ctx context.Context, d *document, pre precondition) (created bool, err error) {
	vectors, err := p.embed(ctx, []*document{d})
	if err != nil {
		return false, err
	}
	err = p.transact(ctx, queryPut, func(tx *transaction) error {
		old, err := tx.lock(ctx, d.id)
		if err == nil && old.source == fromFolder {
			err = errFromFolder
		}
		if err == nil {
			err = pre.check(old.etag)
		}
		created = err == nil && old.etag == ""
		if err != nil || old.etag == d.etag {
			return err
		}
		return tx.store(ctx, d, vectors[d.id], old, fromAPI)
	})
	return created, err
}

func (p *postgres) remove(ctx context.Context, id string, pre precondition) error {
	return p.transact(ctx, queryRemove, func(tx *transaction) error {
		old, err := tx.lock(ctx, id)
		switch {
		case err != nil:
			return err
		case old.etag == "":
			return errNotFound
		case old.source == fromFolder:
			return errFromFolder
		}
		if err := pre.check(old.etag); err != nil {
			return err
		}
		if err := tx.exec(ctx, `DELETE FROM documents WHERE id = $1`, id); err != nil {
			return err
		}
		return tx.recordChange(ctx, -1, -old.chunks, id)
	})
}

// sync writes what the scan found as long as this replica has the lease. What came over the API stays as it is.
func (p *postgres) sync(ctx context.Context, _ time.Time, changed []*document, gone []string) error {
	vectors, err := p.embed(ctx, changed)
	if err != nil {
		return err
	}
	for _, d := range changed {
		embedded, isNew := vectors[d.id]
		if !isNew {
			continue
		}
		err := p.transact(ctx, querySync, func(tx *transaction) error {
			old, err := tx.lock(ctx, d.id)
			if err != nil || old.source == fromAPI || old.etag == d.etag {
				return err
			}
			if err := tx.fence(ctx); err != nil {
				return err
			}
			return tx.store(ctx, d, embedded, old, fromFolder)
		})
		if err != nil {
			return err
		}
	}
	return p.transact(ctx, querySync, func(tx *transaction) error { return tx.finish(ctx, gone, changed == nil) })
}

// finish removes the documents whose files have gone. At the end of a scan it says that there has been one.
func (tx *transaction) finish(ctx context.Context, gone []string, ended bool) error {
	err := tx.fence(ctx)
	if err == nil && ended {
		err = tx.exec(ctx, `UPDATE leases SET finished = true WHERE name = 'folder' AND NOT finished`)
	}
	if err != nil || len(gone) == 0 {
		return err
	}
	var removed []string
	var chunks int
	err = tx.row(ctx, []any{pq.Array(&removed), &chunks}, `WITH removed AS (DELETE FROM documents WHERE id = ANY($1) AND source = 'folder' RETURNING id, chunks)
		SELECT array_agg(id), coalesce(sum(chunks), 0) FROM removed`, pq.Array(gone))
	if err != nil || len(removed) == 0 {
		return err
	}
	return tx.recordChange(ctx, -len(removed), -chunks, removed...)
}

// folderIDs claims the folder for this replica.
func (p *postgres) folderIDs(ctx context.Context) (ids []string, err error) {
	err = p.transact(ctx, querySync, func(tx *transaction) error {
		mine, finished, err := tx.claim(ctx, "folder")
		switch {
		case err != nil:
			return err
		case !mine && !finished:
			return userError{http.StatusServiceUnavailable, "another replica is reading the folder for the first time"}
		case !mine:
			return errElsewhere
		}
		return tx.row(ctx, []any{pq.Array(&ids)}, `SELECT array_agg(id) FROM documents WHERE source = 'folder'`)
	})
	return ids, err
}

func (p *postgres) size(ctx context.Context) (documents, chunks int, err error) {
	err = p.row(ctx, querySize, []any{&documents, &chunks}, `SELECT documents, chunks FROM settings`)
	return documents, chunks, err
}

// embed returns by id the vectors of the chunks of those documents that are not stored as they are, before any transaction
// begins. Chunks that are stored already keep their vectors. Where the embedder does not answer, vectors are nil:
// embedMissing fetches them later.
func (p *postgres) embed(ctx context.Context, documents []*document) (map[string][][]float32, error) {
	documents, err := p.unstored(ctx, documents)
	if err != nil {
		return nil, err
	}
	var texts, unknown []string
	for _, d := range documents {
		texts = append(texts, d.inputs()...)
	}
	vectors, err := p.known(ctx, texts)
	if err != nil {
		return nil, err
	}
	var places []*[]float32
	for i, text := range texts {
		if vectors[i] == nil {
			unknown, places = append(unknown, text), append(places, &vectors[i])
		}
	}
	embedded, err := embedInTime(ctx, p.embedder, unknown)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for i, v := range embedded {
		*places[i] = v
	}
	if err != nil {
		logAttrs(ctx, slog.String("embedding_error", err.Error()))
	}
	byID := make(map[string][][]float32)
	for _, d := range documents {
		byID[d.id], vectors = vectors[:len(d.chunks)], vectors[len(d.chunks):]
	}
	return byID, nil
}

// unstored returns those of the documents that are not stored as they are.
func (p *postgres) unstored(ctx context.Context, documents []*document) ([]*document, error) {
	if len(documents) == 0 {
		return nil, nil
	}
	var ids, etags, same []string
	for _, d := range documents {
		ids, etags = append(ids, d.id), append(etags, d.etag)
	}
	err := p.row(ctx, queryKnown, []any{pq.Array(&same)}, `SELECT array_agg(id) FROM documents
		JOIN unnest($1::text[], $2::text[]) AS new (id, etag) USING (id, etag)`, pq.Array(ids), pq.Array(etags))
	return slices.DeleteFunc(slices.Clone(documents), func(d *document) bool { return slices.Contains(same, d.id) }), err
}

// known returns the vectors of those texts that are stored with one, nil for the others.
func (p *postgres) known(ctx context.Context, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	if !p.embedder.worthReusing() || len(texts) == 0 {
		return vectors, nil
	}
	type known struct {
		text   int // from 1
		vector []float32
	}
	inputs := make([][]byte, len(texts))
	for i, text := range texts {
		sum := sha256.Sum256([]byte(text))
		inputs[i] = sum[:]
	}
	found, err := rows(ctx, p, queryKnown, func(k *known) []any { return []any{&k.text, pq.Array(&k.vector)} }, `SELECT i, e.embedding::real[]
		FROM unnest($1::bytea[]) WITH ORDINALITY AS new (input, i), LATERAL (
			SELECT embedding FROM embeddings WHERE input = new.input AND embedding IS NOT NULL LIMIT 1
		) AS e`, pq.Array(inputs))
	for _, k := range found {
		vectors[k.text-1] = k.vector
	}
	return vectors, err
}

// storedDocument is what a write has to know of what it replaces. The zero value: there is nothing.
type storedDocument struct {
	etag, source string
	chunks       int
}

// lock makes this transaction the only writer of id, whether it exists or not.
func (tx *transaction) lock(ctx context.Context, id string) (old storedDocument, err error) {
	if err := tx.exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, id); err != nil {
		return old, err
	}
	err = tx.row(ctx, []any{&old.etag, &old.source, &old.chunks}, `SELECT etag, source, chunks FROM documents WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return old, nil
	}
	return old, err
}

// store writes the document, its chunks and their vectors, of which it may be given none. insertChunks rows a statement
// bound the memory.
func (tx *transaction) store(ctx context.Context, d *document, vectors [][]float32, old storedDocument, source string) error {
	const insertChunks = 500
	added := 1
	if old.etag != "" {
		added = 0
		if err := tx.exec(ctx, `DELETE FROM documents WHERE id = $1`, d.id); err != nil {
			return err
		}
	}
	err := tx.exec(ctx, `INSERT INTO documents (id, title, text, etag, bytes, chunks, source, updated) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		d.id, d.title, d.text, d.etag, len(d.text), len(d.chunks), source, d.updated)
	if err != nil {
		return err
	}
	embeddings := make([]pq.Float32Array, len(d.chunks)) // nil is NULL
	for i, v := range vectors {
		embeddings[i] = v
		tx.missing = tx.missing || v == nil
	}
	for from := 0; from < len(d.chunks); from += insertChunks {
		if err := tx.insertChunks(ctx, d, embeddings, from, min(from+insertChunks, len(d.chunks))); err != nil {
			return err
		}
	}
	tx.stored += len(d.chunks)
	return tx.recordChange(ctx, added, len(d.chunks)-old.chunks, d.id)
}

func (tx *transaction) insertChunks(ctx context.Context, d *document, embeddings []pq.Float32Array, from, to int) error {
	var positions, lines []int
	var headings, texts, lex []string
	var slots []pq.Int64Array
	for i := from; i < to; i++ {
		c := d.chunks[i]
		terms := pq.Int64Array{}
		lexical := lexicalVector(d.title+"\n"+c.heading, c.text)
		for _, t := range lexical {
			terms = append(terms, int64(t.term))
		}
		positions, headings, lines, texts = append(positions, i), append(headings, c.heading), append(lines, c.line), append(texts, c.text)
		slots, lex = append(slots, terms), append(lex, sparseVector(lexical))
	}
	return tx.exec(ctx, `WITH new AS (
			SELECT * FROM unnest($3::int[], $4::text[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[])
				AS new (position, heading, line, text, slots, lex, embedding)
		), stored AS (
			INSERT INTO chunks (document, position, heading, line, text, slots, lex)
			SELECT $1, position, heading, line, text, slots::int[], lex::sparsevec FROM new
		)
		INSERT INTO embeddings (document, position, input, embedding)
		SELECT $1, position, sha256(convert_to(concat_ws(E'\n', $2::text, heading, text), 'UTF8')), embedding::real[]::halfvec FROM new`,
		d.id, d.title, pq.Array(positions), pq.Array(headings), pq.Array(lines), pq.Array(texts), pq.Array(slots), pq.Array(lex), pq.Array(embeddings[from:to]))
}

// recordChange tells the other replicas and the counters. It is the last statement of a write: it holds the row that all writes
// need, as NOTIFY makes all that notify wait for each other anyway.
func (tx *transaction) recordChange(ctx context.Context, documents, chunks int, ids ...string) error {
	tx.changed = ids
	return tx.exec(ctx, `WITH counted AS (
			UPDATE settings SET changes = changes + 1, documents = documents + $1::int, chunks = chunks + $2::int RETURNING changes
		)
		SELECT pg_notify('vitrine', concat_ws(' ', $3::text, changes, CASE cardinality($4::text[]) WHEN 1 THEN ($4::text[])[1] END)) FROM counted`,
		documents, chunks, tx.replica, pq.Array(ids))
}

// likePrefix returns the LIKE pattern of what begins with prefix.
func likePrefix(prefix string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(prefix) + "%"
}
