package main

// The embedded store: the folder is the database, and this is its index in memory. Searches read an immutable
// snapshot and wait for nobody; writers make the next snapshot one after the other.

import (
	"cmp"
	"context"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"math/bits"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// legSize is how many chunks of each leg, lexical and vector, take part in the fusion.
const legSize = 100

// memory is the embedded store.
type memory struct {
	watchers
	folder       *folder // nil: read-only
	embedder     embedder
	vectorWeight float64
	current      atomic.Pointer[snapshot]

	writing sync.Mutex           // held by whoever makes the next snapshot
	written map[string]time.Time // when the API last wrote an id, for the scan that began before
}

// snapshot is the whole index at one moment. It is never changed.
type snapshot struct {
	entries []*entry // by id
	chunks  int
}

// entry is a document with its index: about 1.7 KB a chunk beside the text.
type entry struct {
	*document
	terms     []documentTerm // sorted by term, then one that is greater than all
	postings  []posting      // by term, then by chunk
	signature []uint64       // Bloom filter of the terms: spares most of the searches in vain
	vectors   []int8         // the chunks' embeddings one after the other, each scaled to -127..127
	scales    []float32      // by chunk; noVector where there is none yet
}

// documentTerm is a term of a document, whose postings begin at from and end where those of the next one begin.
type documentTerm struct {
	term term
	from uint32
}

// posting is the lexical weight of a term in a chunk.
type posting struct {
	chunk  uint32
	weight float32
}

func newMemory(f *folder, vectorWeight float64) *memory {
	m := &memory{folder: f, embedder: hashedEmbedder{}, vectorWeight: vectorWeight, written: make(map[string]time.Time)}
	m.current.Store(&snapshot{})
	return m
}

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
		note(ctx, slog.String("embedding_error", err.Error())) // embedMissing tries again
	}
	entries := make([]*entry, len(documents))
	for i, d := range documents {
		entries[i] = newEntry(d, vectors[:len(d.chunks)])
		vectors = vectors[len(d.chunks):]
	}
	return entries, nil
}

// noVector is the scale of a vector that is missing.
const noVector = -1

// newEntry analyzes d. The vectors are those of its chunks, nil where they are missing.
func newEntry(d *document, vectors [][]float32) *entry {
	e := &entry{document: d, scales: make([]float32, len(d.chunks))}
	e.setVectors(vectors)
	byTerm := make(map[term][]posting)
	for i, c := range d.chunks {
		for _, t := range lexicalVector(d.title+"\n"+c.heading, c.text) {
			byTerm[t.term] = append(byTerm[t.term], posting{uint32(i), t.weight})
		}
	}
	e.terms = make([]documentTerm, 0, len(byTerm)+1)
	e.signature = make([]uint64, 1<<bits.Len(uint(len(byTerm)/8)))
	for _, t := range slices.Sorted(maps.Keys(byTerm)) {
		e.terms = append(e.terms, documentTerm{t, uint32(len(e.postings))})
		e.postings = append(e.postings, byTerm[t]...)
		e.signature[t>>6&term(len(e.signature)-1)] |= 1 << (t & 63)
	}
	e.terms = append(e.terms, documentTerm{1 << termBits, uint32(len(e.postings))})
	e.postings = slices.Clone(e.postings) // gives back the room that append left
	return e
}

// setVectors quantizes vectors, whose length is that of the first that is not missing.
func (e *entry) setVectors(vectors [][]float32) {
	dimensions := 0
	for _, v := range vectors {
		dimensions = max(dimensions, len(v))
	}
	e.vectors = make([]int8, len(vectors)*dimensions)
	for i, v := range vectors {
		e.scales[i] = noVector
		if v != nil {
			e.scales[i] = quantize(v, e.vector(i))
		}
	}
}

func (e *entry) vector(chunk int) []int8 {
	dimensions := len(e.vectors) / len(e.chunks)
	return e.vectors[chunk*dimensions : (chunk+1)*dimensions]
}

// quantize sets bytes to v scaled to signed bytes; v is about the bytes times scale.
func quantize(v []float32, bytes []int8) (scale float32) {
	for _, x := range v {
		scale = max(scale, float32(math.Abs(float64(x)))/127)
	}
	if scale > 0 {
		for i, x := range v {
			bytes[i] = int8(math.Round(float64(x / scale)))
		}
	}
	return scale
}

