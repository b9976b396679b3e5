package main

// What the folder has and the index does not: the rules by which names are left out, and how many files
// each rule leaves out.

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Reasons to leave a file out. The reason may also be its suffix, such as ".rst".
const (
	leftOutDraft    = "draft"
	leftOutExcluded = "by DOCS_EXCLUDE"
	leftOutHidden   = "hidden"   // the name starts with a dot
	leftOutDeep     = "too deep" // a folder whose documents would have too long ids
	leftOutLink     = "link"     // to a folder, or to a file without the suffix of a document

	noSuffix    = "without a suffix"
	otherSuffix = "of other suffixes"
)

// generatedFolders hold what programs have written or fetched. No reader looks for documentation there.
var generatedFolders = []string{"node_modules", "vendor", "_site"}

// nameReason returns the reason to leave out an entry of the folder because of its name, or "". id is its
// path as a document would have it.
func nameReason(id string, entry fs.DirEntry, exclude []string) string {
	name := entry.Name()
	switch {
	case name[0] == '.':
		return leftOutHidden
	case entry.IsDir() && slices.Contains(generatedFolders, name):
		return name
	case entry.IsDir() && len(id) > maxIDBytes:
		return leftOutDeep // opening a folder takes a step for each one above it
	case entry.IsDir():
		return "" // the patterns are matched with the files in it
	case isExcluded(id, exclude):
		return leftOutExcluded
	case isDocumentName(name):
		return ""
	case entry.Type()&fs.ModeSymlink != 0:
		return leftOutLink
	}
	return suffixReason(name)
}

// isExcluded reports whether a pattern matches id, a folder above it, or the name of one of these.
func isExcluded(id string, exclude []string) bool {
	for i := range exclude {
		for rest := id; rest != "."; rest = path.Dir(rest) {
			isWhole, _ := path.Match(exclude[i], rest)
			isSegment, _ := path.Match(exclude[i], path.Base(rest))
			if isWhole || isSegment {
				return true
			}
		}
	}
	return false
}

// plainSuffix matches the suffixes that messages name. Anything else may be a part of a title.
var plainSuffix = regexp.MustCompile(`^\.[a-z0-9_+-]{1,12}$`)

// suffixReason returns the suffix of a name in lower case.
func suffixReason(name string) string {
	suffix := strings.ToLower(path.Ext(name))
	switch {
	case suffix == "":
		return noSuffix
	case !plainSuffix.MatchString(suffix):
		return otherSuffix
	}
	return suffix
}

// leftOut counts files by the reason for which they are left out. A folder that is left out counts as one.
type leftOut map[string]int

// maxNamedSuffixes is how many suffixes a summary names.
const maxNamedSuffixes = 8

// String returns a summary such as "4 .rst, 1 draft, 3 by DOCS_EXCLUDE": the suffixes first, the most
// frequent before the others.
func (l leftOut) String() string {
	reasons := slices.SortedFunc(maps.Keys(l), func(a, b string) int {
		return cmp.Or(
			reasonRank(a)-reasonRank(b),
			l[b]-l[a],
			strings.Compare(a, b))
	})

	var parts []string
	unnamed := 0
	for i, reason := range reasons {
		isSuffix := reasonRank(reason) == 0
		if isSuffix && i >= maxNamedSuffixes {
			unnamed += l[reason]
			continue
		}
		if !isSuffix && unnamed > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", unnamed, otherSuffix))
			unnamed = 0
		}
		parts = append(parts, fmt.Sprintf("%d %s", l[reason], plural(reason, l[reason])))
	}
	if unnamed > 0 {
		parts = append(parts, fmt.Sprintf("%d %s", unnamed, otherSuffix))
	}
	return strings.Join(parts, ", ")
}

// reasonRank returns the place of a reason in the summary: suffixes, drafts, patterns, all others, hidden.
func reasonRank(reason string) int {
	switch {
	case reason[0] == '.':
		return 0
	case reason == leftOutDraft:
		return 1
	case reason == leftOutExcluded:
		return 2
	case reason == leftOutHidden:
		return 4
	}
	return 3
}

// plural returns the reason for n files.
func plural(reason string, n int) string {
	if n != 1 && (reason == leftOutDraft || reason == leftOutLink) {
		return reason + "s"
	}
	return reason
}

// worthWarning returns the counts without the hidden files: editors create and remove these all the time.
func (l leftOut) worthWarning() leftOut {
	counts := maps.Clone(l)
	delete(counts, leftOutHidden)
	return counts
}
