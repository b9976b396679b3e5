package main

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestChunkMarkdown(t *testing.T) {
	tests := []struct {
		name  string
		text  string
		title string
		want  []chunk
	}{
		{"empty", "", "a", nil},
		{"blank", " \n\n", "a", nil},
		{"plain text", "one\ntwo\n", "a", []chunk{{"", "", 1, "one\ntwo"}}},
		{"a title alone", "# Only\n", "Only", []chunk{{"", "only", 1, "Only"}}},
		{"sections", "# T\n\nintro\n\n## A\n\na\n\n### B\n\nb\n\n## C\n\nc\n", "T",
			[]chunk{{"", "t", 3, "intro"}, {"A", "a", 7, "a"}, {"A > B", "b", 11, "b"}, {"C", "c", 15, "c"}}},
		{"a heading without text is found", "# T\n\nx\n\n## A\n\n## B\n\nb\n\n## C\n", "T",
			[]chunk{{"", "t", 3, "x"}, {"A", "a", 5, "A"}, {"B", "b", 9, "b"}, {"C", "c", 11, "C"}}},
		{"the words of an outer heading are in the path", "# T\n\n## A\n\n### B\n\nb", "T", []chunk{{"A > B", "b", 7, "b"}}},
		{"a second title", "# T\n\nx\n\n# U\n\n## V\n\ny", "T", []chunk{{"", "t", 3, "x"}, {"U > V", "v", 9, "y"}}},
		{"closing hashes", "# T #\n\n## C# ##\n\nx", "T", []chunk{{"C#", "c", 5, "x"}}},
		{"no heading without a space", "#tag\n\n####### seven\n", "a", []chunk{{"", "", 1, "#tag\n\n####### seven"}}},
		{"setext", "T\n=\n\nx\n\nA\npart\n---\n\ny\n", "T", []chunk{{"", "t", 4, "x"}, {"A part", "apart", 10, "y"}}},
		{"a rule is no text", "x\n\n---\n\ny\n\n***\n", "a", []chunk{{"", "", 1, "x\n\ny"}}},
		{"a fence hides headings", "# T\n\n```sh\n# not a heading\n```\n\n~~~\n## nor this\n```\n~~~\n", "T",
			[]chunk{{"", "t", 3, "```sh\n# not a heading\n```\n\n~~~\n## nor this\n```\n~~~"}}},
		{"a fence that never closes", "# T\n\n```\n# x\n", "T", []chunk{{"", "t", 3, "```\n# x\n```"}}},
		{"indented code hides headings", "x\n\n    # not\n\t# nor\n", "a", []chunk{{"", "", 1, "x\n\n    # not\n\t# nor"}}},
		{"front matter", "---\ntitle: \"The title\"\ntags: [a]\n---\n\n## A\n\nx\n", "The title", []chunk{{"A", "a", 8, "x"}}},
		{"front matter without a title", "---\na: b\n---\n# T\nx\n", "T", []chunk{{"", "t", 5, "x"}}},
		{"front matter alone", "---\na: b\n---\n", "a", []chunk{{"", "", 1, "a"}}},
		{"byte order mark and CRLF", "\ufeff# T\r\n\r\n## A\r\n\r\nx\r\ny\r\n", "T", []chunk{{"A", "a", 5, "x\ny"}}},

		{"a chapter is a title", "## Chapter\n\nx\n\n## B\n\ny", "Chapter", []chunk{{"Chapter", "chapter", 3, "x"}, {"B", "b", 7, "y"}}},
		{"a title in HTML", "<p align=center>\n<img src=a.png alt=\"Logo\">\n</p>\n<h1 align=center>The <b>Name</b></h1>\n\nx\n\n## A\n\ny", "The Name",
			[]chunk{{"", "", 2, "Logo\nThe Name\n\nx"}, {"A", "a", 10, "y"}}},
		{"comments", "<!--\n# note\n-->\n# Guide\n\na <!-- b\nc --> d {/* e */} f\n", "Guide", []chunk{{"", "guide", 6, "a \n d  f"}}},
		{"scripts and styles", "# T\n\n<script>\nlet a\n\n# b\n</script>\n\n<style>p {}</style>\n\nx", "T", []chunk{{"", "t", 11, "x"}}},
		{"MDX", "import A from 'a'\nexport const b = {\n  c: 1\n}\n\n# T\n\n<Tabs>\n<Tab label={x => 1}>\n\nWords <A b={{c: 1}}/>here.\n\n</Tab>\n</Tabs>\n", "T",
			[]chunk{{"", "t", 11, "Words here."}}},
		{"template tags", "# T\n\n{{% include \"a\" %}}\n\n{% include b %}\n\n{{< note >}}\nx\n{{< /note >}}\n", "T", []chunk{{"", "t", 8, "x"}}},
		{"code in template tags", "{% highlight html %}\n<a>{% b %}</a>\n\n{{ c }}\n{% endhighlight %}\n\n{% raw %}\n```\n{% d %}\n```\n{% endraw %}\n\n{% highlight sh %}ls{% endhighlight %}\n", "a",
			[]chunk{{"", "", 2, "<a>{% b %}</a>\n\n{{ c }}\n\n```\n{% d %}\n```\n\nls"}}},
		{"tags in code stay", "a `<b>` <c-d e> <file>\n\n```\n<d> {% e %}\n```\n\n    <f>\n", "a", []chunk{{"", "", 1, "a `<b>`  <file>\n\n```\n<d> {% e %}\n```\n\n    <f>"}}},
		{"link definitions", "# T\n\n[a]: b\n[c]: d 'e'\n\n## A\n\nx [a]\n\n[f]: g\n", "T", []chunk{{"A", "a", 8, "x [a]"}}},
		{"only markup", "# T\n\n<div>\n</div>\n\n---\n\n<!-- x -->\n\n:::\n\n[a]: b\n", "T", []chunk{{"", "t", 1, "T"}}},
		{"values of templates", "{{ a.b }}\n\n- {{ c | d }} {{e}}\n\nx {{ f }}\n\n`{{ g }}`\n", "a", []chunk{{"", "", 5, "x {{ f }}\n\n`{{ g }}`"}}},
		{"pictures as data", "a ![b](data:image/png;base64," + strings.Repeat("Aa0/", 100_000) + ") c\n", "a", []chunk{{"", "", 1, "a [image] c"}}},
		{"data", "x\n\n" + strings.Repeat("Aa0/", 1000) + "\n\ny\n", "a", []chunk{{"", "", 1, "x\n\ny"}}},
		{"lists and quotes are as they were", "- a\n  - b <br>\n\n> c\n> d\n", "a", []chunk{{"", "", 1, "- a\n  - b \n\n> c\n> d"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, got := parseMarkdown("a.md", test.text)
			if m.title != test.title || !slices.Equal(got, test.want) {
				t.Errorf("title %q chunks %+v\nwant  %q chunks %+v", m.title, got, test.title, test.want)
			}
		})
	}
}

func TestLongSectionsAreCutAtTheBestPlace(t *testing.T) {
	sentence := strings.Repeat("word ", 20) + "end. " // 105 characters
	paragraph := strings.Repeat(sentence, 7) + "\n\n" // 737
	line := strings.Repeat("x", 99) + "\n"
	fence := "```\n" + strings.Repeat(line, 8) + "```\n"

	tests := []struct {
		name  string
		text  string
		first string // chunk
	}{
		{"at a paragraph", paragraph + paragraph, strings.TrimSpace(paragraph)},
		{"at a line", strings.Repeat(line, 20), strings.TrimSpace(strings.Repeat(line, 12))},
		{"at a sentence", strings.Repeat(sentence, 20), strings.TrimSpace(strings.Repeat(sentence, 11))},
		{"at a word", strings.Repeat("word ", 500), strings.TrimSpace(strings.Repeat("word ", 240))},
		{"between characters", strings.Repeat("字", 2000), strings.Repeat("字", 1200)},
		{"before code that fits a chunk of its own", paragraph + fence, strings.TrimSpace(paragraph)},
		{"before code that begins early", line + fence + fence, strings.TrimSpace(line + fence)},
		{"inside code that is too long", "```go\n" + strings.Repeat(line, 20) + "```\n", "```go\n" + strings.Repeat(line, 11) + "```"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, chunks := parseMarkdown("a.md", "# T\n\n"+test.text)
			if len(chunks) < 2 || chunks[0].text != test.first {
				t.Errorf("%d chunks, the first %q\nwant %q", len(chunks), chunks[0].text, test.first)
			}
		})
	}
}

