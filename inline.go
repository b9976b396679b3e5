package main

// The words of Markdown without what is markup: headings as plain words, their slugs, and the text of
// blocks without comments, tags and data.

import (
	"html"
	"regexp"
	"strconv"
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

// placeholder is what manuals write for a value, such as <file> and <PATH>. It is text that can be found, unless it is
// an element of HTML.
var placeholder = regexp.MustCompile(`^<(?:[a-z][\w.-]*|[A-Z][A-Z0-9_-]+)>$`)

// inlineTags are the elements of HTML within text.
var inlineTags = func() map[string]bool {
	set := make(map[string]bool)
	for name := range strings.FieldsSeq(`
		a abbr audio b bdi bdo big br button canvas cite code data del dfn em font i img input ins kbd label mark math
		meter nobr object output picture pre progress q ruby rp rt s samp script select small span strike strong style
		sub sup svg template textarea time tt u var video wbr`) {
		set[name] = true
	}
	return set
}()

// imageAlt is a tag of a picture with its description.
var imageAlt = regexp.MustCompile(
	`^<(?i:img)\b[^>]*\balt\s*=\s*` +
		`(?:"([^"]*)"|'([^']*)')`)

// attributes are the ids and classes after a heading or paragraph: {#id}, { #id .class }, {: .class }.
var attributes = regexp.MustCompile(`^\{:?[ \t]*[.#][\w.:#=" \t-]*\}`)

// headingID is an id that an author has given to a heading: {#id}, or {/*id*/} in React's documentation.
var headingID = regexp.MustCompile(
	`(?:\{:?[ \t]*(?:\.[\w-]+[ \t]+)*#([^\s}]+)[^}]*\}|` +
		`\{/\*[ \t]*([^\s*]+)[ \t]*\*/\})[ \t]*$`)

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

// codeSpan is code within a line.
var codeSpan = regexp.MustCompile("`[^`]+`|``(?:[^`]|`[^`])+``")

// withoutMarkup returns the text of a block without its comments and tags, which readers do not see. It keeps the line
// ends, and does not change code.
func withoutMarkup(text string) string {
	if !strings.ContainsAny(text, "<{") {
		return text
	}

	var out strings.Builder
	unclosed := make(map[string]bool) // marks that no other one ends
	hasGap := false                   // a tag that separates words has been left out
	write := func(part string) {
		if hasGap && endsInWord(out.String()) && beginsWithWord(part) {
			out.WriteByte(' ')
		}
		hasGap = hasGap && part == ""
		out.WriteString(part)
	}
	for at := 0; at < len(text); {
		next := strings.IndexAny(text[at:], "<{`\\")
		if next < 0 {
			write(text[at:])
			break
		}
		write(text[at : at+next])
		at += next

		if n := codeLength(text[at:], unclosed); n > 0 {
			write(text[at : at+n])
			at += n
			continue
		}
		if n := invisibleLength(text[at:], unclosed); n > 0 {
			tag := text[at : at+n]
			write(visible(tag))
			hasGap = hasGap || separatesWords(tag)
			at += n
			continue
		}
		n := 1
		if text[at] == '\\' {
			n = min(2, len(text)-at)
		}
		write(text[at : at+n])
		at += n
	}
	return out.String()
}

// separatesWords reports whether tag is that of an element between words, such as a cell of a table.
func separatesWords(tag string) bool {
	isNameRune := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r)
	}
	name := strings.TrimPrefix(tag, "<")
	name = strings.TrimPrefix(name, "/")
	rest := strings.TrimLeftFunc(name, isNameRune)
	name = name[:len(name)-len(rest)]
	if name == "" || tag[0] != '<' {
		return false
	}
	name = strings.ToLower(name)
	return name == "br" || !inlineTags[name]
}

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
	afterMark := strings.TrimLeft(text, "`")
	mark := text[:len(text)-len(afterMark)]
	if len(mark) == 0 || len(mark) > maxCodeMarks || unclosed[mark] {
		return len(mark)
	}
	for at := len(mark); at < len(text); {
		next := strings.IndexByte(text[at:], '`')
		if next < 0 {
			break
		}
		at += next
		length := len(text[at:]) - len(strings.TrimLeft(text[at:], "`"))
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
		name := strings.ToLower(strings.Trim(tag, "<>"))
		isHTML := inlineTags[name] || blockTags.MatchString(tag)
		if placeholder.MatchString(tag) && !isHTML {
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
	ends := strings.Repeat("\n", strings.Count(tag, "\n"))
	if len(tag) > maxTagBytes {
		return ends
	}
	if alt := imageAlt.FindStringSubmatch(tag); alt != nil {
		return strings.ReplaceAll(alt[1]+alt[2], "\n", " ") + ends
	}
	return ends
}

// withoutData returns a line with "[image]" for the data of pictures, or "" if the line is other data.
func withoutData(line string) string {
	line = withoutDataURIs(line)
	if len(line) <= maxUnspacedRunes || strings.ContainsAny(strings.TrimSpace(line), " \t") {
		return line
	}
	isSpacelessText := strings.ContainsFunc(line, isWithoutSpaces)
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

// isWithoutSpaces reports whether r is of a script that is written without spaces between words.
func isWithoutSpaces(r rune) bool {
	const thai = 0x0e00 // the first of these scripts, which saves the search for most runes
	return r >= thai && unicode.In(r, unspacedScripts...)
}

var unspacedScripts = []*unicode.RangeTable{
	unicode.Han,
	unicode.Hiragana,
	unicode.Katakana,
	unicode.Hangul,
	unicode.Thai,
	unicode.Lao,
	unicode.Khmer,
	unicode.Myanmar,
}

// hasWords reports whether text has something to read: a letter, a digit or a symbol.
func hasWords(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsLetter(r) ||
			unicode.IsDigit(r) ||
			r >= utf8.RuneSelf && unicode.IsSymbol(r)
	})
}

