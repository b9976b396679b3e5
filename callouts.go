package main

// Callouts and footnotes as blocks: what MkDocs ("!!! note", "??? note", `=== "Tab"`), Docusaurus and VitePress
// (":::note"), pymdown's blocks ("/// note | Title") and footnotes ("[^1]: text") add to Markdown. They contain blocks.
// GitHub's callouts ("> [!NOTE]") are quotes: see alertType.

import (
	"regexp"
	"strings"
)

// calloutIndent is how far the content of a callout or footnote is indented.
const calloutIndent = 4

var (
	// indentedCallout is the head of a callout whose content is indented: marks, type, title.
	indentedCallout = regexp.MustCompile(`^(!!!|\?\?\?\+?)[ \t]+([A-Za-z][\w-]*)(?:[ \t]+[\w-]+)*(?:[ \t]+"([^"]*)")?[ \t]*$`)

	// indentedTab is the head of a tab.
	indentedTab = regexp.MustCompile(`^(===[!+]?)()[ \t]+"([^"]*)"[ \t]*$`)

	// fencedCallout is the head of a callout that ends with the same marks: marks, type, title.
	fencedCallout = regexp.MustCompile(`^(:{3,}|/{3,})[ \t]*\{?\.?([A-Za-z][\w-]*)\}?` +
		`(?:\[([^\]]*)\]|[ \t]+([^{}\n]*?))?[ \t]*(?:\{[^{}]*\})?[ \t]*$`)

	// calloutEnd is a line that ends a callout.
	calloutEnd = regexp.MustCompile(`(?m)^[ \t>]*(?::{3,}|/{3,})[ \t\r]*$`)

	// footnoteHead is the beginning of a footnote.
	footnoteHead = regexp.MustCompile(`^\[\^([^\[\]\s]{1,200})\]:`)
)

// maxHeadBytes bounds the head of a callout.
const maxHeadBytes = 1000

// startCallout begins a callout or a footnote.
func (p *blockParser) startCallout(begin func(*block) *block) bool {
	rest := p.rest()
	if rest[0] == '[' {
		return p.startFootnote(begin)
	}
	if len(rest) < 3 || rest[1] != rest[0] || rest[2] != rest[0] || len(rest) > maxHeadBytes {
		return false
	}

	isFenced := rest[0] == ':' || rest[0] == '/'
	heads := []*regexp.Regexp{indentedCallout, indentedTab}
	if isFenced {
		heads = []*regexp.Regexp{fencedCallout}
	}
	for _, head := range heads {
		found := head.FindStringSubmatchIndex(rest)
		if found == nil || isFenced && !p.hasCalloutEnd(rest[0]) {
			continue
		}
		marks := rest[found[2]:found[3]]
		b := begin(&block{
			kind:   blockCallout,
			mark:   rest[0],
			length: int32(len(marks)),
			indent: int32(p.indentation() + calloutIndent),
			info:   strings.ToLower(rest[found[4]:found[5]]),
			closed: marks == "???",
		})
		p.addTitle(b, found[6:])
		return true
	}
	return false
}

// addTitle adds the title of a callout as its first child. places are the offsets in the line at which it may be.
func (p *blockParser) addTitle(b *block, places []int) {
	for i := 0; i+1 < len(places); i += 2 {
		if places[i] < 0 || places[i] == places[i+1] {
			continue
		}
		title := p.rest()[places[i]:places[i+1]]
		trimmed := strings.TrimLeft(title, "| \t") // pymdown: "/// note | Title"
		begin := p.nonspace + places[i+1] - len(trimmed)
		if trimmed == "" {
			continue
		}
		b.titled = true
		b.children = append(b.children, &block{
			kind:  blockParagraph,
			line:  int32(p.number),
			start: int32(begin),
			end:   int32(p.next),
			lines: []span{{int32(begin), int32(p.nonspace + places[i+1]), 0}},
		})
		return
	}
}

// hasCalloutEnd reports whether a line after this one ends a callout with that mark.
func (p *blockParser) hasCalloutEnd(mark byte) bool {
	if p.lastEnds == nil {
		p.lastEnds = make(map[byte]int)
		for _, found := range calloutEnd.FindAllStringIndex(p.text[p.start:], -1) {
			line := strings.TrimSpace(p.text[p.start+found[0] : p.start+found[1]])
			p.lastEnds[line[len(line)-1]] = p.start + found[0]
		}
	}
	return p.next <= p.lastEnds[mark]
}

// continuesCallout reports whether the line belongs to an open callout.
func (p *blockParser) continuesCallout(b *block) (isOpen, isDone bool) {
	if b.mark != ':' && b.mark != '/' {
		return p.continuesIndented(b), false
	}
	rest := strings.TrimRight(p.rest(), " \t")
	isCode := p.open[len(p.open)-1].kind.isVerbatim()
	isEnd := len(rest) >= int(b.length) && strings.Trim(rest, string(b.mark)) == "" && p.indentation() < calloutIndent
	if !isEnd || isCode || p.isInnermost(b, len(rest)) {
		return true, false
	}
	for i, open := range p.open {
		if open == b {
			b.end = int32(p.next)
			p.closeTo(i)
			return false, true
		}
	}
	return false, true
}

// isInnermost reports whether a callout inside outer ends with a line of so many marks.
func (p *blockParser) isInnermost(outer *block, length int) bool {
	isInside := false
	for _, open := range p.open {
		if isInside && open.kind == blockCallout && open.mark == outer.mark && length >= int(open.length) {
			return true
		}
		isInside = isInside || open == outer
	}
	return false
}

// continuesIndented reports whether the line belongs to an open block whose content is indented.
func (p *blockParser) continuesIndented(b *block) bool {
	if !p.isBlank() && p.indentation() < int(b.indent) {
		return false
	}
	p.skipColumns(int(b.indent))
	return true
}

// startFootnote begins a footnote. Its text may begin on the same line.
func (p *blockParser) startFootnote(begin func(*block) *block) bool {
	found := footnoteHead.FindStringSubmatch(firstBytes(p.rest(), maxHeadBytes))
	if found == nil {
		return false
	}
	begin(&block{
		kind:   blockFootnote,
		info:   found[1],
		indent: int32(p.indentation() + calloutIndent),
	})
	p.skipMark(len(found[0]))
	if !p.isBlank() {
		paragraph := p.push(&block{kind: blockParagraph})
		paragraph.lines = append(paragraph.lines, p.textSpan())
	}
	return true
}

// alertHead is the first line of a quote that is a callout of GitHub.
var alertHead = regexp.MustCompile(`^\[!([A-Za-z]+)\][-+]?[ \t]*(.*)$`)

// alertType returns the type and the title of a quote that is a callout of GitHub or Obsidian, "" if it is none.
func alertType(quote *block, text string) (kind string, title span) {
	if len(quote.children) == 0 || quote.children[0].kind != blockParagraph {
		return "", span{}
	}
	line := quote.children[0].lines[0]
	found := alertHead.FindStringSubmatchIndex(firstBytes(text[line.start:line.end], maxHeadBytes))
	if found == nil {
		return "", span{}
	}
	title = span{
		start: line.start + int32(found[4]),
		end:   line.end,
	}
	return strings.ToLower(text[int(line.start)+found[2] : int(line.start)+found[3]]), title
}
