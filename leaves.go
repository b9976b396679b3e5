package main

// How blocks begin, and the blocks without children: headings, code, HTML, tables, and what MDX, Jekyll and Hugo add to
// Markdown. The rules are those of CommonMark 0.31 (https://spec.commonmark.org), those of tables GitHub's.
//
// A start function looks at the current line from its first character that is no space. It gets begin, which closes the
// blocks that the line does not continue and opens a new one. It reports whether a block has begun, and whether the
// line is consumed: if it is not, its rest may begin a block inside the new one.

import (
	"iter"
	"regexp"
	"strconv"
	"strings"
)

// startBlock begins a block at the place of the current line. The line belongs to the first *matched open blocks, and a new
// block raises that number. For indented code, started is false too, because no other block begins inside.
func (p *blockParser) startBlock(matched *int) (started, isDone bool) {
	tip := p.open[len(p.open)-1]
	container := p.open[*matched-1]
	if p.isBlank() {
		return false, false
	}
	if p.indentation() >= 4 {
		// Indented code does not interrupt a paragraph: the line continues it.
		canStart := tip.kind != blockParagraph && container.kind != blockTable
		if canStart {
			p.closeTo(*matched)
			p.skipColumns(4)
			p.push(&block{kind: blockIndented})
			*matched = len(p.open)
		}
		return false, false
	}

	if container.kind == blockParagraph && *matched == len(p.open) {
		if p.underline(container) || p.tableHead(container) {
			return true, true
		}
	}
	return p.startNew(matched, container)
}

// startNew begins a block that the next character announces.
func (p *blockParser) startNew(matched *int, container *block) (started, isDone bool) {
	rest := p.rest()
	begin := func(b *block) *block {
		p.closeTo(*matched)
		b = p.push(b)
		*matched = len(p.open)
		return b
	}
	isDeep := len(p.open) >= maxBlockDepth

	switch c := rest[0]; c {
	case '>':
		return !isDeep && p.startQuote(begin), false
	case '#':
		return p.startHeading(begin)
	case '`', '~':
		return p.startFence(begin)
	case '<':
		return p.startHTML(begin, container)
	case '{':
		return p.startTemplate(begin)
	case '!', '?', '=', ':', '/', '[':
		isStarted := !isDeep && p.startCallout(begin)
		return isStarted, isStarted
	case 'i', 'e':
		// MDX has imports and exports outside of other blocks only.
		isTop := *matched == 1 && container.kind == blockDocument
		if isTop && p.startModule(begin) {
			return true, true
		}
	}
	// Before the items of lists: "* * *" is a rule.
	if isRule(rest) {
		begin(&block{kind: blockRule})
		p.closeTo(len(p.open) - 1)
		return true, true
	}
	if isDeep {
		return false, false
	}
	return p.startItem(begin, container), false
}

// startQuote begins a quote.
func (p *blockParser) startQuote(begin func(*block) *block) bool {
	begin(&block{kind: blockQuote})
	p.skipQuoteMark()
	return true
}

// startModule begins a block of imports and exports.
func (p *blockParser) startModule(begin func(*block) *block) bool {
	if !moduleLine.MatchString(p.rest()) {
		return false
	}
	p.balance = 0
	b := begin(&block{kind: blockModule})
	p.addVerbatim(b)
	return true
}

// addVerbatim adds the rest of the line to a verbatim block. If the block ends with this line, addVerbatim closes it.
func (p *blockParser) addVerbatim(b *block) {
	b.lines = append(b.lines, p.span())
	b.end = int32(p.next)
	line := p.text[p.at:p.end]
	isEnd := false
	switch b.kind {
	case blockHTML:
		isEnd = b.level < 6 && endsHTML(b.level, line)
	case blockModule:
		// A module ends at a blank line outside of all brackets, so the open ones are counted.
		for _, c := range []byte(line) {
			switch c {
			case '(', '[', '{':
				p.balance++
			case ')', ']', '}':
				p.balance--
			}
		}
	case blockTemplate:
		isEnd = p.next >= p.until
	default: // code ends with its fence or its indentation
	}
	if isEnd {
		p.closeTo(len(p.open) - 1)
	}
}

// startHeading begins an ATX heading.
func (p *blockParser) startHeading(begin func(*block) *block) (started, isDone bool) {
	rest := p.rest()
	text := strings.TrimLeft(rest, "#")
	level := len(rest) - len(text)
	if level > 6 || text != "" && text[0] != ' ' && text[0] != '\t' {
		return false, false
	}

	b := begin(&block{
		kind:  blockHeading,
		level: uint8(level),
	})
	p.skipMark(level)
	s := p.textSpan()
	text = p.text[s.start:s.end]
	// Marks at the end close the heading only after a space.
	withoutMarks := strings.TrimRight(text, "#")
	if withoutMarks == "" || strings.HasSuffix(withoutMarks, " ") || strings.HasSuffix(withoutMarks, "\t") {
		s.end = s.start + int32(len(strings.TrimRight(withoutMarks, " \t")))
	}
	b.lines = []span{s}
	p.closeTo(len(p.open) - 1)
	return true, true
}

