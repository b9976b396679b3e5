package main

// Trees of documents as teams have them, read by this program and by the parsers of others: testdata/trees.

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// referenceDocument is what testdata/trees/reference.mjs finds in a document.
type referenceDocument struct {
	Title       string // of the front matter
	Unpublished bool
	Headings    []referenceHeading
}

type referenceHeading struct {
	line  int
	level int
	words string
	place string // "top", "inside" a block, or "html"
}

func (h *referenceHeading) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&h.line, &h.level, &h.words, &h.place})
}

// TestTreesAreReadAsByOtherParsers compares titles, headings and drafts with what markdown-it, yaml and smol-toml find, and
// checks that each passage can be read alone. Without TREES it reads our own tree, of which the result is stored.
// testdata/trees/run.sh installs the parsers, and reads the trees that it is given.
func TestTreesAreReadAsByOtherParsers(t *testing.T) {
	trees := filepath.SplitList(os.Getenv("TREES"))
	if len(trees) == 0 {
		own := filepath.Join("testdata", "trees", "own")
		compareTree(t, own, []byte(readFile(t, own+".json")))
		return
	}
	for _, dir := range trees {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			command := exec.CommandContext(t.Context(), "node", "testdata/trees/reference.mjs", dir)
			command.Stderr = os.Stderr
			out, err := command.Output()
			if err != nil {
				t.Fatal(err)
			}
			compareTree(t, dir, out)
		})
	}
}

// treeComparison counts what was compared, and what differs by a rule that we have and CommonMark has not.
type treeComparison struct {
	*testing.T
	document *document
	root     *block
	counts   map[string]int
}

func compareTree(t *testing.T, dir string, out []byte) {
	t.Helper()
	var reference map[string]referenceDocument
	if err := json.Unmarshal(out, &reference); err != nil {
		t.Fatal(err)
	}

	c := treeComparison{T: t, counts: make(map[string]int)}
	for _, d := range treeDocuments(t, dir) {
		want, isRead := reference[d.id]
		delete(reference, d.id)
		if !isRead {
			continue // plain text
		}
		_, start := frontMatter(d.text)
		c.document = d
		c.root = parseBlocks(d.text, start)
		c.counts["documents"]++
		c.compareHeadings(&want)
		c.compareTitle(want)
		c.checkPassages()
	}
	for id := range reference {
		t.Errorf("%s was not read", id)
	}
	for _, name := range slices.Sorted(maps.Keys(c.counts)) {
		t.Logf("%-40s %d", name, c.counts[name])
	}
}

// differ fails the test with a difference in the document.
func (c treeComparison) differ(line int, format string, args ...any) {
	c.Helper()
	c.counts["differences"]++
	c.Errorf("%s:%d: %s", c.document.id, line, fmt.Sprintf(format, args...))
}

func (c treeComparison) compareTitle(want referenceDocument) {
	c.Helper()
	d := c.document
	title := want.title()
	isUnpublished := d.unpublished != ""
	switch {
	case isUnpublished != want.Unpublished:
		c.differ(1, "unpublished %q, want %v", d.unpublished, want.Unpublished)
	case d.isUntitled != (title == ""):
		c.differ(1, "title %q is that of the file: %v, want %q", d.title, d.isUntitled, title)
	case !d.isUntitled && d.title != title:
		c.differ(1, "title %q, want %q", d.title, title)
	}
	c.counts["titles that are file names"] += boolInt(d.isUntitled)
}

// title returns the title that a reader would give the document, "" if it is that of the file.
func (d referenceDocument) title() string {
	if d.Title != "" {
		return d.Title
	}
	first := ""
	for _, h := range d.Headings {
		switch {
		case h.place == "inside":
		case h.level == 1:
			return h.words
		case first == "":
			first = h.words
		}
	}
	return first
}

