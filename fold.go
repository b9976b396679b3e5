package main

// Folding of words: whatever a reader sees as the same word becomes the same string, however it is
// encoded. Only words for the index are folded. What is stored and shown stays as it was written.

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// foldWord folds a word: its case (Unicode simple case folding), accents, ligatures, full-width and
// half-width forms, decomposed letters, and characters that nobody sees, such as soft hyphens.
func foldWord(word string) string {
	isASCII := true
	for i := range len(word) {
		if word[i] >= utf8.RuneSelf {
			isASCII = false
			break
		}
	}
	if isASCII {
		return strings.ToLower(word)
	}

	var room [64]rune // enough for most words, and not on the heap
	folded := room[:0]
	for _, r := range word {
		folded = appendFolded(folded, r)
	}
	return string(folded)
}

// appendFolded appends the folded form of r to a word, which may change the word's last rune.
func appendFolded(word []rune, r rune) []rune {
	if 0xff01 <= r && r <= 0xff5e { // full-width ASCII
		r -= 0xff01 - '!'
	}
	if r < utf8.RuneSelf {
		return append(word, unicode.ToLower(r))
	}
	if isInvisible(r) {
		return word
	}
	if 0xff66 <= r && r <= 0xff9f {
		r = halfWidthKana[r-0xff66]
	}

	if len(word) > 0 {
		last := &word[len(word)-1]
		if composed := compose(*last, r); composed != 0 {
			*last = composed
			return word
		}
	}
	if isAccent(r) {
		return word
	}

	switch {
	case int(r) < len(foldedLetters):
		return appendString(word, foldedLetters[r])
	case isCaseless(r):
		return append(word, r)
	}
	return appendString(word, foldLetter(r))
}

func appendString(word []rune, text string) []rune {
	for _, r := range text {
		word = append(word, r)
	}
	return word
}

// foldLetter folds the case of a letter, and then what baseLetters has.
func foldLetter(r rune) string {
	r = foldCase(r)
	base, isBased := baseLetters[r]
	if !isBased {
		return string(r)
	}
	return base
}

// isCaseless reports whether r is in a block of kana, ideographs or Hangul, which have no case.
func isCaseless(r rune) bool {
	return 0x3000 <= r && r < 0xa000 ||
		0xac00 <= r && r < 0xd7a4
}

// foldCase maps all runes that differ only in case to one of them (Unicode simple case folding): ς, σ and
// Σ become the same letter, and the kelvin sign becomes k. The accent U+0345 is a case of ι; it is no letter.
func foldCase(r rune) rune {
	smallest := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		if !isAccent(other) {
			smallest = min(smallest, other)
		}
	}
	return unicode.ToLower(smallest)
}

// isInvisible reports whether r does not show inside a word: soft hyphen, zero-width characters, the
// Arabic tatweel, variation selectors.
func isInvisible(r rune) bool {
	switch r {
	case 0xad, 0x640, 0x200b, 0x200c, 0x200d, 0x2060, 0xfeff:
		return true
	}
	return 0xfe00 <= r && r <= 0xfe0f
}

// isAccent reports whether r is a mark that folding drops: an accent of Latin, Greek or Cyrillic, or a
// vowel point of Hebrew or Arabic. The vowel signs of Indic scripts and Thai stay: words differ by them.
func isAccent(r rune) bool {
	return 0x300 <= r && r <= 0x36f ||
		0x591 <= r && r <= 0x5c7 ||
		0x64b <= r && r <= 0x655 ||
		r == 0x670
}

// The bounds of Hangul's letters and syllables: the Unicode Standard, section 3.12.
const (
	hangulLead     = 0x1100
	hangulVowel    = 0x1161
	hangulTrail    = 0x11a7 // one before the first: none
	hangulSyllable = 0xac00
	hangulLeads    = 19
	hangulVowels   = 21
	hangulTrails   = 28
)

