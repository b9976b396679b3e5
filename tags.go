package main

// Tags of HTML and JSX: within text, and as the lines that begin a block of HTML.

import (
	"regexp"
	"strings"
)

// tagLength returns the length of the tag that text begins with, or 0. Values in braces are those of JSX. Each byte is
// read once, because a text may have a "<" at each of its bytes.
func tagLength(text string) int {
	at := 1
	if strings.HasPrefix(text[at:], "/") {
		at++
	}
	name := runIn(text[at:], isNameByte)
	if name > 0 && !isLetterByte(text[at]) {
		return 0
	}
	at += name
	for name > 0 {
		spaces := runIn(text[at:], isSpaceByte)
		n := attributeLength(text[at+spaces:])
		if spaces == 0 || n == 0 {
			at += spaces
			break
		}
		at += spaces + n
	}
	if name > 0 && strings.HasPrefix(text[at:], "/") {
		at++
	}
	if !strings.HasPrefix(text[at:], ">") {
		return 0
	}
	return at + 1
}

// elementName returns the name, in lower case, of the element whose start or end tag text begins with, and what follows
// the name. The name is "" if text begins with no tag of an element: with a comment or "<>", for instance.
func elementName(text string) (name, rest string) {
	rest, isTag := strings.CutPrefix(text, "<")
	if !isTag {
		return "", text
	}
	rest = strings.TrimPrefix(rest, "/")
	n := runIn(rest, isNameByte)
	return strings.ToLower(rest[:n]), rest[n:]
}

// setOfWords returns the words of list.
func setOfWords(list string) map[string]bool {
	set := make(map[string]bool)
	for word := range strings.FieldsSeq(list) {
		set[word] = true
	}
	return set
}

// attributeLength returns the length of the attribute that text begins with, or 0.
func attributeLength(text string) int {
	if strings.HasPrefix(text, "{") {
		return bracesLength(text)
	}
	name := runIn(text, isAttributeByte)
	if name == 0 || !isLetterByte(text[0]) && strings.IndexByte("_:@", text[0]) < 0 {
		return 0
	}
	at := name + runIn(text[name:], isSpaceByte)
	if !strings.HasPrefix(text[at:], "=") {
		return name
	}
	at++
	at += runIn(text[at:], isSpaceByte)
	n := valueLength(text[at:])
	if n == 0 {
		return 0
	}
	return at + n
}

// valueLength returns the length of the value that text begins with, or 0.
func valueLength(text string) int {
	if text == "" {
		return 0
	}
	switch text[0] {
	case '{':
		return bracesLength(text)
	case '"', '\'':
		end := strings.IndexByte(text[1:], text[0])
		if end < 0 {
			return 0
		}
		return end + len(`""`)
	}
	return runIn(text, isValueByte)
}

// bracesLength returns the length of the braces that text begins with, or 0. Double ones end with double ones.
func bracesLength(text string) int {
	if strings.HasPrefix(text, "{{") {
		line, _, _ := strings.Cut(text, "\n")
		end := strings.Index(line, "}}")
		if end > 0 {
			return end + runOf(line[end:], "}")
		}
	}
	return 1 + strings.IndexByte(text, '}')
}

// isRawTag reports whether a line begins with an element whose content is no Markdown, up to its end tag.
func isRawTag(line string) bool {
	name, rest := elementName(line)
	switch name {
	case "script", "pre", "style", "textarea":
		isStart := line[1] != '/'
		return isStart && (rest == "" || rest[0] == '>' || isSpaceByte(rest[0]))
	}
	return false
}

// isScript reports whether HTML begins with an element of isRawTag that has no text for readers.
func isScript(source string) bool {
	name, _ := elementName(strings.TrimLeft(source, " \t"))
	return name == "script" || name == "style"
}

var rawTagEnds = regexp.MustCompile(`(?i)</(?:script|pre|style|textarea)>`)

// isBlockTag reports whether a line begins with a tag that interrupts a paragraph.
func isBlockTag(line string) bool {
	name, rest := elementName(line)
	if !blockElements[name] {
		return false
	}
	return rest == "" || isSpaceByte(rest[0]) || strings.HasPrefix(rest, ">") || strings.HasPrefix(rest, "/>")
}

// blockElements are the elements of isBlockTag.
var blockElements = setOfWords(`
	address article aside base basefont blockquote body caption center col colgroup dd details dialog dir div dl dt
	fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hr html iframe legend li link
	main menu menuitem nav noframes ol optgroup option p param search section summary table tbody td tfoot th thead
	title tr track ul`)

