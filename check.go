package main

// The command vitrine check: the check of a folder of documents for CI. It reads the folder as the server does, prints what it
// finds, and fails if readers or agents would miss something.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	questionsFile = "questions.tsv" // in DOCS_DIR, unless CHECK_QUESTIONS names another

	maxShownLines = 1000 // of one kind
)

// checker checks the folder of a server and counts what is wrong.
type checker struct {
	*server
	out       io.Writer
	documents []*document
	problems  int
}

// checkDocuments checks DOCS_DIR. Its error has the number of problems, or wraps errUsage if a setting is wrong.
func checkDocuments(ctx context.Context, cfg *settings, stdout io.Writer) error {
	if len(cfg.docsDirs) == 0 {
		return fmt.Errorf("check is for a folder: vitrine check ./docs, or set DOCS_DIR; %w", errUsage)
	}

	cfg.databaseURL = "" // the embedded store suffices, because both stores rank alike
	s, err := newServer(cfg, io.Discard)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.makeStore(); err != nil {
		return err
	}

	out := bufio.NewWriter(stdout)
	defer out.Flush() //nolint:errcheck // as for fmt.Fprint
	c := &checker{server: s, out: out}
	if err := c.run(ctx); err != nil {
		return err
	}
	if c.problems > 0 {
		c.say("result", "%d problems", c.problems)
		return fmt.Errorf("%d problems in the documents", c.problems)
	}
	c.say("result", "ok")
	return nil
}

// run prints the report, and counts the problems. An error is not a problem of the documents: it ends the check.
func (c *checker) run(ctx context.Context) error {
	c.say("settings", "ok")
	if err := c.read(ctx); err != nil {
		return err
	}
	c.showFolder()
	c.showTitles()
	c.showLinks()
	return c.askQuestions(ctx)
}

// say prints a line of the report: a heading and what is found.
func (c *checker) say(heading, format string, args ...any) {
	fmt.Fprintf(c.out, "%-10s %s\n", heading, fmt.Sprintf(format, args...))
}

// list prints lines below a heading.
func (c *checker) list(lines []string) {
	for _, line := range lines[:min(len(lines), maxShownLines)] {
		c.say("", "%s", line)
	}
	if more := len(lines) - maxShownLines; more > 0 {
		c.say("", "and %d more", more)
	}
}

// read scans the folder once, as the server does at its start.
func (c *checker) read(ctx context.Context) error {
	err := c.embedder.check(ctx)
	if errors.Is(err, errUnavailable) {
		c.say("embeddings", "%v: the questions are searched by words alone", err)
	} else if err != nil {
		return err
	}
	if err := c.folder.scan(ctx, c.store); err != nil {
		return err
	}

	// The server does this in the background. The questions need the vectors now.
	if m, isMemory := c.store.(*memory); isMemory {
		m.embedIncomplete(ctx)
	}

	after := ""
	for {
		page, err := c.store.list(ctx, "", after, maxListLimit)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, info := range page {
			d, err := c.store.document(ctx, info.ID)
			if err != nil {
				return err
			}
			c.documents = append(c.documents, d)
		}
		after = page[len(page)-1].ID
	}
}

// showFolder prints what is served and what is not. A file that cannot be read is a problem, as is a folder without
// documents.
func (c *checker) showFolder() {
	status := c.store.status()
	c.say("documents", "%d, with %d passages", status.documents, status.chunks)

	counts := *c.folder.leftOut.Load()
	if len(counts) > 0 {
		c.say("left out", "%s", counts)
	}
	if status.documents == 0 {
		c.problems++
		c.say("", "%s", nothingToServe(counts))
	}

	var skipped []string
	for _, id := range slices.Sorted(maps.Keys(c.folder.files)) {
		if problem := c.folder.files[id].problem; problem != "" {
			skipped = append(skipped, id+": "+problem)
		}
	}
	if len(skipped) > 0 {
		c.problems += len(skipped)
		c.say("unreadable", "%d files", len(skipped))
		c.list(skipped)
	}
}

// showTitles prints the documents that have no title of their own. They can be found, so they are no problem.
func (c *checker) showTitles() {
	var untitled []string
	for _, d := range c.documents {
		if d.isUntitled {
			untitled = append(untitled, d.id)
		}
	}
	c.say("titles", "%d are only the name of the file", len(untitled))
	c.list(untitled)
}

// showLinks prints the links that lead nowhere. A missing picture is no problem, because the build of a site may add it.
func (c *checker) showLinks() {
	targets := c.targets()
	count := 0
	elsewhere := 0
	var dead, missing []string
	for _, d := range c.documents {
		if mediaType(d.id) == documentTypes[".txt"] {
			continue
		}
		for _, l := range linksOf(d.text) {
			problem := targets.problem(d.id, l)
			line := fmt.Sprintf("%s:%d: %s: %s", d.id, l.line, oneLine(l.target), problem)
			switch {
			case l.isImage && problem != "":
				missing = append(missing, line)
			case problem != "":
				dead = append(dead, line)
			}
			if l.isImage {
				continue
			}
			count++
			if targets.isElsewhere(l.target) {
				elsewhere++
			}
		}
	}

	c.problems += len(dead)
	c.say("links", "%d, %d lead nowhere%s", count, len(dead), unchecked(elsewhere))
	c.list(dead)
	if len(missing) > 0 {
		c.say("pictures", "%d are missing", len(missing))
		c.list(missing)
	}
}

