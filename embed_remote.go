package main

// The embedder for OpenAI-compatible embeddings APIs: batches, retries, a circuit breaker and a cache of query vectors.
// A single call of the API is in embed_api.go.

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// queryBudget is how long a search waits for the vector of its query. Then it ranks only by words.
	queryBudget = 3 * time.Second

	// maxBatchBytes limits the bytes of one call, as EMBEDDING_BATCH limits its texts: models limit the tokens of a call.
	maxBatchBytes = 100_000

	// maxCachedQueries is the size of the cache: 12 MB with vectors of 1,536 dimensions.
	maxCachedQueries = 2000

	maxQueryAttempts = 2

	// maxBatchAttempts matters only for rate limits (429). Other failures open the breaker long before.
	maxBatchAttempts = 8

	// The pause before a retry doubles from minBackoff up to maxBackoff.
	minBackoff = 500 * time.Millisecond
	maxBackoff = 8 * time.Second
)

// remoteEmbedder embeds texts with an OpenAI-compatible embeddings API.
type remoteEmbedder struct {
	cfg          *settings
	client       *http.Client
	breaker      breaker
	queryCache   *vectorCache
	batchSlots   chan struct{} // a batch in flight holds a slot
	vectorLength atomic.Int64  // 0 until it is known
}

// newRemoteEmbedder returns the embedder for the API of cfg. It does not call the API: see check.
func newRemoteEmbedder(cfg *settings) *remoteEmbedder {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = cfg.embeddingConcurrency + 1 // for a query beside the batches

	e := &remoteEmbedder{
		cfg:        cfg,
		client:     &http.Client{Transport: transport, CheckRedirect: refuseRedirect},
		queryCache: newVectorCache(maxCachedQueries),
		batchSlots: make(chan struct{}, cfg.embeddingConcurrency),
	}
	e.vectorLength.Store(int64(cfg.embeddingDimensions))
	return e
}

func (e *remoteEmbedder) minCosine() float64 { return e.cfg.embeddingMinCosine }
func (e *remoteEmbedder) worthReusing() bool { return true }

// probe asks the API for the vector of one word once a second while it is away, until ctx ends. Requests never do. The
// API must answer in the time that a search waits for it.
func (e *remoteEmbedder) probe(ctx context.Context, log *slog.Logger, back func()) {
	ask := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, queryBudget)
		defer cancel()
		_, err := e.call(ctx, []string{e.cfg.embeddingQueryPrefix + "vitrine"})
		if err == nil || !isTemporary(err) {
			e.breaker.answered()
		}
	}
	away := func(cause string) {
		log.WarnContext(ctx, "embedding API is away", "error", cause)
	}
	e.breaker.probe(ctx, ask, away, func() {
		log.InfoContext(ctx, "embedding API answers again")
		back()
	})
}

// available returns an error that wraps errUnavailable while the API is known to be away.
func (e *remoteEmbedder) available() error {
	open, cause := e.breaker.isOpen()
	if !open {
		return nil
	}
	return fmt.Errorf("%w: the embedding API does not answer and is asked once a second: %s", errUnavailable, cause)
}

// check embeds one word. A temporary error wraps errUnavailable; any other error points to the settings.
func (e *remoteEmbedder) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryBudget)
	defer cancel()

	input := e.cfg.embeddingQueryPrefix + "vitrine"
	_, err := e.call(ctx, []string{input})
	switch {
	case err == nil:
		return nil
	case isTemporary(err):
		return fmt.Errorf("%w: embedding API: %w", errUnavailable, err)
	}
	return fmt.Errorf("embedding API: %w: check EMBEDDING_URL (it ends in /v1/embeddings), "+
		"EMBEDDING_MODEL, EMBEDDING_API_KEY and EMBEDDING_DIMENSIONS", err)
}

