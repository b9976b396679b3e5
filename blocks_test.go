package main

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

var kindNames = map[blockKind]string{
	blockDocument:   "doc",
	blockQuote:      "quote",
	blockList:       "list",
	blockItem:       "item",
	blockCallout:    "callout",
	blockFootnote:   "note",
	blockParagraph:  "p",
	blockHeading:    "h",
	blockFence:      "fence",
	blockIndented:   "code",
	blockHTML:       "html",
	blockRule:       "hr",
	blockTable:      "table",
	blockDefinition: "def",
	blockModule:     "module",
	blockTemplate:   "template",
}

// outline writes a tree as "h1(Title) list(item(p(a)) item(p(b)))".
func outline(b *block, text string) string {
	name := kindNames[b.kind]
	switch {
	case b.kind == blockHeading:
		name += fmt.Sprint(b.level)
	case b.kind == blockList && b.ordered:
		name = fmt.Sprintf("ordered%d", b.length)
	case b.kind == blockFence && b.info != "":
		name += ":" + b.info
	}
	if b.kind == blockList && b.loose {
		name += "!"
	}
	if b.kind == blockRule {
		return name
	}
	if !b.kind.isContainer() {
		return name + "(" + strings.ReplaceAll(b.content(text), "\n", "/") + ")"
	}
	var parts []string
	for _, child := range b.children {
		parts = append(parts, outline(child, text))
	}
	inner := strings.Join(parts, " ")
	if b.kind == blockDocument {
		return inner
	}
	return name + "(" + inner + ")"
}

