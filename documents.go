package main

// Documents and how they are cut into chunks; what a store must do; following a folder of Markdown. Whatever holds
// documents passes testStore.

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
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
	"unicode"
	"unicode/utf8"
)

const maxDocumentBytes = 8 << 20

// document is one Markdown text with what is derived from it. It is never changed after newDocument made it.
type document struct {
	id      string
	title   string
	text    string
	etag    string // SHA-256 of the text in hex, quoted: a strong entity tag
	updated time.Time
	chunks  []chunk
}

// chunk is a part of a document that is found on its own.
type chunk struct {
	heading string // the path of headings that lead to it, "Install > Docker"; without the document's title
	line    int    // where its text begins in the document, from 1
	text    string // a substring of the document's text
}

// newDocument checks id and text and cuts the text into chunks. Its errors are the caller's (400, 413).
func newDocument(id, text string, updated time.Time) (*document, error) {
	if err := cmp.Or(checkID(id), checkText(text)); err != nil {
		return nil, err
	}
	d := &document{id: id, text: text, etag: entityTag(text), updated: updated}
	d.title, d.chunks = chunkMarkdown(text)
	if d.title == "" {
		d.title = strings.TrimSuffix(path.Base(id), ".md")
	}
	return d, nil
}

// inputs returns what is embedded for each chunk.
func (d *document) inputs() []string {
	texts := make([]string, len(d.chunks))
	for i, c := range d.chunks {
		texts[i] = d.title + "\n" + c.heading + "\n" + c.text
	}
	return texts
}

// entityTag returns the strong entity tag of a text.
func entityTag(text string) string {
	sum := sha256.Sum256([]byte(text))
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// documentInfo is a document's line in a list.
type documentInfo struct {
	ID      string    `json:"id"`
	Title   string    `json:"title"`
	Bytes   int       `json:"bytes"`
	Chunks  int       `json:"chunks"`
	Updated time.Time `json:"updated"`
}

// hit is a document that a search found, shown by its best chunk.
type hit struct {
	Document string  `json:"document"`
	Title    string  `json:"title"`
	Heading  string  `json:"heading"`
	Line     int     `json:"line"`
	Score    float64 `json:"score"`
	Text     string  `json:"text"`
}

// query is what a search is asked for.
type query struct {
	text   string
	prefix string // of the documents' ids; empty: all
	limit  int
}

// store keeps documents and finds them. An error of kind userError is the caller's fault; every other is the store's.
type store interface {
	// search returns at most q.limit documents, the best first, documents of equal score by id. degraded: the embedder
	// did not answer, and the words alone ranked them.
	search(ctx context.Context, q query) (hits []hit, degraded bool, err error)
	// document returns the document of that id or errNotFound.
	document(ctx context.Context, id string) (*document, error)
	// list returns the documents whose id has the prefix and comes after the id after, by id, at most limit.
	list(ctx context.Context, prefix, after string, limit int) ([]documentInfo, error)
	// put stores d durably if pre holds and reports whether its id is new. An identical document is left as it is.
	put(ctx context.Context, d *document, pre precondition) (created bool, err error)
	// remove deletes the document of that id durably if pre holds, or returns errNotFound.
	remove(ctx context.Context, id string, pre precondition) error
	// sync takes over what a scan of the folder that began then found: documents new or changed, and ids that are gone.
	// The call without changed documents ends the scan.
	sync(ctx context.Context, began time.Time, changed []*document, gone []string) error
	// folderIDs returns the ids that came from the folder, those that a scan may remove, or errElsewhere if another replica
	// scans it.
	folderIDs(ctx context.Context) ([]string, error)
	// size counts documents and chunks.
	size(ctx context.Context) (documents, chunks int, err error)
	// watch calls changed after each change with the ids that changed, nil if any may have, until stop is called. changed
	// must not block.
	watch(changed func(ids []string)) (stop func())
}

// watchers are whom a store tells of its changes.
type watchers struct{ called sync.Map } // of *func(ids []string)

func (w *watchers) watch(changed func(ids []string)) (stop func()) {
	w.called.Store(&changed, nil)
	return func() { w.called.Delete(&changed) }
}

func (w *watchers) tell(ids []string) {
	for changed := range w.called.Range {
		(*changed.(*func(ids []string)))(ids)
	}
}

// queries are a store's operations as telemetry names them, the same in every store; some are those of a database alone.
// Only reading: the slices are full.
var queries = func() map[string][]slog.Attr {
	named := make(map[string][]slog.Attr)
	for operation, summaries := range map[string]string{
		"SELECT": "search document list size known", "INSERT": "put sync", "DELETE": "remove", "UPDATE": "embed maintain",
	} {
		for summary := range strings.FieldsSeq(summaries) {
			named[summary] = []slog.Attr{slog.String("db.operation.name", operation), slog.String("db.query.summary", summary)}
		}
	}
	return named
}()

var errNotFound error = userError{http.StatusNotFound, "no such document: GET /documents lists them"}

// precondition is what If-Match and If-None-Match ask of a write (RFC 9110, section 13.1). The zero value always holds.
type precondition struct {
	match     []string // entity tags, or "*"
	noneMatch []string
}

// check compares the precondition with the entity tag of what is stored, empty if nothing is.
func (p precondition) check(etag string) error {
	switch {
	case len(p.match) > 0 && (etag == "" || !slices.Contains(p.match, "*") && !slices.Contains(p.match, etag)):
		return userError{http.StatusPreconditionFailed, "the document is not the one named by If-Match: get it again, its ETag tells the current one"}
	case len(p.noneMatch) > 0 && matchesTag(p.noneMatch, etag):
		return userError{http.StatusPreconditionFailed, "the document exists already: leave If-None-Match out to replace it"}
	}
	return nil
}

// matchesTag compares weakly, as If-None-Match asks; If-Match compares strongly.
func matchesTag(tags []string, etag string) bool {
	for _, tag := range tags {
		if etag != "" && (tag == "*" || strings.TrimPrefix(tag, "W/") == etag) {
			return true
		}
	}
	return false
}

// checkID says whether id may name a document: a slash-separated relative path that ends in .md, at most 512 bytes,
// its segments of 1 to 200 bytes, none starting with a dot, no backslash and no control character.
func checkID(id string) error {
	var why string
	switch rooted := "/" + id; {
	case len(id) > 512:
		why = "longer than 512 bytes"
	case !utf8.ValidString(id):
		why = "not UTF-8"
	case !strings.HasSuffix(id, ".md"):
		why = "does not end in .md"
	case strings.ContainsFunc(id, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }):
		why = "has a backslash or a control character"
	case strings.Contains(rooted, "//"):
		why = "has an empty segment"
	case strings.Contains(rooted, "/."):
		why = "has a segment that starts with a dot"
	case slices.ContainsFunc(strings.Split(id, "/"), func(segment string) bool { return len(segment) > 200 }):
		why = "has a segment longer than 200 bytes"
	default:
		return nil
	}
	return userError{http.StatusBadRequest, fmt.Sprintf("bad document id %.80q: %s; an id looks like guide/install.md", id, why)}
}

