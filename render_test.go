package main

// Markdown as HTML: the examples of CommonMark, what GitHub, MkDocs and Docusaurus add, and hostile texts.

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sameTargets leads each link where its text says.
type sameTargets struct{}

func (sameTargets) link(target string) string  { return target }
func (sameTargets) image(target string) string { return target }

// ownAttributes are those that the page needs and CommonMark does not know.
var ownAttributes = regexp.MustCompile(` (?:data-line|data-marked|tabindex|loading|rel|id)="[^"]*"| class="(?:task|picture)"`)

// ownElements are a heading's link to itself and the frame of a table.
var ownElements = regexp.MustCompile(`<a class="anchor"[^>]*>#</a>|<div class="table"[^>]*>|</div>`)

// plainHTML returns the HTML of a text without what the page adds to CommonMark.
func plainHTML(markdown string) string {
	html := renderMarkdown(renderInput{text: markdown}, 0, sameTargets{}).html
	return ownAttributes.ReplaceAllString(ownElements.ReplaceAllString(html, ""), "")
}

// sameForm makes HTML comparable: void elements end alike, and newlines between blocks do not count.
func sameForm(html string) string {
	html = strings.ReplaceAll(html, " />", ">")
	html = strings.NewReplacer(` alt=""`, "", ` href=""`, "", "<span>", "<a>", "</span>", "</a>", "<p></p>", "").Replace(html)
	html = regexp.MustCompile(`(</?(?:p|ul|ol|li|h\d|blockquote|pre|hr|div)[^>]*>)\n`).ReplaceAllString(html, "$1")
	html = regexp.MustCompile(`\n(</?(?:p|ul|ol|li|h\d|blockquote|hr)\b)`).ReplaceAllString(html, "$1")
	return strings.TrimSpace(html)
}

// withoutRawHTML removes from html the tags and comments that stand in the Markdown: they are left out on purpose.
func withoutRawHTML(html, markdown string) string {
	raw := regexp.MustCompile(`(?s)<!--.*?-->|</?[A-Za-z][^<>]*>`).FindAllString(markdown, -1)
	for _, tag := range raw {
		html = strings.ReplaceAll(html, tag+"\n\n", "")
		html = strings.ReplaceAll(html, tag, "")
	}
	return html
}

// TestCommonMark renders the examples of the specification. Raw HTML is left out on purpose.
func TestCommonMark(t *testing.T) {
	var examples []struct {
		Example                 int
		Section, Markdown, HTML string
	}
	text := readFile(t, filepath.Join("testdata", "commonmark", "examples.json"))
	if err := json.Unmarshal([]byte(text), &examples); err != nil {
		t.Fatal(err)
	}
	var sections []string
	passed := make(map[string]int)
	total := make(map[string]int)
	all, good := 0, 0
	for _, e := range examples {
		if !slices.Contains(sections, e.Section) {
			sections = append(sections, e.Section)
		}
		total[e.Section]++
		got := sameForm(plainHTML(e.Markdown))
		want := sameForm(withoutRawHTML(e.HTML, e.Markdown))
		isPass := got == want
		if isPass {
			passed[e.Section]++
		}
		if e.Section == "HTML blocks" || e.Section == "Raw HTML" {
			continue
		}
		all++
		if isPass {
			good++
		} else {
			t.Logf("example %d, %s:\n%s\n-- got\n%s\n-- want\n%s", e.Example, e.Section, e.Markdown, got, want)
		}
	}
	for _, section := range sections {
		t.Logf("%3d of %3d  %s", passed[section], total[section], section)
	}
	rate := float64(good) / float64(all)
	t.Logf("%d of %d outside the sections on raw HTML: %.1f %%", good, all, 100*rate)
	if rate < 0.97 {
		t.Errorf("%.1f %% of the examples pass, want 97", 100*rate)
	}
}

