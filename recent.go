package main

// The large documents that PostgreSQL was asked for last. Slow readers of one document share its text, as they do in the
// embedded store. Without this, each of them holds a copy of up to 8 MiB.

import (
	"slices"
	"sync"
)

const (
	// minRecentBytes is the size from which a document is worth sharing.
	minRecentBytes = 64 << 10

	// maxRecentBytes bounds the texts that are kept: at least two documents.
	maxRecentBytes = 2 * maxDocumentBytes
)

// recentDocuments keeps large documents, the last one asked for first. The zero value is ready to use.
type recentDocuments struct {
	mu        sync.Mutex
	documents []*document
}

// get returns the document with this id as it was when it was last read, or nil.
func (r *recentDocuments) get(id string) *document {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.documents, func(d *document) bool { return d.id == id })
	if i < 0 {
		return nil
	}
	return r.documents[i]
}

// share keeps d if it is large. It returns the document that all callers share: d, or one with the same version that
// another caller has read meanwhile.
func (r *recentDocuments) share(d *document) *document {
	if len(d.text) < minRecentBytes {
		return d
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	for i, known := range r.documents {
		if known.id != d.id {
			continue
		}
		if known.etag == d.etag && known.updated.Equal(d.updated) {
			d = known
		}
		r.documents = slices.Delete(r.documents, i, i+1)
		break
	}

	r.documents = slices.Insert(r.documents, 0, d)
	kept := 0
	for i, known := range r.documents {
		kept += len(known.text)
		if kept > maxRecentBytes {
			clear(r.documents[i:])
			r.documents = r.documents[:i]
			break
		}
	}
	return d
}
