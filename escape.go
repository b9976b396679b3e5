package main

// Untrusted text, made safe to keep and to show: bounded, and without control characters of terminals and characters
// that change the direction of text.

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// displayable returns at most n bytes of s. Control and format characters are escaped: those of ASCII and of Latin-1,
// separators of lines, and marks of direction, which have the category Cf.
func displayable(s string, n int) string {
	if len(s) <= n && isPrintableASCII(s) {
		return s
	}

	var out strings.Builder
	for _, r := range s[:min(len(s), n)] {
		part := string(r)
		if isUnsafe(r) {
			part = fmt.Sprintf(`\u%04x`, r)
		}
		if r == utf8.RuneError || out.Len()+len(part) > n {
			continue // the end of a character that is cut, or no room for an escape
		}
		out.WriteString(part)
	}
	return out.String()
}

// wholeDisplayable is displayable for a text of any length.
func wholeDisplayable(s string) string { return displayable(s, math.MaxInt) }

func isPrintableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// isASCII reports whether s has only characters of ASCII, and no DEL.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// isUnsafe reports whether a terminal may do anything with r other than show it.
func isUnsafe(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

// blank has white space, control characters, and the format characters that show nothing.
var blank = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x0000, Hi: 0x0020, Stride: 1},
		{Lo: 0x007f, Hi: 0x00a0, Stride: 1},
		{Lo: 0x00ad, Hi: 0x00ad, Stride: 1},
		{Lo: 0x061c, Hi: 0x061c, Stride: 1},
		{Lo: 0x1680, Hi: 0x1680, Stride: 1},
		{Lo: 0x180e, Hi: 0x180e, Stride: 1},
		{Lo: 0x2000, Hi: 0x200f, Stride: 1},
		{Lo: 0x2028, Hi: 0x202f, Stride: 1},
		{Lo: 0x205f, Hi: 0x206f, Stride: 1},
		{Lo: 0x3000, Hi: 0x3000, Stride: 1},
		{Lo: 0xfeff, Hi: 0xfeff, Stride: 1},
	},
	LatinOffset: 3,
}

// isBlank reports whether s has only characters that are blank.
func isBlank(s string) bool {
	isVisible := func(r rune) bool { return !unicode.Is(blank, r) }
	return !strings.ContainsFunc(s, isVisible)
}

// truncate cuts s to at most n bytes without splitting a character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
