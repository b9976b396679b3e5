package main

// GET /read/{id}: a document as a page of its own. It works without a script, and below any path prefix: all of its
// addresses are relative.

import (
	"cmp"
	"context"
	"errors"
	"html/template"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// handleRead answers GET /read/{id}. Browsers get the page, other clients the text.
func (s *server) handleRead(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	w.Header().Add("Vary", "Accept")
	if utf8.RuneCountInString(id) > maxIDBytes {
		return errNotFound // without the tree: each link in it would be as long as the path
	}
	if r.URL.Query().Has("list") && acceptsHTML(r) {
		return s.handleFolder(w, r, id)
	}
	d, err := s.lookUp(r.Context(), id)
	if d != nil && !acceptsHTML(r) {
		r.SetPathValue("id", d.id)
		return s.handleGet(w, r)
	}
	if err != nil && !isMissing(err) {
		return err
	}
	if d != nil {
		return s.writeDocument(w, r, d)
	}

	tree, err := s.tree.get(r.Context(), s.store)
	if err != nil {
		return err
	}
	found, folder := tree.resolve(id)
	switch {
	case found != "":
		return redirectTo(w, readAddress(siteRoot(r), found), r.URL.RawQuery)
	case !acceptsHTML(r):
		_, err = s.document(r.Context(), id) // its error names the nearest
		return cmp.Or(err, errNotFound)
	case folder != nil:
		return s.writeFolder(w, r, tree, strings.Trim(id, "/"), folder)
	}
	return s.writeMissing(w, r, tree, id)
}

// lookUp returns the document with this id, nil if there is none.
func (s *server) lookUp(ctx context.Context, id string) (*document, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	return s.store.document(ctx, id)
}

// isMissing reports whether err says that there is no document of an id.
func isMissing(err error) bool {
	user, isUser := errors.AsType[userError](err)
	return isUser && (user.status == http.StatusNotFound || user.status == http.StatusBadRequest)
}

// redirectTo sends the client to a relative address. http.Redirect would make it absolute, without a path prefix.
func redirectTo(w http.ResponseWriter, address, query string) error {
	if query != "" {
		address += "?" + query
	}
	w.Header().Set("Location", address)
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusFound)
	return nil
}

// writeDocument answers with the page of a document.
func (s *server) writeDocument(w http.ResponseWriter, r *http.Request, d *document) error {
	tree, err := s.tree.get(r.Context(), s.store)
	if err != nil {
		return err
	}
	line, _ := strconv.Atoi(r.URL.Query().Get("line"))
	root := siteRoot(r)
	page := &readPage{
		ID:      d.id,
		Crumbs:  crumbsOf(d.id, root),
		Updated: d.updated,
		Source:  root + "documents/" + escapePath(d.id),
		Query:   r.URL.Query().Get("q"),
	}
	page.showText(d, line, pageTargets{
		id:     d.id,
		prefix: s.rootPrefix(d.id),
		root:   root,
		noFile: len(s.cfg.docsDirs) == 0,
	})
	previous, next := tree.neighbours(d.id)
	page.Previous = linkTo(previous, root)
	page.Next = linkTo(next, root)
	page.Tree = treeHTML(tree, d.id, root)

	data := s.newPageData(r, cmp.Or(d.title, d.id))
	data.Description = description(d)
	data.Read = page
	return writePage(w, r, http.StatusOK, data)
}

// showText sets what the page shows of a document: its Markdown rendered, or its source.
func (p *readPage) showText(d *document, line int, to pageTargets) {
	isPlain := mediaType(d.id) == "text/plain"
	if !isPlain && len(d.text) <= maxRenderedBytes {
		_, start := frontMatter(d.text)
		result := renderMarkdown(renderInput{d.text, start, d.title}, line, to)
		p.Body = template.HTML(result.html) //nolint:gosec // markup has escaped it
		p.HasTitle = result.hasTitle
		p.Contents = contentsOf(result.headings)
		return
	}
	if !isPlain {
		p.Notice = "This document is too large to render, so this is its source."
	}
	p.Text = newSourceText(d.text, line)
}

// newSourceText marks a line of a text. The line is what the client asks for: it may be any number.
func newSourceText(text string, line int) *sourceText {
	begin := len(beginning(text, line-1))
	if line <= 0 || begin == len(text) {
		return &sourceText{After: inParts(text)}
	}
	end := lineEnd(text, begin)
	return &sourceText{
		Before: inParts(text[:begin]),
		Marked: inParts(text[begin:end]),
		After:  inParts(text[end:]),
		Line:   line,
	}
}

// maxContents is how many headings the contents of a page list.
const maxContents = 200

// contentsOf returns the headings that the contents list: two levels below the title. Several headings of level 1 are not
// titles, so they are the first of the two levels.
func contentsOf(found []heading) []contentsEntry {
	ones := 0
	top := 6
	for _, h := range found {
		if h.level == 1 {
			ones++
			continue
		}
		top = min(top, h.level)
	}
	if ones > 1 {
		top = 1
	}
	var entries []contentsEntry
	for _, h := range found {
		if h.level < top || h.level > top+1 || len(entries) == maxContents {
			continue
		}
		entries = append(entries, contentsEntry{h.level - top + 1, h.words, h.slug})
	}
	return entries
}

// maxDescriptionRunes is the length of a description: previews of links cut longer ones.
const maxDescriptionRunes = 200

