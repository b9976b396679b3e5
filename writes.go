package main

// The steps of writing a document to PostgreSQL, for put, sync and reindex.
//
// Embedding comes before the transaction, so that no lock is held while the embedder works. The
// transaction locks the id, writes the rows of the document, and records the change last.

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"

	"github.com/lib/pq"
)

// embed returns the vectors of the documents' chunks, by document id. It leaves out documents that are
// stored with the same text. If the embedder fails, vectors are nil, and embedMissing adds them later.
func (p *postgres) embed(
	ctx context.Context,
	documents []*document,
	when embedTime,
) (map[string][][]float32, error) {
	documents, err := p.unstored(ctx, documents)
	if err != nil {
		return nil, err
	}

	var texts []string
	for _, d := range documents {
		texts = append(texts, d.inputs()...)
	}
	vectors, err := p.storedVectors(ctx, texts)
	if err != nil {
		return nil, err
	}
	if err := p.fillVectors(ctx, texts, vectors, when); err != nil {
		return nil, err
	}

	byID := make(map[string][][]float32)
	for _, d := range documents {
		n := len(d.chunks)
		byID[d.id] = vectors[:n]
		vectors = vectors[n:]
	}

	return byID, nil
}

// unstored returns the documents that are new or have another text than the stored one. It compares
// entity tags, which are hashes of the texts.
func (p *postgres) unstored(ctx context.Context, documents []*document) ([]*document, error) {
	if len(documents) == 0 {
		return nil, nil
	}

	var ids []string
	var etags []string
	for _, d := range documents {
		ids = append(ids, d.id)
		etags = append(etags, d.etag)
	}

	var stored []string
	err := p.row(ctx, queryKnown, []any{pq.Array(&stored)}, `
		SELECT array_agg(id) FROM documents
		JOIN unnest($1::text[], $2::text[]) AS new (id, etag) USING (id, etag)`,
		pq.Array(ids),
		pq.Array(etags))
	if err != nil {
		return nil, err
	}

	isStored := func(d *document) bool { return slices.Contains(stored, d.id) }
	return slices.DeleteFunc(slices.Clone(documents), isStored), nil
}

// storedVectors returns for each text a vector that any document has stored for the same text, or nil.
func (p *postgres) storedVectors(ctx context.Context, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	if !p.embedder.worthReusing() || len(texts) == 0 {
		return vectors, nil
	}

	inputs := make([][]byte, len(texts))
	for i, text := range texts {
		sum := sha256.Sum256([]byte(text))
		inputs[i] = sum[:]
	}

	type stored struct {
		text   int // from 1
		vector []float32
	}
	columns := func(s *stored) []any { return []any{&s.text, pq.Array(&s.vector)} }
	found, err := rows(ctx, p, queryKnown, columns, `
		SELECT i, e.embedding::real[]
		FROM unnest($1::bytea[]) WITH ORDINALITY AS new (input, i), LATERAL (
			SELECT embedding FROM embeddings
			WHERE input = new.input AND embedding IS NOT NULL LIMIT 1
		) AS e`,
		pq.Array(inputs))
	if err != nil {
		return nil, err
	}

	for _, s := range found {
		vectors[s.text-1] = s.vector
	}
	return vectors, nil
}

// fillVectors embeds the texts whose vector is nil and sets those vectors. If the embedder fails, it
// logs the error and leaves them nil.
func (p *postgres) fillVectors(
	ctx context.Context,
	texts []string,
	vectors [][]float32,
	when embedTime,
) error {
	var missing []string
	var places []int
	for i, v := range vectors {
		if v == nil {
			missing = append(missing, texts[i])
			places = append(places, i)
		}
	}

	embedded, err := embedInTime(ctx, p.embedder, missing, when)
	if ctx.Err() != nil {
		return ctx.Err()
	}

	if err != nil {
		logAttrs(ctx, slog.String("embedding_error", err.Error()))
	}
	for i, v := range embedded {
		vectors[places[i]] = v
	}
	return nil
}

