package main

// File systems below DOCS_DIR. When one is unmounted, its mount point shows an empty folder, or other files. The
// documents that it held are not deleted then.

import (
	"fmt"
	"maps"
	"slices"
)

// keepUnseen keeps the documents whose files cannot be seen now: those below a folder that could not be listed, and
// those of file systems that are no longer mounted. Their states are remembered, so that later scans keep them too.
// before holds the files of the last scan, stored the ids of the documents in the store.
func (s *folderScan) keepUnseen(before map[string]*fileState, stored []string) {
	lost := s.unmounted(before, stored)
	for _, id := range stored {
		old := before[id]
		if old == nil || s.files[id] != nil {
			continue
		}
		if lost[old.device] > 0 || s.isUnreadable(id) {
			s.files[id] = old
		}
	}

	for _, device := range slices.Sorted(maps.Keys(lost)) {
		s.failures = append(s.failures, fmt.Errorf(
			"the file system that held %d documents below DOCS_DIR is no longer mounted: "+
				"they are kept until it is, or until a restart", lost[device]))
	}
	s.lost = lost
}

// unmounted returns the file systems of which no folder is left, and how many documents each held, unless most of
// these exist on another one.
func (s *folderScan) unmounted(before map[string]*fileState, stored []string) map[uint64]int {
	isMounted := make(map[uint64]bool)
	for _, device := range s.devices {
		isMounted[device] = true
	}

	held := make(map[uint64]int)
	missing := make(map[uint64]int)
	for _, id := range stored {
		old := before[id]
		if old == nil || isMounted[old.device] || s.isUnreadable(id) {
			continue
		}
		held[old.device]++
		if s.files[id] == nil {
			missing[old.device]++
		}
	}
	isMoved := func(device uint64, documents int) bool { return 2*missing[device] <= documents }
	maps.DeleteFunc(held, isMoved)
	return held
}

// accept returns d with the roots that s has found in order.
func (d rootDevices) accept(s *folderScan) rootDevices {
	accepted := maps.Clone(d)
	if accepted == nil {
		accepted = make(rootDevices)
	}
	for _, root := range s.roots {
		device, isKnown := s.devices[root.prefix+"."]
		isLost := s.lost[accepted[root.prefix]] > 0
		if isKnown && !isLost && !slices.Contains(s.unreadable, root.prefix) {
			accepted[root.prefix] = device
		}
	}
	return accepted
}
