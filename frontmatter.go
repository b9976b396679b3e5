package main

// The front matter of a document: metadata in YAML, TOML or JSON above the Markdown. Only the fields
// that a search and a reader need are kept. What cannot be understood is skipped, and never
// becomes text of the document.

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

const (
	// maxFrontMatterBytes is how much of the front matter is read. The rest is skipped.
	maxFrontMatterBytes = 64 << 10

	// maxKeywordRunes is the most characters that the keywords of a document have together.
	maxKeywordRunes = 2000
)

// metadata is what the front matter says about a document, and what parseMarkdown adds.
type metadata struct {
	title       string
	isUntitled  bool   // the title is only the name of the file
	keywords    string // description, aliases, tags and keywords, one per line
	unpublished string // why readers must not see the document, such as "draft: true", or ""
	indexed     int    // number of lines that the index has, if it has only the beginning; 0: all
}

// frontMatter returns the metadata at the start of text, and the offset at which the Markdown begins:
// after the front matter and a byte order mark.
func frontMatter(text string) (m metadata, start int) {
	start = len(text) - len(strings.TrimPrefix(text, "\ufeff"))
	read, block, end := splitFrontMatter(text, start)
	if read == nil {
		return metadata{}, start
	}

	if len(block) > maxFrontMatterBytes {
		block = block[:strings.LastIndexByte(block[:maxFrontMatterBytes], '\n')+1]
	}
	found := make(fields)
	read(block, found)
	return found.metadata(), end
}

// splitFrontMatter returns the front matter that begins at offset start, the function that reads it,
// and the offset after it. Without front matter the function is nil.
func splitFrontMatter(text string, start int) (read func(string, fields), block string, end int) {
	at := lineEnd(text, start)
	switch first := strings.TrimRight(text[start:at], " \t\r\n"); {
	case first == "---" && !isThematicBreak(text[at:]):
		block, end = untilLine(text, at, "---", "...")
		read = readYAML
	case first == "+++":
		block, end = untilLine(text, at, "+++")
		read = readTOML
	case strings.HasPrefix(first, "{"):
		block, end = jsonObject(text, start)
		read = readJSON
	}
	if end == 0 {
		return nil, "", 0
	}
	return read, block, end
}

// untilLine returns the text from offset at up to a line that is one of marks, and the offset after that
// line. If there is no such line, end is 0.
func untilLine(text string, at int, marks ...string) (block string, end int) {
	end = at
	for line := range strings.Lines(text[at:]) {
		block = text[at:end]
		end += len(line)
		if slices.Contains(marks, strings.TrimRight(line, " \t\r\n")) {
			return block, end
		}
	}
	return "", 0
}

// isThematicBreak reports whether a line "---" above rest is a thematic break and not the beginning of
// front matter: a blank line follows, and the first text is not a field.
func isThematicBreak(rest string) bool {
	isFirst := true
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if line != "" {
			_, _, isField := yamlKey(line)
			return !isFirst && !isField && line != "---" && line != "..."
		}
		isFirst = false
	}
	return false
}

// jsonObject returns the JSON object at offset start and the offset after its last line. If it is
// broken, it ends at the first line that is "}". If there is no object, end is 0.
func jsonObject(text string, start int) (block string, end int) {
	if next := strings.TrimSpace(firstBytes(text[start+1:], 1000)); !strings.HasPrefix(next, `"`) {
		return "", 0 // "{{< toc >}}", "{% include %}" and the like
	}

	decoder := json.NewDecoder(strings.NewReader(text[start:]))
	var object json.RawMessage
	if decoder.Decode(&object) == nil {
		at := start + int(decoder.InputOffset())
		end = lineEnd(text, at)
		if strings.TrimSpace(text[at:end]) == "" {
			return text[start:at], end
		}
		return "", 0
	}
	if strings.TrimSpace(text[start:lineEnd(text, start)]) != "{" {
		return "", 0
	}
	return untilLine(text, start, "}")
}

// metadata returns what the fields say about the document.
func (f fields) metadata() metadata {
	var keywords []string
	for _, key := range keywordFields {
		keywords = append(keywords, f[key]...)
	}
	joined := strings.Join(keywords, "\n")

	m := metadata{
		title:    strings.Join(f["title"], " "),
		keywords: joined[:runeOffset(joined, maxKeywordRunes)],
	}
	for _, rule := range unpublishedFields {
		values := f[rule.key]
		if len(values) == 1 && switchWord(values[0]) == rule.value {
			m.unpublished = rule.reason
			break
		}
	}
	return m
}

// switchWord returns a value in lower case, and the booleans of YAML 1.1 as true and false.
func switchWord(value string) string {
	value = strings.ToLower(value)
	switch value {
	case "yes", "on":
		return "true"
	case "no", "off":
		return "false"
	}
	return value
}

// readJSON sets the fields of a JSON object.
func readJSON(block string, into fields) {
	var object map[string]any
	decoder := json.NewDecoder(bytes.NewReader([]byte(block)))
	decoder.UseNumber()
	if decoder.Decode(&object) != nil {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(object)) { // keys may differ in case alone
		into.setJSON(key, object[key])
	}
}

// setJSON sets a field to a decoded value, and the fields inside it.
func (f fields) setJSON(key string, value any) {
	var values []string
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			f.set(nestedKey(key, name), jsonScalars(v[name]))
		}
		return
	case []any:
		for _, item := range v {
			values = append(values, jsonScalars(item)...)
		}
	default:
		values = jsonScalars(v)
	}
	f.set(key, values)
}

// jsonScalars returns a decoded scalar as text, or nil if value is no scalar.
func jsonScalars(value any) []string {
	switch v := value.(type) {
	case string:
		return []string{oneLine(v)}
	case json.Number:
		return []string{v.String()}
	case bool:
		if v {
			return []string{"true"}
		}
		return []string{"false"}
	}
	return nil
}
