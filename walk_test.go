package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWalkObeysItsContextAndEntersNoDeepFolder walks folders below those that can have documents.
func TestWalkObeysItsContextAndEntersNoDeepFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	deep := strings.Repeat("d/", 900) // the path has 1,800 bytes
	if err := root.MkdirAll(deep, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.md", "d/d/b.md", deep + "c.md"} {
		if err := root.WriteFile(name, []byte("# A\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	s := newScanned(t, dir)
	s.scan()
	s.want("a.md", "d/d/b.md")

	scan := &folderScan{files: make(map[string]*fileState), leftOut: make(leftOut), devices: make(map[string]uint64), steps: new(scanSteps)}
	if err := scan.open([]docsRoot{{dir: filepath.Clean(dir)}}); err != nil {
		t.Fatal(err)
	}
	defer scan.close()
	if err := scan.walkRoot(t.Context(), scan.roots[0]); err != nil || scan.leftOut[leftOutDeep] != 1 {
		t.Errorf("left out %v: %v", scan.leftOut, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := scan.walkRoot(ctx, scan.roots[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}
