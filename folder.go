package main

// Following DOCS_DIR: periodic scans bring the store in step with the Markdown files in it. A scan reads
// only files that may have changed, and never takes a missing or empty folder for a deletion. Writes
// into the folder are in durable.go.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// mtimeSlack is the coarsest clock of a file system, FAT's: a file that changes twice within it
	// may keep its modification time.
	mtimeSlack = 2 * time.Second

	loadBatch      = 32 // files that are read, embedded and stored together
	maxWarnedFiles = 20 // files that one log line names
)

// errElsewhere means that another replica scans the folder.
var errElsewhere = errors.New("another replica follows the folder")

// folder keeps a store in step with a folder of Markdown files. Each scan and each write opens the root
// again, because another program may replace the folder: git-sync points a symbolic link elsewhere.
type folder struct {
	dir     string
	observe *observer
	files   map[string]*fileState // by id, as of the last scan; only scan uses it

	synced  atomic.Int64           // when a scan last succeeded, in Unix milliseconds; 0: never
	failure atomic.Pointer[string] // why the last scan failed, nil if it succeeded
	done    atomic.Int64           // files that the running scan has read
	total   atomic.Int64           // files that the running scan has to read
}

// follow scans the folder at once and then every interval, until ctx ends.
func (f *folder) follow(ctx context.Context, st store, interval time.Duration) {
	for {
		err := f.scan(ctx, st)
		switch {
		case err == nil:
			f.failure.Store(nil)
			f.synced.Store(time.Now().UnixMilli())
		case ctx.Err() == nil: // otherwise the process stops, which is no failure
			f.failure.Store(new(err.Error()))
		}

		if !pause(ctx, interval) {
			return
		}
	}
}

// status describes the folder for /readyz. problem is "" once a scan has succeeded. detail is "", or
// begins with ": " and says why the last scan failed or how far the running one is.
func (f *folder) status() (problem, detail string) {
	done, total := f.progress()
	failure := f.failure.Load()
	switch {
	case failure != nil:
		detail = ": last scan failed: " + *failure
	case done < total:
		detail = fmt.Sprintf(": %d/%d files read", done, total)
	}

	if f.synced.Load() == 0 {
		problem = "the first scan of DOCS_DIR has not ended"
	}
	return problem, detail
}

// progress returns how many files the running scan has read, and how many it has to read.
func (f *folder) progress() (done, total int64) {
	return f.done.Load(), f.total.Load()
}

// scan brings the store in step with the folder: it reads new and changed files, and removes the
// documents whose file is gone. A file that cannot be read keeps its document, and the log names it once.
func (f *folder) scan(ctx context.Context, st store) (err error) {
	ctx, end := f.observe.job(ctx, "folder_scan")
	defer end(&err)

	began := time.Now()
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return fmt.Errorf("opening DOCS_DIR: %w", err)
	}
	defer root.Close()

	stored, err := st.folderIDs(ctx)
	if errors.Is(err, errElsewhere) {
		f.files = nil // the other replica may have stored other states of the files
		return nil
	}
	if err != nil {
		return err
	}

	s := &folderScan{root: root, began: began, files: make(map[string]*fileState)}
	if err := s.walk(); err != nil {
		return fmt.Errorf("reading DOCS_DIR: %w", err)
	}
	if len(s.files) == 0 && len(stored) > 0 {
		return fmt.Errorf("DOCS_DIR %s no longer contains documents: "+
			"its %d documents are kept until it does, or until a restart", f.dir, len(stored))
	}
	return f.apply(ctx, st, s, stored)
}

// apply brings the store in step with the files that s found. stored are the ids of the documents that
// the store has from the folder.
func (f *folder) apply(ctx context.Context, st store, s *folderScan, stored []string) error {
	changed := s.compare(f.files)
	if err := f.load(ctx, st, s, changed); err != nil {
		return err
	}
	gone := s.gone(stored)
	if err := st.sync(ctx, s.began, nil, gone); err != nil {
		return err
	}

	f.warnSkipped(ctx, s.files)
	f.files = s.files
	if len(changed)+len(gone) > 0 {
		logAttrs(ctx,
			slog.Int("files", len(s.files)),
			slog.Int("read", len(changed)),
			slog.Int("removed", len(gone)))
	}
	return nil
}

// load reads the changed files on all cores and hands their documents to the store in batches. After a
// failure it skips the remaining batches, because the next scan starts over.
func (f *folder) load(ctx context.Context, st store, s *folderScan, changed []string) error {
	f.done.Store(0)
	f.total.Store(int64(len(changed)))

	stop := f.logProgress(ctx)
	defer stop()

	var jobs []func() error
	var failed atomic.Bool
	for batch := range slices.Chunk(changed, loadBatch) {
		jobs = append(jobs, func() error {
			defer f.done.Add(int64(len(batch)))
			if failed.Load() {
				return nil
			}

			documents := s.read(batch)
			if len(documents) == 0 {
				return nil // sync would take nil for the end of the scan
			}

			err := st.sync(ctx, s.began, documents, nil)
			if err != nil {
				failed.Store(true)
			}
			return err
		})
	}
	return inParallel(ctx, make(chan struct{}, runtime.GOMAXPROCS(0)), jobs)
}

