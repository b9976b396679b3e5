package main

// Offsets of lines and characters in a text.

import "strings"

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
