package main

// The inline parser: the text of a block into tokens, by CommonMark 0.31 (https://spec.commonmark.org, appendix "A
// parsing strategy"), with GitHub's strikethrough and bare addresses. Tokens are a flat list in which links and
// emphasis have a beginning and an end, so that neither parsing nor writing is recursive. Parsing takes linear time: work
// counts the steps that could be repeated, and beyond its bound the rest stays text. This file has the tokens that do
// not come in pairs: breaks, escapes, code, entities and tags.

import (
	"html"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokenText tokenKind = iota
	tokenCode
	tokenBreak  // a hard line break
	tokenMarks  // of emphasis or strikethrough; value is the index of the run
	tokenLink   // value is the index of the link
	tokenImage  // value is the index of the link
	tokenEnd    // of a link; value is the index of the link
	tokenAltEnd // of an image; value is the index of the link
	tokenTag    // an allowed element; its name is the text
	tokenTagEnd
	tokenNote   // a reference to a footnote; its label is the text
	tokenHidden // a tag or comment, which is not shown
)

// inlineToken is a part of the text of a block.
type inlineToken struct {
	kind  tokenKind
	text  string
	value int32
	at    int32 // offset at which it was found; that of a text or of a beginning says nothing
}

// link is the destination of a link or an image.
type link struct {
	target      string
	title       string
	isReference bool // it stands in a definition
	isTemplate  bool // a tag of Hugo or Jekyll makes an address of the target
}

// linkNotes are the definitions of a document that its links and footnotes name.
type linkNotes struct {
	links     map[string]link // by normalized label
	footnotes map[string]*block
	numbers   map[string]int // of the footnotes that have been referred to
	order     []string       // their labels
	room      int            // bytes that references may still add
}

// markRun is a run of equal marks: asterisks, underscores or tildes.
type markRun struct {
	mark     byte
	canOpen  bool
	canClose bool
	length   int // as it stands in the text
	left     int // marks that are still text

	ends   []uint8 // elements that end here, in this order, before the marks that are left
	begins []uint8 // elements that begin here, the innermost first, after the marks that are left

	previous int // run that is open, -1 for none
	next     int
}

// bracket is an opening bracket that may begin a link.
type bracket struct {
	token   int // its index
	at      int // offset after it
	isImage bool
	isOuter bool // there is a bracket inside it, so it is no label
	lastRun int  // the last run of marks before it
}

// inlineParser parses the text of one block.
type inlineParser struct {
	notes *linkNotes // of the document

	text    string
	at      int
	pending int // offset of the text that is in no token yet
	tokens  []inlineToken
	links   []link

	runs     []markRun
	lastRun  int // index of the last run that is open, -1 for none
	brackets []bracket
	inactive int // openers of links below this index are text: links do not nest

	unclosed   map[string]bool // marks without an end: see invisibleLength
	codeEnds   map[int]int     // by length: offset of the last run of backticks; nil before the first one
	work       int             // steps so far: see spend
	isOverWork bool            // a tag or comment that was looked for in vain has used up the work
}

// spend adds n steps of work that other tokens may repeat. It returns false once the work exceeds maxWork.
func (p *inlineParser) spend(n int) bool {
	p.work += n
	return p.work <= maxWork(len(p.text))
}

// maxWork is the bound of work for a text of n bytes. No document of the trees that we tried comes near it.
func maxWork(n int) int { return 64<<10 + 32*n }

// flush makes a token of the text before end.
func (p *inlineParser) flush(end int) {
	if p.pending < end {
		p.add(tokenText, p.text[p.pending:end], 0)
	}
	p.pending = max(p.pending, end)
}

// take turns the n bytes at p.at into one token.
func (p *inlineParser) take(n int, kind tokenKind, text string, value int) bool {
	p.flush(p.at)
	p.add(kind, text, value)
	p.skip(n)
	return true
}

func (p *inlineParser) add(kind tokenKind, text string, value int) {
	p.tokens = append(p.tokens, inlineToken{
		kind:  kind,
		text:  text,
		value: int32(value),
		at:    int32(p.at),
	})
}

// skip leaves out n bytes.
func (p *inlineParser) skip(n int) {
	p.at += n
	p.pending = p.at
}

// lineBreak ends a line: softly, or hard after two spaces.
func (p *inlineParser) lineBreak() bool {
	line := p.text[p.pending:p.at]
	trimmed := strings.TrimRight(line, " \t")
	isHard := strings.HasSuffix(line, "  ")
	p.flush(p.pending + len(trimmed))
	p.endLine(isHard)
	return true
}

// endLine adds the break of the line whose newline is at p.at, and skips the indentation of the next line.
func (p *inlineParser) endLine(isHard bool) {
	if isHard {
		p.add(tokenBreak, "", 0)
	}
	p.add(tokenText, "\n", 0)
	rest := p.text[p.at+1:]
	p.skip(1 + runOf(rest, " \t"))
}

// escape adds the character after a backslash as text. A newline after a backslash is a hard break.
func (p *inlineParser) escape() bool {
	next := p.at + 1
	if next == len(p.text) || p.text[next] != '\n' && !isPunctuation(p.text[next]) {
		return false
	}
	p.flush(p.at)
	p.at = next
	p.pending = next
	if p.text[next] == '\n' {
		p.endLine(true)
		return true
	}
	p.at++
	return true
}

