package main

// Blocks without children as HTML: paragraphs, headings, code, tables, and what is left of raw HTML.

import (
	"html"
	"slices"
	"strconv"
	"strings"
)

// maxPaddedCells is how many cells a page adds to rows of tables that are too short.
const maxPaddedCells = 10_000

// beginBlock opens the element of a block.
func (r *renderer) beginBlock(b *block, name string, attributes ...string) {
	line := strconv.Itoa(int(b.line))
	attributes = append(attributes, "data-line", line)
	if b == r.marked && b.kind != blockTable && b.kind != blockDocument {
		attributes = append(attributes, "data-marked", strconv.Itoa(r.line))
	}
	r.begin(name, attributes...)
}

// paragraph writes a paragraph. One that has only comments is left out.
func (r *renderer) paragraph(b *block, text string) {
	before := r.out.Len()
	r.beginBlock(b, "p")
	begun := r.out.Len()
	r.inlines(text)
	r.end()
	if r.out.Len() == begun+len("</p>") {
		r.out.Truncate(before)
		return
	}
	r.newline()
}

// inlineText returns the text of lines with the spaces at the ends of all but the last one, which may be hard breaks.
func (r *renderer) inlineText(lines []span) string {
	if len(lines) == 1 {
		return r.source[lines[0].start:lines[0].end]
	}
	var out strings.Builder
	for i, s := range lines {
		end := int(s.end)
		if i < len(lines)-1 {
			end += strings.IndexByte(r.source[end:], '\n')
			end = max(int(s.end), int(s.start)+len(strings.TrimRight(r.source[s.start:end], "\r")))
		}
		out.WriteString(r.source[s.start:end])
		if i < len(lines)-1 {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// heading writes a heading. Those at the top level have the slug of their passages as id, and a link to themselves.
func (r *renderer) heading(b *block) {
	h := r.headings[b]
	name := "h" + strconv.Itoa(int(b.level))
	r.beginBlock(b, name, "id", h.slug)
	r.inlines(r.inlineText(b.lines))
	if h.slug != "" {
		r.element("a", "#",
			"class", "anchor",
			"href", "#"+h.slug,
			"aria-label", "Link to “"+h.words+"”")
	}
	r.end()
	r.newline()
}

// codeOf returns the code of a fence or of indented code.
func codeOf(b *block, text string) string {
	code := b.content(text)
	if len(b.lines) > 0 {
		code += "\n"
	}
	return code
}

// code writes a block of code in a language, which is the first word of info.
func (r *renderer) code(b *block, info, code string) {
	language := ""
	if words := strings.Fields(unescape(info)); len(words) > 0 {
		language = "language-" + strings.Trim(words[0], "{}.")
	}
	r.beginBlock(b, "pre", "tabindex", "0")
	r.element("code", code, "class", language)
	r.end()
	r.newline()
}

// template writes a block of Jekyll or Hugo: the code in it, without its tags.
func (r *renderer) template(b *block) {
	if b.info == "comment" || len(b.lines) < 2 {
		return
	}
	inner := *b
	inner.lines = templateLines(b, r.source)
	r.code(b, "", codeOf(&inner, r.source))
}

// table writes a table with the alignment of its columns.
func (r *renderer) table(b *block) {
	var alignments []string
	for cell := range tableCells(r.lineText(b.lines[1])) {
		alignments = append(alignments, alignment(cell))
	}

	r.begin("div",
		"class", "table",
		"role", "region",
		"aria-label", "Table",
		"tabindex", "0")
	r.beginBlock(b, "table")
	r.newline()
	r.begin("thead")
	r.newline()
	r.row(b, 0, "th", alignments)
	r.end()
	r.newline()
	if len(b.lines) > 2 {
		r.begin("tbody")
		r.newline()
		for i := 2; i < len(b.lines); i++ {
			r.row(b, i, "td", alignments)
		}
		r.end()
		r.newline()
	}
	r.end()
	r.end()
	r.newline()
}

// alignment returns the alignment that a cell of the delimiter row gives its column.
func alignment(cell string) string {
	isLeft := strings.HasPrefix(cell, ":")
	isRight := strings.HasSuffix(cell, ":")
	switch {
	case isLeft && isRight:
		return "center"
	case isRight:
		return "right"
	case isLeft:
		return "left"
	}
	return ""
}

// row writes the row in line i of a table. A row has as many cells as the table has columns.
func (r *renderer) row(b *block, i int, name string, alignments []string) {
	number := int(b.line) + i
	marked := ""
	isLast := i == len(b.lines)-1
	if b == r.marked && (number == r.line || isLast && number < r.line) {
		marked = strconv.Itoa(r.line)
	}
	r.begin("tr", "data-line", strconv.Itoa(number), "data-marked", marked)
	r.newline()
	cells := slices.Collect(tableCells(r.lineText(b.lines[i])))
	for column, align := range alignments {
		cell := ""
		switch {
		case column < len(cells):
			cell = cells[column]
		case r.padded < maxPaddedCells:
			r.padded++
		default: // a few short rows of a very wide table would make a page of any length
			r.end()
			r.newline()
			return
		}
		r.begin(name, "align", align)
		r.inlines(cell)
		r.end()
		r.newline()
	}
	r.end()
	r.newline()
}

func (r *renderer) lineText(s span) string { return r.source[s.start:s.end] }

// rawHTML writes what is left of a block of HTML: its text, as Markdown, and the elements that fold.
func (r *renderer) rawHTML(b *block) {
	source := b.content(r.source)
	if b.isHidden(source) {
		return
	}
	isCode := b.level == 1 // <pre>, for instance
	if isCode {
		code := html.UnescapeString(withoutMarkup(source))
		r.code(b, "", strings.TrimLeft(code, "\n")+"\n")
		return
	}

	for _, piece := range htmlPieces(source) {
		r.htmlText(b, piece.text)
		r.fold(b, piece.tag)
	}
}

// htmlPiece is text in a block of HTML, and the tag that ends it.
type htmlPiece struct {
	text string
	tag  string // "" at the end of the block
}

// htmlPieces splits the source of a block of HTML at the tags that separate words.
func htmlPieces(source string) []htmlPiece {
	var pieces []htmlPiece
	unclosed := make(map[string]bool)
	begin := 0
	at := 0
	for {
		next := strings.IndexByte(source[at:], '<')
		if next < 0 {
			return append(pieces, htmlPiece{text: source[begin:]})
		}
		at += next
		n := max(1, invisibleLength(source[at:], unclosed))
		tag := source[at : at+n]
		name, _ := elementName(tag)
		if n > 1 && separatesWords(tag) && name != "br" {
			pieces = append(pieces, htmlPiece{source[begin:at], tag})
			begin = at + n
		}
		at += n
	}
}

// htmlText writes text between tags.
func (r *renderer) htmlText(b *block, text string) {
	text = strings.TrimSpace(text)
	if text == "" {
		return
	}
	isSummary := len(r.open) > 0 && r.open[len(r.open)-1] == "summary"
	if isSummary {
		r.inlines(text)
		return
	}
	r.paragraph(b, text)
}

// fold begins or ends the element of a tag, if it folds. An end tag without a beginning is left out.
func (r *renderer) fold(b *block, tag string) {
	name, _ := elementName(tag)
	isEnd := strings.HasPrefix(tag, "</")
	if name != "details" && name != "summary" {
		return
	}
	if !isEnd {
		if name == "summary" && (len(r.open) == 0 || r.open[len(r.open)-1] != "details") {
			return
		}
		r.beginBlock(b, name)
		return
	}
	for i := len(r.open) - 1; i >= 0; i-- {
		switch r.open[i] {
		case name:
			r.endTo(i)
			return
		case "details", "summary":
		default:
			return
		}
	}
}