// query returns the vector of a question, from the cache if it is there. Requests that ask the same question at the
// same time share one call (single flight). If the request that makes the call is cancelled, one of the others calls instead.
func (e *remoteEmbedder) query(ctx context.Context, text string) (_ []float32, err error) {
	ctx, end := stage(ctx, stageEmbed, embeddingAttrs(e.model(), "query")...)
	defer end(&err)
	ctx, cancel := context.WithTimeout(ctx, queryBudget)
	defer cancel()

	for {
		entry, isNew := e.queryCache.getOrAdd(text)
		if isNew {
			reportCacheResult(ctx, "miss")
			e.fill(ctx, entry)
			return entry.vector, entry.err
		}

		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-entry.ready:
		}
		if errors.Is(entry.err, context.Canceled) {
			continue
		}
		reportCacheResult(ctx, "hit")
		return entry.vector, entry.err
	}
}

// fill asks the API for the vector of a new entry. Requests that already wait for the entry share its error; later ones
// call again.
func (e *remoteEmbedder) fill(ctx context.Context, entry *cachedVector) {
	var vectors [][]float32
	err := e.available()
	if err == nil {
		input := e.cfg.embeddingQueryPrefix + entry.text
		vectors, err = e.callWithRetry(ctx, []string{input}, maxQueryAttempts)
	}
	if err != nil {
		entry.err = err
		e.queryCache.remove(entry)
	} else {
		entry.vector = vectors[0]
	}
	close(entry.ready)
}

// reportCacheResult adds the result, hit or miss, to the span and the log line.
func reportCacheResult(ctx context.Context, result string) {
	spanAttrs(ctx, slog.String("vitrine.embedding.cache", result))
	logAttrs(ctx, slog.String("cache", result))
}

// documents embeds texts in batches, up to EMBEDDING_CONCURRENCY of them at once.
func (e *remoteEmbedder) documents(ctx context.Context, texts []string) ([][]float32, error) {
	inputs := make([]string, len(texts))
	for i, text := range texts {
		inputs[i] = e.cfg.embeddingDocumentPrefix + text
	}

	vectors := make([][]float32, len(texts))
	var jobs []func() error
	for start := 0; start < len(inputs); {
		size := e.batchSize(inputs[start:])
		batch := inputs[start : start+size]
		batchVectors := vectors[start : start+size]
		jobs = append(jobs, func() error {
			return e.embedBatch(ctx, batch, batchVectors)
		})
		start += size
	}
	return vectors, inParallel(ctx, e.batchSlots, jobs)
}

// batchSize returns how many of inputs make up the first batch: at least one, however long it is.
func (e *remoteEmbedder) batchSize(inputs []string) int {
	maxSize := min(len(inputs), e.cfg.embeddingBatch)
	batchBytes := len(inputs[0])
	for size := 1; size < maxSize; size++ {
		batchBytes += len(inputs[size])
		if batchBytes > maxBatchBytes {
			return size
		}
	}
	return maxSize
}

// embedBatch fills vectors with the vectors of inputs. A rejected batch is too large or contains a text that the API
// refuses. embedBatch halves it and tries again, so that in the end only such texts have no vector.
func (e *remoteEmbedder) embedBatch(ctx context.Context, inputs []string, vectors [][]float32) error {
	attrs := batchAttrs(e.model(), len(inputs))
	stageCtx, end := stage(ctx, stageEmbed, attrs...)
	results, err := e.callWithRetry(stageCtx, inputs, maxBatchAttempts)
	end(&err)

	if len(inputs) > 1 && mayAcceptFewer(err) {
		middle := len(inputs) / 2
		return errors.Join(
			e.embedBatch(ctx, inputs[:middle], vectors[:middle]),
			e.embedBatch(ctx, inputs[middle:], vectors[middle:]),
		)
	}
	if err != nil {
		return fmt.Errorf("embedding %d texts: %w", len(inputs), err)
	}
	copy(vectors, results)
	return nil
}

