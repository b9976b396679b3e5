package main

// Where the links of a document lead. Authors write them for a renderer: as files for GitHub and MkDocs, as pages without
// suffix for Docusaurus and VitePress, as .html for mdBook. A link is dead if it leads nowhere in each of these ways.

import (
	"net/url"
	"path"
	"regexp"
	"strings"
)

// linkTargets finds what links lead to.
type linkTargets struct {
	ids     map[string]bool
	pages   map[string]string // ids by pagePath
	folders map[string]bool   // those that have documents
	site    *url.URL          // DOCS_URL, or nil

	// exists reports whether DOCS_DIR has a file or folder of that name.
	exists func(name string) bool

	// anchors returns the places in a document.
	anchors func(id string) anchorSet

	// prefix returns the prefix of the folder of DOCS_DIR that has a document.
	prefix func(id string) string
}

// add makes a document a target.
func (t *linkTargets) add(id string) {
	t.ids[id] = true
	t.pages[pagePath(withoutSuffix(id))] = id
	folder := path.Dir(id)
	for folder != "." {
		t.folders[folder] = true
		folder = path.Dir(folder)
	}
}

// sortNumber is a number before the name of a file or folder, which Docusaurus leaves out of the page's path.
var sortNumber = regexp.MustCompile(`(^|/)\d+\s*[-_.]+\s*([^/\d])`)

// pagePath returns a path in the form of the keys of linkTargets.pages. Hugo writes paths in lower case.
func pagePath(name string) string {
	name = withoutHTML(strings.ToLower(strings.Trim(name, "/")))
	name = sortNumber.ReplaceAllString(name, "$1$2")
	return strings.TrimSuffix(withoutIndex(name), "/")
}

// problem says why a link in a document leads nowhere, or returns "". It returns "" too for what it cannot check: other
// sites, files outside DOCS_DIR, and targets that a template fills in.
func (t *linkTargets) problem(from string, l documentLink) string {
	isAlias := strings.HasPrefix(l.target, "@") // of a bundler: @site/img/a.png
	if isAlias || strings.ContainsAny(l.target, "{}$") {
		return ""
	}
	target, fragment, isOurs := t.split(l.target)
	if !isOurs {
		return ""
	}
	if target == "" {
		return t.fragmentProblem(from, fragment)
	}
	names, isInside := t.candidates(from, target)
	for _, name := range names {
		if id, ok := t.find(name); ok && !l.isImage {
			return t.fragmentProblem(id, fragment)
		}
		// A file that is named like a document and is none has been left out.
		isFile := t.exists(name) && !isDocumentName(name)
		if isFile || t.folders[name] {
			return ""
		}
	}
	if !isInside {
		return ""
	}
	return t.missing(names, target, l.isImage)
}

// missing says why none of names is there.
func (t *linkTargets) missing(names []string, target string, isImage bool) string {
	isRooted := strings.HasPrefix(target, "/")
	if isRooted && !t.isOurs(names, isImage) {
		return ""
	}
	for _, name := range names {
		if t.exists(name) {
			return "the document is left out"
		}
	}
	isFile := path.Ext(target) != "" && !isDocumentName(target)
	if isImage || isFile {
		return "no such file"
	}
	return "no such document"
}

// isOurs reports whether a path from the root of the site is one of a document: the site may have other parts.
func (t *linkTargets) isOurs(names []string, isImage bool) bool {
	for _, name := range names {
		first, _, isDeep := strings.Cut(name, "/")
		isInFolder := isDeep && t.folders[first]
		if isDocumentName(name) || isInFolder && !isImage {
			return true
		}
	}
	return false
}

// fragmentProblem says that a document has no such heading, or returns "".
func (t *linkTargets) fragmentProblem(id, fragment string) string {
	isGenerated := generatedAnchor.MatchString(fragment)
	if isGenerated || t.anchors(id).has(fragment) {
		return ""
	}
	return "no such heading in " + id
}

// generatedAnchor matches the fragments that renderers and browsers make: of footnotes, of lines of code and of a text.
var generatedAnchor = regexp.MustCompile(
	`^(?:fn(?:ref)?[:-]|user-content-fn|__codelineno|:~:)`)

// split returns the path and the fragment of a target, decoded. An address of the site becomes a path from its root. isOurs
// is false for those of other sites.
func (t *linkTargets) split(target string) (name, fragment string, isOurs bool) {
	if !isAbsolute(target) {
		name, fragment = splitTarget(target)
		return name, decoded(strings.TrimPrefix(fragment, "#")), true
	}
	u, err := url.Parse(target)
	if err != nil || t.site == nil {
		return "", "", false
	}
	if !strings.EqualFold(u.Host, t.site.Host) {
		return "", "", false
	}
	inside, isInside := strings.CutPrefix(u.Path, t.site.Path+"/")
	return "/" + inside, u.Fragment, isInside
}

// isElsewhere reports whether a target is an address of another site.
func (t *linkTargets) isElsewhere(target string) bool {
	_, _, isOurs := t.split(target)
	return !isOurs && isWebAddress(target)
}

// find returns the document of a path.
func (t *linkTargets) find(name string) (id string, ok bool) {
	if t.ids[name] {
		return name, true
	}
	if isDocumentName(name) {
		return "", false
	}
	id, ok = t.pages[pagePath(name)]
	return id, ok
}

// candidates returns the paths below DOCS_DIR that a link may mean. isInside is false if it may mean one outside, too.
func (t *linkTargets) candidates(from, target string) (names []string, isInside bool) {
	if rooted, isRooted := strings.CutPrefix(target, "/"); isRooted {
		return t.rootedCandidates(from, rooted), true
	}

	folder := path.Dir(from)
	bases := []string{folder}
	if !isDocumentName(target) {
		// A page without suffix is a folder to a browser, if its address ends with a slash.
		page := withoutSuffix(from)
		if isIndexName(path.Base(page)) {
			page = path.Dir(folder)
		}
		bases = append(bases, page)
	}
	isInside = true
	for _, base := range bases {
		name := path.Join(base, target)
		if name == ".." || strings.HasPrefix(name, "../") {
			isInside = false
			continue
		}
		names = append(names, name)
	}
	return names, isInside
}

// rootedCandidates returns the paths that a link from the root of the site may mean: it may begin with the path of DOCS_URL,
// or leave out the name of a folder of DOCS_DIR.
func (t *linkTargets) rootedCandidates(from, rooted string) []string {
	names := []string{
		clean(rooted),
		clean(t.prefix(from) + rooted),
	}
	if t.site == nil {
		return names
	}
	inside, isInside := strings.CutPrefix("/"+rooted, t.site.Path+"/")
	if isInside {
		names = append(names, clean(inside))
	}
	return names
}

// clean returns a path without a slash at its ends.
func clean(name string) string {
	return strings.Trim(path.Clean(name), "/")
}
