package main

import (
	"math/rand"
	"regexp"
	"strings"
	"testing"
)

// htmlTag is what tagLength reads, as a regular expression.
var htmlTag = regexp.MustCompile(`^</?(?:[A-Za-z][\w.-]*(?:\s+(?:[A-Za-z_:@][\w.:-]*(?:\s*=\s*(?:[^\s"'=<>` + "`" +
	`{}]+|'[^']*'|"[^"]*"|\{\{.*?\}\}|\{[^}]*\}))?|\{[^}]*\}))*\s*/?)?>`)

// TestTagsAreThoseOfTheExpression compares the two on random text of the characters that matter.
func TestTagsAreThoseOfTheExpression(t *testing.T) {
	t.Parallel()
	parts := []string{"<", ">", "/", "a", "Tab.Item", "b", "=", "\"", "'", "{", "}", "{{", "}}", " ", "\n", "x y", "-", "_", ":", "@", "1", "`", "<a b=", "é"}
	random := rand.New(rand.NewSource(1))
	tags := 0
	for range 300_000 {
		var text strings.Builder
		text.WriteString("<")
		for range 1 + random.Intn(12) {
			text.WriteString(parts[random.Intn(len(parts))])
		}
		got, want := tagLength(text.String()), len(htmlTag.FindString(text.String()))
		if got != want {
			t.Fatalf("%q: %d bytes, want %d", text.String(), got, want)
		}
		if want > 0 {
			tags++
		}
	}
	if tags < 1000 {
		t.Errorf("only %d tags", tags)
	}
}
