package main

// Markdown into a title and chunks: each is a part of a section, under the headings above it, without
// what no reader sees.

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// chunk is the part of a document that a search ranks and shows.
type chunk struct {
	heading string // path of headings above it, "Install > Docker", without the document's title
	slug    string // GitHub's slug of the nearest heading above it, "" before the first
	line    int    // where its text begins in the document, from 1
	text    string // cleaned; the words of the heading if a section has no text
}

// htmlHeading is a heading of level 1 in HTML.
var htmlHeading = regexp.MustCompile(`(?is)<h1\b[^>]*>(.*?)</h1>`)

// parseMarkdown returns the metadata of a document, with its title, and its chunks. The title is that of the front
// matter, else the first heading of level 1, in Markdown or HTML, else the first heading, else the name of
// the file, or of its folder for an index. Chunks do not overlap, and keep to indexBudget.
func parseMarkdown(id, text string) (m metadata, chunks []chunk) {
	m, start := frontMatter(text)
	whole := text
	text = beginning(text, maxDocumentLines)
	root := parseBlocks(text, min(start, len(text)))
	found := headings(root, text)

	m.title = firstRunes(m.title, maxHeadingRunes)
	if m.title == "" {
		m.title = headingTitle(text, root, found)
	}
	if m.title == "" {
		m.title = fileTitle(id)
		m.isUntitled = true
	}
	c := chunker{
		text:   text,
		title:  m.title,
		budget: newIndexBudget(whole),
	}
	c.addSections(root, found)
	m.indexed = c.indexed
	if c.indexed == 0 && len(text) < len(whole) {
		m.indexed = maxDocumentLines
	}
	return m, slices.Clip(c.chunks)
}

// headingTitle returns the title of a document whose front matter has none, or "" if it has no heading either.
func headingTitle(text string, root *block, found map[*block]heading) string {
	first := ""
	for _, b := range root.children {
		h, isHeading := found[b]
		if isHeading && h.level == 1 {
			return h.words
		}
		if isHeading && first == "" {
			first = h.words
		}
		if b.kind != blockHTML {
			continue
		}
		if match := htmlHeading.FindStringSubmatch(text[b.start:b.end]); match != nil {
			if words := plainWords(match[1]); words != "" {
				return words
			}
		}
	}
	return first
}

// fileTitle returns the name of a file without its suffix, or that of its folder if it is an index.
func fileTitle(id string) string {
	name := strings.TrimSuffix(path.Base(id), path.Ext(id))
	if isIndexName(name) {
		if folder := path.Base(path.Dir(id)); folder != "." && folder != "/" {
			return folder
		}
	}
	return name
}

// isIndexName reports whether a file with this name, without its suffix, is the page of its folder.
func isIndexName(name string) bool {
	switch strings.ToLower(name) {
	case "index", "_index", "readme":
		return true
	}
	return false
}

// withoutIndex returns a path without the name of an index: the path of its folder, with "/" at its end.
func withoutIndex(name string) string {
	folder, file := path.Split(name)
	if isIndexName(file) {
		return folder
	}
	return name
}

// chunker collects the chunks of a document in order.
type chunker struct {
	text    string
	title   string
	chunks  []chunk
	budget  indexBudget
	indexed int // see metadata

	levels  [6]string // by level: the words of the headings above the current section
	current chunk     // without its text
	lines   []string  // the text of the current chunk
	runes   int       // the length of lines, with their newlines
	last    int       // number of the last source line in the current chunk
}

// addSections adds the chunks of all sections.
func (c *chunker) addSections(root *block, found map[*block]heading) {
	var above heading // the heading of the current section
	begun := 0        // the number of chunks before it
	for _, b := range root.children {
		if c.indexed > 0 {
			return
		}
		h, isHeading := found[b]
		if !isHeading {
			c.addBlock(b)
			continue
		}
		c.flush()
		isOuter := h.level > above.level // its words are in the paths of the sections inside
		if !isOuter {
			c.addEmptySection(above, begun)
		}
		above = h
		begun = len(c.chunks)
		c.enter(h)
	}
	c.flush()
	c.addEmptySection(above, begun)
	if len(c.chunks) == 0 && hasWords(c.title) && strings.TrimSpace(c.text) != "" {
		c.chunks = []chunk{{line: max(1, above.line), slug: above.slug, text: c.title}}
	}
}

