package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryPromiseNamesItsTest looks for the tests that SECURITY.md names.
func TestEveryPromiseNamesItsTest(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, name := range files {
		tests.WriteString(readFile(t, name))
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(readFile(t, "SECURITY.md"), -1)
	if len(named) < 10 {
		t.Errorf("SECURITY.md names %d tests", len(named))
	}
	for _, match := range named {
		if !strings.Contains(tests.String(), "func "+match[1]+"(") {
			t.Errorf("there is no %s", match[1])
		}
	}
}
