package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestWords writes a whole in brackets around its parts, and + before a joined word.
func TestWords(t *testing.T) {
	tests := map[string]string{
		"Hello, World!":         "hello world",
		"maxConns HTTPServer":   "[maxconns max conns] [httpserver http server]",
		"GitHub, GITHUB":        "[github git hub] github",
		"APIs PNGs JSON":        "[apis api] [pngs png] json",
		"snake_case kebab-case": "[snakecase snake case] kebab case",
		"__init__ _x":           "init x",
		"sha256 x86 IPv6":       "[sha256 sha] x86 [ipv6 ipv pv6]",
		"e-mail re-index A/B":   "e mail +email re index +reindex a b +ab",
		"OAuth2 HTTP/3":         "[oauth2 oauth auth2] http 3 +http3",
		"ERR_CHUNK_MISSING":     "[errchunkmissing err chunk missing]",
		"Use --no-cache or -v.": "use [--no-cache no cache] or [-v v]",
		"`--dry-run=client`":    "[--dry-run dry run] client",
		"a--b 3-4 - c -5":       "a b 3 4 +34 c 5",
		"C++ C# F#, c":          "[c++ c] [c# c] [f# f] c",
		"#C a#b C+ x++y":        "c a b c x y",
		".NET ASP.NET a.net":    "[.net net] asp net a net",
		"3.12 v1.2.3 node20.1":  "[3.12 3 12] [1.2.3 1.2 1 2 3] node [20.1 20 1]",
		"Straße ΣΊΣΥΦΟΣ \u212A": "strasse σισυφοσ k",
		"naïve हिन्दी":          "naive हिन्दी",
		"検索する":                  "検 索 検索 す 索す る する",
		"東京Tokyo2020":           "東 京 東京 [tokyo2020 tokyo]",
		"ไทย":                   "ไ ท ไท ย ทย",
		"":                      "",
		"... --- !!! ++ # ``":   "",
		strings.Repeat("a", 65): strings.Repeat("a", 64) + " a",
	}
	for text, want := range tests {
		if got := showWords(text); got != want {
			t.Errorf("words(%q) = %q, want %q", text, got, want)
		}
	}
}

func showWords(text string) string {
	var b strings.Builder
	isOpen := false
	for w := range words(text) {
		isInner := w.kind == partWord || w.kind == pieceWord
		if isOpen && !isInner {
			b.WriteByte(']')
			isOpen = false
		}
		b.WriteByte(' ')
		if w.kind == wholeWord {
			b.WriteByte('[')
			isOpen = true
		}
		if w.kind == joinedWord {
			b.WriteByte('+')
		}
		b.WriteString(w.text)
	}
	if isOpen {
		b.WriteByte(']')
	}
	return strings.TrimSpace(b.String())
}

// TestFold has pairs of spellings that a reader takes for the same.
func TestFold(t *testing.T) {
	for _, pair := range [][2]string{
		{"Pru\u0308fung", "Prüfung"},
		{"Café Crème", "cafe creme"},
		{"STRASSE", "straße"},
		{"Chloë", "chloe"},
		{"ＣＯＲＳ　１２", "cors 12"},
		{"ｶﾞｲﾄﾞ ﾊﾟｽ", "ガイド パス"},
		{"か\u3099", "が"},
		{"Ёлка", "елка"},
		{"\u0438\u0306од", "йод"},
		{"\u1112\u1161\u11ab\u1100\u1173\u11af", "한글"},
		{"conﬁg ﬂow oﬃce", "config flow office"},
		{"docu\u00admen\u200btation", "documentation"},
		{"Łódź Ørsted Ångström", "lodz orsted angstrom"},
		{"İstanbul", "istanbul"},
		{"tiếng Việt", "tieng viet"},
		{"άλφα ΆΛΦΑ", "αλφα αλφα"},
		{"ίριδα ᾳ", "ΙΡΙΔΑ α"},
		{"æther œuvre þing", "aether oeuvre thing"},
		{"أحمد مُحَمَّد", "احمد محمد"},
	} {
		one := strings.Join(sequence(pair[0]), " ")
		other := strings.Join(sequence(pair[1]), " ")
		if one != other || one == "" {
			t.Errorf("%q gives %q, %q gives %q", pair[0], one, pair[1], other)
		}
	}
	for _, pair := range [][2]string{{"мой", "мои"}, {"กา", "กิ"}, {"はん", "ばん"}} {
		if slices.Equal(sequence(pair[0]), sequence(pair[1])) {
			t.Errorf("%q and %q are the same word", pair[0], pair[1])
		}
	}
}

