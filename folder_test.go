package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// folderOf returns a temporary folder with files: pairs of id and text.
func folderOf(t testing.TB, files ...string) string {
	t.Helper()
	ts := &testServer{t: t, dir: t.TempDir()}
	for i := 0; i < len(files); i += 2 {
		ts.writeFile(files[i], files[i+1])
	}
	return ts.dir
}

// scanned is a folder, a store that is in step with it, and the log.
type scanned struct {
	t      *testing.T
	folder *folder
	store  *memory
	logs   *logBuffer
}

func newScanned(t *testing.T, dir string) *scanned {
	t.Helper()
	logs := new(logBuffer)
	cfg := new(settings)
	f := &folder{roots: []docsRoot{{dir: dir}}, observe: newTestObserver(cfg, newLogger(logs, newLogLevel(0), cfg))}
	s := &scanned{
		t:      t,
		folder: f,
		store:  newMemory(f, hashedEmbedder{}, 0.5, quietObserver()),
		logs:   logs,
	}
	s.scan()
	return s
}

func (s *scanned) scan() {
	s.t.Helper()
	if err := s.folder.scan(s.t.Context(), s.store); err != nil {
		s.t.Fatal(err)
	}
}

// want fails the test unless the store has exactly these ids.
func (s *scanned) want(ids ...string) {
	s.t.Helper()
	got, _ := s.store.folderIDs(s.t.Context())
	if !slices.Equal(got, ids) {
		s.t.Errorf("the store has %v, want %v", got, ids)
	}
}

