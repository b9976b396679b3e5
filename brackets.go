package main

// Links, images and references to footnotes: what brackets mean. The references of a document are collected first,
// because a link may stand before the definition that it names.

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	maxBrackets    = 1000 // open at once; further ones are text
	maxLabelBytes  = 999  // by CommonMark
	maxParentheses = 32   // nested in a destination

	// minReferenceRoom is how many bytes the references of a short document may add to its page. Without a bound, many
	// references to one long address would make a page of any length.
	minReferenceRoom = 100 << 10
)

// collectNotes returns the definitions in the tree below root.
func collectNotes(root *block, text string) *linkNotes {
	notes := &linkNotes{
		links:     make(map[string]link),
		footnotes: make(map[string]*block),
		numbers:   make(map[string]int),
		room:      minReferenceRoom + len(text),
	}
	notes.collect(root, text)
	return notes
}

func (n *linkNotes) collect(b *block, text string) {
	switch b.kind {
	case blockDefinition:
		for _, d := range linkDefinitions(b.content(text)) {
			n.addDefinition(d)
		}
	case blockFootnote:
		if n.footnotes[b.info] == nil {
			n.footnotes[b.info] = b
		}
	default: // no definition
	}
	for _, child := range b.children {
		n.collect(child, text)
	}
}

// addDefinition adds a link reference definition. The first one of a label counts.
func (n *linkNotes) addDefinition(d linkDefinition) {
	if _, isKnown := n.links[d.label]; !isKnown {
		n.links[d.label] = d.link
	}
}

// linkDefinition is a link reference definition.
type linkDefinition struct {
	link
	label string // normalized
	at    int    // offset of the target
}

// linkDefinitions returns the link reference definitions that content consists of.
func linkDefinitions(content string) []linkDefinition {
	var definitions []linkDefinition
	for at := 0; at < len(content); {
		rest := content[at:]
		found := definition.FindStringSubmatchIndex(rest)
		if found == nil {
			break
		}
		target := strings.TrimSuffix(strings.TrimPrefix(rest[found[4]:found[5]], "<"), ">")
		title := ""
		if found[6] >= 0 {
			title = rest[found[6]+1 : found[7]-1]
		}
		definitions = append(definitions, linkDefinition{
			link: link{
				target:      unescape(target),
				title:       unescape(title),
				isReference: true,
			},
			label: normalizeLabel(rest[found[2]:found[3]]),
			at:    at + found[4],
		})
		at += found[1]
	}
	return definitions
}

// sharpS completes the case folding of labels: strings.ToLower keeps ß.
var sharpS = strings.NewReplacer("ß", "ss", "ẞ", "ss")

// normalizeLabel returns the form of a label by which labels are compared: without case, and with single spaces.
func normalizeLabel(label string) string {
	return sharpS.Replace(strings.ToLower(strings.Join(strings.Fields(label), " ")))
}

// reference returns the link of a label. It returns false if there is none, or if the references have used up the room
// that the page has for them.
func (n *linkNotes) reference(label string) (link, bool) {
	found, ok := n.links[normalizeLabel(label)]
	if !ok {
		return link{}, false
	}
	n.room -= len(found.target) + len(found.title)
	return found, n.room >= 0
}

// footnote returns the number of the footnote with this label. Footnotes are numbered by their first references.
func (n *linkNotes) footnote(label string) int {
	if n.numbers[label] == 0 {
		n.order = append(n.order, label)
		n.numbers[label] = len(n.order)
	}
	return n.numbers[label]
}

// openBracket adds "[" or "![" as text. closeBracket turns it into the beginning of a link or an image, if there is one.
func (p *inlineParser) openBracket(mark string) bool {
	if len(p.brackets) >= maxBrackets {
		return false
	}
	if n := len(p.brackets); n > 0 {
		p.brackets[n-1].isOuter = true
	}
	p.flush(p.at)
	p.brackets = append(p.brackets, bracket{
		token:   len(p.tokens),
		at:      p.at + len(mark),
		isImage: mark == "![",
		lastRun: p.lastRun,
	})
	return p.take(len(mark), tokenText, mark, 0)
}

// closeBracket ends a link or an image at the "]" at p.at. It returns false if there is none, so that the bracket stays
// text.
func (p *inlineParser) closeBracket() bool {
	last := len(p.brackets) - 1
	if last < 0 {
		return false
	}

	opener := p.brackets[last]
	p.brackets = p.brackets[:last]

	// After a link, the openers before it are inactive, because links do not nest.
	isInactive := !opener.isImage && last < p.inactive
	p.inactive = min(p.inactive, last)
	if isInactive {
		return false
	}

	found, length, ok := p.linkTail(opener)
	if !ok {
		return false
	}

	p.flush(p.at)
	begin, end := tokenLink, tokenEnd
	if opener.isImage {
		begin, end = tokenImage, tokenAltEnd
	}
	index := len(p.links)
	p.links = append(p.links, found)
	p.tokens[opener.token] = inlineToken{kind: begin, value: int32(index)}
	p.matchRuns(opener.lastRun)
	p.take(length, end, "", index)
	if !opener.isImage {
		p.inactive = last
	}
	return true
}