// storedDocument describes the document that a write replaces. The zero value means that there is none.
type storedDocument struct {
	etag   string
	source string // fromFolder or fromAPI
	chunks int
}

// lock makes this transaction the only writer of id until it ends, and returns what is stored under it.
// It is an advisory lock, because an id without a document has no row to lock.
func (tx *transaction) lock(ctx context.Context, id string) (old storedDocument, err error) {
	err = tx.exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, id)
	if err != nil {
		return old, err
	}

	err = tx.row(ctx, []any{&old.etag, &old.source, &old.chunks}, `
		SELECT etag, source, chunks FROM documents WHERE id = $1`,
		id)
	if errors.Is(err, sql.ErrNoRows) {
		return old, nil
	}
	return old, err
}

// store writes the document, its chunks and their vectors in place of old. vectors has one for each
// chunk, or is nil. embedMissing later adds those that are nil. source is fromFolder or fromAPI.
func (tx *transaction) store(
	ctx context.Context,
	d *document,
	vectors [][]float32,
	old storedDocument,
	source string,
) error {
	added := 1
	if old.etag != "" {
		added = 0
		err := tx.exec(ctx, `DELETE FROM documents WHERE id = $1`, d.id)
		if err != nil {
			return err
		}
	}

	if err := tx.insertDocument(ctx, d, source); err != nil {
		return err
	}
	if err := tx.insertChunks(ctx, d, vectors); err != nil {
		return err
	}
	return tx.recordChange(ctx, added, len(d.chunks)-old.chunks, d.id)
}