// TestMarkdownBeyondCommonMark: tables, tasks, strikethrough and addresses of GitHub; callouts; footnotes; what is left out.
func TestMarkdownBeyondCommonMark(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"a table", "|a|b|c|d|\n|:-|:-:|-:|-|\n|1|2|3|4|\n",
			`<table><thead><tr><th align="left">a</th><th align="center">b</th><th align="right">c</th><th>d</th></tr></thead>` +
				`<tbody><tr><td align="left">1</td><td align="center">2</td><td align="right">3</td><td>4</td></tr></tbody></table>`},
		{"a table without rows", "a|b\n-|-\n", "<table><thead><tr><th>a</th><th>b</th></tr></thead></table>"},
		{"short and long rows", "a|b\n-|-\n1\n1|2|3\n",
			"<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td></td></tr><tr><td>1</td><td>2</td></tr></tbody></table>"},
		{"a bar in code", "|a|\n|-|\n|`x \\| y`|\n", "<table><thead><tr><th>a</th></tr></thead><tbody><tr><td><code>x | y</code></td></tr></tbody></table>"},
		{"tasks", "- [ ] a\n- [x] b\n- [X] c\n- [y] d\n",
			`<ul><li><input type="checkbox" disabled="disabled" aria-label="to do"> a</li>` +
				`<li><input type="checkbox" disabled="disabled" checked="checked" aria-label="done"> b</li>` +
				`<li><input type="checkbox" disabled="disabled" checked="checked" aria-label="done"> c</li><li>[y] d</li></ul>`},
		{"strikethrough", "~~a~~ ~b~ ~~~d~~~ e~~f~~g ~~*h*~~ ~~c~", "<p><del>a</del> <del>b</del> ~~~d~~~ e<del>f</del>g <del><em>h</em></del> ~~c~</p>"},
		{"bare addresses", "see https://a.b/c?d=e_f_g. (http://x.y/(z)) www.a.b, a.b@c.d; xhttp://a.b https://",
			`<p>see <a href="https://a.b/c?d=e_f_g">https://a.b/c?d=e_f_g</a>. (<a href="http://x.y/(z)">http://x.y/(z)</a>) ` +
				`<a href="http://www.a.b">www.a.b</a>, <a href="mailto:a.b@c.d">a.b@c.d</a>; xhttp://a.b https://</p>`},
		{"no address in a link", "[https://a.b](/c) `https://a.b`", `<p><a href="/c">https://a.b</a> <code>https://a.b</code></p>`},
		{"a callout of GitHub", "> [!WARNING]\n> a **b**\n>\n> c\n", `<div class="callout warning"><p class="callout-title">Warning</p><p>a <strong>b</strong></p><p>c</p>`},
		{"a callout with a title", "> [!tip] A `b`\n> c\n", `<div class="callout tip"><p class="callout-title">A <code>b</code></p><p>c</p>`},
		{"a quote that is none", "> [!](a)\n", `<blockquote><p><a href="a">!</a></p></blockquote>`},
		{"a callout of MkDocs", "!!! danger \"A *b*\"\n    c\n", `<div class="callout danger"><p class="callout-title">A <em>b</em></p><p>c</p>`},
		{"a folded callout", "??? note\n    a\n\n???+ tip\n    b\n",
			`<details class="callout note"><summary class="callout-title">Note</summary><p>a</p></details>` +
				`<details class="callout tip" open="open"><summary class="callout-title">Tip</summary><p>b</p></details>`},
		{"a callout of Docusaurus", ":::caution[A]\nb\n:::\n", `<div class="callout warning"><p class="callout-title">A</p><p>b</p>`},
		{"a container that is no callout", "::: code-group\na\n:::\n", "<p>a</p>"},
		{"footnotes", "a[^x] b[^x] c[^y]\n\n[^x]: d\n[^y]: `e`\n[^z]: f\n",
			`<p>a<sup class="footnote"><a href="#fn-1" aria-label="Footnote 1">1</a></sup> b<sup class="footnote"><a href="#fn-1" aria-label="Footnote 1">1</a></sup>` +
				` c<sup class="footnote"><a href="#fn-2" aria-label="Footnote 2">2</a></sup></p><section class="footnotes" aria-label="Footnotes">` +
				`<ol><li><p>d</p><a class="back" href="#fnref-1" aria-label="Back to reference 1">↩</a></li>` +
				`<li><p><code>e</code></p><a class="back" href="#fnref-2" aria-label="Back to reference 2">↩</a></li></ol></section>`},
		{"a footnote that refers to itself", "a[^x]\n\n[^x]: b[^x]\n",
			`<p>a<sup class="footnote"><a href="#fn-1" aria-label="Footnote 1">1</a></sup></p><section class="footnotes" aria-label="Footnotes">` +
				`<ol><li><p>b<sup class="footnote"><a href="#fn-1" aria-label="Footnote 1">1</a></sup></p>` +
				`<a class="back" href="#fnref-1" aria-label="Back to reference 1">↩</a></li></ol></section>`},
		{"no footnote", "a[^x] [^y]: b\n", "<p>a[^x] [^y]: b</p>"},
		{"kept elements", "<kbd class=x onclick=y>a</kbd> b<sup>c</sup><br/>d <MARK>e</MARK> <sub>f",
			"<p><kbd>a</kbd> b<sup>c</sup><br>d <mark>e</mark> <sub>f</sub></p>"},
		{"kept elements that overlap", "*<kbd>a* b</kbd>", "<p><em><kbd>a</kbd></em> b</p>"},
		{"a fold", "<details open>\n<summary>A <b>b</b></summary>\n\n*c*\n\n</details>\n\nd\n",
			"<details><summary>A b</summary><p><em>c</em></p></details><p>d</p>"},
		{"a fold that never ends", "> <details>\n> a\n\nb\n", "<blockquote><details><p>a</p></details></blockquote><p>b</p>"},
		{"elements in the words of a picture", "![a <kbd>x</kbd> `c`](y.png)\n", `<p><img src="y.png" alt="a x c"></p>`},
		{"elements left out", "<div align=center>\n<img src=x alt=\"A b\"> c\n</div>\n\nd <span>e</span> <FooBar x={1}/>f\n", "<p>A b c</p><p>d e f</p>"},
		{"comments left out", "a <!-- b --> c\n\n<!-- d -->\n\n{/* e */}\n\n<script>\nf\n</script>\n", "<p>a  c</p>"},
		{"imports left out", "import A from 'a'\n\n# B\n", "<h1>B</h1>"},
		{"placeholders", "a <file> b", "<p>a &lt;file&gt; b</p>"},
		{"a reference of Hugo", "[a]({{< relref \"b.md\" >}}) [c]({% link d.md %})", `<p><a href="b.md">a</a> <a href="d.md">c</a></p>`},
		{"code of Jekyll", "{% highlight go %}\na <b>\n{% endhighlight %}\n", "<pre><code>a &lt;b&gt;\n</code></pre>"},
	} {
		got := strings.ReplaceAll(sameForm(plainHTML(test.text)), "\n", "")
		want := strings.ReplaceAll(test.want, "\n", "")
		if got != want {
			t.Errorf("%s:\n%s\n-- got\n%s\n-- want\n%s", test.name, test.text, got, want)
		}
	}
}