func (s *scanned) text(id string) string {
	s.t.Helper()
	d, err := s.store.document(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return d.text
}

func TestScanFollowsTheFolder(t *testing.T) {
	dir := folderOf(t, "a.md", "alpha", "sub/b.md", "beta", "c.rst", "no", ".hidden/d.md", "no", ".e.md", "no")
	s := newScanned(t, dir)
	s.want("a.md", "sub/b.md")

	for _, step := range []func() error{
		func() error { return os.WriteFile(filepath.Join(dir, "a.md"), []byte("gamma"), 0o666) }, // same size
		func() error { return os.Remove(filepath.Join(dir, "sub/b.md")) },
		func() error { return os.WriteFile(filepath.Join(dir, "f.md"), []byte("f"), 0o666) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}

	s.scan()
	s.want("a.md", "f.md")
	if got := s.text("a.md"); got != "gamma" {
		t.Errorf("a.md = %q after it was changed", got)
	}
}

func TestScanReadsAgainOnlyWhatMayHaveChanged(t *testing.T) {
	dir := folderOf(t, "a.md", "alpha", "b.md", "beta")
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"a.md", "b.md"} {
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * ctimeSlack) // a file that has just changed is read again
	s := newScanned(t, dir)
	s.scan()
	if total := s.folder.total.Load(); total != 0 {
		t.Errorf("%d files read again though nothing changed", total)
	}

	replacement := filepath.Join(dir, "new")
	if err := os.WriteFile(replacement, []byte("omega"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(replacement, old, old); err != nil { // same size and time: only the inode differs
		t.Fatal(err)
	}
	if err := os.Rename(replacement, filepath.Join(dir, "a.md")); err != nil {
		t.Fatal(err)
	}

	s.scan()
	if got := s.text("a.md"); got != "omega" {
		t.Errorf("a.md = %q after another file took its place", got)
	}
}

func TestFilesThatCannotBeReadAreSkippedWithOneWarning(t *testing.T) {
	outside := folderOf(t, "secret.md", "secret")
	dir := folderOf(t, "good.md", "good", "latin1.md", "caf\xe9", "nul.md", "a\x00b", "bad\nname.md", "x")
	for name, target := range map[string]string{
		"outside.md":  filepath.Join(outside, "secret.md"),
		"dangling.md": "none.md",
		"link.md":     "good.md",
		"linked":      outside,
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	big, err := os.Create(filepath.Join(dir, "big.md"))
	if err != nil {
		t.Fatal(err)
	}
	if err := big.Truncate(maxDocumentBytes + 1); err != nil {
		t.Fatal(err)
	}
	big.Close()

	s := newScanned(t, dir)
	s.want("good.md", "link.md")
	warning := s.logs.find(t, "files skipped", "")
	for _, want := range []string{
		"latin1.md: ",
		"nul.md: ",
		"big.md: larger than 8 MiB",
		"outside.md: ",
		"dangling.md: ",
		"control character",
	} {
		if !strings.Contains(fmt.Sprint(warning["files"]), want) {
			t.Errorf("the warning does not name %q: %v", want, warning["files"])
		}
	}

	s.scan()
	if n := strings.Count(s.logs.String(), "files skipped"); n != 1 {
		t.Errorf("%d warnings after two scans, want 1", n)
	}
	if strings.Contains(s.logs.String(), "linked") {
		t.Error("the log warns of a link to a folder, which is skipped on purpose")
	}
}

func TestDocumentThatBecomesUnreadableStays(t *testing.T) {
	dir := folderOf(t, "a.md", "alpha", "b.md", "beta")
	s := newScanned(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "a.md"), []byte("\xff\xfe"), 0o666); err != nil {
		t.Fatal(err)
	}
	s.scan()
	if got := s.text("a.md"); got != "alpha" {
		t.Errorf("a.md = %q, want the last text that could be read", got)
	}
}

func TestMissingOrEmptyFolderIsNoDeletion(t *testing.T) {
	dir := folderOf(t, "a.md", "alpha")
	s := newScanned(t, dir)
	away := dir + "-away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}

	for name, create := range map[string]func() error{
		"missing": func() error { return nil },
		"empty":   func() error { return os.Mkdir(dir, 0o777) },
		"a file":  func() error { return os.WriteFile(dir, nil, 0o666) },
	} {
		_ = os.RemoveAll(dir)
		if err := create(); err != nil {
			t.Fatal(err)
		}
		if err := s.folder.scan(t.Context(), s.store); err == nil {
			t.Errorf("%s: the scan succeeded", name)
		}
		s.want("a.md")
	}

	_ = os.RemoveAll(dir)
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	s.scan()
	s.want("a.md")
}

func TestSwappedFolderIsFollowed(t *testing.T) {
	first := folderOf(t, "a.md", "alpha", "b.md", "beta")
	second := folderOf(t, "b.md", "beta", "c.md", "gamma")
	link := filepath.Join(t.TempDir(), "current")
	if err := os.Symlink(first, link); err != nil {
		t.Fatal(err)
	}
	s := newScanned(t, link)
	s.want("a.md", "b.md")

	if err := os.Symlink(second, link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil { // as git-sync does
		t.Fatal(err)
	}
	s.scan()
	s.want("b.md", "c.md")
}

func TestScanLeavesAloneWhatTheAPIWroteSinceItBegan(t *testing.T) {
	dir := folderOf(t, "a.md", "old", "b.md", "old")
	s := newScanned(t, dir)
	began := time.Now()
	seen := []*document{
		mustDocument(t, "a.md", "seen by the scan"),
		mustDocument(t, "b.md", "seen by the scan"),
	}
	if _, err := s.store.put(t.Context(), mustDocument(t, "a.md", "put meanwhile"), precondition{}); err != nil {
		t.Fatal(err)
	}
	if err := s.store.remove(t.Context(), "b.md", precondition{}); err != nil {
		t.Fatal(err)
	}

	gone := []string{"a.md"}
	if err := s.store.sync(t.Context(), began, seen, gone); err != nil {
		t.Fatal(err)
	}
	s.want("a.md")
	if gone[0] != "a.md" {
		t.Errorf("sync has changed its argument: %q", gone)
	}
	if got := s.text("a.md"); got != "put meanwhile" {
		t.Errorf("a.md = %q", got)
	}

	// A scan that began after the writes applies.
	if err := s.store.sync(t.Context(), time.Now(), seen, nil); err != nil {
		t.Fatal(err)
	}
	s.want("a.md", "b.md")
}

func TestStaleTemporaryFilesAreRemoved(t *testing.T) {
	dir := folderOf(t, "a.md", "alpha", ".vitrine-OLD.tmp", "half", ".vitrine-NEW.tmp", "half", ".other.tmp", "mine")
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{".vitrine-OLD.tmp", ".other.tmp"} {
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}

	newScanned(t, dir)
	for name, want := range map[string]bool{
		".vitrine-OLD.tmp": false,
		".vitrine-NEW.tmp": true,
		".other.tmp":       true,
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s exists: %v, want %v", name, err == nil, want)
		}
	}
}

// TestScanParsesNoDocumentThatTheAPIWrote parses only files that somebody else has changed since.
func TestScanParsesNoDocumentThatTheAPIWrote(t *testing.T) {
	t.Parallel()
	type folderUser struct {
		*scanned
		write func(text string)
	}
	for _, test := range []struct {
		name   string
		change func(u folderUser)
		want   bool // the scan takes the document that was written
	}{
		{"left alone", func(folderUser) {}, true},
		{"written again with the same text", func(u folderUser) { u.write("# A") }, true},
		{"changed", func(u folderUser) { u.write("# B") }, false},
		{"removed and written by hand", func(u folderUser) {
			if err := u.folder.remove(t.Context(), "a.md"); err != nil {
				t.Error(err)
			}
			u.write("# A")
		}, false},
		{"changed after a scan", func(u folderUser) {
			u.scan()
			u.write("# C")
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := folderOf(t)
			s := newScanned(t, dir)
			written := mustDocument(t, "a.md", "# A")
			if err := s.folder.write(t.Context(), written); err != nil {
				t.Fatal(err)
			}
			test.change(folderUser{s, func(text string) {
				if err := os.WriteFile(filepath.Join(dir, "a.md"), []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
			}})

			s.scan()
			d, err := s.store.document(t.Context(), "a.md")
			if err != nil {
				t.Fatal(err)
			}
			if got := d == written; got != test.want {
				t.Errorf("the document that was written is stored: %t", got)
			}
		})
	}
}

// TestPanicOfTheParserIsAnErrorOfTheFile panics where the parser gets the time of the file.
func TestPanicOfTheParserIsAnErrorOfTheFile(t *testing.T) {
	t.Parallel()
	d, err := parseFile("a.md", "# A", nil)
	if d != nil || err == nil || !strings.Contains(err.Error(), "cannot be parsed") {
		t.Errorf("got %v, %v", d, err)
	}
}

func TestFolderUnderLoadIsFollowed(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	for worker := range 3 {
		tasks.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("api/%d.md", worker)
				a := ts.put(id, fmt.Sprintf("# Written\n\nround %d", i))
				if a.status != 201 && a.status != 204 {
					t.Errorf("PUT: %d %s", a.status, a.body)
				}
				ts.search("q=round")
			}
		})
	}

	for i := range 20 {
		ts.writeFile("edited.md", fmt.Sprintf("# Edited\n\nversion%d", i))
		ts.writeFile(fmt.Sprintf("new/%d.md", i), fmt.Sprintf("# New\n\nfile %d", i))
		waitFor(t, "the edit", func() bool {
			return slices.Contains(ts.search(fmt.Sprintf("q=version%d", i)), "edited.md")
		})
	}
	cancel()
	tasks.Wait()

	waitFor(t, "all new files are found", func() bool { // the last one may need another scan
		return len(ts.search("q=new&prefix=new/&limit=100")) == 20
	})
	for worker := range 3 {
		id := fmt.Sprintf("api/%d.md", worker)
		onDisk, err := os.ReadFile(filepath.Join(ts.dir, id))
		served := ts.get("/documents/" + id).body
		if err != nil || served != string(onDisk) {
			t.Errorf("%s: served %q, in the folder %q %v", id, served, onDisk, err)
		}
	}
}

func TestProgressIsShownUntilTheFirstScanEnds(t *testing.T) {
	f := &folder{roots: []docsRoot{{dir: "none"}}}
	f.total.Store(10)
	f.done.Store(3)
	if problem, detail, _ := f.status(); problem == "" || detail != ": 3/10 files read" {
		t.Errorf("%q %q", problem, detail)
	}
}

func TestFolderScansAreJobsWithTheirOwnRecord(t *testing.T) {
	ts := newTestServer(t, "DOCS_SYNC_INTERVAL=100ms")
	ts.writeFile("a.md", "# Alpha")
	line := ts.lines.find(t, "job", "")
	if line["job"] != "folder_scan" || line["read"] != 1.0 || line["trace_id"] == nil || line["took_ms"] == nil {
		t.Errorf("log line: %v", line)
	}

	id := fmt.Sprint(line["correlation_id"])
	a := ts.get("/debug/requests/" + id)
	if !strings.Contains(a.body, "folder_scan  ok") || !strings.Contains(a.body, "  sync ") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestArchivesWithOldTimesAreRead unpacks archives whose files have the same time and the same length, and deletes and
// creates files, whose inodes may be used again.
func TestArchivesWithOldTimesAreRead(t *testing.T) {
	dir := t.TempDir()
	archive := filepath.Join(t.TempDir(), "docs.tar")
	unpack := func(word string) {
		t.Helper()
		source := t.TempDir()
		for i := range 40 {
			if err := os.WriteFile(filepath.Join(source, fmt.Sprintf("%d.md", i)), []byte(word), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, args := range [][]string{
			{"--mtime=2020-01-01", "-C", source, "-cf", archive, "."},
			{"-C", dir, "-xf", archive},
		} {
			if out, err := exec.Command("tar", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
		}
	}
	unpack("alpha")
	time.Sleep(2 * ctimeSlack)
	s := newScanned(t, dir)
	for round, word := range []string{"gamma", "delta", "omega"} {
		if round == 1 {
			for i := range 40 {
				_ = os.Remove(filepath.Join(dir, fmt.Sprintf("%d.md", i)))
			}
		}
		unpack(word)
		s.scan()
		for i := range 40 {
			if got := s.text(fmt.Sprintf("%d.md", i)); got != word {
				t.Errorf("%d.md is %q after %q was unpacked", i, got, word)
			}
		}
	}
}

// TestSeveralFoldersAreIndependent loses, empties and replaces one of two folders.
func TestSeveralFoldersAreIndependent(t *testing.T) {
	t.Parallel()
	api := folderOf(t, "a.md", "# Alpha")
	guide := folderOf(t, "a.md", "# Beta", "sub/b.txt", "beta")
	ts := openTestServer(t, t.TempDir(), "DOCS_DIR=api="+api+",guide="+guide)
	ts.serve()
	wantList := func(want ...string) {
		t.Helper()
		waitFor(t, fmt.Sprint(want), func() bool {
			documents, err := ts.store.folderIDs(t.Context())
			return err == nil && slices.Equal(documents, want)
		})
	}
	wantList("api/a.md", "guide/a.md", "guide/sub/b.txt")

	if a := ts.put("guide/new/c.md", "# Gamma"); a.status != 201 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if text, err := os.ReadFile(filepath.Join(guide, "new/c.md")); string(text) != "# Gamma" {
		t.Errorf("%q %v", text, err)
	}
	for _, id := range []string{"c.md", "other/c.md", "apis/c.md"} {
		a := ts.put(id, "x")
		if a.status != 400 || !strings.Contains(a.body, "begin it with api/ or guide/") {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
	}

	if err := os.Remove(filepath.Join(api, "a.md")); err != nil { // empty: kept
		t.Fatal(err)
	}
	(&testServer{t: t, dir: guide}).writeFile("d.md", "# Delta")
	wantList("api/a.md", "guide/a.md", "guide/d.md", "guide/new/c.md", "guide/sub/b.txt")
	waitFor(t, "the reason", func() bool {
		return strings.Contains(ts.get("/readyz?verbose").body, api+" no longer contains documents")
	})

	if err := os.Remove(api); err != nil { // missing: kept
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(guide, "d.md")); err != nil {
		t.Fatal(err)
	}
	wantList("api/a.md", "guide/a.md", "guide/new/c.md", "guide/sub/b.txt")
	(&testServer{t: t, dir: api}).writeFile("z.md", "# Zeta")
	wantList("api/z.md", "guide/a.md", "guide/new/c.md", "guide/sub/b.txt")
}

func TestMissingFolderIsAStartUpErrorUnlessAwaited(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none")
	for _, value := range []string{missing, "a=" + t.TempDir() + ",b=" + missing} {
		err := run(t.Context(), nil, []string{"ADDR=127.0.0.1:0", "DOCS_DIR=" + value}, io.Discard)
		if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), missing+`": no such folder`) {
			t.Errorf("%s: %v", value, err)
		}
	}

	cfg := testSettings(t, "DOCS_DIR="+missing, "DOCS_WAIT=true")
	if err := cfg.checkFolders(); err != nil {
		t.Fatal(err)
	}
	f := &folder{roots: cfg.docsDirs, observe: quietObserver()}
	m := newMemory(f, hashedEmbedder{}, 0.5, quietObserver())
	go f.follow(t.Context(), m, 10*time.Millisecond)
	waitFor(t, "the reason", func() bool {
		problem, _, cause := f.status()
		return problem != "" && strings.Contains(cause, missing)
	})
	ts := &testServer{t: t, dir: missing}
	ts.writeFile("a.md", "# A")
	waitFor(t, "the folder", func() bool {
		problem, _, _ := f.status()
		return problem == ""
	})
}

// TestChangesAreSeenAtOnce changes folders in every way while the interval is an hour.
func TestChangesAreSeenAtOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not tell of changes")
	}
	t.Parallel()
	base := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(base, from), filepath.Join(base, to)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(base, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("git/v1/docs/a.md", "# Lantern one\n")
	write("git/v2/docs/a.md", "# Ladder two\n")
	write("git/v2/docs/b.md", "# Ladder three\n")
	write("plain/c.md", "# Carpet\n")
	link("v1", "git/current")
	ts := openTestServer(t, "git="+filepath.Join(base, "git/current/docs")+",plain="+filepath.Join(base, "plain"), "DOCS_SYNC_INTERVAL=1h")
	ts.serve()

	for _, step := range []struct {
		name   string
		change func()
		query  string
		want   string
	}{
		{"a new file", func() { write("plain/new.md", "# Violin\n") }, "violin", "plain/new.md"},
		{"a changed file", func() { write("plain/new.md", "# Trumpet\n") }, "trumpet", "plain/new.md"},
		{"a file in new folders", func() { write("plain/x/y/z/deep.md", "# Cello\n") }, "cello", "plain/x/y/z/deep.md"},
		{"another file there", func() { write("plain/x/y/z/more.md", "# Oboe\n") }, "oboe", "plain/x/y/z/more.md"},
		{"a renamed folder", func() { rename("plain/x", "plain/w") }, "oboe", "plain/w/y/z/more.md"},
		{"a file in the renamed folder", func() { write("plain/w/y/z/late.md", "# Flute\n") }, "flute", "plain/w/y/z/late.md"},
		{"a removed file", func() { os.Remove(filepath.Join(base, "plain/new.md")) }, "trumpet", ""},
		{"a moved link, as git-sync moves it", func() { link("v2", "git/tmp"); rename("git/tmp", "git/current") }, "ladder", "git/a.md git/b.md"},
		{"a file behind the moved link", func() { write("git/v2/docs/d.md", "# Harp\n") }, "harp", "git/d.md"},
		{"a removed root", func() { rename("plain", "gone") }, "flute", "plain/w/y/z/late.md"},
		{"a root in its place", func() { write("other/e.md", "# Tuba\n"); rename("other", "plain") }, "tuba", "plain/e.md"},
		{"a file in that", func() { write("plain/f.md", "# Gong\n") }, "gong", "plain/f.md"},
	} {
		step.change()
		waitFor(t, step.name, func() bool {
			return strings.Join(slices.Sorted(slices.Values(ts.search("q="+step.query))), " ") == step.want
		})
	}
	if strings.Contains(ts.lines.String(), "not noticed at once") {
		t.Error("the log warns of changes that are not noticed")
	}
}

// TestReplicasOfSeveralFoldersKeepWhatIsEmpty loses one of two folders, which two replicas over one database follow.
func TestReplicasOfSeveralFoldersKeepWhatIsEmpty(t *testing.T) {
	t.Parallel()
	api := folderOf(t, "a.md", "# Alpha", "b.md", "# Beta")
	guide := folderOf(t, "a.md", "# Gamma")
	env := []string{"DOCS_DIR=api=" + api + ",guide=" + guide, "DATABASE_URL=" + newDatabase(t)}
	replicas := []*testServer{openTestServer(t, "", env...), openTestServer(t, "", env...)}
	wantList := func(want ...string) {
		t.Helper()
		for _, ts := range replicas {
			waitFor(t, fmt.Sprint(want), func() bool {
				infos, err := ts.store.list(t.Context(), "", "", maxListLimit)
				isWanted := func(info documentInfo, id string) bool { return info.ID == id }
				return err == nil && slices.EqualFunc(infos, want, isWanted)
			})
		}
	}
	for _, ts := range replicas {
		ts.serve()
	}
	wantList("api/a.md", "api/b.md", "guide/a.md")

	for id, status := range map[string]int{"guide/new.md": 201, "other.md": 400, "api/a.md": 409, "guide/a.md": 409} {
		if a := replicas[1].put(id, "# Written"); a.status != status {
			t.Errorf("PUT %s: %d %s", id, a.status, a.body)
		}
	}
	if _, err := os.Stat(filepath.Join(guide, "new.md")); err == nil {
		t.Error("the database's document is in the folder too")
	}
	wantList("api/a.md", "api/b.md", "guide/a.md", "guide/new.md")

	for _, name := range []string{"a.md", "b.md"} { // empty: kept
		if err := os.Remove(filepath.Join(api, name)); err != nil {
			t.Fatal(err)
		}
	}
	(&testServer{t: t, dir: guide}).writeFile("d.md", "# Delta")
	wantList("api/a.md", "api/b.md", "guide/a.md", "guide/d.md", "guide/new.md")
	waitFor(t, "the reason", func() bool {
		return slices.ContainsFunc(replicas, func(ts *testServer) bool {
			return strings.Contains(ts.get("/readyz?verbose").body, api+" no longer contains documents")
		})
	})

	if err := os.Remove(api); err != nil { // missing: kept
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(guide, "d.md")); err != nil {
		t.Fatal(err)
	}
	wantList("api/a.md", "api/b.md", "guide/a.md", "guide/new.md")
	(&testServer{t: t, dir: api}).writeFile("b.md", "# Zeta")
	wantList("api/b.md", "guide/a.md", "guide/new.md")
}

// TestWritesIntoAFolderThatHasGoneSayWhy takes the folder away while it is served.
func TestWritesIntoAFolderThatHasGoneSayWhy(t *testing.T) {
	dir := filepath.Join(folderOf(t, "docs/a.md", "# Lantern"), "docs")
	ts := openTestServer(t, dir)
	ts.serve()
	for name, take := range map[string]func() error{
		"no such file or directory": func() error { return os.Rename(dir, dir+"-away") },
		"not a directory":           func() error { return os.WriteFile(dir, nil, 0o666) },
		"too many levels":           func() error { _ = os.Remove(dir); return os.Symlink(dir, dir) },
	} {
		_ = os.Remove(dir) // unless it is the folder
		_ = os.Rename(dir, dir+"-away")
		if err := take(); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, request := range [][]string{
			{"PUT", "/documents/new.md", "# New"},
			{"PUT", "/documents/a.md", "# Other"},
			{"PUT", "/documents/a.md", "# Other", "If-None-Match: *"},
			{"DELETE", "/documents/a.md", ""},
		} {
			a := ts.do(request[0], request[1], request[2], request[3:]...)
			isTold := a.status == 503 && strings.Contains(a.body, name) && a.header.Get("Retry-After") != ""
			if !isTold || strings.Contains(a.body, dir) {
				t.Errorf("%s: %v: %d %s", name, request, a.status, a.body)
			}
		}
		line := mustJSON(map[string]string{"id": "new.md", "text": "# New"})
		if a := ts.do("POST", "/documents", line); !strings.Contains(a.body, `"status":503`) {
			t.Errorf("%s: bulk: %s", name, a.body)
		}
		if a := ts.get("/documents/a.md"); a.body != "# Lantern" {
			t.Errorf("%s: reading: %d %s", name, a.status, a.body)
		}
		if ids := ts.search("q=lantern"); len(ids) != 1 {
			t.Errorf("%s: found %v", name, ids)
		}
		waitFor(t, "what /readyz says", func() bool {
			a := ts.get("/readyz?verbose", "Authorization: Bearer "+testAdminToken)
			return a.status == 200 && strings.Contains(a.body, "last scan failed") && strings.Contains(a.body, name)
		})
	}

	_ = os.Remove(dir)
	if err := os.Rename(dir+"-away", dir); err != nil {
		t.Fatal(err)
	}
	if a := ts.put("new.md", "# New"); a.status != 201 {
		t.Errorf("back again: %d %s", a.status, a.body)
	}
}

// TestScanThatIsStuckIsNamed lets a clock go on while steps of a scan have not ended.
func TestScanThatIsStuckIsNamed(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		name           string
		after          time.Duration
		begin          []string // a second apart; "-" ends the first that runs
		detail, atFile string
	}{
		{"nothing runs", time.Hour, nil, "", ""},
		{"a folder, for a while", 59 * time.Second, []string{"a"}, "", ""},
		{"a folder, for a minute", 60 * time.Second, []string{"guide/a"}, ": scan stuck since 2026-01-02T03:04:05Z", "at guide/a"},
		{"the first of two files", 2 * time.Minute, []string{"a.md", "b.md"}, ": scan stuck since 2026-01-02T03:04:05Z", "at a.md"},
		{"the second of two files", 2 * time.Minute, []string{"a.md", "b.md", "-"}, ": scan stuck since 2026-01-02T03:04:06Z", "at b.md"},
		{"both have ended", 2 * time.Minute, []string{"a.md", "-", "b.md", "-"}, "", ""},
		{"a new one beside", 61 * time.Second, []string{"a.md", "b.md", "-"}, ": scan stuck since 2026-01-02T03:04:06Z", "at b.md"},
		{"control characters", time.Hour, []string{"a\x1b\u202e.md"}, ": scan stuck since 2026-01-02T03:04:05Z", `at a\u001b\u202e.md`},
	} {
		now := began
		f := &folder{steps: scanSteps{clock: func() time.Time { return now }}}
		f.synced.Store(new(time.Now()))
		var ends []func()
		for _, file := range test.begin {
			if file == "-" {
				ends[0]()
				ends = ends[1:]
				continue
			}
			ends = append(ends, f.steps.begin(file))
			now = now.Add(time.Second)
		}
		now = began.Add(test.after)
		if _, detail, cause := f.status(); detail != test.detail || cause != test.atFile {
			t.Errorf("%s: %q, %q", test.name, detail, cause)
		}
		for _, end := range ends {
			end()
		}
		if _, detail, _ := f.status(); detail != "" {
			t.Errorf("%s: %q after the end", test.name, detail)
		}
	}
}

// hangingStore is a store whose sync waits.
type hangingStore struct {
	store
	released chan struct{}
}

func (s hangingStore) sync(ctx context.Context, began time.Time, documents []*document, gone []string) error {
	<-s.released
	return s.store.sync(ctx, began, documents, gone)
}

// TestStuckScanNamesTheDocumentThatIsStored lets the store hang during a scan.
func TestStuckScanNamesTheDocumentThatIsStored(t *testing.T) {
	s := newScanned(t, t.TempDir())
	var ahead atomic.Int64
	s.folder.steps.clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	(&testServer{t: t, dir: s.folder.roots[0].dir}).writeFile("b.md", "beta")

	released := make(chan struct{})
	scanned := make(chan error, 1)
	go func() { scanned <- s.folder.scan(t.Context(), hangingStore{s.store, released}) }()
	waitFor(t, "the stuck scan", func() bool {
		ahead.Add(int64(time.Second))
		_, detail, cause := s.folder.status()
		return strings.HasPrefix(detail, ": scan stuck since 20") && cause == "at b.md"
	})
	close(released)
	if err := <-scanned; err != nil {
		t.Error(err)
	}
	if n := len(s.folder.steps.running); n != 0 {
		t.Errorf("%d steps are left after a scan", n)
	}
}