// isTagLine reports whether a line is one whole tag, also one of JSX. It reads the line once or twice, however long it is.
func isTagLine(line string) bool {
	line = strings.TrimRight(line, " \t\r")
	if !strings.HasSuffix(line, ">") {
		return false
	}
	if strings.HasPrefix(line, "</") {
		name := strings.TrimRight(line[2:len(line)-1], " \t")
		return name == "" || isLetterByte(name[0]) && runIn(name, isNameByte) == len(name)
	}
	if tagLength(line) == len(line) {
		return true
	}

	// The braces of a value may have others in them: what stands between the first and the last is no matter.
	first := strings.IndexByte(line, '{')
	last := strings.LastIndexByte(line, '}')
	if first < 0 || last <= first+1 {
		return false
	}
	return tagLength(line[:first+1]+line[last:]) == len(line)-(last-first-1)
}

// isPlaceholder reports whether a tag is what manuals write for a value, such as <file> and <PATH>. It is text, so it can
// be found.
func isPlaceholder(tag string) bool {
	name := strings.TrimSuffix(strings.TrimPrefix(tag, "<"), ">")
	if len(name)+2 != len(tag) || name == "" || runIn(name, isNameByte) != len(name) {
		return false
	}
	if inlineTags[strings.ToLower(name)] || isBlockTag(tag) {
		return false
	}
	if c := name[0]; c >= 'a' && c <= 'z' {
		return true
	}
	isUpper := strings.ToUpper(name) == name && !strings.Contains(name, ".")
	return isUpper && isLetterByte(name[0]) && len(name) > 1
}

// inlineTags are the elements of HTML within text.
var inlineTags = setOfWords(`
	a abbr audio b bdi bdo big br button canvas cite code data del dfn em font i img input ins kbd label mark math
	meter nobr object output picture pre progress q ruby rp rt s samp script select small span strike strong style
	sub sup svg template textarea time tt u var video wbr`)

// separatesWords reports whether tag is that of an element between words, such as a cell of a table.
func separatesWords(tag string) bool {
	name, _ := elementName(tag)
	return name == "br" || name != "" && !inlineTags[name]
}

// imageAlt is a tag of a picture with its description.
var imageAlt = regexp.MustCompile(
	`^<(?i:img)\b[^>]*\balt\s*=\s*` +
		`(?:"([^"]*)"|'([^']*)')`)

// altText returns the description in the tag of a picture as the author wrote it, with its entities.
func altText(tag string) string {
	if name, _ := elementName(tag); name != "img" {
		return ""
	}
	alt := imageAlt.FindStringSubmatch(tag)
	if alt == nil {
		return ""
	}
	return alt[1] + alt[2]
}

// htmlKind returns the kind of HTML block that a line begins: 1 to 7, as CommonMark numbers them, or 0.
func htmlKind(line string) uint8 {
	switch {
	case isRawTag(line):
		return 1
	case strings.HasPrefix(line, "<!--"):
		return 2
	case strings.HasPrefix(line, "<?"):
		return 3
	case strings.HasPrefix(line, "<![CDATA["):
		return 5
	case len(line) > 2 && line[1] == '!' && isLetterByte(line[2]):
		return 4
	case isBlockTag(line):
		return 6
	case isTagLine(line):
		return 7
	}
	return 0
}

// endsHTML reports whether a line ends an HTML block of a kind from 1 to 5.
func endsHTML(kind uint8, line string) bool {
	switch kind {
	case 1:
		return rawTagEnds.MatchString(line)
	case 2:
		return strings.Contains(line, "-->")
	case 3:
		return strings.Contains(line, "?>")
	case 4:
		return strings.Contains(line, ">")
	}
	return strings.Contains(line, "]]>")
}

// runOf returns how many of the first bytes of text are among those of set.
func runOf(text, set string) int { return len(text) - len(strings.TrimLeft(text, set)) }

// runIn returns how many of the first bytes of text are of a kind.
func runIn(text string, is func(byte) bool) int {
	n := 0
	for n < len(text) && is(text[n]) {
		n++
	}
	return n
}

func isNameByte(c byte) bool {
	return isWordByte[c] || strings.IndexByte("_.-", c) >= 0
}

func isAttributeByte(c byte) bool { return isNameByte(c) || c == ':' || c == '@' }

func isSpaceByte(c byte) bool { return strings.IndexByte(" \t\n\f\r", c) >= 0 }

func isValueByte(c byte) bool { return !isSpaceByte(c) && strings.IndexByte("\"'=<>`{}", c) < 0 }

func isPunctuation(c byte) bool {
	return c >= '!' && c <= '/' || c >= ':' && c <= '@' || c >= '[' && c <= '`' || c >= '{' && c <= '~'
}
