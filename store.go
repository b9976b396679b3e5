package main

// The interface of a store, the names of its operations, and the watchers of its changes. Every store passes testStore.

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// store keeps documents and searches them. An error of kind userError is the caller's fault; any
// other is the store's.
type store interface {
	// start opens the store and runs its background work in tasks until ctx ends. It returns an
	// error only if retrying cannot help.
	start(ctx context.Context, tasks *sync.WaitGroup) error

	// search returns at most q.limit documents, by descending score, then by id. degraded reports
	// that the embedder failed, so that the lexical leg alone ranked them.
	search(ctx context.Context, q query) (hits []hit, degraded bool, err error)

	// document returns the document with this id, or errNotFound.
	document(ctx context.Context, id string) (*document, error)

	// list returns at most limit documents in the byte order of their ids: those whose id starts
	// with prefix and is greater than after.
	list(ctx context.Context, prefix, after string, limit int) ([]documentInfo, error)

	// put stores d durably if pre holds, and reports whether the id is new. It leaves an identical
	// document alone.
	put(ctx context.Context, d *document, pre precondition) (created bool, err error)

	// remove durably deletes the document with this id if pre holds, or returns errNotFound.
	remove(ctx context.Context, id string, pre precondition) error

	// sync applies the results of the folder scan that began at the given time: new and changed
	// documents, and the ids of removed files. A scan may take several calls. In the last one, and
	// only there, changed is nil.
	sync(ctx context.Context, began time.Time, changed []*document, gone []string) error

	// folderIDs returns the ids of the documents that came from the folder: a scan may remove only
	// these. It returns errElsewhere if another replica scans the folder.
	folderIDs(ctx context.Context) ([]string, error)

	// size counts documents and chunks.
	size(ctx context.Context) (documents, chunks int, err error)

	// pool returns the statistics of the database connections.
	pool() poolStats

	// watch calls changed after each change, with the changed ids, or with nil if any document may
	// have changed. changed must not block. stop ends the calls.
	watch(changed func(ids []string)) (stop func())

	// close releases what start opened. Call it after the tasks have ended.
	close()
}

// A search has two legs, lexical and vector. Each passes its best chunks, at most legSize, to the
// fusion.
const legSize = 100

// watchers are the callbacks of a store's watch. The zero value is ready to use.
type watchers struct {
	callbacks sync.Map // keys: *func(ids []string), because functions are not comparable
}

func (w *watchers) watch(changed func(ids []string)) (stop func()) {
	w.callbacks.Store(&changed, nil)
	return func() { w.callbacks.Delete(&changed) }
}

// notify calls every callback with the changed ids, or with nil if any document may have changed.
func (w *watchers) notify(ids []string) {
	for callback := range w.callbacks.Range {
		changed := *callback.(*func(ids []string))
		changed(ids)
	}
}

// queryName names an operation of a store in telemetry. Both stores use the same names. It is a
// number so that a misspelt name does not compile. Of a string type, any literal would compile.
type queryName uint8

const (
	querySearch queryName = iota
	queryDocument
	queryList
	querySize
	queryKnown
	queryPut
	querySync
	queryRemove
	queryEmbed
	queryMaintain
)

// queryAttrs holds the attributes of every queryName: the operation, then the summary.
var queryAttrs = [...][]slog.Attr{
	querySearch:   newQueryAttrs("SELECT", "search"),
	queryDocument: newQueryAttrs("SELECT", "document"),
	queryList:     newQueryAttrs("SELECT", "list"),
	querySize:     newQueryAttrs("SELECT", "size"),
	queryKnown:    newQueryAttrs("SELECT", "known"),
	queryPut:      newQueryAttrs("INSERT", "put"),
	querySync:     newQueryAttrs("INSERT", "sync"),
	queryRemove:   newQueryAttrs("DELETE", "remove"),
	queryEmbed:    newQueryAttrs("UPDATE", "embed"),
	queryMaintain: newQueryAttrs("UPDATE", "maintain"),
}

// newQueryAttrs returns a slice without spare capacity, so that append copies it.
func newQueryAttrs(operation, summary string) []slog.Attr {
	return []slog.Attr{
		slog.String("db.operation.name", operation),
		slog.String("db.query.summary", summary),
	}
}

// attrs returns the attributes of the query's stage. All stages share them, which saves an
// allocation, so the caller must not change them.
func (q queryName) attrs() []slog.Attr { return queryAttrs[q] }