var (
	icon = regexp.MustCompile(
		`:(?:material|fontawesome|octicons|simple)-[\w-]+:`)
	inlineLink = regexp.MustCompile(
		`!?\[((?:[^\[\]\\]|\\.|\[[^\[\]]*\])*)\]` +
			`(?:\((?:[^()\\]|\\.|\([^()]*\))*\)|\[[^\[\]]*\])`)
	autolink = regexp.MustCompile(
		`<([A-Za-z][A-Za-z0-9+.-]*:[^<>\s]*|[^<>\s@]+@[^<>\s]+)>`)
	emphasis = []*regexp.Regexp{
		regexp.MustCompile(`(\*{1,3})([^\s*](?:[^*]*[^\s*])?)(\*{1,3})`),
		regexp.MustCompile(`(~{1,2})([^\s~](?:[^~]*[^\s~])?)(~{1,2})`),
		regexp.MustCompile(`(^|[^\pL\pN_])_{1,3}([^\s_](?:.*?[^\s_])?)_{1,3}($|[^\pL\pN_])`),
	}
	escaped    = regexp.MustCompile("\\\\([!-/:-@\\[-`{-~])")
	keptMark   = regexp.MustCompile("\ue000(\\d+)\ue001")
	privateUse = strings.NewReplacer("\ue000", "", "\ue001", "")
)

// plainWords returns a line of Markdown as a reader sees it, with at most maxHeadingRunes characters.
func plainWords(text string) string {
	line := oneLine(plainText(text))
	return firstRunes(line, maxHeadingRunes)
}

// plainText returns the text of a line of Markdown without its markup. It keeps the white space.
func plainText(text string) string {
	text = privateUse.Replace(text[:runeOffset(text, 8*maxHeadingRunes)])

	// Code and escaped characters are replaced by numbered marks, so that nothing in them is taken for markup. The last
	// statement restores them.
	var kept []string
	keep := func(s string) string {
		kept = append(kept, s)
		return "\ue000" + strconv.Itoa(len(kept)-1) + "\ue001"
	}
	text = codeSpan.ReplaceAllStringFunc(text, func(code string) string {
		return keep(strings.TrimSpace(strings.Trim(code, "`")))
	})
	text = escaped.ReplaceAllStringFunc(text, func(s string) string { return keep(s[1:]) })

	text = autolink.ReplaceAllString(text, "$1")
	text = icon.ReplaceAllString(withoutMarkup(text), "")
	for range 3 { // a picture may be in a link
		text = inlineLink.ReplaceAllString(text, "$1")
	}
	text = emphasis[0].ReplaceAllString(text, "$2")
	text = emphasis[1].ReplaceAllString(text, "$2")
	text = emphasis[2].ReplaceAllString(text, "$1$2$3")
	text = html.UnescapeString(text)
	return keptMark.ReplaceAllStringFunc(text, func(mark string) string {
		i, err := strconv.Atoi(strings.Trim(mark, "\ue000\ue001"))
		if err != nil || i >= len(kept) {
			return ""
		}
		return kept[i]
	})
}

func firstRunes(s string, n int) string {
	return strings.TrimSpace(s[:runeOffset(s, n)])
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