// underline turns a paragraph into a setext heading if the line underlines it: with "=" for level 1, "-" for level 2.
func (p *blockParser) underline(paragraph *block) bool {
	rest := strings.TrimRight(p.rest(), " \t")
	level := uint8(1)
	if rest[0] == '-' {
		level = 2
	}
	if rest[0] != '=' && rest[0] != '-' || strings.Trim(rest, rest[:1]) != "" {
		return false
	}

	parent := p.open[len(p.open)-2]
	p.takeDefinitions(paragraph, parent)
	if len(paragraph.lines) == 0 {
		// The paragraph had only definitions, so there is nothing to underline: the line is text.
		p.open = p.open[:len(p.open)-1]
		return false
	}
	paragraph.kind = blockHeading
	paragraph.level = level
	paragraph.end = int32(p.next)
	p.closeTo(len(p.open) - 1)
	return true
}

// startFence begins fenced code.
func (p *blockParser) startFence(begin func(*block) *block) (started, isDone bool) {
	rest := p.rest()
	info := strings.TrimLeft(rest, rest[:1])
	length := len(rest) - len(info)
	if length < 3 || rest[0] == '`' && strings.Contains(info, "`") {
		return false, false
	}
	// As much indentation is removed from the lines of the code.
	indent := p.indentation()
	begin(&block{
		kind:   blockFence,
		mark:   rest[0],
		length: int32(length),
		indent: int32(indent),
		info:   strings.TrimSpace(info),
	})
	return true, true
}

// continueFence reports whether the line is the closing fence of b. If it is not, continueFence skips as much
// indentation as the opening fence has.
func (p *blockParser) continueFence(b *block) bool {
	rest := strings.TrimRight(p.rest(), " \t")
	isClosing := p.indentation() < 4 && len(rest) >= int(b.length) && strings.Trim(rest, string(b.mark)) == ""
	if !isClosing {
		p.skipColumns(int(b.indent))
		return false
	}
	b.closed = true
	b.end = int32(p.next)
	p.closeTo(len(p.open) - 1)
	return true
}

// isRule reports whether a line is a thematic break: three or more of one mark, with spaces between them or without.
func isRule(line string) bool {
	if strings.IndexByte("*-_", line[0]) < 0 || strings.Trim(line, line[:1]+" \t") != "" {
		return false
	}
	return strings.Count(line, line[:1]) >= 3
}

// listMark is the mark of an item. Longer numbers are text, because some browsers overflow on them.
var listMark = regexp.MustCompile(`^(?:[-+*]|(\d{1,9})[.)])(?:[ \t]|$)`)

// maxListMark is longer than any listMark, so that a match of its beginning is one of the line.
const maxListMark = 12

// startItem begins an item, and a list if there is none with its mark.
func (p *blockParser) startItem(begin func(*block) *block, container *block) bool {
	rest := p.rest()
	found := listMark.FindStringSubmatch(firstBytes(rest, maxListMark))
	if found == nil {
		return false
	}

	number, _ := strconv.ParseInt(found[1], 10, 32)
	isOrdered := found[1] != ""
	width := len(found[1]) + 1
	isEmpty := isBlankText(rest[width:])
	// A line of a paragraph that happens to begin with "14." is no item.
	if container.kind == blockParagraph && (isEmpty || isOrdered && number != 1) {
		return false
	}

	mark := rest[width-1]
	if container.kind != blockList || container.mark != mark {
		begin(&block{
			kind:    blockList,
			mark:    mark,
			ordered: isOrdered,
			length:  int32(number),
		})
	}

	outer := p.indentation()
	item := begin(&block{kind: blockItem})
	p.skipMark(width)
	inner := p.indentation()
	// More than four columns are indented code, which begins one column after the mark.
	if inner > 4 || inner < 1 || isEmpty {
		inner = 1
	}

	p.skipColumns(inner)
	item.indent = int32(outer + width + inner)
	return true
}

// isHidden reports whether a block of HTML has nothing to read: code, a declaration or data.
func (b *block) isHidden(source string) bool {
	switch b.level {
	case 1:
		return isScript(source)
	case 3, 4, 5:
		return true
	}
	return false
}

// startHTML begins an HTML block.
func (p *blockParser) startHTML(begin func(*block) *block, container *block) (started, isDone bool) {
	kind := htmlKind(p.rest())
	// A line of any one tag does not interrupt a paragraph, because the tag may be within its text.
	isParagraph := container.kind == blockParagraph || p.open[len(p.open)-1].kind == blockParagraph
	if kind == 0 || kind == 7 && isParagraph {
		return false, false
	}
	b := begin(&block{
		kind:  blockHTML,
		level: kind,
	})
	p.addVerbatim(b)
	return true, true
}

