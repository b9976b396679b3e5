package main

// The costliest requests of at most 8 MiB: what each takes of the program, measured from outside.

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// largestTexts returns texts of n bytes in shapes that cost most: each has a part of the analysis that it makes
// work hard.
func largestTexts(n int) map[string]func() string {
	identifiers := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return strings.ToValidUTF8(b.String()[:n], "")
	}
	return map[string]func() string{
		"prose":                    func() string { return proseText(n) },
		"distinct words":           func() string { return distinctWords(n, 20)[:n] },
		"distinct words, one line": func() string { return distinctWords(n, 1<<30)[:n] },
		"distinct identifiers":     func() string { return identifiers("aB%xCdEfGhIjKlMnOpQrStUvWxYz\n") },
		"identifiers of parts":     func() string { return repeated("aB cD eF gH iJ kL mN oP qR ", n) },
		"snake case":               func() string { return identifiers("a_b_%x_c_d_e_f_g\n") },
		"accents":                  func() string { return identifiers("é%xüñçÀÉÎÕÜßøåæœ ") },
		"decomposed accents":       func() string { return repeated("e\u0301a\u0300u\u0308 ", n) },
		"marks alone":              func() string { return repeated("e"+strings.Repeat("\u0301", 40)+" ", n) },
		"ideographs":               func() string { return strings.ToValidUTF8(ideographs(n)[:n], "") },
		"ideographs, lines":        func() string { return strings.ToValidUTF8(strings.ReplaceAll(ideographs(n), "一", "一\n")[:n], "") },
		"hangul":                   func() string { return hangul(n) },
		"thai": func() string {
			return repeated("กขฃคฅฆงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยร", n)
		},
		"latin and ideographs":   func() string { return repeated("a中b国c文d字", n) },
		"one word":               func() string { return repeated("installation ", n) },
		"short words":            func() string { return repeated("ab ", n) },
		"letters":                func() string { return repeated("a ", n) },
		"one long word":          func() string { return strings.Repeat("a", n) },
		"digits":                 func() string { return identifiers("%d ") },
		"versions":               func() string { return identifiers("1.2.3.4.%d ") },
		"flags":                  func() string { return identifiers("--flag-%x ") },
		"hyphens":                func() string { return identifiers("a-b-c-d-%x ") },
		"dots":                   func() string { return identifiers("a.b.c.d.%x ") },
		"headings":               func() string { return identifiers("# h%x\n") },
		"headings and text":      func() string { return identifiers("## h%x\nx\n") },
		"headings at all levels": func() string { return identifiers("# a\n## b%x\n### c\n#### d\n##### e\n###### f\nx\n") },
		"underlined headings":    func() string { return repeated("a\nb\n===\n", n) },
		"cells":                  func() string { return "|a|b|\n|-|-|\n" + repeated("|c|d|\n", n-12) },
		"tables":                 func() string { return repeated("|a|b|\n|-|-|\n|c|d|\n\n", n) },
		"wide table": func() string {
			return "|" + repeated("a|", n/3) + "\n|" + repeated("-|", n/3) + "\n" + repeated("|c|d|\n", n/3-9)
		},
		"links":                    func() string { return identifiers("[a%x](b%[1]x) ") },
		"link definitions":         func() string { return identifiers("[a%x]: b\n") },
		"link definitions, titles": func() string { return identifiers("[a%x]: b 'c'\n") },
		"open links":               func() string { return repeated("[a](", n) },
		"open brackets":            func() string { return strings.Repeat("[", n) },
		"brackets":                 func() string { return strings.Repeat("[", n/2) + strings.Repeat("]", n/2) },
		"images":                   func() string { return repeated("![a](b.png)\n", n) },
		"autolinks":                func() string { return repeated("https://a.b/c ", n) },
		"mail addresses":           func() string { return repeated("a@b.c ", n) },
		"emphasis":                 func() string { return repeated("*a ", n) },
		"emphasis, nested":         func() string { return repeated("*a **b ", n) },
		"code spans":               func() string { return repeated("`a` ", n) },
		"open code":                func() string { return identifiers("`%x``") },
		"entities":                 func() string { return repeated("&amp;", n) },
		"escapes":                  func() string { return repeated(`\*`, n) },
		"html tags":                func() string { return repeated("<b>", n) },
		"html blocks":              func() string { return repeated("<div>\na\n\n", n) },
		"html attributes":          func() string { return "<a " + repeated("b='c' ", n-10) + ">\n" },
		"open comments":            func() string { return repeated("<!--", n) },
		"comments":                 func() string { return repeated("<!-- a -->", n) },
		"jsx":                      func() string { return repeated("<A b={c}>d</A>\n", n) },
		"imports":                  func() string { return repeated("import a from 'b'\n\n", n) },
		"templates":                func() string { return repeated("{% raw %}a{% endraw %}\n", n) },
		"open templates":           func() string { return repeated("{% raw %}\n", n) },
		"callouts":                 func() string { return repeated("!!! note\n    a\n", n) },
		"open callouts":            func() string { return repeated(":::note\n", n) },
		"footnotes":                func() string { return identifiers("[^%x]: a\n\n") },
		"deep lists":               func() string { return repeated("- ", n) },
		"deep quotes":              func() string { return strings.Repeat(">", n) },
		"quotes and items":         func() string { return repeated("> > > - - 1. a\n", n) },
		"items":                    func() string { return repeated("- a\n", n) },
		"nested items":             func() string { return deepItems(n) },
		"short lines":              func() string { return repeated("a\n", n) },
		"blank lines":              func() string { return "a" + strings.Repeat("\n", n-2) + "b" },
		"spaces":                   func() string { return "a" + strings.Repeat(" ", n-2) + "b" },
		"tabs":                     func() string { return repeated("\ta\n", n) },
		"carriage returns":         func() string { return repeated("a\r\n", n) },
		"fence":                    func() string { return "```\n" + repeated("x = 1\n", n-4) },
		"fences":                   func() string { return repeated("```\na\n```\n", n) },
		"long fence":               func() string { return "```" + strings.Repeat("a", n-3) },
		"rules":                    func() string { return repeated("***\n", n) },
		"data":                     func() string { return "![a](data:image/png;base64," + strings.Repeat("A", n-100) + ")" },
		"front matter":             func() string { return "---\n" + repeated("a: [b, c]\n", n-10) + "---\na\n" },
		"open front matter":        func() string { return "---\n" + repeated("a: b\n", n-4) },
		"definition of keywords":   func() string { return "---\nkeywords: [" + identifiers("a%x, ")[:n-100] + "]\n---\na\n" },
	}
}

