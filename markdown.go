package main

// Markdown into a title, headings and chunks.

import (
	"slices"
	"strings"
	"unicode"
)

const maxChunkRunes = 1200

// chunk is a part of a document that is found on its own.
type chunk struct {
	heading string // the path of headings that lead to it, "Install > Docker"; without the document's title
	line    int    // where its text begins in the document, from 1
	text    string // a substring of the document's text
}

// chunkMarkdown cuts text at its headings (ATX and setext, CommonMark 0.31), and longer sections into chunks of at
// most maxChunkRunes characters. The title is that of the front matter, else the first heading of level 1, else
// empty. All text but front matter and headings is in exactly one chunk; text that has nothing else is taken whole.
func chunkMarkdown(text string) (title string, chunks []chunk) {
	title, start := frontMatter(text)
	found := headings(text, start)
	if i := slices.IndexFunc(found, func(h heading) bool { return h.level == 1 }); title == "" && i >= 0 {
		title = found[i].text
	}
	c := chunker{text: text, line: 1}
	var path [6]string
	section := ""
	for _, h := range found {
		c.add(section, start, h.start)
		path[h.level-1] = h.text
		clear(path[h.level:])
		if path[0] == title {
			path[0] = "" // it is shown beside
		}
		section = strings.Join(slices.DeleteFunc(slices.Clone(path[:]), func(text string) bool { return text == "" }), " > ")
		start = h.end
	}
	c.add(section, start, len(text))
	if len(c.chunks) == 0 {
		c.add("", 0, len(text))
	}
	return title, slices.Clip(c.chunks)
}

// frontMatter returns the title in the YAML block that text may begin with, and where the Markdown starts.
func frontMatter(text string) (title string, start int) {
	start = len(text) - len(strings.TrimPrefix(text, "\ufeff"))
	at := lineEnd(text, start)
	if strings.TrimSpace(text[start:at]) != "---" {
		return "", start
	}
	for line := range strings.Lines(text[at:]) {
		at += len(line)
		line = strings.TrimSpace(line)
		if line == "---" {
			return title, at
		}
		if value, ok := strings.CutPrefix(line, "title:"); ok {
			title = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return "", start
}

// lineEnd returns where the line after the one at offset at begins.
func lineEnd(text string, at int) int {
	if i := strings.IndexByte(text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(text)
}

type heading struct {
	level      int
	text       string
	start, end int // of its line or lines, in bytes
}

// headings finds the headings of text from offset at on, outside fenced and indented code.
func headings(text string, at int) []heading {
	var found []heading
	fence := ""
	alone := -1 // start of the line before, if it is the first of its paragraph: it may turn out a setext heading
	blank := true
	for at < len(text) {
		end := lineEnd(text, at)
		line := strings.TrimSpace(text[at:end])
		inside, above, wasBlank := fence != "", alone, blank
		fence = nextFence(fence, line)
		alone, blank = -1, true
		level, title := atxHeading(text[at:end])
		switch {
		case inside || fence != "":
		case level > 0:
			found = append(found, heading{level, title, at, end})
		case above >= 0 && setextLevel(line) > 0:
			found = append(found, heading{setextLevel(line), strings.TrimSpace(text[above:at]), above, end})
		case wasBlank && line != "" && !strings.ContainsRune("-*+>|<", rune(line[0])):
			alone, blank = at, false
		default:
			blank = line == ""
		}
		at = end
	}
	return found
}

// nextFence returns the fence of code that is open after line, given the one that was open before, or "".
func nextFence(open, line string) string {
	run := line[:len(line)-len(strings.TrimLeft(line, "`"))]
	if run == "" {
		run = line[:len(line)-len(strings.TrimLeft(line, "~"))]
	}
	switch {
	case open == "" && len(run) >= 3 && !strings.Contains(line[len(run):], "`"):
		return run
	case open != "" && run == line && strings.HasPrefix(run, open):
		return ""
	}
	return open
}

// atxHeading returns the level of the heading that line is, 0 if it is none, and its text.
func atxHeading(line string) (level int, text string) {
	indented := strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t")
	line = strings.TrimSpace(line)
	text = strings.TrimLeft(line, "#")
	level = len(line) - len(text)
	if indented || level == 0 || level > 6 || text == strings.TrimLeft(text, " \t") {
		return 0, ""
	}
	text = strings.TrimSpace(text)
	if closed := strings.TrimRight(text, "#"); closed == "" || strings.HasSuffix(closed, " ") {
		text = strings.TrimSpace(closed)
	}
	if text == "" {
		return 0, ""
	}
	return level, text
}

func setextLevel(line string) int {
	switch {
	case line != "" && strings.Trim(line, "=") == "":
		return 1
	case len(line) > 1 && strings.Trim(line, "-") == "":
		return 2
	}
	return 0
}

// chunker collects the chunks of text in their order.
type chunker struct {
	text    string
	chunks  []chunk
	line    int // line number of the offset counted
	counted int
}

// add cuts text[start:end] into chunks under heading. Blank text makes none.
func (c *chunker) add(heading string, start, end int) {
	for {
		rest := strings.TrimLeftFunc(c.text[start:end], unicode.IsSpace)
		if rest == "" {
			return
		}
		blank := c.text[start : end-len(rest)]
		start += strings.LastIndexByte(blank, '\n') + 1 // the first line keeps its indentation
		cut := start + chunkLength(c.text[start:end])
		c.line += strings.Count(c.text[c.counted:start], "\n")
		c.counted = start
		c.chunks = append(c.chunks, chunk{heading, c.line, strings.TrimRightFunc(c.text[start:cut], unicode.IsSpace)})
		start = cut
	}
}

// chunkLength returns how many bytes of text make its first chunk: all if they are few enough, else up to the last
// place to cut of the best kind: the end of a paragraph, of a line outside code, of a line of code, of a sentence, of
// a word. To keep chunks from getting tiny, a cut in their first third is only better than one in the midst of code.
func chunkLength(text string) int {
	limit := runeOffset(text, maxChunkRunes)
	if limit == len(text) {
		return limit
	}
	text = text[:limit]
	at, paragraph, line, code, fence := 0, 0, 0, 0, ""
	for full := range strings.Lines(text[:strings.LastIndexByte(text, '\n')+1]) {
		at += len(full)
		trimmed := strings.TrimSpace(full)
		fence = nextFence(fence, trimmed)
		switch {
		case fence != "":
			code = at
		case trimmed == "":
			paragraph, line = at, at
		default:
			line = at
		}
	}
	least := limit / 3
	switch {
	case paragraph > least:
		return paragraph
	case line > least || code > 0 && line > 0:
		return line
	case code > 0:
		return code
	}
	for _, ends := range [][]string{{". ", "! ", "? ", "。", "！", "？"}, {" ", "\t"}} {
		cut := 0
		for _, end := range ends {
			cut = max(cut, strings.LastIndex(text, end)+len(end))
		}
		if cut > least {
			return cut
		}
	}
	return limit
}

// runeOffset returns where in text the rune number n begins, or its length.
func runeOffset(text string, n int) int {
	for i := range text {
		if n == 0 {
			return i
		}
		n--
	}
	return len(text)
}
