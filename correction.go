package main

// Correction of the words of a query that no document has: by different spacing, or by the nearest words.

import (
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// dictionary looks up the words of a store's documents. They replace misspelt words of a query.
type dictionary interface {
	// frequent returns those of words that enough chunks contain to correct others, the most frequent first:
	// see minFrequency.
	frequent(words []string) ([]string, error)

	// nearest is like frequent for the words that are nearest to a misspelt one.
	nearest(misspelt string) ([]string, error)
}

// correct returns the question with its unknown words corrected, nil if there is nothing to correct.
func (q *question) correct(unknown []string, v dictionary) (*question, error) {
	corrections := make(map[string]string)
	for _, word := range unknown {
		from, to, err := q.correction(word, v)
		if err != nil {
			return nil, err
		}
		if to != "" {
			corrections[from] = to
		}
	}
	if len(corrections) == 0 {
		return nil, nil
	}
	return q.corrected(corrections), nil
}

// correction returns what replaces an unknown word, "" if nothing does, and what it replaces: the word, or
// the word with a neighbour.
func (q *question) correction(unknown string, v dictionary) (from, to string, err error) {
	respaced := q.respacings(unknown)
	var candidates []string
	for _, r := range respaced {
		candidates = append(candidates, strings.Fields(r.to)...)
	}
	known, err := v.frequent(candidates)
	if err != nil {
		return "", "", err
	}
	if best := bestRespacing(respaced, known); best.to != "" {
		return best.from, best.to, nil
	}

	nearest, err := v.nearest(unknown)
	if err != nil || len(nearest) == 0 {
		return "", "", err
	}
	return unknown, nearest[0], nil
}

// respacing is another way to set the spaces of a part of a query.
type respacing struct {
	from string // multi lingual; pathparameter
	to   string // multilingual; path parameter
}

// minSplitRunes is the length of the shortest word that a split makes.
const minSplitRunes = 4

// respacings returns the ways to join a word with a neighbour, and to split it into two.
func (q *question) respacings(word string) []respacing {
	var all []respacing
	asked := sequence(q.text)
	for i := range len(asked) - 1 {
		if asked[i] == word || asked[i+1] == word {
			all = append(all, respacing{
				from: asked[i] + " " + asked[i+1],
				to:   asked[i] + asked[i+1],
			})
		}
	}

	for at := range word {
		left := utf8.RuneCountInString(word[:at])
		right := utf8.RuneCountInString(word[at:])
		if left >= minSplitRunes && right >= minSplitRunes {
			all = append(all, respacing{word, word[:at] + " " + word[at:]})
		}
	}
	return all
}

// bestRespacing returns the respacing whose rarest word is the most frequent. known has the words that
// may be used, the most frequent first. The result is zero if there is none.
func bestRespacing(all []respacing, known []string) respacing {
	var best respacing
	bestRank := len(known)
	for _, r := range all {
		rank := 0
		for w := range strings.FieldsSeq(r.to) {
			i := slices.Index(known, w)
			if i < 0 {
				i = len(known)
			}
			rank = max(rank, i)
		}
		if rank < bestRank {
			best = r
			bestRank = rank
		}
	}
	return best
}

// maxCorrections is how many words of a query are corrected. For each, the words of all documents are looked through.
const maxCorrections = 16

// unknown returns the first maxCorrections words that no chunk contains, not even in part.
func (q *question) unknown(df func(term) int) []string {
	var unknown []string
	for _, w := range q.words {
		isCompleted := w.isPartial && len(q.completions) > 0
		isInner := func(inner questionWord) bool { return df(inner.term) > 0 }
		if w.kind == joinedWord || isCompleted || df(w.term) > 0 || slices.ContainsFunc(w.inner, isInner) {
			continue
		}
		if isCorrectable(w.text) && !slices.Contains(unknown, w.text) {
			unknown = append(unknown, w.text)
		}
		if len(unknown) == maxCorrections {
			break
		}
	}
	return unknown
}

// corrected returns the question with some words replaced: see replaceWords.
func (q *question) corrected(corrections map[string]string) *question {
	corrected := newQuestion(replaceWords(q.text, corrections), false)
	if len(q.completions) > 0 {
		corrected.partial = q.partial
		corrected.completions = q.completions
		corrected.markPartial()
	}
	return corrected
}

// replaceWords returns text with each word that corrections has, by its folded form, replaced, and so each
// two words with a space between them. Everything else stays as it is.
func replaceWords(text string, corrections map[string]string) string {
	pieces := slices.Collect(runsAndRest(text))
	var b strings.Builder
	for i := 0; i < len(pieces); i++ {
		if i+2 < len(pieces) && pieces[i+1] == " " {
			two := foldWord(pieces[i]) + " " + foldWord(pieces[i+2])
			if joined, ok := corrections[two]; ok {
				b.WriteString(joined)
				i += 2
				continue
			}
		}
		piece := pieces[i]
		if correction, ok := corrections[foldWord(piece)]; ok {
			piece = correction
		}
		b.WriteString(piece)
	}
	return b.String()
}

// runsAndRest yields the runs of a text, and each character between them.
func runsAndRest(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for at := 0; at < len(text); {
			end := runEnd(text, at)
			if end == at {
				_, size := utf8.DecodeRuneInString(text[at:])
				end = at + size
			}
			if !yield(text[at:end]) {
				return
			}
			at = end
		}
	}
}