// find returns the postings of t.
func (e *entry) find(t term) []posting {
	if e.signature[t>>6&term(len(e.signature)-1)]&(1<<(t&63)) == 0 {
		return nil
	}
	i := int(uint64(t) * uint64(len(e.terms)) >> termBits) // hashes are spread evenly: it is here, or close by
	for i > 0 && e.terms[i-1].term >= t {
		i--
	}
	for e.terms[i].term < t {
		i++
	}
	if e.terms[i].term != t {
		return nil
	}
	return e.postings[e.terms[i].from:e.terms[i+1].from]
}

// loadFiles fills the store with the Markdown files at the root of files.
func (m *memory) loadFiles(ctx context.Context, files fs.FS) error {
	names, err := fs.Glob(files, "*.md")
	if err != nil {
		return err
	}
	var documents []*document
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		d, err := newDocument(name, string(text), time.Now())
		if err != nil {
			return err
		}
		documents = append(documents, d)
	}
	return m.sync(ctx, time.Now(), documents, nil)
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
	ctx, end := stage(ctx, "db", queries["put"]...)
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
	ctx, end := stage(ctx, "db", queries["remove"]...)
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

var errReadOnly = userError{http.StatusConflict, "these documents are read-only: set DOCS_DIR to a folder to keep your own"}

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
	_, end := stage(ctx, "db", queries["sync"]...)
	defer end(&err)
	m.writing.Lock()
	defer m.writing.Unlock()
	maps.DeleteFunc(m.written, func(_ string, at time.Time) bool { return at.Before(began) })
	isWritten := func(id string) bool { _, ok := m.written[id]; return ok }
	entries = slices.DeleteFunc(entries, func(e *entry) bool { return isWritten(e.id) })
	m.commit(entries, slices.DeleteFunc(gone, isWritten))
	return nil
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
	m.tell(ids)
}

