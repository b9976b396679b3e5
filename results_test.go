package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestFitCountsTheCharactersOfJSON cuts texts to every size and encodes them.
func TestFitCountsTheCharactersOfJSON(t *testing.T) {
	for _, text := range []string{
		"",
		"a",
		"plain words and more of them",
		"quotes \" and \\ and\nlines\r\n\ttabs",
		"controls \x00\x01\b\f\x1f\x7f",
		"<b>&amp;</b> \u2028 \u2029 \ufffd",
		"中文字符 ß é 😀 e\u0301 👩‍👩‍👧",
		"broken \xff\xc3 bytes \xe4\xb8",
		strings.Repeat("long \"text\" ", 50),
	} {
		whole := utf8.RuneCountInString(text)*6 + 10
		for room := 1; room < whole; room++ {
			fitted, chars := fit(text, room)
			var encoded bytes.Buffer
			if err := encodeJSON(&encoded, fitted); err != nil {
				t.Fatal(err)
			}
			got := utf8.RuneCount(encoded.Bytes()) - len(`""`)
			if got > chars || chars > room {
				t.Errorf("%q in %d: %q has %d characters, not %d", text, room, fitted, got, chars)
			}

			part, isCut := strings.CutSuffix(fitted, "…")
			if !strings.HasPrefix(text, part) || isCut && room >= whole-10 || !isCut && fitted != text {
				t.Errorf("%q in %d: %q", text, room, fitted)
			}
		}
	}
}
