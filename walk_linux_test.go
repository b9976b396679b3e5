package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// rootOfTest opens a temporary folder so that paths in it may be longer than the system allows otherwise.
func rootOfTest(t *testing.T) (dir string, root *os.Root) {
	t.Helper()
	dir = t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return dir, root
}

// TestWalkObeysItsContextAndEntersNoDeepFolder walks folders below those that can have documents.
func TestWalkObeysItsContextAndEntersNoDeepFolder(t *testing.T) {
	t.Parallel()
	dir, root := rootOfTest(t)
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

// TestSignalIsHeardWhileDeepFoldersAreRead stops the program in its first scan of folders in which no file can have an id.
// Without a bound, listing them would take minutes.
func TestSignalIsHeardWhileDeepFoldersAreRead(t *testing.T) {
	t.Parallel()
	dir, root := rootOfTest(t)
	for i := range 4 {
		deep := fmt.Sprint(i, "/", strings.Repeat("d/", 4000))
		if err := root.MkdirAll(deep, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := root.WriteFile(deep+"a.md", []byte("# A\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"DOCS_DIR=" + dir}
	p := launch(t, env)
	waitForOK(t, p.url+"/livez")
	p.terminate(t)

	p = start(t, env) // ready after its first scan
	if _, body := p.get("/readyz?verbose"); !strings.Contains(body, "left out 4 too deep") {
		t.Error(body)
	}
	p.terminate(t)
}

// TestDeepFoldersAreNotWatched counts the folders that are watched.
func TestDeepFoldersAreNotWatched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, strings.Repeat("d/", 400)), 0o777); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	roots := []docsRoot{{dir: dir}}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := watchAll(ctx, fd, roots, nil); err != nil {
		t.Fatal(err)
	}
	watches, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if n := strings.Count(string(watches), "inotify wd:"); err != nil || n > 300 {
		t.Errorf("%d folders are watched, %v", n, err)
	}
	cancel()
	if _, err := watchAll(ctx, fd, roots, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}
