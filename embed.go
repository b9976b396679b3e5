package main

// Text in, terms and vectors out. The analysis is shared by both stores and by documents and queries alike, so a
// change of it changes what is stored: raise analyzerVersion with it.

import (
	"bytes"
	"container/list"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// analyzerVersion goes up with every change of what is made of a text: chunks, terms, weights, hashed vectors.
	analyzerVersion = 1

	// maxWordBytes bounds what a word may cost: longer runs are cut into several words.
	maxWordBytes = 64

	// averageLength is a constant instead of the collection's mean (no worse on seven labelled sets), so that the
	// weights of a document depend on its own text alone.
	averageLength = 100

	// headingBoost is how often a term of the title or heading counts.
	headingBoost = 3
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
	// learn tells the dimensions of stored vectors of the model, which may not be known otherwise.
	learn(dimensions int) error
	// floor is the cosine from which on a text counts as found.
	floor() float64
	// costly says that vectors are worth keeping.
	costly() bool
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
func (hashedEmbedder) learn(int) error             { return nil }
func (hashedEmbedder) model() string               { return hashedModel }
func (hashedEmbedder) dimensions() int             { return hashedDimensions }
func (hashedEmbedder) floor() float64              { return minHashedCosine }
func (hashedEmbedder) costly() bool                { return false }

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

const (
	// queryBudget is how long a search waits for its question's vector before it answers without.
	queryBudget = 3 * time.Second

	// attemptTimeout ends one call of the embeddings API.
	attemptTimeout = 60 * time.Second

	// maxBatchBytes bounds the text of one call, beside EMBEDDING_BATCH: models have a limit of tokens too.
	maxBatchBytes = 100_000

	// cachedQueries vectors are kept: 12 MB at 1,536 dimensions.
	cachedQueries = 2000

	// maxAnswerBytes is well above 2,048 vectors of 4,000 dimensions written as decimal numbers.
	maxAnswerBytes = 256 << 20
)

// remoteEmbedder speaks to any OpenAI-compatible embeddings API.
type remoteEmbedder struct {
	cfg     *settings
	client  *http.Client
	slots   chan struct{} // EMBEDDING_CONCURRENCY calls at once
	learned atomic.Int64  // the vectors' length, 0 before the first answer
	cache   vectorCache

	mu       sync.Mutex
	failures int       // of calls, in a row
	retryAt  time.Time // no call before, while it has failed
}

func newRemoteEmbedder(cfg *settings) *remoteEmbedder {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = cfg.embeddingConcurrency + 1
	e := &remoteEmbedder{
		cfg: cfg, client: &http.Client{Transport: transport}, slots: make(chan struct{}, cfg.embeddingConcurrency),
		cache: vectorCache{max: cachedQueries, byKey: make(map[string]*list.Element)},
	}
	e.learned.Store(int64(cfg.embeddingDimensions))
	return e
}

func (e *remoteEmbedder) model() string   { return e.cfg.embeddingModel }
func (e *remoteEmbedder) dimensions() int { return int(e.learned.Load()) }
func (e *remoteEmbedder) floor() float64  { return e.cfg.embeddingMinCosine }
func (e *remoteEmbedder) costly() bool    { return true }

// check asks for one vector. That the API is away for the moment wraps errUnavailable; all else is a matter of settings.
func (e *remoteEmbedder) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryBudget)
	defer cancel()
	_, err := e.call(ctx, []string{e.cfg.embeddingQueryPrefix + "vitrine"})
	refused, _ := errors.AsType[refusalError](err)
	switch {
	case err == nil:
		return nil
	case !refused.temporary():
		return fmt.Errorf("embedding API: %w: check EMBEDDING_URL (it ends in /v1/embeddings), EMBEDDING_MODEL, EMBEDDING_API_KEY and EMBEDDING_DIMENSIONS", err)
	}
	return fmt.Errorf("%w: embedding API: %w", errUnavailable, err)
}

