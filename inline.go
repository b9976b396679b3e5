package main

// The text of blocks without what readers do not see: comments, tags and data.

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxHeadingRunes bounds a heading, a path of headings and a title. The rest is cut off.
	maxHeadingRunes = 300

	// maxUnspacedRunes is the longest line without a space that is taken for text. Longer ones are data.
	maxUnspacedRunes = 1000
)

// maxCodeMarks is the longest run of backticks that begins a code span. It bounds the number of searches
// for the end of one.
const maxCodeMarks = 32

// maxTagBytes bounds the search for the end of a tag.
const maxTagBytes = 4 << 10

// invisible are the marks around what a page does not show: comments, and the tags of Jekyll and Hugo.
var invisible = [][2]string{
	{"<!--", "-->"},
	{"{/*", "*/}"},
	{"{{/*", "*/}}"},
	{"{{<", ">}}"},
	{"{{%", "%}}"},
	{"{%", "%}"},
}

// attributes are the ids and classes after a heading or paragraph: {#id}, { #id .class }, {: .class }.
var attributes = regexp.MustCompile(`^\{:?[ \t]*[.#][\w.:#=" \t-]*\}`)

// dataURI is the beginning of a data URI.
var dataURI = regexp.MustCompile(`^data:[a-z]+/[\w.+-]+(?:;[\w=-]+)*,`)

// dataLength returns the length of the data URI that text begins with, or 0. It ends before a mark.
func dataLength(text string) int {
	const maxHead = 200 // before the data
	head := len(dataURI.FindString(firstBytes(text, maxHead)))
	if head == 0 {
		return 0
	}
	end := strings.IndexAny(text[head:], " \t\n\f\r\"')>")
	if end < 0 {
		return len(text)
	}
	return head + end
}

// withoutMarkup returns the text of a block without its comments and tags, which readers do not see. It keeps the line
// ends, and does not change code.
func withoutMarkup(text string) string {
	if !strings.ContainsAny(text, "<{") {
		return text
	}

	var out visibleWriter
	unclosed := make(map[string]bool) // marks that no other one ends
	for at := 0; at < len(text); {
		next := strings.IndexAny(text[at:], "<{`\\")
		if next < 0 {
			out.write(text[at:])
			break
		}
		out.write(text[at : at+next])
		at += next

		if n := codeLength(text[at:], unclosed); n > 0 {
			out.write(text[at : at+n])
			at += n
			continue
		}
		if n := invisibleLength(text[at:], unclosed); n > 0 {
			tag := text[at : at+n]
			out.write(visible(tag))
			out.leaveOut(tag)
			at += n
			continue
		}
		n := 1
		if text[at] == '\\' {
			n = min(2, len(text)-at)
		}
		out.write(text[at : at+n])
		at += n
	}
	return out.String()
}

// visibleWriter joins the parts of a text that readers see. Words that only a tag separates get a space between them.
type visibleWriter struct {
	strings.Builder
	hasGap bool // a tag that separates words has been left out
}

func (w *visibleWriter) write(part string) {
	if w.hasGap && endsInWord(w.String()) && beginsWithWord(part) {
		w.WriteByte(' ')
	}
	w.hasGap = w.hasGap && part == ""
	w.WriteString(part)
}

// leaveOut notes that a tag is left out here.
func (w *visibleWriter) leaveOut(tag string) { w.hasGap = w.hasGap || separatesWords(tag) }

// endsInWord reports whether the last rune of text belongs to a word.
func endsInWord(text string) bool {
	r, _ := utf8.DecodeLastRuneInString(text)
	return isWordRune(r)
}

// beginsWithWord reports whether the first rune of text belongs to a word.
func beginsWithWord(text string) bool {
	r, _ := utf8.DecodeRuneInString(text)
	return isWordRune(r)
}

// codeLength returns the length of the code span, or of its unmatched marks, that text begins with, or 0.
func codeLength(text string, unclosed map[string]bool) int {
	mark := text[:runOf(text, "`")]
	if len(mark) == 0 || len(mark) > maxCodeMarks || unclosed[mark] {
		return len(mark)
	}
	for at := len(mark); at < len(text); {
		next := strings.IndexByte(text[at:], '`')
		if next < 0 {
			break
		}
		at += next
		length := runOf(text[at:], "`")
		at += length
		if length == len(mark) {
			return at
		}
	}
	unclosed[mark] = true
	return len(mark)
}

// invisibleLength returns the length of the comment or tag that text begins with, or 0.
func invisibleLength(text string, unclosed map[string]bool) int {
	for _, marks := range invisible {
		if !strings.HasPrefix(text, marks[0]) || unclosed[marks[0]] {
			continue
		}
		if end := strings.Index(text, marks[1]); end >= 0 {
			return end + len(marks[1])
		}
		unclosed[marks[0]] = true
	}
	switch text[0] {
	case '<':
		tag := text[:tagLength(firstBytes(text, maxTagBytes))]
		if isPlaceholder(tag) {
			return 0
		}
		return len(tag)
	case '{':
		return len(attributes.FindString(firstBytes(text, maxTagBytes)))
	}
	return 0
}

// visible returns what stays of a comment or tag: the line ends, and the description of a picture.
func visible(tag string) string {
	alt := strings.ReplaceAll(altText(tag), "\n", " ")
	return alt + strings.Repeat("\n", strings.Count(tag, "\n"))
}

// withoutData returns a line with "[image]" for the data of pictures, or "" if the line is other data.
func withoutData(line string) string {
	line = withoutDataURIs(line)
	if len(line) <= maxUnspacedRunes || strings.ContainsAny(strings.TrimSpace(line), " \t") {
		return line
	}
	isSpacelessText := strings.ContainsFunc(line, isSpaceless)
	if utf8.RuneCountInString(line) > maxUnspacedRunes && !isSpacelessText {
		return ""
	}
	return line
}

// withoutDataURIs replaces data URIs, with the image around them, by "[image]".
func withoutDataURIs(line string) string {
	const short = 100 // an example in prose
	var out strings.Builder
	for {
		i := strings.Index(line, "data:")
		if i < 0 {
			out.WriteString(line)
			return out.String()
		}
		n := dataLength(line[i:])
		before := line[:i]
		isImage := strings.HasSuffix(before, "](")
		if n == 0 || n < short && !isImage {
			out.WriteString(line[:i+len("data:")])
			line = line[i+len("data:"):]
			continue
		}
		line = line[i+n:]
		tail := max(0, len(before)-maxHeadingRunes)
		if open := strings.LastIndex(before[tail:], "!["); isImage && open >= 0 {
			before = before[:tail+open]
			if end := strings.IndexByte(firstBytes(line, maxHeadingRunes), ')'); end >= 0 {
				line = line[end+1:]
			}
		}
		out.WriteString(before)
		out.WriteString("[image]")
	}
}

// hasWords reports whether text has something to read: a letter, a digit or a symbol.
func hasWords(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsLetter(r) ||
			unicode.IsDigit(r) ||
			r >= utf8.RuneSelf && unicode.IsSymbol(r)
	})
}

func firstRunes(s string, n int) string {
	return strings.TrimSpace(s[:runeOffset(s, n)])
}
