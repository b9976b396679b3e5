package main

// The large documents that PostgreSQL was asked for last. Slow readers of one document share its text, as they do in the
// embedded store. Without this, each of them holds a copy of up to 8 MiB.

import (
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// minRecentBytes is the size from which a document is worth sharing.
	minRecentBytes = 64 << 10

	// maxRecentBytes bounds the texts that are kept: at least two documents.
	maxRecentBytes = 2 * maxDocumentBytes

	// maxLargeReads is how many large documents are read at once: two, so that a slow read does not hold up all others.
	maxLargeReads = 2
)

// recentDocuments keeps large documents, the last one read first.
type recentDocuments struct {
	reads *admission

	mu        sync.Mutex
	documents []*document
}

func newRecentDocuments() *recentDocuments {
	r := &recentDocuments{reads: newAdmission(maxLargeReads)}
	r.reads.maxWaiting = math.MaxInt
	r.reads.maxWait = statementTimeout
	return r
}

// get returns this version of a document if it is kept, or nil.
func (r *recentDocuments) get(id, etag string, updated time.Time) *document {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.documents {
		if d.id == id && d.etag == etag && d.updated.Equal(updated) {
			return d
		}
	}
	return nil
}

// keep keeps d in place of an older version.
func (r *recentDocuments) keep(d *document) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.documents = slices.DeleteFunc(r.documents, func(old *document) bool { return old.id == d.id })
	r.documents = slices.Insert(r.documents, 0, d)
	kept := 0
	for i, known := range r.documents {
		kept += len(known.text)
		if kept > maxRecentBytes {
			clear(r.documents[i:])
			r.documents = r.documents[:i]
			return
		}
	}
}
