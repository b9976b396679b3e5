package main

// The fields of front matter, and a scanner for the values that YAML's flow style and TOML have in common:
// quoted strings, plain scalars, lists and inline maps. It reads each byte once.

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// fields are the values of the front matter by lower-case key: a scalar is one string, a list is
// several. The key of a nested field follows that of its map and a dot: "search.exclude".
type fields map[string][]string

// keywordFields are the fields that make a document's keywords. Zola has its tags in taxonomies.
var keywordFields = []string{"description", "aliases", "tags", "keywords", "taxonomies.tags"}

// unpublishedFields are the fields and values of documents that readers must not see.
var unpublishedFields = []struct{ key, value, reason string }{
	{"draft", "true", "draft: true"},
	{"published", "false", "published: false"},
	{"unlisted", "true", "unlisted: true"},
	{"search", "false", "search: false"},
	{"search", "exclude", "search: exclude"},
	{"search.exclude", "true", "search: exclude"},
	{"noindex", "true", "noindex: true"},
}

// set sets the values of a field that metadata needs. A later value replaces an earlier one.
func (f fields) set(key string, values []string) {
	key = strings.ToLower(key)
	isKnown := key == "title" || slices.Contains(keywordFields, key)
	for _, rule := range unpublishedFields {
		isKnown = isKnown || key == rule.key
	}
	if isKnown {
		f[key] = values
	}
}

// nestedKey returns the key of a field inside the map of another field, or at the top if that is "".
// No field that is needed has a long key: cutting the key bounds the cost of nested maps.
func nestedKey(outer, key string) string {
	if outer == "" {
		return key
	}
	return firstBytes(outer, 32) + "." + firstBytes(key, 32)
}

// oneLine replaces each run of space and control characters in s by one space. PostgreSQL rejects
// NUL, which escapes can express.
func oneLine(s string) string {
	isSeparator := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	return strings.Join(strings.FieldsFunc(s, isSeparator), " ")
}

// maxValueDepth bounds the recursion: values that are nested deeper are not understood.
const maxValueDepth = 16

// valueScanner scans values in text.
type valueScanner struct {
	text   string
	at     int // offset of the next byte
	isTOML bool
	depth  int    // lists and maps around the current value
	fields fields // gets the fields of maps
}

// value scans the value of the field key. A scalar is one string, a list those of its items, a map
// none. ok is false if the value cannot be understood.
func (s *valueScanner) value(key string) (values []string, ok bool) {
	s.skipSpace()
	if s.depth > maxValueDepth {
		return nil, false
	}
	switch s.next() {
	case '"', '\'':
		text, ok := s.quoted()
		return []string{text}, ok
	case '[':
		return s.list(key)
	case '{':
		return nil, s.table(key)
	}
	return s.plain(), true
}

// next returns the next byte, or 0 at the end.
func (s *valueScanner) next() byte {
	if s.at == len(s.text) {
		return 0
	}
	return s.text[s.at]
}

// accept skips the next byte if it is c.
func (s *valueScanner) accept(c byte) bool {
	s.skipSpace()
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

// skipSpace skips white space, line ends and comments.
func (s *valueScanner) skipSpace() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		case '#':
			s.skipLine()
		default:
			return
		}
	}
}

// skipLine skips the rest of the line.
func (s *valueScanner) skipLine() {
	s.at = lineEnd(s.text, s.at)
}

// atEnd reports whether only white space and comments are left.
func (s *valueScanner) atEnd() bool {
	s.skipSpace()
	return s.at == len(s.text)
}

// list scans "[a, b]". The items of lists inside it become its own.
func (s *valueScanner) list(key string) (values []string, ok bool) {
	s.at++
	s.depth++
	defer func() { s.depth-- }()

	for !s.accept(']') {
		before := s.at
		items, ok := s.value(key)
		if !ok {
			return nil, false
		}
		values = append(values, items...)
		if !s.accept(',') && s.next() != ']' || s.at == before {
			return nil, false
		}
	}
	return values, true
}

