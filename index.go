package main

// The index of the embedded store: documents with their postings and vectors, in immutable
// snapshots. Each document has an index of its own, so a write touches no other. The search, which
// is in ranking.go, visits them all.

import (
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync/atomic"
)

// snapshot is the whole index at one moment. It is immutable once commit has published it.
type snapshot struct {
	entries []*entry // sorted by id
	chunks  int      // number of chunks in all entries
	cut     int      // entries that have only the beginning of their document
}

// entry is a document with its own index of about 2.5 KB a chunk (BenchmarkIndex).
type entry struct {
	*document
	terms    []documentTerm // sorted by term; the last one is a sentinel above all terms
	postings []posting      // by term, then by chunk
	bloom    []uint64       // Bloom filter of the terms; see mayContain
	vectors  []int8         // embeddings of the chunks, concatenated; see quantize
	scales   []float32      // of the vectors, by chunk; noVector: the vector is missing
	titleKey uint64
	words    vocabulary // nil once the entry has been committed
	twins    *twins     // the entries with the same text; set by commit
}

// twins counts the entries that have the same text.
type twins struct{ count atomic.Int32 }

// documentTerm is a distinct term of a document. Its postings end where those of the next term
// begin.
type documentTerm struct {
	term term
	from uint32 // index of its first posting
}

// posting is the lexical weight of a term in a chunk, without the inverse document frequency.
type posting struct {
	chunk  uint32
	weight float32
}

// noVector is the scale of a missing vector.
const noVector = -1

// newEntry indexes d, without vectors.
func newEntry(d *document) *entry {
	e := &entry{
		document: d,
		scales:   slices.Repeat([]float32{noVector}, len(d.chunks)),
		titleKey: titleKey(d.title),
		words:    make(vocabulary),
	}
	e.setTerms()
	return e
}

// setVector quantizes the vector of a chunk. All vectors of an entry have the same length.
func (e *entry) setVector(chunk int, v []float32) {
	if len(e.vectors) == 0 {
		e.vectors = make([]int8, len(e.chunks)*len(v))
	}
	e.scales[chunk] = quantize(v, e.vector(chunk))
}

// setTerms builds the postings and the Bloom filter from the text.
func (e *entry) setTerms() {
	var weighted []weightedTerm // of all chunks, one after the other
	ends := make([]int, len(e.chunks))
	next := make(map[term]uint32) // first the number of a term's postings, then the index of the next one
	for i := range e.chunks {
		vector := lexicalVector(e.passage(i), e.words)
		weighted = append(weighted, vector...)
		ends[i] = len(weighted)
		for _, t := range vector {
			next[t.term]++
		}
	}

	e.bloom = make([]uint64, 1<<bits.Len(uint(len(next)/8))) // 4 to 8 terms a word
	e.terms = make([]documentTerm, 0, len(next)+1)
	from := uint32(0)
	for _, t := range slices.Sorted(maps.Keys(next)) {
		e.terms = append(e.terms, documentTerm{t, from})
		count := next[t]
		next[t] = from
		from += count
		word, bit := e.bloomBit(t)
		e.bloom[word] |= bit
	}
	sentinel := documentTerm{1 << termBits, from}
	e.terms = append(e.terms, sentinel)

	e.postings = make([]posting, len(weighted))
	begin := 0
	for i, end := range ends {
		for _, t := range weighted[begin:end] {
			e.postings[next[t.term]] = posting{uint32(i), t.weight}
			next[t.term]++
		}
		begin = end
	}
}

// vector returns the quantized vector of a chunk. It is shared, not a copy.
func (e *entry) vector(chunk int) []int8 {
	dimensions := len(e.vectors) / len(e.chunks)
	return e.vectors[chunk*dimensions : (chunk+1)*dimensions]
}

// find returns the postings of t, nil if the document does not contain it.
//
// Interpolation search: terms are hashes, spread evenly over 0..1<<termBits, so the value of t
// gives its index, off by at most about √n/2 of n terms. The price: the sentinel, and more steps than
// a binary search takes in a document of thousands of terms.
func (e *entry) find(t term) []posting {
	if !e.mayContain(t) {
		return nil
	}

	i := int(uint64(t) * uint64(len(e.terms)) >> termBits)
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

// mayContain reports false only if the document does not contain t.
//
// Bloom filter with one hash function and 8 to 16 bits a term, so 6 to 12 % of the absent terms
// pass it. The price is those 1 to 2 bytes a term.
func (e *entry) mayContain(t term) bool {
	word, bit := e.bloomBit(t)
	return e.bloom[word]&bit != 0
}

// bloomBit returns the place of t in the Bloom filter: the index of a word, and a bit of it.
func (e *entry) bloomBit(t term) (word term, bit uint64) {
	mask := term(len(e.bloom) - 1) // the length is a power of two
	return t >> 6 & mask, 1 << (t & 63)
}

// quantize rounds v / scale into bytes and returns the scale, which makes the largest component
// ±127. The scale of the zero vector is 0.
//
// int8 quantization: a quarter of the memory of float32. The price is a rounding error of up to
// 1/254 of the largest component.
func quantize(v []float32, bytes []int8) (scale float32) {
	for _, x := range v {
		scale = max(scale, float32(math.Abs(float64(x)))/127)
	}
	if scale == 0 {
		return 0
	}

	for i, x := range v {
		bytes[i] = int8(math.Round(float64(x / scale)))
	}
	return scale
}

// find returns the index at which the entry with this id is or would be, and the entry, nil if
// there is none.
func (s *snapshot) find(id string) (i int, e *entry) {
	compare := func(e *entry, id string) int { return strings.Compare(e.id, id) }
	i, isFound := slices.BinarySearchFunc(s.entries, id, compare)
	if !isFound {
		return i, nil
	}
	return i, s.entries[i]
}

// prefixRange returns the bounds of the entries whose ids have the prefix: entries[low:high].
func (s *snapshot) prefixRange(prefix string) (low, high int) {
	low, _ = s.find(prefix)
	high, _ = s.find(prefix + "\xff") // ids are UTF-8: no byte of them is 0xff
	return low, high
}

// clone returns a copy that its caller may change, with capacity for more entries. It shares the
// entries.
func (s *snapshot) clone(more int) *snapshot {
	entries := make([]*entry, len(s.entries), len(s.entries)+more)
	copy(entries, s.entries)
	return &snapshot{entries, s.chunks, s.cut}
}

// set inserts e or replaces the entry with the same id, which it returns.
func (s *snapshot) set(e *entry) (old *entry) {
	i, old := s.find(e.id)
	if old == nil {
		s.entries = slices.Insert(s.entries, i, e)
	} else {
		s.entries[i] = e
		s.count(old, -1)
	}
	s.count(e, 1)
	return old
}

// count adds e to the counts, or takes it out of them if sign is -1.
func (s *snapshot) count(e *entry, sign int) {
	s.chunks += sign * len(e.chunks)
	if e.indexed > 0 {
		s.cut += sign
	}
}

// delete removes the entry with this id and returns it, nil if there is none.
func (s *snapshot) delete(id string) (old *entry) {
	i, old := s.find(id)
	if old == nil {
		return nil
	}
	s.entries = slices.Delete(s.entries, i, i+1)
	s.count(old, -1)
	return old
}
