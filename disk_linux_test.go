package main

// Folders on a disk that is full or read-only, and the memory of a small container.

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mountSmall mounts a file system of 1 MiB for a test.
func mountSmall(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("vitrine-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// TestFullDiskRefusesOnlyWrites fills the disk of DOCS_DIR. Documents that are there are read, found and kept as they are.
func TestFullDiskRefusesOnlyWrites(t *testing.T) {
	t.Parallel()
	dir := mountSmall(t)
	ts := openTestServer(t, dir)
	ts.serve()
	text := "# Lantern\n\n" + strings.Repeat("copper ", 1000)
	ts.put("first.md", text)
	if err := os.WriteFile(filepath.Join(dir, ".ballast"), make([]byte, 2<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}

	for _, id := range []string{"first.md", "new.md", "folder/new.md"} {
		a := ts.put(id, strings.Repeat(text, 20))
		if a.status != http.StatusInsufficientStorage || !strings.Contains(a.body, "space") {
			t.Errorf("PUT %s: %d %s", id, a.status, a.body)
		}
	}
	line := mustJSON(map[string]string{"id": "new.md", "text": strings.Repeat(text, 20)})
	if a := ts.do("POST", "/documents", line); !strings.Contains(a.body, `"status":507`) {
		t.Errorf("bulk: %s", a.body)
	}
	if a := ts.get("/documents/first.md"); a.body != text {
		t.Errorf("what was there is changed: %d, %d bytes", a.status, len(a.body))
	}
	if ids := ts.search("q=lantern"); len(ids) != 1 {
		t.Errorf("found %v", ids)
	}

	if err := os.Remove(filepath.Join(dir, ".ballast")); err != nil {
		t.Fatal(err)
	}
	if a := ts.put("new.md", text); a.status != http.StatusCreated {
		t.Errorf("with room again: %d %s", a.status, a.body)
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".vitrine-*"))
	if len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// TestReadOnlyDiskRefusesOnlyWrites makes the file system of DOCS_DIR read-only while it is served, as the kernel does after an
// I/O error.
func TestReadOnlyDiskRefusesOnlyWrites(t *testing.T) {
	t.Parallel()
	dir := mountSmall(t)
	ts := openTestServer(t, dir)
	ts.serve()
	ts.put("a.md", "# Lantern")
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	for _, method := range []string{"PUT", "DELETE"} {
		a := ts.do(method, "/documents/a.md", "# Other")
		if a.status != http.StatusConflict || !strings.Contains(a.body, "read-only") {
			t.Errorf("%s: %d %s", method, a.status, a.body)
		}
	}
	if ids := ts.search("q=lantern"); len(ids) != 1 || ts.get("/readyz").status != http.StatusOK {
		t.Errorf("found %v; %s", ids, ts.get("/readyz?verbose").body)
	}
}

// TestManyDocumentsFitASmallContainer serves 10,000 documents under load with the memory limit that a container of 128 MiB
// sets. Without VITRINE_SLOW_TEST there are 2,000, in half of it.
func TestManyDocumentsFitASmallContainer(t *testing.T) {
	t.Parallel()
	documents := slowRounds(2_000, 10_000)
	container := slowRounds(64, 128) << 20
	ts := &testServer{t: t, dir: t.TempDir()}
	for i := range documents {
		ts.writeFile(fmt.Sprintf("%d/%d.md", i%100, i), fmt.Sprintf("# Page %d\n\nThe copper lantern of house %d has %d wicks.\n\n## Oil\n\nFill it %d times.\n", i, i, i%7, i%5))
	}
	p := start(t, []string{"DOCS_DIR=" + ts.dir, fmt.Sprintf("GOMEMLIMIT=%d", container/10*9), "GOGC="})
	sendLoad(t, p.url, *soak)
	peak := p.memory(t, "VmHWM")
	t.Logf("%d documents: %d MiB at the most", documents, peak>>20)
	if peak > container {
		t.Errorf("a container of %d MiB would have been killed", container>>20)
	}
}
