package main

// Durable writes into DOCS_DIR. A file is written under a temporary name in its folder, synced, and
// renamed; then the folder is synced. After a crash a document has its old text or its new one.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// temporaryPattern starts with a dot, so that a scan does not take the file for a document.
	temporaryPattern = ".vitrine-*.tmp"

	// maxTemporaryAge is longer than any write takes. An older temporary file was left by a killed
	// process.
	maxTemporaryAge = 10 * time.Minute
)

// tag reads the file of a document and returns its entity tag, or "" if there is no file. Preconditions
// are checked against this tag, because the index may lag behind the file.
func (f *folder) tag(ctx context.Context, id string) (tag string, err error) {
	err = f.inRoot(ctx, "read", id, func(root *os.Root, name string) error {
		text, err := readRegular(root, name)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}

		tag = entityTag(text)
		return nil
	})
	return tag, err
}

// write durably creates or replaces the file of a document. It creates the folders that are missing.
func (f *folder) write(ctx context.Context, d *document) error {
	err := f.inRoot(ctx, "write", d.id, func(root *os.Root, name string) error {
		dir := path.Dir(name)
		if err := makeFolders(root, dir); err != nil {
			return err
		}

		temporary := path.Join(dir, strings.Replace(temporaryPattern, "*", rand.Text(), 1))
		if err := replaceFile(root, name, temporary, d.text); err != nil {
			_ = root.Remove(temporary) // if this fails, removeStale does it later
			return err
		}
		return syncFolder(root, dir)
	})
	if err == nil {
		f.written.Store(d.id, d)
	}
	return err
}

