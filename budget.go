package main

// What indexing one document may cost. Work and memory are in proportion to the length of the text, whatever
// its shape. A document that would cost more is stored, served and listed, and indexed by its beginning.

import "strings"

const (
	maxDocumentChunks   = 16_000  // a document of 8 MiB of prose has half as many
	maxDocumentHeadings = 32_000  // a heading may have no chunk, if its section is empty
	maxDocumentLines    = 500_000 // each takes about 100 bytes while it is parsed

	// indexShare is how many bytes the index may take for a byte of text. Prose takes three.
	indexShare = 32

	// minIndexBytes is what the index of a short document may take.
	minIndexBytes = 64 << 10

	// chunkBytes is what a chunk takes without its words: a vector of the built-in embedder, and what points to it.
	chunkBytes = 640

	// wordShare is how many bytes the index takes for a byte of title, heading and text.
	wordShare = 2
)

// indexBudget is what the index of a document may still take.
type indexBudget struct {
	chunks int
	bytes  int
}

// newIndexBudget returns the budget of a document with this text.
func newIndexBudget(text string) indexBudget {
	return indexBudget{
		chunks: maxDocumentChunks,
		bytes:  minIndexBytes + indexShare*len(text),
	}
}

// take takes the cost of a chunk with so many bytes of title, heading and text. It reports false once the budget is
// used up.
func (b *indexBudget) take(words int) bool {
	b.chunks--
	b.bytes -= chunkBytes + wordShare*words
	return b.chunks >= 0 && b.bytes >= 0
}

// beginning returns the first n lines of text.
func beginning(text string, n int) string {
	end := 0
	for range n {
		i := strings.IndexByte(text[end:], '\n')
		if i < 0 {
			return text
		}
		end += i + 1
	}
	return text[:end]
}
