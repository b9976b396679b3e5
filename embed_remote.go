package main

// Any OpenAI-compatible embeddings API: batches, retries, a cache of questions, and what to do while it is away.

import (
	"bytes"
	"container/list"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

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
	breaker breaker
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

func (e *remoteEmbedder) model() string      { return e.cfg.embeddingModel }
func (e *remoteEmbedder) dimensions() int    { return int(e.learned.Load()) }
func (e *remoteEmbedder) minCosine() float64 { return e.cfg.embeddingMinCosine }
func (e *remoteEmbedder) worthReusing() bool { return true }

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
			if vectors, v.err = e.callWithRetry(ctx, []string{e.cfg.embeddingQueryPrefix + text}, 2); v.err == nil {
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
	spanAttrs(ctx, slog.String("vitrine.embedding.cache", outcome))
	logAttrs(ctx, slog.String("cache", outcome))
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
	got, err := e.callWithRetry(batch, texts, 8)
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

// callWithRetry calls until it succeeds, is refused for good, has tried that often, ctx would end before the next attempt, or
// the API is away: then those who want a vector do without, and embedMissing comes back to it.
func (e *remoteEmbedder) callWithRetry(ctx context.Context, texts []string, attempts int) ([][]float32, error) {
	backoff := 500 * time.Millisecond
	for attempt := 1; ; attempt++ {
		if !e.breaker.allow(time.Now()) {
			return nil, errEmbedderAway
		}
		vectors, err := e.call(ctx, texts)
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, ctx.Err()
		}
		refused, _ := errors.AsType[refusalError](err)
		temporary := err != nil && refused.temporary()
		isAway := false
		if temporary && refused.status != http.StatusTooManyRequests {
			isAway = e.breaker.failed(time.Now())
		} else {
			e.breaker.succeeded()
		}
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
	spanAttrs(ctx, slog.Int("gen_ai.usage.input_tokens", tokens))
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
		if err := e.setDimensions(len(v)); err != nil {
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

// setDimensions takes the vectors' length from the first one, and wants the same of all others.
func (e *remoteEmbedder) setDimensions(length int) error {
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
