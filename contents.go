package main

// The documents as a tree of folders: what the pages of documents show beside the text, and which document is the
// page of a folder.

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxTreeDocuments = 20_000 // in the tree
	maxWholeTree     = 2000   // a larger tree shows the folders around the current document only
	maxSiblings      = 100    // that a larger tree shows before the current one, and as many after it

	// A replica that has lost its notifications learns of the documents of others only after this time.
	maxTreeAge = 30 * time.Second
)

// treeCache keeps the tree until a document changes. The zero value is ready to use.
type treeCache struct {
	changes atomic.Int64 // of documents
	last    atomic.Pointer[cachedTree]
	reading sync.Mutex // held by who reads the tree
}

type cachedTree struct {
	*documentTree
	changes int64 // before it was read
	read    time.Time
}

// changed notes that documents have changed. The store calls it.
func (c *treeCache) changed([]string) { c.changes.Add(1) }

// get returns the tree of the documents in st. Callers share it, so they must not change it. One of them reads it after a
// change. The others get the tree from before that change meanwhile, because reading takes 50 ms with 20,000 documents.
func (c *treeCache) get(ctx context.Context, st store) (*documentTree, error) {
	if last := c.current(); last != nil {
		return last, nil
	}
	if !c.reading.TryLock() {
		if before := c.last.Load(); before != nil {
			return before.documentTree, nil
		}
		c.reading.Lock()
	}
	defer c.reading.Unlock()
	if last := c.current(); last != nil { // another has read it meanwhile
		return last, nil
	}

	changes := c.changes.Load()
	read := time.Now()
	documents, err := st.list(ctx, "", "", maxTreeDocuments)
	if err != nil {
		return nil, err
	}
	tree := newDocumentTree(documents)
	c.last.Store(&cachedTree{tree, changes, read})
	return tree, nil
}

// current returns the last tree, or nil if documents have changed since it was read, or it is old.
func (c *treeCache) current() *documentTree {
	last := c.last.Load()
	if last == nil || last.changes != c.changes.Load() || time.Since(last.read) >= maxTreeAge {
		return nil
	}
	return last.documentTree
}

// treeNode is a folder or a document.
type treeNode struct {
	name     string // of the file or folder
	id       string // of the document, or of the one that is the folder's page; "" for a folder without one
	title    string
	isFolder bool
	children []*treeNode
}

// documentTree is the tree of all documents.
type documentTree struct {
	root    *treeNode
	order   []*treeNode // those with a document, as a reader meets them
	isWhole bool
}

// newDocumentTree returns the tree of documents, which are sorted by id.
func newDocumentTree(documents []documentInfo) *documentTree {
	t := &documentTree{
		root:    &treeNode{isFolder: true},
		isWhole: len(documents) <= maxWholeTree,
	}
	folders := map[string]*treeNode{".": t.root}
	for _, d := range documents {
		folder := t.folder(folders, path.Dir(d.ID))
		if isIndexName(withoutSuffix(path.Base(d.ID))) && folder.id == "" {
			folder.id = d.ID
			folder.title = d.Title
			continue
		}
		folder.children = append(folder.children, &treeNode{
			name:  path.Base(d.ID),
			id:    d.ID,
			title: d.Title,
		})
	}
	t.sort(t.root)
	return t
}

// folder returns the node of a folder, which it adds with those above it.
func (t *documentTree) folder(folders map[string]*treeNode, name string) *treeNode {
	if node := folders[name]; node != nil {
		return node
	}
	node := &treeNode{
		name:     path.Base(name),
		title:    path.Base(name),
		isFolder: true,
	}
	folders[name] = node
	parent := t.folder(folders, path.Dir(name))
	parent.children = append(parent.children, node)
	return node
}

// sort sorts a folder by the names in it, and adds it to the order.
func (t *documentTree) sort(node *treeNode) {
	if node.id != "" {
		t.order = append(t.order, node)
	}
	slices.SortStableFunc(node.children, func(a, b *treeNode) int {
		return cmp.Or(compareNatural(a.name, b.name), strings.Compare(a.id, b.id))
	})
	for _, child := range node.children {
		t.sort(child)
	}
}

