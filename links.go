package main

// The links of a document and what they may lead to: other documents, their headings, and files beside them. vitrine -check
// reports those that lead nowhere.

import (
	"html"
	"regexp"
	"strings"
	"unicode"
)

// documentLink is a link or a picture in a document.
type documentLink struct {
	target  string // as the author wrote it, without markup
	line    int
	isImage bool
}

// linkFinder collects the links of a text.
type linkFinder struct {
	text  string
	links []documentLink
}

// linksOf returns the links in a Markdown text, in their order.
func linksOf(text string) []documentLink {
	_, start := frontMatter(text)
	f := linkFinder{text: text}
	f.visit(parseBlocks(text, start))
	return f.links
}

// visit adds the links in b. Code has none.
func (f *linkFinder) visit(b *block) {
	for _, child := range b.children {
		f.visit(child)
	}
	source := f.text[b.start:b.end]
	switch b.kind {
	case blockParagraph, blockHeading, blockTable:
		f.scan(source, int(b.line))
	case blockHTML:
		if !rawScript.MatchString(source) {
			f.scan(source, int(b.line))
		}
	case blockDefinition:
		f.addDefinitions(source, int(b.line))
	default: // code, or its children have been visited
	}
}

func (f *linkFinder) add(target string, line int, isImage bool) {
	target = strings.TrimSpace(html.UnescapeString(target))
	f.links = append(f.links, documentLink{target, line, isImage})
}

// addDefinitions adds the targets of link reference definitions.
func (f *linkFinder) addDefinitions(source string, line int) {
	for {
		found := definition.FindStringSubmatchIndex(source)
		if found == nil {
			return
		}
		line += strings.Count(source[:found[4]], "\n")
		f.add(strings.Trim(source[found[4]:found[5]], "<>"), line, false)
		line += strings.Count(source[found[4]:found[1]], "\n")
		source = source[found[1]:]
	}
}

// scan adds the links in the source of a block: those of Markdown, and those of HTML tags.
func (f *linkFinder) scan(source string, line int) {
	unclosed := make(map[string]bool) // see codeLength
	var open []bool                   // by open bracket: whether it begins a picture
	for at := 0; at < len(source); {
		n := 1
		rest := source[at:]
		switch source[at] {
		case '\\':
			n = min(2, len(rest))
		case '`':
			n = codeLength(rest, unclosed)
		case '<', '{':
			n = max(1, invisibleLength(rest, unclosed))
			f.addTag(rest[:n], line)
		case '[':
			open = append(open, strings.HasSuffix(source[:at], "!"))
		case ']':
			if len(open) == 0 {
				break
			}
			isImage := open[len(open)-1]
			open = open[:len(open)-1]
			if target, ok := destination(firstBytes(rest[1:], maxTagBytes)); ok {
				f.add(target, line, isImage)
			}
		}
		line += strings.Count(rest[:n], "\n")
		at += n
	}
}

// linkDestination is the destination of a link after its text, with one level of parentheses.
var linkDestination = regexp.MustCompile(`^\(\s*(?:<([^<>\n]*)>|((?:[^\s()<\\]|\\.)(?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*\))*))` +
	`(?:\s+(?:"[^"]*"|'[^']*'|\([^()]*\)))?\s*\)`)

// destination returns the destination of the link whose text ends before rest.
func destination(rest string) (target string, ok bool) {
	if !strings.HasPrefix(rest, "(") {
		return "", false
	}
	found := linkDestination.FindStringSubmatch(rest)
	if found == nil {
		return "", false
	}
	return escaped.ReplaceAllString(found[1]+found[2], "$1"), true
}

// tagTarget is the target of a link or picture in HTML or JSX.
var tagTarget = regexp.MustCompile(`(?is)^<(?:a\s(?:[^>]*\s)?href|(img)\s(?:[^>]*\s)?src|link\s(?:[^>]*\s)?to)` +
	`\s*=\s*(?:"([^"]*)"|'([^']*)')`)

// addTag adds the target of a tag that is a link or a picture.
func (f *linkFinder) addTag(tag string, line int) {
	found := tagTarget.FindStringSubmatchIndex(tag)
	if found == nil {
		return
	}
	isImage := found[2] >= 0
	from, to := found[4], found[5]
	if from < 0 {
		from, to = found[6], found[7]
	}
	f.add(tag[from:to], line+strings.Count(tag[:from], "\n"), isImage)
}

// ownAnchor is an id or name that an author gives to a place: in a tag, or in braces after it.
var ownAnchor = regexp.MustCompile(`(?i)\s(?:id|name)\s*=\s*(?:"([^"]+)"|'([^']+)'|([\w-]+))|\{[^{}\n]*#([\w:.-]+)[^{}\n]*\}`)

// definedTerm is a term with its definition, to which some renderers give an anchor.
var definedTerm = regexp.MustCompile(`(?m)^([^\s:].{0,100})\n+: `)

// anchorSet holds the places in a document that a fragment may name, by anchorKey.
type anchorSet map[string]bool

func anchorsOf(text string) anchorSet {
	found := make(anchorSet)
	_, start := frontMatter(text)
	for _, h := range headings(parseBlocks(text, start), text) {
		found[anchorKey(h.slug)] = true
		found[anchorKey(githubSlug(h.words))] = true // renderers without own ids ignore these
	}
	for _, match := range definedTerm.FindAllStringSubmatch(text, -1) {
		found[anchorKey(plainWords(match[1]))] = true
	}
	for _, match := range ownAnchor.FindAllStringSubmatch(text, -1) {
		found[anchorKey(match[1]+match[2]+match[3]+match[4])] = true
	}
	return found
}

// has reports whether a fragment names a place of the document, or its top.
func (a anchorSet) has(fragment string) bool {
	key := anchorKey(fragment)
	return key == "" || key == "top" || a[key]
}

// anchorKey returns what the fragments have in common that different renderers make of one heading: its letters and digits.
func anchorKey(fragment string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) && r != 0xfe0f {
			return unicode.ToLower(r)
		}
		return -1
	}, fragment)
}
