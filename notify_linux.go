package main

// Notification of changes in folders by inotify (man 7 inotify), so that the next scan starts at once. The scan finds
// out what has changed, because events may be lost, and folders may change before they are watched.

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// watchedEvents may change the result of a scan. A file that is being written counts once it is closed.
	watchedEvents = syscall.IN_CLOSE_WRITE | syscall.IN_CREATE | syscall.IN_DELETE |
		syscall.IN_MOVE | syscall.IN_ATTRIB | syscall.IN_DELETE_SELF |
		syscall.IN_MOVE_SELF | syscall.IN_ONLYDIR

	// folderEvents may change which folders must be watched.
	folderEvents = syscall.IN_ISDIR | syscall.IN_Q_OVERFLOW | syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF
)

// leading maps the watch of a folder above a root to the names in that folder that lead to the root.
type leading map[int][]string

// watchFolders calls changed after each change below roots, until ctx ends. It returns an error if the system cannot watch
// all of the folders.
func watchFolders(ctx context.Context, roots []docsRoot, exclude []string, changed func()) error {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	inotify := os.NewFile(uintptr(fd), "inotify")
	defer inotify.Close()
	stop := context.AfterFunc(ctx, func() { _ = inotify.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	var above leading
	events := make([]byte, 64<<10)
	for isFolder := true; ; {
		if isFolder {
			above, err = watchAll(ctx, fd, roots, exclude)
			if err != nil {
				return fmt.Errorf("inotify: %w; raise fs.inotify.max_user_watches", err)
			}
			changed() // before the folders were watched
		}
		n, err := inotify.Read(events)
		if err != nil {
			return err
		}
		var isChange bool
		isChange, isFolder = above.parse(events[:n])
		if isChange {
			changed()
		}
	}
}

// parse reports whether events concern what a scan reads, and whether they concern a folder or the path to a root.
func (above leading) parse(events []byte) (isChange, isFolder bool) {
	const head = syscall.SizeofInotifyEvent
	for len(events) >= head {
		watch := int(int32(binary.NativeEndian.Uint32(events)))
		mask := binary.NativeEndian.Uint32(events[4:])
		end := head + int(binary.NativeEndian.Uint32(events[12:]))
		name := strings.TrimRight(string(events[head:end]), "\x00")
		events = events[end:]

		names, isAbove := above[watch]
		if isAbove && !slices.Contains(names, name) || mask&syscall.IN_IGNORED != 0 {
			continue
		}
		isChange = true
		isFolder = isFolder || isAbove || mask&folderEvents != 0
	}
	return isChange, isFolder
}

// watchAll watches the folders that a scan would list, and those above a root or above a link on the path to one.
// Folders that are watched already stay watched. It skips a folder that cannot be read: the scan reports it.
func watchAll(ctx context.Context, fd int, roots []docsRoot, exclude []string) (leading, error) {
	above := make(leading)
	for _, root := range roots {
		last := filepath.Clean(root.dir)
		for dir := last; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if _, err := os.Readlink(dir); err != nil && dir != last {
				continue
			}
			watch, err := syscall.InotifyAddWatch(fd, filepath.Dir(dir), watchedEvents)
			if err != nil {
				continue
			}
			above[watch] = append(above[watch], filepath.Base(dir))
		}
	}
	for _, root := range roots {
		err := fs.WalkDir(os.DirFS(root.dir), ".", func(name string, entry fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil || !entry.IsDir() {
				return nil //nolint:nilerr // the scan reports it
			}
			if name != "." && nameReason(root.prefix+name, entry, exclude) != "" {
				return fs.SkipDir
			}
			watch, err := syscall.InotifyAddWatch(fd, filepath.Join(root.dir, name), watchedEvents)
			if err == syscall.ENOSPC {
				return err
			}
			delete(above, watch) // every name in it counts
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return above, nil
}