func TestPartsCanBeReadAlone(t *testing.T) {
	row := "| " + strings.Repeat("cell ", 10) + "| b |\n"
	item := "- " + strings.Repeat("word ", 15) + "\n  more\n"
	code := strings.Repeat("x", 60) + "\n"
	tests := []struct{ name, text, head, foot string }{
		{"a table repeats its head", "| A | B |\n|---|--:|\n" + strings.Repeat(row, 60), "| A | B |\n|---|--:|\n| cell", "| b |"},
		{"a fence is closed and opened again", "~~~~ py x\n" + strings.Repeat(code, 60) + "~~~~~\n", "~~~~ py x\nx", "x\n~~~~"},
		{"a list is cut between items", strings.Repeat(item, 60), "- word", "  more"},
		{"a quote's code", strings.Repeat("> a b\n", 10) + "> ```c\n" + strings.Repeat("> "+code, 60) + "> ```\n", "> ```c\n> x", "> ```"},
		{"an item's code", "1. ```c\n" + strings.Repeat("   "+code, 60) + "   ```\n", "   ```c\n   x", "   ```"},
		{"code of a quote in an item", "- > ```\n" + strings.Repeat("  > "+code, 60), "  > ```\n  > x", "  > ```"},
		{"a table with a padded head", "| A " + strings.Repeat(" ", 700) + "| B |\n|" + strings.Repeat("-", 700) + "|---|\n" + strings.Repeat(row, 60),
			"| A | B |\n|---|---|\n| cell", "| b |"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, chunks := parseMarkdown("a.md", "# T\n\n"+test.text)
			if len(chunks) < 3 {
				t.Fatalf("%d chunks", len(chunks))
			}
			for _, c := range chunks[1:] {
				if !strings.HasPrefix(c.text, test.head) || !strings.HasSuffix(c.text, test.foot) {
					t.Errorf("part %q", c.text)
				}
			}
		})
	}
}

