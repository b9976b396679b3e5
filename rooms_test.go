package main

// The rooms keep to their walls, and the documents that guide a reader through them are true.

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestImportsKeepTheWalls fails if a file imports what belongs in another room.
func TestImportsKeepTheWalls(t *testing.T) {
	rooms := map[string][]string{ // import: the files that may have it
		"database/sql":                         {"dberrors.go", "dbpool.go", "postgres.go", "queries.go", "rank_sql.go", "replicas.go", "search.go", "transaction.go", "writes.go"},
		"github.com/lib/pq":                    {"changes.go", "dberrors.go", "dbpool.go", "postgres.go", "queries.go", "rank_sql.go", "replicas.go", "search.go", "upkeep.go", "writes.go"},
		"os/signal":                            {"main.go", "signals.go"},
		"net":                                  {"command.go", "connections.go", "dberrors.go", "greeting.go", "guard.go", "main.go", "postgres.go", "parsers.go"},
		"io/fs":                                {"leftout.go", "notify_linux.go", "scan.go", "system_darwin.go", "system_linux.go", "system_other.go"},
		"encoding/json":                        {"answers.go", "bulk.go", "collector.go", "embed_api.go", "frontmatter.go", "identity.go", "jsonrpc.go", "mcp.go", "members.go", "resources.go", "results.go", "tools.go"},
		"math/rand/v2":                         {"cost.go", "embed_remote.go", "record.go"},
		"runtime/debug":                        {"cgroup.go", "routes.go", "build.go"},
		"runtime/pprof":                        {"pprof.go"},
		"runtime/trace":                        {"pprof.go"},
		"crypto/subtle":                        {"guard.go"},
		"unsafe":                               {},
		"go.opentelemetry.io/otel/propagation": {"propagate.go"},
		"go.opentelemetry.io/otel/trace":       {"record.go", "propagate.go", "spans.go"},
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			allowed, walled := rooms[path]
			if strings.Contains(path, "prometheus") {
				allowed, walled = []string{"families.go", "gauges.go", "metrics.go", "outcomes.go", "scrape.go"}, true
			}
			if strings.Contains(path, "opentelemetry") && !walled {
				allowed, walled = []string{"spans.go", "traces.go"}, true
			}
			if walled && !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s, which belongs in %v", name, path, allowed)
			}
		}
	}
}

// roomFiles returns the names of the program's Go files, without the tests.
func roomFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	isTest := func(name string) bool { return strings.HasSuffix(name, "_test.go") }
	return slices.DeleteFunc(files, isTest)
}

// tableFiles returns the files in the first column of the Markdown tables in text.
func tableFiles(text string) []string {
	var files []string
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]*) \|`).FindAllStringSubmatch(text, -1) {
		files = append(files, regexp.MustCompile(`[\w./]+\.\w+`).FindAllString(row[1], -1)...)
	}
	return files
}

// TestReadmeReadings fails unless each room is in one of README's two readings, and the first one is short enough.
func TestReadmeReadings(t *testing.T) {
	_, reading, _ := strings.Cut(readFile(t, "README.md"), "\n## Reading it\n")
	first, rest, isSplit := strings.Cut(reading, "\n**The rest**")
	if !isSplit {
		t.Fatal("README.md has no two readings")
	}

	afternoon := tableFiles(first)
	if n := len(afternoon); n < 10 || n > 13 {
		t.Errorf("the afternoon has %d rooms, want 10 to 13", n)
	}
	lines := 0
	for _, name := range afternoon {
		lines += strings.Count(readFile(t, name), "\n")
	}
	if lines > 3600 {
		t.Errorf("the afternoon has %d lines, want at most 3600", lines)
	}

	readings := make(map[string]int)
	for _, name := range append(afternoon, tableFiles(rest)...) {
		readings[name]++
	}
	for _, name := range roomFiles(t) {
		if readings[name] == 0 {
			t.Errorf("%s is in neither reading", name)
		}
	}
	for name, n := range readings {
		if _, err := os.Stat(name); err != nil || n > 1 {
			t.Errorf("%s is named %d times: %v", name, n, err)
		}
	}
}

// TestGuidesNameWhatExists fails if a guide names a file that does not exist, or a declaration that is not in the file named
// with it, as in `handlers.go handleSearch`.
func TestGuidesNameWhatExists(t *testing.T) {
	declared := make(map[string]bool) // "file name"
	for _, name := range roomFiles(t) {
		for _, declaration := range declarations(t, name) {
			declared[name+" "+declaration] = true
		}
	}
	for _, guide := range []string{"ARCHITECTURE.md", "CONTRIBUTING.md"} {
		text := readFile(t, guide)
		references := regexp.MustCompile("`(\\w+\\.go \\w+)`").FindAllStringSubmatch(text, -1)
		if len(references) == 0 {
			t.Errorf("%s names no declaration", guide)
		}
		for _, reference := range references {
			if !declared[reference[1]] {
				t.Errorf("%s: there is no %s", guide, reference[1])
			}
		}
		for _, name := range regexp.MustCompile(`[\w./-]+\.(?:go|sql|md|ya?ml|json|html|tsv|sh)\b`).FindAllString(text, -1) {
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s: %v", guide, err)
			}
		}
	}
}

// declarations returns the names that a Go file declares at the top, methods among them.
func declarations(t *testing.T, name string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, declaration := range file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			names = append(names, d.Name.Name)
		case *ast.GenDecl:
			names = append(names, specNames(d.Specs)...)
		}
	}
	return names
}

func specNames(specs []ast.Spec) []string {
	var names []string
	for _, spec := range specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			names = append(names, s.Name.Name)
		case *ast.ValueSpec:
			for _, id := range s.Names {
				names = append(names, id.Name)
			}
		}
	}
	return names
}

// TestArchitectureShowsTheLayers compares the table of layers in ARCHITECTURE.md with the one that TestArrows enforces.
func TestArchitectureShowsTheLayers(t *testing.T) {
	var table strings.Builder
	table.WriteString("| layer | rooms | uses |\n|---|---|---|\n")
	for _, l := range layers {
		uses := strings.Join(l.uses, ", ")
		if len(l.uses) == len(layers)-1 {
			uses = "all"
		}
		cells := strings.Join([]string{l.name, strings.Join(l.rooms, ", "), uses}, " | ")
		table.WriteString("| " + strings.TrimRight(cells, " ") + " |\n")
	}
	if !strings.Contains(readFile(t, "ARCHITECTURE.md"), table.String()) {
		t.Errorf("ARCHITECTURE.md has another table of layers than\n%s", table.String())
	}
}
