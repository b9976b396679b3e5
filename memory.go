package main

// The embedded store. The folder holds the documents durably. memory holds their index, and each
// start builds it again. Searches read an immutable snapshot of the index and take no lock.
// Writers run one at a time, and each publishes the next snapshot.

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// memory is the embedded store.
type memory struct {
	watchers
	folder       *folder // nil: put and remove answer errReadOnly
	embedder     embedder
	vectorWeight float64 // weight of the vector leg; the lexical leg has 1
	observe      *observer
	current      atomic.Pointer[snapshot]
	corpus       *corpus

	writing sync.Mutex           // serializes writers; guards written
	written map[string]time.Time // by id: when the API last wrote the file; see sync
}

// newMemory returns an empty store. put and remove write to f. If f is nil, the store is read-only,
// except for sync.
func newMemory(f *folder, e embedder, vectorWeight float64, o *observer) *memory {
	m := &memory{
		folder:       f,
		embedder:     e,
		vectorWeight: vectorWeight,
		observe:      o,
		corpus:       newCorpus(),
		written:      make(map[string]time.Time),
	}
	m.current.Store(&snapshot{})
	return m
}

// start runs the background job that embeds chunks whose vectors are missing.
func (m *memory) start(ctx context.Context, tasks *sync.WaitGroup) error {
	tasks.Go(func() { m.embedMissing(ctx) })
	return nil
}

// search fuses the lexical and the vector leg. If the embedder fails, the query has no vector and the
// vector leg is empty.
func (m *memory) search(ctx context.Context, q query) (found, error) {
	vector, embedErr := m.embedder.query(ctx, q.text)

	result, err := m.rank(ctx, q, vector)
	if err != nil {
		return found{}, err
	}
	result.degraded = embedErr != nil
	return result, nil
}

func (m *memory) rank(ctx context.Context, q query, vector []float32) (result found, err error) {
	s := m.current.Load()
	r, err := m.legs(ctx, s, q, vector)
	if err != nil {
		return found{}, err
	}

	_, end := stage(ctx, stageRank)
	defer end(&err)
	ranked := s.fuse(r, m.vectorWeight, m.embedder.minCosine())
	result.hits = s.hits(r, ranked, q)
	if r.question.text != q.text {
		result.corrected = r.question.text
	}
	return result, nil
}

// legs analyzes the query and runs both legs. Each returns at most legSize candidates with the query's
// prefix, best first. If v is nil, the vector leg is empty.
func (m *memory) legs(ctx context.Context, s *snapshot, q query, v []float32) (_ *legs, err error) {
	ctx, end := stage(ctx, stageDB, querySearch.attrs()...)
	defer end(&err)

	low, high := s.prefixRange(q.prefix)
	buffer := matchBuffers.Get().(*[]match)
	defer matchBuffers.Put(buffer)

	asked := newQuestion(q.text, q.partial)
	m.complete(s, asked)
	found, err := s.findMatches(ctx, asked, low, high, (*buffer)[:0])
	if err != nil {
		return nil, err
	}
	if corrected := m.correct(s, asked, found); corrected != nil {
		asked = corrected
		if !m.embedder.worthReusing() { // others understand misspelt words
			v, _ = m.embedder.query(ctx, asked.text)
		}
		found, err = s.findMatches(ctx, asked, low, high, found.all[:0])
		if err != nil {
			return nil, err
		}
	}
	*buffer = found.all

	r := &legs{
		question: asked,
		terms:    found.terms,
		weights:  found.weights(asked, s.chunks),
	}
	r.lexical = s.lexicalLeg(found, r)
	if len(asked.phrases) > 0 {
		return r, nil
	}
	r.titled = s.titled(asked.title, low, high)
	r.vector, err = s.vectorLeg(ctx, v, low, high)
	return r, err
}

// complete sets the completions of the question's partial word: the most frequent ones.
func (m *memory) complete(s *snapshot, q *question) {
	if q.partial == "" {
		return
	}
	all := m.corpus.completions(q.partial)
	mostFrequent(all, s.frequency)
	q.complete(all)
}

