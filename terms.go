package main

// Text into words, terms and their BM25 weights. Both stores, documents and queries share it, so a change of it changes
// what is stored: raise analyzerVersion with it.

import (
	"iter"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// analyzerVersion goes up with every change of what is made of a text: chunks, terms, weights, hashed vectors.
	analyzerVersion = 1

	// maxWordBytes bounds what a word may cost: longer runs are cut into several words.
	maxWordBytes = 64

	// averageLength is a constant instead of the collection's mean (no worse on seven labelled sets), so that the
	// weights of a document depend on its own text alone.
	averageLength = 100

	// headingBoost is how often a term of the title or heading counts.
	headingBoost = 3
)

// term is the hash of a stemmed word. 29 bits keep a chance match of two words rarer than one in 5,000 at 100,000
// distinct words, and fit PostgreSQL's sparsevec and integer arrays.
type term uint32

const termBits = 29

// weightedTerm is one entry of a chunk's lexical vector.
type weightedTerm struct {
	term   term
	weight float32
}

// words yields the words of text in order, case-folded: runs of letters, digits and marks, with identifiers split
// where their case changes (maxConns is max, conns; HTTPServer is http, server). Scripts that are written without
// spaces yield each character and each pair of neighbours.
func words(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for run := range strings.FieldsFuncSeq(text, func(r rune) bool { return !isWordRune(r) }) {
			for len(run) > 0 {
				first, _ := utf8.DecodeRuneInString(run)
				end := wordEnd(run)
				word := strings.Map(fold, run[:end])
				run = run[end:]
				if isSpaceless(first) {
					if !yieldGrams(word, yield) {
						return
					}
				} else if !yield(word) {
					return
				}
			}
		}
	}
}

func isWordRune(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// isSpaceless reports whether r belongs to a script whose words cannot be told apart by spaces. Hangul is among them
// because its particles are written onto the word.
func isSpaceless(r rune) bool {
	return r >= 0x0e00 && (r == 'ー' || unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul,
		unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar))
}

// wordEnd returns the length in bytes of the word that a run of word runes begins with.
func wordEnd(text string) int {
	first, size := utf8.DecodeRuneInString(text)
	spaceless := isSpaceless(first)
	previous := first
	for i, r := range text[size:] {
		at := size + i
		if at >= maxWordBytes || !unicode.IsMark(r) && isSpaceless(r) != spaceless {
			return at
		}
		if unicode.IsUpper(r) {
			next, _ := utf8.DecodeRuneInString(text[at+utf8.RuneLen(r):])
			if !unicode.IsUpper(previous) || unicode.IsLower(next) {
				return at
			}
		}
		previous = r
	}
	return len(text)
}

// yieldGrams yields the characters of word and the pairs of neighbours among them.
func yieldGrams(word string, yield func(string) bool) bool {
	previous := -1
	for i, r := range word {
		size := utf8.RuneLen(r)
		if !yield(word[i:i+size]) || previous >= 0 && !yield(word[previous:i+size]) {
			return false
		}
		previous = i
	}
	return true
}

// fold maps all runes that differ only in case to one of them (Unicode simple case folding), so that ς, σ and Σ are
// the same letter, and K (kelvin) is k.
func fold(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	least := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		least = min(least, other)
	}
	return unicode.ToLower(least)
}

// terms yields the term of each word of text that is not a stop word.
func terms(text string) iter.Seq[term] {
	return func(yield func(term) bool) {
		for word := range words(text) {
			if !stopWords[word] && !yield(term(hash(stem(word))>>(64-termBits))) {
				return
			}
		}
	}
}

// lexicalVector returns the BM25 weights of a chunk's terms, sorted by term, without the inverse document frequency,
// which is the query's part: tf·(k1+1) / (tf + k1·(1-b+b·length/average)) with k1 = 1.5 and b = 0.75 (Robertson and
// Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009).
func lexicalVector(heading, text string) []weightedTerm {
	var found []term
	for t := range terms(heading) {
		for range headingBoost {
			found = append(found, t)
		}
	}
	found = slices.AppendSeq(found, terms(text))
	norm := 1.5 * (0.25 + 0.75*float64(len(found))/averageLength)
	distinct, counts := countTerms(found)
	vector := make([]weightedTerm, len(distinct))
	for i, tf := range counts {
		vector[i] = weightedTerm{distinct[i], float32(tf * 2.5 / (tf + norm))}
	}
	return vector
}

// queryTerms returns the different terms of a query, sorted, and how often each is asked for.
func queryTerms(text string) (query []term, counts []float64) {
	return countTerms(slices.Collect(terms(text)))
}

// countTerms sorts terms and returns the different ones, and how often each is there.
func countTerms(found []term) (distinct []term, counts []float64) {
	slices.Sort(found)
	for i, t := range found {
		if i == 0 || t != found[i-1] {
			distinct, counts = append(distinct, t), append(counts, 0)
		}
		counts[len(counts)-1]++
	}
	return distinct, counts
}

// idf is the weight of a query's term that df of n chunks contain.
func idf(df, n int) float64 {
	return math.Log(1 + (float64(n-df)+0.5)/(float64(df)+0.5))
}

// hash is FNV-1a (64 bits) followed by a multiplication that spreads the last bytes over the high bits too.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 32
	return h * 0x9e3779b97f4a7c15
}

