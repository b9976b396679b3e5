package main

// Bounds of what a record keeps. Untrusted values are cut and escaped when they enter the record, so that the views
// need not do it.

import (
	"log/slog"
	"strings"
)

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
