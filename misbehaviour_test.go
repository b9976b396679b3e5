package main

// Other programs and files that misbehave: an embedding API that lies, a reader of the log that stops, files that change while
// they are read.

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestEmbeddingTextsGoNowhereElse lets the API redirect, with each status that clients follow.
func TestEmbeddingTextsGoNowhereElse(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
			defer elsewhere.Close()
			f := newFakeEmbedder(t, 6)
			ts := newTestServer(t, f.env()...)
			f.set(func(w http.ResponseWriter, r *http.Request, _ fakeRequest) bool {
				http.Redirect(w, r, elsewhere.URL+"/v1/embeddings?key=secret", status)
				return true
			})
			ts.put("a.md", "# Lantern")
			if a := ts.get("/search?q=lantern"); a.status != http.StatusOK || !strings.Contains(a.body, `"degraded":true`) {
				t.Errorf("search: %d %s", a.status, a.body)
			}
			waitFor(t, "the log names the place", func() bool { return strings.Contains(ts.lines.String(), elsewhere.URL) })
			if asked.Load() != 0 || strings.Contains(ts.lines.String(), "key=secret") {
				t.Errorf("%d requests went elsewhere:\n%s", asked.Load(), ts.lines)
			}
		})
	}
}

// TestEmbeddingAnswersAreBounded reads answers that never end, fast and slowly. The search must have hits, and the connection
// must end.
func TestEmbeddingAnswersAreBounded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		piece int // bytes
		pause time.Duration
	}{
		{"10 GB", 1 << 20, 0},
		{"a drip", 1, 100 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeEmbedder(t, 6)
			ts := newTestServer(t, f.env()...)
			ts.put("a.md", "# Lantern")
			var sent atomic.Int64
			ended := make(chan struct{}, 1000)
			f.set(func(w http.ResponseWriter, _ *http.Request, _ fakeRequest) bool {
				defer func() { ended <- struct{}{} }()
				_, _ = io.WriteString(w, `{"data":[{"index":0,"embedding":[`)
				for sent.Load() < 10e9 {
					n, err := io.WriteString(w, strings.Repeat("1,", test.piece/2+1))
					_ = http.NewResponseController(w).Flush()
					sent.Add(int64(n))
					if err != nil {
						return true
					}
					time.Sleep(test.pause)
				}
				return true
			})
			if a := ts.get("/search?q=lantern"); a.status != http.StatusOK || !strings.Contains(a.body, "a.md") {
				t.Errorf("search: %d %s", a.status, a.body)
			}
			<-ended
			if sent.Load() > 64<<20 { // what the sockets hold is not ours
				t.Errorf("%d MB were read", sent.Load()>>20)
			}
		})
	}
}

// TestTextOfOthersReachesNoTerminal lets an embedding API and file names bring what a terminal obeys. The log is that for
// people.
func TestTextOfOthersReachesNoTerminal(t *testing.T) {
	t.Parallel()
	const escapes = "\x1b]0;owned\x07\x1b[31m\u009b2J\u202egnp\u2066"
	f := newFakeEmbedder(t, 6)
	dir := t.TempDir()
	for _, name := range []string{escapes + ".md", "b" + escapes + "/c.md", "d.md", "\u202edm.exe.md", "e\u200b.md", "\xff.md", "\x1b[2J.rst"} {
		ts := &testServer{t: t, dir: dir}
		ts.writeFile(name, "# "+escapes+" lantern\n\n[a](x"+escapes+".md)\n")
	}
	ts := openTestServer(t, dir, f.env("LOG_FORMAT=text", "LOG_LEVEL=debug", "RECORD_GAPS=true")...)
	ts.serve()
	f.set(func(w http.ResponseWriter, _ *http.Request, _ fakeRequest) bool {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, escapes)
		return true
	})
	if err := ts.checkEmbedder(t.Context()); err == nil || strings.ContainsFunc(err.Error(), isUnsafe) {
		t.Errorf("what stderr would show: %q", err)
	}
	ts.get("/search?q=lantern+nothing"+"%1b%5b31m%c2%9b", "X-Correlation-ID: hostile", "User-Agent: a\u202eb")
	ts.get("/search?q=zxqvw%e2%80%ae")
	ts.put("\u202ex.md", escapes)
	ts.observe.report()

	for _, path := range []string{"/readyz?verbose", "/debug/requests", "/debug/requests/hostile", "/debug/gaps"} {
		shown := withoutLayout(ts.get(path, "Accept: text/plain").body)
		if i := strings.IndexFunc(shown, isUnsafe); i >= 0 {
			t.Errorf("%s shows %.60q", path, shown[i:])
		}
	}
	waitFor(t, "the failure of the API is in the log", func() bool { return strings.Contains(ts.lines.String(), "owned") })
	text := withoutLayout(ts.lines.String())
	if i := strings.IndexFunc(text, isUnsafe); i >= 0 {
		t.Errorf("the log shows %.60q", text[i:])
	}
}

// withoutLayout returns text without its ends of lines and tabs.
func withoutLayout(text string) string { return strings.NewReplacer("\n", "", "\t", "").Replace(text) }