// TestLinksOfDocuments resolves the links of the document guide/start/install.md of the folder guide.
func TestLinksOfDocuments(t *testing.T) {
	to := pageTargets{id: "guide/start/install.md", prefix: "guide/", root: "../../../"}
	for _, test := range []struct{ target, link, image string }{
		{"other.md", "../../../read/guide/start/other.md", ""},
		{"other.md#a-b", "../../../read/guide/start/other.md#a-b", ""},
		{"../a%20b.md?x=1#c", "../../../read/guide/a%20b.md#c", ""},
		{"../x", "../../../read/guide/x", ""},
		{"./", "../../../read/guide/start", ""},
		{"/api/y.mdx", "../../../read/guide/api/y.mdx", ""},
		{"../../../../z.md", "../../../read/z.md", ""},
		{"old.html#k", "../../../read/guide/start/old#k", ""},
		{"release-1.2", "../../../read/guide/start/release-1.2", ""},
		{"#here", "#here", ""},
		{"img/a.png", "../../../files/guide/start/img/a.png", "../../../files/guide/start/img/a.png"},
		{"/img/b%23.SVG", "../../../files/guide/img/b%23.SVG", "../../../files/guide/img/b%23.SVG"},
		{"c.png?raw=true#only-light", "../../../files/guide/start/c.png", "../../../files/guide/start/c.png"},
		{"manual.pdf", "../../../files/guide/start/manual.pdf", ""},
		{"main.go", "", ""},
		{"https://example.com/a.png", "https://example.com/a.png", ""},
		{"//example.com/a", "//example.com/a", ""},
		{"https://example.com/100%", "https://example.com/100%", ""},
		{"//javascript:alert(1)", "", ""},
		{"http:///x", "", ""},
		{"mailto:a@b.c", "mailto:a@b.c", ""},
		{"javascript:alert(1)", "", ""},
		{" JavaScript:alert(1)", "", ""},
		{"java\tscript:alert(1)", "", ""},
		{"\x01javascript:alert(1)", "", ""},
		{"vbscript:x", "", ""},
		{"data:text/html,x", "", ""},
		{"data:image/png;base64,x", "", ""},
		{"file:///etc/passwd", "", ""},
		{"", "", ""},
	} {
		if got := to.link(test.target); got != test.link {
			t.Errorf("link %q leads to %q, want %q", test.target, got, test.link)
		}
		if got := to.image(test.target); got != test.image {
			t.Errorf("image %q is %q, want %q", test.target, got, test.image)
		}
	}
}