// enter begins the section of a heading.
func (c *chunker) enter(h heading) {
	c.levels[h.level-1] = h.words
	clear(c.levels[h.level:])
	if c.levels[0] == c.title {
		c.levels[0] = "" // a hit shows the title separately
	}
	c.current.heading = headingPath(c.levels)
	c.current.slug = h.slug
}

// headingPath returns the path of the headings in levels, without the empty ones. Of a long path it returns
// the innermost headings that fit.
func headingPath(levels [6]string) string {
	path := ""
	for _, words := range slices.Backward(levels[:]) {
		if words == "" {
			continue
		}
		longer := words
		if path != "" {
			longer += " > " + path
		}
		if utf8.RuneCountInString(longer) > maxHeadingRunes {
			break
		}
		path = longer
	}
	return path
}

// addEmptySection adds a chunk for a heading without text, so that it is found.
func (c *chunker) addEmptySection(h heading, begun int) {
	if len(c.chunks) > begun || h.words == "" || h.words == c.title {
		return
	}
	c.add(chunk{
		heading: c.current.heading,
		slug:    h.slug,
		line:    h.line,
		text:    h.words,
	})
}

// add adds a chunk, unless the budget is used up.
func (c *chunker) add(added chunk) {
	p := passage{
		title:   c.title,
		heading: added.heading,
		text:    added.text,
	}
	switch {
	case c.indexed > 0:
	case c.budget.take(p):
		c.chunks = append(c.chunks, added)
	default:
		c.indexed = max(1, added.line-1)
	}
}

// addBlock adds a block to the current section. A list or quote that fits into a chunk is not cut, a longer
// one is cut between its items.
func (c *chunker) addBlock(b *block) {
	switch {
	case b.kind.isContainer() && isLong(c.text[b.start:b.end]):
		for _, child := range b.children {
			c.addBlock(child)
		}
	case b.kind == blockFence:
		c.addPiece(fencePiece(b, c.text))
	case b.kind == blockTable:
		c.addPiece(tablePiece(b, c.text))
	default:
		c.addPiece(piece{
			lines:   blockLines(b, c.text),
			isWhole: b.kind.isContainer(),
		})
	}
}

// isLong reports whether a text does not fit into a chunk.
func isLong(text string) bool {
	return len(text) > maxChunkRunes*utf8.UTFMax || utf8.RuneCountInString(text) > maxChunkRunes
}

// gapRunes is the length of the blank line before a piece, with its newline and that of the piece.
const gapRunes = 2

// addPiece adds a piece to the current chunk, or begins another one. A piece that has no room is cut.
func (c *chunker) addPiece(p piece) {
	if len(p.lines) == 0 {
		return
	}
	n := p.runes()
	fits := c.runes+gapRunes+n <= maxChunkRunes
	isLarge := c.runes > maxChunkRunes/3
	fitsAlone := p.isWhole && n <= maxChunkRunes
	if !fits && (isLarge || fitsAlone) {
		c.flush()
	}
	for len(p.lines) > 0 {
		room := maxChunkRunes - c.runes - gapRunes
		if c.runes == 0 {
			room = maxChunkRunes
		}
		c.addLines(p.cut(room))
		if len(p.lines) > 0 {
			c.flush()
		}
	}
}

// addLines adds lines to the current chunk.
func (c *chunker) addLines(lines []sourceLine) {
	if len(c.lines) == 0 {
		c.current.line = lines[0].number
	} else if lines[0].number > c.last+1 {
		c.lines = append(c.lines, "")
		c.runes++
	}
	for _, line := range lines {
		c.lines = append(c.lines, line.text)
		c.runes += utf8.RuneCountInString(line.text) + 1
		c.last = line.number
	}
}

// flush ends the current chunk.
func (c *chunker) flush() {
	text := strings.TrimRight(strings.Join(c.lines, "\n"), " \t\r\n")
	if hasWords(text) {
		c.current.text = text
		c.add(c.current)
	}
	c.lines = c.lines[:0]
	c.runes = 0
}