// query returns the vector of a question from the cache, or asks for it once for all who want it now.
func (e *remoteEmbedder) query(ctx context.Context, text string) (_ []float32, err error) {
	ctx, end := stage(ctx, "embed", embeddingAttrs(e.model(), "query")...)
	defer end(&err)
	ctx, cancel := context.WithTimeout(ctx, queryBudget)
	defer cancel()
	for {
		v, isNew := e.cache.get(text)
		if isNew {
			noteCache(ctx, "miss")
			var vectors [][]float32
			if vectors, v.err = e.persist(ctx, []string{e.cfg.embeddingQueryPrefix + text}, 2); v.err == nil {
				v.vector = vectors[0]
			} else {
				e.cache.remove(v)
			}
			close(v.known)
			return v.vector, v.err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-v.known:
		}
		if !errors.Is(v.err, context.Canceled) {
			noteCache(ctx, "hit")
			return v.vector, v.err
		} // else whoever asked has gone, and we ask ourselves
	}
}

// noteCache says whether a query's vector was known.
func noteCache(ctx context.Context, outcome string) {
	annotate(ctx, slog.String("vitrine.embedding.cache", outcome))
	note(ctx, slog.String("cache", outcome))
}

// cachedVector is the vector of a question, or why there is none, from when known is closed.
type cachedVector struct {
	key    string
	known  chan struct{}
	vector []float32
	err    error
}

// vectorCache keeps the vectors that were used last, and those that are waited for.
type vectorCache struct {
	mu    sync.Mutex
	max   int
	byKey map[string]*list.Element
	order list.List // of *cachedVector, the last used first
}

// get returns the vector of key. If it is new, the caller has to make it known.
func (c *vectorCache) get(key string) (v *cachedVector, isNew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element := c.byKey[key]; element != nil {
		c.order.MoveToFront(element)
		return element.Value.(*cachedVector), false
	}
	v = &cachedVector{key: key, known: make(chan struct{})}
	c.byKey[key] = c.order.PushFront(v)
	if c.order.Len() > c.max {
		delete(c.byKey, c.order.Remove(c.order.Back()).(*cachedVector).key)
	}
	return v, true
}

// remove forgets v, so that the next who wants it asks again.
func (c *vectorCache) remove(v *cachedVector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element := c.byKey[v.key]; element != nil && element.Value == v {
		c.order.Remove(element)
		delete(c.byKey, v.key)
	}
}

// documents embeds in batches, as many at once as EMBEDDING_CONCURRENCY allows.
func (e *remoteEmbedder) documents(ctx context.Context, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	prefixed := make([]string, len(texts))
	for i, text := range texts {
		prefixed[i] = e.cfg.embeddingDocumentPrefix + text
	}
	var batches []func() error
	for from, to := 0, 0; from < len(texts); from = to {
		for size := 0; to < len(texts) && to-from < e.cfg.embeddingBatch && (to == from || size+len(prefixed[to]) <= maxBatchBytes); to++ {
			size += len(prefixed[to])
		}
		batches = append(batches, func() error { return e.embedBatch(ctx, prefixed[from:to], vectors[from:to]) })
	}
	return vectors, inParallel(ctx, e.slots, batches)
}

// embedBatch sets vectors to those of texts. A batch that is refused is halved: it is too large, or one text in it is
// at fault, which in the end is left out alone.
func (e *remoteEmbedder) embedBatch(ctx context.Context, texts []string, vectors [][]float32) error {
	batch, end := stage(ctx, "embed", batchAttrs(e.model(), len(texts))...)
	got, err := e.persist(batch, texts, 8)
	end(&err)
	if refused, _ := errors.AsType[refusalError](err); refused.halve() && len(texts) > 1 {
		middle := len(texts) / 2
		return errors.Join(e.embedBatch(ctx, texts[:middle], vectors[:middle]), e.embedBatch(ctx, texts[middle:], vectors[middle:]))
	}
	if err != nil {
		return fmt.Errorf("embedding %d texts: %w", len(texts), err)
	}
	copy(vectors, got)
	return nil
}

