package main

import (
	"testing"
	"unicode"
)

// TestClassesAreThoseOfUnicode compares the classes of all characters with package unicode.
func TestClassesAreThoseOfUnicode(t *testing.T) {
	t.Parallel()
	spaceless := []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul,
		unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar}
	for r := rune(-1); r <= unicode.MaxRune+1; r++ {
		isMark := unicode.IsMark(r) || isInvisible(r)
		for _, class := range []struct {
			name      string
			got, want bool
		}{
			{"word", isWordRune(r), isMark || unicode.IsLetter(r) || unicode.IsDigit(r)},
			{"combining", isCombining(r), isMark || r == 'ﾞ' || r == 'ﾟ'},
			{"spaceless", isSpaceless(r), unicode.In(r, spaceless...) || r == 'ー' || r == 'ｰ'},
			{"upper", isUpper(r), unicode.IsUpper(r)},
			{"lower", isLower(r), unicode.IsLower(r)},
		} {
			if class.got != class.want {
				t.Errorf("%U is %s: %t", r, class.name, class.got)
			}
		}
	}
}
