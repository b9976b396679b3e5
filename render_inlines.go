package main

// Inlines as HTML: the tokens of a text are written as elements, which nest to a bounded depth.

import (
	"path"
	"strconv"
	"strings"
)

// targets says where the links of a document lead.
type targets interface {
	// link returns the address of a link, or "" if it must not be one.
	link(target string) string

	// image returns the address of an image to show, or "" to show a link.
	image(target string) string
}

// renderer writes one document.
type renderer struct {
	*markup
	source   string
	notes    *linkNotes
	targets  targets
	headings map[*block]heading
	marked   *block // the block to mark, nil for none
	line     int    // the line to mark in it
	padded   int    // cells of tables
}

// maxInlineDepth is how deep emphasis and links nest. What is deeper is shown as text.
const maxInlineDepth = 64

// inlineElements are the elements of markRun.
var inlineElements = [...]string{
	emphasized: "em",
	strong:     "strong",
	struckOut:  "del",
}

// inlineWriter writes the tokens of one text.
type inlineWriter struct {
	*renderer
	p     *inlineParser
	depth int   // elements that were open before
	shown []int // by element that is open: how many elements were open before it, -1 if it is shown as text

	images  int // that are open
	image   link
	altText strings.Builder
	inLink  bool
}

// inlines writes Markdown within a block.
func (r *renderer) inlines(text string) {
	w := &inlineWriter{
		renderer: r,
		p:        parseInlines(text, r.notes),
		depth:    len(r.open),
	}
	for _, t := range w.p.tokens {
		w.token(t)
	}
	r.endTo(w.depth)
}

// token writes a token. Within an image it becomes a part of the alternative text.
func (w *inlineWriter) token(t inlineToken) {
	switch t.kind {
	case tokenImage:
		if w.images == 0 {
			w.image = w.p.links[t.value]
			w.altText.Reset()
		}
		w.images++
	case tokenAltEnd:
		w.images--
		if w.images == 0 {
			w.endImage()
		}
	case tokenMarks:
		w.marks(&w.p.runs[t.value])
	case tokenHidden:
	default:
		if w.images > 0 {
			w.altText.WriteString(t.words())
			return
		}
		w.shownToken(t)
	}
}

// words returns what a token adds to the alternative text of a picture: the names of elements and footnotes do not count.
func (t inlineToken) words() string {
	switch t.kind {
	case tokenTag, tokenTagEnd, tokenNote:
		return ""
	default:
		return t.text
	}
}

// shownToken writes a token outside images.
func (w *inlineWriter) shownToken(t inlineToken) {
	switch t.kind {
	case tokenText:
		w.text(t.text)
	case tokenCode:
		w.element("code", t.text)
	case tokenBreak:
		w.void("br")
	case tokenLink:
		w.beginLink(w.p.links[t.value])
	case tokenEnd:
		w.endShown()
		w.inLink = false
	case tokenTag:
		w.beginTag(t.text)
	case tokenTagEnd:
		w.endTag(t.text)
	case tokenNote:
		w.noteReference(t.text)
	default: // see token
	}
}

// beginTag opens an element of HTML.
func (w *inlineWriter) beginTag(name string) {
	if len(w.open)-w.depth < maxInlineDepth {
		w.begin(name)
	}
}

// endTag closes an element of HTML if it is the innermost one.
func (w *inlineWriter) endTag(name string) {
	last := len(w.open) - 1
	if last >= w.depth && w.open[last] == name {
		w.end()
	}
}

// marks writes what ends and begins at a run of marks, and the marks that are text.
func (w *inlineWriter) marks(run *markRun) {
	if w.images > 0 {
		w.altText.WriteString(strings.Repeat(string(run.mark), run.left))
		return
	}
	for _, element := range run.ends {
		if !w.endShown() {
			w.text(marksOf(run, element))
		}
	}
	w.text(strings.Repeat(string(run.mark), run.left))
	for i := len(run.begins) - 1; i >= 0; i-- {
		element := run.begins[i]
		if !w.beginShown(inlineElements[element]) {
			w.text(marksOf(run, element))
		}
	}
}

// marksOf returns the marks of an element that is shown as text.
func marksOf(run *markRun, element uint8) string {
	n := int(element)
	if element == struckOut {
		n = run.length
	}
	return strings.Repeat(string(run.mark), n)
}

// beginShown opens an element, unless it would be too deep.
func (w *inlineWriter) beginShown(name string, attributes ...string) bool {
	before := len(w.open)
	if len(w.shown) >= maxInlineDepth || name == "" {
		w.shown = append(w.shown, -1)
		return false
	}
	w.begin(name, attributes...)
	w.shown = append(w.shown, before)
	return true
}

// endShown closes the element that beginShown opened last, with those that a tag left open in it.
func (w *inlineWriter) endShown() bool {
	last := len(w.shown) - 1
	before := w.shown[last]
	w.shown = w.shown[:last]
	if before < 0 {
		return false
	}
	w.endTo(before)
	return true
}

// beginLink opens a link. One that leads nowhere is a span.
func (w *inlineWriter) beginLink(to link) {
	href := w.targets.link(to.target)
	w.inLink = true
	if href == "" {
		w.beginShown("span", "title", to.title)
		return
	}
	rel := ""
	if isWebAddress(href) {
		rel = "noreferrer"
	}
	w.beginShown("a",
		"href", escapeAddress(href),
		"title", to.title,
		"rel", rel)
}

// endImage writes an image, or a link to it if the page may not show it.
func (w *inlineWriter) endImage() {
	alt := w.altText.String()
	if src := w.targets.image(w.image.target); src != "" {
		w.void("img",
			"src", escapeAddress(src),
			"alt", alt,
			"title", w.image.title,
			"loading", "lazy")
		return
	}
	href := w.targets.link(w.image.target)
	if w.inLink || href == "" {
		w.text(alt)
		return
	}
	if alt == "" {
		alt = path.Base(w.image.target)
	}
	w.element("a", alt,
		"href", escapeAddress(href),
		"title", w.image.title,
		"class", "picture",
		"rel", "noreferrer")
}

// maxBackReferences is how many footnotes have a link back to their reference, and labels for screen readers. Link and labels
// are twenty times as long as a short footnote, so a page of many footnotes would be many times as long as its text.
const maxBackReferences = 1000

// noteReference writes the number of a footnote as a link to it.
func (w *inlineWriter) noteReference(label string) {
	isFirst := w.notes.numbers[label] == 0
	n := w.notes.footnote(label)
	number := strconv.Itoa(n)
	id := ""
	ariaLabel := ""
	if n <= maxBackReferences {
		ariaLabel = "Footnote " + number
	}
	if isFirst && n <= maxBackReferences {
		id = "fnref-" + number
	}
	w.begin("sup", "class", "footnote", "id", id)
	w.element("a", number,
		"href", "#fn-"+number,
		"aria-label", ariaLabel)
	w.end()
}

// escapeAddress percent-encodes what an address may not contain. It leaves escapes alone.
func escapeAddress(address string) string {
	const allowed = "-_.+!*'(),%#@?=;:/&$~"
	var out strings.Builder
	for i := range len(address) {
		c := address[i]
		if isWordByte[c] || strings.IndexByte(allowed, c) >= 0 {
			out.WriteByte(c)
			continue
		}
		const digits = "0123456789ABCDEF"
		out.WriteByte('%')
		out.WriteByte(digits[c>>4])
		out.WriteByte(digits[c&15])
	}
	return out.String()
}
