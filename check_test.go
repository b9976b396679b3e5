package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestLinksAreFoundWithTheirLines(t *testing.T) {
	t.Parallel()
	const text = "---\ntitle: \"[no](fm.md)\"\n---\n# A [head](1.md)\n\n" + // line 4
		"[two](<2 b.md> \"title\") and\n![pic](3.png) [![badge](4.svg)](5.md)\n" + // 6, 7
		"`[no](code.md)` \\[no](escaped.md) <!-- [no](comment.md) -->\n\n" +
		"```\n[no](fence.md)\n```\n\n    [no](indented.md)\n\n" +
		"> quote [six](6_(x).md#a 't')\n\n- item\n\n  [seven][]\n\n" + // 16
		"| a | b |\n|---|---|\n| x | [eight](8.md) |\n\n" + // 24
		"[ref]: 9.md \"t\"\n[more]:\n  <10.md>\n\n" + // 26, 28
		"<div>\n<a class=\"x\" href='11.md'>x</a> <img alt=\"\" src=\"12.png\">\n</div>\n\n" + // 31
		"<Link\n  to=\"13.md\">x</Link> [&amp;](14.md?a&amp;b) [x]( 15.md ) [nested [x]](16.md)\n\n" +
		"<script>\n[no](script.md)\n</script>\n\n[^1]: note [foot](17.md)\n"
	var got []string
	for _, l := range linksOf(text) {
		got = append(got, fmt.Sprintf("%d:%s:%v", l.line, l.target, l.isImage))
	}
	want := "4:1.md:false 6:2 b.md:false 7:3.png:true 7:4.svg:true 7:5.md:false 16:6_(x).md#a:false 24:8.md:false " +
		"26:9.md:false 28:10.md:false 31:11.md:false 31:12.png:true 35:13.md:false 35:14.md?a&b:false 35:15.md:false 35:16.md:false 41:17.md:false"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

// TestLinksAreThoseOfThePage has what a search for brackets takes for links, or does not find.
func TestLinksAreThoseOfThePage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"code of two marks", "``[no](`a.md)`` [x](b.md)", "1:b.md"},
		{"code across lines", "`[no](a.md)\n[no](b.md)` [x](c.md)", "2:c.md"},
		{"mark without an end", "` [x](a.md)", "1:a.md"},
		{"escaped bracket", `[a\](b.md) \[c](d.md) [e](f.md)`, "1:d.md 1:f.md"},
		{"escaped end", `[a \] b](c.md)`, "1:c.md"},
		{"links do not nest", "[a [b](c.md) d](e.md)", "1:c.md"},
		{"brackets nest", "[a [b] c](d.md)", "1:d.md"},
		{"a picture in a link", "[![a](b.png)](c.md)", "1:!b.png 1:c.md"},
		{"a link in a picture", "![a [b](c.md)](d.png)", "1:c.md 1:!d.png"},
		{"footnote", "[^1](a.md)\n\n[^1]: [x](b.md)", "3:b.md"},
		{"target across lines", "[a\nb](\nc.md\n'd')", "2:c.md"},
		{"parentheses nest", "[a](b_(c_(d)).md)", "1:b_(c_(d)).md"},
		{"entities and escapes", `[a](b&amp;c\_d.md) [e](<f\>g.md>)`, "1:b&c_d.md 1:f>g.md"},
		{"no target", "[a](b c.md) [d] (e.md) [f]( )", "1:"},
		{"in a quote, across lines", "> [a\n> b](c.md)\n> `d\n> [no](e.md)`", "2:c.md"},
		{"cells", "| a | b |\n|---|---|\n| `\\|` [x](c.md) | ` |\n| ` [y](d.md) | |", "3:c.md 4:d.md"},
		{"heading of two lines", "a\n[b](c.md)\n===", "2:c.md"},
		{"task", "- [ ] [a](b.md)\n- [x](c.md)", "1:b.md 2:c.md"},
		{"callouts", "!!! note \"[a](b.md)\"\n\n    [c](d.md)\n\n> [!NOTE] [e](f.md)\n> [g](h.md)", "1:b.md 3:d.md 5:f.md 6:h.md"},
		{"addresses", "<https://a.example/b> <c@d.example> https://e.example/f. www.g.example", "1:https://a.example/b 1:mailto:c@d.example 1:https://e.example/f 1:http://www.g.example"},
		{"definitions, indented", "a\n\n  [b]: c.md\n  [d]: e.md 'f'\n  [g]:\n    h.md", "3:c.md 4:e.md 6:h.md"},
		{"definition in a quote", "> [a]: b.md\n> [c]: d.md", "1:b.md 2:d.md"},
		{"definition that is named", "[a] [b][a] [a][] [a](c.md)\n\n[A]: d.md", "1:c.md 3:d.md"},
		{"definitions of pictures", "![a] ![b] [b]\n\n[a]: a.png\n[b]: b.png\n[c]: c.png", "3:!a.png 4:b.png 5:c.png"},
		{"no definition", "`\n[a]: b.md\n`", ""},
		{"tags", "a <a\nhref=\"b.md?c&amp;d\">e</a> `<a href=\"no.md\">` <img src='f.png'>", "2:b.md?c&d 2:!f.png"},
		{"a block of HTML", "<ul><li>the ` mark</li>\n<li>[a](b.md) `</li></ul>", "2:b.md"},
		{"preformatted", "<pre>\n[no](a.md)\n\n<a href=\"b.md\">c</a>\n</pre>", "4:b.md"},
		{"declarations", "<!DOCTYPE [no](a.md)>\n\n<?php [no](b.md) ?>\n\n<!-- [no](c.md)\n\n[no](d.md) -->", ""},
		{"Hugo's and Jekyll's references", "[a]({{< ref \"b.md\" >}}) [c]({% link d.md %}) [e]({{x}}/f.md)", "1:{{x}}/f.md"},
	} {
		var got []string
		for _, l := range linksOf(test.text) {
			mark := ""
			if l.isImage {
				mark = "!"
			}
			got = append(got, fmt.Sprintf("%d:%s%s", l.line, mark, l.target))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: got %v, want %s", test.name, got, test.want)
		}
	}
}

