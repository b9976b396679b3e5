package main

// The search of the embedded store: the lexical leg, the vector leg and their fusion. Both legs
// visit every entry with the query's prefix, so a search takes time in proportion to the
// collection: README has the numbers.

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
)

// legs are the results of both legs of a search.
type legs struct {
	question *question
	terms    []term    // of the question, including those with weight 0
	weights  []float64 // of the terms
	lexical  []candidate
	vector   []candidate
	titled   []int // entries whose title is the query
}

// searcher runs the searches of a snapshot.
type searcher struct {
	*snapshot
	corpus   *corpus
	embedder embedder
}

// legs analyzes the query and runs both legs. Each returns at most legSize candidates with the query's
// prefix, best first. If v is nil, the vector leg is empty.
func (s searcher) legs(ctx context.Context, q query, v []float32) (_ *legs, err error) {
	ctx, end := stage(ctx, stageDB, querySearch.attrs()...)
	defer end(&err)

	low, high := s.prefixRange(q.prefix)
	buffer := matchBuffers.Get().(*[]match)
	defer matchBuffers.Put(buffer)

	asked := newQuestion(q.text, q.partial)
	s.complete(asked)
	found, err := s.findMatches(ctx, asked, low, high, (*buffer)[:0])
	if err != nil {
		return nil, err
	}
	corrected, err := asked.correct(asked.unknown(found.frequency), s)
	if err != nil {
		return nil, err
	}
	if corrected != nil {
		asked = corrected
		if !s.embedder.worthReusing() { // it is the built-in one; models understand misspelt words
			v, _ = s.embedder.query(ctx, asked.text)
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
	r.titled = found.titled
	r.vector, err = s.vectorLeg(ctx, v, low, high)
	return r, err
}

// complete sets the completions of the question's partial word: the most frequent ones.
func (s searcher) complete(q *question) {
	if q.partial == "" {
		return
	}
	all := s.corpus.completions(q.partial)
	q.complete(mostFrequent(all, s.corpus.frequency, 1))
}

// frequent implements dictionary.
func (s searcher) frequent(words []string) ([]string, error) {
	isUnknown := func(w string) bool { return !s.corpus.has(w) }
	words = slices.DeleteFunc(words, isUnknown)
	return mostFrequent(words, s.corpus.frequency, minFrequency(s.chunks)), nil
}

// nearest implements dictionary.
func (s searcher) nearest(misspelt string) ([]string, error) {
	return s.frequent(s.corpus.nearest(misspelt))
}

// candidate is a chunk that a leg found.
type candidate struct {
	entry int // index in snapshot.entries
	chunk int
	score float64
}

// cancelInterval is the number of entries after which a leg checks its context and yields the CPU, so that a
// probe does not wait for the searches before it.
const cancelInterval = 1024

// match is a posting that a term of the query found.
type match struct {
	entry int32 // index in snapshot.entries
	query int32 // index of the term in the query
	posting
}

// matchBuffers holds the matches' slices between searches.
//
// Buffer pool: matches take 16 bytes for each occurrence of a query's term, up to megabytes.
var matchBuffers = sync.Pool{New: func() any { return new([]match) }}

// matches is what the terms of a question found.
type matches struct {
	terms       []term
	frequencies []int   // for each term, the number of chunks of all entries that contain it
	all         []match // sorted by entry
	titled      []int   // entries whose title is the question, each text once
}

// frequency returns the number of chunks that contain t, which is one of the terms.
func (m matches) frequency(t term) int {
	k, _ := slices.BinarySearch(m.terms, t)
	return m.frequencies[k]
}

// weights returns the weight of each term.
func (m matches) weights(q *question, chunks int) []float64 {
	weights := make([]float64, len(m.terms))
	for _, t := range q.weights(m.frequency, chunks) {
		k, _ := slices.BinarySearch(m.terms, t.term)
		weights[k] = float64(t.weight)
	}
	return weights
}

// findMatches finds the terms of q in entries[low:high], and appends the matches to buffer. It counts the
// document frequencies over all entries of the snapshot. Those of the corpus may be of a later snapshot.
func (s *snapshot) findMatches(
	ctx context.Context, q *question, low, high int, buffer []match,
) (matches, error) {
	found := matches{terms: q.terms(), all: buffer}
	found.frequencies = make([]int, len(found.terms))
	seen := make(map[*twins]bool)
	for i, e := range s.entries {
		if i%cancelInterval == 0 {
			if ctx.Err() != nil {
				return matches{}, ctx.Err()
			}
			runtime.Gosched()
		}

		for k, t := range found.terms {
			postings := e.find(t)
			found.frequencies[k] += len(postings)
			if i < low || i >= high {
				continue
			}
			for _, p := range postings {
				found.all = append(found.all, match{int32(i), int32(k), p})
			}
		}

		isTitled := q.title != 0 && e.titleKey == q.title && len(e.chunks) > 0
		if isTitled && low <= i && i < high && !e.isRepeated(seen) {
			found.titled = append(found.titled, i)
		}
	}
	return found, nil
}

// lexicalLeg returns the best chunks by BM25. The score of a chunk is the sum of its matches, each times
// the weight of its term. With phrases, only chunks that contain them count.
func (s *snapshot) lexicalLeg(found matches, r *legs) []candidate {
	leg := ranking{limit: legSize}
	required := r.question.required()
	if len(r.question.phrases) > 0 {
		leg.limit = phraseCandidates
	}

	var scores []chunkScore // of the chunks of one entry
	seen := make(map[*twins]bool)
	for rest := found.all; len(rest) > 0; {
		i := rest[0].entry
		e := s.entries[i]
		n := len(e.chunks)
		scores = slices.Grow(scores[:0], n)[:n]
		clear(scores)

		for len(rest) > 0 && rest[0].entry == i {
			m := rest[0]
			scores[m.chunk].sum += float64(m.weight) * r.weights[m.query]
			if _, isRequired := slices.BinarySearch(required, r.terms[m.query]); isRequired {
				scores[m.chunk].required++
			}
			rest = rest[1:]
		}

		if e.isRepeated(seen) {
			continue
		}
		for j, score := range scores {
			if score.sum > 0 && score.required == len(required) {
				leg.add(candidate{int(i), j, score.sum})
			}
		}
	}

	best := leg.best()
	if len(r.question.phrases) > 0 {
		best = slices.DeleteFunc(best, func(c candidate) bool {
			e := s.entries[c.entry]
			chunk := e.chunks[c.chunk]
			return !r.question.matches(e.title, chunk.heading, chunk.text)
		})
	}
	return best[:min(len(best), legSize)]
}

// chunkScore is the score of a chunk while it is summed up.
type chunkScore struct {
	sum      float64
	required int // number of required terms among its matches
}

// isRepeated reports whether an entry with the same text is in seen, and puts e there. Most texts occur
// once.
func (e *entry) isRepeated(seen map[*twins]bool) bool {
	if e.twins.count.Load() < 2 {
		return false
	}
	isRepeated := seen[e.twins]
	seen[e.twins] = true
	return isRepeated
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

	leg := ranking{limit: legSize}
	seen := make(map[*twins]bool)
	for i := low; i < high; i++ {
		if (i-low)%cancelInterval == 0 {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			runtime.Gosched()
		}

		e := s.entries[i]
		if e.isRepeated(seen) {
			continue
		}
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

// ranking collects the best candidates. Among equal scores it prefers the first added.
//
// Partial sort: it keeps up to four times the limit, then sorts and cuts the candidates. From then on the
// last of these is the score to beat. The price is 7 KB more than a heap of legSize takes.
type ranking struct {
	limit      int
	candidates []candidate
	isCut      bool // candidates[:limit] are the best so far, in order
}

// add adds a candidate, unless enough better ones are known.
func (r *ranking) add(c candidate) {
	if r.isCut && c.score <= r.candidates[r.limit-1].score {
		return
	}

	r.candidates = append(r.candidates, c)
	if len(r.candidates) == 4*r.limit {
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
	return r.candidates[:min(len(r.candidates), r.limit)]
}
