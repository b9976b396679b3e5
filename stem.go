package main

// Porter's stemmer for English: connect, connected and connections have the same stem.

import "strings"

// stem returns the stem of a lower-case word: M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980,
// with the two changes of the author's own implementation (-bli and -logi among doubleSuffixes). It does not change a
// word of fewer than three letters, or with any character other than a to z.
func stem(word string) string {
	isOther := func(r rune) bool { return r < 'a' || r > 'z' }
	if len(word) < 3 || strings.ContainsFunc(word, isOther) {
		return word
	}

	word = cutPlural(word)
	word = cutVerbEnding(word)

	// Step 1c: a final y becomes i if a vowel comes before it.
	if s, ok := strings.CutSuffix(word, "y"); ok && hasVowel(s) {
		word = s + "i"
	}

	word = replaceSuffix(word, doubleSuffixes, 0)
	word = replaceSuffix(word, fullSuffixes, 0)
	word = cutResidualSuffix(word)
	return cutFinalLetter(word)
}

// cutPlural is step 1a: -s, -es and -ies.
func cutPlural(word string) string {
	switch {
	case strings.HasSuffix(word, "sses"), strings.HasSuffix(word, "ies"):
		return word[:len(word)-2]
	case strings.HasSuffix(word, "s") && !strings.HasSuffix(word, "ss"):
		return word[:len(word)-1]
	}
	return word
}

// cutVerbEnding is step 1b: -ed and -ing.
func cutVerbEnding(word string) string {
	if s, ok := strings.CutSuffix(word, "eed"); ok {
		if measure(s) > 0 {
			return s + "ee"
		}
		return word
	}

	s, ok := strings.CutSuffix(word, "ed")
	if !ok {
		s, ok = strings.CutSuffix(word, "ing")
	}
	if !ok || !hasVowel(s) {
		return word
	}

	switch {
	case strings.HasSuffix(s, "at"), strings.HasSuffix(s, "bl"), strings.HasSuffix(s, "iz"):
		return s + "e"
	case endsDouble(s) && !endsInAny(s, "lsz"):
		return s[:len(s)-1]
	case measure(s) == 1 && endsShort(s):
		return s + "e"
	}
	return s
}

// cutResidualSuffix is step 4. It cuts -ion only after s or t.
func cutResidualSuffix(word string) string {
	s, ok := strings.CutSuffix(word, "ion")
	if !ok {
		return replaceSuffix(word, residualSuffixes, 1)
	}
	if measure(s) > 1 && endsInAny(s, "st") {
		return s
	}
	return word
}

// cutFinalLetter is step 5: a final -e, and the second l of -ll.
func cutFinalLetter(word string) string {
	if s, ok := strings.CutSuffix(word, "e"); ok {
		m := measure(s)
		if m > 1 || m == 1 && !endsShort(s) {
			word = s
		}
	}
	if strings.HasSuffix(word, "ll") && measure(word) > 1 {
		word = word[:len(word)-1]
	}
	return word
}

// Pairs of a suffix and its replacement. A suffix comes before any shorter one that it ends in.
var (
	// doubleSuffixes are those of step 2.
	doubleSuffixes = [][2]string{
		{"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"}, {"anci", "ance"}, {"izer", "ize"},
		{"bli", "ble"}, {"alli", "al"}, {"entli", "ent"}, {"eli", "e"}, {"ousli", "ous"},
		{"ization", "ize"}, {"ation", "ate"}, {"ator", "ate"}, {"alism", "al"}, {"iveness", "ive"},
		{"fulness", "ful"}, {"ousness", "ous"}, {"aliti", "al"}, {"iviti", "ive"}, {"biliti", "ble"},
		{"logi", "log"},
	}

	// fullSuffixes are those of step 3.
	fullSuffixes = [][2]string{
		{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"},
		{"ical", "ic"}, {"ful", ""}, {"ness", ""},
	}

	// residualSuffixes are those of step 4, except -ion.
	residualSuffixes = [][2]string{
		{"al", ""}, {"ance", ""}, {"ence", ""}, {"er", ""}, {"ic", ""}, {"able", ""},
		{"ible", ""}, {"ant", ""}, {"ement", ""}, {"ment", ""}, {"ent", ""}, {"ou", ""},
		{"ism", ""}, {"ate", ""}, {"iti", ""}, {"ous", ""}, {"ive", ""}, {"ize", ""},
	}
)

// replaceSuffix replaces the first of suffixes that word ends in, if the measure of the rest is above minMeasure.
func replaceSuffix(word string, suffixes [][2]string, minMeasure int) string {
	last := word[len(word)-1]
	for _, pair := range suffixes {
		if pair[0][len(pair[0])-1] != last {
			continue // most suffixes: a comparison of strings takes longer
		}
		rest, ok := strings.CutSuffix(word, pair[0])
		if !ok {
			continue
		}
		if measure(rest) <= minMeasure {
			return word
		}
		return rest + pair[1]
	}
	return word
}

// measure counts the sequences of vowels followed by consonants: the paper's m.
func measure(word string) int {
	m := 0
	for i := 1; i < len(word); i++ {
		if isConsonant(word, i) && !isConsonant(word, i-1) {
			m++
		}
	}
	return m
}

// isConsonant reports whether the letter at i is a consonant. A y after a consonant is a vowel.
func isConsonant(word string, i int) bool {
	switch word[i] {
	case 'a', 'e', 'i', 'o', 'u':
		return false
	case 'y':
		return i == 0 || !isConsonant(word, i-1)
	}
	return true
}

func hasVowel(word string) bool {
	for i := range len(word) {
		if !isConsonant(word, i) {
			return true
		}
	}
	return false
}

// endsDouble reports whether word ends in the same consonant twice.
func endsDouble(word string) bool {
	last := len(word) - 1
	return last > 0 && word[last] == word[last-1] && isConsonant(word, last)
}

// endsShort reports whether word ends in consonant, vowel, consonant, and the last letter is not w, x or y.
func endsShort(word string) bool {
	n := len(word)
	return n >= 3 &&
		isConsonant(word, n-1) &&
		!isConsonant(word, n-2) &&
		isConsonant(word, n-3) &&
		!endsInAny(word, "wxy")
}

// endsInAny reports whether the last letter of word is one of letters. word must not be empty.
func endsInAny(word, letters string) bool {
	return strings.IndexByte(letters, word[len(word)-1]) >= 0
}
