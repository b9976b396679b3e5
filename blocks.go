package main

// The block structure of Markdown: a tree of blocks over the text, which the chunks and the pages of
// documents share. It follows CommonMark 0.31 (https://spec.commonmark.org, appendix "A parsing
// strategy"), GitHub's tables, and the lines of MDX, Jekyll and Hugo that are not text: see leaves.go.
// Parsing takes linear time: every line visits its open containers, and these are at most maxBlockDepth.

import "strings"

// parseBlocks parses text from offset at to the end.
func parseBlocks(text string, at int) *block {
	root := &block{
		kind:  blockDocument,
		start: int32(at),
		line:  1 + int32(strings.Count(text[:at], "\n")),
	}
	p := blockParser{
		text:     text,
		open:     []*block{root},
		number:   int(root.line) - 1,
		next:     at,
		unclosed: make(map[string]bool),
	}
	for p.next < len(text) {
		p.beginLine()
		p.addLine()
	}
	p.closeTo(0)
	root.end = int32(len(text))
	return root
}

// beginLine goes to the next line.
func (p *blockParser) beginLine() {
	p.number++
	p.start = p.next
	p.next = lineEnd(p.text, p.start)
	p.end = p.start + len(strings.TrimRight(p.text[p.start:p.next], "\r\n"))
	p.at = p.start
	p.column = 0
	p.pad = 0
	p.findNonspace()
}

// addLine adds the current line to the tree.
func (p *blockParser) addLine() {
	matched := 1
	for matched < len(p.open) {
		isOpen, isDone := p.continues(p.open[matched])
		if isDone {
			return
		}
		if !isOpen {
			break
		}
		matched++
	}

	if !p.open[matched-1].kind.isVerbatim() && p.count < maxBlocks {
		for {
			started, isDone := p.startBlock(&matched)
			if isDone {
				return
			}
			if !started {
				break
			}
		}
	}

	tip := p.open[len(p.open)-1]
	isLazy := matched < len(p.open) && tip.kind == blockParagraph && !p.isBlank()
	if isLazy {
		tip.lines = append(tip.lines, p.textSpan())
		tip.end = int32(p.next)
		return
	}
	p.closeTo(matched)
	p.markBlank()
	p.addContent()
}

// addContent adds the rest of the line to the innermost open block, or to a new paragraph in it.
func (p *blockParser) addContent() {
	tip := p.open[len(p.open)-1]
	switch {
	case tip.kind.isVerbatim():
		p.addVerbatim(tip)
	case tip.kind.isContainer() && !p.isBlank():
		tip = p.push(&block{kind: blockParagraph})
		tip.lines = append(tip.lines, p.textSpan())
	case !tip.kind.isContainer():
		tip.lines = append(tip.lines, p.textSpan())
		tip.end = int32(p.next)
	}
}

// markBlank notes which blocks end with a blank line: see isLoose.
func (p *blockParser) markBlank() {
	last := len(p.open) - 1
	tip := p.open[last]
	if n := len(tip.children); p.isBlank() && n > 0 {
		tip.children[n-1].endBlank = true
	}
	isNewItem := tip.kind == blockItem && len(tip.children) == 0 && int(tip.line) == p.number
	tip.endBlank = p.isBlank() && tip.kind != blockQuote && tip.kind != blockFence && !isNewItem
	for _, b := range p.open[:last] {
		b.endBlank = false
	}
}

// continues consumes what the current line must have to continue the open block b. isDone means that
// the line has been consumed.
func (p *blockParser) continues(b *block) (isOpen, isDone bool) {
	switch b.kind {
	case blockQuote:
		return p.skipQuoteMark(), false
	case blockList:
		return true, false
	case blockItem:
		return p.continuesItem(b), false
	case blockCallout:
		return p.continuesCallout(b)
	case blockFootnote:
		return p.continuesIndented(b), false
	case blockFence:
		return true, p.continueFence(b)
	case blockIndented:
		isOpen = p.indentation() >= 4 || p.isBlank()
		p.skipColumns(4)
		return isOpen, false
	case blockHTML:
		return !p.isBlank() || b.level < 6, false
	case blockModule:
		return !p.isBlank() || p.balance > 0, false
	case blockTemplate:
		return p.start < p.until, false
	case blockParagraph, blockTable:
		return !p.isBlank(), false
	default:
		return false, false
	}
}

func (p *blockParser) continuesItem(b *block) bool {
	if p.isBlank() {
		p.skipColumns(int(b.indent))
		return len(b.children) > 0
	}
	if p.indentation() < int(b.indent) {
		return false
	}
	p.skipColumns(int(b.indent))
	return true
}