// logProgress logs the progress of the scan once a second, until stop is called.
func (f *folder) logProgress(ctx context.Context) (stop func()) {
	loading, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for pause(loading, time.Second) {
			done, total := f.progress()
			f.observe.log.InfoContext(ctx, "reading folder", "done", done, "total", total)
		}
	})

	return func() {
		cancel()
		tasks.Wait()
	}
}

// warnSkipped logs the files whose problem is new since the last scan.
func (f *folder) warnSkipped(ctx context.Context, files map[string]*fileState) {
	var skipped []string
	for id, state := range files {
		before := f.files[id]
		isKnown := before != nil && before.problem == state.problem
		if state.problem != "" && !isKnown {
			skipped = append(skipped, id+": "+state.problem)
		}
	}
	if len(skipped) == 0 {
		return
	}

	slices.Sort(skipped)
	shown := skipped[:min(maxWarnedFiles, len(skipped))]
	f.observe.log.WarnContext(ctx, "files skipped", "count", len(skipped), "files", shown)
}

// folderScan is one pass over the folder.
type folderScan struct {
	root       *os.Root
	began      time.Time
	files      map[string]*fileState // by id
	unreadable []string              // folders that could not be listed, each ending in "/"
}

// fileState is the state of a file as a scan found it.
type fileState struct {
	info    fs.FileInfo // nil if the file cannot be examined
	seen    time.Time   // when the scan that examined the file began
	problem string      // why the file is skipped, "" if it is not
}

// isSame reports whether the file with this info is certainly unchanged since s was recorded. An equal
// size and time do not prove it: another file may have taken its place.
func (s *fileState) isSame(info fs.FileInfo) bool {
	if s == nil || s.info == nil || !os.SameFile(s.info, info) {
		return false
	}
	isEqual := s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime())
	return isEqual && s.seen.Sub(info.ModTime()) > mtimeSlack
}

// walk fills in files and unreadable. It skips names that start with a dot, and links to folders. It
// follows links to files, but not out of the root. On its way it removes stale temporary files.
func (s *folderScan) walk() error {
	now := time.Now()
	return fs.WalkDir(s.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if name == "." {
			return err
		}
		if err != nil {
			s.unreadable = append(s.unreadable, name+"/")
			s.files[name] = &fileState{seen: now, problem: err.Error()} // for the log
			return fs.SkipDir
		}

		isHidden := entry.Name()[0] == '.'
		switch {
		case isHidden && entry.IsDir():
			return fs.SkipDir
		case isHidden:
			removeStale(s.root, name)
			return nil
		case entry.IsDir() || !isDocumentName(name):
			return nil
		}

		state := &fileState{seen: now}
		if state.inspect(s.root, name, entry) {
			s.files[name] = state
		}
		return nil
	})
}

// inspect fills in info and problem. It returns false if there is no file to report: name is a link to
// a folder, or the file was removed after the folder was listed.
func (s *fileState) inspect(root *os.Root, name string, entry fs.DirEntry) bool {
	info, err := root.Stat(name)
	s.info = info
	switch {
	case errors.Is(err, fs.ErrNotExist) && entry.Type().IsRegular():
		return false
	case err != nil:
		s.problem = err.Error()
	case info.IsDir():
		return false
	case !info.Mode().IsRegular():
		s.problem = "not a regular file" // reading a pipe would block the scan
	case info.Size() > maxDocumentBytes:
		s.problem = "larger than 8 MiB"
	default:
		if err := checkID(name); err != nil {
			s.problem = err.Error()
		}
	}
	return true
}

// compare returns the sorted ids of the files to read: those without a problem that may have changed
// since the last scan. before holds the files of that scan. An unchanged file keeps its old
// state, with any problem that reading it had.
func (s *folderScan) compare(before map[string]*fileState) (changed []string) {
	for id, state := range s.files {
		old := before[id]
		switch {
		case old.isSame(state.info):
			s.files[id] = old
		case state.problem == "":
			changed = append(changed, id)
		}
	}
	slices.Sort(changed)
	return changed
}

// read returns the documents in the files with these ids. It records the problem of each file that it
// cannot read. It may run in parallel for different files.
func (s *folderScan) read(ids []string) []*document {
	var documents []*document
	for _, id := range ids {
		d, err := s.readDocument(id)
		if err != nil {
			s.files[id].problem = err.Error()
			continue
		}
		documents = append(documents, d)
	}
	return documents
}

// readDocument reads a file whose state has no problem. The document gets the file's time.
func (s *folderScan) readDocument(id string) (*document, error) {
	text, err := s.root.ReadFile(id)
	if err != nil {
		return nil, err
	}
	return newDocument(id, string(text), s.files[id].info.ModTime())
}

// gone returns the stored ids that have no file. Files in an unreadable folder count as existing.
func (s *folderScan) gone(stored []string) []string {
	var ids []string
	for _, id := range stored {
		isBelow := func(dir string) bool { return strings.HasPrefix(id, dir) }
		_, exists := s.files[id]
		if !exists && !slices.ContainsFunc(s.unreadable, isBelow) {
			ids = append(ids, id)
		}
	}
	return ids
}
