package main

// YAML, as far as front matter needs it: the scalars and lists of the top level and of the maps below
// it, in block and in flow style. Entries are told apart by their indentation, so one that cannot be
// understood is skipped as a whole.

import (
	"slices"
	"strings"
)

// readYAML sets the fields of a block mapping.
func readYAML(block string, into fields) {
	lines := slices.Collect(strings.Lines(block))
	trimmed := strings.TrimSpace(block)
	if strings.HasPrefix(trimmed, "{") {
		s := valueScanner{text: trimmed, fields: into}
		s.table("")
		return
	}
	readMapping(lines, "", into)
}

// readMapping sets the fields of the block mapping in lines, which is the value of the field outer, or
// the top level if that is "".
func readMapping(lines []string, outer string, into fields) {
	lines = skipIgnored(lines)
	if len(lines) == 0 {
		return
	}
	base := indentation(lines[0])
	for len(lines) > 0 {
		key, inline, ok := yamlKey(strings.TrimSpace(lines[0]))
		n := entryLength(lines, base)
		if ok && indentation(lines[0]) == base {
			e := yamlEntry{nestedKey(outer, key), inline, lines[1:n]}
			e.read(into, outer == "")
		}
		lines = lines[n:]
	}
}

// entryLength returns the number of lines of the entry that begins with the first of lines: up to the
// next key with the indentation base.
func entryLength(lines []string, base int) int {
	for i, line := range lines[1:] {
		if indentation(line) > base || isIgnored(line) || isItem(line) {
			continue
		}
		first := strings.TrimSpace(line)[0]
		if first != ']' && first != '}' { // these end a value in flow style
			return i + 1
		}
	}
	return len(lines)
}

// yamlKey returns the key of a line and what follows its colon.
func yamlKey(line string) (key, rest string, ok bool) {
	if line == "" || strings.IndexByte("#[]{}|>&*!%@`,", line[0]) >= 0 || isItem(line) {
		return "", "", false
	}
	if line[0] == '"' || line[0] == '\'' {
		s := valueScanner{text: line}
		key, ok = s.quoted()
		rest = strings.TrimLeft(line[s.at:], " \t")
		rest, isKey := strings.CutPrefix(rest, ":")
		return key, strings.TrimSpace(rest), ok && isKey
	}

	at := strings.Index(line+" ", ": ")
	if tab := strings.Index(line, ":\t"); tab >= 0 && (at < 0 || tab < at) {
		at = tab
	}
	if at < 1 || strings.Contains(line[:at], " #") {
		return "", "", false
	}
	return strings.TrimSpace(line[:at]), strings.TrimSpace(line[at+1:]), true
}

// indentation returns the number of spaces and tabs before the text of a line.
func indentation(line string) int {
	return len(line) - len(strings.TrimLeft(line, " \t"))
}

// isIgnored reports whether a line is blank or a comment.
func isIgnored(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || line[0] == '#'
}

// skipIgnored returns lines without the blank lines and comments before the first other one.
func skipIgnored(lines []string) []string {
	for len(lines) > 0 && isIgnored(lines[0]) {
		lines = lines[1:]
	}
	return lines
}

// isItem reports whether a line begins an item of a block sequence.
func isItem(line string) bool {
	line = strings.TrimSpace(line)
	return line == "-" || strings.HasPrefix(line, "- ") || strings.HasPrefix(line, "-\t")
}

// yamlEntry is an entry of a mapping, or an item of a sequence.
type yamlEntry struct {
	key    string
	inline string   // its value on the line of the key
	lines  []string // the lines below
}

// read sets the field of an entry. If the value is a mapping, and the entry is at the top, it sets the
// fields inside.
func (e yamlEntry) read(into fields, isTop bool) {
	inline := withoutProperties(e.inline)
	below := skipIgnored(e.lines)
	isInline := inline != "" && inline[0] != '#'
	if isInline || len(below) == 0 {
		into.set(e.key, e.scalar(into))
		return
	}

	_, _, isMapping := yamlKey(strings.TrimSpace(below[0]))
	switch {
	case isItem(below[0]):
		into.set(e.key, yamlItems(e.key, below, into))
	case isMapping && isTop:
		readMapping(below, e.key, into)
	case !isMapping:
		into.set(e.key, e.scalar(into))
	}
}

// yamlItems returns the scalars of a block sequence. It skips items that are maps or sequences.
func yamlItems(key string, lines []string, into fields) []string {
	var values []string
	base := indentation(lines[0])
	for len(lines) > 0 {
		n := 1
		for n < len(lines) && (indentation(lines[n]) > base || isIgnored(lines[n])) {
			n++
		}
		first := strings.TrimSpace(lines[0])
		inline := strings.TrimSpace(strings.TrimPrefix(first, "-"))
		_, _, isMapping := yamlKey(inline)
		if isItem(first) && !isItem(inline) && !isMapping {
			item := yamlEntry{key, inline, lines[1:n]}
			values = append(values, item.scalar(into)...)
		}
		lines = lines[n:]
	}
	return values
}

// scalar returns the value of an entry that is a block scalar, a flow value or a plain scalar. The
// parts of a scalar of several lines are joined by spaces.
func (e yamlEntry) scalar(into fields) []string {
	inline := withoutProperties(e.inline)
	switch {
	case strings.HasPrefix(inline, "|") || strings.HasPrefix(inline, ">"):
		return []string{blockScalar(e.lines)}
	case strings.HasPrefix(inline, "*"):
		return nil // an alias
	}

	s := valueScanner{
		text:   inline + "\n" + strings.Join(e.lines, ""),
		fields: into,
	}
	values, ok := s.value(e.key)
	if !ok || !s.atEnd() {
		return nil
	}
	return values
}

// blockScalar returns the text of a literal or folded block, which ends before a comment that is not
// indented.
func blockScalar(lines []string) string {
	for i, line := range lines {
		if strings.TrimSpace(line) != "" && indentation(line) == 0 {
			lines = lines[:i]
			break
		}
	}
	return oneLine(strings.Join(lines, ""))
}

// withoutProperties returns a value without its tag and anchor.
func withoutProperties(value string) string {
	for value != "" && (value[0] == '!' || value[0] == '&') {
		_, rest, _ := strings.Cut(value, " ")
		value = strings.TrimSpace(rest)
	}
	return value
}
