package main

// Analysis of a query: what it asks for, word by word, and which terms it searches for.

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxQueryTerms is how many terms a search uses. Of more, it uses those with the greatest weights.
	maxQueryTerms = 64

	// pieceWeight is the weight of the pieces of a whole that is found: pages with no_cache come before
	// pages with cache.
	pieceWeight = 0.3

	// minPartialRunes is the length of the shortest beginning of a word that partial matching completes.
	minPartialRunes = 2
)

// question is an analyzed query.
type question struct {
	text    string
	words   []questionWord
	phrases [][]string // the words of each phrase in quotes
	title   uint64     // the titleKey of the query

	partial     string   // the last word, if only its beginning is known
	completions []string // of partial
}

// questionWord is a word of a query, with the parts and pieces of it.
type questionWord struct {
	word
	term      term
	inner     []questionWord
	isPartial bool // the last one, if only its beginning is known
}

// newQuestion analyzes a query. With partial, the last word may be incomplete.
func newQuestion(text string, partial bool) *question {
	q := &question{
		text:    text,
		phrases: phrases(text),
		title:   titleKey(text),
	}
	for w := range words(text) {
		asked := questionWord{word: w, term: newTerm(w.text)}
		if w.kind == partWord || w.kind == pieceWord {
			last := &q.words[len(q.words)-1]
			last.inner = append(last.inner, asked)
			continue
		}
		q.words = append(q.words, asked)
	}

	last, _ := utf8.DecodeLastRuneInString(text)
	if partial && isWordRune(last) && !isSpaceless(last) {
		q.markPartial()
	}
	q.addExact()
	return q
}

// markPartial marks the last word as partial if it is long enough.
func (q *question) markPartial() {
	for i := len(q.words) - 1; i >= 0; i-- {
		w := &q.words[i]
		if w.kind == joinedWord {
			continue
		}
		if utf8.RuneCountInString(w.text) >= minPartialRunes {
			q.partial = w.text
			w.isPartial = true
		}
		return
	}
}

// addExact adds the exact terms of the words, which only identifiers have: pointerevents finds
// pointerEvents before pointerEvent.
func (q *question) addExact() {
	for _, w := range q.words {
		if w.hasExactTerm() {
			w.kind = joinedWord
			w.term = exactTerm(w.text)
			w.inner = nil
			q.words = append(q.words, w)
		}
	}
}

// titleKey identifies a title, however it is cased and punctuated. A query with the same key is that
// title. The key of a text without words is 0.
func titleKey(text string) uint64 {
	all := sequence(text)
	if len(all) == 0 {
		return 0
	}
	return hash(strings.Join(all, " "))
}

var straightQuotes = strings.NewReplacer("“", `"`, "”", `"`, "„", `"`, "«", `"`, "»", `"`)

// phrases returns the words of each phrase in double quotes. A text that is mostly outside of quotes has
// none: it is prose that quotes something, and does not ask for the very words.
func phrases(text string) [][]string {
	parts := strings.Split(straightQuotes.Replace(text), `"`)
	if len(parts) < 3 {
		return nil
	}

	var found [][]string
	quoted := 0
	for i := 1; i+1 < len(parts); i += 2 { // what follows the last, unbalanced quote is no phrase
		if phrase := sequence(parts[i]); len(phrase) > 0 {
			found = append(found, phrase)
			quoted += len(phrase)
		}
	}
	if 2*quoted < len(sequence(text)) {
		return nil
	}
	return found
}

// sequence returns the words of text as a reader counts them: each once.
func sequence(text string) []string {
	var texts []string
	for w := range words(text) {
		if w.kind == plainWord || w.kind == wholeWord {
			texts = append(texts, w.text)
		}
	}
	return texts
}

// matches reports whether every phrase of q is in the title, in the heading or in the text of a chunk.
func (q *question) matches(title, heading, text string) bool {
	fields := [][]string{sequence(title), sequence(heading), sequence(text)}
	for _, phrase := range q.phrases {
		isIn := func(field []string) bool { return containsSequence(field, phrase) }
		if !slices.ContainsFunc(fields, isIn) {
			return false
		}
	}
	return true
}

func containsSequence(all, part []string) bool {
	for i := 0; i+len(part) <= len(all); i++ {
		if slices.Equal(all[i:i+len(part)], part) {
			return true
		}
	}
	return false
}

// complete sets the completions of the partial word, which are sorted best first. Stop words complete it
// only if the query has no other word.
func (q *question) complete(completions []string) {
	if len(q.words) > 1 {
		isStopWord := func(w string) bool { return stopWords[w] }
		completions = slices.DeleteFunc(completions, isStopWord)
	}
	q.completions = completions[:min(len(completions), maxCompletedWords)]
}