// correct returns the question with the words that no chunk has replaced by the nearest that some have,
// nil if there is nothing to replace.
func (m *memory) correct(s *snapshot, q *question, found matches) *question {
	corrections := make(map[string]string)
	for _, unknown := range q.unknown(found.frequency) {
		nearest := m.corpus.nearest(unknown)
		mostFrequent(nearest, s.frequency)
		if len(nearest) > 0 {
			corrections[unknown] = nearest[0]
		}
	}
	return q.corrected(corrections)
}

func (m *memory) document(ctx context.Context, id string) (_ *document, err error) {
	_, end := stage(ctx, stageDB, queryDocument.attrs()...)
	defer end(&err)

	_, e := m.current.Load().find(id)
	if e == nil {
		return nil, errNotFound
	}
	return e.document, nil
}

func (m *memory) list(ctx context.Context, prefix, after string, limit int) (_ []documentInfo, err error) {
	_, end := stage(ctx, stageDB, queryList.attrs()...)
	defer end(&err)

	s := m.current.Load()
	low, high := s.prefixRange(prefix)
	if i, e := s.find(after); i >= low {
		low = i
		if e != nil {
			low++
		}
	}

	infos := []documentInfo{} // not nil: an empty list is [] in JSON
	for _, e := range s.entries[min(low, high):min(low+limit, high)] {
		infos = append(infos, documentInfo{
			ID:      e.id,
			Title:   e.title,
			Bytes:   len(e.text),
			Chunks:  len(e.chunks),
			Updated: e.updated,
		})
	}
	return infos, nil
}

// put writes the file before it changes the index: searches find only what is durable.
func (m *memory) put(ctx context.Context, d *document, pre precondition) (created bool, err error) {
	if m.folder == nil {
		return false, errReadOnly
	}
	entries, err := m.newEntries(ctx, []*document{d})
	if err != nil {
		return false, err
	}

	ctx, end := stage(ctx, stageDB, queryPut.attrs()...)
	defer end(&err)
	m.writing.Lock()
	defer m.writing.Unlock()

	if err := m.checkFile(ctx, d.id, pre); err != nil {
		return false, err
	}
	if err := m.folder.write(ctx, d.id, d.text); err != nil {
		return false, err
	}
	m.written[d.id] = time.Now()

	_, old := m.current.Load().find(d.id)
	m.commit(entries, nil)
	return old == nil, nil
}

// remove deletes the file before it changes the index.
func (m *memory) remove(ctx context.Context, id string, pre precondition) (err error) {
	ctx, end := stage(ctx, stageDB, queryRemove.attrs()...)
	defer end(&err)

	if m.folder == nil {
		return errReadOnly
	}
	m.writing.Lock()
	defer m.writing.Unlock()

	if _, old := m.current.Load().find(id); old == nil {
		return errNotFound
	}
	if err := m.checkFile(ctx, id, pre); err != nil {
		return err
	}
	if err := m.folder.remove(ctx, id); err != nil {
		return err
	}
	m.written[id] = time.Now()

	m.commit(nil, []string{id})
	return nil
}

// sync skips ids that the API wrote after the scan began: the scan may have read the file before
// that write.
func (m *memory) sync(ctx context.Context, began time.Time, changed []*document, gone []string) (err error) {
	// A scan also reports files that the API wrote, and files whose text did not change.
	isStored := func(d *document) bool {
		_, old := m.current.Load().find(d.id)
		return old != nil && old.etag == d.etag
	}
	changed = slices.DeleteFunc(slices.Clone(changed), isStored)
	entries, err := m.newEntries(ctx, changed)
	if err != nil {
		return err
	}

	_, end := stage(ctx, stageDB, querySync.attrs()...)
	defer end(&err)
	m.writing.Lock()
	defer m.writing.Unlock()

	// No later scan needs older writes. If they stayed, the map would grow with every id.
	isOlder := func(_ string, at time.Time) bool { return at.Before(began) }
	maps.DeleteFunc(m.written, isOlder)

	isNewer := func(id string) bool {
		_, ok := m.written[id]
		return ok
	}
	entries = slices.DeleteFunc(entries, func(e *entry) bool { return isNewer(e.id) })
	m.commit(entries, slices.DeleteFunc(gone, isNewer))
	return nil
}

