package main

// Following DOCS_DIR: periodic scans bring the store in step with the documents in it. A scan never takes a
// missing or empty folder for a deletion. How one pass finds and reads files is in scan.go. Writes into the
// folder are in durable.go.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	loadBatch      = 32 // files that are read, embedded and stored together
	maxWarnedFiles = 20 // files that one log line names
)

// errElsewhere means that another replica scans the folder.
var errElsewhere = errors.New("another replica follows the folder")

// folder keeps a store in step with the folders of DOCS_DIR. Each scan and each write opens a root again,
// because another program may replace the folder: git-sync points a symbolic link elsewhere.
type folder struct {
	roots   []docsRoot
	exclude []string // see isExcluded
	observe *observer
	files   map[string]*fileState // by id, as of the last scan; only scan uses it
	warned  string                // what the last warning about left out files said
	written sync.Map              // by id: documents that were written into the folder and not scanned since

	synced  atomic.Pointer[time.Time] // see indexed
	failure atomic.Pointer[string]    // why the last scan failed, nil if it succeeded
	leftOut atomic.Pointer[leftOut]   // by the last scan, nil before it
	done    atomic.Int64              // files that the running scan has read
	total   atomic.Int64              // files that the running scan has to read
	steps   scanSteps                 // of the running scan
	devices atomic.Pointer[rootDevices]
}

// settleTime is how long after a change a scan waits for more of them.
const settleTime = 50 * time.Millisecond

// follow scans the folder at once, after each change that the system tells, and every interval, until ctx ends.
func (f *folder) follow(ctx context.Context, st store, interval time.Duration) {
	changed := make(chan struct{}, 1)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { f.watchAndWarn(ctx, changed, interval) })

	isFirst := true
	for {
		began := time.Now()
		err := f.scan(ctx, st)
		switch {
		case err == nil:
			f.failure.Store(nil)
			f.synced.Store(new(time.Now()))
		case ctx.Err() == nil: // otherwise the process stops, which is no failure
			f.failure.Store(new(err.Error()))
		}

		ended := time.Now()
		if !awaitChange(ctx, changed, interval) {
			return
		}
		// A folder that changes all the time costs at most a tenth of a core.
		rest := min(9*ended.Sub(began), interval) - time.Since(ended)
		if isFirst {
			rest = 0
		}
		isFirst = false
		if !pause(ctx, max(rest, settleTime)) {
			return
		}
	}
}

// awaitChange waits for a change, at most for the interval. It reports whether ctx is still alive.
func awaitChange(ctx context.Context, changed <-chan struct{}, interval time.Duration) bool {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer.C:
	}
	return true
}

// watchAndWarn sends to changed after each change, until ctx ends. If the system cannot tell of changes, it logs why, and
// the scans find them.
func (f *folder) watchAndWarn(ctx context.Context, changed chan<- struct{}, interval time.Duration) {
	err := watchFolders(ctx, f.roots, f.exclude, func() {
		select {
		case changed <- struct{}{}:
		default: // a scan is due already
		}
	})
	if err != nil && ctx.Err() == nil {
		f.observe.log.WarnContext(ctx, "changes are not noticed at once, only by scans",
			"error", err, "interval", interval.String())
	}
}

// indexed returns when a scan last succeeded, by the monotonic clock too. It is zero before the first one has.
func (f *folder) indexed() time.Time {
	at := f.synced.Load()
	if at == nil {
		return time.Time{}
	}
	return *at
}

// status describes the folder for /readyz. problem is "" once a scan has succeeded. detail is "", or
// begins with ": " and says that the running scan is stuck, that the last one failed, or how far the running one
// is.
func (f *folder) status() (problem, detail, cause string) {
	done, total := f.progress()
	failure := f.failure.Load()
	stuck := f.steps.stuck()
	switch {
	case stuck != nil:
		detail = ": scan stuck since " + stuck.began.UTC().Format(time.RFC3339)
		cause = "at " + displayable(stuck.file, maxIDBytes)
	case failure != nil:
		detail = ": last scan failed"
		cause = *failure
	case done < total:
		detail = fmt.Sprintf(": %d/%d files read", done, total)
	}

	if f.indexed().IsZero() {
		problem = "the first scan of DOCS_DIR has not ended"
	}
	return problem, detail, cause
}

// contents describes what the index has of the folder and what it does not, for /readyz. Without a folder,
// nothing is left out.
func (f *folder) contents(status storeStatus) string {
	text := fmt.Sprintf(": %d documents", status.documents)
	if status.cut > 0 {
		text += fmt.Sprintf(", %d of them indexed by their beginning", status.cut)
	}
	var counts *leftOut
	if f != nil {
		counts = f.leftOut.Load()
	}
	if counts == nil {
		return text
	}
	if status.documents == 0 {
		return ": " + nothingToServe(*counts)
	}
	if len(*counts) > 0 {
		text += "; left out " + counts.String()
	}
	return text
}

