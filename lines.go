package main

// Offsets of lines and characters in a text.

import (
	"iter"
	"strings"
	"unicode/utf8"
)

// lineEnd returns the offset after the line that contains offset at. The line includes its newline.
func lineEnd(text string, at int) int {
	if i := strings.IndexByte(text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(text)
}

// runeOffset returns the offset of the nth rune of text, counted from 0, or len(text) if text is
// shorter.
func runeOffset(text string, n int) int {
	for i := range text {
		if n == 0 {
			return i
		}
		n--
	}
	return len(text)
}

// firstBytes returns at most n bytes of s.
func firstBytes(s string, n int) string { return s[:min(n, len(s))] }

// inParts yields UTF-8 text in parts of whole characters, of at most 32 KiB. What is made of a part is not as large as what
// would be made of the text.
func inParts(text string) iter.Seq[string] {
	const partBytes = 32 << 10
	return func(yield func(string) bool) {
		for begin := 0; begin < len(text); {
			end := min(begin+partBytes, len(text))
			for end < len(text) && !utf8.RuneStart(text[end]) {
				end--
			}
			if !yield(text[begin:end]) {
				return
			}
			begin = end
		}
	}
}
