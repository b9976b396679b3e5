package main

// The search of the embedded store: the lexical leg, the vector leg and their fusion. Both legs
// visit every entry with the query's prefix, so a search takes time in proportion to the
// collection: README has the numbers.

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// legs runs both legs of a search. Each returns at most legSize candidates with the query's
// prefix, best first. If v is nil, the vector leg is empty.
func (s *snapshot) legs(ctx context.Context, q query, v []float32) (lexical, vector []candidate, err error) {
	ctx, end := stage(ctx, stageDB, querySearch.attrs()...)
	defer end(&err)

	low, high := s.prefixRange(q.prefix)
	lexical, err = s.lexicalLeg(ctx, q.text, low, high)
	if err != nil {
		return nil, nil, err
	}

	vector, err = s.vectorLeg(ctx, v, low, high)
	return lexical, vector, err
}

// candidate is a chunk that a leg found.
type candidate struct {
	entry int // index in snapshot.entries
	chunk int
	score float64
}

// cancelInterval is the number of entries after which a leg checks its context.
const cancelInterval = 1024

// lexicalLeg ranks the chunks of entries[low:high] by BM25. Document frequencies are counted over
// all entries, during the search: a table of them could drift from the documents.
//
// Buffer pool: matches take 16 bytes for each occurrence of a query's term, up to megabytes.
func (s *snapshot) lexicalLeg(ctx context.Context, text string, low, high int) ([]candidate, error) {
	query, weights := queryTerms(text)
	buffer := matchBuffers.Get().(*[]match)
	defer matchBuffers.Put(buffer)

	matches, frequencies, err := s.findMatches(ctx, query, low, high, (*buffer)[:0])
	if err != nil {
		return nil, err
	}
	*buffer = matches

	for k, df := range frequencies {
		weights[k] *= idf(df, s.chunks)
	}
	return s.scoreMatches(matches, weights), nil
}

// match is a posting that a term of the query found.
type match struct {
	entry int32 // index in snapshot.entries
	query int32 // index of the term in the query
	posting
}

// matchBuffers holds the matches' slices between searches.
var matchBuffers = sync.Pool{New: func() any { return new([]match) }}

// findMatches appends the matches in entries[low:high] to matches, sorted by entry. frequencies says
// for each term of the query how many chunks of all entries contain it.
func (s *snapshot) findMatches(
	ctx context.Context, query []term, low, high int, matches []match,
) (_ []match, frequencies []int, err error) {
	frequencies = make([]int, len(query))
	for i, e := range s.entries {
		if i%cancelInterval == 0 && ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}

		for k, t := range query {
			postings := e.find(t)
			frequencies[k] += len(postings)
			if i < low || i >= high {
				continue
			}
			for _, p := range postings {
				matches = append(matches, match{int32(i), int32(k), p})
			}
		}
	}
	return matches, frequencies, nil
}

// scoreMatches returns the best chunks. The score of a chunk is the sum of its matches, each times
// the weight of its term. matches must be sorted by entry.
func (s *snapshot) scoreMatches(matches []match, weights []float64) []candidate {
	var leg ranking
	var scores []float64 // of the chunks of one entry
	for len(matches) > 0 {
		i := matches[0].entry
		n := len(s.entries[i].chunks)
		scores = slices.Grow(scores[:0], n)[:n]
		clear(scores)

		for len(matches) > 0 && matches[0].entry == i {
			m := matches[0]
			scores[m.chunk] += float64(m.weight) * weights[m.query]
			matches = matches[1:]
		}

		for j, score := range scores {
			if score > 0 {
				leg.add(candidate{int(i), j, score})
			}
		}
	}
	return leg.best()
}

// vectorLeg ranks the chunks of entries[low:high] by the cosine of their vectors and v. Vectors
// are of unit length, so the cosine is the dot product.
//
// Sparse dot product: the hashed vector of a short query is mostly zeros, which it skips. The price
// is a slower product where there are none, as with a remote embedder.
func (s *snapshot) vectorLeg(ctx context.Context, v []float32, low, high int) ([]candidate, error) {
	bytes := make([]int8, len(v))
	scale := quantize(v, bytes)
	query := sparse(bytes)
	if len(query) == 0 {
		return nil, nil
	}

	var leg ranking
	for i := low; i < high; i++ {
		if i%cancelInterval == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}

		e := s.entries[i]
		for j, chunkScale := range e.scales {
			if chunkScale == noVector {
				continue
			}
			stored := e.vector(j)
			var sum int32
			for _, d := range query {
				sum += d.value * int32(stored[d.index])
			}
			leg.add(candidate{i, j, float64(float32(sum) * scale * chunkScale)})
		}
	}
	return leg.best(), nil
}