// checkedFiles are documents whose links lead somewhere.
var checkedFiles = map[string]string{
	"index.md":             "# Home\n",
	"guide/index.md":       "# Guide\n\n## Größe & Maß 📏\n\n## Note\n\n## Note\n\n## Own {#own-id}\n\n<a name=\"html.anchor\"></a>\n\ntext { #attr }\n\nterm\n: meaning\n",
	"guide/install.md":     "# Install\n\n## With `npm`\n",
	"guide/100% #1 🚀.md":   "# Odd\n",
	"guide/02-advanced.md": "# Advanced\n",
	"guide/Upper.MDX":      "# Upper\n",
	"api/v1/auth.md":       "# Auth\n",
	"guide/draft.md":       "---\ndraft: true\n---\n# Draft\n",
	"guide/notes.rst":      "Notes",
	"guide/a picture.png":  "x",
	"guide/manual.pdf":     "x",
	".hidden/x.md":         "# Hidden\n",
}

func TestLinksThatLeadNowhereAreReported(t *testing.T) {
	t.Parallel()
	tests := []struct{ target, problem string }{
		// Files, as GitHub and MkDocs link.
		{"install.md", ""}, {"./install.md#with-npm", ""}, {"../api/v1/auth.md", ""}, {"../index.md", ""},
		{"100%25%20%231%20%F0%9F%9A%80.md", ""}, {"<100%25 %231 🚀.md>", ""}, {"Upper.MDX", ""},
		{"nowhere.md", "no such document"}, {"Install.md", "no such document"}, {"install.markdown", "no such document"},
		{"../install.md", "no such document"}, {"api/v1/auth.md", "no such document"},

		// Pages, as sites link.
		{"install", ""}, {"install/", ""}, {"../install/", ""}, {"../guide/install", ""}, {"install.html", ""}, {"../guide/", ""},
		{"advanced", ""}, {"upper/", ""}, {"/guide/install", ""}, {"/guide/", ""}, {"/", ""}, {"/guide/install.md", ""}, {"/docs/guide/install/", ""},
		{"nowhere", "no such document"}, {"nowhere/", "no such document"}, {"/guide/nowhere", "no such document"}, {"/nowhere.md", "no such document"},
		{"nowhere.html", "no such file"}, {"https://docs.example.com/docs/guide/install", ""}, {"https://docs.example.com/docs/guide/nowhere", "no such document"},

		// Anchors.
		{"#note", ""}, {"#note-1", ""}, {"#größe--maß-", ""}, {"#gr%C3%B6%C3%9Fe--ma%C3%9F-%EF%B8%8F", ""}, {"#own-id", ""}, {"#html.anchor", ""}, {"#attr", ""},
		{"#term", ""}, {"#", ""}, {"#top", ""}, {"#fn:1", ""}, {"#:~:text=x", ""}, {"index.md#note_1", ""},
		{"#nowhere", "no such heading in guide/index.md"}, {"#note-2", "no such heading in guide/index.md"},
		{"install.md#npm", "no such heading in guide/install.md"}, {"install#nowhere", "no such heading in guide/install.md"},
		{"/guide/install/#nowhere", "no such heading in guide/install.md"},

		// Other files.
		{"manual.pdf", ""}, {"notes.rst", ""}, {"draft.md", "the document is left out"}, {"draft", "no such document"},
		{"../.hidden/x.md", "the document is left out"}, {"other.pdf", "no such file"},

		// What cannot be checked.
		{"https://example.com/nowhere.md", ""}, {"//example.com/x", ""}, {"mailto:a@example.com", ""}, {"tel:1", ""}, {"../../README.md", ""},
		{"http://host:port/nowhere.md", ""}, {"install.md#with-npm%", ""},
		{"/blog/nowhere", ""}, {"/img/x.png", ""}, {"{{ site.url }}/x.md", ""}, {"${x}.md", ""}, {"@site/docs/x.md", ""}, {"https://docs.example.com/blog/x", ""},
	}
	files := make(map[string]string)
	for name, text := range checkedFiles {
		files[name] = text
	}
	for _, test := range tests {
		files["guide/index.md"] += "\n[x](" + test.target + ")\n"
	}
	var out bytes.Buffer
	_ = run(t.Context(), []string{"-check"}, []string{"DOCS_DIR=" + datedFolder(t, files), "DOCS_URL=https://docs.example.com/docs"}, &out)
	begin := strings.Count(checkedFiles["guide/index.md"], "\n") + 2
	for i, test := range tests {
		place := fmt.Sprintf(" guide/index.md:%d: ", begin+2*i)
		_, rest, isReported := strings.Cut(out.String(), place)
		line, _, _ := strings.Cut(rest, "\n")
		if isReported != (test.problem != "") || !strings.HasSuffix(line, test.problem) {
			t.Errorf("%s: %q, want %q", test.target, line, test.problem)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// TestCheckExits runs the command on folders and settings, for its exit code and what it prints.
func TestCheckExits(t *testing.T) {
	t.Parallel()
	const good = "# Lantern\n\nlight\n"
	with := func(more ...string) map[string]string {
		files := map[string]string{"lantern.md": good, "ladder.md": "# Ladder\n\nclimb\n"}
		for i := 0; i < len(more); i += 2 {
			files[more[i]] = more[i+1]
		}
		return files
	}
	for _, test := range []struct {
		name  string
		files map[string]string
		env   string
		code  int
		want  []string
	}{
		{"all is well", with(), "", 0, []string{"documents  2, with 2 passages", "links      0, 0 lead nowhere", "result     ok"}},
		{"left out", with("a.rst", "x", "d.md", "---\ndraft: true\n---\n", "x/y.md", "# Y"), "DOCS_EXCLUDE=x", 0, []string{"left out   1 .rst, 1 draft, 1 by DOCS_EXCLUDE"}},
		{"untitled", with("untitled.md", "text\n", "sub/index.md", "text\n", "titled.md", "## titled\n"), "", 0, []string{"titles     2 are only the name of the file", " untitled.md\n", " sub/index.md\n"}},
		{"dead link", with("a.md", "# A\n\n[x](b.md)\n"), "", 1, []string{"links      1, 1 lead nowhere", "a.md:3: b.md: no such document", "result     1 problems"}},
		{"other sites", with("a.md", "# A\n\n[a](http://host:port/x) <https://b.example/%zz> ![p](//c.example/p.png) [m](mailto:a@b.example) [v6](http://[::1/x)\n"), "", 0,
			[]string{"links      4, 0 lead nowhere; 3 to other sites are not checked", "result     ok"}},
		{"missing picture", with("a.md", "# A\n\n![x](b.png)\n"), "", 0, []string{"pictures   1 are missing", "a.md:3: b.png: no such file"}},
		{"no text", with("a.md", "\xff"), "", 1, []string{"unreadable 1 files", "a.md: the text is not UTF-8"}},
		{"nothing to serve", map[string]string{"a.rst": "x"}, "", 1, []string{"0 documents; left out 1 .rst; documents end in .md"}},
		{"questions", with("questions.tsv", "\ufeff# ours\n\nlight\tlantern.md\nclimb\tlantern.md, ladder.md\nladder\tlantern.md\n"), "", 0,
			[]string{"questions  3: first 2 (67 %), first three 2 (67 %), MRR 0.667", `questions.tsv:5: "ladder": not found`, "result     ok"}},
		{"good enough", with("questions.tsv", "light\tlantern.md\n"), "CHECK_MIN=1", 0, []string{"MRR 1.000"}},
		{"not good enough", with("questions.tsv", "light\tladder.md\n"), "CHECK_MIN=0.5", 1, []string{"below CHECK_MIN=0.5", "result     1 problems"}},
		{"question about nothing", with("questions.tsv", "light\tgone.md\n"), "", 1, []string{"questions.tsv:1: there is no document gone.md"}},
		{"question without id", with("questions.tsv", "light lantern.md\n"), "", 2, []string{"documents  2"}},
		{"no questions", with(), "CHECK_MIN=0.5", 2, nil},
		{"questions elsewhere", with(), "CHECK_QUESTIONS=/nonexistent.tsv", 2, nil},
		{"bad setting", with(), "CHECK_MIN=2", 2, nil},
		{"bad setting of the server", with(), "RATE_LIMIT=x", 2, nil},
		{"missing folder", with(), "DOCS_DIR=/nonexistent", 2, nil},
		{"no folder", with(), "DOCS_DIR=", 2, nil},
		{"one folder of two is missing", with(), "DOCS_DIR=a=/nonexistent,b=/", 2, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := run(t.Context(), []string{"-check"}, []string{"DOCS_DIR=" + datedFolder(t, test.files), test.env}, &out)
			code := 0
			switch {
			case errors.Is(err, errUsage):
				code = 2
			case err != nil:
				code = 1
			}
			if code != test.code {
				t.Errorf("exit %d, want %d: %v", code, test.code, err)
			}
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("lacks %q:\n%s", want, out.String())
				}
			}
		})
	}
}

