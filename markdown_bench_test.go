package main

// The cost of Markdown that makes careless parsers slow: it must grow with the size of the text, and no faster.

import (
	"runtime"
	"strings"
	"testing"
)

// costlyShapes are parts of texts that cost a parser much if it looks for their ends again and again.
var costlyShapes = []struct{ name, head, part, tail string }{
	{"data URIs in pictures that never end", "", "![](data:a/b,c ", ""},
	{"data URIs", "", "data:image/png;base64,AAAA ", ""},
	{"data URIs without spaces", "", "data:a/b,", ""},
	{"links that never end", "", "[a](b ", ""},
	{"links in links", "", "[a](b) [", ""},
	{"brackets", "", "[", ""},
	{"closing brackets", "[", "]", ""},
	{"pairs of brackets", "", "[]", ""},
	{"labels", "", "[a][b", ""},
	{"backticks of all lengths", "", "` `` ``` ```` ````` ", ""},
	{"backticks and brackets", "", "[`](", ""},
	{"quotes in quotes", "", ">", ""},
	{"quotes line by line", "", "> > > a\n", ""},
	{"lists in lists", "", "- ", ""},
	{"lists line by line", "", "- a\n  - b\n    - c\n", ""},
	{"stars", "", "*a ", ""},
	{"stars in stars", "", "**a *", ""},
	{"underscores", "", "_a __", ""},
	{"tildes", "", "~~a ~", ""},
	{"entities", "", "&amp", ""},
	{"backslashes", "", "\\", ""},
	{"tags that never end", "", "<a b=\"", ""},
	{"tags with braces", "", "<a b={{", ""},
	{"comments that never end", "", "<!-- a ", ""},
	{"comments of MDX", "", "{/* a ", ""},
	{"shortcodes", "", "{{< a ", ""},
	{"Liquid", "", "{% a ", ""},
	{"Liquid line by line", "", "{% highlight a %}\n", ""},
	{"attributes", "", "{#a ", ""},
	{"addresses", "", "https://a.b/(", ""},
	{"mail addresses", "", "a@b", ""},
	{"footnotes", "", "[^a]", ""},
	{"footnotes defined", "", "[^a]: b\n", ""},
	{"definitions", "", "[a]: b\n", ""},
	{"definitions that never end", "", "[a]: b \"\n", ""},
	{"callouts", "", "::: note\n", ""},
	{"callouts in callouts", "", "!!! note\n    ", ""},
	{"tables of many columns", "| a\n", "|-", "\n"},
	{"rows", "| a | b |\n|---|---|\n", "| c | d |\n", ""},
	{"cells", "| a | b |\n|---|---|\n", "| c ", "\n"},
	{"heads of tables", "", "| a |\n|---|\n", ""},
	{"headings", "", "# a\n", ""},
	{"underlined headings", "", "a\n=\n", ""},
	{"headings of one name", "", "# a [b](c)\n", ""},
	{"modules", "import a from 'b'\n", "{\n", ""},
	{"fences", "", "```\n~~~\n", ""},
	{"indented code", "", "    a\n\n", ""},
	{"spaces", "a", " ", "b"},
	{"lines", "", "\n", ""},
	{"HTML line by line", "", "<div>\n\n", ""},
	{"HTML that never ends", "<script>\n", "<!--\n", ""},
	{"titles in HTML", "", "<h1>a\n\n", ""},
	{"YAML lists in lists", "---\ntags: ", "[", "\n---\n"},
	{"YAML maps in maps", "---\nsearch: ", "{a: ", "\n---\n"},
	{"YAML items", "---\ntags:\n", "- a\n", "---\n"},
	{"YAML items in items", "---\ntags:\n", "- ", "\n---\n"},
	{"YAML quotes", "---\ntitle: ", "\"a ", "\n---\n"},
	{"YAML lines of quotes", "---\n", "a: \"\n", "---\n"},
	{"YAML deeper and deeper", "---\nsearch:\n", " a:\n  b: |\n", "---\n"},
	{"TOML quotes", "+++\n", "a = '''\n", "+++\n"},
	{"TOML tables", "+++\n", "[a]\nb.c = [\n", "+++\n"},
	{"TOML keys", "+++\n", "a.", " = 1\n+++\n"},
	{"JSON in JSON", "{\"a\": ", "[", "\n}\n"},
	{"JSON line by line", "{\n\"a\":\n", "{\n", "}\n"},
	{"front matter that never ends", "---\n", "a: b\n", ""},
	{"rules", "", "---\n", ""},
}

// costlyText returns a text of at most n bytes of a shape.
func costlyText(i, n int) string {
	shape := costlyShapes[i]
	return shape.head + strings.Repeat(shape.part, n/len(shape.part)) + shape.tail
}

// readAll does with a text whatever is done with a document before anybody asks for it, and shows it.
func readAll(text string) {
	parseChunks(text)
	linksOf(text)
	anchorsOf(text)
	renderMarkdown(renderInput{text: text}, 0, pageTargets{root: "./"})
}

// BenchmarkCostlyMarkdown shows the CPU time that a byte costs: about the same in a text eight times as long.
func BenchmarkCostlyMarkdown(b *testing.B) {
	for i, shape := range costlyShapes {
		b.Run(strings.ReplaceAll(shape.name, " ", "_"), func(b *testing.B) {
			b.Run("64KiB", func(b *testing.B) { benchmarkReading(b, costlyText(i, 64<<10)) })
			b.Run("512KiB", func(b *testing.B) { benchmarkReading(b, costlyText(i, 512<<10)) })
		})
	}
}

func benchmarkReading(b *testing.B, text string) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadCPUTime()
	for b.Loop() {
		readAll(text)
	}
	spent := threadCPUTime() - began
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*len(text)), "cpu-ns/byte")
}
