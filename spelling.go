package main

// Correction of misspelt words, by the vocabulary of the documents.

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	minCorrectedRunes = 4
	minAnyEditRunes   = 5 // in a shorter word, only a missing letter and swapped letters are corrected
	minTwoEditsRunes  = 8
)

// isCorrectable reports whether a word is looked for in the vocabulary if no document has it: words of
// letters alone, in a script with spaces between words.
func isCorrectable(word string) bool {
	isOther := func(r rune) bool { return !unicode.IsLetter(r) || isSpaceless(r) }
	return utf8.RuneCountInString(word) >= minCorrectedRunes && !strings.ContainsFunc(word, isOther)
}

// maxEdits is how many edits a correction of word may have.
func maxEdits(word string) int {
	if utf8.RuneCountInString(word) >= minTwoEditsRunes {
		return 2
	}
	return 1
}

// minFrequency is the least number of chunks, of n, that must contain a word for it to replace a misspelt one. In a
// large set, a rarer word is often a name, or misspelt itself.
func minFrequency(n int) int { return min(1+n/500, 3) }

// maxCompletedWords is how many words the beginning of a word stands for.
const maxCompletedWords = 32

// mostFrequent returns those of words that at least minimum chunks contain, by descending frequency, then by
// length, then alphabetically. It changes words.
func mostFrequent(words []string, frequency func(term) int, minimum int) []string {
	counts := make(map[string]int, len(words))
	words = slices.DeleteFunc(words, func(w string) bool {
		counts[w] = frequency(newTerm(w))
		return counts[w] < minimum
	})
	slices.SortFunc(words, func(a, b string) int {
		return cmp.Or(
			cmp.Compare(counts[b], counts[a]),
			cmp.Compare(len(a), len(b)),
			strings.Compare(a, b))
	})
	return words
}

// speller collects the words that are nearest to a misspelt one.
type speller struct {
	word    []rune
	shape   wordShape
	edits   int      // distance of nearest from word; the greatest allowed one while there is none
	nearest []string // all at the same distance
	rows    [3][]int
}

func newSpeller(word string) *speller {
	s := &speller{
		word:  []rune(word),
		shape: newWordShape(word),
		edits: maxEdits(word),
	}
	for i := range s.rows {
		s.rows[i] = make([]int, len(s.word)+1)
	}
	return s
}

// add looks at a word of the vocabulary, whose shape the caller may know already.
func (s *speller) add(candidate string, shape wordShape) {
	if !s.mayBeNear(shape) {
		return
	}

	edits := s.distance(candidate)
	if edits > s.edits || edits == 0 {
		return
	}
	isLonger := shape.runes == s.shape.runes+1
	if len(s.word) < minAnyEditRunes && !isLonger && !isAnagram(candidate, s.word) {
		return
	}
	if edits > 1 && !strings.HasPrefix(candidate, string(s.word[:1])) {
		return
	}
	if edits < s.edits {
		s.edits = edits
		s.nearest = nil
	}
	s.nearest = append(s.nearest, candidate)
}

// mayBeNear reports false only if a word of this shape is too far from the misspelt one. An edit changes the length by
// one at most, and adds or removes at most two letters of the set.
func (s *speller) mayBeNear(shape wordShape) bool {
	longer := int(shape.runes - s.shape.runes)
	if longer > s.edits || longer < -s.edits {
		return false
	}
	return bits.OnesCount32(shape.letters^s.shape.letters) <= 2*s.edits
}

// wordShape rules out most words that are too far from another one. This is much faster than computing their distance.
type wordShape struct {
	runes   int32
	letters uint32 // a set of 32 classes: no two letters of a to z share one, nor of а to я
}

func newWordShape(word string) wordShape {
	var shape wordShape
	for _, r := range word {
		shape.runes++
		shape.letters |= 1 << (r & 31)
	}
	return shape
}

// isAnagram reports whether candidate has the letters of word in another order.
func isAnagram(candidate string, word []rune) bool {
	letters := []rune(candidate)
	return slices.Equal(slices.Sorted(slices.Values(letters)), slices.Sorted(slices.Values(word)))
}

// distance returns the number of edits from candidate to the word: a letter inserted, deleted or replaced,
// or two neighbours swapped (optimal string alignment). It stops above s.edits.
func (s *speller) distance(candidate string) int {
	above := s.rows[0]
	current := s.rows[1]
	twoAbove := s.rows[2]
	for j := range above {
		above[j] = j
	}

	var before rune
	i := 0
	for _, r := range candidate {
		i++
		current[0] = i
		least := i
		for j, w := range s.word {
			cost := 1
			if w == r {
				cost = 0
			}
			d := min(above[j]+cost, above[j+1]+1, current[j]+1)
			if i > 1 && j > 0 && w == before && s.word[j-1] == r {
				d = min(d, twoAbove[j-1]+1)
			}
			current[j+1] = d
			least = min(least, d)
		}
		if least > s.edits {
			return least
		}
		before = r
		twoAbove, above, current = above, current, twoAbove
	}
	return above[len(s.word)]
}