// callWithRetry calls the API until it succeeds. It gives up on an error that is not temporary, after maxAttempts, if
// ctx would end before the next attempt, and when the breaker opens. Its callers then go on without vectors, and a
// background job embeds the documents later.
func (e *remoteEmbedder) callWithRetry(
	ctx context.Context, inputs []string, maxAttempts int,
) ([][]float32, error) {
	backoff := minBackoff
	for attempt := 1; ; attempt++ {
		began := time.Now()
		vectors, err := e.call(ctx, inputs)
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, ctx.Err() // not the API's failure: the breaker must not count it
		}
		isOpen := e.countOutcome(began, err)
		if err == nil {
			return vectors, nil
		}
		if !isTemporary(err) || isOpen || attempt == maxAttempts {
			return nil, err
		}

		wait := retryDelay(err, backoff)
		if endsBefore(ctx, wait) {
			return nil, err
		}
		if !pause(ctx, wait) {
			return nil, ctx.Err()
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// countOutcome tells the breaker how a call that began at began has ended, and reports whether the breaker is open now. An
// answer such as 401 or 429 closes it, because it shows that the API works. An answer that comes too late for a search
// does not close it.
func (e *remoteEmbedder) countOutcome(began time.Time, err error) (isOpen bool) {
	_, isAnswer := errors.AsType[apiError](err)
	isLate := time.Since(began) > queryBudget
	switch {
	case isOutage(err) && isTimeout(err):
		return e.breaker.timedOut(began, queryBudget, err)
	case isOutage(err):
		return e.breaker.refused(err)
	case isLate && (err == nil || isAnswer):
		e.breaker.heard()
	default:
		e.breaker.answered()
	}
	isOpen, _ = e.breaker.isOpen()
	return isOpen
}

// retryDelay is how long to wait after err: as long as the API asks for, but at most maxRetryAfter; else backoff with up to
// 50 % of jitter.
func retryDelay(err error, backoff time.Duration) time.Duration {
	apiErr, _ := errors.AsType[apiError](err)
	if apiErr.retryAfter > 0 {
		return apiErr.retryAfter
	}
	return backoff + rand.N(backoff/2)
}

// endsBefore reports whether ctx has a deadline that comes before wait is over.
func endsBefore(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < wait
}

// vectorCache keeps the vectors of the maxEntries most recently used texts (LRU). An entry is added before it has its
// vector, so that later requests find it and wait instead of calling the API again.
type vectorCache struct {
	maxEntries int

	mu      sync.Mutex
	byText  map[string]*list.Element
	recency list.List // of *cachedVector, the last used first
}

// cachedVector has either a vector or an error once ready is closed. Only the request that added it writes to it.
type cachedVector struct {
	text   string
	ready  chan struct{}
	vector []float32
	err    error
}

func newVectorCache(maxEntries int) *vectorCache {
	return &vectorCache{
		maxEntries: maxEntries,
		byText:     make(map[string]*list.Element),
	}
}

// getOrAdd returns the entry of text. The caller must set the vector or error of a new entry, then close ready.
func (c *vectorCache) getOrAdd(text string) (entry *cachedVector, isNew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if element := c.byText[text]; element != nil {
		c.recency.MoveToFront(element)
		return element.Value.(*cachedVector), false
	}

	entry = &cachedVector{
		text:  text,
		ready: make(chan struct{}),
	}
	c.byText[text] = c.recency.PushFront(entry)
	if c.recency.Len() > c.maxEntries {
		oldest := c.recency.Remove(c.recency.Back()).(*cachedVector)
		delete(c.byText, oldest.text)
	}
	return entry, true
}

// remove deletes entry, unless it has been evicted: its text may have a newer entry by now.
func (c *vectorCache) remove(entry *cachedVector) {
	c.mu.Lock()
	defer c.mu.Unlock()

	element := c.byText[entry.text]
	if element == nil || element.Value != entry {
		return
	}
	c.recency.Remove(element)
	delete(c.byText, entry.text)
}