// insertDocument inserts the row of d, without its chunks.
func (tx *transaction) insertDocument(ctx context.Context, d *document, source string) error {
	return tx.exec(ctx, `
		INSERT INTO documents (id, title, title_key, text, etag, bytes, chunks, indexed, source, updated)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		d.id,
		d.title,
		int64(titleKey(d.title)),
		d.text,
		d.etag,
		len(d.text),
		len(d.chunks),
		d.indexed,
		source,
		d.updated)
}

// A statement inserts at most maxInsertedChunks chunks, and none after one that brings their terms to maxInsertedTerms. That
// bounds the memory for its arguments: 100 bytes a term.
const (
	maxInsertedChunks = 500
	maxInsertedTerms  = 100_000 // 500 chunks of prose have half as many
)

// insertChunks analyzes and inserts all chunks of d.
func (tx *transaction) insertChunks(ctx context.Context, d *document, vectors [][]float32) error {
	embeddings := make([]pq.Float32Array, len(d.chunks)) // nil is NULL
	for i, v := range vectors {
		embeddings[i] = v
		if v == nil {
			tx.missing = true
		}
	}

	for next := 0; next < len(d.chunks); {
		columns := chunkColumns{words: make(vocabulary)}
		for next < len(d.chunks) && !columns.isFull() {
			columns.add(next, d, embeddings[next])
			next++
		}
		if err := tx.insertRows(ctx, d, &columns); err != nil {
			return err
		}
	}

	tx.stored += len(d.chunks)
	return nil
}

// chunkColumns holds rows of chunks and embeddings, one array for each column. unnest turns the arrays
// into rows, so a statement needs the same few parameters for any number of rows.
type chunkColumns struct {
	positions  []int
	headings   []string
	slugs      []string
	lines      []int
	texts      []string
	slots      []pq.Int64Array
	lex        []string
	embeddings []pq.Float32Array
	terms      int // the length of all slots
	words      vocabulary
}

// isFull reports whether a statement should insert the rows before more are added.
func (cc *chunkColumns) isFull() bool {
	return len(cc.positions) >= maxInsertedChunks || cc.terms >= maxInsertedTerms
}

// add analyzes the chunk at a position of d and appends its row.
func (cc *chunkColumns) add(position int, d *document, embedding pq.Float32Array) {
	c := d.chunks[position]
	lexical := lexicalVector(d.passage(position), cc.words)
	slots := pq.Int64Array{} // nil would be NULL
	for _, t := range lexical {
		slots = append(slots, int64(t.term))
	}

	cc.positions = append(cc.positions, position)
	cc.headings = append(cc.headings, c.heading)
	cc.slugs = append(cc.slugs, c.slug)
	cc.lines = append(cc.lines, c.line)
	cc.texts = append(cc.texts, c.text)
	cc.slots = append(cc.slots, slots)
	cc.lex = append(cc.lex, sparseVector(lexical))
	cc.embeddings = append(cc.embeddings, embedding)
	cc.terms += len(slots)
}

// insertRows inserts chunks of d. embeddings.input is the SHA-256 of what document.inputs returns for a
// chunk: storedVectors looks for it.
//
// New words go into the table of words in alphabetical order, so that two writers wait for each other in
// the same order.
func (tx *transaction) insertRows(ctx context.Context, d *document, cc *chunkColumns) error {
	words := slices.Sorted(maps.Keys(cc.words))
	terms := make([]int64, len(words))
	for i, w := range words {
		terms[i] = int64(cc.words[w])
	}

	return tx.exec(ctx, `
		WITH new AS (
			SELECT * FROM unnest($3::int[], $4::text[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[], $12::text[])
				AS new (position, heading, line, text, slots, lex, embedding, slug)
		), vocabulary AS (
			INSERT INTO words (word, term)
			SELECT word, term FROM unnest($10::text[], $11::int[]) AS new (word, term)
			WHERE NOT EXISTS (SELECT FROM words AS w WHERE w.word = new.word)
			ORDER BY word COLLATE "C" ON CONFLICT DO NOTHING
		), stored AS (
			INSERT INTO chunks (document, position, heading, slug, line, text, slots, lex)
			SELECT $1, position, heading, slug, line, text, slots::int[], lex::sparsevec FROM new
		)
		INSERT INTO embeddings (document, position, input, embedding)
		SELECT $1, position, sha256(convert_to(concat_ws(E'\n', $2::text, heading, text), 'UTF8')),
			embedding::real[]::halfvec
		FROM new`,
		d.id,
		d.title,
		pq.Array(cc.positions),
		pq.Array(cc.headings),
		pq.Array(cc.lines),
		pq.Array(cc.texts),
		pq.Array(cc.slots),
		pq.Array(cc.lex),
		pq.Array(cc.embeddings),
		pq.Array(words),
		pq.Array(terms),
		pq.Array(cc.slugs))
}

// recordChange counts a change, of which announce notifies the other replicas after the commit. It adds documents and
// chunks, which may be negative, to the stored counts.
//
// It must be the last statement of a write: it locks the only row of settings, which every write updates. Writers then
// wait for each other only while they commit.
func (tx *transaction) recordChange(
	ctx context.Context,
	documents int,
	chunks int,
	ids ...string,
) error {
	tx.changed = ids

	return tx.row(ctx, []any{&tx.change}, `
		UPDATE settings
		SET changes = changes + 1, documents = documents + $1::int, chunks = chunks + $2::int
		RETURNING changes`,
		documents,
		chunks)
}

// maxQuickChunks is how many chunks a database of usual speed stores in a second or two.
const maxQuickChunks = 4000

// tooManyChunks returns err. If time ran out while a document of very many chunks was stored, it returns instead what the
// client can do about that, because another try would not help.
func tooManyChunks(d *document, err error) error {
	if len(d.chunks) <= maxQuickChunks || errorType(err) != classTimeout {
		return err
	}
	return userErrorf(http.StatusRequestEntityTooLarge,
		"the document has %d passages, which the database does not store in %v: split it into documents of at most %d",
		len(d.chunks), handlerBudget, maxQuickChunks)
}
