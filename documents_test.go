package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckID(t *testing.T) {
	long := strings.Repeat("a", 197) + ".md"
	for id, want := range map[string]string{
		"a.md":                         "",
		"guide/install.md":             "",
		"führung/日本語 v2.md":            "",
		long:                           "",
		long + "/" + long + "/" + long: "longer than 512",
		"a" + long:                     "segment longer than 200",
		"a":                            "does not end in .md",
		"a.MD":                         "does not end in .md",
		"":                             "does not end in .md",
		".md":                          "starts with a dot",
		"../a.md":                      "starts with a dot",
		"a/../b.md":                    "starts with a dot",
		"a/.git/b.md":                  "starts with a dot",
		"/a.md":                        "empty segment",
		"a//b.md":                      "empty segment",
		`a\b.md`:                       "backslash",
		"a\nb.md":                      "control character",
		"a\x00.md":                     "control character",
		"a\u0085.md":                   "control character",
		"a\xff.md":                     "not UTF-8",
	} {
		err := checkID(id)
		if want == "" {
			if err != nil {
				t.Errorf("checkID(%.30q) = %v, want no error", id, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("checkID(%.30q) = %v, want %q", id, err, want)
		}
	}
}

func FuzzCheckID(f *testing.F) {
	for _, id := range []string{"a.md", "../a.md", "a/./b.md", "a//.md", "C:\\a.md", "a.md/", "NUL.md"} {
		f.Add(id)
	}

	f.Fuzz(func(t *testing.T, id string) {
		if checkID(id) != nil {
			return
		}
		isPlain := filepath.IsLocal(id) && filepath.Clean(id) == id
		if !isPlain || !utf8.ValidString(id) || len(id) > 512 {
			t.Errorf("%q passes but is no plain relative path", id)
		}
	})
}

func TestEveryQueryHasASeriesFromTheStart(t *testing.T) {
	metrics := newTestServer(t).get("/metrics").body
	for summary, operation := range map[string]string{
		"search":   "SELECT",
		"document": "SELECT",
		"list":     "SELECT",
		"size":     "SELECT",
		"known":    "SELECT",
		"put":      "INSERT",
		"sync":     "INSERT",
		"remove":   "DELETE",
		"embed":    "UPDATE",
		"maintain": "UPDATE",
	} {
		want := fmt.Sprintf(`db_client_operation_duration_seconds_count{db_operation_name=%q,db_query_summary=%q,error_type=""}`, operation, summary)
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
}
