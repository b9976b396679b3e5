package main

// Following DOCS_DIR, and durable writes into it.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// folder is a folder of Markdown files that a store is kept in step with. Its root is opened anew for every scan and
// every write, because whoever fills it may swap it (git-sync turns a symbolic link).
type folder struct {
	dir     string
	observe *observer
	files   map[string]*fileState // by id, as of the last scan; scan alone uses it

	synced      atomic.Int64           // when a scan last succeeded, in Unix milliseconds; 0: never
	failure     atomic.Pointer[string] // why the last scan failed, nil if it did not
	done, total atomic.Int64           // files of the scan that is running
}

// fileState is what a scan remembers of a file.
type fileState struct {
	info    fs.FileInfo
	seen    time.Time
	problem string // why it was skipped, empty if it was not
}

// unchanged reports whether the file is surely the one seen before. A file changed less than two seconds before it was
// seen may have changed again within the same tick of the file system's clock.
func (s *fileState) unchanged(info fs.FileInfo) bool {
	return s != nil && s.info != nil && os.SameFile(s.info, info) && s.info.Size() == info.Size() &&
		s.info.ModTime().Equal(info.ModTime()) && s.seen.Sub(info.ModTime()) > 2*time.Second
}

// follow scans the folder at once and then every interval, until ctx ends.
func (f *folder) follow(ctx context.Context, st store, interval time.Duration) {
	for wanted := true; wanted; wanted = pause(ctx, interval) {
		if err := f.scan(ctx, st); err == nil {
			f.failure.Store(nil)
			f.synced.Store(time.Now().UnixMilli())
		} else if ctx.Err() == nil {
			f.failure.Store(new(err.Error()))
		}
	}
}

// status tells what keeps the folder from being searched, if anything, and how far it is.
func (f *folder) status() (problem, detail string) {
	if message := f.failure.Load(); message != nil {
		detail = ": last scan failed: " + *message
	} else if done, total := f.done.Load(), f.total.Load(); done < total {
		detail = fmt.Sprintf(": %d/%d files read", done, total)
	}
	if f.synced.Load() == 0 {
		problem = "the first scan of DOCS_DIR has not ended"
	}
	return problem, detail
}

// errElsewhere is the answer to a scan that another replica does.
var errElsewhere = errors.New("another replica follows the folder")

// scan brings the store in step with the folder: new and changed files are read, documents whose file has gone are
// removed. A file that cannot be read stays as it was, and the log names it once.
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
		f.files = nil // what the other replica stores may come from other states of the files
		return nil
	}
	if err != nil {
		return err
	}
	files, unread, err := f.walk(root)
	if err != nil {
		return fmt.Errorf("reading DOCS_DIR: %w", err)
	}
	if len(files) == 0 && len(stored) > 0 {
		return fmt.Errorf("DOCS_DIR %s has no Markdown any more: its %d documents are kept until it has some, or a restart", f.dir, len(stored))
	}
	var changed []string
	for id, state := range files {
		if before := f.files[id]; before.unchanged(state.info) {
			files[id] = before
		} else if state.problem == "" {
			changed = append(changed, id)
		}
	}
	slices.Sort(changed)
	if err := f.load(ctx, st, root, files, changed, began); err != nil {
		return err
	}
	var gone []string
	for _, id := range stored {
		inUnread := func(dir string) bool { return strings.HasPrefix(id, dir) }
		if _, ok := files[id]; !ok && !slices.ContainsFunc(unread, inUnread) {
			gone = append(gone, id)
		}
	}
	if err := st.sync(ctx, began, nil, gone); err != nil {
		return err
	}
	f.warn(ctx, files)
	f.files = files
	if len(changed)+len(gone) > 0 {
		logAttrs(ctx, slog.Int("files", len(files)), slog.Int("read", len(changed)), slog.Int("removed", len(gone)))
	}
	return nil
}

// walk returns the Markdown files below root by their id, and the folders that could not be read. What starts with a
// dot is passed over, and so are links to folders; links to files are followed within the root.
func (f *folder) walk(root *os.Root) (files map[string]*fileState, unread []string, err error) {
	files = make(map[string]*fileState)
	now := time.Now()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case name == ".":
			return err
		case err != nil:
			unread = append(unread, name+"/")
			files[name] = &fileState{seen: now, problem: err.Error()}
			return fs.SkipDir
		case d.Name()[0] == '.' && d.IsDir():
			return fs.SkipDir
		case d.Name()[0] == '.':
			removeStale(root, name)
			return nil
		case d.IsDir() || !strings.HasSuffix(name, ".md"):
			return nil
		}
		info, err := root.Stat(name)
		state := &fileState{info: info, seen: now}
		switch {
		case errors.Is(err, fs.ErrNotExist) && d.Type().IsRegular(): // gone since it was listed
			return nil
		case err != nil:
			state.problem = err.Error()
		case info.IsDir():
			return nil
		case !info.Mode().IsRegular():
			state.problem = "not a regular file"
		case info.Size() > maxDocumentBytes:
			state.problem = "larger than 8 MiB"
		default:
			if err := checkID(name); err != nil {
				state.problem = err.Error()
			}
		}
		files[name] = state
		return nil
	})
	return files, unread, err
}

