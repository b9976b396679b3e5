package main

// The documents as a tree of folders: what the pages of documents show beside the text, and which document is the
// page of a folder.

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

const (
	maxTreeDocuments = 20_000 // in the tree
	maxWholeTree     = 2000   // a larger tree shows the folders around the current document only
)

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
	a = strings.ToLower(a)
	b = strings.ToLower(b)
	for a != "" && b != "" {
		n := digitsLength(a)
		m := digitsLength(b)
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

func digitsLength(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }

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

// resolve returns the document that an address without the suffix of a document means: the document with that name,
// or the page of the folder. folder is the folder if it has no page.
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

// write writes the tree as a list. Folders open and close; those around current are open.
func (t *documentTree) write(m *markup, current, root string) {
	t.writeChildren(m, t.root, "", current, root)
}

func (t *documentTree) writeChildren(m *markup, node *treeNode, folder, current, root string) {
	m.begin("ul")
	for _, child := range node.children {
		m.begin("li")
		if child.isFolder {
			t.writeFolder(m, child, folder+child.name+"/", current, root)
		} else {
			writeTreeLink(m, child, current, root)
		}
		m.end()
	}
	m.end()
}

// writeFolder writes a folder that opens and closes.
func (t *documentTree) writeFolder(m *markup, node *treeNode, folder, current, root string) {
	isAround := strings.HasPrefix(current, folder)
	if !isAround && !t.isWhole {
		m.element("a", node.title,
			"href", root+"read/"+escapePath(folder),
			"class", "folder")
		return
	}
	open := ""
	if isAround {
		open = "open"
	}
	m.begin("details", "open", open)
	m.element("summary", node.title)
	if node.id != "" {
		m.begin("ul")
		m.begin("li")
		overview := *node
		overview.title = "Overview"
		writeTreeLink(m, &overview, current, root)
		m.end()
		m.end()
	}
	t.writeChildren(m, node, folder, current, root)
	m.end()
}

func writeTreeLink(m *markup, node *treeNode, current, root string) {
	mark := ""
	if node.id == current {
		mark = "page"
	}
	m.element("a", cmp.Or(node.title, node.name),
		"href", root+"read/"+escapePath(node.id),
		"aria-current", mark)
}
