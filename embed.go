package main

// Embedding of texts as vectors: the interface that the stores use, and the built-in embedder.

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"
)

// embedder turns texts into unit vectors, so that the dot product of two is their cosine. A text without words may have
// the zero vector instead.
type embedder interface {
	// query returns the vector of a question. It takes at most queryBudget.
	query(ctx context.Context, text string) ([]float32, error)

	// documents returns a vector for each of texts. With an error, some of the vectors may be nil.
	documents(ctx context.Context, texts []string) ([][]float32, error)

	// check tests the settings with one call, which also sets the dimensions if they are still 0. If the API is
	// unavailable for the moment, the error wraps errUnavailable.
	check(ctx context.Context) error

	// available returns an error that wraps errUnavailable while the API is known to be away.
	available() error

	// probe asks an API that is away whether it is back, in the background until ctx ends, and calls back when it is. It
	// logs both.
	probe(ctx context.Context, log *slog.Logger, back func())

	// model is the name of the model. Vectors are comparable if both their model and their dimensions are the same.
	model() string

	// dimensions is the length of the vectors, or 0 until it is known.
	dimensions() int

	// setDimensions sets the dimensions to those of stored vectors of the same model. It returns an error if other
	// dimensions are known already.
	setDimensions(dimensions int) error

	// minCosine is the least cosine between a chunk and a query that makes the chunk a hit without a common term.
	minCosine() float64

	// worthReusing reports whether reading a stored vector is cheaper than embedding the text again.
	worthReusing() bool
}

// embedTime says when the texts of a document are embedded.
type embedTime bool

const (
	// embedNow is for a document whose writer waits.
	embedNow embedTime = true

	// embedLater is for the documents of a folder, which may be many. With an API, they are found by their words at once
	// and by their vectors when a background job has embedded them. The built-in embedder needs no time to speak of.
	embedLater embedTime = false
)

// embedInTime embeds texts that are about to be stored, and returns what e.documents returns. It takes at most
// half of the time left, so that storing has the other half. A text whose vector is late is stored without it.
func embedInTime(ctx context.Context, e embedder, texts []string, when embedTime) ([][]float32, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	isRemote := e.worthReusing()
	if when == embedLater && isRemote {
		return make([][]float32, len(texts)), nil
	}
	if err := e.available(); err != nil {
		return make([][]float32, len(texts)), err
	}

	timeout := min(timeLeft(ctx)/2, time.Minute)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return e.documents(ctx, texts)
}

// isEmpty reports whether all vectors are nil.
func isEmpty(vectors [][]float32) bool {
	isPresent := func(v []float32) bool { return v != nil }
	return !slices.ContainsFunc(vectors, isPresent)
}

// embeddingAttrs returns the attributes of an embedding stage. kind is query or batch.
func embeddingAttrs(model, kind string) []slog.Attr {
	return []slog.Attr{
		slog.String("gen_ai.operation.name", "embeddings"),
		slog.String("gen_ai.request.model", model),
		slog.String("vitrine.embedding.kind", kind),
	}
}

// batchAttrs returns the attributes of a stage that embeds a batch of texts.
func batchAttrs(model string, texts int) []slog.Attr {
	size := slog.Int("vitrine.embedding.batch_size", texts)
	return append(embeddingAttrs(model, "batch"), size)
}

const (
	hashedModel = "hashed-512"

	// hashedDimensions must be a power of two: see addFeature. 256 dimensions lost 0.05 nDCG@10 where vectors ranked
	// alone; 1024 gained 0.03 and doubled the memory.
	hashedDimensions = 512

	// minHashedCosine is minCosine of the built-in embedder. No cosine reaches 2, so a chunk needs a common term: hits by
	// similar spelling alone were nonsense.
	minHashedCosine = 2
)

// hashedQueryAttrs are made once, because every search needs them.
var hashedQueryAttrs = embeddingAttrs(hashedModel, "query")

// hashedEmbedder is the built-in embedder: it returns hashedVector of each text.
type hashedEmbedder struct{}

func (hashedEmbedder) query(ctx context.Context, text string) ([]float32, error) {
	_, end := stage(ctx, stageEmbed, hashedQueryAttrs...)
	defer end(nil)
	return hashedVector(text), nil
}