// hostileMarkup are small beginnings of texts that make careless parsers slow.
var hostileMarkup = map[string]func(n int) string{
	"asterisks":              func(n int) string { return strings.Repeat("*", n) },
	"spaced asterisks":       func(n int) string { return strings.Repeat("*a ", n/3) },
	"asterisks that close":   func(n int) string { return strings.Repeat("a*", n/2) },
	"nested emphasis":        func(n int) string { return strings.Repeat("*a_b", n/8) + strings.Repeat("c_d*", n/8) },
	"mixed emphasis":         func(n int) string { return strings.Repeat("*a _b **c __d ~~e ", n/18) },
	"rule of three":          func(n int) string { return strings.Repeat("a**b"+"c* ", n/7) },
	"brackets":               func(n int) string { return strings.Repeat("[", n) },
	"closing brackets":       func(n int) string { return strings.Repeat("]", n) },
	"nested brackets":        func(n int) string { return strings.Repeat("[", n/2) + strings.Repeat("]", n/2) },
	"links that never end":   func(n int) string { return strings.Repeat("[a](", n/4) },
	"links in angles":        func(n int) string { return strings.Repeat("[a](<b", n/6) },
	"titles that never end":  func(n int) string { return strings.Repeat(`[a](b "`, n/7) },
	"titles in parentheses":  func(n int) string { return strings.Repeat(`[a](b (`, n/7) },
	"images in links":        func(n int) string { return strings.Repeat("![a](b)[c](d)", n/13) },
	"nested images":          func(n int) string { return strings.Repeat("![", n/6) + strings.Repeat("](a)", n/6) },
	"unopened images":        func(n int) string { return strings.Repeat("![", n/4) + strings.Repeat("[a](b)", n/12) },
	"backticks":              func(n int) string { return strings.Repeat("`", n) },
	"backticks that grow":    growingBackticks,
	"tags":                   func(n int) string { return strings.Repeat("<a ", n/3) },
	"tags of JSX":            func(n int) string { return strings.Repeat("<a b={", n/6) + ">" },
	"tags with a late end":   func(n int) string { return strings.Repeat(strings.Repeat("<a b={", 600)+">", n/3601) },
	"comments":               func(n int) string { return strings.Repeat("a <!-- ", n/7) },
	"declarations":           func(n int) string { return strings.Repeat("a <!A", n/5) },
	"instructions":           func(n int) string { return strings.Repeat("a <?", n/4) },
	"CDATA":                  func(n int) string { return strings.Repeat("a <![CDATA[", n/11) },
	"templates":              func(n int) string { return strings.Repeat("a {{< {% {/* ", n/13) },
	"entities":               func(n int) string { return strings.Repeat("&", n) },
	"addresses":              func(n int) string { return strings.Repeat("http://a", n/8) },
	"parentheses in one":     func(n int) string { return "http://a" + strings.Repeat(")", n) },
	"e-mail addresses":       func(n int) string { return strings.Repeat("a@", n/2) },
	"quotes":                 func(n int) string { return strings.Repeat(">", n) },
	"lists on a line":        func(n int) string { return strings.Repeat("- ", n/2) },
	"lists on each line":     func(n int) string { return strings.Repeat(strings.Repeat("- ", 70)+"a\n", n/142) },
	"nested lists":           nestedLists,
	"nested fences":          func(n int) string { return strings.Repeat("> ```\n", n/6) },
	"callouts":               func(n int) string { return strings.Repeat("::: a\n", n/6) + ":::\n" },
	"indented callouts":      nestedCallouts,
	"footnotes":              func(n int) string { return strings.Repeat("[^a]: b[^a]\n", n/12) },
	"many footnotes":         manyFootnotes,
	"footnotes in footnotes": func(n int) string { return "[^a]\n\n" + strings.Repeat("[^a]: ", n/6) },
	"definitions":            func(n int) string { return strings.Repeat("[a]: b\n", n/7) },
	"open definitions":       func(n int) string { return strings.Repeat("[a]: b '\n", n/9) },
	"long references":        func(n int) string { return "[a]: " + strings.Repeat("b", n/2) + "\n\n" + strings.Repeat("[a]", n/6) },
	"wide tables":            wideTable,
	"folds":                  func(n int) string { return strings.Repeat("<details>\n\n", n/11) },
	"elements":               func(n int) string { return strings.Repeat("<sub>", n/5) },
	"headings":               func(n int) string { return strings.Repeat("# a\n", n/4) },
	"setext headings":        func(n int) string { return strings.Repeat("a\n=\n", n/4) },
}