// load reads the changed files with all cores and hands them to the store in batches. It logs once a second how far
// it is.
func (f *folder) load(ctx context.Context, st store, root *os.Root, files map[string]*fileState, changed []string, began time.Time) error {
	f.done.Store(0)
	f.total.Store(int64(len(changed)))
	loading, loaded := context.WithCancel(ctx)
	var reporter sync.WaitGroup
	reporter.Go(func() {
		for pause(loading, time.Second) {
			f.observe.log.InfoContext(ctx, "reading folder", "done", f.done.Load(), "total", f.total.Load())
		}
	})
	defer reporter.Wait()
	defer loaded()
	var jobs []func() error
	var failed atomic.Bool // the scan will begin anew
	for batch := range slices.Chunk(changed, 32) {
		jobs = append(jobs, func() (err error) {
			defer f.done.Add(int64(len(batch)))
			if failed.Load() {
				return nil
			}
			if documents := readDocuments(root, files, batch); len(documents) > 0 {
				err = st.sync(ctx, began, documents, nil)
			}
			failed.CompareAndSwap(false, err != nil)
			return err
		})
	}
	return inParallel(ctx, make(chan struct{}, runtime.GOMAXPROCS(0)), jobs)
}

// readDocuments returns the documents of those files that can be read, and notes why the others cannot. No two calls at
// once share a file.
func readDocuments(root *os.Root, files map[string]*fileState, ids []string) (documents []*document) {
	for _, id := range ids {
		text, err := root.ReadFile(id)
		var d *document
		if err == nil {
			d, err = newDocument(id, string(text), files[id].info.ModTime())
		}
		if err != nil {
			files[id].problem = err.Error()
			continue
		}
		documents = append(documents, d)
	}
	return documents
}

// warn names the files that are skipped now and were not before.
func (f *folder) warn(ctx context.Context, files map[string]*fileState) {
	const most = 20
	var skipped []string
	for id, state := range files {
		if before := f.files[id]; state.problem != "" && (before == nil || before.problem != state.problem) {
			skipped = append(skipped, id+": "+state.problem)
		}
	}
	if len(skipped) > 0 {
		slices.Sort(skipped)
		f.observe.log.WarnContext(ctx, "files skipped", "count", len(skipped), "files", skipped[:min(most, len(skipped))])
	}
}

// temporaryFile is what the name of a file that is being written looks like.
const temporaryFile = ".vitrine-*.tmp"

// removeStale removes the file if it is a temporary one that a killed process left. One that is being written is younger.
func removeStale(root *os.Root, name string) {
	if isTemporary, _ := path.Match(temporaryFile, path.Base(name)); !isTemporary {
		return
	}
	if info, err := root.Lstat(name); err == nil && time.Since(info.ModTime()) > 10*time.Minute {
		_ = root.Remove(name) // tried again at the next scan
	}
}

// write puts text into the file of that id, durably: whatever happens, the file is the old one or the new one.
func (f *folder) write(ctx context.Context, id, text string) error {
	return f.inRoot(ctx, "write", id, func(root *os.Root) error {
		dir := path.Dir(id)
		if err := makeFolders(root, dir); err != nil {
			return err
		}
		temporary := path.Join(dir, strings.Replace(temporaryFile, "*", rand.Text(), 1))
		err := writeSynced(root, temporary, text)
		if err == nil {
			err = root.Rename(temporary, id)
		}
		if err != nil {
			_ = root.Remove(temporary)
			return err
		}
		return syncFolder(root, dir)
	})
}

// tag returns the entity tag of the file of that id as it is now, empty if there is none.
func (f *folder) tag(ctx context.Context, id string) (tag string, err error) {
	err = f.inRoot(ctx, "read", id, func(root *os.Root) error {
		text, err := root.ReadFile(id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		tag = entityTag(string(text))
		return err
	})
	return tag, err
}

// remove removes the file of that id, durably. That it has gone already is fine.
func (f *folder) remove(ctx context.Context, id string) error {
	return f.inRoot(ctx, "remove", id, func(root *os.Root) error {
		err := root.Remove(id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return syncFolder(root, path.Dir(id))
	})
}

// inRoot does something with the file of that id and explains why it failed: what the caller can mend is a conflict (409).
func (f *folder) inRoot(ctx context.Context, operation, id string, do func(root *os.Root) error) (err error) {
	_, end := stage(ctx, "file", slog.String("operation", operation))
	defer end(&err)
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return fmt.Errorf("opening DOCS_DIR: %w", err)
	}
	defer root.Close()
	err = do(root)
	_, isUsers := errors.AsType[userError](err)
	switch {
	case err == nil || isUsers:
		return err
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return userError{http.StatusConflict, "the documents folder is read-only: change the documents where it comes from"}
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, fs.ErrExist):
		return userError{http.StatusConflict, "a file or folder of another kind is in the way of this id"}
	}
	return fmt.Errorf("%s %s: %w", operation, id, err)
}

// makeFolders creates dir and the folders above it where they are missing, and syncs what it adds to.
func makeFolders(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := makeFolders(root, path.Dir(dir)); err != nil {
		return err
	}
	switch info, err := root.Lstat(dir); {
	case err == nil && info.Mode()&fs.ModeSymlink != 0: // a scan would not follow it: the document would vanish
		return userError{http.StatusConflict, "a link to a folder is in the way of this id: use the folder's own path"}
	case err == nil:
		return nil
	}
	if err := root.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(root, path.Dir(dir))
}

func writeSynced(root *os.Root, name, text string) error {
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, text)
	return errors.Join(err, file.Sync(), file.Close())
}

func syncFolder(root *os.Root, dir string) error {
	file, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
