package main

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWords(t *testing.T) {
	tests := map[string]string{
		"Hello, World!":         "hello world",
		"maxConns HTTPServer":   "max conns http server",
		"snake_case kebab-case": "snake case kebab case",
		"sha256 x86 IPv6":       "sha256 x86 i pv6",
		"ERR_CHUNK_MISSING":     "err chunk missing",
		"Straße ΣΊΣΥΦΟΣ \u212A": "straße σίσυφοσ k",
		"naïve हिन्दी":          "naïve हिन्दी",
		"検索する":                  "検 索 検索 す 索す る する",
		"東京Tokyo2020":           "東 京 東京 tokyo2020",
		"ไทย":                   "ไ ท ไท ย ทย",
		"":                      "",
		"... --- !!!":           "",
		strings.Repeat("a", 65): strings.Repeat("a", 64) + " a",
	}
	for text, want := range tests {
		got := strings.Join(slices.Collect(words(text)), " ")
		if got != want {
			t.Errorf("words(%q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzWords(f *testing.F) {
	seeds := []string{
		"maxConns",
		"検索ก ไทย",
		"\u0130\u0131\u212a",
		"a\u0301b",
		"yyyyy",
		"ϴθΘϑ",
	}
	for _, text := range seeds {
		f.Add(text)
	}

	f.Fuzz(func(t *testing.T, text string) {
		for word := range words(text) {
			if word == "" || len(word) > 4*maxWordBytes {
				t.Fatalf("bad word %q", word)
			}
			if utf8.ValidString(text) && !utf8.ValidString(word) {
				t.Fatalf("bad word %q", word)
			}

			folded := strings.Map(fold, word)
			if folded != word {
				t.Fatalf("%q is not folded: %q", word, folded)
			}
			stem(word) // must not panic
		}
		if v := hashedVector(text); len(v) != hashedDimensions {
			t.Fatal("bad vector")
		}
	})
}
