package main

// What indexing one document may cost. Memory is bounded in proportion to the length of the text, and CPU time is bounded too,
// whatever the text is. A document that would cost more is stored, served and listed, but only its beginning is indexed.

import "strings"

const (
	maxDocumentChunks   = 16_000  // a document of 8 MiB of prose has half as many
	maxDocumentHeadings = 32_000  // more than chunks, because an empty section has a heading and no chunk
	maxDocumentLines    = 300_000 // each takes about 100 bytes while it is parsed

	// indexShare is how many bytes the index may take per byte of text. Prose takes three.
	indexShare = 32

	// minIndexBytes is how many bytes the index may take for any document on top of that, so that short ones fit.
	minIndexBytes = 64 << 10

	// chunkBytes is how many bytes a chunk takes without its words: a vector of the built-in embedder, and what points to it.
	chunkBytes = 640

	// wordShare is how many bytes the index takes per byte of title, heading and text.
	wordShare = 2
)

// indexBudget is what the index of a document may still take.
type indexBudget struct {
	chunks int
	bytes  int
	words  *wordBudget // nil: no limit, see newWordBudget
}

// newIndexBudget returns the budget of a document with this text.
func newIndexBudget(text string) indexBudget {
	return indexBudget{
		chunks: maxDocumentChunks,
		bytes:  minIndexBytes + indexShare*len(text),
		words:  newWordBudget(text),
	}
}

// take subtracts the cost of a chunk. It returns false if the budget does not cover it.
func (b *indexBudget) take(p passage) bool {
	b.chunks--
	b.bytes -= chunkBytes + wordShare*(len(p.title)+len(p.heading)+len(p.text))
	return b.chunks >= 0 && b.bytes >= 0 && b.words.take(p)
}

// What a word costs, in units of about 0.2 µs of CPU time. The costs add up.
const (
	plainCost    = 2 // for cutting a word from the text
	wholeCost    = 4 // for an identifier or a part of one
	bytesPerCost = 8 // the bytes of a word that cost one unit
	chunkCost    = 3 // for the first occurrence in a chunk: the word gets a posting there, and is embedded
	documentCost = 8 // for the first occurrence in the document: the word is stemmed, and counted in the vocabulary

	// maxWordCost is what the words of a document may cost together. 4 MiB of prose cost less.
	maxWordCost = 4_000_000

	// minCostlyBytes is the length of the shortest text that can cost more. It is in a script without spaces. Each of its
	// characters takes three bytes and yields two new words: itself, and the pair with the character before it.
	minCostlyBytes = maxWordCost / (plainCost + chunkCost + documentCost) * 3 / 2
)

// wordBudget is what the words of a document may still cost.
type wordBudget struct {
	left   int
	chunk  int32   // number of the current chunk, from 1
	chunks []int32 // by hash of a word: number of the last chunk with it, 0 if there is none
}

// newWordBudget returns the budget of a document with this text, or nil if the text is too short to exceed it.
func newWordBudget(text string) *wordBudget {
	if len(text) < minCostlyBytes {
		return nil
	}
	return &wordBudget{
		left:   maxWordCost,
		chunks: make([]int32, 1<<20),
	}
}

// take subtracts the cost of the words of the next chunk. It returns false if the budget does not cover it.
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

// takeWord subtracts the cost of a word of the current chunk. Words with the same hash count as one.
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

// beginning returns the first n lines of text with their line ends, or all of text if it has fewer.
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