// remove durably removes the file of a document. It is no error if the file does not exist: somebody
// else may have removed it before a scan noticed.
func (f *folder) remove(ctx context.Context, id string) error {
	f.written.Delete(id)
	return f.inRoot(ctx, "remove", id, func(root *os.Root, name string) error {
		err := root.Remove(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return syncFolder(root, path.Dir(name))
	})
}

// locate returns the root that holds the document with this id, and the name of its file there.
func (f *folder) locate(id string) (root docsRoot, name string, err error) {
	var prefixes []string
	for _, root := range f.roots {
		name, isInside := strings.CutPrefix(id, root.prefix)
		if isInside {
			return root, name, nil
		}
		prefixes = append(prefixes, root.prefix)
	}
	return root, "", userErrorf(http.StatusBadRequest,
		"no folder holds this id: begin it with %s", strings.Join(prefixes, " or "))
}

// checkTarget returns an error unless a document with this id would be served. Without a folder, all are.
func (f *folder) checkTarget(id string) error {
	if f == nil {
		return nil
	}
	if _, _, err := f.locate(id); err != nil {
		return err
	}

	isGenerated := func(segment string) bool { return slices.Contains(generatedFolders, segment) }
	if slices.ContainsFunc(strings.Split(path.Dir(id), "/"), isGenerated) {
		return userErrorf(http.StatusConflict,
			"documents in %s are left out: choose another folder", strings.Join(generatedFolders, ", "))
	}
	if isExcluded(id, f.exclude) {
		return userError{http.StatusConflict, "DOCS_EXCLUDE leaves this id out: choose another, or change the setting"}
	}
	return nil
}

// inRoot calls do with the root that holds the document and the name of its file, in a stage of its own. An
// error that the client can avoid becomes a userError.
func (f *folder) inRoot(
	ctx context.Context, operation, id string, do func(root *os.Root, name string) error,
) (err error) {
	_, end := stage(ctx, stageFile, slog.String("operation", operation))
	defer end(&err)

	in, name, err := f.locate(id)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(in.dir)
	if err != nil {
		return folderGone(err)
	}
	defer root.Close()
	if err := f.mounted().check(in.prefix, root); err != nil {
		return err
	}

	err = do(root, name)
	_, isUserError := errors.AsType[userError](err)
	switch {
	case err == nil || isUserError:
		return err
	case isAny(err, os.ErrPermission, syscall.EROFS):
		return userError{
			http.StatusConflict,
			"the documents folder is read-only: change the documents at their source",
		}
	case isAny(err, syscall.ENOSPC, syscall.EDQUOT):
		return fmt.Errorf("%w (%s %s: %w)", errDiskFull, operation, id, err)
	case isAny(err, os.ErrNotExist, syscall.EIO, syscall.ESTALE, syscall.ENOTCONN):
		return folderGone(err)
	case isAny(err, syscall.ENOTDIR, syscall.EISDIR, os.ErrExist, errNotRegular):
		return userError{
			http.StatusConflict,
			"a file or folder of another kind is in the way of this id",
		}
	}
	return fmt.Errorf("%s %s: %w", operation, id, err)
}

// rootDevices are the file systems of the roots of DOCS_DIR, by prefix, as the last scan accepted them.
type rootDevices map[string]uint64

// mounted returns the file systems of the roots, none before the first scan.
func (f *folder) mounted() rootDevices {
	devices := f.devices.Load()
	if devices == nil {
		return nil
	}
	return *devices
}

// check returns an error if the folder is on another file system than the one that the last scan accepted. What is
// written there would be hidden as soon as the missing one is mounted again.
func (d rootDevices) check(prefix string, folder *os.Root) error {
	info, err := folder.Stat(".")
	if err != nil {
		return folderGone(err)
	}
	device, isKnown := d[prefix]
	if isKnown && device != deviceOf(info) {
		return folderGone(errUnmounted)
	}
	return nil
}

// isAny reports whether err is one of the targets.
func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// folderGone returns the error of a write while the folder is away. The caller learns the class of the cause, the log all
// of it.
func folderGone(err error) error {
	reason := "it cannot be opened"
	cause, isOfPath := errors.AsType[*os.PathError](err)
	switch {
	case isOfPath:
		reason = cause.Err.Error() // without the path
	case errors.Is(err, errUnmounted):
		reason = err.Error()
	}
	return fmt.Errorf("%w (opening DOCS_DIR: %w)", userErrorf(http.StatusServiceUnavailable,
		"the documents folder is away (%s): "+
			"documents in the index are still served, writes go on when it is back", reason), err)
}

// errUnmounted means that a root of DOCS_DIR is on another file system than before.
var errUnmounted = errors.New("its file system is no longer mounted")

var errNotRegular = errors.New("not a regular file")

// readRegular reads a file of at most 8 MiB. The file may have been replaced since it was listed, so
// everything is checked on the open file: opening a pipe would wait for its writer, and another file may be
// of any size.
func readRegular(root *os.Root, name string) (string, error) {
	file, info, err := openRegular(root, name)
	if err != nil {
		return "", err
	}
	defer file.Close()

	var text strings.Builder
	text.Grow(int(min(info.Size(), maxDocumentBytes)) + 1)
	_, err = io.Copy(&text, io.LimitReader(file, maxDocumentBytes+1)) // newDocument refuses what is longer
	return text.String(), err
}

// openRegular opens a file for reading, or returns errNotRegular. The caller closes it.
func openRegular(root *os.Root, name string) (*os.File, os.FileInfo, error) {
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// makeFolders creates dir and its parents where they are missing. It syncs the parent of each new folder.
func makeFolders(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := makeFolders(root, path.Dir(dir)); err != nil {
		return err
	}

	info, err := root.Lstat(dir)
	exists := err == nil
	if exists && info.Mode()&os.ModeSymlink != 0 {
		// Scans do not follow links to folders: the next one would remove the document.
		return userError{
			http.StatusConflict,
			"a link to a folder is in the way of this id: use the folder's own path",
		}
	}
	if exists {
		return nil
	}

	err = root.Mkdir(dir, 0o777)
	existsNow := errors.Is(err, os.ErrExist) // another request has just created it
	if err != nil && !existsNow {
		return err
	}
	return syncFolder(root, path.Dir(dir))
}

// replaceFile writes and syncs a temporary file and renames it to name.
func replaceFile(root *os.Root, name, temporary, text string) error {
	info, err := root.Lstat(name)
	if err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket|os.ModeDevice) != 0 {
		return errNotRegular
	}

	file, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}

	_, err = io.WriteString(file, text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return root.Rename(temporary, name)
}

// syncFolder makes new, renamed and removed entries of dir durable: syncing a file does not sync its
// entry in the folder.
func syncFolder(root *os.Root, dir string) error {
	file, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// isTemporaryName reports whether write uses such a name for its temporary files.
func isTemporaryName(name string) bool {
	isMatch, _ := path.Match(temporaryPattern, path.Base(name))
	return isMatch
}

// removeStale removes a temporary file that a killed process left.
func removeStale(root *os.Root, name string) {
	info, err := root.Lstat(name)
	if err != nil {
		return
	}
	if time.Since(info.ModTime()) > maxTemporaryAge {
		_ = root.Remove(name) // the next scan tries again
	}
}
