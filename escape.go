package main

// Text of others, made safe to keep and to show: bounded, and without characters that a terminal obeys or
// that turn the order of what it shows.

import (
	"fmt"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

// displayable returns at most n bytes of s. Control and format characters are escaped: those of ASCII and of Latin-1,
// separators of lines, and marks of direction, which have the category Cf.
func displayable(s string, n int) string {
	if len(s) <= n && isPrintableASCII(s) {
		return s
	}

	var out strings.Builder
	for _, r := range s[:min(len(s), n)] {
		part := string(r)
		if isUnsafe(r) {
			part = fmt.Sprintf(`\u%04x`, r)
		}
		if r == utf8.RuneError || out.Len()+len(part) > n {
			continue // the end of a character that is cut, or no room for an escape
		}
		out.WriteString(part)
	}
	return out.String()
}

func isPrintableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// isASCII reports whether s has only characters of ASCII, and no DEL.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// isUnsafe reports whether a terminal may do something else with r than to show it.
func isUnsafe(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

const (
	// maxAttrsBytes bounds the attributes of a record's log line, which has 1 KB more.
	maxAttrsBytes = 7 << 10

	// maxValueBytes bounds a value of a record that may come from outside.
	maxValueBytes = 256

	// maxErrorTextBytes bounds the text of an error, which is ours and quotes what comes from outside.
	maxErrorTextBytes = 1024
)

// attrBytes returns about how many bytes a takes in a log line.
func attrBytes(a slog.Attr) int {
	const punctuation = 6
	if a.Value.Kind() == slog.KindString {
		return len(a.Key) + len(a.Value.String()) + punctuation
	}
	const number = 12
	return len(a.Key) + number + punctuation
}

// boundAttrs bounds the values of attrs in place and makes them safe to show. It writes only what changes, because
// stages share their attributes.
func boundAttrs(attrs []slog.Attr) {
	for i, a := range attrs {
		if a.Value.Kind() != slog.KindString {
			continue
		}
		limit := maxValueBytes
		if strings.HasSuffix(a.Key, "error") {
			limit = maxErrorTextBytes
		}
		text := a.Value.String()
		if bounded := displayable(text, limit); bounded != text {
			attrs[i].Value = slog.StringValue(bounded)
		}
	}
}
