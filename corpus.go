package main

// What the embedded store knows of all its documents together: the vocabulary, and which texts occur more
// than once. It changes with each commit, while snapshots do not.

import (
	"slices"
	"strings"
	"sync"
)

// corpus counts the words, the terms and the texts of the entries that are committed. It is safe for concurrent use.
type corpus struct {
	mu          sync.RWMutex
	words       map[string]knownWord
	frequencies map[term]int32 // number of chunks that contain a term
	texts       map[string]*twins
}

// knownWord is a word that documents contain.
type knownWord struct {
	documents int32
	shape     wordShape
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

	for w := range e.words {
		known, isKnown := c.words[w]
		if !isKnown {
			w = strings.Clone(w) // w may be a part of the document's text
			known.shape = newWordShape(w)
		}
		known.documents++
		c.words[w] = known
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
	words := e.vocabulary()
	c.mu.Lock()
	defer c.mu.Unlock()

	for w := range words {
		known := c.words[w]
		known.documents--
		c.words[w] = known
		if known.documents <= 0 {
			delete(c.words, w)
		}
	}
	c.count(e, -1)

	if e.twins.count.Add(-1) == 0 {
		delete(c.texts, e.etag)
	}
}

// count adds the postings of e to the frequencies, or takes them out if sign is -1.
func (c *corpus) count(e *entry, sign int32) {
	for i, t := range e.terms[:len(e.terms)-1] { // without the sentinel
		c.frequencies[t.term] += sign * int32(e.terms[i+1].from-t.from)
		if c.frequencies[t.term] <= 0 {
			delete(c.frequencies, t.term)
		}
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

	_, isKnown := c.words[word]
	return isKnown
}

// nearest returns the words that are nearest to a misspelt one.
func (c *corpus) nearest(word string) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()

	s := newSpeller(word)
	for w, known := range c.words {
		s.add(w, known.shape)
	}
	slices.Sort(s.nearest)
	return s.nearest
}

// completions returns the words that begin with the given one.
func (c *corpus) completions(beginning string) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()

	var all []string
	for w := range c.words {
		if strings.HasPrefix(w, beginning) {
			all = append(all, w)
		}
	}
	return all
}
