package main

// The weights of a query's terms in PostgreSQL. BM25 needs the number of chunks that contain a term. A
// count for every search would read the whole index. The planner's statistics are close enough, and
// ANALYZE refreshes them.

import (
	"slices"
	"strconv"
	"strings"
)

const (
	// maxRareTerms is how many of a query's terms select the candidates of the lexical leg in a large
	// collection. On 96,000 chunks they found the same 50 best chunks as all terms.
	maxRareTerms = 4

	// minCandidates is how many candidates the rare terms should select together: several times what
	// the leg keeps. If they select fewer, common terms select too.
	minCandidates = 5 * legSize
)

// frequencies says how many chunks contain a term, as of the last ANALYZE of chunks.slots. The zero
// value is that of the time before the first ANALYZE: all terms have the same weight.
type frequencies struct {
	chunks int
	counts map[term]int // of the 10,000 most common terms
	rare   int          // the estimate for every other term
}

// of returns the number of chunks that contain t.
func (f *frequencies) of(t term) int {
	if n, ok := f.counts[t]; ok {
		return n
	}
	return f.rare
}

// selectingTerms returns the terms of a query that select candidates as an int[] literal: the maxRareTerms
// rarest, without terms in more than a tenth of the chunks. It adds more terms only if these select too
// few.
func (f *frequencies) selectingTerms(query []weightedTerm) string {
	rarest := slices.Clone(query)
	slices.SortStableFunc(rarest, func(a, b weightedTerm) int { return f.of(a.term) - f.of(b.term) })

	var selecting []string
	candidates := 0
	for i, t := range rarest {
		n := f.of(t.term)
		isRare := i < maxRareTerms && n*10 <= f.chunks
		if !isRare && candidates >= minCandidates {
			break
		}
		selecting = append(selecting, strconv.Itoa(int(t.term)))
		candidates += n
	}
	return "{" + strings.Join(selecting, ",") + "}"
}

// sparseVector returns the literal of a sparsevec, {index:weight,…}/dimensions, whose indices begin at 1.
// The vector must be sorted by term.
func sparseVector(vector []weightedTerm) string {
	text := []byte{'{'}
	for i, t := range vector {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendUint(text, uint64(t.term)+1, 10)
		text = append(text, ':')
		text = strconv.AppendFloat(text, float64(t.weight), 'g', -1, 32)
	}
	return string(text) + "}/" + strconv.Itoa(1<<termBits)
}

// parseSparseVector parses what sparseVector returns, or the database for a sparsevec.
func parseSparseVector(text string) map[term]float64 {
	weights := make(map[term]float64)
	body, _, _ := strings.Cut(strings.TrimPrefix(text, "{"), "}")
	for pair := range strings.SplitSeq(body, ",") {
		index, value, _ := strings.Cut(pair, ":")
		i, err := strconv.Atoi(index)
		weight, err2 := strconv.ParseFloat(value, 64)
		if err == nil && err2 == nil {
			weights[term(i-1)] = weight
		}
	}
	return weights
}