// compose returns the letter that last and the mark or letter r after it make, or 0. It knows Hangul,
// kana, and the Cyrillic letters whose breve makes another letter.
func compose(last, r rune) rune {
	lead := last - hangulLead
	vowel := r - hangulVowel
	if 0 <= lead && lead < hangulLeads && 0 <= vowel && vowel < hangulVowels {
		return hangulSyllable + (lead*hangulVowels+vowel)*hangulTrails
	}

	syllable := last - hangulSyllable
	trail := r - hangulTrail
	hasNoTrail := 0 <= syllable && syllable < hangulLeads*hangulVowels*hangulTrails &&
		syllable%hangulTrails == 0
	if hasNoTrail && 0 < trail && trail < hangulTrails {
		return last + trail
	}

	const voiced, semivoiced, breve = 0x3099, 0x309a, 0x306
	const ha = "はひふへほハヒフヘホ"
	const voiceable = ha + "かきくけこさしすせそたちつてとカキクケコサシスセソタチツテト"
	switch {
	case r == voiced && strings.ContainsRune(voiceable, last):
		return last + 1
	case r == semivoiced && strings.ContainsRune(ha, last):
		return last + 2
	case r == voiced && last == 'う', r == voiced && last == 'ウ':
		return last + 'ゔ' - 'う'
	case r == breve && last == 'и':
		return 'й'
	case r == breve && last == 'у':
		return 'ў'
	}
	return 0
}

// halfWidthKana are the full-width forms of U+FF66 to U+FF9F. The last two are combining marks.
var halfWidthKana = []rune("ヲァィゥェォャュョッーアイウエオカキクケコサシスセソタチツテトナニヌネノ" +
	"ハヒフヘホマミムメモヤユヨラリルレロワン\u3099\u309a")

// foldedLetters are the results of foldLetter for the scripts of Europe and their neighbours. Asking unicode for each letter
// again took half of the time that a document in such a script costs.
var foldedLetters = func() (forms [0x2000]string) {
	for r := range forms {
		forms[r] = foldLetter(rune(r))
	}
	return forms
}()

// baseLetters maps a lower-case letter to what people type who do not have it on their keyboard.
var baseLetters = func() map[rune]string {
	byLetter := make(map[rune]string)
	for line := range strings.Lines(baseLetterTable) {
		base, letters, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, letter := range letters {
			byLetter[letter] = base
		}
	}
	return byLetter
}()

// baseLetterTable has a line for each base: the base, then the letters that fold to it.
const baseLetterTable = `a àáâãäåāăąǎǟǡǻȁȃȧḁẚạảấầẩẫậắằẳẵặ
	ae æǣǽ
	b ƀɓƃḃḅḇ
	c çćĉċčƈȼḉ
	d ðďđɖƌḋḍḏḑḓ
	dz ǆǳ
	e èéêëēĕėęěȅȇȩɇḕḗḙḛḝẹẻẽếềểễệ
	f ƒḟ
	ff ﬀ
	ffi ﬃ
	ffl ﬄ
	fi ﬁ
	fl ﬂ
	g ĝğġģɠǥǧǵḡ
	h ĥħȟḣḥḧḩḫẖ
	i ìíîïĩīĭįıɨǐȉȋḭḯỉị
	ij ĳ
	j ĵǰɉ
	k ķĸƙǩḱḳḵ
	l ĺļľŀłƚḷḹḻḽ
	lj ǉ
	m ḿṁṃ
	n ñńņňŉŋɲǹṅṇṉṋ
	nj ǌ
	o òóôõöøōŏőɵơǒǫǭǿȍȏȫȭȯȱṍṏṑṓọỏốồổỗộớờởỡợº
	oe œ
	p ƥṕṗ
	r ŕŗřȑȓɍṙṛṝṟ
	s śŝşšșʂṡṣṥṧṩ
	ss ß
	st ﬅﬆ
	t ţťŧƭțṫṭṯṱẗ
	th þ
	u ùúûüũūŭůűųưǔǖǘǚǜȕȗʉṳṵṷṹṻụủứừửữự
	v ṽṿ
	w ŵẁẃẅẇẉẘ
	x ẋẍ
	y ýÿŷȳɏẏẙỳỵỷỹ
	z źżžƶẑẓẕ
	α άἀἁἂἃἄἅἆἇὰάᾀᾁᾂᾃᾄᾅᾆᾇᾰᾱᾲᾳᾴᾶᾷ
	ε έἐἑἒἓἔἕὲέ
	η ήἠἡἢἣἤἥἦἧὴήᾐᾑᾒᾓᾔᾕᾖᾗῂῃῄῆῇ
	ι ίΐϊἰἱἲἳἴἵἶἷὶίιῐῑῒΐῖῗ
	ο όὀὁὂὃὄὅὸό
	ρ ῤῥ
	υ ύϋΰὐὑὒὓὔὕὖὗὺύῠῡῢΰῦῧ
	ω ώὠὡὢὣὤὥὦὧὼώᾠᾡᾢᾣᾤᾥᾦᾧῲῳῴῶῷ
	е ѐё
	и ѝ
	і ї
	ا أإآٱ
	و ؤ
	ي ئى
`