// stopWords carry no subject in English; leaving them out won .02 nDCG@10.
var stopWords = func() map[string]bool {
	set := make(map[string]bool)
	for word := range strings.FieldsSeq(`a about after all also am an and any are as at be because been before being
		between both but by can could did do does doing during each few for from further had has have having he her here
		hers him his how i if in into is it its itself just me more most my no nor not now of off on once only or other
		our out over own same she should so some such than that the their them then there these they this those through
		to too under until up very was we were what when where which while who whom why will with would you your`) {
		set[word] = true
	}
	return set
}()

// stem is Porter's algorithm with the two departures of its author's own implementation (M. F. Porter, "An algorithm
// for suffix stripping", Program 14(3), 1980). Words that are not plain lower-case English letters stay as they are.
func stem(w string) string {
	if len(w) < 3 || strings.IndexFunc(w, func(r rune) bool { return r < 'a' || r > 'z' }) >= 0 {
		return w
	}
	w = stemInflection(w)
	if s, ok := strings.CutSuffix(w, "y"); ok && hasVowel(s) {
		w = s + "i"
	}
	w = replaceSuffix(w, doubleSuffixes, 0)
	w = replaceSuffix(w, fullSuffixes, 0)
	if s, ok := strings.CutSuffix(w, "ion"); ok && measure(s) > 1 && strings.ContainsRune("st", rune(s[len(s)-1])) {
		w = s
	} else {
		w = replaceSuffix(w, residualSuffixes, 1)
	}
	if s, ok := strings.CutSuffix(w, "e"); ok {
		if m := measure(s); m > 1 || m == 1 && !endsShort(s) {
			w = s
		}
	}
	if strings.HasSuffix(w, "ll") && measure(w) > 1 {
		w = w[:len(w)-1]
	}
	return w
}

// stemInflection takes plurals, -ed and -ing away (steps 1a and 1b).
func stemInflection(w string) string {
	switch {
	case strings.HasSuffix(w, "sses"), strings.HasSuffix(w, "ies"):
		w = w[:len(w)-2]
	case strings.HasSuffix(w, "s") && !strings.HasSuffix(w, "ss"):
		w = w[:len(w)-1]
	}
	if s, ok := strings.CutSuffix(w, "eed"); ok {
		if measure(s) > 0 {
			w = s + "ee"
		}
		return w
	}
	s, ok := strings.CutSuffix(w, "ed")
	if !ok {
		s, ok = strings.CutSuffix(w, "ing")
	}
	if !ok || !hasVowel(s) {
		return w
	}
	last := s[len(s)-1]
	switch {
	case strings.HasSuffix(s, "at"), strings.HasSuffix(s, "bl"), strings.HasSuffix(s, "iz"):
		return s + "e"
	case len(s) > 1 && last == s[len(s)-2] && isConsonant(s, len(s)-1) && !strings.ContainsRune("lsz", rune(last)):
		return s[:len(s)-1]
	case measure(s) == 1 && endsShort(s):
		return s + "e"
	}
	return s
}

// Pairs of suffix and replacement; among suffixes that end alike the longer comes first.
var (
	doubleSuffixes = [][2]string{
		{"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"}, {"anci", "ance"}, {"izer", "ize"}, {"bli", "ble"},
		{"alli", "al"}, {"entli", "ent"}, {"eli", "e"}, {"ousli", "ous"}, {"ization", "ize"}, {"ation", "ate"},
		{"ator", "ate"}, {"alism", "al"}, {"iveness", "ive"}, {"fulness", "ful"}, {"ousness", "ous"}, {"aliti", "al"},
		{"iviti", "ive"}, {"biliti", "ble"}, {"logi", "log"},
	}
	fullSuffixes = [][2]string{
		{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"}, {"ical", "ic"}, {"ful", ""}, {"ness", ""},
	}
	residualSuffixes = [][2]string{
		{"al", ""}, {"ance", ""}, {"ence", ""}, {"er", ""}, {"ic", ""}, {"able", ""}, {"ible", ""}, {"ant", ""}, {"ement", ""},
		{"ment", ""}, {"ent", ""}, {"ou", ""}, {"ism", ""}, {"ate", ""}, {"iti", ""}, {"ous", ""}, {"ive", ""}, {"ize", ""},
	}
)

// replaceSuffix replaces the first suffix that w has if what is left measures more than least.
func replaceSuffix(w string, suffixes [][2]string, least int) string {
	for _, pair := range suffixes {
		if s, ok := strings.CutSuffix(w, pair[0]); ok {
			if measure(s) > least {
				return s + pair[1]
			}
			return w
		}
	}
	return w
}

// measure counts the vowel-consonant sequences of w: Porter's m.
func measure(w string) int {
	m := 0
	for i := 1; i < len(w); i++ {
		if isConsonant(w, i) && !isConsonant(w, i-1) {
			m++
		}
	}
	return m
}

func isConsonant(w string, i int) bool {
	switch w[i] {
	case 'a', 'e', 'i', 'o', 'u':
		return false
	case 'y':
		return i == 0 || !isConsonant(w, i-1)
	}
	return true
}

func hasVowel(w string) bool {
	for i := range len(w) {
		if !isConsonant(w, i) {
			return true
		}
	}
	return false
}

// endsShort reports whether w ends consonant, vowel, consonant and the last is not w, x or y.
func endsShort(w string) bool {
	n := len(w)
	return n >= 3 && isConsonant(w, n-1) && !isConsonant(w, n-2) && isConsonant(w, n-3) &&
		!strings.ContainsRune("wxy", rune(w[n-1]))
}
