package main

// The index of the embedded store: documents with their postings and vectors, the two rankings and their fusion.

import (
	"cmp"
	"context"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

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
