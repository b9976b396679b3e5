package main

// What the embedded store knows of all its documents together: the vocabulary, and which texts occur more
// than once. It changes with each commit, while snapshots do not.

import (
	"slices"
	"strings"
	"sync"
)

// corpus is safe for concurrent use.
type corpus struct {
	mu    sync.RWMutex
	words map[string]int32 // number of documents that contain a word
	texts map[string]*twins
}

func newCorpus() *corpus {
	return &corpus{
		words: make(map[string]int32),
		texts: make(map[string]*twins),
	}
}

// add counts an entry that no snapshot has yet, and takes its words.
func (c *corpus) add(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()

	for w := range e.words {
		if _, isKnown := c.words[w]; !isKnown {
			w = strings.Clone(w) // w may be a part of the document's text
		}
		c.words[w]++
	}
	e.words = nil

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
		c.words[w]--
		if c.words[w] <= 0 {
			delete(c.words, w)
		}
	}
	if e.twins.count.Add(-1) == 0 {
		delete(c.texts, e.etag)
	}
}

// has reports whether a document contains the word.
func (c *corpus) has(word string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()

	return c.words[word] > 0
}

// nearest returns the words that are nearest to a misspelt one.
func (c *corpus) nearest(word string) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()

	s := newSpeller(word)
	for w := range c.words {
		s.add(w)
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