// linkTail returns the destination of the link whose closing bracket is at p.at. length counts the bracket and the
// destination or label behind it.
func (p *inlineParser) linkTail(opener bracket) (found link, length int, ok bool) {
	rest := p.text[p.at+1:]
	if p.work > maxWork(len(p.text)) {
		return link{}, 0, false
	}
	if strings.HasPrefix(rest, "(") {
		found, n := inlineLinkTail(rest)
		p.work += max(n, min(len(rest), 64)) // a failed search costs too
		if n > 0 {
			return found, 1 + n, true
		}
	}

	// Without a label of its own, the text between the brackets is the label.
	label, n := linkLabel(rest)
	p.work += n
	if label == "" && !opener.isOuter && p.at-opener.at <= maxLabelBytes {
		label = p.text[opener.at:p.at]
	}
	if strings.TrimSpace(label) == "" {
		return link{}, 0, false
	}

	found, ok = p.notes.reference(label)
	return found, 1 + n, ok
}

// linkLabel returns the label in brackets that s begins with, and its length with the brackets.
func linkLabel(s string) (label string, n int) {
	if !strings.HasPrefix(s, "[") {
		return "", 0
	}
	for i := 1; i < min(len(s), maxLabelBytes+2); i++ {
		switch s[i] {
		case '\\':
			i++
		case '[':
			return "", 0
		case ']':
			return s[1:i], i + 1
		}
	}
	return "", 0
}

// linkSpaces may separate the parts of an inline link.
const linkSpaces = " \t\n"

// inlineLinkTail returns the destination and title in parentheses that s begins with, and their length; 0 if there
// are none.
func inlineLinkTail(s string) (found link, n int) {
	at := 1 + runOf(s[1:], linkSpaces)
	target, length, ok := linkTarget(s[at:])
	if !ok {
		return link{}, 0
	}
	isTemplate := strings.HasPrefix(s[at:], "{") && !strings.HasPrefix(target, "{")
	at += length
	title := ""
	if spaces := runOf(s[at:], linkSpaces); spaces > 0 {
		text, length := linkTitle(s[at+spaces:])
		title = text
		at += spaces + length
		at += runOf(s[at:], linkSpaces)
	}
	if !strings.HasPrefix(s[at:], ")") {
		return link{}, 0
	}
	found = link{
		target:     unescape(target),
		title:      unescape(title),
		isTemplate: isTemplate,
	}
	return found, at + 1
}

// templateTarget is a tag of Hugo or Jekyll that stands for the address of a document.
var templateTarget = regexp.MustCompile(`^(?:\{\{[<%]\s*(?:rel)?ref\s+["` + "`" + `]([^"` + "`" + `{}]+)["` + "`" + `]\s*[>%]\}\}` +
	`|\{%\s*link\s+(\S+)\s*%\})`)

// linkTarget returns the destination that s begins with, which may be empty. ok is false if s begins with none.
func linkTarget(s string) (target string, n int, ok bool) {
	if strings.HasPrefix(s, "{") {
		found := templateTarget.FindStringSubmatch(firstBytes(s, maxLabelBytes))
		if found != nil {
			return found[1] + found[2], len(found[0]), true
		}
	}
	if strings.HasPrefix(s, "<") {
		for i := 1; i < len(s); i++ {
			switch s[i] {
			case '\\':
				i++
			case '\n', '<':
				return "", 0, false
			case '>':
				return s[1:i], i + 1, true
			}
		}
		return "", 0, false
	}

	depth := 0
	i := 0
	for i < len(s) {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s) && isPunctuation(s[i+1]):
			i++
		case c == '(':
			depth++
		case c == ')':
			depth--
		}
		if c <= ' ' || c == 0x7f || depth < 0 || depth > maxParentheses {
			break
		}
		i++
	}

	return s[:i], i, depth <= 0 // below 0: at a parenthesis that it does not open
}

// linkTitle returns the title in quotes or parentheses that s begins with, and its length including them.
func linkTitle(s string) (title string, n int) {
	if s == "" || strings.IndexByte(`"'(`, s[0]) < 0 {
		return "", 0
	}
	end := s[0]
	if end == '(' {
		end = ')'
	}
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == end:
			return s[1:i], i + 1
		case s[i] == '(' && end == ')':
			return "", 0
		}
	}
	return "", 0
}

// footnoteReference is a label of a footnote in brackets.
var footnoteReference = regexp.MustCompile(`^\[\^([^\[\]\s]{1,200})\]`)

// footnote parses a reference to a footnote at p.at. A reference without a definition is text.
func (p *inlineParser) footnote() bool {
	if !strings.HasPrefix(p.text[p.at:], "[^") {
		return false
	}
	found := footnoteReference.FindStringSubmatch(firstBytes(p.text[p.at:], 250*utf8.UTFMax))
	if found == nil || p.notes.footnotes[found[1]] == nil {
		return false
	}
	return p.take(len(found[0]), tokenNote, found[1], 0)
}
