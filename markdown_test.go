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
		{"empty", "", "", nil},
		{"blank", " \n\n", "", nil},
		{"plain text", "one\ntwo\n", "", []chunk{{"", 1, "one\ntwo"}}},
		{"a title alone", "# Only\n", "Only", []chunk{{"", 1, "# Only"}}},
		{"sections", "# T\n\nintro\n\n## A\n\na\n\n### B\n\nb\n\n## C\n\nc\n", "T",
			[]chunk{{"", 3, "intro"}, {"A", 7, "a"}, {"A > B", 11, "b"}, {"C", 15, "c"}}},
		{"a section without text makes no chunk", "# T\n\n## A\n\n### B\n\nb", "T", []chunk{{"A > B", 7, "b"}}},
		{"a second title", "# T\n\nx\n\n# U\n\n## V\n\ny", "T", []chunk{{"", 3, "x"}, {"U > V", 9, "y"}}},
		{"closing hashes", "# T #\n\n## C# ##\n\nx", "T", []chunk{{"C#", 5, "x"}}},
		{"no heading without a space", "#tag\n\n####### seven\n", "", []chunk{{"", 1, "#tag\n\n####### seven"}}},
		{"setext", "T\n=\n\nx\n\nA part\n---\n\ny\n", "T", []chunk{{"", 4, "x"}, {"A part", 9, "y"}}},
		{"a rule is no setext heading", "x\n\n---\n\ny\n", "", []chunk{{"", 1, "x\n\n---\n\ny"}}},
		{"nor is what follows a list", "- x\n---\ny\n", "", []chunk{{"", 1, "- x\n---\ny"}}},
		{"a fence hides headings", "# T\n\n```sh\n# not a heading\n```\n\n~~~\n## nor this\n```\n~~~\n", "T",
			[]chunk{{"", 3, "```sh\n# not a heading\n```\n\n~~~\n## nor this\n```\n~~~"}}},
		{"a fence that never closes", "# T\n\n```\n# x\n", "T", []chunk{{"", 3, "```\n# x"}}},
		{"indented code hides headings", "x\n\n    # not\n\t# nor\n", "", []chunk{{"", 1, "x\n\n    # not\n\t# nor"}}},
		{"front matter", "---\ntitle: \"The title\"\ntags: [a]\n---\n\n## A\n\nx\n", "The title", []chunk{{"A", 8, "x"}}},
		{"front matter without a title", "---\na: b\n---\n# T\nx\n", "T", []chunk{{"", 5, "x"}}},
		{"no front matter without an end", "---\ntitle: x\n", "", []chunk{{"", 1, "---\ntitle: x"}}},
		{"byte order mark and CRLF", "\ufeff# T\r\n\r\n## A\r\n\r\nx\r\n", "T", []chunk{{"A", 5, "x"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, got := chunkMarkdown(test.text)
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
		{"anywhere", strings.Repeat("x", 2000), strings.Repeat("x", 1200)},
		{"between characters", strings.Repeat("字", 2000), strings.Repeat("字", 1200)},
		{"before code that fits a chunk of its own", paragraph + fence, strings.TrimSpace(paragraph)},
		{"before code that begins early", line + fence + fence, strings.TrimSpace(line + fence)},
		{"inside code that is too long", "```\n" + strings.Repeat(line, 20), strings.TrimSpace("```\n" + strings.Repeat(line, 11))},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, chunks := chunkMarkdown("# T\n\n" + test.text)
			if len(chunks) < 2 || chunks[0].text != test.first {
				t.Errorf("%d chunks, the first %q\nwant %q", len(chunks), chunks[0].text, test.first)
			}
		})
	}
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
		_, chunks := chunkMarkdown(text)
		if len(chunks) == 0 && strings.TrimSpace(text) != "" {
			t.Fatal("text without a chunk")
		}

		lines := strings.Split(text, "\n")
		at := 0
		for _, c := range chunks {
			i := strings.Index(text[at:], c.text)
			if i < 0 || strings.TrimSpace(c.text) == "" || utf8.RuneCountInString(c.text) > maxChunkRunes {
				t.Fatalf("bad chunk %q after byte %d", c.text, at)
			}
			at += i + len(c.text)

			first, _, _ := strings.Cut(c.text, "\n")
			if c.line < 1 || c.line > len(lines) || !strings.Contains(lines[c.line-1], first) {
				t.Fatalf("chunk %q is not in line %d", c.text, c.line)
			}
		}
	})
}