// required returns the terms that a chunk must contain to contain the phrases, sorted. Words that the
// index leaves out are not among them.
func (q *question) required() []term {
	var required []term
	for _, phrase := range q.phrases {
		for _, text := range phrase {
			if !stopWords[text] {
				required = append(required, newTerm(text))
			}
		}
	}
	slices.Sort(required)
	return slices.Compact(required)
}

// explain returns the words of the query with their weights in a chunk, the heaviest first.
func (q *question) explain(weights map[term]float64) []wordWeight {
	names := make(map[term]string)
	name := func(t term, text string) {
		if names[t] == "" {
			names[t] = text
		}
	}
	for _, w := range q.words {
		name(w.term, w.text)
		for _, inner := range w.inner {
			name(inner.term, inner.text)
		}
	}
	for _, w := range q.completions {
		name(newTerm(w), w)
	}

	words := []wordWeight{} // not nil: none is [] in JSON
	for t, weight := range weights {
		if weight > 0 {
			words = append(words, wordWeight{names[t], weight})
		}
	}
	slices.SortFunc(words, func(a, b wordWeight) int {
		return cmp.Or(cmp.Compare(b.Weight, a.Weight), strings.Compare(a.Word, b.Word))
	})
	return words
}

// wordWeight is a word with what it adds to the BM25 score of a passage.
type wordWeight struct {
	Word   string  `json:"word"`
	Weight float64 `json:"weight"`
}

// terms returns every term that the query may search for, once.
func (q *question) terms() []term {
	var all []term
	for _, w := range q.completions {
		all = append(all, newTerm(w))
	}
	for _, w := range q.words {
		all = append(all, w.term)
		for _, inner := range w.inner {
			all = append(all, inner.term)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// weights returns the terms to search for with their weights, sorted by term. df is the number of the
// n chunks that contain a term, 0 only if none does.
func (q *question) weights(df func(term) int, n int) []weightedTerm {
	byTerm := q.frequencies(df, false)
	if len(byTerm) == 0 {
		byTerm = q.frequencies(df, true)
	}

	var weighted []weightedTerm
	for t, count := range byTerm {
		weighted = append(weighted, weightedTerm{t, float32(count * idf(df(t), n))})
	}
	weighted = append(weighted, q.weightedCompletions(df, n)...)

	slices.SortFunc(weighted, func(a, b weightedTerm) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.term, b.term))
	})
	weighted = weighted[:min(len(weighted), maxQueryTerms)]
	slices.SortFunc(weighted, func(a, b weightedTerm) int { return cmp.Compare(a.term, b.term) })
	return weighted
}

// frequencies counts how often the query asks for each term. It leaves out stop words unless they are
// asked for.
func (q *question) frequencies(df func(term) int, withStopWords bool) map[term]float64 {
	byTerm := make(map[term]float64)
	add := func(w questionWord, weight float64) {
		if withStopWords || !stopWords[w.text] {
			byTerm[w.term] += weight
		}
	}

	for _, w := range q.words {
		if w.isPartial && len(q.completions) > 0 {
			continue // it is among its completions
		}
		isFound := df(w.term) > 0
		if isFound || w.kind == plainWord {
			add(w, 1)
		}
		for _, inner := range w.inner {
			switch {
			case !isFound:
				add(inner, 1)
			case inner.kind == pieceWord:
				add(inner, pieceWeight)
			}
		}
	}
	return byTerm
}

// weightedCompletions gives all completions of the partial word the weight of a term that is in as many
// chunks as all of them together, so that a rare completion does not outweigh the usual ones.
func (q *question) weightedCompletions(df func(term) int, n int) []weightedTerm {
	var completions []term
	for _, w := range q.completions {
		completions = append(completions, newTerm(w))
	}
	slices.Sort(completions)
	completions = slices.Compact(completions) // words with the same stem

	sum := 0
	for _, t := range completions {
		sum += df(t)
	}
	var weighted []weightedTerm
	for _, t := range completions {
		weight := idf(min(sum, n), n)
		weighted = append(weighted, weightedTerm{t, float32(weight)})
	}
	return weighted
}

// phraseCandidates is how many of the best chunks that have all words of a phrase are checked for the
// phrase itself.
const phraseCandidates = 1000

// titleBonus is what a document gets whose title is the query. It is more than the two legs together can
// give to any other document, which is at most 1 + vectorWeight.
func titleBonus(vectorWeight float64) float64 { return 2 + vectorWeight }
