package main

// The fusion of the two legs of the embedded store's search, and its hits.

import (
	"cmp"
	"slices"
)

// fused is a document that at least one leg found.
type fused struct {
	entry    int // index in snapshot.entries
	lexical  float64
	vector   float64
	title    float64
	maxShare float64 // the larger share of the legs
	chunk    int     // the best chunk in the leg that gave maxShare
	isHit    bool
	lastLeg  int // the last leg that gave it a share: 1 lexical, 2 vector, 0 none
}

// score is what documents are ordered by.
func (f *fused) score() float64 { return f.lexical + f.vector + f.title }

// fusion holds the documents of both legs.
type fusion struct {
	byEntry map[int]*fused // by the index of their entry
	room    []fused        // for the next documents: see fusionRoom
}

// fusionRoom is how many documents are allocated at a time. With one at a time, they would be a third of a request's
// allocations.
const fusionRoom = 64

// fuse returns the documents of both legs, best first. Within a leg, the best chunk of a document
// counts, and scores are scaled to 0..1 (min-max). The fused score is lexical + vectorWeight·vector
// (Bruch et al., "An Analysis of Fusion Functions for Hybrid Retrieval", TOIS 2023), and the bonus for
// the title. A document without a word of the query must reach minCosine.
func (s *snapshot) fuse(r *legs, vectorWeight, minCosine float64) []*fused {
	both := fusion{byEntry: make(map[int]*fused)}
	both.addLeg(1, r.lexical, 1)
	both.addLeg(2, r.vector, vectorWeight)
	for _, i := range r.titled {
		f := both.get(i)
		f.title = titleBonus(vectorWeight)
		f.isHit = true
	}
	for _, c := range r.lexical {
		both.get(c.entry).isHit = true
	}
	for _, c := range r.vector {
		f := both.get(c.entry)
		f.isHit = f.isHit || c.score >= minCosine || s.shares(c.entry, r)
	}

	var ranked []*fused
	for _, f := range both.byEntry {
		if f.isHit {
			ranked = append(ranked, f)
		}
	}
	slices.SortFunc(ranked, func(a, b *fused) int {
		return cmp.Or(cmp.Compare(b.score(), a.score()), cmp.Compare(a.entry, b.entry))
	})
	return ranked
}

// shares reports whether an entry contains a term of the query.
func (s *snapshot) shares(entry int, r *legs) bool {
	for k, t := range r.terms {
		if r.weights[k] > 0 && s.entries[entry].find(t) != nil {
			return true
		}
	}
	return false
}

// get returns the document of an entry. It adds a document without scores if there is none.
func (both *fusion) get(entry int) *fused {
	f := both.byEntry[entry]
	if f == nil {
		if len(both.room) == 0 {
			both.room = make([]fused, fusionRoom)
		}
		f = &both.room[0]
		both.room = both.room[1:]
		f.entry = entry
		both.byEntry[entry] = f
	}
	return f
}

// addLeg adds weight times the scaled scores of one leg, whose candidates are sorted best first.
func (both *fusion) addLeg(number int, leg []candidate, weight float64) {
	if len(leg) == 0 {
		return
	}
	best := leg[0].score
	worst := leg[len(leg)-1].score

	for _, c := range leg {
		f := both.get(c.entry)
		if f.lastLeg == number {
			continue // a better chunk of the document came before
		}
		f.lastLeg = number

		share := weight
		if best > worst {
			share *= (c.score - worst) / (best - worst)
		}
		if number == 1 {
			f.lexical = share
		} else {
			f.vector = share
		}
		if share >= f.maxShare {
			f.maxShare = share
			f.chunk = c.chunk
		}
	}
}

// hits returns the first q.limit documents, each with its best chunk.
func (s *snapshot) hits(r *legs, ranked []*fused, q query) []hit {
	ranked = ranked[:min(q.limit, len(ranked))]
	hits := make([]hit, 0, len(ranked))
	for _, f := range ranked {
		e := s.entries[f.entry]
		c := e.chunks[f.chunk]
		h := hit{
			Document: e.id,
			Title:    e.title,
			Heading:  c.heading,
			Line:     c.line,
			Score:    f.score(),
			Text:     c.text,
			slug:     c.slug,
		}
		if e.twins.count.Load() > 1 {
			h.setTwins(s.twinIDs(e, q.prefix))
		}
		if q.explain {
			h.Why = e.why(r, f)
		}
		hits = append(hits, h)
	}
	return hits
}

// twinIDs returns the ids with the prefix of the entries that have the text of e.
func (s *snapshot) twinIDs(e *entry, prefix string) []string {
	var ids []string
	low, high := s.prefixRange(prefix)
	for _, other := range s.entries[low:high] {
		if other.twins == e.twins {
			ids = append(ids, other.id)
		}
	}
	return ids
}

// why explains the score of f, whose entry is e.
func (e *entry) why(r *legs, f *fused) *why {
	weights := make(map[term]float64)
	for k, t := range r.terms {
		for _, p := range e.find(t) {
			if int(p.chunk) == f.chunk {
				weights[t] = float64(p.weight) * r.weights[k]
			}
		}
	}
	return &why{
		Words:   r.question.explain(weights),
		Lexical: f.lexical,
		Vector:  f.vector,
		Title:   f.title,
	}
}