// largestText returns the text of one shape.
func largestText(shape string, n int) string { return largestTexts(n)[shape]() }

// deepItems returns lists whose items are indented by one more level each, again and again.
func deepItems(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(strings.Repeat("  ", i%60) + "- a\n")
	}
	return b.String()[:n]
}

func hangul(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteRune(rune(0xac00 + i*7919%11172))
	}
	return strings.ToValidUTF8(b.String()[:n], "")
}

// proseText returns n bytes like those of a handbook, made of this program's own manual.
func proseText(n int) string {
	manual, err := ownDocuments.ReadFile("README.md")
	if err != nil {
		panic(err)
	}
	return strings.ToValidUTF8(strings.Repeat(string(manual), 1+n/len(manual))[:n], "")
}

// BenchmarkCostliestRequests stores, reads and shows texts of 8 MiB in the program itself. It prints for each request
// the CPU time that it took, garbage collection included, and by how much it raised the memory. Each text but the first replaces
// another one. COSTLIEST is a regular expression of the shapes to try, DATABASE a store in PostgreSQL:
//
//	go test -run '^$' -bench CostliestRequests -benchtime 1x .
func BenchmarkCostliestRequests(b *testing.B) {
	dir := b.TempDir()
	env := []string{"DOCS_DIR=" + dir, "DOCS_SYNC_INTERVAL=1h"}
	if os.Getenv("DATABASE") != "" {
		env = []string{"DATABASE_URL=" + newDatabase(b)}
	}
	wanted := regexp.MustCompile(os.Getenv("COSTLIEST"))
	texts := largestTexts(maxDocumentBytes)
	for _, shape := range slices.Sorted(maps.Keys(texts)) {
		if !wanted.MatchString(shape) {
			continue
		}
		text := texts[shape]()
		p := start(b, env)
		p.get("/search?q=a") // what only the first request costs
		requests := []struct {
			name string
			do   func() int
		}{
			{"PUT /documents", func() int { return p.put("a.md", text) }},
			{"GET /search", func() int { status, _ := p.get("/search?q=ab+installation"); return status }},
			{"GET /read", func() int { status, _ := p.get("/read/a.md", "Accept: text/html"); return status }},
			{"GET /documents", func() int { status, _ := p.get("/documents/a.md"); return status }},
		}
		line := fmt.Sprintf("%-26s", shape)
		for _, request := range requests {
			cpu := p.cpuTime(b)
			memory := p.forgetPeak(b)
			status := request.do()
			cpu = p.cpuTime(b) - cpu
			grown := p.peakMemory(b) - memory
			line += fmt.Sprintf("  %3d %6.2f s %4d MiB", status, cpu.Seconds(), grown>>20)
		}
		fmt.Println(line)
		p.kill()
	}
}