// nothingToServe says why a folder has no documents.
func nothingToServe(counts leftOut) string {
	if len(counts) == 0 {
		return "0 documents; the folder is empty"
	}
	return "0 documents; left out " + counts.String() + "; documents end in " + documentSuffixes
}

// progress returns how many files the running scan has read, and how many it has to read.
func (f *folder) progress() (done, total int64) {
	return f.done.Load(), f.total.Load()
}

// scan brings the store in step with the folders: it reads new and changed files, and removes the
// documents whose file is gone. A file that cannot be read keeps its document, and the log names it once.
// A root that cannot be scanned keeps all of its documents, and does not keep the others from being scanned.
func (f *folder) scan(ctx context.Context, st store) (err error) {
	ctx, end := f.observe.job(ctx, "folder_scan")
	defer end(&err)

	s := &folderScan{
		exclude: f.exclude,
		began:   time.Now(),
		files:   make(map[string]*fileState),
		leftOut: make(leftOut),
		devices: make(map[string]uint64),
		written: &f.written,
		steps:   &f.steps,
	}
	defer s.close()
	if err := s.open(f.roots); err != nil {
		return err // before the lease: another replica may have the folder
	}

	stored, err := st.folderIDs(ctx)
	if errors.Is(err, errElsewhere) {
		f.files = nil // the other replica may have stored other states of the files
		return nil
	}
	if err != nil {
		return err
	}

	s.walk(ctx, stored)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(f.apply(ctx, st, s, stored), errors.Join(s.failures...))
}

// apply brings the store in step with the files that s found. stored are the ids of the documents that
// the store has from the folder.
func (f *folder) apply(ctx context.Context, st store, s *folderScan, stored []string) error {
	changed := s.compare(f.files)
	s.keepUnseen(f.files, stored)
	if err := f.load(ctx, st, s, changed); err != nil {
		return err
	}

	gone := s.gone(stored)
	last := []*document(nil)
	if len(s.failures) > 0 {
		last = []*document{} // the scan is not complete: see store.sync
	}
	if err := st.sync(ctx, s.began, last, gone); err != nil {
		return err
	}

	f.devices.Store(new(f.mounted().accept(s)))
	counts := s.countLeftOut()
	isFirst := f.leftOut.Swap(&counts) == nil
	f.warnSkipped(ctx, s.files)
	f.files = s.files
	if len(changed)+len(gone) > 0 {
		logAttrs(ctx,
			slog.Int("files", len(s.files)),
			slog.Int("read", len(changed)),
			slog.Int("removed", len(gone)))
	}
	if isFirst || len(changed)+len(gone) > 0 {
		f.logIndexed(ctx, st, s)
		return nil
	}
	f.warnLeftOut(ctx, counts, len(s.files))
	return nil
}

// logIndexed logs for people what the store has after a scan that changed it.
func (f *folder) logIndexed(ctx context.Context, st store, s *folderScan) {
	status := st.status()
	f.observe.log.InfoContext(ctx, "indexed",
		"documents", status.documents,
		"passages", status.chunks,
		"left_out", s.leftOut.String(),
		"took_ms", milliseconds(time.Since(s.began)))
	f.warnLeftOut(ctx, s.leftOut, status.documents)
}

// warnLeftOut logs what is left out if that has changed since the last scan, or that there is nothing to
// serve.
func (f *folder) warnLeftOut(ctx context.Context, counts leftOut, documents int) {
	worth := counts.worthWarning()
	text := worth.String()
	if documents == 0 {
		text = nothingToServe(counts)
	}
	if text == f.warned {
		return
	}

	f.warned = text
	switch {
	case documents == 0:
		f.observe.log.WarnContext(ctx, "nothing to serve", "reason", text)
	case len(worth) > 0:
		f.observe.log.WarnContext(ctx, "files left out", "left_out", text)
	}
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

			end := s.steps.begin(documents[0].id)
			err := st.sync(ctx, s.began, documents, nil)
			end()
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

// warnSkipped logs the files whose problem is new since the last scan, and those of which only the beginning
// is indexed.
func (f *folder) warnSkipped(ctx context.Context, files map[string]*fileState) {
	var skipped []string
	var cut []string
	for id, state := range files {
		before := f.files[id]
		if before == nil {
			before = new(fileState)
		}
		if state.problem != "" && state.problem != before.problem {
			skipped = append(skipped, id+": "+state.problem)
		}
		if state.indexed > 0 && state.indexed != before.indexed {
			cut = append(cut, fmt.Sprintf("%s: its first %d lines", id, state.indexed))
		}
	}
	f.warnFiles(ctx, "files skipped", skipped)
	f.warnFiles(ctx, "documents indexed by their beginning", cut)
}

// warnFiles logs a warning with the first of the named files, if there are any.
func (f *folder) warnFiles(ctx context.Context, message string, files []string) {
	if len(files) == 0 {
		return
	}
	slices.Sort(files)
	shown := files[:min(maxWarnedFiles, len(files))]
	f.observe.log.WarnContext(ctx, message, "count", len(files), "files", shown)
}
