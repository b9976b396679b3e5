package main

// Text analysis: words, terms and BM25 weights. Documents and queries share it, and so do both stores. The database
// keeps the results, so every change that alters them must raise analyzerVersion.

import (
	"iter"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// analyzerVersion is the version of everything that is derived from a text: chunks, terms, weights, hashed vectors.
	analyzerVersion = 1

	// maxWordBytes limits the cost of a word. Longer runs are cut into several words.
	maxWordBytes = 64

	// headingBoost is how many times each term of the title or heading counts.
	headingBoost = 3
)

// The parameters of BM25: see lexicalVector.
const (
	bm25K1 = 1.5
	bm25B  = 0.75

	// averageLength is a constant, not the mean length of the collection's chunks. This way, the weights of a chunk
	// depend only on its own text. On seven labelled sets the constant ranks no worse.
	averageLength = 100
)

// term is the hash of a stemmed word. Its 29 bits fit PostgreSQL's sparsevec and integer arrays. Among 100,000 distinct
// words, fewer than one in 5,000 shares its term with another word.
type term uint32

const termBits = 29

// weightedTerm is one entry of a chunk's lexical vector.
type weightedTerm struct {
	term   term
	weight float32
}

// lexicalVector returns the terms of a chunk with their BM25 weights, sorted by term:
//
//	tf·(k1+1) / (tf + k1·(1-b + b·length/averageLength))
//
// The other factor of BM25, the inverse document frequency, is part of the query's weights: see idf. The formula is
// that of Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
func lexicalVector(heading, text string) []weightedTerm {
	var occurrences []term
	for t := range terms(heading) {
		for range headingBoost {
			occurrences = append(occurrences, t)
		}
	}
	occurrences = slices.AppendSeq(occurrences, terms(text))

	length := float64(len(occurrences))
	norm := bm25K1 * (1 - bm25B + bm25B*length/averageLength)

	distinct, counts := countTerms(occurrences)
	vector := make([]weightedTerm, len(distinct))
	for i, tf := range counts {
		weight := tf * (bm25K1 + 1) / (tf + norm)
		vector[i] = weightedTerm{distinct[i], float32(weight)}
	}
	return vector
}

// queryTerms returns the distinct terms of a query, sorted, and how often each occurs.
func queryTerms(text string) (distinct []term, counts []float64) {
	return countTerms(slices.Collect(terms(text)))
}

// countTerms returns the distinct terms of occurrences, sorted, and how often each occurs. It sorts occurrences in
// place.
func countTerms(occurrences []term) (distinct []term, counts []float64) {
	slices.Sort(occurrences)
	for i, t := range occurrences {
		if i == 0 || t != occurrences[i-1] {
			distinct = append(distinct, t)
			counts = append(counts, 0)
		}
		counts[len(counts)-1]++
	}
	return distinct, counts
}

// idf is the inverse document frequency of a term that df of n chunks contain. It is never negative.
func idf(df, n int) float64 {
	return math.Log(1 + (float64(n-df)+0.5)/(float64(df)+0.5))
}

// terms yields the term of each word of text, in order and without the stop words.
func terms(text string) iter.Seq[term] {
	return func(yield func(term) bool) {
		for word := range words(text) {
			if stopWords[word] {
				continue
			}
			highBits := hash(stem(word)) >> (64 - termBits)
			if !yield(term(highBits)) {
				return
			}
		}
	}
}

// hash is 64-bit FNV-1a, followed by a multiplication that spreads the last bytes over the high bits too.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 32
	return h * 0x9e3779b97f4a7c15
}

// words yields the words of text, in order and case-folded. A word is a run of letters, digits and marks. Identifiers
// are split where their case changes: maxConns is max, conns; HTTPServer is http, server. Scripts that are written
// without spaces yield each character and each pair of neighbours.
func words(text string) iter.Seq[string] {
	isSeparator := func(r rune) bool { return !isWordRune(r) }
	return func(yield func(string) bool) {
		for run := range strings.FieldsFuncSeq(text, isSeparator) {
			if !yieldRun(run, yield) {
				return
			}
		}
	}
}

// yieldRun yields the words of a run of word runes. It returns false as soon as yield does.
func yieldRun(run string, yield func(string) bool) bool {
	for len(run) > 0 {
		first, _ := utf8.DecodeRuneInString(run)
		end := wordEnd(run)
		word := strings.Map(fold, run[:end])
		run = run[end:]

		var wanted bool
		if isSpaceless(first) {
			wanted = yieldGrams(word, yield)
		} else {
			wanted = yield(word)
		}
		if !wanted {
			return false
		}
	}
	return true
}

// yieldGrams yields each character of word and each pair of neighbours. It returns false as soon as yield does.
func yieldGrams(word string, yield func(string) bool) bool {
	previous := -1
	for i, r := range word {
		end := i + utf8.RuneLen(r)
		if !yield(word[i:end]) {
			return false
		}
		if previous >= 0 && !yield(word[previous:end]) {
			return false
		}
		previous = i
	}
	return true
}

func isWordRune(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// isSpaceless reports whether r belongs to a script that is written without spaces between words. Hangul counts too,
// because it attaches particles to the words.
func isSpaceless(r rune) bool {
	if r < 0x0e00 { // below Thai, the first of these scripts: most texts need no lookup
		return false
	}
	return r == 'ー' || unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana,
		unicode.Hangul, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// wordEnd returns the length in bytes of the first word of a run of word runes.
func wordEnd(run string) int {
	first, firstSize := utf8.DecodeRuneInString(run)
	spaceless := isSpaceless(first)

	previous := first
	for i, r := range run[firstSize:] {
		at := firstSize + i
		if at >= maxWordBytes {
			return at
		}
		if !unicode.IsMark(r) && isSpaceless(r) != spaceless {
			return at
		}

		if unicode.IsUpper(r) {
			next, _ := utf8.DecodeRuneInString(run[at+utf8.RuneLen(r):])
			if !unicode.IsUpper(previous) || unicode.IsLower(next) {
				return at
			}
		}
		previous = r
	}
	return len(run)
}

// fold maps all runes that differ only in case to one of them (Unicode simple case folding): ς, σ and Σ become the same
// letter, and the kelvin sign becomes k.
func fold(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}

	smallest := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		smallest = min(smallest, other)
	}
	return unicode.ToLower(smallest)
}

// stopWords are English words that say nothing about the topic of a text. Without them nDCG@10 is 0.02 higher.
var stopWords = func() map[string]bool {
	set := make(map[string]bool)
	for word := range strings.FieldsSeq(`
		a about after all also am an and any are as at be because been before being
		between both but by can could did do does doing during each few for from further had has have having he her here
		hers him his how i if in into is it its itself just me more most my no nor not now of off on once only or other
		our out over own same she should so some such than that the their them then there these they this those through
		to too under until up very was we were what when where which while who whom why will with would you your`) {
		set[word] = true
	}
	return set
}()
