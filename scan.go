package main

// One scan of the folders of DOCS_DIR: listing them, choosing the files to read, and reading these.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// mtimeSlack is the coarsest resolution of modification times, that of FAT. A file that changes twice within it may keep its
	// modification time.
	mtimeSlack = 2 * time.Second

	// ctimeSlack is the same for change times, with room to spare: the kernel sets them by a clock that ticks at least every 10 ms.
	ctimeSlack = 100 * time.Millisecond
)

// folderScan is one scan of the folders. Its phases are open, walk, compare, read and gone.
type folderScan struct {
	roots      []openRoot
	exclude    []string
	began      time.Time
	files      map[string]*fileState // by id
	leftOut    leftOut               // files that are left out because of their name or type; see countLeftOut
	unreadable []string              // prefixes of the ids below folders that could not be listed
	devices    map[string]uint64     // the file system of each folder, see enter
	lost       map[uint64]int        // file systems that are no longer mounted, see unmounted
	failures   []error               // one for each root or file system that could not be scanned
	written    *sync.Map             // see folder
	steps      *scanSteps
}

// openRoot is a root of DOCS_DIR that is open.
type openRoot struct {
	docsRoot
	*os.Root
}

// fileState is the state of a file as a scan found it.
type fileState struct {
	info    fs.FileInfo // nil if the file cannot be examined
	seen    time.Time   // when the scan that examined the file began
	problem string      // why the file is skipped, "" if it is not
	reason  string      // see leftOut, "" if the file is served
	indexed int         // see metadata
	device  uint64      // the file system of the file's folder
}

// skip records why the file is skipped: reason is counted, problem is logged. Its document, if there is one, stays as it is.
func (s *fileState) skip(reason, problem string) {
	s.reason = reason
	s.problem = problem
}

// isDraft reports whether the file is readable but must not be served.
func (s *fileState) isDraft() bool { return s.reason == leftOutDraft }

// isSame reports whether the file with this info is certainly unchanged since s was recorded. s may be nil. Equal size and
// modification time do not prove it: unpacking an archive sets the times in the archive, and another file may have taken its
// place.
func (s *fileState) isSame(info fs.FileInfo) bool {
	if s == nil || s.info == nil || info == nil || !os.SameFile(s.info, info) {
		return false
	}

	changed := changeTime(info)
	isEqual := s.info.Size() == info.Size() &&
		s.info.ModTime().Equal(info.ModTime()) &&
		changeTime(s.info).Equal(changed)
	isOld := s.seen.Sub(info.ModTime()) > mtimeSlack && s.seen.Sub(changed) > ctimeSlack
	return isEqual && isOld
}

// open opens the roots. It returns an error only if none can be opened. The caller must close the scan.
func (s *folderScan) open(roots []docsRoot) error {
	for _, root := range roots {
		opened, err := os.OpenRoot(root.dir)
		if err != nil {
			s.fail(root, fmt.Errorf("opening DOCS_DIR: %w", err))
			continue
		}
		s.roots = append(s.roots, openRoot{root, opened})
	}
	if s.roots == nil {
		return errors.Join(s.failures...)
	}
	return nil
}

func (s *folderScan) close() {
	for _, root := range s.roots {
		root.Close()
	}
}

// fail records why a root cannot be scanned. Its documents stay.
func (s *folderScan) fail(root docsRoot, err error) {
	s.failures = append(s.failures, err)
	s.unreadable = append(s.unreadable, root.prefix)
}

// walk lists the files of all roots. A root that has no files, although the store has documents from it, counts as one that
// cannot be scanned. stored are the ids of the documents that the store has from the folders.
func (s *folderScan) walk(ctx context.Context, stored []string) {
	for _, root := range s.roots {
		before := len(s.files)
		if err := s.walkRoot(ctx, root); err != nil {
			s.fail(root.docsRoot, fmt.Errorf("reading DOCS_DIR: %w", err))
			continue
		}

		isStored := func(id string) bool { return strings.HasPrefix(id, root.prefix) }
		if len(s.files) == before && slices.ContainsFunc(stored, isStored) {
			s.fail(root.docsRoot, fmt.Errorf("DOCS_DIR %s no longer contains documents: "+
				"those that it had are kept until it does, or until a restart", root.dir))
		}
	}
}

// walkRoot lists the files of a root. It follows links to files within the root, but no links to folders. It also removes stale
// temporary files.
func (s *folderScan) walkRoot(ctx context.Context, root openRoot) error {
	end := s.steps.begin(root.prefix + ".")
	defer func() { end() }()
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		id := root.prefix + name
		end()
		end = s.steps.begin(id)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if entry != nil && entry.IsDir() {
			s.enter(id, entry)
		}
		if name == "." {
			return err
		}
		if err != nil {
			s.unreadable = append(s.unreadable, id+"/")
			s.files[id] = &fileState{reason: "unreadable", problem: err.Error()}
			return fs.SkipDir
		}

		reason := nameReason(id, entry, s.exclude)
		switch {
		case reason != "" && isTemporaryName(name):
			removeStale(root.Root, name)
		case reason != "" && entry.IsDir():
			s.leftOut[reason]++
			return fs.SkipDir
		case reason != "":
			s.leftOut[reason]++
		case !entry.IsDir():
			s.inspect(root, name, entry)
		}
		return nil
	})
}

