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

// isBlank reports whether s has no visible character. A character is visible if it is printable and no space.
func isBlank(s string) bool {
	isVisible := func(r rune) bool { return unicode.IsPrint(r) && r != ' ' }
	return !strings.ContainsFunc(s, isVisible)
}

// truncate cuts s to at most n bytes without splitting a character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
