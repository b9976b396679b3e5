package main

// What is left out of the index, and where it is said.

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLeftOutFilesAreCountedByReason(t *testing.T) {
	for _, test := range []struct {
		name    string
		files   []string
		exclude []string
		want    string
	}{
		{"all are served", []string{"a.md", "b.MDX", "c.Txt", "d.markdown"}, nil, ""},
		{"suffixes, the most frequent first", []string{"a.md", "b.rst", "c.RST", "d.adoc", "sub/e.rst"}, nil, "3 .rst, 1 .adoc"},
		{"no suffix, strange suffixes", []string{"a.md", "Makefile", "b.what is this", "c.ä"}, nil, "2 of other suffixes, 1 without a suffix"},
		{"hidden files and folders", []string{"a.md", ".git/b.md", ".git/c.md", ".d.md", "sub/.e.txt"}, nil, "3 hidden"},
		{"generated folders", []string{"a.md", "node_modules/b.md", "sub/vendor/c.md", "_site/d.md", "vendor.md"}, nil, "1 _site, 1 node_modules, 1 vendor"},
		{"a pattern for a folder", []string{"a.md", "old/b.md", "old/sub/c.md", "x/old/d.md"}, []string{"old"}, "3 by DOCS_EXCLUDE"},
		{"a pattern for a whole id", []string{"a.md", "old/b.md", "x/old/b.md"}, []string{"old/*"}, "1 by DOCS_EXCLUDE"},
		{"a pattern for a folder below", []string{"a.md", "x/old/b.md", "x/old/sub/c.md", "old/d.md"}, []string{"x/old"}, "2 by DOCS_EXCLUDE"},
		{"patterns for names", []string{"a.md", "b.draft.md", "sub/c.draft.md", "TODO.md"}, []string{"*.draft.md", "TODO.md"}, "3 by DOCS_EXCLUDE"},
		{"one reason each", []string{"a.md", "old/b.rst", "old/.c"}, []string{"old"}, "1 by DOCS_EXCLUDE, 1 hidden"},
		{"not text", []string{"a.md", "latin1\xff.md", "bad\nname.md"}, nil, "2 with a bad id"},
		{"many suffixes", []string{"x.md", "a.a", "a.b", "a.c", "a.d", "a.e", "a.f", "a.g", "a.h", "a.i", "b.i", "a.j"}, nil,
			"2 .i, 1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 1 .f, 1 .g, 2 of other suffixes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var files []string
			for _, id := range test.files {
				files = append(files, id, "text")
			}
			f := &folder{roots: []docsRoot{{dir: folderOf(t, files...)}}, exclude: test.exclude, observe: quietObserver()}
			if err := f.scan(t.Context(), newMemory(f, hashedEmbedder{}, 0.5, quietObserver())); err != nil {
				t.Fatal(err)
			}
			if got := f.leftOut.Load().String(); got != test.want {
				t.Errorf("left out %q, want %q", got, test.want)
			}
		})
	}
}

func TestLeftOutFilesAreSaidWhereOneLooks(t *testing.T) {
	t.Parallel()
	ts := openTestServer(t, folderOf(t, "a.md", "# A", "b.rst", "B", "c.rst", "C", "old/d.md", "D", "latin1.md", "caf\xe9"), "DOCS_EXCLUDE=old")
	ts.serve()
	const want = "index ok: 1 documents; left out 2 .rst, 1 by DOCS_EXCLUDE, 1 not UTF-8 text\n"
	if got := ts.get("/readyz?verbose").body; !strings.Contains(got, want) {
		t.Errorf("/readyz has %q, want %q", got, want)
	}
	indexed := ts.lines.find(t, "indexed", "")
	if indexed["documents"] != 1.0 || indexed["passages"] != 1.0 || indexed["took_ms"] == nil {
		t.Errorf("%v", indexed)
	}
	ts.lines.find(t, "files left out", "")

	ts.writeFile(".swp", "x") // editors come and go: no warning
	ts.writeFile("e.adoc", "E")
	waitFor(t, "the new file", func() bool {
		return strings.Contains(ts.get("/readyz?verbose").body, "left out 2 .rst, 1 .adoc, 1 by DOCS_EXCLUDE, 1 not UTF-8 text, 1 hidden")
	})
	waitFor(t, "one more warning", func() bool { return strings.Count(ts.lines.String(), "files left out") == 2 })
	for _, id := range []string{"old/new.md", "node_modules/x.md", "a/vendor/x.md"} {
		if a := ts.put(id, "x"); a.status != http.StatusConflict {
			t.Errorf("PUT %s: %d %s", id, a.status, a.body)
		}
	}
}

