package main

// The tree of the blocks of a Markdown text, and the state of its parser: a place in the current line,
// and the blocks that are open.

import (
	"regexp"
	"strings"
)

const (
	maxBlockDepth  = 64      // blocks that are nested deeper are text
	maxBlocks      = 1 << 18 // the text after so many blocks belongs to the last one
	maxDefinitions = 20_000  // further ones are text, because each costs a search of an expression
)

type blockKind uint8

const (
	blockDocument blockKind = iota
	blockQuote
	blockList // its children are items
	blockItem
	blockCallout  // a note, warning or tab; its title is its first child
	blockFootnote // its info is the label

	blockParagraph
	blockHeading  // its lines are the text without the marks
	blockFence    // its lines are the code without the fences
	blockIndented // indented code
	blockHTML
	blockRule       // a thematic break
	blockTable      // its lines are the head, the delimiter row and the body
	blockDefinition // link reference definitions
	blockModule     // import and export of MDX
	blockTemplate   // a tag of Jekyll or Hugo that is not Markdown, up to its end tag
)

// block is a node of the tree.
type block struct {
	kind blockKind

	// level is that of a heading, 1 to 6, or of HTML the kind in CommonMark, 1 to 7.
	level uint8

	// mark is that of a list, "-", "+", "*", "." or ")", of a fence, "`" or "~", or of a callout, "!", "?", "=", ":" or "/".
	mark byte

	ordered bool // a list with numbers
	loose   bool // a list whose paragraphs are set apart
	closed  bool // a fence with a closing fence, or a callout that is folded
	titled  bool // a callout whose first child is its title

	endBlank bool // the last line is blank

	// indent is the number of columns before the content of an item, or before a fence.
	indent int32

	// length is the number of marks of a fence or callout, or the first number of an ordered list.
	length int32

	line  int32 // number of the first line, from 1
	start int32 // offset of the first line's content in the text
	end   int32 // offset after the last line

	// info is the info string of a fence, the name of a template's tag, the type of a callout, or the label of a footnote.
	info string

	lines    []span   // the content of a block without children
	children []*block // of a document, quote, list or item
}

// span is a part of a line. Its offsets are those in the text.
type span struct {
	start int32
	end   int32
	pad   int32 // spaces before it, which are the rest of a tab
}

// content returns the lines of b in text, joined by newlines.
func (b *block) content(text string) string {
	var out strings.Builder
	for i, s := range b.lines {
		if i > 0 {
			out.WriteByte('\n')
		}
		for range s.pad {
			out.WriteByte(' ')
		}
		out.WriteString(text[s.start:s.end])
	}
	return out.String()
}

// isContainer reports whether blocks of this kind have children instead of lines.
func (k blockKind) isContainer() bool { return k <= blockFootnote }

// isVerbatim reports whether each line of an open block of this kind belongs to it, whatever it is.
func (k blockKind) isVerbatim() bool {
	switch k {
	case blockFence, blockIndented, blockHTML, blockModule, blockTemplate:
		return true
	default:
		return false
	}
}

// blockParser parses text line by line.
type blockParser struct {
	text  string
	open  []*block // the blocks that the next line may continue, from the document to the innermost
	count int      // of blocks

	definitions int // link definitions found so far

	// The current line.
	number int
	start  int // its offset
	end    int // offset of its line end
	next   int // offset of the next line

	// The place in the line.
	at          int
	column      int
	pad         int // columns of a tab before at that are left
	nonspace    int // offset of the first character from at that is no space
	nonspaceCol int

	balance  int             // of an open module: brackets that are open
	until    int             // of an open template: offset of its end
	unclosed map[string]bool // names of template tags without an end tag
	lastEnds map[byte]int    // by mark: offset of the last line that ends a callout; nil before the first one
}

// findNonspace finds the next character that is no space.
func (p *blockParser) findNonspace() {
	p.nonspace = p.at
	p.nonspaceCol = p.column + p.pad
	for p.nonspace < p.end {
		switch p.text[p.nonspace] {
		case ' ':
			p.nonspaceCol++
		case '\t':
			p.nonspaceCol += 4 - p.nonspaceCol%4
		default:
			return
		}
		p.nonspace++
	}
}

// indentation is the number of columns before the next character that is no space.
func (p *blockParser) indentation() int { return p.nonspaceCol - p.column }

func (p *blockParser) isBlank() bool { return p.nonspace == p.end }

// rest returns the line from the next character that is no space.
func (p *blockParser) rest() string { return p.text[p.nonspace:p.end] }

// skipColumns skips up to n columns of spaces.
func (p *blockParser) skipColumns(n int) {
	for n > 0 && (p.pad > 0 || p.at < p.nonspace) {
		if p.pad == 0 {
			p.pad = 1
			if p.text[p.at] == '\t' {
				p.pad = 4 - p.column%4
			}
			p.at++
		}
		skipped := min(n, p.pad)
		p.pad -= skipped
		p.column += skipped
		n -= skipped
	}
}

// skipMark skips the spaces before the next n characters, and these.
func (p *blockParser) skipMark(n int) {
	p.at = p.nonspace + n
	p.column = p.nonspaceCol + n
	p.pad = 0
	p.findNonspace()
}

// span returns the rest of the line.
func (p *blockParser) span() span { return span{int32(p.at), int32(p.end), int32(p.pad)} }