func checkText(text string) error {
	switch {
	case len(text) > maxDocumentBytes:
		return userError{http.StatusRequestEntityTooLarge, "the document is larger than 8 MiB: split it"}
	case !utf8.ValidString(text):
		return userError{http.StatusBadRequest, "the text is not UTF-8: convert it, for instance with iconv -t utf-8"}
	case strings.ContainsRune(text, 0):
		return userError{http.StatusBadRequest, "the text contains a NUL byte: it is not Markdown"}
	}
	return nil
}

const maxChunkRunes = 1200

// chunkMarkdown cuts text at its headings (ATX and setext, CommonMark 0.31), and longer sections into chunks of at
// most maxChunkRunes characters. The title is that of the front matter, else the first heading of level 1, else
// empty. All text but front matter and headings is in exactly one chunk; text that has nothing else is taken whole.
func chunkMarkdown(text string) (title string, chunks []chunk) {
	title, start := frontMatter(text)
	found := headings(text, start)
	if i := slices.IndexFunc(found, func(h heading) bool { return h.level == 1 }); title == "" && i >= 0 {
		title = found[i].text
	}
	c := chunker{text: text, line: 1}
	var path [6]string
	section := ""
	for _, h := range found {
		c.add(section, start, h.start)
		path[h.level-1] = h.text
		clear(path[h.level:])
		if path[0] == title {
			path[0] = "" // it is shown beside
		}
		section = strings.Join(slices.DeleteFunc(slices.Clone(path[:]), func(text string) bool { return text == "" }), " > ")
		start = h.end
	}
	c.add(section, start, len(text))
	if len(c.chunks) == 0 {
		c.add("", 0, len(text))
	}
	return title, slices.Clip(c.chunks)
}