// manyFootnotes has short footnotes, all referred to.
func manyFootnotes(n int) string {
	var references, notes strings.Builder
	for i := 0; references.Len()+notes.Len() < n; i++ {
		fmt.Fprintf(&references, "[^%d]", i)
		fmt.Fprintf(&notes, "[^%d]: a\n\n", i)
	}
	return references.String() + "\n\n" + notes.String()
}

// TestPageOfFootnotesIsBounded has all footnotes on the page, and the first of them with links back.
func TestPageOfFootnotesIsBounded(t *testing.T) {
	source := manyFootnotes(900_000)
	notes := strings.Count(source, ": a")
	html := renderMarkdown(renderInput{text: source}, 0, pageTargets{root: "./"}).html
	if n := strings.Count(html, "<li id="); n != notes {
		t.Errorf("%d footnotes, want %d", n, notes)
	}
	if n := strings.Count(html, `class="back"`); n != maxBackReferences {
		t.Errorf("%d links back", n)
	}
	if len(html) > 6*len(source) {
		t.Errorf("%d bytes become %d", len(source), len(html))
	}
}

func growingBackticks(n int) string {
	var text strings.Builder
	for i := 1; text.Len() < n; i++ {
		text.WriteString("a" + strings.Repeat("`", i))
	}
	return text.String()
}

func nestedLists(n int) string {
	var text strings.Builder
	for i := 0; text.Len() < n; i++ {
		text.WriteString(strings.Repeat(" ", 2*(i%1000)) + "- a\n")
	}
	return text.String()
}

func nestedCallouts(n int) string {
	var text strings.Builder
	for i := 0; text.Len() < n; i++ {
		text.WriteString(strings.Repeat("    ", i%500) + "!!! note\n")
	}
	return text.String()
}

func wideTable(n int) string {
	columns := n / 8
	return strings.Repeat("|a", columns) + "\n" + strings.Repeat("|-", columns) + "\n" + strings.Repeat("|\n", n/4)
}

