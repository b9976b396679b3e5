package main

// Pieces of a section: the cleaned lines of its blocks, and how a long piece is cut into parts that can each be read on their
// own.

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxChunkRunes is the most characters in a chunk. Longer sections are cut.
const maxChunkRunes = 1200

// maxFrameRunes is the most characters of head and foot that are repeated in each part of a piece.
const maxFrameRunes = maxChunkRunes / 2

// sourceLine is a cleaned line of a document, and its number in the document, from 1.
type sourceLine struct {
	text   string
	number int
}

// piece is a block, or what is left of it after cut has taken parts from it.
type piece struct {
	head      []string // lines that the next part begins with: the head of a table, the opening fence
	laterHead []string // head of the parts after the first, if it differs: the mark of an item is not repeated
	foot      string   // line that each part ends with: the closing fence
	lines     []sourceLine
	isWhole   bool // it begins another chunk rather than be cut, if it fits into one
}

// runes returns the number of characters of p, including head, foot and newlines.
func (p piece) runes() int {
	n := p.frame()
	for _, line := range p.lines {
		n += utf8.RuneCountInString(line.text) + 1
	}
	return n
}

// frame returns the number of characters of head and foot, including newlines.
func (p piece) frame() int {
	n := utf8.RuneCountInString(p.foot)
	if p.foot != "" {
		n++
	}
	for _, line := range p.head {
		n += utf8.RuneCountInString(line) + 1
	}
	return n
}

// cut takes the next part from p and returns its lines with head and foot: at most room characters, but at least a part of a
// line. A head that is too long to repeat becomes a part of the lines. p must have lines.
func (p *piece) cut(room int) []sourceLine {
	frame := p.frame()
	if frame > maxFrameRunes {
		p.lines = append(p.headLinesAt(p.lines[0].number), p.lines...)
		p.head = nil
		p.foot = ""
		frame = 0
	}
	taken := p.take(max(room-frame, 1))

	framed := append(p.headLinesAt(taken[0].number), taken...)
	if p.laterHead != nil {
		p.head = p.laterHead
	}
	if p.foot != "" {
		framed = append(framed, sourceLine{p.foot, taken[len(taken)-1].number + 1})
	}
	return framed
}

// take takes the lines from p that have room characters, or the beginning of the first line if it has more.
func (p *piece) take(room int) []sourceLine {
	n := 0
	runes := 0
	for n < len(p.lines) {
		line := p.lines[n].text
		if runes > room || runeOffset(line, room-runes) < len(line) {
			break
		}
		runes += utf8.RuneCountInString(line) + 1
		n++
	}
	if n > 0 {
		taken := p.lines[:n:n]
		p.lines = p.lines[n:]
		return taken
	}

	first := &p.lines[0]
	length := lineCut(first.text, room)
	taken := []sourceLine{{first.text[:length], first.number}}
	first.text = strings.TrimLeft(first.text[length:], " \t")
	if first.text == "" {
		p.lines = p.lines[1:]
	}
	return taken
}

// headLinesAt returns the head, numbered as if it stood just before the line with this number.
func (p *piece) headLinesAt(number int) []sourceLine {
	lines := make([]sourceLine, len(p.head), len(p.head)+1)
	for i, text := range p.head {
		lines[i] = sourceLine{text, max(1, number-len(p.head)+i)}
	}
	return lines
}

// lineCut returns the offset at which to cut a line of more than room characters: after a sentence, else after a word, unless
// the part before would be tiny.
func lineCut(line string, room int) int {
	limit := runeOffset(line, room)
	minLength := limit / 3
	if sentence := lastSentence(line[:limit]); sentence > minLength {
		return sentence
	}
	if word := lastEnd(line[:limit], " ", "\t"); word > minLength {
		return word
	}
	return limit
}