// unchecked says that so many links are not checked.
func unchecked(elsewhere int) string {
	if elsewhere == 0 {
		return ""
	}
	return fmt.Sprintf("; %d to other sites are not checked", elsewhere)
}

// targets returns what links may lead to.
func (c *checker) targets() *linkTargets {
	texts := make(map[string]string)
	t := &linkTargets{
		ids:     make(map[string]bool),
		pages:   make(map[string]string),
		folders: map[string]bool{".": true},
		site:    c.cfg.docsURL,
		exists:  c.exists,
		prefix:  c.rootPrefix,
	}

	for _, d := range c.documents {
		t.add(d.id)
		texts[d.id] = d.text
	}

	known := make(map[string]anchorSet)
	t.anchors = func(id string) anchorSet {
		if known[id] == nil {
			known[id] = anchorsOf(texts[id])
		}
		return known[id]
	}

	return t
}

// exists reports whether DOCS_DIR has a file or folder of that name. It follows no path or link out of DOCS_DIR.
func (c *checker) exists(name string) bool {
	for _, root := range c.cfg.docsDirs {
		inside, isInside := strings.CutPrefix(name, root.prefix)
		if !isInside {
			continue
		}
		opened, err := os.OpenRoot(root.dir)
		if err != nil {
			continue
		}
		_, err = opened.Stat(filepath.FromSlash(inside))
		opened.Close()
		if err == nil {
			return true
		}
	}
	return false
}

// askQuestions prints how well the search answers the questions. A mean reciprocal rank below CHECK_MIN is a problem.
func (c *checker) askQuestions(ctx context.Context) error {
	var questions []askedQuestion
	for _, name := range c.questionFiles() {
		more, err := parseQuestions(name)
		if err != nil {
			return fmt.Errorf("CHECK_QUESTIONS: %w; %w", err, errUsage)
		}
		questions = append(questions, more...)
	}
	if len(questions) == 0 {
		if c.cfg.checkMin > 0 {
			return fmt.Errorf("CHECK_MIN needs questions: write %s into DOCS_DIR, or set CHECK_QUESTIONS; %w",
				questionsFile, errUsage)
		}
		return nil
	}

	var result answered
	var below []string
	for _, q := range questions {
		c.checkIDs(q, &below)
		place, err := c.place(ctx, q)
		if err != nil {
			return err
		}
		result.add(place)
		if place != 1 {
			below = append(below, fmt.Sprintf("%s: %q: %s", q.place, q.text, placeWords(place)))
		}
	}

	c.say("questions", "%s", result)
	c.list(below)
	if mrr := result.mrr(); mrr < c.cfg.checkMin {
		c.problems++
		c.say("", "the MRR of %.3f is below CHECK_MIN=%v", mrr, c.cfg.checkMin)
	}
	return nil
}

// checkIDs adds a line for each id in a question that is not the id of a document.
func (c *checker) checkIDs(q askedQuestion, lines *[]string) {
	for _, id := range q.ids {
		isID := func(d *document) bool { return d.id == id }
		if !slices.ContainsFunc(c.documents, isID) {
			c.problems++
			*lines = append(*lines, q.place+": there is no document "+id)
		}
	}
}

// place returns the place, from 1, of the first hit that answers the question, or 0.
func (c *checker) place(ctx context.Context, q askedQuestion) (int, error) {
	found, err := c.search(ctx, query{text: q.text, limit: maxSearchLimit}, addresses{})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", q.place, err)
	}
	isAsked := func(id string) bool { return slices.Contains(q.ids, id) }
	answers := func(h hit) bool {
		return isAsked(h.Document) || slices.ContainsFunc(h.Also, isAsked)
	}
	return slices.IndexFunc(found.Hits, answers) + 1, nil
}

func placeWords(place int) string {
	if place == 0 {
		return "not found"
	}
	return fmt.Sprintf("at place %d", place)
}

// questionFiles returns the files with questions: the one that CHECK_QUESTIONS names, else those in the folders.
func (c *checker) questionFiles() []string {
	if c.cfg.checkQuestions != "" {
		return []string{c.cfg.checkQuestions}
	}
	var names []string
	for _, root := range c.cfg.docsDirs {
		name := filepath.Join(root.dir, questionsFile)
		info, err := os.Stat(name)
		isPipe := err == nil && info.Mode()&os.ModeNamedPipe != 0 // reading it would wait for its writer
		if !isPipe && !errors.Is(err, os.ErrNotExist) {
			names = append(names, name)
		}
	}
	return names
}
