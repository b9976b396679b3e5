package main

// Following DOCS_DIR: scans bring the store in step with the documents in the folders, at an interval and after changes. A
// missing or empty folder never deletes documents. scan.go finds and reads the files of one scan, durable.go writes into the
// folder.

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

	// settleTime is how long a scan waits after a change for more of them.
	settleTime = 50 * time.Millisecond
)

// errElsewhere means that another replica scans the folder.
var errElsewhere = errors.New("another replica follows the folder")

// folder keeps a store in step with the folders of DOCS_DIR, its roots. Each scan and each write opens its roots anew, because
// another program may replace a folder, as git-sync does by changing a symbolic link.
type folder struct {
	roots   []docsRoot
	exclude []string // see isExcluded
	observe *observer
	files   map[string]*fileState // by id, as of the last scan; only scan uses it
	warned  string                // text of the last warning about left out files; only scan uses it
	written sync.Map              // by id: documents that were written into the folder and not scanned since (*document)

	synced  atomic.Pointer[time.Time]   // see indexed
	failure atomic.Pointer[string]      // why the last scan failed, nil if it succeeded
	leftOut atomic.Pointer[leftOut]     // by the last scan, nil before the first
	done    atomic.Int64                // files that the running scan has read
	total   atomic.Int64                // files that the running scan has to read
	steps   scanSteps                   // of the running scan
	devices atomic.Pointer[rootDevices] // file systems of the roots, see accept
}

// follow scans the folder at once, after each change that the system reports, and every interval, until ctx ends.
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
		case ctx.Err() == nil: // the process is not stopping
			f.failure.Store(new(err.Error()))
		}

		ended := time.Now()
		if !awaitChange(ctx, changed, interval) {
			return
		}
		// If the folder changes all the time, scans rest nine times as long as they took, but not longer than interval.
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

// awaitChange waits for a change, but not longer than interval. It returns false if ctx ends first.
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

// watchAndWarn sends to changed after each change, until ctx ends. If the system cannot report changes, it logs why. Then only
// the scans at the interval find them.
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

// indexed returns when a scan last succeeded, zero if none has. The time has a monotonic clock reading.
func (f *folder) indexed() time.Time {
	at := f.synced.Load()
	if at == nil {
		return time.Time{}
	}
	return *at
}

// status describes the folder for /readyz. problem is "" once a scan has succeeded. detail is "", or begins with ": " and says
// that the running scan is stuck, that the last one failed, or how far the running one is. cause is "", or says where it is
// stuck or why it failed.
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

// contents says for /readyz how many documents the store has and which files of the folder are left out. f may be nil.
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

// nothingToServe says why the store has no documents after a scan.
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

// scan brings the store in step with the folders: it reads new and changed files, and removes the documents whose file is
// gone. If a file cannot be read, its document stays, and the log names the file once. If a root cannot be scanned, all of its
// documents stay, the other roots are scanned, and the error says why.
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
		return err // before folderIDs takes the lease: another replica may see the folder
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
	var end []*document // nil ends a complete scan, an empty slice an incomplete one: see store.sync
	if len(s.failures) > 0 {
		end = []*document{}
	}
	if err := st.sync(ctx, s.began, end, gone); err != nil {
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

// logIndexed logs what the store has after a scan that changed it, or after the first one.
func (f *folder) logIndexed(ctx context.Context, st store, s *folderScan) {
	status := st.status()
	f.observe.log.InfoContext(ctx, "indexed",
		"documents", status.documents,
		"passages", status.chunks,
		"left_out", s.leftOut.String(),
		"took_ms", milliseconds(time.Since(s.began)))
	f.warnLeftOut(ctx, s.leftOut, status.documents)
}

// warnLeftOut logs which files are left out, or that there are no documents to serve, unless the last warning said the same.
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

// load reads the changed files on all cores and passes their documents to the store in batches. If the store fails, it skips
// the remaining batches, because the next scan starts over.
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
				return nil // without documents, sync would end the scan
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

// logProgress logs the progress of the scan once a second. The caller must call stop, which waits for the last line.
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

// warnSkipped logs the files that are skipped and those of which only the beginning is indexed, if this is new since the last
// scan.
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

// warnFiles logs a warning with the number of files and the first maxWarnedFiles of them. Without files, it logs nothing.
func (f *folder) warnFiles(ctx context.Context, message string, files []string) {
	if len(files) == 0 {
		return
	}
	slices.Sort(files)
	shown := files[:min(maxWarnedFiles, len(files))]
	f.observe.log.WarnContext(ctx, message, "count", len(files), "files", shown)
}
