package main

// The links of a document, as the page has them, and the places in a document to which fragments may lead. vitrine check
// reports the links that lead nowhere.

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
	notes *linkNotes
	links []documentLink

	definitions []int           // indexes of links
	named       map[string]bool // by target of a definition: whether a link names it, not only pictures
}

// linksOf returns the links in a Markdown text, in their order. Those that name a definition are not among them, but
// the definition is. It is a picture if only pictures name it.
func linksOf(text string) []documentLink {
	_, start := frontMatter(text)
	root := parseBlocks(text, start)
	f := linkFinder{
		text:  text,
		notes: collectNotes(root, text),
		named: make(map[string]bool),
	}
	f.visit(root)
	for _, i := range f.definitions {
		definition := &f.links[i]
		isLink, isNamed := f.named[definition.target]
		definition.isImage = isNamed && !isLink
	}
	return f.links
}

// visit adds the links in b, by the texts that the page takes from it. Code has none.
func (f *linkFinder) visit(b *block) {
	for _, child := range b.children {
		f.visit(child)
	}
	source := b.content(f.text)
	line := int(b.line)
	switch b.kind {
	case blockParagraph, blockHeading:
		f.scan(source, line, false)
	case blockTable:
		for row := range strings.SplitSeq(source, "\n") {
			for cell := range tableCells(row) {
				f.scan(cell, line, false)
			}
			line++
		}
	case blockHTML:
		f.scanHTML(b, source)
	case blockDefinition:
		for _, d := range linkDefinitions(source) {
			f.definitions = append(f.definitions, len(f.links))
			f.add(d.target, line+strings.Count(source[:d.at], "\n"), false)
		}
	default: // code, or its children have been visited
	}
}

func (f *linkFinder) add(target string, line int, isImage bool) {
	f.links = append(f.links, documentLink{withoutControls(target), line, isImage})
}

// scan adds the links in a text that begins in a line: those of HTML tags, and those of Markdown unless it is code.
func (f *linkFinder) scan(text string, line int, isCode bool) {
	p := parseInlines(text, f.notes)
	at := 0
	for _, t := range p.tokens {
		switch t.kind {
		case tokenEnd, tokenAltEnd, tokenHidden:
			line += strings.Count(text[at:t.at], "\n")
			at = int(t.at)
		default:
			continue
		}
		switch {
		case t.kind == tokenHidden:
			f.addTag(t.text, line)
		case !isCode:
			f.addLink(p.links[t.value], line, t.kind == tokenAltEnd)
		}
	}
}

// addLink adds a link of Markdown. A reference only says what its definition is. What Hugo and Jekyll make of a target
// is not known.
func (f *linkFinder) addLink(l link, line int, isImage bool) {
	switch {
	case l.isReference:
		target := withoutControls(l.target)
		f.named[target] = f.named[target] || !isImage
	case !l.isTemplate:
		f.add(l.target, line, isImage)
	}
}

// scanHTML adds the links in a block of HTML.
func (f *linkFinder) scanHTML(b *block, source string) {
	if b.isHidden(source) {
		return
	}
	line := int(b.line)
	isCode := b.level == 1 // <pre>, for instance
	for _, piece := range htmlPieces(source) {
		f.scan(piece.text, line, isCode)
		line += strings.Count(piece.text, "\n")
		f.addTag(piece.tag, line)
		line += strings.Count(piece.tag, "\n")
	}
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
	line += strings.Count(tag[:from], "\n")
	f.add(html.UnescapeString(tag[from:to]), line, isImage)
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