// lastSentence returns the offset behind the last sentence that ends in text and the space that follows, or 0 if none does.
func lastSentence(text string) int {
	last := 0
	if !isASCII(text) {
		last = lastEnd(text, "。", "！", "？")
	}
	for end := len(text); ; {
		end = strings.LastIndexByte(text[:end], ' ')
		if end <= last {
			return last
		}
		if strings.IndexByte(".!?", text[end-1]) >= 0 {
			return end + 1
		}
	}
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

// sourceOf returns the source lines of b, from the beginning of its first line.
func sourceOf(b *block, text string) string {
	begin := strings.LastIndexByte(text[:b.start], '\n') + 1
	return strings.TrimRight(text[begin:b.end], "\r\n")
}

// splitLines returns the lines of source without those that are data: see withoutData. number is that of the first line.
func splitLines(source string, number int) []sourceLine {
	lines := make([]sourceLine, 0, 1+strings.Count(source, "\n"))
	for line := range strings.SplitSeq(source, "\n") {
		line = strings.TrimRight(line, "\r")
		cleaned := withoutData(line)
		if cleaned != "" || line == "" {
			lines = append(lines, sourceLine{cleaned, number})
		}
		number++
	}
	return lines
}

// fencePiece returns the piece of fenced code. Each part gets an opening and a closing fence.
func fencePiece(b *block, text string) piece {
	lines := splitLines(sourceOf(b, text), int(b.line))
	if len(lines) == 0 || lines[0].number > int(b.line) {
		return piece{lines: lines} // the opening fence is left out as data
	}
	prefix := linePrefix(b, text)
	p := piece{
		head:      []string{lines[0].text},
		laterHead: []string{prefix + lines[0].text[len(prefix):]},
		foot:      prefix + strings.Repeat(string(b.mark), int(b.length)),
		lines:     lines[1:],
	}
	if b.closed && len(p.lines) > 0 {
		p.lines = p.lines[:len(p.lines)-1]
	}
	return p
}

// linePrefix returns what the lines of b after the first begin with: the marks of quotes, and spaces for those of items.
func linePrefix(b *block, text string) string {
	begin := strings.LastIndexByte(text[:b.start], '\n') + 1
	return strings.Map(func(r rune) rune {
		if r == '>' || r == '\t' {
			return r
		}
		return ' '
	}, text[begin:b.start])
}

// tablePiece returns the piece of a table. Each part gets the head of the table, without its padding if it is long.
func tablePiece(b *block, text string) piece {
	lines := splitLines(withoutMarkup(sourceOf(b, text)), int(b.line))
	if len(lines) < 3 {
		return piece{lines: lines}
	}
	p := piece{
		head:  []string{lines[0].text, lines[1].text},
		lines: lines[2:],
	}
	if p.frame() > maxFrameRunes {
		p.head = []string{withoutPadding(lines[0].text), withoutPadding(lines[1].text)}
	}
	return p
}

// padding matches the spaces and dashes with which authors align the cells of a table.
var padding = regexp.MustCompile(` {2,}|-{4,}`)

// withoutPadding returns a row of a table without the padding of its cells.
func withoutPadding(row string) string {
	return padding.ReplaceAllStringFunc(row, func(run string) string {
		if run[0] == '-' {
			return "---"
		}
		return " "
	})
}

// blockLines returns the cleaned lines of b and of the blocks in it.
func blockLines(b *block, text string) []sourceLine {
	if b.kind.isContainer() {
		var lines []sourceLine
		for _, child := range b.children {
			more := blockLines(child, text)
			if len(lines) > 0 && len(more) > 0 && more[0].number > lines[len(lines)-1].number+1 {
				lines = append(lines, sourceLine{"", more[0].number - 1})
			}
			lines = append(lines, more...)
		}
		return lines
	}

	source := sourceOf(b, text)
	switch b.kind {
	case blockFence, blockIndented:
		return splitLines(source, int(b.line))
	case blockTemplate:
		if b.info == "comment" {
			return nil
		}
		if inner := templateLines(b, text); len(inner) > 0 {
			return splitLines(text[inner[0].start:inner[len(inner)-1].end], int(b.line)+1)
		}
	case blockHTML:
		if b.isHidden(source) {
			return nil
		}
	case blockDefinition, blockModule, blockRule:
		return nil
	default:
	}
	return withoutBlank(splitLines(withoutMarkup(source), int(b.line)))
}

// withoutBlank returns lines without those that have nothing to read.
func withoutBlank(lines []sourceLine) []sourceLine {
	kept := lines[:0]
	for _, line := range lines {
		if hasWords(withoutExpressions(line.text)) {
			kept = append(kept, line)
		}
	}
	return kept
}

// expression matches a template expression of Jekyll, MkDocs or Vue.
var expression = regexp.MustCompile(`\{\{[^{}\n]*\}\}`)

// withoutExpressions returns a line without template expressions. A line with a backtick stays, because it may show one.
func withoutExpressions(line string) string {
	if strings.Contains(line, "`") || !strings.Contains(line, "{{") {
		return line
	}
	return expression.ReplaceAllString(line, "")
}