// persist calls until it succeeds, is refused for good, has tried that often, ctx would end before the next attempt, or
// the API is away: then those who want a vector do without, and embedMissing comes back to it.
func (e *remoteEmbedder) persist(ctx context.Context, texts []string, attempts int) ([][]float32, error) {
	backoff := 500 * time.Millisecond
	for attempt := 1; ; attempt++ {
		if !e.mayCall() {
			return nil, errEmbedderAway
		}
		vectors, err := e.call(ctx, texts)
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, ctx.Err()
		}
		refused, _ := errors.AsType[refusalError](err)
		temporary := err != nil && refused.temporary()
		isAway := e.called(!temporary || refused.status == http.StatusTooManyRequests)
		wait := backoff + rand.N(backoff/2)
		if refused.after > 0 {
			wait = refused.after
		}
		if deadline, ok := ctx.Deadline(); !temporary || isAway || attempt == attempts || ok && time.Until(deadline) < wait {
			return vectors, err
		}
		if !pause(ctx, wait) {
			return nil, ctx.Err()
		}
		backoff = min(2*backoff, 8*time.Second)
	}
}

var errEmbedderAway = fmt.Errorf("%w: the embedding API has failed %d times in a row and is asked once a second", errUnavailable, breakerFailures)

// mayCall lets one call a second through once the API has failed several times in a row.
func (e *remoteEmbedder) mayCall() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failures >= breakerFailures && time.Now().Before(e.retryAt) {
		return false
	}
	e.retryAt = time.Now().Add(probeInterval)
	return true
}

// called counts failures in a row and reports whether they are so many that the API is taken to be away.
func (e *remoteEmbedder) called(answered bool) (isAway bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failures++
	if answered {
		e.failures = 0
	}
	e.retryAt = time.Now().Add(probeInterval)
	return e.failures >= breakerFailures
}

// refusalError is an answer of the API that is of no use: an error status, or vectors that cannot be right (status 200).
// The zero value stands for no answer at all.
type refusalError struct {
	status  int
	message string
	after   time.Duration // how long to wait, not above 0 if the API did not say
}

func (r refusalError) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.message) }

// temporary reports whether the same call may succeed later.
func (r refusalError) temporary() bool {
	return r.status >= 500 || slices.Contains([]int{0, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests}, r.status)
}

// halve reports whether fewer texts at once may be accepted.
func (r refusalError) halve() bool {
	return slices.Contains([]int{http.StatusOK, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity}, r.status)
}

// call is one request to the API. It asks for base64, which is less than half as long as decimal numbers, and
// understands both.
func (e *remoteEmbedder) call(ctx context.Context, texts []string) ([][]float32, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	body, err := json.Marshal(struct {
		Model      string   `json:"model"`
		Input      []string `json:"input"`
		Format     string   `json:"encoding_format"`
		Dimensions int      `json:"dimensions,omitempty"`
	}{e.model(), texts, "base64", e.cfg.embeddingDimensions})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.cfg.embeddingURL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if e.cfg.embeddingKey != "" {
		r.Header.Set("Authorization", "Bearer "+e.cfg.embeddingKey)
	}
	propagate(ctx, r.Header)
	answer, err := e.client.Do(r)
	if named, ok := errors.AsType[*url.Error](err); ok {
		err = named.Err // without the URL, which may hold a key
	}
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 300)) // whatever of it there is
		return nil, refusalError{answer.StatusCode, strings.TrimSpace(string(text)), retryAfter(answer.Header)}
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswerBytes))
	if err != nil {
		return nil, err
	}
	vectors, tokens, err := e.parseAnswer(text, len(texts))
	if err != nil {
		return nil, refusalError{status: http.StatusOK, message: err.Error()}
	}
	annotate(ctx, slog.Int("gen_ai.usage.input_tokens", tokens))
	return vectors, nil
}

// retryAfter reads how long to wait: milliseconds (OpenAI's header), seconds, or a date.
func retryAfter(h http.Header) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil {
		return time.Duration(ms * float64(time.Millisecond))
	}
	if seconds, err := strconv.ParseFloat(h.Get("Retry-After"), 64); err == nil {
		return time.Duration(seconds * float64(time.Second))
	}
	date, _ := http.ParseTime(h.Get("Retry-After")) // without one, long ago
	return time.Until(date)
}

