package main

// The embedded store: the folder is the database, and memory holds its index. Searches read an immutable
// snapshot and wait for nobody; writers make the next snapshot one after the other.

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
	folder       *folder // nil: read-only
	embedder     embedder
	vectorWeight float64
	observe      *observer
	current      atomic.Pointer[snapshot]

	writing sync.Mutex           // held by whoever makes the next snapshot
	written map[string]time.Time // when the API last wrote an id, for the scan that began before
}

// newMemory returns an empty store. Without a folder it is read-only but for sync.
func newMemory(f *folder, e embedder, vectorWeight float64, o *observer) *memory {
	m := &memory{
		folder:       f,
		embedder:     e,
		vectorWeight: vectorWeight,
		observe:      o,
		written:      make(map[string]time.Time),
	}
	m.current.Store(&snapshot{})
	return m
}

// start embeds in the background what the embedder could not when it was written.
func (m *memory) start(ctx context.Context, tasks *sync.WaitGroup) error {
	tasks.Go(func() { m.embedMissing(ctx) })
	return nil
}

func (m *memory) close() {}

func (m *memory) pool() poolStats { return poolStats{} }

// newEntries embeds and analyzes documents: the costly part of a write, done before any lock is taken.
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
		logAttrs(ctx, slog.String("embedding_error", err.Error())) // embedMissing tries again
	}
	entries := make([]*entry, len(documents))
	for i, d := range documents {
		entries[i] = newEntry(d, vectors[:len(d.chunks)])
		vectors = vectors[len(d.chunks):]
	}
	return entries, nil
}

// search ranks by the lexical and the vector leg and fuses the two.
func (m *memory) search(ctx context.Context, q query) (hits []hit, degraded bool, err error) {
	v, embedErr := m.embedder.query(ctx, q.text)
	s := m.current.Load()
	low, high := s.within(q.prefix)
	legs, end := stage(ctx, "db", querySearch.attrs()...)
	lexical, err := s.lexicalLeg(legs, q.text, low, high)
	var vector []candidate
	if err == nil {
		vector, err = s.vectorLeg(legs, v, low, high)
	}
	end(&err)
	if err != nil {
		return nil, false, err
	}
	_, end = stage(ctx, "rank")
	defer end(&err)
	return s.fuse(lexical, vector, m.vectorWeight, m.embedder.minCosine(), q.limit), embedErr != nil, nil
}

func (m *memory) document(ctx context.Context, id string) (_ *document, err error) {
	_, end := stage(ctx, "db", queryDocument.attrs()...)
	defer end(&err)
	_, e := m.current.Load().find(id)
	if e == nil {
		return nil, errNotFound
	}
	return e.document, nil
}

func (m *memory) list(ctx context.Context, prefix, after string, limit int) (_ []documentInfo, err error) {
	_, end := stage(ctx, "db", queryList.attrs()...)
	defer end(&err)
	s := m.current.Load()
	low, high := s.within(prefix)
	if i, e := s.find(after); i >= low {
		low = i
		if e != nil {
			low++
		}
	}
	infos := []documentInfo{}
	for _, e := range s.entries[min(low, high):min(low+limit, high)] {
		infos = append(infos, documentInfo{e.id, e.title, len(e.text), len(e.chunks), e.updated})
	}
	return infos, nil
}

// put writes the file and then shows the document to searches.
func (m *memory) put(ctx context.Context, d *document, pre precondition) (created bool, err error) {
	if m.folder == nil {
		return false, errReadOnly
	}
	entries, err := m.newEntries(ctx, []*document{d})
	if err != nil {
		return false, err
	}
	ctx, end := stage(ctx, "db", queryPut.attrs()...)
	defer end(&err)
	m.writing.Lock()
	defer m.writing.Unlock()
	_, old := m.current.Load().find(d.id)
	err = m.write(ctx, d.id, pre, func() error { return m.folder.write(ctx, d.id, d.text) })
	if err != nil {
		return false, err
	}
	m.commit(entries, nil)
	return old == nil, nil
}