// TestShortItemsAreNotCut has an item that is long in bytes.
func TestShortItemsAreNotCut(t *testing.T) {
	item := "- " + strings.Repeat("слово ", 80) + "\n\n  " + strings.Repeat("слово ", 80) + "\n\n"
	_, chunks := parseMarkdown("a.md", "# T\n\n"+strings.Repeat(item, 4))
	for _, c := range chunks {
		if c.text != strings.TrimSpace(item) {
			t.Errorf("%d chunks, one is %q", len(chunks), c.text)
		}
	}
}

func TestTitlesAreThoseOfFilesAtLast(t *testing.T) {
	for id, want := range map[string]string{
		"guide/set-up.md":        "set-up",
		"guide/index.md":         "guide",
		"a/b/_index.md":          "b",
		"api/README.md":          "api",
		"README.md":              "README",
		"notes.v2.markdown":      "notes.v2",
		"guide/Installation.mdx": "Installation",
	} {
		if m, _ := parseMarkdown(id, "x\n"); m.title != want {
			t.Errorf("%s: title %q, want %q", id, m.title, want)
		}
	}
}

// TestTagsSeparateWords leaves tags out. Those of elements between words leave a space.
func TestTagsSeparateWords(t *testing.T) {
	for text, want := range map[string]string{
		"<td><code>email</code></td><td>str</td><td>Die": "email str Die",
		"one<br>two<br/>three":                           "one two three",
		"ht<b>t</b>p and H<sub>2</sub>O":                 "http and H2O",
		"a <em>b</em> c":                                 "a b c",
		"left<!-- note -->right":                         "leftright",
		"<Card>Read</Card><Card>more</Card>":             "Read more",
		"`<td>a</td><td>b</td>` is code":                 "`<td>a</td><td>b</td>` is code",
	} {
		if got := withoutMarkup(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestHeadingsAreWordsWithSlugs(t *testing.T) {
	tests := []struct{ source, words, slug string }{
		{"Guide", "Guide", "guide"},
		{"Guide {#g}", "Guide", "g"},
		{"Guide { #id .class }", "Guide", "id"},
		{"Guide {: .class #id }", "Guide", "id"},
		{"Guide {/*own-id*/}", "Guide", "own-id"},
		{"Guide <span id=\"x\"></span>", "Guide", "guide-1"},
		{"New <small>since 2.0</small>", "New since 2.0", "new-since-20"},
		{"<a name=\"a\"></a>Anchored", "Anchored", "anchored"},
		{"[Linked](http://x/y_(z) 'title') [ref][r]", "Linked ref", "linked-ref"},
		{"![Logo](a.png) of [![b](c)](d)", "Logo of b", "logo-of-b"},
		{"`go_run` *em* **strong** _em_ ~~gone~~", "go_run em strong em gone", "go_run-em-strong-em-gone"},
		{"snake_case_name and 2*3*4", "snake_case_name and 234", "snake_case_name-and-234"},
		{"`<T>` & *`*x*`*", "<T> & *x*", "t--x"},
		{"A \\*star\\* &amp; more", "A *star* & more", "a-star--more"},
		{"C++: what's new?", "C++: what's new?", "c-whats-new"},
		{"Schöne Grüße", "Schöne Grüße", "schöne-grüße"},
		{"日本語の見出し、です", "日本語の見出し、です", "日本語の見出しです"},
		{"🚀 Launch 🚀", "🚀 Launch 🚀", "-launch-"},
		{"1.2.3 (2024-01-02)", "1.2.3 (2024-01-02)", "123-2024-01-02"},
		{"[Unreleased]", "[Unreleased]", "unreleased"},
		{"[1.0] - 2024", "1.0 - 2024", "10---2024"},
		{"\\`Not\\` `co``de` [x]", "`Not` co``de [x]", "not-code-x"},
		{"**_Both_** *a **b** c* 2 * 3", "Both a b c 2 * 3", "both-a-b-c-2--3"},
		{"Note[^1]", "Note[^1]", "note1"},
		{"Guide", "Guide", "guide-2"},
		{"Guide 1", "Guide 1", "guide-1-1"},
		{":material-check: Done", "Done", "done"},
		{"A {{< icon x >}}B <!-- c -->", "A B", "a-b"},

		// What npm's github-slugger 2.0 makes of these.
		{"⚠️ Warning", "⚠️ Warning", "\ufe0f-warning"},
		{"1️⃣ one", "1️⃣ one", "1\ufe0f\u20e3-one"},
		{"🇩🇪 flag", "🇩🇪 flag", "-flag"},
		{"İstanbul", "İstanbul", "i̇stanbul"},
		{"x² + ½", "x² + ½", "x--"},
		{"Ⅷ Roman Ⓐ", "Ⅷ Roman Ⓐ", "ⅷ-roman-ⓐ"},
		{"a‿b", "a‿b", "a‿b"},
		{"①", "①", ""},
		{"①", "①", "-1"},
		{"日本語 の 見出し", "日本語 の 見出し", "日本語-の-見出し"},
		{"Привет 你好", "Привет 你好", "привет-你好"},
		{"한국어 문서", "한국어 문서", "한국어-문서"},
		{"हिन्दी", "हिन्दी", "हिन्दी"},
		{"ไทย ภาษา", "ไทย ภาษา", "ไทย-ภาษา"},
		{"“Quotes” — and · dots…", "“Quotes” — and · dots…", "quotes--and--dots"},
		{"a\u00a0b\u3000c", "a b c", "abc"},
		{"a  b", "a b", "a--b"},
		{"`--flag` & `_x`", "--flag & _x", "--flag--_x"},
		{"C#, .NET / Go", "C#, .NET / Go", "c-net--go"},
		{"ẞ ß ª", "ẞ ß ª", "ß-ß-ª"},
		{"Guide", "Guide", "guide-3"},
		{"constructor", "constructor", "constructor"},
	}
	var text strings.Builder
	text.WriteString("[r]: x.md\n[1.0]: y.md\n\n# Title\n\nx\n\n")
	for _, test := range tests {
		text.WriteString("## " + test.source + "\n\nx\n\n")
	}
	_, chunks := parseMarkdown("a.md", text.String())
	for i, test := range tests {
		c := chunks[i+1]
		if c.heading != test.words || c.slug != test.slug {
			t.Errorf("%s: %q with slug %q, want %q with %q", test.source, c.heading, c.slug, test.words, test.slug)
		}
	}
}

// TestHeadingsInListsAndQuotesCountForSlugs numbers headings as a page shows them.
func TestHeadingsInListsAndQuotesCountForSlugs(t *testing.T) {
	_, chunks := parseMarkdown("a.md", "> ## Note\n\n- # Note\n\n## Note\n\nx\n")
	if last := chunks[len(chunks)-1]; last.slug != "note-2" {
		t.Errorf("slug %q, want note-2", last.slug)
	}
}

func TestHostileSizesCostLittle(t *testing.T) {
	long := strings.Repeat("word ", 200_000)
	_, chunks := parseMarkdown("a.md", "# "+long+"\n\n## "+long+"\n\n"+strings.Repeat("### x\n\ny\n\n", 4000))
	bytes := 0
	for _, c := range chunks {
		bytes += len(c.heading) + len(c.text)
	}
	if len(chunks) < 4000 || bytes > 4000*(maxHeadingRunes+10) {
		t.Errorf("%d chunks have %d bytes", len(chunks), bytes)
	}

	for _, text := range []string{
		"a" + strings.Repeat(" ", 2<<20) + "b",
		strings.Repeat("{{<", 1<<19),
		"{{<" + strings.Repeat("{%a%}", 1<<18),
		strings.Repeat("<a b=\"", 1<<18),
		strings.Repeat("<a {", 1<<18),
		strings.Repeat("<a b='c' {{", 1<<17),
		strings.Repeat("![](data:a/b,c ", 1<<17),
		strings.Repeat("[", 1<<20),
		strings.Repeat("``` ` `` ", 1<<17),
		"# " + strings.Repeat("*a ", 1<<18),
		strings.Repeat("| a ", 1<<18) + "\n" + strings.Repeat("|-", 1<<18) + "\n" + strings.Repeat("| b |\n", 1<<10),
	} {
		for _, c := range parseChunks(text) {
			if n := utf8.RuneCountInString(c.text); n > maxChunkRunes {
				t.Errorf("%.10q: a chunk of %d characters", text, n)
			}
		}
		linksOf(text)
		anchorsOf(text)
	}
}

func parseChunks(text string) []chunk {
	_, chunks := parseMarkdown("a.md", text)
	return chunks
}

func FuzzChunkMarkdown(f *testing.F) {
	for _, text := range []string{
		"# T\n\n## A\n\ntext\n",
		"---\ntitle: x\n---\na\n===\nb\n---\n",
		"```\n# x\n~~~\n",
		"\ufeffx\r\n\r\n",
		strings.Repeat("word. ", 500),
		"a\n\n\n\n#\n\t\n",
	} {
		f.Add(text)
	}

	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		lines := strings.Count(text, "\n") + 1
		line := 1
		for _, c := range parseChunks(text) {
			if strings.TrimSpace(c.text) == "" || utf8.RuneCountInString(c.text) > maxChunkRunes {
				t.Fatalf("bad chunk %q", c.text)
			}
			if c.line < line || c.line > lines {
				t.Fatalf("chunk %q is in line %d of %d, after one in %d", c.text, c.line, lines, line)
			}
			line = c.line
			if utf8.RuneCountInString(c.heading) > maxHeadingRunes || !utf8.ValidString(c.heading+c.slug+c.text) {
				t.Fatalf("bad heading %q or slug %q", c.heading, c.slug)
			}
		}
	})
}