// frontMatter returns the title in the YAML block that text may begin with, and where the Markdown starts.
func frontMatter(text string) (title string, start int) {
	start = len(text) - len(strings.TrimPrefix(text, "\ufeff"))
	at := lineEnd(text, start)
	if strings.TrimSpace(text[start:at]) != "---" {
		return "", start
	}
	for line := range strings.Lines(text[at:]) {
		at += len(line)
		line = strings.TrimSpace(line)
		if line == "---" {
			return title, at
		}
		if value, ok := strings.CutPrefix(line, "title:"); ok {
			title = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return "", start
}

// lineEnd returns where the line after the one at offset at begins.
func lineEnd(text string, at int) int {
	if i := strings.IndexByte(text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(text)
}

type heading struct {
	level      int
	text       string
	start, end int // of its line or lines, in bytes
}

// headings finds the headings of text from offset at on, outside fenced and indented code.
func headings(text string, at int) []heading {
	var found []heading
	fence := ""
	alone := -1 // start of the line before, if it is the first of its paragraph: it may turn out a setext heading
	blank := true
	for at < len(text) {
		end := lineEnd(text, at)
		line := strings.TrimSpace(text[at:end])
		inside, above, wasBlank := fence != "", alone, blank
		fence = nextFence(fence, line)
		alone, blank = -1, true
		level, title := atxHeading(text[at:end])
		switch {
		case inside || fence != "":
		case level > 0:
			found = append(found, heading{level, title, at, end})
		case above >= 0 && setextLevel(line) > 0:
			found = append(found, heading{setextLevel(line), strings.TrimSpace(text[above:at]), above, end})
		case wasBlank && line != "" && !strings.ContainsRune("-*+>|<", rune(line[0])):
			alone, blank = at, false
		default:
			blank = line == ""
		}
		at = end
	}
	return found
}

// nextFence returns the fence of code that is open after line, given the one that was open before, or "".
func nextFence(open, line string) string {
	run := line[:len(line)-len(strings.TrimLeft(line, "`"))]
	if run == "" {
		run = line[:len(line)-len(strings.TrimLeft(line, "~"))]
	}
	switch {
	case open == "" && len(run) >= 3 && !strings.Contains(line[len(run):], "`"):
		return run
	case open != "" && run == line && strings.HasPrefix(run, open):
		return ""
	}
	return open
}

// atxHeading returns the level of the heading that line is, 0 if it is none, and its text.
func atxHeading(line string) (level int, text string) {
	indented := strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t")
	line = strings.TrimSpace(line)
	text = strings.TrimLeft(line, "#")
	level = len(line) - len(text)
	if indented || level == 0 || level > 6 || text == strings.TrimLeft(text, " \t") {
		return 0, ""
	}
	text = strings.TrimSpace(text)
	if closed := strings.TrimRight(text, "#"); closed == "" || strings.HasSuffix(closed, " ") {
		text = strings.TrimSpace(closed)
	}
	if text == "" {
		return 0, ""
	}
	return level, text
}

func setextLevel(line string) int {
	switch {
	case line != "" && strings.Trim(line, "=") == "":
		return 1
	case len(line) > 1 && strings.Trim(line, "-") == "":
		return 2
	}
	return 0
}

// chunker collects the chunks of text in their order.
type chunker struct {
	text    string
	chunks  []chunk
	line    int // line number of the offset counted
	counted int
}

// add cuts text[start:end] into chunks under heading. Blank text makes none.
func (c *chunker) add(heading string, start, end int) {
	for {
		rest := strings.TrimLeftFunc(c.text[start:end], unicode.IsSpace)
		if rest == "" {
			return
		}
		blank := c.text[start : end-len(rest)]
		start += strings.LastIndexByte(blank, '\n') + 1 // the first line keeps its indentation
		cut := start + chunkLength(c.text[start:end])
		c.line += strings.Count(c.text[c.counted:start], "\n")
		c.counted = start
		c.chunks = append(c.chunks, chunk{heading, c.line, strings.TrimRightFunc(c.text[start:cut], unicode.IsSpace)})
		start = cut
	}
}

// chunkLength returns how many bytes of text make its first chunk: all if they are few enough, else up to the last
// place to cut of the best kind: the end of a paragraph, of a line outside code, of a line of code, of a sentence, of
// a word. To keep chunks from getting tiny, a cut in their first third is only better than one in the midst of code.
func chunkLength(text string) int {
	limit := runeOffset(text, maxChunkRunes)
	if limit == len(text) {
		return limit
	}
	text = text[:limit]
	at, paragraph, line, code, fence := 0, 0, 0, 0, ""
	for full := range strings.Lines(text[:strings.LastIndexByte(text, '\n')+1]) {
		at += len(full)
		trimmed := strings.TrimSpace(full)
		fence = nextFence(fence, trimmed)
		switch {
		case fence != "":
			code = at
		case trimmed == "":
			paragraph, line = at, at
		default:
			line = at
		}
	}
	least := limit / 3
	switch {
	case paragraph > least:
		return paragraph
	case line > least || code > 0 && line > 0:
		return line
	case code > 0:
		return code
	}
	for _, ends := range [][]string{{". ", "! ", "? ", "。", "！", "？"}, {" ", "\t"}} {
		cut := 0
		for _, end := range ends {
			cut = max(cut, strings.LastIndex(text, end)+len(end))
		}
		if cut > least {
			return cut
		}
	}
	return limit
}

// runeOffset returns where in text the rune number n begins, or its length.
func runeOffset(text string, n int) int {
	for i := range text {
		if n == 0 {
			return i
		}
		n--
	}
	return len(text)
}

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
		note(ctx, slog.Int("files", len(files)), slog.Int("read", len(changed)), slog.Int("removed", len(gone)))
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

// inParallel does the jobs, as many at once as there are slots, and returns one of the errors. Once ctx ends, it starts
// no more of them.
func inParallel(ctx context.Context, slots chan struct{}, jobs []func() error) error {
	errs := make([]error, len(jobs))
	var working sync.WaitGroup
	for i, job := range jobs {
		select {
		case slots <- struct{}{}:
			working.Go(func() {
				defer func() { <-slots }()
				errs[i] = job()
			})
		case <-ctx.Done():
			errs[i] = ctx.Err()
		}
	}
	working.Wait()
	return cmp.Or(errs...)
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
