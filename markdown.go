package main

// Parsing of Markdown into a title and chunks, each under its headings. It follows CommonMark 0.31 as
// far as a search needs: it finds headings and code, and ignores inline markup. Every chunk is a
// substring of the text.

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
)

// maxChunkRunes is the most characters that a chunk has. Longer sections are cut.
const maxChunkRunes = 1200

// chunk is the part of a document that a search ranks and shows.
type chunk struct {
	heading string // path of headings above it, "Install > Docker", without the document's title
	line    int    // where its text begins in the document, from 1
	text    string
}

// chunkMarkdown cuts text into sections at its headings, and sections into chunks of at most
// maxChunkRunes characters. The title comes from the front matter, else from the first heading of
// level 1, else it is "". Chunks do not overlap, and leave out only front matter, headings and blank
// text. If nothing else is there, the whole text is cut into chunks.
func chunkMarkdown(text string) (m metadata, chunks []chunk) {
	m, start := frontMatter(text)
	found := headings(text, start)
	if m.title == "" {
		m.title = firstTitle(found)
	}

	c := chunker{text: text, line: 1}
	var levels [6]string // by level: the headings above the current section
	for _, h := range found {
		c.add(headingPath(levels), start, h.start)
		levels[h.level-1] = h.text
		clear(levels[h.level:])
		if levels[0] == m.title {
			levels[0] = "" // a hit shows the title separately
		}
		start = h.end
	}
	c.add(headingPath(levels), start, len(text))

	if len(c.chunks) == 0 {
		c.add("", 0, len(text))
	}
	return m, slices.Clip(c.chunks)
}

// firstTitle returns the text of the first heading of level 1, or "".
func firstTitle(found []heading) string {
	for _, h := range found {
		if h.level == 1 {
			return h.text
		}
	}
	return ""
}

// headingPath returns the path of the headings in levels, without the empty ones.
func headingPath(levels [6]string) string {
	isEmpty := func(text string) bool { return text == "" }
	return strings.Join(slices.DeleteFunc(levels[:], isEmpty), " > ")
}

// heading is an ATX heading ("## A") or a setext heading (a line underlined with "===" or "---").
type heading struct {
	level int // 1 to 6
	text  string
	start int // offset of its first line
	end   int // offset after its last line
}

// headings returns the headings of text from offset at to the end. It skips headings in code, and
// setext headings of more than one line.
func headings(text string, at int) []heading {
	var found []heading
	fence := ""        // the opening fence of the current code block, "" outside code
	paragraph := -1    // offset of the previous line if it begins a paragraph, else -1
	afterText := false // the previous line has text, so this one does not begin a paragraph

	for at < len(text) {
		end := lineEnd(text, at)
		line := strings.TrimSpace(text[at:end])

		inCode := fence != ""
		fence = nextFence(fence, line)
		inCode = inCode || fence != ""

		above := paragraph
		begins := !afterText && beginsParagraph(line)
		paragraph = -1
		afterText = false

		level, title := atxHeading(text[at:end])
		underline := setextLevel(line)
		switch {
		case inCode:
		case level > 0:
			found = append(found, heading{level, title, at, end})
		case underline > 0 && above >= 0:
			title = strings.TrimSpace(text[above:at])
			found = append(found, heading{underline, title, above, end})
		case begins:
			paragraph = at
			afterText = true
		default:
			afterText = line != ""
		}
		at = end
	}
	return found
}

// beginsParagraph reports whether line can begin a paragraph: it is not blank, and does not begin a
// list, a quote, a table or HTML. line has no indentation.
func beginsParagraph(line string) bool {
	return line != "" && !strings.ContainsRune("-*+>|<", rune(line[0]))
}

// nextFence returns the opening fence of the code block that line leaves open, or "" if there is none.
// open is the fence that is open before line. A closing fence is at least as long as the opening one.
func nextFence(open, line string) string {
	fence := line[:len(line)-len(strings.TrimLeft(line, "`"))]
	if fence == "" {
		fence = line[:len(line)-len(strings.TrimLeft(line, "~"))]
	}
	info := line[len(fence):]

	opens := open == "" && len(fence) >= 3 && !strings.Contains(info, "`")
	closes := open != "" && info == "" && strings.HasPrefix(fence, open)
	switch {
	case opens:
		return fence
	case closes:
		return ""
	}
	return open
}