// TestBlockedStdoutStopsNothing runs the program with a log that nobody reads. It must answer, and end with 0.
func TestBlockedStdoutStopsNothing(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0) // a reader that does not read
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()

	p := start(t, []string{"DOCS_DIR=" + t.TempDir()}, "sh", "-c", `exec "$0" > "`+pipe+`"`)
	long := "/nothing/" + strings.Repeat("long", 500)
	waitFor(t, "lines that are lost", func() bool {
		for range 500 {
			if status, body := p.get(long); status != http.StatusNotFound {
				t.Errorf("%d %s", status, body)
			}
		}
		_, metrics := p.get("/metrics")
		return gaugeValue(t, metrics, "vitrine_log_lines_dropped_total") > 0
	})
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

// TestFilesSwappedWhileTheyAreReadAreSafe swaps a document for links, a pipe and a huge file, while it is scanned, read and
// written. What is outside of the folder is never shown, and neither memory nor a scan is lost.
func TestFilesSwappedWhileTheyAreReadAreSafe(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	const secret = "the-secret-outside"
	for name, text := range map[string]string{"secret.md": "# " + secret, "inside.md": "# Lantern"} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, []string{"DOCS_DIR=" + dir, "DOCS_SYNC_INTERVAL=100ms", "GOMEMLIMIT=256MiB"})
	swapped := filepath.Join(dir, "a.md")
	swaps := []func(name string) error{
		func(name string) error { return os.WriteFile(name, []byte("# Lantern"), 0o600) },
		func(name string) error { return os.Symlink(filepath.Join(outside, "secret.md"), name) },
		func(name string) error { return os.Symlink("/proc/self/environ", name) },
		func(name string) error { return os.Symlink("a.md", name) },
		func(name string) error { return os.Link(filepath.Join(outside, "inside.md"), name) },
		func(name string) error { return syscall.Mkfifo(name, 0o600) },
		func(name string) error { return os.Mkdir(name, 0o700) },
		func(name string) error {
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(name, 20<<30)
		},
	}

	var asking sync.WaitGroup
	var done atomic.Bool
	for _, path := range []string{"/documents/a.md", "/search?q=secret+outside+lantern", "/read/a.md"} {
		asking.Go(func() {
			for !done.Load() {
				status, body := p.get(path)
				if status == 0 || status >= 500 || strings.Contains(body, secret) || strings.Contains(body, testAdminToken) {
					t.Errorf("%s: %d %.200s", path, status, body)
					return
				}
			}
		})
	}
	asking.Go(func() {
		for !done.Load() {
			if status := p.put("a.md", "# Lantern"); status == 0 || status >= 500 {
				t.Errorf("PUT: %d", status)
				return
			}
		}
	})
	for range 8 {
		for i, swap := range swaps {
			next := filepath.Join(dir, ".next")
			_ = os.Remove(next)
			if err := swap(next); err != nil {
				t.Fatalf("swap %d: %v", i, err)
			}
			_ = os.RemoveAll(swapped) // a folder is not replaced by a file
			_ = os.Rename(next, swapped)
			runtime.Gosched()
		}
	}
	done.Store(true)
	asking.Wait()

	_ = os.RemoveAll(swapped)
	if status := p.put("b.md", "# After"); status != http.StatusCreated {
		t.Errorf("a write afterwards: %d", status)
	}
	if err := os.WriteFile(filepath.Join(dir, "c.md"), []byte("# After"), 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the scans go on", func() bool { status, _ := p.get("/documents/c.md"); return status == http.StatusOK })
	if peak := p.peakMemory(t); peak > 400<<20 {
		t.Errorf("it has taken %d MiB", peak>>20)
	}
}

// TestLargeFilesAreReadThroughABound reads a file that is larger than any document, as one that has grown since it was listed.
func TestLargeFilesAreReadThroughABound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for size, want := range map[int64]int{
		maxDocumentBytes:     maxDocumentBytes,
		maxDocumentBytes + 1: maxDocumentBytes + 1,
		64 << 20:             maxDocumentBytes + 1, // one byte more than a document shows that it is larger
	} {
		if err := os.WriteFile(filepath.Join(dir, "a.md"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, "a.md"), size); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		text, err := readRegular(root, "a.md")
		root.Close()
		if err != nil || len(text) != want {
			t.Errorf("of %d bytes, %d were read, want %d; %v", size, len(text), want, err)
		}
	}
}

// TestFilesOfTheFutureAreFollowed gives files the times of a clock that is set forward, and back again.
func TestFilesOfTheFutureAreFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newScanned(t, dir)
	future := time.Now().Add(50 * 365 * 24 * time.Hour)
	for i, at := range []time.Time{future, future, time.Unix(0, 0), future.Add(-time.Hour), time.Unix(-1e9, 0)} {
		text := fmt.Sprintf("# Lantern %d", i)
		name := filepath.Join(dir, "a.md")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
		s.scan()
		d, err := s.store.document(t.Context(), "a.md")
		if err != nil || d.text != text {
			t.Errorf("after %v: %+v, %v", at, d, err)
		}
	}
}