// folderIDs returns all ids: the folder holds every document of this store.
func (m *memory) folderIDs(context.Context) ([]string, error) {
	var ids []string
	for _, e := range m.current.Load().entries {
		ids = append(ids, e.id)
	}
	return ids, nil
}

func (m *memory) size(context.Context) (documents, chunks int, err error) {
	s := m.current.Load()
	return len(s.entries), s.chunks, nil
}

// pool returns zeros: there is no database.
func (m *memory) pool() poolStats { return poolStats{} }

// close has nothing to release.
func (m *memory) close() {}

// newEntries embeds and indexes documents. This is the expensive part of a write, so callers do it
// before they lock m.writing. The only error is that of ctx. If the embedder fails, vectors are
// missing and embedMissing retries.
func (m *memory) newEntries(ctx context.Context, documents []*document) ([]*entry, error) {
	var texts []string
	for _, d := range documents {
		texts = append(texts, d.inputs()...)
	}

	vectors, err := embedInTime(ctx, m.embedder, texts)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		logAttrs(ctx, slog.String("embedding_error", err.Error()))
	}

	entries := make([]*entry, len(documents))
	for i, d := range documents {
		n := len(d.chunks)
		entries[i] = newEntry(d, vectors[:n])
		vectors = vectors[n:]
	}
	return entries, nil
}

// checkFile checks pre against the file. The index may differ from it: the file may have changed
// since the last scan, or the scan may have skipped it. The caller holds m.writing.
func (m *memory) checkFile(ctx context.Context, id string, pre precondition) error {
	if len(pre.match)+len(pre.noneMatch) == 0 {
		return nil // reading the file would be in vain
	}

	tag, err := m.folder.tag(ctx, id)
	if err != nil {
		return err
	}
	return pre.check(tag)
}

// commit publishes the next snapshot, with the changed entries and without the gone ids, and
// notifies the watchers. The caller holds m.writing.
//
// Copy on write: searches take no lock and see whole documents. The price is a copy of the slice of
// entries for each commit: 8 bytes a document. Snapshots share the entries themselves.
func (m *memory) commit(changed []*entry, gone []string) {
	if len(changed)+len(gone) == 0 {
		return
	}

	next := m.current.Load().clone(len(changed))
	ids := slices.Clone(gone)
	for _, e := range changed {
		m.corpus.add(e)
		if old := next.set(e); old != nil {
			m.corpus.remove(old)
		}
		ids = append(ids, e.id)
	}
	for _, id := range gone {
		if old := next.delete(id); old != nil {
			m.corpus.remove(old)
		}
	}

	m.current.Store(next)
	m.notify(ids)
}

// embedMissing embeds chunks that have no vector, every recheckInterval until ctx ends.
func (m *memory) embedMissing(ctx context.Context) {
	for pause(ctx, recheckInterval) {
		ctx, end := m.observe.job(ctx, "embed_missing")
		err := m.embedIncomplete(ctx)
		end(&err)
	}
}

// embedIncomplete embeds each entry that misses a vector. It stops at the first error: the others
// would probably fail too.
func (m *memory) embedIncomplete(ctx context.Context) error {
	for _, e := range m.current.Load().entries {
		if !slices.Contains(e.scales, noVector) {
			continue
		}
		if err := m.embedAgain(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// embedAgain replaces e with a copy that has new vectors, unless a write has replaced e meanwhile.
// If the embedder returns only some of the vectors, it stores these and returns no error.
func (m *memory) embedAgain(ctx context.Context, e *entry) error {
	vectors, err := m.embedder.documents(ctx, e.inputs())
	if err != nil && isEmpty(vectors) {
		return err
	}

	embedded := *e
	embedded.words = e.vocabulary()
	embedded.scales = make([]float32, len(e.scales))
	embedded.setVectors(vectors)

	m.writing.Lock()
	defer m.writing.Unlock()
	if _, current := m.current.Load().find(e.id); current == e {
		m.commit([]*entry{&embedded}, nil)
	}
	return nil
}
