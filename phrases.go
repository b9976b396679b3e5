package main

// Parsing the text of a block: which token begins at a character.

import "strings"

// specialBytes are those at which a token may begin.
var specialBytes = func() (special [256]bool) {
	for _, c := range []byte("\n\\`*_~[]!<&{:.@") {
		special[c] = true
	}
	return special
}()

// maxTokens bounds the tokens of a block, each of which takes about 200 bytes of memory with its marks.
const maxTokens = 200_000

// parseInlines parses the text of a block. The tokens of the result are complete: no open bracket or mark is left. What
// follows the first maxTokens is text.
func parseInlines(text string, notes *linkNotes) *inlineParser {
	p := &inlineParser{
		notes:    notes,
		text:     text,
		lastRun:  -1,
		unclosed: make(map[string]bool),
	}
	for p.at < len(text) && len(p.tokens) < maxTokens {
		c := text[p.at]
		if !specialBytes[c] || !p.special(c) {
			p.at++
		}
	}
	p.flush(len(text))
	p.matchRuns(-1) // those that are in no link
	return p
}

// special parses the token that begins at p.at, where c stands, and moves p.at behind it. It returns false if c is text:
// then p.at stays. The methods that it calls do the same.
func (p *inlineParser) special(c byte) bool {
	switch c {
	case '\n':
		return p.lineBreak()
	case '\\':
		return p.escape()
	case '`':
		return p.code()
	case '*', '_', '~':
		return p.markRun(c)
	case '[':
		// A reference to a footnote is like the text of a link.
		return p.footnote() || p.openBracket("[")
	case '!':
		return strings.HasPrefix(p.text[p.at:], "![") && p.openBracket("![")
	case ']':
		return p.closeBracket()
	case '<':
		return p.autolink() || p.tag()
	case '{':
		return p.invisible()
	case '&':
		return p.entity()
	case ':':
		// The scheme has been passed as text: see bareURL.
		return p.bareURL("http", "https") || p.icon()
	case '.':
		return p.bareURL("www")
	}
	return p.bareEmail()
}

// plainWords returns a text of Markdown as a reader sees it, on one line of at most maxHeadingRunes characters.
func plainWords(text string) string {
	line := oneLine(plainText(text, new(linkNotes)))
	return firstRunes(line, maxHeadingRunes)
}

// plainText returns the beginning of a text of Markdown without its markup. It keeps the white space.
func plainText(text string, notes *linkNotes) string {
	p := parseInlines(text[:runeOffset(text, 8*maxHeadingRunes)], notes)
	var out visibleWriter
	for _, t := range p.tokens {
		switch t.kind {
		case tokenText, tokenCode:
			out.write(t.text)
		case tokenBreak:
			out.write(" ")
		case tokenMarks:
			run := p.runs[t.value]
			out.write(strings.Repeat(string(run.mark), run.left))
		case tokenHidden:
			out.leaveOut(t.text)
		default: // links and tags have no text of their own
		}
	}
	return out.String()
}
