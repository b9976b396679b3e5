package main

// Text into vectors: what an embedder does, and the built-in one.

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"time"
)

// embedder turns texts into vectors of length 1, or 0 for text without a word, whose products tell how alike they are.
type embedder interface {
	// query returns the vector of a question, within queryBudget.
	query(ctx context.Context, text string) ([]float32, error)
	// documents returns the vectors of texts. With an error those are nil that it could not get.
	documents(ctx context.Context, texts []string) ([][]float32, error)
	// check finds out dimensions, if they are not known, and what is wrong with the settings.
	check(ctx context.Context) error
	// model and dimensions are what vectors must have in common to be compared. 0 dimensions are not known yet.
	model() string
	dimensions() int
	// setDimensions tells the dimensions of stored vectors of the model, which may not be known otherwise.
	setDimensions(dimensions int) error
	// minCosine is the cosine from which on a text counts as found.
	minCosine() float64
	// worthReusing says that vectors are worth keeping.
	worthReusing() bool
}

// embedInTime embeds texts that are about to be stored, within half of the time that there is: what is not embedded
// then is stored without.
func embedInTime(ctx context.Context, e embedder, texts []string) ([][]float32, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, min(timeLeft(ctx)/2, time.Minute))
	defer cancel()
	return e.documents(ctx, texts)
}

// isEmpty reports whether none of the vectors is there.
func isEmpty(vectors [][]float32) bool {
	return !slices.ContainsFunc(vectors, func(v []float32) bool { return v != nil })
}

const (
	// hashedDimensions is the length of the built-in embedder's vectors. 256 lost .05 nDCG@10 on its own, 1024 won .03
	// and doubled the memory.
	hashedDimensions = 512
	hashedModel      = "hashed-512"

	// minHashedCosine is the cosine from which on a chunk counts as found though it shares no term with the query.
	minHashedCosine = 0.3
)

// hashedEmbedder is the built-in embedder: see hashedVector.
type hashedEmbedder struct{}

func (hashedEmbedder) query(ctx context.Context, text string) ([]float32, error) {
	_, end := stage(ctx, "embed", hashedQuery...)
	defer end(nil)
	return hashedVector(text), nil
}

func (hashedEmbedder) documents(ctx context.Context, texts []string) ([][]float32, error) {
	_, end := stage(ctx, "embed", batchAttrs(hashedModel, len(texts))...)
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

func (hashedEmbedder) check(context.Context) error { return nil }
func (hashedEmbedder) setDimensions(int) error     { return nil }
func (hashedEmbedder) model() string               { return hashedModel }
func (hashedEmbedder) dimensions() int             { return hashedDimensions }
func (hashedEmbedder) minCosine() float64          { return minHashedCosine }
func (hashedEmbedder) worthReusing() bool          { return false }

// embeddingAttrs are the attributes of an embedding stage. kind is query or batch.
func embeddingAttrs(model, kind string) []slog.Attr {
	return []slog.Attr{
		slog.String("gen_ai.operation.name", "embeddings"), slog.String("gen_ai.request.model", model), slog.String("vitrine.embedding.kind", kind),
	}
}

func batchAttrs(model string, texts int) []slog.Attr {
	return append(embeddingAttrs(model, "batch"), slog.Int("vitrine.embedding.batch_size", texts))
}

var hashedQuery = embeddingAttrs(hashedModel, "query")

// hashedVector is the built-in embedding of text: the stems and the character 3- to 5-grams of the words, hashed with
// a sign into hashedDimensions dimensions (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning",
// 2009) and scaled to length 1. It finds spelling variants and parts of words; it knows no meaning. Text without a
// word gives the zero vector.
func hashedVector(text string) []float32 {
	counts := make(map[string]int)
	for word := range words(text) {
		if !stopWords[word] {
			counts[word]++
		}
	}
	vector := make([]float32, hashedDimensions)
	add := func(feature string, weight float64) {
		h := hash(feature)
		if h&hashedDimensions != 0 {
			weight = -weight
		}
		vector[h%hashedDimensions] += float32(weight)
	}
	stems := make(map[string]int, len(counts))
	for word, count := range counts {
		stems[stem(word)] += count
		grams := characterGrams("<" + word + ">")
		weight := 0.7 / math.Sqrt(float64(len(grams))) * (1 + math.Log(float64(count)))
		for _, gram := range grams {
			add(gram, weight)
		}
	}
	for s, count := range stems {
		add(s, 1+math.Log(float64(count)))
	}
	normalize(vector)
	return vector
}

// characterGrams returns the substrings of 3, 4 and 5 characters.
func characterGrams(word string) []string {
	starts := make([]int, 0, 32)
	for i := range word {
		starts = append(starts, i)
	}
	starts = append(starts, len(word))
	grams := make([]string, 0, 3*len(starts))
	for n := 3; n <= 5; n++ {
		for i := 0; i+n < len(starts); i++ {
			grams = append(grams, word[starts[i]:starts[i+n]])
		}
	}
	return grams
}

// normalize scales v to length 1; the zero vector stays.
func normalize(v []float32) {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return
	}
	scale := float32(1 / math.Sqrt(sum))
	for i := range v {
		v[i] *= scale
	}
}