// description returns what previews of links say of a document: the description in its front matter, or its first prose.
func description(d *document) string {
	first, _, _ := strings.Cut(d.keywords, "\n")
	if strings.Count(first, " ") >= 2 { // else it may be a tag
		return shorten(oneLine(first), maxDescriptionRunes)
	}

	const maxBytes = 16 << 10 // of which prose is looked for
	_, start := frontMatter(d.text)
	text := firstBytes(d.text, start+maxBytes)
	if mediaType(d.id) == "text/plain" {
		return shorten(oneLine(text), maxDescriptionRunes)
	}
	words := prose(parseBlocks(text, start), text, d.title)
	return shorten(strings.Join(words, " "), maxDescriptionRunes)
}

// prose returns the paragraphs of b before the first heading that follows one, without their markup. It looks into lists,
// quotes and callouts if there are none beside them. Code, tables, HTML and pictures are no prose.
func prose(b *block, text, title string) []string {
	var found []string
	for _, child := range b.children {
		if child.kind == blockHeading && found != nil {
			break
		}
		if child.kind != blockParagraph {
			continue
		}
		content := child.content(text)
		first, rest, _ := strings.Cut(content, "\n")
		if b.kind == blockQuote && alertHead.MatchString(first) {
			content = rest
		}
		content = pictures.ReplaceAllString(content, "")
		words := plainWords(content)
		if words != "" && words != title {
			found = append(found, words)
		}
	}
	if found != nil {
		return found
	}

	for _, child := range b.children {
		inside := prose(child, text, title)
		if inside != nil {
			return inside
		}
	}
	return nil
}

// pictures are images, alone or as the text of a link. Within a link, an image may be a shortcut reference, which has neither
// an address nor a label of its own.
var pictures = regexp.MustCompile(
	`\[!\[[^\]]*\]` + linkEnd + `?\]` + linkEnd +
		`|!\[[^\]]*\]` + linkEnd)

// linkEnd is what follows the text of a link or picture: an address or a label.
const linkEnd = `(?:\([^)]*\)|\[[^\]]*\])`

// shorten returns the words of s that fit into maxRunes, with an ellipsis if some do not.
func shorten(s string, maxRunes int) string {
	if utf8.RuneCountInString(s) <= maxRunes {
		return s
	}
	cut := firstRunes(s, maxRunes-1)
	end := strings.LastIndexByte(cut, ' ')
	if end > len(cut)/2 { // in scripts without spaces there is none
		cut = cut[:end]
	}
	return strings.TrimRight(cut, " ,.;:–—-") + "…"
}

// crumbsOf returns the folders above a document or folder, from the top.
func crumbsOf(id, root string) []crumb {
	var crumbs []crumb
	for at, c := range id {
		if c == '/' {
			folder := id[:at]
			crumbs = append(crumbs, crumb{path.Base(folder), readAddress(root, folder) + "/"})
		}
	}
	return crumbs
}

func linkTo(node *treeNode, root string) *pageLink {
	if node == nil {
		return nil
	}
	return &pageLink{cmp.Or(node.title, node.name), readAddress(root, node.id)}
}

func treeHTML(tree *documentTree, current, root string) template.HTML {
	m := new(markup)
	treeWriter{m, tree, current, root}.write()
	return template.HTML(m.out.String()) //nolint:gosec // markup has escaped it
}

// rootPrefix returns the prefix of the folder of DOCS_DIR that a document belongs to.
func (s *server) rootPrefix(id string) string {
	for _, root := range s.cfg.docsDirs {
		if strings.HasPrefix(id, root.prefix) {
			return root.prefix
		}
	}
	return ""
}

// handleFolder answers GET /read/{folder}?list: the list of a folder, even if it has a page.
func (s *server) handleFolder(w http.ResponseWriter, r *http.Request, name string) error {
	tree, err := s.tree.get(r.Context(), s.store)
	if err != nil {
		return err
	}
	name = strings.Trim(name, "/")
	folder := tree.find(name)
	if folder == nil {
		return s.writeMissing(w, r, tree, name)
	}
	return s.writeFolder(w, r, tree, name, folder)
}

// writeFolder answers with the list of what is in a folder. The root has no name.
func (s *server) writeFolder(w http.ResponseWriter, r *http.Request, tree *documentTree, name string, folder *treeNode) error {
	root := siteRoot(r)
	inside := ""
	if name != "" {
		inside = name + "/"
	}
	m := new(markup)
	list := treeWriter{m, tree, "", root}
	m.begin("ul", "class", "folder-list")
	if folder.id != "" {
		m.begin("li")
		list.link(&treeNode{id: folder.id, title: "Overview"})
		m.end()
	}
	for _, child := range folder.children {
		m.begin("li")
		if child.isFolder {
			m.element("a", child.title+"/", "href", readAddress(root, inside+child.name)+"/")
		} else {
			list.link(child)
		}
		m.end()
	}
	m.end()

	data := s.newPageData(r, cmp.Or(folder.title, "Documents"))
	data.Read = &readPage{
		ID:     inside,
		Crumbs: crumbsOf(name, root),
		Body:   template.HTML(m.out.String()), //nolint:gosec // markup has escaped it
		Tree:   treeHTML(tree, inside, root),
	}
	return writePage(w, r, http.StatusOK, data)
}

// writeMissing answers that there is no such document, with the nearest.
func (s *server) writeMissing(w http.ResponseWriter, r *http.Request, tree *documentTree, id string) error {
	root := siteRoot(r)
	page := &readPage{
		ID:      truncate(id, maxIDBytes),
		Problem: "There is no document of this name.",
		Tree:    treeHTML(tree, "", root),
	}
	near, err := s.nearbyIDs(r.Context(), id)
	if err != nil {
		return err
	}
	for _, other := range near {
		page.Nearest = append(page.Nearest, pageLink{other, readAddress(root, other)})
	}
	data := s.newPageData(r, "Not found")
	data.Read = page
	return writePage(w, r, http.StatusNotFound, data)
}