// enter records the file system of a folder. dir is the folder's path as an id would have it, without a slash at the end.
func (s *folderScan) enter(dir string, entry fs.DirEntry) {
	info, err := entry.Info()
	if err == nil {
		s.devices[dir] = deviceOf(info)
	}
}

// inspect records the state of a file. It ignores a file that was removed after the folder was listed, and counts a link to a
// folder as left out.
func (s *folderScan) inspect(root openRoot, name string, entry fs.DirEntry) {
	id := root.prefix + name
	isLink := entry.Type()&fs.ModeSymlink != 0
	stat := entry.Info // no system call: os.Root has examined the files that it lists
	if isLink {
		stat = func() (fs.FileInfo, error) { return root.Stat(name) }
	}

	info, err := stat()
	state := &fileState{
		info:   info,
		seen:   s.began,
		device: s.devices[root.prefix+path.Dir(name)],
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && !isLink:
		return
	case err != nil:
		state.skip("unreadable", err.Error())
	case info.IsDir():
		s.leftOut[leftOutLink]++
		return
	case !info.Mode().IsRegular():
		state.skip("not a regular file", errNotRegular.Error())
	case info.Size() > maxDocumentBytes:
		state.skip("larger than 8 MiB", "larger than 8 MiB")
	default:
		if err := checkID(id); err != nil {
			state.skip("with a bad id", err.Error())
		}
	}
	s.files[id] = state
}

// compare returns the sorted ids of the files to read: those without a problem that may have changed since the last scan.
// before holds the files of that scan. An unchanged file keeps its old state, including a problem that occurred on reading it.
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

// read returns the documents in the files with these ids. In the files' states, it records why a file cannot be read and which
// files are drafts. It may run in parallel for different files.
func (s *folderScan) read(ids []string) []*document {
	var documents []*document
	for _, id := range ids {
		state := s.files[id]
		end := s.steps.begin(id)
		d, err := s.readDocument(id, state)
		end()
		user, isInvalid := errors.AsType[userError](err)
		switch {
		case isInvalid && user.status == http.StatusBadRequest:
			state.skip("not UTF-8 text", err.Error())
		case isInvalid:
			state.skip("larger than 8 MiB", err.Error())
		case err != nil:
			state.skip("unreadable", err.Error())
		case d.unpublished != "":
			state.reason = leftOutDraft
		default:
			state.indexed = d.indexed
			documents = append(documents, d)
		}
	}
	return documents
}

// readDocument reads a file whose state has no problem. The document's time is the file's modification time. A document that
// was written into the folder is not parsed again.
func (s *folderScan) readDocument(id string, state *fileState) (*document, error) {
	for _, root := range s.roots {
		name, isInside := strings.CutPrefix(id, root.prefix)
		if !isInside {
			continue
		}
		text, err := readRegular(root.Root, name)
		if err != nil {
			return nil, err
		}
		written, _ := s.written.LoadAndDelete(id)
		if d, isWritten := written.(*document); isWritten && d.etag == entityTag(text) {
			return d, nil
		}
		return parseFile(id, text, state.info)
	}
	return nil, fs.ErrNotExist
}

// parseFile parses the text of a file. A panic is a bug of the parser. It becomes an error, because otherwise one file would end
// the server at every start.
func parseFile(id, text string, info fs.FileInfo) (d *document, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("cannot be parsed, please report it: %v", cause)
		}
	}()
	return newDocument(id, text, info.ModTime())
}

// gone returns those of the stored ids that have no file, or only a draft. Files below an unreadable folder count as existing.
func (s *folderScan) gone(stored []string) []string {
	var ids []string
	for _, id := range stored {
		state, exists := s.files[id]
		isServed := exists && !state.isDraft()
		if !isServed && !s.isUnreadable(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// isUnreadable reports whether a document is in a root that could not be scanned or below a folder that could not be listed.
func (s *folderScan) isUnreadable(id string) bool {
	isBelow := func(dir string) bool { return strings.HasPrefix(id, dir) }
	return slices.ContainsFunc(s.unreadable, isBelow)
}

// countLeftOut adds the files whose state has a reason to s.leftOut and returns it. It must be called only once.
func (s *folderScan) countLeftOut() leftOut {
	for _, state := range s.files {
		if state.reason != "" {
			s.leftOut[state.reason]++
		}
	}
	return s.leftOut
}
