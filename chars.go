package main

// Which characters words consist of.

import "unicode"

// charClass is a set of properties of a character.
type charClass uint8

const (
	// wordChar is a letter, a digit, a combining mark, or an invisible character inside words.
	wordChar charClass = 1 << iota

	// combiningChar counts to the script of the character before it.
	combiningChar

	// spacelessChar belongs to a script that is written without spaces between words. Hangul counts too, because Korean
	// attaches particles to words.
	spacelessChar

	upperChar
	lowerChar
)

// charTables are the tables of package unicode for each class.
var charTables = []struct {
	class  charClass
	tables []*unicode.RangeTable
}{
	{wordChar, []*unicode.RangeTable{unicode.Letter, unicode.Digit}},
	{wordChar | combiningChar, []*unicode.RangeTable{unicode.Mark}},
	{upperChar, []*unicode.RangeTable{unicode.Upper}},
	{lowerChar, []*unicode.RangeTable{unicode.Lower}},
	{spacelessChar, []*unicode.RangeTable{
		unicode.Han,
		unicode.Hiragana,
		unicode.Katakana,
		unicode.Hangul,
		unicode.Thai,
		unicode.Lao,
		unicode.Khmer,
		unicode.Myanmar,
	}},
}

// basicChars has the classes of the characters up to U+FFFF. Looking up each character in charTables took half of the time of
// indexing a document in a script other than Latin.
var basicChars = func() (classes [1 << 16]charClass) {
	for _, row := range charTables {
		for _, table := range row.tables {
			for _, r := range table.R16 {
				for c := int(r.Lo); c <= int(r.Hi); c += int(r.Stride) {
					classes[c] |= row.class
				}
			}
		}
	}

	for c := range classes {
		if isInvisible(rune(c)) {
			classes[c] |= wordChar | combiningChar
		}
	}
	for _, mark := range "ﾞﾟ" {
		classes[mark] |= combiningChar
	}
	for _, long := range "ーｰ" {
		classes[long] |= spacelessChar
	}
	return classes
}()

// classOf returns the classes of r.
func classOf(r rune) charClass {
	if 0 <= r && int(r) < len(basicChars) {
		return basicChars[r]
	}

	var class charClass
	for _, row := range charTables {
		if unicode.In(r, row.tables...) {
			class |= row.class
		}
	}
	return class
}

func isWordRune(r rune) bool  { return classOf(r)&wordChar != 0 }
func isCombining(r rune) bool { return classOf(r)&combiningChar != 0 }
func isSpaceless(r rune) bool { return classOf(r)&spacelessChar != 0 }
func isUpper(r rune) bool     { return classOf(r)&upperChar != 0 }
func isLower(r rune) bool     { return classOf(r)&lowerChar != 0 }
