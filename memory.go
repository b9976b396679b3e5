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
	admission    *admission // of searches; nil: no limit
	current      atomic.Pointer[snapshot]
	corpus       *corpus
	incomplete   chan struct{} // an entry without all its vectors was stored

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
		incomplete:   make(chan struct{}, 1),
		written:      make(map[string]time.Time),
	}
	m.current.Store(&snapshot{})
	return m
}

// start runs the background jobs: embedding chunks whose vectors are missing, and asking an embedding API that is away.
func (m *memory) start(ctx context.Context, tasks *sync.WaitGroup) error {
	tasks.Go(func() {
		m.embedder.probe(ctx, m.observe.log, func() {
			m.wakeEmbedding(m.current.Load().entries)
		})
	})
	tasks.Go(func() { m.embedMissing(ctx) })
	return nil
}

// search fuses the lexical and the vector leg. If the embedder fails, the query has no vector and the
// vector leg is empty.
func (m *memory) search(ctx context.Context, q query) (found, error) {
	vector, embedErr := m.embedder.query(ctx, q.text)

	leave, err := m.admission.enter(ctx, clientOf(ctx))
	if err != nil {
		return found{}, err
	}
	defer leave()
	result, err := m.rank(ctx, q, vector)
	if err != nil {
		return found{}, err
	}
	result.degraded = embedErr != nil
	return result, nil
}

// rank runs both legs on the current snapshot and fuses them. vector is nil if the embedder failed.
func (m *memory) rank(ctx context.Context, q query, vector []float32) (result found, err error) {
	s := m.current.Load()
	searching := searcher{s, m.corpus, m.embedder}
	r, err := searching.legs(ctx, q, vector)
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
			Indexed: e.indexed,
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
	entries, err := m.newEntries(ctx, []*document{d}, embedNow)
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
	if err := m.folder.write(ctx, d); err != nil {
		return false, err
	}
	m.written[d.id] = time.Now()

	_, old := m.current.Load().find(d.id)
	m.commit(entries, nil)
	m.wakeEmbedding(entries)
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
	m.writing.Lock() // the file that a writer has just written is stored by the time that it unlocks
	changed = slices.DeleteFunc(slices.Clone(changed), isStored)
	m.writing.Unlock()
	entries, err := m.newEntries(ctx, changed, embedLater)
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
	gone = slices.DeleteFunc(slices.Clone(gone), isNewer)
	m.commit(entries, gone)
	m.wakeEmbedding(entries)
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

func (m *memory) status() storeStatus {
	s := m.current.Load()
	return storeStatus{documents: len(s.entries), chunks: s.chunks, cut: s.cut}
}

// pool returns zeros: there is no database.
func (m *memory) pool() poolStats { return poolStats{} }

// close has nothing to release.
func (m *memory) close() {}

// newEntries indexes and embeds documents. This is the expensive part of a write, so callers do it
// before they lock m.writing. The only error is that of ctx. If the embedder fails, vectors are
// missing and embedMissing retries.
func (m *memory) newEntries(
	ctx context.Context, documents []*document, when embedTime,
) ([]*entry, error) {
	entries := make([]*entry, len(documents))
	for i, d := range documents {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		entries[i] = newEntry(d)
	}

	_, err := setMissing(entries, func(texts []string) ([][]float32, error) {
		return embedInTime(ctx, m.embedder, texts, when)
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		logAttrs(ctx, slog.String("embedding_error", err.Error()))
	}
	return entries, nil
}

// checkFile checks pre against the file, not against the index: the file may have changed since the
// last scan, or the scan may have skipped it. The caller holds m.writing.
func (m *memory) checkFile(ctx context.Context, id string, pre precondition) error {
	if len(pre.match)+len(pre.noneMatch) == 0 {
		return nil // there is nothing to check: do not read the file
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

// wakeEmbedding lets embedMissing look for work now, if a chunk of the written entries has no vector.
func (m *memory) wakeEmbedding(written []*entry) {
	if !slices.ContainsFunc(written, (*entry).isIncomplete) {
		return
	}
	select {
	case m.incomplete <- struct{}{}:
	default: // it will look anyway
	}
}

// embedMissing embeds the chunks that have no vector, until ctx ends. It looks for them every recheckInterval, and when
// wakeEmbedding calls it.
func (m *memory) embedMissing(ctx context.Context) {
	ticker := time.NewTicker(recheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.incomplete:
		case <-ticker.C:
		}
		m.embedIncomplete(ctx)
	}
}

// embedIncomplete is a job that embeds the entries that miss a vector, some entries at a time. It stops at
// the first error: the others would probably fail too.
func (m *memory) embedIncomplete(ctx context.Context) {
	ctx, end := m.observe.job(ctx, "embed_missing")
	var err error
	defer end(&err)

	for group := range entryGroups(m.current.Load().entries) {
		var embedded int
		embedded, err = m.embedAgain(ctx, group...)
		if err != nil {
			return
		}
		logAttrs(ctx, slog.Int("chunks", embedded)) // the log line has the sum of all groups
	}
}

// embedAgain replaces entries with copies that have their missing vectors, except those that a write has replaced
// meanwhile. If the embedder returns only some of the vectors, it stores these and returns no error. embedded is the
// number of vectors that the embedder returned.
func (m *memory) embedAgain(ctx context.Context, entries ...*entry) (embedded int, err error) {
	copies := make([]*entry, len(entries))
	for i, e := range entries {
		copied := *e
		copied.vectors = slices.Clone(e.vectors)
		copied.scales = slices.Clone(e.scales)
		copies[i] = &copied
	}
	embedded, err = setMissing(copies, func(texts []string) ([][]float32, error) {
		return m.embedder.documents(ctx, texts)
	})
	if err != nil && embedded == 0 {
		return 0, err
	}

	var changed []*entry
	m.writing.Lock()
	defer m.writing.Unlock()
	for i, e := range entries {
		if _, current := m.current.Load().find(e.id); current == e {
			changed = append(changed, copies[i])
		}
	}
	m.commit(changed, nil)
	return embedded, nil
}
