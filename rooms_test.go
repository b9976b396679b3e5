package main

// The rooms keep to their walls.

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestImportsKeepTheWalls fails if a file imports what belongs in another room.
func TestImportsKeepTheWalls(t *testing.T) {
	rooms := map[string][]string{ // import: the files that may have it
		"database/sql":                         {"postgres.go", "queries.go", "replicas.go", "writes.go"},
		"github.com/lib/pq":                    {"postgres.go", "queries.go", "replicas.go", "upkeep.go", "writes.go"},
		"os/signal":                            {"main.go"},
		"net":                                  {"guard.go", "main.go", "observe.go", "postgres.go", "parsers.go", "spans.go"},
		"io/fs":                                {"folder.go"},
		"encoding/json":                        {"answers.go", "bulk.go", "embed_api.go", "jsonrpc.go", "mcp.go", "resources.go", "tools.go"},
		"math/rand/v2":                         {"embed_remote.go", "record.go"},
		"runtime/debug":                        {"main.go", "server.go", "version.go"},
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
				allowed, walled = []string{"families.go", "gauges.go", "metrics.go", "outcomes.go"}, true
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