// TestHostileMarkdown renders texts that are made to take long. The parser counts its steps: these, and the page, grow
// with the text and no faster.
func TestHostileMarkdown(t *testing.T) {
	const size = 100_000
	for name, text := range hostileMarkup {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := text(size)
			p := parseInlines(source, collectNotes(parseBlocks(source, 0), source))
			if p.work > maxWork(len(source))+2*maxTagBytes {
				t.Errorf("%d steps for %d bytes", p.work, len(source))
			}
			result := renderMarkdown(renderInput{text: source}, 0, pageTargets{root: "./"})
			if len(result.html) > 64*size {
				t.Errorf("%d bytes become %d", len(source), len(result.html))
			}
			if depth := elementDepth(result.html); depth > maxElementDepth+maxInlineDepth {
				t.Errorf("elements nest %d deep", depth)
			}
		})
	}
}

// elementDepth returns how deep the elements of html nest.
func elementDepth(html string) int {
	depth, deepest := 0, 0
	for _, tag := range regexp.MustCompile(`</?[a-z0-9]+`).FindAllString(html, -1) {
		switch {
		case strings.HasPrefix(tag, "</"):
			depth--
		case !slices.Contains([]string{"<br", "<hr", "<img", "<input"}, tag):
			depth++
			deepest = max(deepest, depth)
		}
	}
	return deepest
}

// FuzzRenderMarkdown: whatever a text is, its HTML is balanced, has allowed elements only, and no attribute that runs code.
func FuzzRenderMarkdown(f *testing.F) {
	for _, text := range hostileMarkup {
		f.Add(text(300))
	}
	f.Add("# a\n\n> [!NOTE]\n> b\n\n!!! tip\n    c\n\n[d](javascript:x \"t\") <img src=x onerror=y> ![e](f.png)\n")
	tag := regexp.MustCompile(`<(/?)([a-z0-9]+)((?: [a-z-]+="[^"<>]*")*)>`)
	allowed := strings.Fields("a blockquote br code del details div em h1 h2 h3 h4 h5 h6 hr img input kbd li mark ol p pre section span strong sub summary sup table tbody td th thead tr ul")
	f.Fuzz(func(t *testing.T, text string) {
		html := renderMarkdown(renderInput{text: text}, 1, pageTargets{id: "a/b.md", root: "../../"}).html
		if rest := tag.ReplaceAllString(html, ""); strings.ContainsAny(rest, "<>") {
			t.Fatalf("%q has other markup: %q", text, rest)
		}
		var open []string
		for _, found := range tag.FindAllStringSubmatch(html, -1) {
			name := found[2]
			switch {
			case !slices.Contains(allowed, name):
				t.Fatalf("%q has <%s>", text, name)
			case regexp.MustCompile(` on[a-z-]*="|(?:href|src)="(?i:javascript|data|vbscript)`).MatchString(found[3]):
				t.Fatalf("%q has %s", text, found[0])
			case slices.Contains([]string{"br", "hr", "img", "input"}, name):
			case found[1] == "":
				open = append(open, name)
			case len(open) == 0 || open[len(open)-1] != name:
				t.Fatalf("%q closes %s in %v: %s", text, name, open, html)
			default:
				open = open[:len(open)-1]
			}
		}
		if len(open) > 0 {
			t.Fatalf("%q leaves %v open", text, open)
		}
	})
}

// TestTokensOfABlockAreBounded renders what has a token for every byte or two. No mark may get lost.
func TestTokensOfABlockAreBounded(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"_*", "*a ", "~a ", "a* ", "`a`", "<kbd>", "[a](b)", "![a](b)", "a\n", "&amp;", "{/*", "\\*", "**a *b "} {
		text := strings.Repeat(unit, maxRenderedBytes/len(unit))
		p := parseInlines(text, new(linkNotes))
		const last = 10 // tokens of what was open
		if len(p.tokens) > maxTokens+last || len(p.runs) > maxTokens {
			t.Errorf("%q: %d tokens, %d runs", unit, len(p.tokens), len(p.runs))
		}
		tail := p.tokens[len(p.tokens)-1]
		if isCut := len(p.tokens) >= maxTokens; isCut && !strings.HasSuffix(text, tail.text) {
			t.Errorf("%q: the rest is not text: %.40q", unit, tail.text)
		}
	}
}