// compareNatural compares names in lower case, and numbers in them by their value: 2 is before 10.
func compareNatural(a, b string) int {
	const digits = "0123456789"
	a = strings.ToLower(a)
	b = strings.ToLower(b)
	for a != "" && b != "" {
		n := runOf(a, digits)
		m := runOf(b, digits)
		if n > 0 && m > 0 {
			x := strings.TrimLeft(a[:n], "0")
			y := strings.TrimLeft(b[:m], "0")
			if order := cmp.Or(len(x)-len(y), strings.Compare(x, y)); order != 0 {
				return order
			}
			a = a[n:]
			b = b[m:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a = a[1:]
		b = b[1:]
	}
	return len(a) - len(b)
}

// neighbours returns the nodes before and after the document with that id, nil at the ends.
func (t *documentTree) neighbours(id string) (previous, next *treeNode) {
	at := slices.IndexFunc(t.order, func(n *treeNode) bool { return n.id == id })
	if at > 0 {
		previous = t.order[at-1]
	}
	if at >= 0 && at+1 < len(t.order) {
		next = t.order[at+1]
	}
	return previous, next
}

// find returns the node of a folder, or nil.
func (t *documentTree) find(folder string) *treeNode {
	node := t.root
	if folder == "" {
		return node
	}
	for name := range strings.SplitSeq(folder, "/") {
		at := slices.IndexFunc(node.children, func(n *treeNode) bool { return n.isFolder && n.name == name })
		if at < 0 {
			return nil
		}
		node = node.children[at]
	}
	return node
}

// resolve returns the document that an address without the suffix of a document means: the document with that name, else
// the page of the folder with that name. If id is "", folder is that folder, which has no page, or nil.
func (t *documentTree) resolve(name string) (id string, folder *treeNode) {
	name = strings.Trim(name, "/")
	parent := t.find(strings.Trim(path.Dir("/"+name), "/"))
	if parent == nil {
		return "", nil
	}
	base := path.Base("/" + name)
	for _, child := range parent.children {
		if !child.isFolder && strings.EqualFold(withoutSuffix(child.name), base) {
			return child.id, nil
		}
	}
	if isIndexName(base) && parent.id != "" && name != "" {
		return parent.id, nil
	}
	node := t.find(name)
	if node == nil {
		return "", nil
	}
	return node.id, node
}

// treeWriter writes a tree as a list. Folders open and close; those around the current document are open.
type treeWriter struct {
	*markup
	tree    *documentTree
	current string // id of the document, or name of the folder with a slash
	root    string // relative address of the server's root
}

// write writes the tree. A large one ends with a link to the list of all documents.
func (w treeWriter) write() {
	w.children(w.tree.root, "")
	if !w.tree.isWhole {
		w.element("a", "All documents", "href", listAddress(w.root, ""), "class", "rest")
	}
}

// listAddress returns the address of the page that lists a folder, even if the folder has a page of its own.
func listAddress(root, folder string) string { return readAddress(root, folder) + "?list" }

// children writes what is in a folder, as far as it is near the current document.
func (w treeWriter) children(node *treeNode, folder string) {
	shown, before, after := w.near(node.children, folder)
	w.begin("ul")
	w.rest(before, folder)
	for _, child := range shown {
		w.begin("li")
		if child.isFolder {
			w.folder(child, folder+child.name+"/")
		} else {
			w.link(child)
		}
		w.end()
	}
	w.rest(after, folder)
	w.end()
}

// near returns the children to show, and how many are left out before and after them. A small tree shows all. A large one
// shows those around the child that is or contains the current document, or the first ones if there is none.
func (w treeWriter) near(children []*treeNode, folder string) (shown []*treeNode, before, after int) {
	if w.tree.isWhole {
		return children, 0, 0
	}

	at := slices.IndexFunc(children, func(n *treeNode) bool {
		return n.id == w.current || n.isFolder && strings.HasPrefix(w.current, folder+n.name+"/")
	})
	before = max(0, at-maxSiblings)
	end := min(len(children), max(at, 0)+maxSiblings+1)
	return children[before:end], before, len(children) - end
}

// rest links to the list of a folder of which n children are not shown.
func (w treeWriter) rest(n int, folder string) {
	if n == 0 {
		return
	}
	w.begin("li")
	w.element("a", strconv.Itoa(n)+" more",
		"href", listAddress(w.root, folder),
		"class", "rest")
	w.end()
}

// folder writes a folder that opens and closes, or in a large tree a link to it.
func (w treeWriter) folder(node *treeNode, name string) {
	isAround := strings.HasPrefix(w.current, name)
	if !isAround && !w.tree.isWhole {
		w.element("a", node.title,
			"href", readAddress(w.root, name),
			"class", "folder")
		return
	}

	open := ""
	if isAround {
		open = "open"
	}
	w.begin("details", "open", open)
	w.element("summary", node.title)
	if node.id != "" {
		w.begin("ul")
		w.begin("li")
		overview := *node
		overview.title = "Overview"
		w.link(&overview)
		w.end()
		w.end()
	}
	w.children(node, name)
	w.end()
}

// link writes a link to a document.
func (w treeWriter) link(node *treeNode) {
	mark := ""
	if node.id == w.current {
		mark = "page"
	}
	w.element("a", cmp.Or(node.title, node.name),
		"href", readAddress(w.root, node.id),
		"aria-current", mark)
}
