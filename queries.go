package main

// Every operation of the PostgreSQL store on documents, in the order of the store interface. The steps
// that its writes share are in writes.go.

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"time"

	"github.com/lib/pq"
)

// document reads the text of a small document at once. That of a large one is read only if this version is not among
// the recent ones.
func (p *postgres) document(ctx context.Context, id string) (*document, error) {
	var text sql.NullString // NULL if it is large
	var etag string
	var updated time.Time
	err := p.row(ctx, queryDocument, []any{&text, &etag, &updated}, `
		SELECT CASE WHEN bytes < $2 THEN text END, etag, updated FROM documents WHERE id = $1`,
		id,
		minRecentBytes)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	if text.Valid {
		return newDocument(id, text.String, updated)
	}

	if d := p.recent.get(id, etag, updated); d != nil {
		return d, nil
	}
	leave, err := p.recent.reads.enter(ctx, clientOf(ctx))
	if err != nil {
		return nil, err
	}
	defer leave()
	if d := p.recent.get(id, etag, updated); d != nil { // another has read it meanwhile
		return d, nil
	}
	return p.readLarge(ctx, id)
}

// readLarge reads a document and keeps it for others.
func (p *postgres) readLarge(ctx context.Context, id string) (*document, error) {
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
	d, err := newDocument(id, text, updated)
	if err != nil {
		return nil, err
	}
	p.recent.keep(d)
	return d, nil
}

// list reads a range of the primary key. The key has COLLATE "C", so LIKE 'guide/%' is a range of it.
func (p *postgres) list(
	ctx context.Context,
	prefix string,
	after string,
	limit int,
) ([]documentInfo, error) {
	columns := func(d *documentInfo) []any {
		return []any{&d.ID, &d.Title, &d.Bytes, &d.Chunks, &d.Indexed, &d.Updated}
	}

	return rows(ctx, p, queryList, columns, `
		SELECT id, title, bytes, chunks, indexed, updated FROM documents
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
	return created, tooManyChunks(d, err)
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
	isLast := len(changed) == 0
	isComplete := changed == nil // every file could be read: see folder.apply
	vectors, err := p.embed(ctx, changed, embedLater)
	if err != nil {
		return err
	}

	err = p.syncDocuments(ctx, changed, vectors)
	if err != nil {
		return err
	}

	err = p.transact(ctx, querySync, func(tx *transaction) error {
		if err := tx.fence(ctx); err != nil {
			return err
		}
		if isComplete {
			if err := tx.finishScan(ctx); err != nil {
				return err
			}
		}
		return tx.removeGone(ctx, gone)
	})
	if err != nil {
		return err
	}
	if isLast {
		p.checkHealth(ctx)
	}
	return nil
}

// syncDocuments stores the documents that have vectors: the others are stored already. It skips those that the database
// refuses, with a warning.
func (p *postgres) syncDocuments(
	ctx context.Context,
	changed []*document,
	vectors map[string][][]float32,
) error {
	for _, d := range changed {
		embedded, isChanged := vectors[d.id]
		if !isChanged {
			continue
		}
		err := p.syncDocument(ctx, d, embedded)
		if isRefusal(err) {
			p.observe.log.WarnContext(ctx, "document skipped: the database refuses it",
				"document", d.id, "error", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
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

// finishScan records that a scan of the folder has read every file: see errFirstScan.
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
	if isReadOnly(err) {
		return nil, p.readOnlyFolder(ctx, err)
	}
	return ids, err
}

// readOnlyFolder returns errElsewhere if another replica has scanned the folder, else err.
func (p *postgres) readOnlyFolder(ctx context.Context, err error) error {
	var finished bool
	readErr := p.row(ctx, queryKnown, []any{&finished}, `
		SELECT EXISTS (SELECT FROM leases WHERE name = 'folder' AND finished)`)
	if readErr != nil || !finished {
		return err
	}
	return errElsewhere
}

// errFirstScan keeps a replica from being ready before the first scan of the folder has ended: searches
// would miss documents.
var errFirstScan = userError{
	http.StatusServiceUnavailable,
	"another replica is reading the folder for the first time",
}