// atxHeading returns the level and text of the ATX heading in line, or 0 and "". A heading without
// text does not count.
func atxHeading(line string) (level int, text string) {
	if strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t") {
		return 0, "" // indented code
	}

	line = strings.TrimSpace(line)
	text = strings.TrimLeft(line, "#")
	level = len(line) - len(text)
	isSpaced := text != strings.TrimLeft(text, " \t")
	if level == 0 || level > 6 || !isSpaced {
		return 0, ""
	}

	text = strings.TrimSpace(text)
	withoutClosing := strings.TrimRight(text, "#")
	if withoutClosing == "" || strings.HasSuffix(withoutClosing, " ") {
		text = strings.TrimSpace(withoutClosing)
	}
	if text == "" {
		return 0, ""
	}
	return level, text
}

// setextLevel returns the level of the heading that line underlines, or 0. A single "-" would be a
// list item.
func setextLevel(line string) int {
	switch {
	case line != "" && strings.Trim(line, "=") == "":
		return 1
	case len(line) > 1 && strings.Trim(line, "-") == "":
		return 2
	}
	return 0
}

// chunker collects the chunks of text in order.
type chunker struct {
	text    string
	chunks  []chunk
	line    int // number of the line at offset counted
	counted int // offset up to which lines are counted
}

// add cuts text[start:end] into chunks under heading. Blank text gives no chunk.
func (c *chunker) add(heading string, start, end int) {
	for {
		rest := strings.TrimLeftFunc(c.text[start:end], unicode.IsSpace)
		if rest == "" {
			return
		}
		blank := c.text[start : end-len(rest)]
		start += strings.LastIndexByte(blank, '\n') + 1 // the first line keeps its indentation
		cut := start + chunkLength(c.text[start:end])

		c.line += strings.Count(c.text[c.counted:start], "\n")
		c.counted = start

		c.chunks = append(c.chunks, chunk{
			heading: heading,
			line:    c.line,
			text:    strings.TrimRightFunc(c.text[start:cut], unicode.IsSpace),
		})
		start = cut
	}
}

// chunkLength returns the length in bytes of the first chunk of text. Text that is too long is cut at
// the last boundary of the best kind: a paragraph, a line outside code, a line of code, a sentence, a
// word. A boundary in the first third would make a tiny chunk. It is used only to keep code whole.
func chunkLength(text string) int {
	limit := runeOffset(text, maxChunkRunes)
	if limit == len(text) {
		return limit
	}
	text = text[:limit]
	minLength := limit / 3

	last := lastBoundaries(text)
	switch {
	case last.paragraph > minLength:
		return last.paragraph
	case last.line > minLength:
		return last.line
	case last.code > 0:
		return cmp.Or(last.line, last.code)
	}

	sentence := lastEnd(text, ". ", "! ", "? ", "。", "！", "？")
	if sentence > minLength {
		return sentence
	}
	word := lastEnd(text, " ", "\t")
	if word > minLength {
		return word
	}
	return limit
}

// boundaries are the offsets after the last line of each kind, 0 if there is none.
type boundaries struct {
	paragraph int // a blank line outside code
	line      int // any line outside code
	code      int // a line inside fenced code
}

// lastBoundaries returns the boundaries among the complete lines of text. text must begin outside code.
func lastBoundaries(text string) boundaries {
	var last boundaries
	fence := ""
	at := 0

	complete := text[:strings.LastIndexByte(text, '\n')+1]
	for full := range strings.Lines(complete) {
		at += len(full)
		line := strings.TrimSpace(full)
		fence = nextFence(fence, line)
		if fence != "" {
			last.code = at
			continue
		}
		last.line = at
		if line == "" {
			last.paragraph = at
		}
	}
	return last
}

// lastEnd returns the offset after the last mark in text, or 0 if text has none of the marks.
func lastEnd(text string, marks ...string) int {
	last := 0
	for _, mark := range marks {
		if i := strings.LastIndex(text, mark); i >= 0 {
			last = max(last, i+len(mark))
		}
	}
	return last
}