// compareHeadings compares the headings by their lines. It drops those from want that are none by our rules.
func (c treeComparison) compareHeadings(want *referenceDocument) {
	c.Helper()
	ours := make(map[int]heading)
	for _, h := range headings(c.root, c.document.text) {
		ours[h.line] = h
	}

	want.Headings = slices.DeleteFunc(want.Headings, func(h referenceHeading) bool {
		if h.place == "html" {
			return false
		}
		found, isFound := ours[h.line]
		delete(ours, h.line)
		c.counts["headings"]++
		switch {
		case !isFound:
			c.explain(h.line, "%q is no heading here", h.words)
		case found.level != h.level || found.words != h.words:
			c.differ(h.line, "heading %d %q, want %d %q", found.level, found.words, h.level, h.words)
		}
		return !isFound
	})
	for line, h := range ours {
		c.explain(line, "heading %q is none of CommonMark", h.words)
	}
}

// explain counts a difference by the block that CommonMark does not have, or fails the test if there is none.
func (c treeComparison) explain(line int, format string, args ...any) {
	c.Helper()
	for _, b := range c.around(line) {
		switch b.kind {
		case blockCallout, blockFootnote, blockModule, blockTemplate:
			c.counts["headings in a "+kindNames[b.kind]]++
			return
		default:
		}
	}
	c.differ(line, format, args...)
}

// around returns the blocks that contain a line, from the outermost.
func (c treeComparison) around(line int) []*block {
	var found []*block
	blocks := c.root.children
	for i := 0; i < len(blocks); i++ {
		if b := blocks[i]; c.contains(b, line) {
			found = append(found, b)
			blocks = b.children
			i = -1
		}
	}
	return found
}

func (c treeComparison) contains(b *block, line int) bool {
	return int(b.line) <= line && line <= c.lastLine(b)
}

func (c treeComparison) lastLine(b *block) int {
	source := strings.TrimRight(c.document.text[b.start:b.end], "\n")
	return int(b.line) + strings.Count(source, "\n")
}

// checkPassages checks that each passage has something to read, and can be read alone.
func (c treeComparison) checkPassages() {
	c.Helper()
	for _, passage := range c.document.chunks {
		c.counts["passages"]++
		if !hasWords(withoutAnyMarkup(passage.text)) {
			c.differ(passage.line, "passage %q is nothing but markup", passage.text)
		}
		c.checkCut(passage)
	}
}

// anyMarkup is what readers do not see, as an expression that knows no blocks.
var anyMarkup = regexp.MustCompile(`<!--(?s:.*?)-->|</?[A-Za-z][^<>]*>|\{[{%].*?[%}]\}|` +
	`(?m:^\s*\[[^^\]][^\]]*\]:.*$|^(?:import|export) .*$)`)

func withoutAnyMarkup(text string) string { return anyMarkup.ReplaceAllString(text, "") }

// checkCut checks a passage that begins within a block.
func (c treeComparison) checkCut(passage chunk) {
	c.Helper()
	for _, b := range c.around(passage.line) {
		if int(b.line) == passage.line {
			continue // at its beginning
		}
		size := utf8.RuneCountInString(c.document.text[b.start:b.end])
		switch b.kind {
		case blockTable, blockFence:
			c.counts["parts of a "+kindNames[b.kind]]++
			if !c.repeats(b, passage) {
				c.differ(passage.line, "a part of a %s begins with %.80q", kindNames[b.kind], passage.text)
			}
		case blockItem:
			begin := c.document.text[b.start:]
			before := beginning(begin, passage.line-int(b.line))
			if size <= maxChunkRunes && hasWords(withoutMarkup(before)) {
				c.differ(passage.line, "an item of %d characters is cut", size)
			}
		default:
		}
	}
	for _, b := range parseBlocks(passage.text, 0).children {
		if b.kind == blockFence && !b.closed {
			c.differ(passage.line, "code has no end: %.80q", passage.text)
		}
	}
}

// repeats reports whether a passage begins as a table or fence does.
func (c treeComparison) repeats(b *block, passage chunk) bool {
	isMark := func(r rune) bool { return unicode.IsSpace(r) || r == '>' }
	head := c.document.text[b.lines[0].start:b.lines[0].end]
	if b.kind == blockFence {
		head = c.document.text[b.start:lineEnd(c.document.text, int(b.start))]
	}
	first, _, _ := strings.Cut(strings.TrimLeftFunc(passage.text, isMark), "\n")
	head = strings.TrimSuffix(head, "\n")
	if b.kind == blockTable {
		first, head = withoutPadding(first), withoutPadding(head)
	}
	return strings.TrimRight(first, " \t") == strings.TrimRight(head, " \t")
}