func (hashedEmbedder) documents(ctx context.Context, texts []string) ([][]float32, error) {
	_, end := stage(ctx, stageEmbed, batchAttrs(hashedModel, len(texts))...)
	defer end(nil)

	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		if ctx.Err() != nil {
			return vectors, ctx.Err()
		}
		vectors[i] = hashedVector(text)
	}
	return vectors, nil
}

func (hashedEmbedder) check(context.Context) error                 { return nil }
func (hashedEmbedder) available() error                            { return nil }
func (hashedEmbedder) probe(context.Context, *slog.Logger, func()) {}

func (hashedEmbedder) model() string           { return hashedModel }
func (hashedEmbedder) dimensions() int         { return hashedDimensions }
func (hashedEmbedder) setDimensions(int) error { return nil }

func (hashedEmbedder) minCosine() float64 { return minHashedCosine }
func (hashedEmbedder) worthReusing() bool { return false }

// hashedVector is the built-in embedding of text, of hashedDimensions numbers. Its features are the stems of the words
// and their character 3- to 5-grams. Each feature is hashed to one dimension and a sign (Weinberger et al., "Feature
// Hashing for Large Scale Multitask Learning", 2009); the sum is scaled to length 1. It finds spelling variants and
// parts of words, but no synonyms. A text without words, or with only stop words, gives the zero vector.
func hashedVector(text string) []float32 {
	f := features.Get().(*featureCounts)
	defer f.free()
	for w := range words(text) {
		if w.isSeparate() && !stopWords[w.text] {
			f.words[w.text]++
		}
	}

	vector := make([]float32, hashedDimensions)
	for word, count := range f.words {
		f.stems[stem(word)] += count
		f.addGrams(vector, word, dampedCount(count))
	}
	for s, count := range f.stems {
		addFeature(vector, hash(s), dampedCount(count))
	}

	normalize(vector)
	return vector
}

// features holds the buffers of hashedVector between calls. A chunk has up to 2,400 distinct words.
var features = sync.Pool{New: func() any {
	return &featureCounts{
		words: make(map[string]int),
		stems: make(map[string]int),
	}
}}

// featureCounts are the words of a text, and room for the grams of one.
type featureCounts struct {
	words  map[string]int
	stems  map[string]int
	marked []byte // a word, with marks for its beginning and its end
	bounds []int  // byte offsets of its characters, and the end
}

// free gives f back without the words, which are parts of a document.
func (f *featureCounts) free() {
	clear(f.words)
	clear(f.stems)
	features.Put(f)
}

// addGrams adds the substrings of a marked word that are 3, 4 and 5 characters long. Together they weigh as much as
// √n features, where n is their number.
func (f *featureCounts) addGrams(vector []float32, word string, weight float64) {
	f.marked = append(f.marked[:0], '<')
	f.marked = append(f.marked, word...)
	f.marked = append(f.marked, '>')
	f.bounds = append(f.bounds[:0], 0)
	for i := range word {
		f.bounds = append(f.bounds, i+1)
	}
	f.bounds = append(f.bounds, len(word)+1, len(word)+2)

	characters := len(f.bounds) - 1
	grams := 0
	for n := 3; n <= 5; n++ {
		grams += max(0, characters-n+1)
	}
	weight *= 0.7 / math.Sqrt(float64(grams))
	for n := 3; n <= 5; n++ {
		for i := 0; i+n <= characters; i++ {
			addFeature(vector, hash(f.marked[f.bounds[i]:f.bounds[i+n]]), weight)
		}
	}
}

// dampedCount grows with the logarithm of count: the tenth occurrence of a word counts less than the first.
func dampedCount(count int) float64 {
	return 1 + math.Log(float64(count))
}

// addFeature adds weight to the dimension of a feature with this hash: the low bits of the hash are the dimension, the
// bit above them is the sign.
func addFeature(vector []float32, h uint64, weight float64) {
	if h&hashedDimensions != 0 {
		weight = -weight
	}
	vector[h%hashedDimensions] += float32(weight)
}

// normalize scales v to length 1, in place. The zero vector stays as it is.
func normalize(v []float32) {
	var squares float64
	for _, x := range v {
		squares += float64(x) * float64(x)
	}
	if squares == 0 {
		return
	}

	scale := 1 / math.Sqrt(squares) // of tiny numbers, a float32 cannot hold it
	for i := range v {
		v[i] = float32(float64(v[i]) * scale)
	}
}