// table scans "{a: b}" or, in TOML, "{a = b}", and sets its fields.
func (s *valueScanner) table(outer string) bool {
	s.at++
	s.depth++
	defer func() { s.depth-- }()

	for !s.accept('}') {
		key, ok := s.key()
		if !ok {
			return false
		}
		key = nestedKey(outer, key)
		values, ok := s.value(key)
		if !ok {
			return false
		}
		s.fields.set(key, values)
		if !s.accept(',') && s.next() != '}' {
			return false
		}
	}
	return true
}

// key scans a key and the mark after it. The parts of a dotted key of TOML count as nested.
func (s *valueScanner) key() (key string, ok bool) {
	mark := byte(':')
	ends := ":,[]{}\n"
	if s.isTOML {
		mark = '='
		ends = "=.,[]{}\n"
	}
	for {
		part, ok := s.keyPart(ends)
		if !ok {
			return "", false
		}
		key = nestedKey(key, part)
		if !s.isTOML || !s.accept('.') {
			return key, s.accept(mark)
		}
	}
}

// keyPart scans a quoted key, or a plain one that ends before one of ends.
func (s *valueScanner) keyPart(ends string) (part string, ok bool) {
	s.skipSpace()
	if c := s.next(); c == '"' || c == '\'' {
		return s.quoted()
	}
	length := strings.IndexAny(s.text[s.at:], ends)
	if length < 1 {
		return "", false
	}
	part = strings.TrimSpace(s.text[s.at : s.at+length])
	s.at += length
	return part, true
}

// plain scans a scalar without quotes. It ends before a comment and, inside lists and maps, before
// their marks. In TOML it ends with the line, too. The null of YAML has no value.
func (s *valueScanner) plain() []string {
	begin := s.at
	for s.at < len(s.text) && !s.endsPlain() {
		s.at++
	}
	text := oneLine(s.text[begin:s.at])
	switch text {
	case "", "~", "null", "Null", "NULL":
		return nil
	}
	return []string{text}
}

func (s *valueScanner) endsPlain() bool {
	switch c := s.text[s.at]; c {
	case ',', '[', ']', '{', '}':
		return s.depth > 0
	case '#':
		return s.isTOML || s.at > 0 && strings.IndexByte(" \t\n", s.text[s.at-1]) >= 0
	default:
		return s.isTOML && c == '\n'
	}
}

// quoted scans a string in quotes, and replaces its escapes. Line ends become spaces.
func (s *valueScanner) quoted() (text string, ok bool) {
	mark := s.text[s.at : s.at+1]
	triple := strings.Repeat(mark, 3)
	isMultiline := s.isTOML && strings.HasPrefix(s.text[s.at:], triple)
	if isMultiline {
		mark = triple
	}
	s.at += len(mark)

	var b strings.Builder
	for s.at < len(s.text) {
		rest := s.text[s.at:]
		switch {
		case rest[0] == '\\' && mark[0] == '"':
			b.WriteString(s.escape())
		case !s.isTOML && mark == "'" && strings.HasPrefix(rest, "''"):
			b.WriteByte('\'')
			s.at += 2
		case strings.HasPrefix(rest, mark):
			s.at += len(mark)
			return oneLine(b.String()), true
		case rest[0] == '\n' && s.isTOML && !isMultiline:
			return "", false
		default:
			b.WriteByte(rest[0])
			s.at++
		}
	}
	return "", false
}

// escapeDigits is how many hexadecimal digits follow the letter of an escape.
var escapeDigits = map[byte]int{'x': 2, 'u': 4, 'U': 8}

// escape scans the escape sequence that begins with the next byte, a backslash, and returns what it
// stands for.
func (s *valueScanner) escape() string {
	rest := s.text[s.at+1:]
	if rest == "" || rest[0] >= utf8.RuneSelf { // a letter outside ASCII stands for itself
		s.at++
		return ""
	}
	s.at += 2

	letter := rest[0]
	if n := escapeDigits[letter]; n > 0 && len(rest) > n {
		code, err := strconv.ParseUint(rest[1:1+n], 16, 32)
		if err != nil {
			return ""
		}
		s.at += n
		return string(rune(code))
	}
	switch letter {
	case '\n':
		s.at += len(rest) - len(strings.TrimLeft(rest, "\n \t\r")) - 1 // the line goes on
		return ""
	case '"', '\\', '/', '\'':
		return string(letter)
	}
	return " " // \n, \t and other control characters and spaces
}