// code parses a code span, or backticks that nothing closes.
func (p *inlineParser) code() bool {
	if p.codeEnds == nil {
		p.codeEnds = codeEnds(p.text)
	}
	length := runOf(p.text[p.at:], "`")
	if p.codeEnds[length] <= p.at {
		p.at += length
		return true
	}

	begin := p.at + length
	end := begin
	for {
		end += strings.IndexByte(p.text[end:], '`')
		n := runOf(p.text[end:], "`")
		if n == length {
			break
		}
		end += n
	}
	code := strings.ReplaceAll(p.text[begin:end], "\n", " ")
	if strings.HasPrefix(code, " ") && strings.HasSuffix(code, " ") && strings.Trim(code, " ") != "" {
		code = code[1 : len(code)-1]
	}
	return p.take(end+length-p.at, tokenCode, code, 0)
}

// codeEnds returns, by length, the offset of the last run of backticks in text.
func codeEnds(text string) map[int]int {
	ends := make(map[int]int)
	for at := 0; ; {
		next := strings.IndexByte(text[at:], '`')
		if next < 0 {
			return ends
		}
		at += next
		n := runOf(text[at:], "`")
		ends[n] = at
		at += n
	}
}

// entityReference is an entity of HTML.
var entityReference = regexp.MustCompile(`^&(?:#[xX][0-9a-fA-F]{1,6}|#[0-9]{1,7}|[A-Za-z][A-Za-z0-9]{1,31});`)

// decodeEntity returns the text of the entity that s begins with, and its length; 0 if there is none.
func decodeEntity(s string) (decoded string, n int) {
	reference := entityReference.FindString(firstBytes(s, 40))
	if reference == "" {
		return "", 0
	}
	decoded = html.UnescapeString(reference)
	if decoded == reference || strings.HasSuffix(decoded, ";") && reference != "&semi;" && reference != "&#59;" {
		return "", 0 // not known, or only its beginning is
	}
	return decoded, len(reference)
}

func (p *inlineParser) entity() bool {
	decoded, n := decodeEntity(p.text[p.at:])
	return n > 0 && p.take(n, tokenText, decoded, 0)
}

// unescape returns s with its entities decoded and without the backslashes of escapes.
func unescape(s string) string {
	if !strings.ContainsAny(s, "&\\") {
		return s
	}
	var out strings.Builder
	for at := 0; at < len(s); {
		if s[at] == '\\' && at+1 < len(s) && isPunctuation(s[at+1]) {
			out.WriteByte(s[at+1])
			at += 2
			continue
		}
		if s[at] == '&' {
			if decoded, n := decodeEntity(s[at:]); n > 0 {
				out.WriteString(decoded)
				at += n
				continue
			}
		}
		out.WriteByte(s[at])
		at++
	}
	return out.String()
}

// allowedTags are the elements of HTML that are kept within text. Their attributes are not.
var allowedTags = regexp.MustCompile(`(?i)^<(/?)(br|kbd|sub|sup|mark)(?:[\s/][^<>]*)?>`)

// tag parses an allowed element. It drops any other tag or comment.
func (p *inlineParser) tag() bool {
	rest := p.text[p.at:]
	if len(rest) < 2 || !isTagByte(rest[1]) {
		return false
	}
	tag := allowedTags.FindStringSubmatch(firstBytes(rest, 200))
	if tag == nil {
		return p.invisible()
	}
	name := strings.ToLower(tag[2])
	switch {
	case name == "br":
		return p.take(len(tag[0]), tokenBreak, "", 0)
	case tag[1] == "/":
		return p.take(len(tag[0]), tokenTagEnd, name, 0)
	}
	return p.take(len(tag[0]), tokenTag, name, 0)
}

// isTagByte reports whether c may follow the "<" of a tag, comment or declaration.
func isTagByte(c byte) bool { return isLetterByte(c) || strings.IndexByte("/!?>", c) >= 0 }

// invisible drops what the passages of a document drop too: tags, comments and attributes.
func (p *inlineParser) invisible() bool {
	rest := p.text[p.at:]
	if p.isOverWork {
		return false
	}
	n := invisibleLength(rest, p.unclosed)
	if n == 0 {
		n = declarationLength(rest, p.unclosed)
	}
	if n == 0 {
		p.isOverWork = !p.spend(min(len(rest), maxTagBytes) / 8)
		return false
	}
	p.take(n, tokenHidden, rest[:n], 0)
	if alt := altText(rest[:n]); alt != "" {
		p.add(tokenText, html.UnescapeString(alt), 0)
	}
	return true
}

// declarationLength returns the length of the declaration, processing instruction or CDATA section that text begins
// with, or 0.
func declarationLength(text string, unclosed map[string]bool) int {
	for _, marks := range [][2]string{{"<![CDATA[", "]]>"}, {"<!", ">"}, {"<?", "?>"}} {
		if !strings.HasPrefix(text, marks[0]) || unclosed[marks[0]] {
			continue
		}
		end := strings.Index(text, marks[1])
		if end >= 0 {
			return end + len(marks[1])
		}
		unclosed[marks[0]] = true
	}
	return 0
}

// iconName is an icon of MkDocs, which has no picture here.
var iconName = regexp.MustCompile(`^:(?:material|fontawesome|octicons|simple)-[\w-]+:(?:\{[^{}\n]*\})?`)

func (p *inlineParser) icon() bool {
	name := iconName.FindString(firstBytes(p.text[p.at:], 200))
	if name == "" {
		return false
	}
	p.flush(p.at)
	p.skip(len(name))
	return true
}

// isSpaceRune reports whether r is a space for the rules of emphasis. The beginning and the end of a text count as spaces.
func isSpaceRune(r rune) bool { return r == utf8.RuneError || unicode.IsSpace(r) }

// isMarkRune reports whether r is punctuation for the rules of emphasis.
func isMarkRune(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) }
