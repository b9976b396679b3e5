package main

// What indexing one document may cost. Work and memory are in proportion to the length of the text, whatever
// its shape. A document that would cost more is stored, served and listed, and indexed by its beginning.

import "strings"

const (
	maxDocumentChunks   = 16_000  // a document of 8 MiB of prose has half as many
	maxDocumentHeadings = 32_000  // a heading may have no chunk, if its section is empty
	maxDocumentLines    = 300_000 // each takes about 100 bytes while it is parsed

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
	words  *wordBudget // nil: the document is too short to use it up
}

// newIndexBudget returns the budget of a document with this text.
func newIndexBudget(text string) indexBudget {
	return indexBudget{
		chunks: maxDocumentChunks,
		bytes:  minIndexBytes + indexShare*len(text),
		words:  newWordBudget(text),
	}
}

// take takes the cost of a chunk. It reports false once the budget is used up.
func (b *indexBudget) take(p passage) bool {
	b.chunks--
	b.bytes -= chunkBytes + wordShare*(len(p.title)+len(p.heading)+len(p.text))
	return b.chunks >= 0 && b.bytes >= 0 && b.words.take(p)
}

// What a word costs: about 0.2 µs of CPU time a unit.
const (
	plainCost    = 2 // to cut a word from the text
	wholeCost    = 4 // more, if it is an identifier or a part of one
	bytesPerCost = 8 // one more for so many bytes of it
	chunkCost    = 3 // more, if it is the first of its chunk: it has a posting there, and is embedded
	documentCost = 8 // more, if it is the first of the document: it is stemmed, and counted in the vocabulary

	// maxWordCost is what the words of a document may cost. 4 MiB of prose cost less.
	maxWordCost = 4_000_000

	// minCostlyBytes is the length of the shortest text that can cost more: one in a script without spaces, whose
	// characters of three bytes each are new, alone and with their neighbour.
	minCostlyBytes = maxWordCost / (plainCost + chunkCost + documentCost) * 3 / 2
)

// wordBudget is what the words of a document may still cost.
type wordBudget struct {
	left   int
	chunk  int32
	chunks []int32 // by hash: the last chunk with such a word, from 1
}

// newWordBudget returns the budget of a document with this text, nil if it needs none.
func newWordBudget(text string) *wordBudget {
	if len(text) < minCostlyBytes {
		return nil
	}
	return &wordBudget{
		left:   maxWordCost,
		chunks: make([]int32, 1<<20),
	}
}

// take takes the cost of the words of a chunk. It reports false once the budget is used up.
func (b *wordBudget) take(p passage) bool {
	if b == nil {
		return true
	}
	b.chunk++
	for _, text := range []string{p.title, p.heading, p.text} {
		for w := range unfoldedWords(text) {
			b.takeWord(w)
		}
	}
	return b.left >= 0
}

// takeWord takes the cost of a word of the current chunk.
func (b *wordBudget) takeWord(w word) {
	b.left -= plainCost + len(w.text)/bytesPerCost
	if w.kind != plainWord {
		b.left -= wholeCost
	}

	last := &b.chunks[hash(w.text)%uint64(len(b.chunks))]
	if *last == b.chunk {
		return
	}
	if *last == 0 {
		b.left -= documentCost
	}
	b.left -= chunkCost
	*last = b.chunk
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
