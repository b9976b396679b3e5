package main

// What the embedded store knows of all its documents together: the vocabulary, and which texts occur more
// than once. It changes with each commit, while snapshots do not.

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// corpus counts the words, the terms and the texts of the entries that are committed. It is safe for concurrent use.
//
// It keeps the words of a removed document until sweep: to cut its text into words once more would cost as much as
// indexing it. A word counts only while chunks contain its term, as in PostgreSQL.
type corpus struct {
	mu          sync.RWMutex
	words       map[string]knownWord
	frequencies map[term]int32 // number of chunks that contain a term
	orphans     int            // terms that no chunk contains any more, since the last sweep
	texts       map[string]*twins
}

// knownWord is a word that documents contain or have contained.
type knownWord struct {
	term  term
	shape wordShape
}

func newCorpus() *corpus {
	return &corpus{
		words:       make(map[string]knownWord),
		frequencies: make(map[term]int32),
		texts:       make(map[string]*twins),
	}
}

// add counts an entry that no snapshot has yet. It sets e.words to nil, because nobody needs them any more.
func (c *corpus) add(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()

	for w, t := range e.words {
		if _, isKnown := c.words[w]; isKnown {
			continue
		}
		w = strings.Clone(w) // w may be a part of the document's text
		c.words[w] = knownWord{t, newWordShape(w)}
	}
	e.words = nil
	c.count(e, 1)

	e.twins = c.texts[e.etag]
	if e.twins == nil {
		e.twins = new(twins)
		c.texts[e.etag] = e.twins
	}
	e.twins.count.Add(1)
}

// remove takes an entry out of the counts.
func (c *corpus) remove(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.count(e, -1)
	if c.orphans > len(c.words)/2 {
		c.sweep()
	}

	if e.twins.count.Add(-1) == 0 {
		delete(c.texts, e.etag)
	}
}

// sweep forgets the words that no document contains any more.
func (c *corpus) sweep() {
	maps.DeleteFunc(c.words, func(_ string, known knownWord) bool { return !c.counts(known) })
	c.orphans = 0
}

// counts reports whether a chunk contains the word, or one with the same stem.
func (c *corpus) counts(known knownWord) bool { return c.frequencies[known.term] > 0 }

// count adds the postings of e to the frequencies, or takes them out if sign is -1.
func (c *corpus) count(e *entry, sign int32) {
	for i, t := range e.terms[:len(e.terms)-1] { // without the sentinel
		n := c.frequencies[t.term] + sign*int32(e.terms[i+1].from-t.from)
		if n > 0 {
			c.frequencies[t.term] = n
			continue
		}
		delete(c.frequencies, t.term)
		c.orphans++
	}
}

// frequency returns how many chunks contain a term.
func (c *corpus) frequency(t term) int {
	c.mu.RLock()
	defer c.mu.RUnlock()

	return int(c.frequencies[t])
}

// has reports whether a document contains the word.
func (c *corpus) has(word string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()

	known, isKnown := c.words[word]
	return isKnown && c.counts(known)
}

// nearest returns the words that are nearest to a misspelt one.
func (c *corpus) nearest(word string) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()

	s := newSpeller(word)
	for w, known := range c.words {
		if c.counts(known) {
			s.add(w, known.shape)
		}
	}
	slices.Sort(s.nearest)
	return s.nearest
}

// completions returns the words that begin with the given one.
func (c *corpus) completions(beginning string) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()

	var all []string
	for w, known := range c.words {
		if strings.HasPrefix(w, beginning) && c.counts(known) {
			all = append(all, w)
		}
	}
	return all
}
