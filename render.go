package main

// Documents as HTML: each block of a document becomes an element with the number of its line. Passages are made of the
// same tree of blocks, so that a page shows what a search finds.

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxRenderedBytes is the length of the longest text that is rendered. A longer one is shown as its source, because
// browsers are slow with so many elements.
const maxRenderedBytes = 2 << 20

// rendered is a document as HTML.
type rendered struct {
	html     string // safe to put into a page: see markup
	headings []heading
	hasTitle bool // a heading has the words of the title
}

// renderInput is a text to render.
type renderInput struct {
	text  string
	start int    // where the front matter ends
	title string // of the page: see raiseTitle
}

// renderMarkdown renders a Markdown text. It marks the block that has the line, if line is not 0.
func renderMarkdown(d renderInput, line int, to targets) rendered {
	root := parseBlocks(d.text, d.start)
	r := &renderer{
		markup:   new(markup),
		source:   d.text,
		notes:    collectNotes(root, d.text),
		targets:  to,
		headings: headings(root, d.text),
		line:     line,
	}
	if line > 0 {
		r.marked = blockAt(root, line)
	}

	// Before the headings are written: it changes the level of one.
	hasTitle := r.raiseTitle(root, d.title)
	r.children(root)
	r.footnotes()

	return rendered{
		html:     r.out.String(),
		headings: topHeadings(root, r.headings),
		hasTitle: hasTitle,
	}
}

// raiseTitle sets the level of the first heading with the words of the title to 1, so that the page has one heading of
// that level. It reports whether there is such a heading.
func (r *renderer) raiseTitle(root *block, title string) bool {
	for _, b := range root.children {
		h, isHeading := r.headings[b]
		if isHeading && h.words == title {
			h.level = 1
			b.level = 1
			r.headings[b] = h
			return true
		}
	}
	return false
}

// blockAt returns the innermost block that has a line, or the last one before it.
func blockAt(b *block, line int) *block {
	for {
		var inner *block
		for _, child := range b.children {
			if int(child.line) <= line {
				inner = child
			}
		}
		if inner == nil {
			return b
		}
		b = inner
	}
}

// markInstead marks b if the block to mark is one of its paragraphs without an element of its own.
func (r *renderer) markInstead(b *block, paragraphs []*block) {
	if r.marked != nil && r.marked.kind == blockParagraph && slices.Contains(paragraphs, r.marked) {
		r.marked = b
	}
}

// children writes the blocks in b.
func (r *renderer) children(b *block) {
	depth := len(r.open)
	for _, child := range b.children {
		r.block(child)
	}
	r.endTo(depth)
}

// block writes a block. In elements that are nested too deeply, it writes the source of the block as text.
func (r *renderer) block(b *block) {
	if r.isDeep() {
		r.element("p", b.content(r.source))
		return
	}

	switch b.kind {
	case blockQuote:
		r.quote(b)
	case blockList:
		r.list(b)
	case blockCallout:
		r.callout(b)
	case blockParagraph:
		r.paragraph(b, r.inlineText(b.lines))
	case blockHeading:
		r.heading(b)
	case blockFence:
		r.code(b, b.info, codeOf(b, r.source))
	case blockIndented:
		r.code(b, "", codeOf(b, r.source))
	case blockHTML:
		r.rawHTML(b)
	case blockRule:
		r.void("hr")
		r.newline()
	case blockTable:
		r.table(b)
	case blockTemplate:
		r.template(b)
	default: // definitions, footnotes and modules are not shown where they stand
	}
}

// quote writes a quote, or a callout of GitHub, whose first line is its type and title.
func (r *renderer) quote(b *block) {
	kind, title := alertType(b, r.source)
	if kind == "" {
		r.beginBlock(b, "blockquote")
		r.newline()
		r.children(b)
		r.end()
		r.newline()
		return
	}

	// Copies without the first line, because the tree stays as it is.
	first := *b.children[0]
	first.lines = first.lines[1:]
	rest := *b
	rest.children = b.children[1:]
	r.markInstead(b, b.children[:1])
	r.beginCallout(b, kind, r.source[title.start:title.end], false)
	if len(first.lines) > 0 {
		r.block(&first)
	}

	r.children(&rest)
	r.end()
	r.newline()
}

// taskMark is the box of a task at the beginning of an item.
var taskMark = regexp.MustCompile(`^\[([ xX])\][ \t]+`)

// list writes a list. In a tight list, the paragraphs of the items have no elements.
func (r *renderer) list(b *block) {
	name := "ul"
	first := ""
	if b.ordered {
		name = "ol"
		if b.length != 1 {
			first = strconv.Itoa(int(b.length))
		}
	}

	r.beginBlock(b, name, "start", first)
	r.newline()
	for _, item := range b.children {
		r.item(item, b.loose)
	}

	r.end()
	r.newline()
}

