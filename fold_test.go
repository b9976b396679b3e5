package main

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestFoldedLettersAreTheSameFromTheTable compares the shortcuts of folding with what they stand for, for all of Unicode.
func TestFoldedLettersAreTheSameFromTheTable(t *testing.T) {
	for r := rune(utf8.RuneSelf); r <= unicode.MaxRune; r++ {
		isHalfWidth := 0xff01 <= r && r <= 0xff9f
		if !utf8.ValidRune(r) || isInvisible(r) || isAccent(r) || isHalfWidth {
			continue
		}
		if got, want := foldWord(string(r)), foldLetter(r); got != want {
			t.Fatalf("%U: %q, want %q", r, got, want)
		}
	}
}
