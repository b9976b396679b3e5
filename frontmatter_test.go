package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestFrontMatter(t *testing.T) {
	type want = metadata
	tests := []struct {
		name string
		text string
		want want
	}{
		{"none", "# T\n", want{}},
		{"plain", "---\ntitle: A title\n---\n", want{title: "A title"}},
		{"a comment after a value", "---\ntitle: Plain # note\n---\n", want{title: "Plain"}},
		{"a hash inside a word", "---\ntitle: C# and F#\n---\n", want{title: "C# and F#"}},
		{"a colon in a value", "---\ntitle: Go: a tour\nurl: http://x/y:z\n---\n", want{title: "Go: a tour"}},
		{"a space before the colon", "---\ntitle : Spaced\n---\n", want{title: "Spaced"}},
		{"a tab after the colon", "---\ntitle:\tTabbed\n---\n", want{title: "Tabbed"}},
		{"a quoted key", "---\n\"title\": x\n'description': y\n---\n", want{title: "x", keywords: "y"}},
		{"another case", "---\nTitle: x\n---\n", want{title: "x"}},
		{"single quotes", "---\ntitle: 'It''s: # here'\n---\n", want{title: "It's: # here"}},
		{"double quotes", `---` + "\n" + `title: "\"best\" \u00e9\x41\\ \/ \t# b" # c` + "\n---\n", want{title: `"best" éA\ / # b`}},
		{"quotes over several lines", "---\ntitle: \"one\n  two \\\n  three\"\n---\n", want{title: "one two three"}},
		{"a plain value over several lines", "---\ntitle: one\n  two\ndescription:\n  three\n  four\n---\n",
			want{title: "one two", keywords: "three four"}},
		{"folded", "---\ntitle: >-\n  one\n  # two\n\n  three\ntags: [a]\n---\n", want{title: "one # two three", keywords: "a"}},
		{"literal", "---\ndescription: |+2 # why\n    one: 1\n  two\n# no\ntitle: x\n---\n", want{title: "x", keywords: "one: 1 two"}},
		{"nested", "---\nsocial:\n  title: Not this\n  cards: {title: nor this}\ntitle: This\nseo: {title: nor this, tags: [b]}\n---\n",
			want{title: "This"}},
		{"nested only", "---\nhero:\n  - title: no\n    tags: x\n  - - title: no\n---\n", want{}},
		{"a text that looks nested", "---\nnote: |\n  title: no\ntitle: yes, this\n---\n", want{title: "yes, this"}},
		{"lists", "---\ntags:\n- a b\n- 'c'\n# comment\n- \"d\"\nkeywords:\n    - e # e\n    - >-\n      f\n      g\n    - {h: i}\n    - [j]\n---\n",
			want{keywords: "a b\nc\nd\ne\nf g\nj"}},
		{"flow lists", "---\naliases: [/a/, \"b, c\", 'd''s'] # e\ntags: [\n  f,\n  g, # h\n]\nkeywords: [[i, j], k]\n---\n",
			want{keywords: "/a/\nb, c\nd's\nf\ng\ni\nj\nk"}},
		{"a tag and an anchor", "---\ntitle: !!str &t 1.0\ndescription: *t\n---\n", want{title: "1.0"}},
		{"null", "---\ntitle: ~\ndescription: null\ntags:\n---\n# T", want{}},
		{"the last of two", "---\ntitle: a\ntitle: b\n---\n", want{title: "b"}},
		{"ended by dots", "---\ntitle: x\n...\ntitle: y\n---\n", want{title: "x"}},
		{"spaces after the marks, CRLF and byte order mark", "\ufeff--- \r\ntitle: x\r\ntags:\r\n  - y\r\n--- \r\n", want{title: "x", keywords: "y"}},
		{"indented as a whole", "---\n  title: x\n  tags:\n    - a\n---\n", want{title: "x", keywords: "a"}},
		{"a flow map", "---\n{title: x, tags: [a, b]}\n---\n", want{title: "x", keywords: "a\nb"}},
		{"an indented mark is no end", "---\nnote: |\n  ---\ntitle: x\n---\n", want{title: "x"}},
		{"quotes that never end", "---\ndescription: \"open\ntitle: x\ntags: [a\nkeywords: b\n---\n", want{title: "x", keywords: "b"}},
		{"text after quotes", "---\ntitle: \"a\" b\n---\n", want{}},
		{"control characters", "---\ntitle: \"a\\0b\\ec\"\n---\n", want{title: "a b c"}},
		{"what is no field", "---\n: x\n? y\n@z\n- list\ntitle: t\n---\n", want{title: "t"}},

		{"TOML", "+++\ntitle = \"A \\\"b\\\" \\u00e9\" # c\ntags = ['x', \"y\", # z\n  '''w''',\n]\ndate = 2024-01-02 10:00:00\n+++\n# T",
			want{title: `A "b" é`, keywords: "x\ny\nw"}},
		{"TOML tables", "+++\ntitle = 'It\\s'\n[params]\ntitle = 'no'\n[[x]]\ntitle = 'no'\n[taxonomies]\ntags = ['a']\n+++\n",
			want{title: `It\s`, keywords: "a"}},
		{"TOML strings of several lines", "+++\nnote = \"\"\"\ntitle = 'no'\n\"\"\"\nx.'y'.z = '''\ntitle = 'no'\n'''\ndescription = \"\"\"\na \\\n  b\nc\"\"\"\n+++\n",
			want{keywords: "a b c"}},
		{"TOML inline tables", "+++\nsocial = {title = 'no', x = [1, 2]}\n\"title\" = 'x'\n+++\n", want{title: "x"}},
		{"broken TOML", "+++\ntitle\n= 3\nx = \"open\ndescription = 'd'\ntitle = 't'\n+++\n", want{title: "t", keywords: "d"}},

		{"JSON", "{\n  \"title\": \"A \\\"b\\\" \\u00e9\",\n  \"tags\": [\"x\", [\"no\"], 2, null],\n  \"seo\": {\"title\": \"no\"}\n}\n\n# T",
			want{title: `A "b" é`, keywords: "x\n2"}},
		{"JSON on one line", `{"title": "x", "description": "y"}` + "\n", want{title: "x", keywords: "y"}},

		{"drafts", "---\ndraft: true\n---\n", want{unpublished: "draft: true"}},
		{"drafts in quotes", "---\ndraft: 'Yes'\n---\n", want{unpublished: "draft: true"}},
		{"no draft", "---\ndraft: false # true\npublished: true\nunlisted: no\nsearch: true\nnoindex: false\n---\n", want{}},
		{"published", "---\npublished: false\n---\n", want{unpublished: "published: false"}},
		{"unlisted", "---\nunlisted: on\n---\n", want{unpublished: "unlisted: true"}},
		{"search", "---\nsearch: false\n---\n", want{unpublished: "search: false"}},
		{"search by a word", "---\nsearch: exclude\n---\n", want{unpublished: "search: exclude"}},
		{"search as MkDocs Material has it", "---\nsearch:\n  boost: 2\n  exclude: true\n---\n", want{unpublished: "search: exclude"}},
		{"search in a flow map", "---\nsearch: { exclude: true }\n---\n", want{unpublished: "search: exclude"}},
		{"a search that only ranks", "---\nsearch:\n  boost: 2\n---\n", want{}},
		{"noindex", "---\nnoindex: true\n---\n", want{unpublished: "noindex: true"}},
		{"a draft elsewhere", "---\nparams:\n  draft: true\n  search:\n    exclude: true\n---\n", want{}},
		{"TOML drafts", "+++\ndraft = true\n+++\n", want{unpublished: "draft: true"}},
		{"TOML tables of search", "+++\n[search]\nexclude = true\n+++\n", want{unpublished: "search: exclude"}},
		{"TOML dotted search", "+++\nsearch.exclude = true\n+++\n", want{unpublished: "search: exclude"}},
		{"JSON drafts", `{"draft": true}`, want{unpublished: "draft: true"}},
		{"JSON keys that differ in case", `{"search": {"EXCLUDE": false, "Exclude": false, "eXclude": false, "exclude": true}}`,
			want{unpublished: "search: exclude"}},
		{"JSON search", `{"search": {"exclude": true}}`, want{unpublished: "search: exclude"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, _ := frontMatter(test.text); got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestFrontMatterEndsWhereTheMarkdownBegins(t *testing.T) {
	tests := []struct{ name, text, rest string }{
		{"YAML", "---\na: b\n---\nrest", "rest"},
		{"empty YAML", "---\n---\nrest", "rest"},
		{"YAML that cannot be understood", "---\n%: [\n  - }\n---\nrest", "rest"},
		{"YAML after a blank line", "---\n\ntitle: x\n---\nrest", "rest"},
		{"no YAML without an end", "---\ntitle: x\n", "---\ntitle: x\n"},
		{"no YAML in another line", "\n---\na: b\n---\n", "\n---\na: b\n---\n"},
		{"a thematic break", "---\n\nText.\n\n---\n", "---\n\nText.\n\n---\n"},
		{"a longer thematic break", "----\na: b\n----\n", "----\na: b\n----\n"},
		{"TOML", "+++\na = 1\n+++\nrest", "rest"},
		{"no TOML without an end", "+++\na = 1\n", "+++\na = 1\n"},
		{"JSON", "{\n\"a\": {\"b\": \"}\"}\n}\nrest", "rest"},
		{"broken JSON", "{\n\"a\": 1,\n}\nrest", "rest"},
		{"a template tag", "{{< toc >}}\n", "{{< toc >}}\n"},
		{"an expression", "{\"a\"} b\n}\n", "{\"a\"} b\n}\n"},
		{"text after JSON", "{\"a\": 1} b\n", "{\"a\": 1} b\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, start := frontMatter(test.text); test.text[start:] != test.rest {
				t.Errorf("the Markdown is %q, want %q", test.text[start:], test.rest)
			}
		})
	}
}

func TestFrontMatterIsBounded(t *testing.T) {
	for _, block := range []string{
		strings.Repeat("a: [\n", 1<<20),
		"tags: " + strings.Repeat("[", 1<<20),
		strings.Repeat("- ", 1<<20),
		"tags: [" + strings.Repeat("word, ", 1<<19) + "]\n",
		strings.Repeat("x", 1<<19) + ": {" + strings.Repeat("y: 1,", 1<<17) + "}\n",
		"search:\n" + strings.Repeat(" a: \"\n", 1<<18),
	} {
		m, _ := frontMatter("---\ntitle: t\n" + block + "\n---\nrest")
		if m.title != "t" || utf8.RuneCountInString(m.keywords) > maxKeywordRunes {
			t.Errorf("%.20q: title %q and %d bytes of keywords", block, m.title, len(m.keywords))
		}
	}
}

func TestNewDocumentHasTheMetadata(t *testing.T) {
	d, err := newDocument("a.md", "---\ntags: [x, y]\ndraft: true\n---\n# T\n", time.Now())
	if err != nil || d.title != "T" || d.keywords != "x\ny" || d.unpublished != "draft: true" {
		t.Errorf("%+v, %v", d, err)
	}
}

func FuzzFrontMatter(f *testing.F) {
	for _, text := range []string{
		"---\ntitle: \"a\\u00e9\" # b\ntags: [x, 'y']\nsearch:\n  exclude: true\n---\n# T",
		"+++\ntitle = '''a'''\ntags = [1, {a = 'b'}]\n[x]\ny.\"z\" = \"\\U0001f600\"\n+++\n",
		"{\"title\": \"x\", \"tags\": [\"y\"]}\n# T",
		"---\na: >-\n  b\n- c\n...\n",
	} {
		f.Add(text)
	}

	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		m, start := frontMatter(text)
		if start > 0 && start < len(text) && text[start-1] != '\n' && text[:start] != "\ufeff" {
			t.Errorf("the Markdown begins within a line, at byte %d", start)
		}
		for _, s := range []string{m.title, m.keywords} {
			if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
				t.Errorf("%q cannot be stored", s)
			}
		}
		if again, _ := frontMatter(text); again != m {
			t.Errorf("%+v, then %+v", m, again)
		}
	})
}