// taskOf returns the box of a task that an item begins with, or "".
func (r *renderer) taskOf(item *block) string {
	if len(item.children) == 0 || item.children[0].kind != blockParagraph {
		return ""
	}
	line := item.children[0].lines[0]
	return taskMark.FindString(r.source[line.start:line.end])
}

// item writes an item of a list. The ends of lines are those of CommonMark's reference implementation, so that its
// examples can be tests.
func (r *renderer) item(item *block, isLoose bool) {
	children := item.children
	task := r.taskOf(item)
	class := ""
	if task != "" {
		class = "task"
	}

	if !isLoose {
		r.markInstead(item, children)
	}
	r.beginBlock(item, "li", "class", class)
	depth := len(r.open)
	for i, child := range children {
		isFirst := i == 0
		if child.kind != blockParagraph {
			if isFirst || children[i-1].kind == blockParagraph && !isLoose {
				r.newline()
			}
			r.block(child)
			continue
		}
		if isLoose {
			if isFirst {
				r.newline()
			}
			r.beginBlock(child, "p")
		}
		text := r.inlineText(child.lines)
		if isFirst && task != "" {
			r.checkbox(task[1] != ' ')
			text = text[len(task):]
		}
		r.inlines(text)
		if isLoose {
			r.end()
			r.newline()
		}
	}

	r.endTo(depth)
	r.end()
	r.newline()
}

// checkbox writes the box of a task.
func (r *renderer) checkbox(isDone bool) {
	checked := ""
	label := "to do"
	if isDone {
		checked = "checked"
		label = "done"
	}

	r.void("input",
		"type", "checkbox",
		"disabled", "disabled",
		"checked", checked,
		"aria-label", label)
	r.text(" ")
}

// calloutStyles map the types of callouts to the styles of the page.
var calloutStyles = map[string]string{
	"note":      "note",
	"info":      "note",
	"abstract":  "note",
	"summary":   "note",
	"tldr":      "note",
	"seealso":   "note",
	"todo":      "note",
	"example":   "note",
	"quote":     "note",
	"tip":       "tip",
	"hint":      "tip",
	"important": "tip",
	"success":   "tip",
	"check":     "tip",
	"done":      "tip",
	"question":  "tip",
	"help":      "tip",
	"faq":       "tip",
	"warning":   "warning",
	"caution":   "warning",
	"attention": "warning",
	"danger":    "danger",
	"error":     "danger",
	"failure":   "danger",
	"fail":      "danger",
	"missing":   "danger",
	"bug":       "danger",
}

// callout writes a callout, a tab, or the content of another container.
func (r *renderer) callout(b *block) {
	inner := *b
	title := ""
	if b.titled {
		title = r.inlineText(b.children[0].lines)
		inner.children = b.children[1:]
	}

	kind := b.info
	if b.mark == '=' {
		kind = "tab"
	}

	// The marks ":::" and "///" also begin containers that are no callouts, such as the columns of a layout.
	isCallout := b.mark == '!' || b.mark == '?' ||
		kind == "tab" || kind == "details" ||
		calloutStyles[kind] != ""
	if !isCallout {
		if title != "" {
			r.block(b.children[0])
		}
		r.children(&inner)
		return
	}

	if b.titled {
		r.markInstead(b, b.children[:1])
	}
	folds := b.mark == '?' || kind == "details"
	r.beginCallout(b, kind, title, folds)
	r.children(&inner)
	r.end()
	r.newline()
}

// beginCallout opens a callout and writes its title, which may be empty. The caller ends it.
func (r *renderer) beginCallout(b *block, kind, title string, folds bool) {
	style := calloutStyles[kind]
	if style == "" {
		style = "note"
	}
	if kind == "tab" {
		style = "tab"
	}
	if title == "" {
		title = strings.ToUpper(kind[:1]) + kind[1:]
	}

	element := "div"
	titleElement := "p"
	open := ""
	if folds {
		element = "details"
		titleElement = "summary"
		if !b.closed && b.mark == '?' {
			open = "open"
		}
	}

	r.beginBlock(b, element,
		"class", "callout "+style,
		"open", open)
	r.newline()
	r.begin(titleElement, "class", "callout-title")
	r.inlines(title)
	r.end()
	r.newline()
}

// footnotes writes the footnotes that were referred to, in the order of the references.
func (r *renderer) footnotes() {
	if len(r.notes.order) == 0 {
		return
	}

	r.begin("section", "class", "footnotes", "aria-label", "Footnotes")
	r.newline()
	r.begin("ol")
	r.newline()
	written := 0
	// The order grows while it is written, because a footnote may refer to further ones.
	for written < len(r.notes.order) {
		label := r.notes.order[written]
		written++
		number := strconv.Itoa(written)
		r.begin("li", "id", "fn-"+number)
		r.children(r.notes.footnotes[label])
		if written <= maxBackReferences {
			r.element("a", "↩",
				"class", "back",
				"href", "#fnref-"+number,
				"aria-label", "Back to reference "+number)
		}
		r.end()
		r.newline()
	}

	r.end()
	r.end()
	r.newline()
}
