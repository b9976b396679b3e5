package main

// The headings of a document: their words as readers see them, and their slugs.

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// headingID is an id that an author has given to a heading: {#id}, or {/*id*/} in React's documentation.
var headingID = regexp.MustCompile(
	`(?:\{:?[ \t]*(?:\.[\w-]+[ \t]+)*#([^\s}]+)[^}]*\}|` +
		`\{/\*[ \t]*([^\s*]+)[ \t]*\*/\})[ \t]*$`)

// heading is a heading of a document.
type heading struct {
	level int // 1 to 6
	words string
	slug  string
	line  int
}

// sectionHeadings returns the headings of a document that begin sections, in their order.
func sectionHeadings(text string) []heading {
	text = beginning(text, maxDocumentLines)
	_, start := frontMatter(text)
	root := parseBlocks(text, min(start, len(text)))
	return topHeadings(root, headings(root, text))
}

// topHeadings returns those of the headings found that are in no list, quote or callout, in their order.
func topHeadings(root *block, found map[*block]heading) []heading {
	var list []heading
	for _, b := range root.children {
		if h, isHeading := found[b]; isHeading {
			list = append(list, h)
		}
	}
	return list
}

// headings returns the headings that have words, by their block. Those within lists and quotes are among
// them, because they count for the slugs of the others. Of very many it finds the first maxDocumentHeadings.
func headings(root *block, text string) map[*block]heading {
	f := headingFinder{
		root:  root,
		text:  text,
		found: make(map[*block]heading),
		slugs: make(slugger),
	}
	f.find(root)
	return f.found
}

// headingFinder collects the headings of a document in order.
type headingFinder struct {
	root  *block
	text  string
	found map[*block]heading
	slugs slugger
	notes *linkNotes // nil until a heading may need them
}

func (f *headingFinder) find(b *block) {
	for _, child := range b.children {
		f.find(child)
	}
	if b.kind != blockHeading || len(f.found) == maxDocumentHeadings {
		return
	}
	source := f.text[b.lines[0].start:b.lines[len(b.lines)-1].end]
	shown := strings.TrimSpace(plainText(source, f.notesFor(source)))
	words := firstRunes(oneLine(shown), maxHeadingRunes)
	if words == "" {
		return
	}
	tail := source[max(0, len(source)-1000):] // an id stands at the end
	f.found[b] = heading{
		level: int(b.level),
		words: words,
		slug:  f.slugs.slug(tail, shown),
		line:  int(b.line),
	}
}

// notesFor returns the link definitions of the document, if source may name one.
func (f *headingFinder) notesFor(source string) *linkNotes {
	if !strings.Contains(source, "[") {
		return new(linkNotes)
	}
	if f.notes == nil {
		f.notes = collectNotes(f.root, f.text)
	}
	return f.notes
}

// slugger makes the slugs of a document's headings as GitHub does. Its keys are the slugs in use, and how
// often each was repeated.
type slugger map[string]int

// slug returns the slug of a heading with this source and this text. An id in the source takes precedence.
func (s slugger) slug(source, text string) string {
	if id := headingID.FindStringSubmatch(source); id != nil {
		own := id[1] + id[2]
		s[own] = max(s[own], 0)
		return own
	}

	base := githubSlug(text)
	slug := base
	for {
		if _, isUsed := s[slug]; !isUsed {
			break
		}
		s[base]++
		slug = base + "-" + strconv.Itoa(s[base])
	}
	s[slug] = 0
	return slug
}

// githubSlug returns text in lower case, without punctuation and symbols, and with hyphens for spaces. Its rules are
// those of npm's github-slugger, which GitHub, Docusaurus and others follow.
func githubSlug(text string) string {
	// İ is the only letter whose lower case has two runes.
	text = strings.ReplaceAll(text, "İ", "i\u0307")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', unicode.IsLetter(r), unicode.IsMark(r), unicode.In(r, slugRunes...):
			return unicode.ToLower(r)
		}
		return -1
	}, text)
}

// slugRunes are the runes that slugs keep, besides letters and marks.
var slugRunes = []*unicode.RangeTable{
	unicode.Nd,
	unicode.Nl,
	unicode.Pc,
	unicode.Other_Alphabetic,
}