func TestBlocks(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"paragraphs", "a\n b  \n\nc", "p(a/b) p(c)"},
		{"ATX headings", "# a #\n### b#\n#c\n####### d\n#\n## e \\#\n", "h1(a) h3(b#) p(#c/####### d) h1() h2(e \\#)"},
		{"setext headings", "a\n===\n\nb\nc\n--\n\n===\n", "h1(a) h2(b/c) p(===)"},
		{"no heading in code", "    # a\n\n\t# b\n", "code(# a//# b)"},
		{"indented code is no paragraph's rest", "a\n    # b\n", "p(a/# b)"},
		{"fences", "```sh\n# a\n\n~~~\n````\n~~~ x `y`\n```\n~~~~\n", "fence:sh(# a//~~~) fence:x `y`(```)"},
		{"a fence that never closes", "```\n# a\n", "fence(# a)"},
		{"a fence is closed by one as long", "````\n```\n````\n# a\n", "fence(```) h1(a)"},
		{"no fence with a backtick in its info", "``` a`b\n# c\n", "p(``` a`b) h1(c)"},
		{"a fence loses its own indentation", "  ```\n    a\n b\n  ```\n", "fence(  a/b)"},
		{"rules", "***\n__\n- - -\na\n\n___\n", "hr p(__) hr p(a) hr"},
		{"quotes", "> a\n> # b\n>> c\nd\n\ne", "quote(p(a) h1(b) quote(p(c/d))) p(e)"},
		{"a quote's code ends with it", "> ```\n> a\nb\n", "quote(fence(a)) p(b)"},
		{"lists", "- a\n- b\n* c\n+ d\n", "list(item(p(a)) item(p(b))) list(item(p(c))) list(item(p(d)))"},
		{"loose lists", "- a\n\n- b\n", "list!(item(p(a)) item(p(b)))"},
		{"a loose item", "- a\n\n  b\n- c\n", "list!(item(p(a) p(b)) item(p(c)))"},
		{"a blank line at the end is no looseness", "- a\n- b\n\nc\n", "list(item(p(a)) item(p(b))) p(c)"},
		{"nested lists", "- a\n  - b\n\n    c\n- d\n", "list(item(p(a) list!(item(p(b) p(c)))) item(p(d)))"},
		{"ordered lists", "3. a\n4. b\n1) c\n", "ordered3(item(p(a)) item(p(b))) ordered1(item(p(c)))"},
		{"a year begins no list in a paragraph", "it was\n1986. A year\n", "p(it was/1986. A year)"},
		{"code in an item", "- a\n\n      b\n\n  ```\n  c\n  ```\n", "list!(item(p(a) code(b) fence(c)))"},
		{"an item with an empty line", "-\n  a\n-\n\n  b\n", "list(item(p(a)) item()) p(b)"},
		{"tabs", "-\ta\n\n\tb\n\n>\t\tc\n", "list!(item(p(a) p(b))) quote(code(  c))"},
		{"what follows a list is no heading", "- x\n---\ny\n", "list(item(p(x))) hr p(y)"},
		{"headings in items", "- # a\n- b\n  ---\n", "list(item(h1(a)) item(h2(b)))"},
		{"HTML", "<div>\n# a\n</div>\n\n# b\n", "html(<div>/# a/</div>) h1(b)"},
		{"comments", "<!--\n# a\n\n# b\n--> x\n# c\n", "html(<!--/# a//# b/--> x) h1(c)"},
		{"scripts and styles", "<script>\n# a\n\n</script>\n<style>\n\n# b\n</style>\nc", "html(<script>/# a//</script>) html(<style>//# b/</style>) p(c)"},
		{"other kinds of HTML", "<?php\n\n# a ?>\n<!DOCTYPE\n x>\n<![CDATA[\n\n# b\n]]>\n", "html(<?php//# a ?>) html(<!DOCTYPE/ x>) html(<![CDATA[//# b/]]>)"},
		{"a tag on its line", "<Tabs a={b > 1} {...c}>\n# a\n\n# b\n\nc\n<Tabs>\n", "html(<Tabs a={b > 1} {...c}>/# a) h1(b) p(c/<Tabs>)"},
		{"fragments", "<>\n\na\n\n</>\n", "html(<>) p(a) html(</>)"},
		{"an autolink is no HTML", "<https://a.b>\n# a\n", "p(<https://a.b>) h1(a)"},
		{"definitions", "[a]: b\n[c]:\n  <d e> \"f\n g\"\nx\n\n[h]: i 'j' k\n", "def([a]: b/[c]:/<d e> \"f/g\") p(x) p([h]: i 'j' k)"},
		{"a title that is none", "[a]: b\n\"c\" d\n", "def([a]: b) p(\"c\" d)"},
		{"a heading after definitions", "[a]: b\nc\n===\n", "def([a]: b) h1(c)"},
		{"footnotes", "[^1]: a\nb\n\n    c\n\nd\n[^2]: e\n[^3]:\n    f\n", "note(p(a/b) p(c)) p(d) note(p(e)) note(p(f))"},
		{"an indented callout", "!!! note \"A *b*\"\n    c\n\n    - d\nf\n\ne\n", "callout(p(A *b*) p(c) list(item(p(d/f)))) p(e)"},
		{"a callout in a paragraph", "a\n??? tip\n    b\n", "p(a) callout(p(b))"},
		{"no callout", "!!!\n\n!!! !\n\n!! note\n", "p(!!!) p(!!! !) p(!! note)"},
		{"code in a callout", "!!! note\n    ```\n    # a\n    ```\n\n        b\n", "callout(fence(# a) code(b))"},
		{"a tab", "=== \"A\"\n\n    a\n\n=== \"B\"\n\n    b\n", "callout(p(A) p(a)) callout(p(B) p(b))"},
		{"a setext heading is no tab", "a\n===\n", "h1(a)"},
		{"a fenced callout", ":::note[A]\nb\n\n# c\n:::\nd\n", "callout(p(A) p(b) h1(c)) p(d)"},
		{"fenced callouts nest", ":::: a\n::: b\nc\n:::\nd\n::::\ne\n", "callout(callout(p(c)) p(d)) p(e)"},
		{"fenced callouts of one length nest", "::: a\n::: b\nc\n:::\nd\n:::\ne\n", "callout(callout(p(c)) p(d)) p(e)"},
		{"a fenced callout that never ends", "::: a.b\n    c: d\n\n::: note\n\ne\n", "p(::: a.b/c: d) p(::: note) p(e)"},
		{"code with the end of a callout", "::: tip\n```\n:::\n```\n:::\n", "callout(fence(:::))"},
		{"a block of pymdown", "/// note | A\n\nb\n\n///\n\n//// tab | C\n\n/// tip\nd\n///\n\n////\n", "callout(p(A) p(b)) callout(p(C) callout(p(d)))"},
		{"tables", "a | b\n--|:-:\n1 | 2\n> c\n", "table(a | b/--|:-:/1 | 2) quote(p(c))"},
		{"a table after text", "x\n| a |\n|---|\n| 1 |\n\ny", "p(x) table(| a |/|---|/| 1 |) p(y)"},
		{"no table with another number of cells", "| a | b |\n|---|\n", "p(| a | b |/|---|)"},
		{"an escaped bar", "| a \\| b |\n|---|\n", "table(| a \\| b |/|---|)"},
		{"modules", "import A from 'a'\nimport {\n  B,\n\n  C} from \"b\"\nexport const x = [\n# y\n]\n\n# z\n",
			"module(import A from 'a'/import {/  B,//  C} from \"b\"/export const x = [/# y/]) h1(z)"},
		{"prose is no module", "import things with care\n\nexport default settings\n\n> import A from 'a'\n", "p(import things with care) p(export default settings) quote(p(import A from 'a'))"},
		{"template code", "{% highlight sh %}\n# a\n\n{% endhighlight %}\n# b\n{{< highlight go >}}\n# c\n{{< /highlight >}}\n",
			"template({% highlight sh %}/# a//{% endhighlight %}) h1(b) template({{< highlight go >}}/# c/{{< /highlight >}})"},
		{"Markdown in a raw tag", "{% raw %}\n```liquid\n# {% a %}\n```\n# b\n{% endraw %}\n", "p({% raw %}) fence:liquid(# {% a %}) h1(b) p({% endraw %})"},
		{"a template tag without an end", "{% highlight sh %}\n# a\n", "p({% highlight sh %}) h1(a)"},
		{"CRLF", "# a\r\n\r\nb\r\nc\r\n", "h1(a) p(b/c)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := outline(parseBlocks(test.text, 0), test.text); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// checkTree fails unless the ranges of b and of what is in it are in order, and returns the number of blocks.
func checkTree(t *testing.T, b *block, text string, depth int) int {
	t.Helper()
	if b.start < 0 || b.end < b.start || int(b.end) > len(text) || depth > maxBlockDepth+1 {
		t.Fatalf("%s at depth %d spans %d to %d of %d bytes", kindNames[b.kind], depth, b.start, b.end, len(text))
	}
	isSmall := len(text) < 1<<17 // counting lines from the beginning takes quadratic time
	if isSmall && b.kind != blockDocument && int(b.line) != strings.Count(text[:b.start], "\n")+1 {
		t.Fatalf("%s at byte %d is in line %d", kindNames[b.kind], b.start, b.line)
	}
	at := int32(0)
	for _, s := range b.lines {
		if s.start < at || s.end < s.start || s.end > b.end || strings.Contains(text[s.start:s.end], "\n") {
			t.Fatalf("%s: line %+v after byte %d", kindNames[b.kind], s, at)
		}
		at = s.end
	}
	n := 1
	at = b.start
	for _, child := range b.children {
		if child.start < at || child.end > b.end {
			t.Fatalf("%s at %d to %d in %s at %d to %d", kindNames[child.kind], child.start, child.end, kindNames[b.kind], at, b.end)
		}
		at = child.end
		n += checkTree(t, child, text, depth+1)
	}
	return n
}

func TestBlocksAreBounded(t *testing.T) {
	for _, text := range []string{
		strings.Repeat(">", 1<<16) + "a\n" + strings.Repeat(">", 1<<16),
		strings.Repeat("- ", 1<<16),
		strings.Repeat("#\n", maxBlocks+1000),
		strings.Repeat("> - ", 100) + "a\n" + strings.Repeat("\n", 1<<18),
		strings.Repeat("[a]: b \"\n", 1<<14),
		strings.Repeat("{% comment %}\n", 1<<16),
		"a" + strings.Repeat(" ", 2<<20) + "b",
		strings.Repeat("|", 1<<20) + "\n" + strings.Repeat("|", 1<<20),
	} {
		tree := parseBlocks(text, 0)
		if n := checkTree(t, tree, text, 0); n > maxBlocks+maxBlockDepth {
			t.Errorf("%.10q: %d blocks", text, n)
		}
	}
}

func FuzzBlocks(f *testing.F) {
	for _, text := range []string{
		"# T\n\n- a\n  > b\n\n1. c\n",
		"a | b\n--|--\n1 | 2\n\n[a]: b 'c'\nd\n===\n",
		"<!-- x\n--> \n```go\ny\n```\n\tz\n",
		"import a from 'b'\n\n{% comment %}\n# x\n{% endcomment %}\n",
	} {
		f.Add(text)
	}

	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		checkTree(t, parseBlocks(text, 0), text, 0)
	})
}