// TestCheckOfSeveralFolders follows links from one to the other.
func TestCheckOfSeveralFolders(t *testing.T) {
	t.Parallel()
	dir := datedFolder(t, map[string]string{
		"a/x.md":          "# X\n\n[y](../guide/y.md) [y](/guide/y) [z](z.md) [own](/z) [dead](y.md)\n",
		"a/z.md":          "# Lantern\n",
		"b/y.md":          "# Y\n\n[x](../api/x.md#x)\n",
		"a/questions.tsv": "lantern\tapi/z.md\n",
	})
	var out bytes.Buffer
	roots := "DOCS_DIR=api=" + filepath.Join(dir, "a") + ",guide=" + filepath.Join(dir, "b")
	err := run(t.Context(), []string{"-check"}, []string{roots}, &out)
	if err == nil || !strings.Contains(out.String(), "6, 1 lead nowhere\n           api/x.md:3: y.md: no such document") ||
		!strings.Contains(out.String(), "1: first 1") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// TestCheckClosesTheFoldersThatItOpens looks for a name that belongs to none of several folders.
func TestCheckClosesTheFoldersThatItOpens(t *testing.T) {
	const descriptors = "/proc/self/fd"
	if _, err := os.Stat(descriptors); err != nil {
		t.Skip("this system does not list open files")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector closes what nobody uses
	dir := t.TempDir()
	cfg := &settings{docsDirs: []docsRoot{{dir: dir, prefix: "a/"}, {dir: dir, prefix: "b/"}}}
	c := &checker{server: &server{cfg: cfg}}
	for range 50 {
		c.exists("c/x.md")
	}
	open, err := os.ReadDir(descriptors)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range open {
		place, _ := os.Readlink(filepath.Join(descriptors, entry.Name()))
		if place == dir {
			t.Fatal("a folder stays open")
		}
	}
}