func TestFolderWithNothingToServeSaysSo(t *testing.T) {
	t.Parallel()
	ts := openTestServer(t, folderOf(t, "a.rst", "A", "b.adoc", "B"))
	ts.serve()
	for _, got := range []string{ts.get("/readyz?verbose").body, ts.lines.String()} {
		if !strings.Contains(got, "0 documents; left out 1 .adoc, 1 .rst; documents end in .md, .markdown, .mdx or .txt") {
			t.Errorf("got %s", got)
		}
	}
	ts.put("new.md", "# New")
	if got := ts.get("/readyz?verbose").body; !strings.Contains(got, "index ok: 1 documents; left out 1 .adoc, 1 .rst\n") {
		t.Errorf("got %s", got)
	}
}

func TestReadinessCountsWhatIsThereNow(t *testing.T) {
	t.Parallel()
	for range 8 {
		s := firstReadiness(t, folderOf(t, "a.md", "# A"))
		if !strings.Contains(s, "1 documents") {
			t.Errorf("ready with %s", s)
		}
	}
}

// TestReplicasCountWhatIsThereNow asks the replica that scans and one that does not, as soon as each is ready.
func TestReplicasCountWhatIsThereNow(t *testing.T) {
	t.Parallel()
	dir := folderOf(t, "a.md", "# A")
	env := "DATABASE_URL=" + newDatabase(t)
	for _, name := range []string{"the one that scans", "another"} {
		state := openTestServer(t, dir, env, "DOCS_SYNC_INTERVAL=1h").state()
		for _, c := range state.checks[1:] {
			if !strings.HasPrefix(c.detail, ": 1 documents") {
				t.Errorf("%s: %+v", name, c)
			}
		}
	}
}

// firstReadiness asks for readiness all the time while a server reads dir, and returns the first answer
// that the index is ready.
func firstReadiness(t *testing.T, dir string) string {
	s := newServerOf(t, map[string]string{"DOCS_DIR": dir}, new(logBuffer))
	m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
	s.store = m
	s.folder = &folder{roots: s.cfg.docsDirs, observe: s.observe}
	t.Cleanup(s.close)
	go s.folder.follow(t.Context(), m, time.Hour)
	for {
		state := s.state()
		if state.checks[1].problem == "" {
			return state.checks[1].detail + state.checks[2].detail
		}
	}
}

