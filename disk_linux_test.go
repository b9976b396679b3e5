package main

// Folders on a disk that is full or read-only, and the memory of a small container.

import (
	"errors"
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
	mount(t, dir, "size=1m")
	return dir
}

// mount mounts a file system in memory for a test.
func mount(t *testing.T, dir, options string) {
	t.Helper()
	if err := syscall.Mount("vitrine-test", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// occupy takes bytes of the file system of dir, or what is left of it, and returns what gives them back.
func occupy(t *testing.T, dir string, bytes int) (free func()) {
	t.Helper()
	ballast := filepath.Join(dir, ".ballast")
	err := os.WriteFile(ballast, make([]byte, bytes), 0o600)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDiskRefusesOnlyWrites fills the disk of DOCS_DIR. Documents that are there are read, found and kept as they are.
func TestFullDiskRefusesOnlyWrites(t *testing.T) {
	t.Parallel()
	dir := mountSmall(t)
	ts := openTestServer(t, dir)
	ts.serve()
	text := "# Lantern\n\n" + strings.Repeat("copper ", 1000)
	ts.put("first.md", text)
	free := occupy(t, dir, 2<<20)

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

	free()
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
	container := int64(slowRounds(64, 128)) << 20
	ts := &testServer{t: t, dir: t.TempDir()}
	for i := range documents {
		ts.writeFile(fmt.Sprintf("%d/%d.md", i%100, i), fmt.Sprintf("# Page %d\n\nThe copper lantern of house %d has %d wicks.\n\n## Oil\n\nFill it %d times.\n", i, i, i%7, i%5))
	}
	p := start(t, []string{"DOCS_DIR=" + ts.dir, fmt.Sprintf("GOMEMLIMIT=%d", container/10*9), "GOGC="})
	sendLoad(t, p.url, *soak)
	peak := p.peakMemory(t)
	t.Logf("%d documents: %d MiB at the most", documents, peak>>20)
	if peak > container {
		t.Errorf("a container of %d MiB would have been killed", container>>20)
	}
}

// TestUnmountedFolderKeepsItsDocuments unmounts DOCS_DIR, or a folder in it. Something is written onto the bare mount point
// before or after the next scan.
func TestUnmountedFolderKeepsItsDocuments(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, mountPoint string
		bare             []string // files on the bare mount point
		isEarly          bool     // before the scan that notices
	}{
		{"the root, empty", ".", nil, false},
		{"the root, then one document", ".", []string{"new.md"}, false},
		{"the root, one document at once", ".", []string{"new.md"}, true},
		{"the root, one of those that it had", ".", []string{"sub/1.md"}, true},
		{"a folder, empty", "sub", nil, false},
		{"a folder, one document at once", "sub", []string{"sub/new.md"}, true},
		{"a folder, two of five", "sub", []string{"sub/1.md", "sub/2.md"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			mountPoint := filepath.Join(dir, test.mountPoint)
			if err := os.MkdirAll(mountPoint, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mount("vitrine-test", mountPoint, "tmpfs", 0, "size=1m"); err != nil {
				t.Skipf("needs the right to mount: %v", err)
			}
			isMounted := true
			unmount := func() {
				if isMounted {
					_ = syscall.Unmount(mountPoint, syscall.MNT_DETACH)
				}
				isMounted = false
			}
			t.Cleanup(unmount)
			files := &testServer{t: t, dir: dir}
			want := []string{"sub/1.md", "sub/2.md", "sub/3.md", "sub/4.md", "sub/5.md"}
			for _, id := range want {
				files.writeFile(id, "# "+id)
			}
			s := newScanned(t, dir)
			s.want(want...)

			unmount()
			for _, isEarly := range []bool{true, false} {
				if isEarly == test.isEarly {
					for _, id := range test.bare {
						files.writeFile(id, "# On the mount point")
					}
				}
				for range 2 {
					if err := s.folder.scan(t.Context(), s.store); err == nil {
						t.Error("the scan succeeded")
					}
				}
				for _, id := range want {
					if _, err := s.store.document(t.Context(), id); err != nil {
						t.Errorf("%s: %v", id, err)
					}
				}
			}
			if test.mountPoint == "." {
				err := s.folder.write(t.Context(), mustDocument(t, "put.md", "hidden after the next mount"))
				if p := publicError(err); p.status != 503 || !strings.Contains(p.message, "no longer mounted") {
					t.Errorf("a write answered %+v", p)
				}
			}

			restarted := newScanned(t, dir)
			restarted.want(test.bare...)
		})
	}
}

// TestRemountedFolderIsFollowed mounts another file system with most of the documents, as a new volume.
func TestRemountedFolderIsFollowed(t *testing.T) {
	t.Parallel()
	volumes := []string{mountSmall(t), mountSmall(t)}
	link := filepath.Join(t.TempDir(), "current")
	names := []string{"a.md", "b.md", "c.md"}
	for i, volume := range volumes {
		files := &testServer{t: t, dir: volume}
		for _, id := range names[i:] {
			files.writeFile(id, "# "+id)
		}
	}
	if err := os.Symlink(volumes[0], link); err != nil {
		t.Fatal(err)
	}
	s := newScanned(t, link)
	s.want("a.md", "b.md", "c.md")

	_ = os.Remove(link)
	if err := os.Symlink(volumes[1], link); err != nil {
		t.Fatal(err)
	}
	s.scan()
	s.want("b.md", "c.md")
	if err := s.folder.write(t.Context(), mustDocument(t, "d.md", "# d")); err != nil {
		t.Error(err)
	}

	// Somebody removes them all but one, which is no reason to keep them.
	for _, id := range []string{"b.md", "c.md"} {
		_ = os.Remove(filepath.Join(link, id))
	}
	s.scan()
	s.want("d.md")
}