// textSpan returns the rest of the line without the spaces around it.
func (p *blockParser) textSpan() span {
	trimmed := strings.TrimRight(p.rest(), " \t")
	return span{int32(p.nonspace), int32(p.nonspace + len(trimmed)), 0}
}

// skipQuoteMark skips ">" and a space after it.
func (p *blockParser) skipQuoteMark() bool {
	if p.indentation() > 3 || p.isBlank() || p.text[p.nonspace] != '>' {
		return false
	}
	p.skipMark(1)
	p.skipColumns(1)
	return true
}

// push opens a block at the place of the line, in the innermost open block that can contain it.
func (p *blockParser) push(b *block) *block {
	last := len(p.open) - 1
	for !canContain(p.open[last].kind, b.kind) {
		last--
	}
	p.closeTo(last + 1)

	b.line = int32(p.number)
	b.start = int32(p.nonspace)
	b.end = int32(p.next)
	parent := p.open[last]
	parent.children = append(parent.children, b)
	p.open = append(p.open, b)
	p.count++
	return b
}

func canContain(outer, inner blockKind) bool {
	switch outer {
	case blockList:
		return inner == blockItem
	case blockDocument, blockQuote, blockItem, blockCallout, blockFootnote:
		return inner != blockItem
	default:
		return false
	}
}

// closeTo closes the open blocks but for the first n.
func (p *blockParser) closeTo(n int) {
	for len(p.open) > n {
		last := len(p.open) - 1
		b := p.open[last]
		p.open = p.open[:last]
		if last > 0 {
			p.finish(b, p.open[last-1])
		}
	}
}

// finish completes a block that is closed.
func (p *blockParser) finish(b, parent *block) {
	switch b.kind {
	case blockParagraph:
		p.takeDefinitions(b, parent)
	case blockList:
		b.loose = isLoose(b)
	case blockIndented:
		last := len(b.lines) - 1 // the first line is not blank
		for last > 0 && isBlankText(p.text[b.lines[last].start:b.lines[last].end]) {
			last--
		}
		b.lines = b.lines[:last+1]
		b.end = int32(lineEnd(p.text, int(b.lines[last].end)))
	default: // complete
	}
	parent.end = max(parent.end, b.end)
}

func isBlankText(s string) bool { return strings.Trim(s, " \t\r\n") == "" }

// isLoose reports whether blank lines separate the items of a list, or the children of one.
func isLoose(list *block) bool {
	for i, item := range list.children {
		isLast := i == len(list.children)-1
		if endsBlank(item) && !isLast {
			return true
		}
		for j, child := range item.children {
			isEnd := isLast && j == len(item.children)-1
			if endsBlank(child) && !isEnd {
				return true
			}
		}
	}
	return false
}

// endsBlank reports whether the last line of b, or of the items at its end, is blank.
func endsBlank(b *block) bool {
	for !b.endBlank {
		if b.kind != blockList && b.kind != blockItem || len(b.children) == 0 {
			return false
		}
		b = b.children[len(b.children)-1]
	}
	return true
}

// definition is a link reference definition. Its label may not begin with "^": that is a footnote.
var definition = regexp.MustCompile(`^\[((?:[^\[\]\\^]|\\.)(?:[^\[\]\\]|\\.)*)\]:[ \t]*\n?[ \t]*` +
	`(<(?:[^<>\\\n]|\\.)*>|[^\s<]\S*)` +
	`(?:(?:[ \t]*\n[ \t]*|[ \t]+)("(?:[^"\\]|\\[^\n]|\\\n)*"|'(?:[^'\\]|\\[^\n]|\\\n)*'|` +
	`\((?:[^()\\]|\\[^\n]|\\\n)*\))[ \t]*(?:\n|$)|[ \t]*(?:\n|$))`)

// takeDefinitions moves the link definitions at the beginning of a paragraph, the last child of
// parent, to a block before it. A paragraph of which nothing is left is dropped.
func (p *blockParser) takeDefinitions(paragraph, parent *block) {
	if len(paragraph.lines) == 0 || p.text[paragraph.lines[0].start] != '[' {
		return
	}
	content := paragraph.content(p.text)
	rest := content
	for strings.HasPrefix(rest, "[") && p.definitions < maxDefinitions {
		n := definitionLength(rest)
		if n == 0 {
			break
		}
		rest = rest[n:]
		p.definitions++
	}
	taken := strings.Count(content[:len(content)-len(rest)], "\n")
	if rest == "" {
		taken = len(paragraph.lines)
	}
	if taken == 0 {
		return
	}

	definitions := *paragraph
	definitions.kind = blockDefinition
	definitions.lines = paragraph.lines[:taken]
	last := len(parent.children) - 1
	if taken == len(paragraph.lines) {
		paragraph.lines = nil
		parent.children[last] = &definitions
		return
	}
	paragraph.lines = paragraph.lines[taken:]
	paragraph.line += int32(taken)
	paragraph.start = paragraph.lines[0].start
	definitions.end = paragraph.start
	parent.children = append(parent.children[:last], &definitions, paragraph)
}

// definitionLength returns the length of the link definition that s begins with, or 0.
func definitionLength(s string) int {
	found := definition.FindStringSubmatchIndex(s)
	if found == nil || strings.TrimSpace(s[found[2]:found[3]]) == "" {
		return 0
	}
	return found[1]
}