// moduleLine is a line of MDX that imports or exports.
var moduleLine = regexp.MustCompile(`^(?:import\s+(?:['"{*]|\w+\s*(?:,\s*[{*].*)?\s+from\s+['"]|\w+\s*,\s*\{)|` +
	`export\s+(?:(?:const|let|var)\s+[\w{\[]|(?:default\s+)?(?:async\s+)?function\b|(?:default\s+)?class\s+\w+\s*[{e]|` +
	`default\s.*[({;=]|[{*]))`)

// templateTag is a tag of Jekyll or Hugo whose content is not Markdown: code, a diagram or a comment. That of Jekyll's
// "raw" is Markdown.
var templateTag = regexp.MustCompile(`^\{[{%][%<]?-?\s*(highlight|comment|mermaid)\b`)

// templateEnds are the end tags of templateTag, up to the end of the line.
var templateEnds = map[string]*regexp.Regexp{
	"highlight": templateEnd("highlight"),
	"comment":   templateEnd("comment"),
	"mermaid":   templateEnd("mermaid"),
}

func templateEnd(name string) *regexp.Regexp {
	return regexp.MustCompile(`\{[{%][%<]?-?\s*(?:end|/)` + name + `\b[^\n]*`)
}

// startTemplate begins a template block, if its end tag follows.
func (p *blockParser) startTemplate(begin func(*block) *block) (started, isDone bool) {
	found := templateTag.FindStringSubmatch(p.rest())
	if found == nil || p.unclosed[found[1]] {
		return false, false
	}
	end := templateEnds[found[1]].FindStringIndex(p.text[p.nonspace:])
	if end == nil {
		p.unclosed[found[1]] = true
		return false, false
	}

	p.until = p.nonspace + end[1]
	b := begin(&block{
		kind: blockTemplate,
		info: found[1],
	})
	p.addVerbatim(b)
	return true, true
}

// templateLines returns the lines between the tags of a template block. If these stand on one line, there are none.
func templateLines(b *block, text string) []span {
	inner := b.lines[1:]
	last := len(inner) - 1
	if last >= 0 && templateEnds[b.info].MatchString(text[inner[last].start:inner[last].end]) {
		inner = inner[:last]
	}
	return inner
}

// tableHead turns the last line of a paragraph into the head of a table if the line is a delimiter row
// with as many cells.
func (p *blockParser) tableHead(paragraph *block) bool {
	row := p.rest()
	n := len(paragraph.lines) // none, if all of them are link definitions
	if n == 0 || !isDelimiterRow(row) {
		return false
	}

	head := paragraph.lines[n-1]
	// Without a "|", a line of dashes is the underline of a heading.
	cells := countCells(p.text[head.start:head.end])
	if cells != countCells(row) || strings.IndexByte(p.text[head.start:head.end]+row, '|') < 0 {
		return false
	}

	delimiter := p.textSpan()
	if n > 1 { // the lines before the head stay a paragraph
		paragraph.lines = paragraph.lines[:n-1]
		paragraph.end = head.start
		table := p.push(&block{kind: blockTable})
		table.line-- // its head is on the line before this one
		table.start = head.start
		table.lines = []span{head, delimiter}
		return true
	}

	paragraph.kind = blockTable
	paragraph.lines = append(paragraph.lines, delimiter)
	paragraph.end = int32(p.next)
	return true
}

// isDelimiterRow reports whether a line is like "|:--|--:|". Its colons align the columns.
func isDelimiterRow(line string) bool {
	if strings.Trim(line, "|:- \t") != "" {
		return false
	}
	for cell := range tableCells(line) {
		dashes := strings.TrimPrefix(strings.TrimSuffix(cell, ":"), ":")
		if dashes == "" || strings.Trim(dashes, "-") != "" {
			return false
		}
	}
	return true
}

// tableCells yields the cells of a row of a table, which is split at each "|" that has no backslash before it. In a cell,
// such a pair is a "|".
func tableCells(row string) iter.Seq[string] {
	return func(yield func(string) bool) {
		row = strings.TrimSpace(row)
		row = strings.TrimPrefix(row, "|")
		begin := 0
		for i := range len(row) {
			isEnd := row[i] == '|' && (i == 0 || row[i-1] != '\\')
			if !isEnd {
				continue
			}
			if !yield(cellText(row[begin:i])) {
				return
			}
			begin = i + 1
		}
		if last := cellText(row[begin:]); last != "" || begin == 0 {
			yield(last)
		}
	}
}

// countCells returns the number of cells of a row.
func countCells(row string) int {
	n := 0
	for range tableCells(row) {
		n++
	}
	return n
}

// cellText returns the Markdown of a cell.
func cellText(cell string) string { return strings.ReplaceAll(strings.TrimSpace(cell), `\|`, "|") }