// TestFoldedLettersStayFolded folds every letter twice.
func TestFoldedLettersStayFolded(t *testing.T) {
	for r := range unicode.MaxRune + 1 {
		folded := foldWord(string(r))
		if again := foldWord(folded); again != folded {
			t.Errorf("%U: %q, then %q", r, folded, again)
		}
	}
}

func TestWordsKnowCode(t *testing.T) {
	tests := map[string]string{
		"Use `if` or ``a`b`` now": "if a b",
		"```go\nfor x\n``` end":   "go for x",
		"one ` tick":              "",
		"`a` b `c":                "a",
	}
	for text, want := range tests {
		var code []string
		for w := range words(text) {
			if w.isCode {
				code = append(code, w.text)
			}
		}
		if got := strings.Join(code, " "); got != want {
			t.Errorf("code of %q: %q, want %q", text, got, want)
		}
	}
}

func TestSpeller(t *testing.T) {
	known := []string{"certificate", "kubernetes", "backup", "form", "from", "rollback", "postgresql"}
	tests := map[string]string{
		"certifcate":  "certificate",
		"kubernets":   "kubernetes",
		"kubrenetse":  "kubernetes", // two swaps
		"bakcup":      "backup",
		"fomr":        "form",
		"postgersql":  "postgresql",
		"certificate": "",
		"zebra":       "",
		"backupping":  "",
	}
	for misspelt, want := range tests {
		s := newSpeller(misspelt)
		for _, w := range known {
			s.add(w, newWordShape(w))
		}
		if got := strings.Join(s.nearest, " "); got != want {
			t.Errorf("nearest to %q: %q, want %q", misspelt, got, want)
		}
	}
}

func TestMostFrequentWordsAreCountedOnce(t *testing.T) {
	counts := map[string]int{"lantern": 3, "wick": 3, "brass": 1, "copper": 2, "flame": 9}
	byTerm := make(map[term]int)
	for w, n := range counts {
		byTerm[newTerm(w)] = n
	}
	asked := 0
	frequency := func(t term) int {
		asked++
		return byTerm[t]
	}

	got := mostFrequent(slices.Collect(maps.Keys(counts)), frequency, 2)
	if want := []string{"flame", "wick", "lantern", "copper"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if asked != len(counts) {
		t.Errorf("the frequencies of %d words were looked up %d times", len(counts), asked)
	}
}

func TestOnlyTheFirstUnknownWordsAreCorrected(t *testing.T) {
	text := ""
	var words []string
	for i := range uint64(maxCorrections + 5) {
		word := syntheticWord(100_000 + i)
		words = append(words, word)
		text += word + " " + word + " "
	}
	q := newQuestion(text, false)
	got := q.unknown(func(term) int { return 0 })
	if want := words[:maxCorrections]; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
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
		for w := range words(text) {
			word := w.text
			if word == "" || len(word) > 4*maxWordBytes {
				t.Fatalf("bad word %q", word)
			}
			if utf8.ValidString(text) && !utf8.ValidString(word) {
				t.Fatalf("bad word %q", word)
			}

			folded := foldWord(word)
			if folded != word {
				t.Fatalf("%q is not folded: %q", word, folded)
			}
			stem(word) // must not panic
		}
		newQuestion(text, true) // must not panic
		if v := hashedVector(text); len(v) != hashedDimensions {
			t.Fatal("bad vector")
		}
	})
}