// TestPipesAreNotWaitedFor has a named pipe where a document could be.
func TestPipesAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	ts := openTestServer(t, folderOf(t, "a.md", "# A"))
	ts.serve()
	if err := syscall.Mkfifo(filepath.Join(ts.dir, "x.md"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{"X-None: x", "If-None-Match: *", `If-Match: "x"`} {
		if a := ts.put("x.md", "text", header); a.status != http.StatusConflict {
			t.Errorf("PUT with %s: %d %s", header, a.status, a.body)
		}
	}
	waitFor(t, "the pipe is left out", func() bool {
		return strings.Contains(ts.get("/readyz?verbose").body, "left out 1 not a regular file")
	})
	ts.writeFile("b.md", "# B")
	waitFor(t, "the scans go on", func() bool { return ts.get("/documents/b.md").status == http.StatusOK })
}

// TestFilesOfOtherKindsAreInTheWay puts documents where something else is, with preconditions, which read the file.
func TestFilesOfOtherKindsAreInTheWay(t *testing.T) {
	t.Parallel()
	const conflict, failed = http.StatusConflict, http.StatusPreconditionFailed
	link := func(to string) func(string) error {
		return func(name string) error { return os.Symlink(to, name) }
	}
	for kind, test := range map[string]struct {
		id   string // below the file "x.md"; "" for itself
		make func(name string) error
		want int // with If-None-Match
	}{
		"a pipe":                      {"", func(name string) error { return syscall.Mkfifo(name, 0o600) }, conflict},
		"a socket":                    {"", func(name string) error { return listenUnix(t, name) }, conflict},
		"a folder":                    {"", func(name string) error { return os.Mkdir(name, 0o700) }, conflict},
		"a link to itself":            {"", link("x.md"), conflict},
		"a link out of the folder":    {"", link("/etc/passwd"), conflict},
		"a link to a device":          {"", link("/dev/zero"), conflict},
		"a link with a long name":     {"", link(strings.Repeat("a", 4000)), conflict},
		"a link to nothing":           {"", link("nothing.md"), http.StatusCreated},
		"a file above":                {"/y.md", func(name string) error { return os.WriteFile(name, nil, 0o600) }, conflict},
		"a pipe above":                {"/y.md", func(name string) error { return syscall.Mkfifo(name, 0o600) }, conflict},
		"a link to itself above":      {"/y.md", link("x.md"), conflict},
		"a link out of it above":      {"/passwd.md", link("/etc"), conflict},
		"a link to the folder, above": {"/y.md", link("."), conflict},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ts := openTestServer(t, folderOf(t, "a.md", "# A"))
			ts.serve()
			if err := test.make(filepath.Join(ts.dir, "x.md")); err != nil {
				t.Skip(err)
			}
			id := "x.md" + test.id
			for header, allowed := range map[string][]int{
				`If-Match: "x"`:    {conflict, failed},
				"If-None-Match: *": {test.want},
			} {
				if a := ts.put(id, "text", header); !slices.Contains(allowed, a.status) {
					t.Errorf("PUT with %s: %d %s", header, a.status, a.body)
				}
			}
		})
	}
}

// listenUnix makes a socket.
func listenUnix(t *testing.T, name string) error {
	t.Helper()
	socket, err := new(net.ListenConfig).Listen(t.Context(), "unix", name)
	if err == nil {
		t.Cleanup(func() { socket.Close() })
	}
	return err
}

func TestReadRegularIsBounded(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.md"), make([]byte, maxDocumentBytes+100), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if text, err := readRegular(root, "a.md"); err != nil || len(text) != maxDocumentBytes+1 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestReadinessCountsTheManual(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t, "DOCS_DIR=")
	if got := ts.get("/readyz?verbose").body; !strings.Contains(got, "index ok: 2 documents\n") {
		t.Errorf("without a folder: %s", got)
	}
}

// TestDraftsAreNotServed publishes a draft, withdraws it again, and tries to put one.
func TestDraftsAreNotServed(t *testing.T) {
	t.Parallel()
	ts := openTestServer(t, folderOf(t, "a.md", "# A", "b.md", "---\ndraft: true\n---\n# Lantern"))
	ts.serve()
	isServed := func(want bool) func() bool {
		return func() bool {
			status := ts.get("/documents/b.md").status
			return (status == http.StatusOK) == want && (len(ts.search("q=lantern")) == 1) == want
		}
	}
	if !isServed(false)() {
		t.Error("a draft is served")
	}
	if got := ts.get("/readyz?verbose").body; !strings.Contains(got, "left out 1 draft\n") {
		t.Errorf("/readyz has %q", got)
	}

	ts.writeFile("b.md", "# Lantern")
	waitFor(t, "it is published", isServed(true))
	ts.writeFile("b.md", "+++\ndraft = true\n+++\n# Lantern")
	waitFor(t, "it is withdrawn", isServed(false))

	if a := ts.put("c.md", "---\npublished: false\n---\n# C"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("PUT of a draft: %d %s", a.status, a.body)
	}
}

// TestCheckDoesNotWaitForAPipe has a pipe in the place of the file of questions.
func TestCheckDoesNotWaitForAPipe(t *testing.T) {
	t.Parallel()
	dir := folderOf(t, "a.md", "# A")
	if err := syscall.Mkfifo(filepath.Join(dir, questionsFile), 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- checkDocuments(t.Context(), testSettings(t, "DOCS_DIR="+dir), io.Discard) }()
	waitFor(t, "the check", func() bool { return len(ended) == 1 })
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