// remove removes the file and the document.
func (m *memory) remove(ctx context.Context, id string, pre precondition) (err error) {
	ctx, end := stage(ctx, "db", queryRemove.attrs()...)
	defer end(&err)
	if m.folder == nil {
		return errReadOnly
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	if _, old := m.current.Load().find(id); old == nil {
		return errNotFound
	}
	err = m.write(ctx, id, pre, func() error { return m.folder.remove(ctx, id) })
	if err != nil {
		return err
	}
	m.commit(nil, []string{id})
	return nil
}

// write changes a file as change does if pre holds for the file itself: the index may not have read it yet, or have passed
// it over. The caller holds m.writing.
func (m *memory) write(ctx context.Context, id string, pre precondition, change func() error) error {
	if len(pre.match)+len(pre.noneMatch) > 0 {
		tag, err := m.folder.tag(ctx, id)
		if err == nil {
			err = pre.check(tag)
		}
		if err != nil {
			return err
		}
	}
	if err := change(); err != nil {
		return err
	}
	m.written[id] = time.Now()
	return nil
}

// sync takes over a scan's findings, but for ids that the API wrote since the scan began: those it may have seen as
// they were before.
func (m *memory) sync(ctx context.Context, began time.Time, changed []*document, gone []string) (err error) {
	isStored := func(d *document) bool {
		_, old := m.current.Load().find(d.id)
		return old != nil && old.etag == d.etag
	}
	entries, err := m.newEntries(ctx, slices.DeleteFunc(slices.Clone(changed), isStored))
	if err != nil {
		return err
	}
	_, end := stage(ctx, "db", querySync.attrs()...)
	defer end(&err)
	m.writing.Lock()
	defer m.writing.Unlock()
	maps.DeleteFunc(m.written, func(_ string, at time.Time) bool { return at.Before(began) })
	isWritten := func(id string) bool { _, ok := m.written[id]; return ok }
	entries = slices.DeleteFunc(entries, func(e *entry) bool { return isWritten(e.id) })
	m.commit(entries, slices.DeleteFunc(gone, isWritten))
	return nil
}

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

// commit makes the next snapshot. The caller holds m.writing.
func (m *memory) commit(changed []*entry, gone []string) {
	if len(changed)+len(gone) == 0 {
		return
	}
	old := m.current.Load()
	ids := slices.Clone(gone)
	next := &snapshot{slices.Grow(slices.Clone(old.entries), len(changed)), old.chunks}
	for _, e := range changed {
		i, before := next.find(e.id)
		if before == nil {
			next.entries = slices.Insert(next.entries, i, e)
		} else {
			next.entries[i] = e
			next.chunks -= len(before.chunks)
		}
		next.chunks += len(e.chunks)
		ids = append(ids, e.id)
	}
	for _, id := range gone {
		if i, before := next.find(id); before != nil {
			next.entries = slices.Delete(next.entries, i, i+1)
			next.chunks -= len(before.chunks)
		}
	}
	m.current.Store(next)
	m.notify(ids)
}

// embedMissing embeds what the embedder refused when it was written, until ctx ends.
func (m *memory) embedMissing(ctx context.Context) {
	for pause(ctx, recheckInterval) {
		ctx, end := m.observe.job(ctx, "embed_missing")
		var err error
		for _, e := range m.current.Load().entries {
			if err == nil && slices.Contains(e.scales, noVector) {
				err = m.embedAgain(ctx, e)
			}
		}
		end(&err)
	}
}

// embedAgain replaces e, unless it is replaced meanwhile, by an entry with its vectors.
func (m *memory) embedAgain(ctx context.Context, e *entry) error {
	vectors, err := m.embedder.documents(ctx, e.inputs())
	if err != nil && isEmpty(vectors) {
		return err
	}
	again := *e
	again.scales = make([]float32, len(e.scales))
	again.setVectors(vectors)
	m.writing.Lock()
	defer m.writing.Unlock()
	if _, current := m.current.Load().find(e.id); current == e {
		m.commit([]*entry{&again}, nil)
	}
	return nil
}
