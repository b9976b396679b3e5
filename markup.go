package main

// The writer of HTML. All HTML made from a document goes through it, and it escapes everything: text and attribute
// values come from the document, names of elements and attributes are constants of this program. Elements that are
// left open are closed by the element around them, so a document cannot break out of its place in the page.

import (
	"bytes"
	"strings"
)

// maxElementDepth bounds the nesting of elements. Browsers do not build trees deeper than 512.
const maxElementDepth = 300

// htmlEscaper escapes text and attribute values, which stand in double quotes.
var htmlEscaper = strings.NewReplacer(
	"&", "&amp;",
	"<", "&lt;",
	">", "&gt;",
	`"`, "&quot;",
)

// markup is HTML that is being written.
type markup struct {
	out  bytes.Buffer
	open []string // names of the elements that are open
}

// begin opens an element. attributes are alternating names and values. An attribute with an empty value is left out.
func (m *markup) begin(name string, attributes ...string) {
	m.startTag(name, attributes)
	m.open = append(m.open, name)
}

// void writes an element that has no content.
func (m *markup) void(name string, attributes ...string) { m.startTag(name, attributes) }

func (m *markup) startTag(name string, attributes []string) {
	m.out.WriteByte('<')
	m.out.WriteString(name)
	for i := 0; i+1 < len(attributes); i += 2 {
		if attributes[i+1] == "" {
			continue
		}
		m.out.WriteByte(' ')
		m.out.WriteString(attributes[i])
		m.out.WriteString(`="`)
		_, _ = htmlEscaper.WriteString(&m.out, attributes[i+1]) // to a buffer
		m.out.WriteByte('"')
	}
	m.out.WriteByte('>')
}

// end closes the innermost element.
func (m *markup) end() { m.endTo(len(m.open) - 1) }

// endTo closes elements until n are open.
func (m *markup) endTo(n int) {
	for len(m.open) > n {
		last := len(m.open) - 1
		m.out.WriteString("</")
		m.out.WriteString(m.open[last])
		m.out.WriteByte('>')
		m.open = m.open[:last]
	}
}

// isDeep reports whether no more elements should be opened.
func (m *markup) isDeep() bool { return len(m.open) >= maxElementDepth }

// text writes text.
func (m *markup) text(text string) {
	_, _ = htmlEscaper.WriteString(&m.out, text) // to a buffer
}

// newline separates blocks.
func (m *markup) newline() {
	m.out.WriteByte('\n')
}

// element writes an element with text in it.
func (m *markup) element(name, text string, attributes ...string) {
	m.begin(name, attributes...)
	m.text(text)
	m.end()
}
