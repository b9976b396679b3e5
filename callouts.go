package main

// Callouts and footnotes as blocks: what MkDocs ("!!! note", "??? note", `=== "Tab"`), Docusaurus and VitePress
// (":::note"), pymdown's blocks ("/// note | Title") and footnotes ("[^1]: text") add to Markdown. They contain blocks.
// GitHub's callouts ("> [!NOTE]") are quotes: see alertType.

import (
	"regexp"
	"slices"
	"strings"
)

// calloutIndent is how far the content of a callout or footnote is indented.
const calloutIndent = 4

var (
	// indentedCallout is the head of a callout whose content is indented: marks, type, title.
	indentedCallout = regexp.MustCompile(
		`^(!!!|\?\?\?\+?)[ \t]+([A-Za-z][\w-]*)` +
			`(?:[ \t]+[\w-]+)*(?:[ \t]+"([^"]*)")?[ \t]*$`)

	// indentedTab is the head of a tab. Its type is empty.
	indentedTab = regexp.MustCompile(
		`^(===[!+]?)()[ \t]+"([^"]*)"[ \t]*$`)

	// fencedCallout is the head of a callout that ends with the same marks: marks, type, title.
	fencedCallout = regexp.MustCompile(
		`^(:{3,}|/{3,})[ \t]*\{?\.?([A-Za-z][\w-]*)\}?` +
			`(?:\[([^\]]*)\]|[ \t]+([^{}\n]*?))?` +
			`[ \t]*(?:\{[^{}]*\})?[ \t]*$`)

	// calloutEnd is a line that ends a callout.
	calloutEnd = regexp.MustCompile(
		`(?m)^[ \t>]*(?::{3,}|/{3,})[ \t\r]*$`)

	// footnoteHead is the beginning of a footnote.
	footnoteHead = regexp.MustCompile(
		`^\[\^([^\[\]\s]{1,200})\]:`)
)

// maxHeadBytes bounds the head of a callout.
const maxHeadBytes = 1000

// startCallout begins a callout or a footnote.
func (p *blockParser) startCallout(begin func(*block) *block) bool {
	rest := p.rest()
	if rest[0] == '[' {
		return p.startFootnote(begin)
	}
	mark := rest[0]
	if len(rest) < 3 || rest[1] != mark || rest[2] != mark || len(rest) > maxHeadBytes {
		return false
	}

	isFenced := mark == ':' || mark == '/'
	heads := []*regexp.Regexp{indentedCallout, indentedTab}
	if isFenced {
		heads = []*regexp.Regexp{fencedCallout}
	}
	for _, head := range heads {
		found := head.FindStringSubmatchIndex(rest)
		if found == nil || isFenced && !p.hasCalloutEnd(mark) {
			continue
		}

		marks := rest[found[2]:found[3]]
		b := begin(&block{
			kind:   blockCallout,
			mark:   mark,
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

// addTitle adds the title of a callout as its first child. groups are the groups of the head's expression in which the
// title may be, as pairs of offsets in the line. A group that did not match has the offset -1.
func (p *blockParser) addTitle(b *block, groups []int) {
	for pair := range slices.Chunk(groups, 2) {
		if pair[0] < 0 {
			continue
		}
		title := p.rest()[pair[0]:pair[1]]
		// pymdown writes "/// note | Title".
		title = strings.TrimLeft(title, "| \t")
		if title == "" {
			continue
		}

		end := p.nonspace + pair[1]
		begin := end - len(title)
		place := span{
			start: int32(begin),
			end:   int32(end),
		}
		b.titled = true
		b.children = append(b.children, &block{
			kind:  blockParagraph,
			line:  int32(p.number),
			start: int32(begin),
			end:   int32(p.next),
			lines: []span{place},
		})
		return
	}
}

// hasCalloutEnd reports whether a line after this one ends a callout with that mark.
func (p *blockParser) hasCalloutEnd(mark byte) bool {
	if p.lastEnds == nil {
		// The whole text is searched once. Otherwise many callouts without an end would take quadratic time.
		p.lastEnds = make(map[byte]int)
		text := p.text[p.start:]
		for _, found := range calloutEnd.FindAllStringIndex(text, -1) {
			line := strings.TrimSpace(text[found[0]:found[1]])
			last := line[len(line)-1]
			p.lastEnds[last] = p.start + found[0]
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
	innermost := p.open[len(p.open)-1]
	isCode := innermost.kind.isVerbatim()
	isEnd := len(rest) >= int(b.length) &&
		strings.Trim(rest, string(b.mark)) == "" &&
		p.indentation() < calloutIndent
	if !isEnd || isCode || p.endsInner(b, len(rest)) {
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

// endsInner reports whether a line of length marks ends a callout inside outer.
func (p *blockParser) endsInner(outer *block, length int) bool {
	inside := p.open[slices.Index(p.open, outer)+1:]
	return slices.ContainsFunc(inside, func(open *block) bool {
		return open.kind == blockCallout &&
			open.mark == outer.mark &&
			length >= int(open.length)
	})
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
	rest := firstBytes(p.rest(), maxHeadBytes)
	found := footnoteHead.FindStringSubmatch(rest)
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
var alertHead = regexp.MustCompile(
	`^\[!([A-Za-z]+)\][-+]?[ \t]*(.*)$`)

// alertType returns the type and the title of a quote that is a callout of GitHub or Obsidian, "" if it is none.
func alertType(quote *block, text string) (kind string, title span) {
	if len(quote.children) == 0 || quote.children[0].kind != blockParagraph {
		return "", span{}
	}
	place := quote.children[0].lines[0]
	line := text[place.start:place.end]
	found := alertHead.FindStringSubmatchIndex(firstBytes(line, maxHeadBytes))
	if found == nil {
		return "", span{}
	}
	title = span{
		start: place.start + int32(found[4]),
		end:   place.end,
	}
	return strings.ToLower(line[found[2]:found[3]]), title
}