// embedMissing embeds what the embedder refused when it was written, until ctx ends.
func (m *memory) embedMissing(ctx context.Context, o *observer) {
	for pause(ctx, recheckInterval) {
		ctx, end := o.job(ctx, "embed_missing")
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

func (m *memory) document(ctx context.Context, id string) (_ *document, err error) {
	_, end := stage(ctx, "db", queries["document"]...)
	defer end(&err)
	_, e := m.current.Load().find(id)
	if e == nil {
		return nil, errNotFound
	}
	return e.document, nil
}

func (m *memory) list(ctx context.Context, prefix, after string, limit int) (_ []documentInfo, err error) {
	_, end := stage(ctx, "db", queries["list"]...)
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

// within returns the range of entries whose id has the prefix.
func (s *snapshot) within(prefix string) (low, high int) {
	low, _ = s.find(prefix)
	high, _ = s.find(prefix + "\xff") // which no id has: they are UTF-8
	return low, high
}

// find returns the entry of that id, nil if there is none, and where it is or would be.
func (s *snapshot) find(id string) (i int, e *entry) {
	i, found := slices.BinarySearchFunc(s.entries, id, func(e *entry, id string) int { return strings.Compare(e.id, id) })
	if found {
		e = s.entries[i]
	}
	return i, e
}

// candidate is a chunk that one leg found.
type candidate struct {
	entry, chunk int
	score        float64
}

// search ranks by the lexical and the vector leg and fuses the two.
func (m *memory) search(ctx context.Context, q query) (hits []hit, degraded bool, err error) {
	v, embedErr := m.embedder.query(ctx, q.text)
	s := m.current.Load()
	low, high := s.within(q.prefix)
	legs, end := stage(ctx, "db", queries["search"]...)
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
	return s.fuse(lexical, vector, m.vectorWeight, m.embedder.floor(), q.limit), embedErr != nil, nil
}

// match is an occurrence of a query's term in a chunk.
type match struct {
	entry int32
	query int32 // which of the query's terms
	posting
}

var matchBuffers = sync.Pool{New: func() any { return new([]match) }}

// lexicalLeg scores the chunks of entries[low:high] by BM25 and returns the best. The document frequencies of the query's
// terms are counted on the way, over all entries: there is no table of them that could drift.
func (s *snapshot) lexicalLeg(ctx context.Context, text string, low, high int) ([]candidate, error) {
	query, weights := queryTerms(text)
	buffer := matchBuffers.Get().(*[]match)
	defer matchBuffers.Put(buffer)
	matches := (*buffer)[:0]
	frequency := make([]int, len(query))
	for i, e := range s.entries {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for k, t := range query {
			postings := e.find(t)
			frequency[k] += len(postings)
			if low <= i && i < high {
				for _, p := range postings {
					matches = append(matches, match{int32(i), int32(k), p})
				}
			}
		}
	}
	*buffer = matches
	for k, df := range frequency {
		weights[k] *= idf(df, s.chunks)
	}
	var leg ranking
	var scores []float64
	for len(matches) > 0 {
		i := matches[0].entry
		scores = append(scores[:0], make([]float64, len(s.entries[i].chunks))...)
		for len(matches) > 0 && matches[0].entry == i {
			scores[matches[0].chunk] += float64(matches[0].weight) * weights[matches[0].query]
			matches = matches[1:]
		}
		for j, score := range scores {
			if score > 0 {
				leg.add(candidate{int(i), j, score})
			}
		}
	}
	return leg.best(), nil
}

// vectorLeg returns the chunks of entries[low:high] with the greatest cosine to v. A short query's hashed vector is mostly
// zeros, and only its other dimensions are read.
func (s *snapshot) vectorLeg(ctx context.Context, v []float32, low, high int) ([]candidate, error) {
	bytes := make([]int8, len(v))
	scale := quantize(v, bytes)
	type dimension struct{ at, value int32 }
	var query []dimension
	for i, b := range bytes {
		if b != 0 {
			query = append(query, dimension{int32(i), int32(b)})
		}
	}
	var leg ranking
	if len(query) == 0 {
		return nil, nil
	}
	for i := low; i < high; i++ {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for j, chunkScale := range s.entries[i].scales {
			if chunkScale == noVector {
				continue
			}
			stored := s.entries[i].vector(j)
			var sum int32
			for _, d := range query {
				sum += d.value * int32(stored[d.at])
			}
			leg.add(candidate{i, j, float64(float32(sum) * scale * chunkScale)})
		}
	}
	return leg.best(), nil
}

// ranking keeps the legSize best of the candidates added; of equal ones the first.
type ranking struct {
	candidates []candidate
	cut        bool // the first legSize candidates are the best so far, in order
}

func (r *ranking) add(c candidate) {
	if r.cut && c.score <= r.candidates[legSize-1].score {
		return
	}
	if r.candidates = append(r.candidates, c); len(r.candidates) == 4*legSize {
		r.candidates, r.cut = r.best(), true
	}
}

func (r *ranking) best() []candidate {
	slices.SortFunc(r.candidates, func(a, b candidate) int {
		if a.score != b.score { // which is so nearly always: cmp.Or would compare all three
			return cmp.Compare(b.score, a.score)
		}
		return cmp.Or(cmp.Compare(a.entry, b.entry), cmp.Compare(a.chunk, b.chunk))
	})
	return r.candidates[:min(len(r.candidates), legSize)]
}

// fuse combines the legs document by document: each leg gives its best chunk's score, scaled to 0..1 within the leg
// (min-max), and the score is lexical + vectorWeight·vector (Bruch et al., "An Analysis of Fusion Functions for Hybrid
// Retrieval", TOIS 2023). What only the vector leg found must reach the cosine floor.
func (s *snapshot) fuse(lexical, vector []candidate, vectorWeight, floor float64, limit int) []hit {
	type fused struct {
		candidate         // the chunk of the leg that gave more, with the sum
		part      float64 // what that leg gave
		found     bool
		leg       int // the last one that it was found in
	}
	byEntry := make(map[int]*fused)
	add := func(number int, leg []candidate, weight, floor float64) {
		for _, c := range leg { // best first: the first of an entry is its best chunk
			f := byEntry[c.entry]
			if f == nil {
				f = &fused{candidate: candidate{entry: c.entry}}
				byEntry[c.entry] = f
			}
			if f.leg == number {
				continue
			}
			f.leg = number
			part := weight
			if best, worst := leg[0].score, leg[len(leg)-1].score; best > worst {
				part *= (c.score - worst) / (best - worst)
			}
			f.score += part
			f.found = f.found || c.score >= floor
			if part >= f.part {
				f.chunk, f.part = c.chunk, part
			}
		}
	}
	add(1, lexical, 1, 0)
	add(2, vector, vectorWeight, floor)
	var ranked []*fused
	for _, f := range byEntry {
		if f.found {
			ranked = append(ranked, f)
		}
	}
	slices.SortFunc(ranked, func(a, b *fused) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.entry, b.entry))
	})
	hits := make([]hit, 0, min(limit, len(ranked)))
	for _, f := range ranked[:min(limit, len(ranked))] {
		e := s.entries[f.entry]
		c := e.chunks[f.chunk]
		hits = append(hits, hit{e.id, e.title, c.heading, c.line, f.score, c.text})
	}
	return hits
}