// parseAnswer takes the vectors out of an answer for n texts. It believes nothing of them: not their number, order,
// length, nor that they are finite.
func (e *remoteEmbedder) parseAnswer(text []byte, n int) (vectors [][]float32, tokens int, err error) {
	var answer struct {
		Data []struct {
			Index     int       `json:"index"`
			Embedding apiVector `json:"embedding"`
		} `json:"data"`
		Usage struct {
			PromptTokens int `json:"prompt_tokens"`
		} `json:"usage"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, 0, fmt.Errorf("not the JSON of an embeddings API: %w", err)
	}
	if len(answer.Data) != n {
		return nil, 0, fmt.Errorf("%d vectors for %d texts", len(answer.Data), n)
	}
	vectors = make([][]float32, n)
	for _, d := range answer.Data {
		if d.Index < 0 || d.Index >= n || vectors[d.Index] != nil {
			return nil, 0, fmt.Errorf("vector %d of %d is missing or there twice", d.Index, n)
		}
		v := []float32(d.Embedding)
		if err := e.learn(len(v)); err != nil {
			return nil, 0, err
		}
		normalize(v)
		if slices.ContainsFunc(v, func(x float32) bool { return x != x }) { // NaN, or infinite before it was scaled
			return nil, 0, errors.New("a vector's numbers are not finite")
		}
		vectors[d.Index] = v
	}
	return vectors, answer.Usage.PromptTokens, nil
}

// learn takes the vectors' length from the first one, and wants the same of all others.
func (e *remoteEmbedder) learn(length int) error {
	e.learned.CompareAndSwap(0, int64(length))
	if length == 0 || length != e.dimensions() {
		return fmt.Errorf("a vector of %d dimensions instead of %d", length, e.dimensions())
	}
	return nil
}

// apiVector is a vector as an array of numbers, or as base64 of little-endian 32-bit floats.
type apiVector []float32

// UnmarshalJSON reads either form.
func (v *apiVector) UnmarshalJSON(text []byte) error {
	if text[0] != '"' {
		return json.Unmarshal(text, (*[]float32)(v))
	}
	var encoded []byte
	if err := json.Unmarshal(text, &encoded); err != nil || len(encoded)%4 != 0 {
		return errors.New("a vector is not base64 of 32-bit floats")
	}
	*v = make(apiVector, len(encoded)/4)
	_, err := binary.Decode(encoded, binary.LittleEndian, []float32(*v))
	return err
}

// term is the hash of a stemmed word. 29 bits keep a chance match of two words rarer than one in 5,000 at 100,000
// distinct words, and fit PostgreSQL's sparsevec and integer arrays.
type term uint32

const termBits = 29

// weightedTerm is one entry of a chunk's lexical vector.
type weightedTerm struct {
	term   term
	weight float32
}

// words yields the words of text in order, case-folded: runs of letters, digits and marks, with identifiers split
// where their case changes (maxConns is max, conns; HTTPServer is http, server). Scripts that are written without
// spaces yield each character and each pair of neighbours.
func words(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for run := range strings.FieldsFuncSeq(text, func(r rune) bool { return !isWordRune(r) }) {
			for len(run) > 0 {
				first, _ := utf8.DecodeRuneInString(run)
				end := wordEnd(run)
				word := strings.Map(fold, run[:end])
				run = run[end:]
				if isSpaceless(first) {
					if !yieldGrams(word, yield) {
						return
					}
				} else if !yield(word) {
					return
				}
			}
		}
	}
}

func isWordRune(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// isSpaceless reports whether r belongs to a script whose words cannot be told apart by spaces. Hangul is among them
// because its particles are written onto the word.
func isSpaceless(r rune) bool {
	return r >= 0x0e00 && (r == 'ー' || unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul,
		unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar))
}

// wordEnd returns the length in bytes of the word that a run of word runes begins with.
func wordEnd(text string) int {
	first, size := utf8.DecodeRuneInString(text)
	spaceless := isSpaceless(first)
	previous := first
	for i, r := range text[size:] {
		at := size + i
		if at >= maxWordBytes || !unicode.IsMark(r) && isSpaceless(r) != spaceless {
			return at
		}
		if unicode.IsUpper(r) {
			next, _ := utf8.DecodeRuneInString(text[at+utf8.RuneLen(r):])
			if !unicode.IsUpper(previous) || unicode.IsLower(next) {
				return at
			}
		}
		previous = r
	}
	return len(text)
}

// yieldGrams yields the characters of word and the pairs of neighbours among them.
func yieldGrams(word string, yield func(string) bool) bool {
	previous := -1
	for i, r := range word {
		size := utf8.RuneLen(r)
		if !yield(word[i:i+size]) || previous >= 0 && !yield(word[previous:i+size]) {
			return false
		}
		previous = i
	}
	return true
}

// fold maps all runes that differ only in case to one of them (Unicode simple case folding), so that ς, σ and Σ are
// the same letter, and K (kelvin) is k.
func fold(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	least := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		least = min(least, other)
	}
	return unicode.ToLower(least)
}

// terms yields the term of each word of text that is not a stop word.
func terms(text string) iter.Seq[term] {
	return func(yield func(term) bool) {
		for word := range words(text) {
			if !stopWords[word] && !yield(term(hash(stem(word))>>(64-termBits))) {
				return
			}
		}
	}
}

// lexicalVector returns the BM25 weights of a chunk's terms, sorted by term, without the inverse document frequency,
// which is the query's part: tf·(k1+1) / (tf + k1·(1-b+b·length/average)) with k1 = 1.5 and b = 0.75 (Robertson and
// Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009).
func lexicalVector(heading, text string) []weightedTerm {
	var found []term
	for t := range terms(heading) {
		for range headingBoost {
			found = append(found, t)
		}
	}
	found = slices.AppendSeq(found, terms(text))
	norm := 1.5 * (0.25 + 0.75*float64(len(found))/averageLength)
	distinct, counts := countTerms(found)
	vector := make([]weightedTerm, len(distinct))
	for i, tf := range counts {
		vector[i] = weightedTerm{distinct[i], float32(tf * 2.5 / (tf + norm))}
	}
	return vector
}

// queryTerms returns the different terms of a query, sorted, and how often each is asked for.
func queryTerms(text string) (query []term, counts []float64) {
	return countTerms(slices.Collect(terms(text)))
}

// countTerms sorts terms and returns the different ones, and how often each is there.
func countTerms(found []term) (distinct []term, counts []float64) {
	slices.Sort(found)
	for i, t := range found {
		if i == 0 || t != found[i-1] {
			distinct, counts = append(distinct, t), append(counts, 0)
		}
		counts[len(counts)-1]++
	}
	return distinct, counts
}

// idf is the weight of a query's term that df of n chunks contain.
func idf(df, n int) float64 {
	return math.Log(1 + (float64(n-df)+0.5)/(float64(df)+0.5))
}

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

// hash is FNV-1a (64 bits) followed by a multiplication that spreads the last bytes over the high bits too.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 32
	return h * 0x9e3779b97f4a7c15
}

// stopWords carry no subject in English; leaving them out won .02 nDCG@10.
var stopWords = func() map[string]bool {
	set := make(map[string]bool)
	for word := range strings.FieldsSeq(`a about after all also am an and any are as at be because been before being
		between both but by can could did do does doing during each few for from further had has have having he her here
		hers him his how i if in into is it its itself just me more most my no nor not now of off on once only or other
		our out over own same she should so some such than that the their them then there these they this those through
		to too under until up very was we were what when where which while who whom why will with would you your`) {
		set[word] = true
	}
	return set
}()

// stem is Porter's algorithm with the two departures of its author's own implementation (M. F. Porter, "An algorithm
// for suffix stripping", Program 14(3), 1980). Words that are not plain lower-case English letters stay as they are.
func stem(w string) string {
	if len(w) < 3 || strings.IndexFunc(w, func(r rune) bool { return r < 'a' || r > 'z' }) >= 0 {
		return w
	}
	w = stemInflection(w)
	if s, ok := strings.CutSuffix(w, "y"); ok && hasVowel(s) {
		w = s + "i"
	}
	w = replaceSuffix(w, doubleSuffixes, 0)
	w = replaceSuffix(w, fullSuffixes, 0)
	if s, ok := strings.CutSuffix(w, "ion"); ok && measure(s) > 1 && strings.ContainsRune("st", rune(s[len(s)-1])) {
		w = s
	} else {
		w = replaceSuffix(w, residualSuffixes, 1)
	}
	if s, ok := strings.CutSuffix(w, "e"); ok {
		if m := measure(s); m > 1 || m == 1 && !endsShort(s) {
			w = s
		}
	}
	if strings.HasSuffix(w, "ll") && measure(w) > 1 {
		w = w[:len(w)-1]
	}
	return w
}

// stemInflection takes plurals, -ed and -ing away (steps 1a and 1b).
func stemInflection(w string) string {
	switch {
	case strings.HasSuffix(w, "sses"), strings.HasSuffix(w, "ies"):
		w = w[:len(w)-2]
	case strings.HasSuffix(w, "s") && !strings.HasSuffix(w, "ss"):
		w = w[:len(w)-1]
	}
	if s, ok := strings.CutSuffix(w, "eed"); ok {
		if measure(s) > 0 {
			w = s + "ee"
		}
		return w
	}
	s, ok := strings.CutSuffix(w, "ed")
	if !ok {
		s, ok = strings.CutSuffix(w, "ing")
	}
	if !ok || !hasVowel(s) {
		return w
	}
	last := s[len(s)-1]
	switch {
	case strings.HasSuffix(s, "at"), strings.HasSuffix(s, "bl"), strings.HasSuffix(s, "iz"):
		return s + "e"
	case len(s) > 1 && last == s[len(s)-2] && isConsonant(s, len(s)-1) && !strings.ContainsRune("lsz", rune(last)):
		return s[:len(s)-1]
	case measure(s) == 1 && endsShort(s):
		return s + "e"
	}
	return s
}

// Pairs of suffix and replacement; among suffixes that end alike the longer comes first.
var (
	doubleSuffixes = [][2]string{
		{"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"}, {"anci", "ance"}, {"izer", "ize"}, {"bli", "ble"},
		{"alli", "al"}, {"entli", "ent"}, {"eli", "e"}, {"ousli", "ous"}, {"ization", "ize"}, {"ation", "ate"},
		{"ator", "ate"}, {"alism", "al"}, {"iveness", "ive"}, {"fulness", "ful"}, {"ousness", "ous"}, {"aliti", "al"},
		{"iviti", "ive"}, {"biliti", "ble"}, {"logi", "log"},
	}
	fullSuffixes = [][2]string{
		{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"}, {"ical", "ic"}, {"ful", ""}, {"ness", ""},
	}
	residualSuffixes = [][2]string{
		{"al", ""}, {"ance", ""}, {"ence", ""}, {"er", ""}, {"ic", ""}, {"able", ""}, {"ible", ""}, {"ant", ""}, {"ement", ""},
		{"ment", ""}, {"ent", ""}, {"ou", ""}, {"ism", ""}, {"ate", ""}, {"iti", ""}, {"ous", ""}, {"ive", ""}, {"ize", ""},
	}
)

// replaceSuffix replaces the first suffix that w has if what is left measures more than least.
func replaceSuffix(w string, suffixes [][2]string, least int) string {
	for _, pair := range suffixes {
		if s, ok := strings.CutSuffix(w, pair[0]); ok {
			if measure(s) > least {
				return s + pair[1]
			}
			return w
		}
	}
	return w
}

// measure counts the vowel-consonant sequences of w: Porter's m.
func measure(w string) int {
	m := 0
	for i := 1; i < len(w); i++ {
		if isConsonant(w, i) && !isConsonant(w, i-1) {
			m++
		}
	}
	return m
}

func isConsonant(w string, i int) bool {
	switch w[i] {
	case 'a', 'e', 'i', 'o', 'u':
		return false
	case 'y':
		return i == 0 || !isConsonant(w, i-1)
	}
	return true
}

func hasVowel(w string) bool {
	for i := range len(w) {
		if !isConsonant(w, i) {
			return true
		}
	}
	return false
}

// endsShort reports whether w ends consonant, vowel, consonant and the last is not w, x or y.
func endsShort(w string) bool {
	n := len(w)
	return n >= 3 && isConsonant(w, n-1) && !isConsonant(w, n-2) && isConsonant(w, n-3) &&
		!strings.ContainsRune("wxy", rune(w[n-1]))
}