// dimension is a component of a vector that is not 0.
type dimension struct {
	index int32
	value int32
}

// sparse returns the dimensions of vector.
func sparse(vector []int8) []dimension {
	var dimensions []dimension
	for i, x := range vector {
		if x != 0 {
			dimensions = append(dimensions, dimension{int32(i), int32(x)})
		}
	}
	return dimensions
}

// ranking collects the legSize best candidates. Among equal scores it prefers the first added.
//
// Partial sort: it keeps up to 4*legSize candidates, then sorts and cuts them to legSize. From then
// on the last of these is the score to beat. The price is 7 KB more than a heap of legSize takes.
type ranking struct {
	candidates []candidate
	isCut      bool // candidates[:legSize] are the best so far, in order
}

func (r *ranking) add(c candidate) {
	if r.isCut && c.score <= r.candidates[legSize-1].score {
		return
	}

	r.candidates = append(r.candidates, c)
	if len(r.candidates) == 4*legSize {
		r.candidates = r.best()
		r.isCut = true
	}
}

// best returns the best candidates by descending score, then by id of the document, then by chunk.
func (r *ranking) best() []candidate {
	slices.SortFunc(r.candidates, func(a, b candidate) int {
		if a.score != b.score { // the usual case; cmp.Or evaluates all of its arguments
			return cmp.Compare(b.score, a.score)
		}
		return cmp.Or(cmp.Compare(a.entry, b.entry), cmp.Compare(a.chunk, b.chunk))
	})
	return r.candidates[:min(len(r.candidates), legSize)]
}

// fused is a document that at least one leg found.
type fused struct {
	entry    int     // index in snapshot.entries
	score    float64 // the sum of the shares that the legs gave it
	maxShare float64 // the larger share
	chunk    int     // the best chunk in the leg that gave maxShare
	isHit    bool    // its score in at least one leg reached the minimum of the leg
	lastLeg  int     // the last leg that gave it a share: 1 or 2, 0 for none
}

// fusion holds the documents of both legs by the index of their entry.
type fusion map[int]*fused

// fuse returns the documents of both legs, best first. Within a leg, the best chunk of a document
// counts, and scores are scaled to 0..1 (min-max). The fused score is lexical + vectorWeight·vector
// (Bruch et al., "An Analysis of Fusion Functions for Hybrid Retrieval", TOIS 2023). A document
// that only the vector leg found must reach minCosine.
func fuse(lexical, vector []candidate, vectorWeight, minCosine float64) []*fused {
	byEntry := make(fusion)
	byEntry.addLeg(1, lexical, 1, 0)
	byEntry.addLeg(2, vector, vectorWeight, minCosine)

	var ranked []*fused
	for _, f := range byEntry {
		if f.isHit {
			ranked = append(ranked, f)
		}
	}
	slices.SortFunc(ranked, func(a, b *fused) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.entry, b.entry))
	})
	return ranked
}

// addLeg adds weight times the scaled scores of one leg, whose candidates are sorted best first.
func (byEntry fusion) addLeg(number int, leg []candidate, weight, minScore float64) {
	if len(leg) == 0 {
		return
	}
	best := leg[0].score
	worst := leg[len(leg)-1].score

	for _, c := range leg {
		f := byEntry[c.entry]
		if f == nil {
			f = &fused{entry: c.entry}
			byEntry[c.entry] = f
		}
		if f.lastLeg == number {
			continue // a better chunk of the document came before
		}
		f.lastLeg = number

		share := weight
		if best > worst {
			share *= (c.score - worst) / (best - worst)
		}
		f.score += share
		f.isHit = f.isHit || c.score >= minScore
		if share >= f.maxShare {
			f.maxShare = share
			f.chunk = c.chunk
		}
	}
}

// hits returns the first limit documents, each with its best chunk.
func (s *snapshot) hits(ranked []*fused, limit int) []hit {
	ranked = ranked[:min(limit, len(ranked))]
	hits := make([]hit, 0, len(ranked))
	for _, f := range ranked {
		e := s.entries[f.entry]
		c := e.chunks[f.chunk]
		hits = append(hits, hit{
			Document: e.id,
			Title:    e.title,
			Heading:  c.heading,
			Line:     c.line,
			Score:    f.score,
			Text:     c.text,
		})
	}
	return hits
}
