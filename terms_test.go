package main

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
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
	} {
		if got := strings.Join(slices.Collect(words(text)), " "); got != want {
			t.Errorf("words(%q) = %q, want %q", text, got, want)
		}
	}
}

// The pairs are examples of Porter's paper and of the vocabulary that he publishes with it.
func TestStem(t *testing.T) {
	for word, want := range map[string]string{
		"caresses": "caress", "ponies": "poni", "ties": "ti", "cats": "cat", "feed": "feed", "agreed": "agre",
		"plastered": "plaster", "bled": "bled", "motoring": "motor", "sing": "sing", "conflated": "conflat",
		"troubled": "troubl", "sized": "size", "hopping": "hop", "tanned": "tan", "falling": "fall", "hissing": "hiss",
		"fizzed": "fizz", "failing": "fail", "filing": "file", "happy": "happi", "sky": "sky", "relational": "relat",
		"conditional": "condit", "rational": "ration", "valenci": "valenc", "digitizer": "digit", "radicalli": "radic",
		"differentli": "differ", "vileli": "vile", "analogousli": "analog", "vietnamization": "vietnam", "predication": "predic",
		"operator": "oper", "feudalism": "feudal", "decisiveness": "decis", "hopefulness": "hope", "callousness": "callous",
		"formaliti": "formal", "sensitiviti": "sensit", "sensibiliti": "sensibl", "triplicate": "triplic", "formative": "form",
		"formalize": "formal", "electriciti": "electr", "electrical": "electr", "goodness": "good", "revival": "reviv",
		"allowance": "allow", "inference": "infer", "airliner": "airlin", "adjustable": "adjust", "defensible": "defens",
		"irritant": "irrit", "replacement": "replac", "adjustment": "adjust", "dependent": "depend", "adoption": "adopt",
		"communism": "commun", "activate": "activ", "angulariti": "angular", "homologous": "homolog", "effective": "effect",
		"bowdlerize": "bowdler", "probate": "probat", "rate": "rate", "cease": "ceas", "controll": "control", "roll": "roll",
		"generalizations": "gener", "oscillators": "oscil", "possibly": "possibl", "archaeology": "archaeolog",
		"is": "is", "sha256": "sha256", "größe": "größe",
	} {
		if got := stem(word); got != want {
			t.Errorf("stem(%q) = %q, want %q", word, got, want)
		}
	}
}

func FuzzWords(f *testing.F) {
	for _, text := range []string{"maxConns", "検索ก ไทย", "\u0130\u0131\u212a", "a\u0301b", "yyyyy", "ϴθΘϑ"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for word := range words(text) {
			if word == "" || len(word) > 4*maxWordBytes || utf8.ValidString(text) && !utf8.ValidString(word) {
				t.Fatalf("bad word %q", word)
			}
			if again := strings.Map(fold, word); again != word {
				t.Fatalf("%q is not folded: %q", word, again)
			}
			stem(word)
		}
		if v := hashedVector(text); len(v) != hashedDimensions {
			t.Fatal("bad vector")
		}
	})
}
