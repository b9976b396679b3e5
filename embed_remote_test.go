package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func newTestEmbedder(t testing.TB, f *fakeEmbedder, env ...string) *remoteEmbedder {
	t.Helper()
	e := newRemoteEmbedder(testSettings(t, f.env(env...)...))
	go e.probe(t.Context(), slog.New(slog.DiscardHandler), func() {})
	return e
}

// numberedTexts returns n different texts.
func numberedTexts(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf("text number%d", i)
	}
	return texts
}

// wantVectors checks that got are the unit vectors of texts, each after prefix.
func wantVectors(t *testing.T, f *fakeEmbedder, prefix string, texts []string, got [][]float32) {
	t.Helper()
	for i, text := range texts {
		want := f.vector(prefix + text)
		normalize(want)
		if !slices.Equal(got[i], want) {
			t.Fatalf("vector of %q is %v, want %v", text, got[i], want)
		}
	}
}

func TestDocumentsAreEmbeddedInBatches(t *testing.T) {
	f := newFakeEmbedder(t, 6)
	e := newTestEmbedder(t, f,
		"EMBEDDING_BATCH=8",
		"EMBEDDING_DOCUMENT_PREFIX=passage: ",
		"EMBEDDING_QUERY_PREFIX=query: ",
		"EMBEDDING_API_KEY=secret",
		"EMBEDDING_DIMENSIONS=6")
	texts := append(numberedTexts(20), strings.Repeat("long ", maxBatchBytes/5), "after the long one")
	got, err := e.documents(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	wantVectors(t, f, "passage: ", texts, got)
	for _, batch := range f.asked() {
		size := len(strings.Join(batch, ""))
		if len(batch) > 8 || len(batch) > 1 && size > maxBatchBytes {
			t.Errorf("a batch of %d texts, %d bytes", len(batch), size)
		}
	}

	if _, err := e.query(t.Context(), "what"); err != nil {
		t.Fatal(err)
	}
	last := f.calls[len(f.calls)-1]
	if last.Input[0] != "query: what" ||
		last.Dimensions != 6 ||
		last.Model != "fake" ||
		last.Format != "base64" ||
		last.header.Get("Authorization") != "Bearer secret" {
		t.Errorf("asked %+v", last)
	}
}

func TestEmbedderUnderstandsNumbersToo(t *testing.T) {
	f := newFakeEmbedder(t, 6)
	f.set(func(w http.ResponseWriter, _ *http.Request, in fakeRequest) bool {
		var vectors [][]float32
		for _, text := range in.Input {
			vectors = append(vectors, f.vector(text))
		}
		writeVectors(w, "float", vectors)
		return true
	})
	got, err := newTestEmbedder(t, f).documents(t.Context(), numberedTexts(3))
	if err != nil {
		t.Fatal(err)
	}
	wantVectors(t, f, "", numberedTexts(3), got)
}

// TestEmbedderSurvivesRefusals embeds a batch of eight texts, the sixth of which is bad: some APIs refuse a call because
// of it. Others refuse one call, or all calls.
func TestEmbedderSurvivesRefusals(t *testing.T) {
	t.Parallel()
	const bad = "text number5"
	ifBad := func(answer fakeAnswer) fakeAnswer {
		return func(w http.ResponseWriter, r *http.Request, in fakeRequest) bool {
			return slices.Contains(in.Input, bad) && answer(w, r, in)
		}
	}
	once := func(answer fakeAnswer) fakeAnswer {
		var done atomic.Bool
		return func(w http.ResponseWriter, r *http.Request, in fakeRequest) bool {
			return !done.Swap(true) && answer(w, r, in)
		}
	}
	tooMany := func(w http.ResponseWriter, r *http.Request, in fakeRequest) bool {
		return len(in.Input) > 2 && refuse(http.StatusUnprocessableEntity)(w, r, in)
	}
	noJSON := func(w http.ResponseWriter, _ *http.Request, _ fakeRequest) bool {
		fmt.Fprint(w, "<html>")
		return true
	}
	cutConnection := func(http.ResponseWriter, *http.Request, fakeRequest) bool {
		panic(http.ErrAbortHandler)
	}

	// vectors answers with changed vectors.
	vectors := func(change func(v [][]float32) [][]float32) fakeAnswer {
		return func(w http.ResponseWriter, _ *http.Request, in fakeRequest) bool {
			v := slices.Repeat([][]float32{{1, 2, 3, 4, 5, 6}}, len(in.Input))
			writeVectors(w, "base64", change(v))
			return true
		}
	}
	tooFew := func(v [][]float32) [][]float32 {
		return v[1:]
	}
	oneTooShort := func(v [][]float32) [][]float32 {
		return append(v[1:], []float32{1})
	}
	number := func(x float64) func(v [][]float32) [][]float32 {
		return func(v [][]float32) [][]float32 {
			v[0] = []float32{1, 2, float32(x), 4, 5, 6}
			return v
		}
	}

	all := []int{0, 1, 2, 3, 4, 5, 6, 7}
	for _, test := range []struct {
		name    string
		answer  fakeAnswer
		missing []int // texts without a vector
		minWait time.Duration
	}{
		{"400 for one text", ifBad(refuse(400)), []int{5}, 0},
		{"413 for one text", ifBad(refuse(413)), []int{5}, 0},
		{"422 for more than two", tooMany, nil, 0},
		{"429 with Retry-After", once(refuse(429, "Retry-After", "1")), nil, time.Second},
		{"429 with Retry-After-Ms", once(refuse(429, "Retry-After-Ms", "20")), nil, 20 * time.Millisecond},
		{"500 once", once(refuse(500)), nil, 500 * time.Millisecond},
		{"401", refuse(401), all, 0},
		{"too few vectors", ifBad(vectors(tooFew)), []int{5}, 0},
		{"a vector of another length", ifBad(vectors(oneTooShort)), []int{5}, 0},
		{"NaN", ifBad(vectors(number(math.NaN()))), []int{5}, 0},
		{"infinity", ifBad(vectors(number(math.Inf(1)))), []int{5}, 0},
		{"no JSON", ifBad(noJSON), []int{5}, 0},
		{"a cut connection once", once(cutConnection), nil, 500 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeEmbedder(t, 6)
			f.set(test.answer)
			e := newTestEmbedder(t, f, "EMBEDDING_DIMENSIONS=6")

			started := time.Now()
			got, err := e.documents(t.Context(), numberedTexts(8))
			if (err != nil) != (test.missing != nil) {
				t.Errorf("error is %v", err)
			}
			if took := time.Since(started); took < test.minWait {
				t.Errorf("waited %v, want at least %v", took, test.minWait)
			}
			if len(got) != 8 {
				t.Errorf("%d vectors for 8 texts", len(got))
			}
			for i, v := range got {
				if (v == nil) != slices.Contains(test.missing, i) {
					t.Errorf("vector %d is %v", i, v)
				}
			}
		})
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	f := newFakeEmbedder(t, 6)
	e := newTestEmbedder(t, f)
	if err := e.check(t.Context()); err != nil || e.dimensions() != 6 {
		t.Errorf("%d dimensions, %v", e.dimensions(), err)
	}

	tests := map[int]string{
		401: "EMBEDDING_API_KEY",
		404: "EMBEDDING_URL",
		503: "unavailable",
	}
	for status, want := range tests {
		f.set(refuse(status))
		err := newTestEmbedder(t, f).check(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", status, err)
		}
		if errors.Is(err, errUnavailable) != (status == 503) {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestEqualQueriesAreAskedOnce(t *testing.T) {
	f := newFakeEmbedder(t, 6)
	e := newTestEmbedder(t, f)
	release := make(chan struct{})
	f.set(func(http.ResponseWriter, *http.Request, fakeRequest) bool {
		<-release
		return false
	})

	var queries sync.WaitGroup
	for range 10 {
		queries.Go(func() {
			if v, err := e.query(t.Context(), "same"); err != nil || len(v) != 6 {
				t.Errorf("got %v, %v", v, err)
			}
		})
	}
	waitFor(t, "one asks", func() bool { return len(f.asked()) == 1 })
	close(release)
	queries.Wait()

	if _, err := e.query(t.Context(), "same"); err != nil || len(f.asked()) != 1 {
		t.Errorf("asked %d times, %v", len(f.asked()), err)
	}
}

func TestQueryIsAskedAgainIfTheFirstRequestIsCancelled(t *testing.T) {
	f := newFakeEmbedder(t, 6)
	e := newTestEmbedder(t, f)
	asked := make(chan struct{})
	var once sync.Once
	f.set(func(_ http.ResponseWriter, r *http.Request, _ fakeRequest) bool {
		isFirst := false
		once.Do(func() { isFirst = true })
		if isFirst {
			close(asked)
			<-r.Context().Done()
		}
		return isFirst
	})

	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := e.query(ctx, "same")
		first <- err
	}()
	<-asked

	second := make(chan error)
	go func() {
		_, err := e.query(t.Context(), "same")
		second <- err
	}()
	time.Sleep(20 * time.Millisecond) // lets the second wait for the first; if it is late, it just asks by itself
	cancel()

	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled request got %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the request that waited got %v", err)
	}
}

func TestQueryCacheIsBounded(t *testing.T) {
	c := newVectorCache(2)
	for _, text := range []string{"a", "b", "a", "c"} {
		c.getOrAdd(text)
	}
	if c.byText["a"] == nil || c.byText["b"] != nil || c.byText["c"] == nil {
		t.Errorf("the cache holds %v", c.byText)
	}
	if c.recency.Len() != 2 || len(c.byText) != 2 {
		t.Errorf("the cache holds %v", c.byText)
	}
}

// TestSearchIsLexicalWhileTheEmbedderIsAway stores a document while the API is away. In both stores it is found by its
// words at once, and by its vector once the API is back.
// TestEmbedderFailuresHaveNames asks an API once that fails in a way of its own.
func TestEmbedderFailuresHaveNames(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request, _ fakeRequest) bool {
		<-r.Context().Done()
		return true
	}
	cut := func(http.ResponseWriter, *http.Request, fakeRequest) bool { panic(http.ErrAbortHandler) }
	for name, test := range map[string]struct {
		answer fakeAnswer
		env    []string
		ended  bool // the caller has gone
		want   string
	}{
		"nobody listens":             {nil, []string{"EMBEDDING_URL=http://" + freeAddr(t) + "/v1"}, false, "connection"},
		"the name is unknown":        {nil, []string{"EMBEDDING_URL=http://none.invalid/v1"}, false, "connection"},
		"the connection is cut":      {cut, nil, false, "connection"},
		"there is no answer in time": {hang, nil, false, "timeout"},
		"the caller goes away":       {hang, nil, true, "canceled"},
		"the key is wrong":           {refuse(http.StatusUnauthorized), nil, false, "401"},
		"the API has no time":        {refuse(http.StatusServiceUnavailable), nil, false, "503"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeEmbedder(t, 6)
			f.set(test.answer)
			e := newRemoteEmbedder(testSettings(t, append(f.env(), test.env...)...))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if test.ended {
				cancel()
			}
			_, err := e.call(ctx, []string{"a text"})
			if got := outcome(err); got != test.want {
				t.Errorf("%q, want %q: %v", got, test.want, err)
			}
		})
	}
}

func TestSearchIsLexicalWhileTheEmbedderIsAway(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		f := newFakeEmbedder(t, 64)
		m := newMemory(&folder{roots: []docsRoot{{dir: t.TempDir()}}, observe: quietObserver()}, hashedEmbedder{}, 1, quietObserver())
		m.embedder = newTestEmbedder(t, f)
		testEmbedderAway(t, f, m, func() error {
			_, err := m.embedAgain(t.Context(), m.current.Load().entries...)
			return err
		})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f := newFakeEmbedder(t, 64)
		url := newDatabase(t)
		p := openPostgres(t, url, f.env()...)
		testEmbedderAway(t, f, p, func() error {
			return openPostgres(t, url, f.env()...).embedMissing(t.Context()) // after a restart
		})

		callsBefore := len(f.asked())
		if err := mark(t.Context(), p, "b.md", "lantern"); err != nil {
			t.Fatal(err)
		}
		if again := f.asked()[callsBefore:]; len(again) != 0 {
			t.Errorf("texts whose vectors are stored were embedded again: %q", again)
		}
	})
}

func testEmbedderAway(t *testing.T, f *fakeEmbedder, st store, embedMissing func() error) {
	f.set(refuse(503))
	if err := mark(t.Context(), st, "a.md", "lantern"); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		found, err := st.search(t.Context(), query{text: "lantern", limit: 5})
		if err != nil || !found.degraded || len(found.hits) != 1 {
			t.Fatalf("while it is away: %d found.hits, found.degraded %v, %v", len(found.hits), found.degraded, err)
		}
	}

	f.set(nil)
	waitFor(t, "the API is asked again", func() bool {
		found, err := st.search(t.Context(), query{text: "a lantern", limit: 5})
		return err == nil && !found.degraded && len(found.hits) == 1 && found.hits[0].Score < 1.5
	})

	if err := embedMissing(); err != nil {
		t.Fatal(err)
	}
	found, err := st.search(t.Context(), query{text: "lantern", limit: 5})
	if err != nil || len(found.hits) != 1 || found.hits[0].Score < 1.5 {
		t.Errorf("with its vector: %+v, %v", found.hits, err)
	}
}

func TestStoredDocumentsAreSearchedThoughTheEmbedderIsAwayAtStart(t *testing.T) {
	t.Parallel()
	f := newFakeEmbedder(t, 64)
	url := newDatabase(t)
	f.set(refuse(503))
	if err := unopenedPostgres(t, url, f.env()...).open(t.Context()); !errors.Is(err, errUnavailable) {
		t.Errorf("the schema was created without dimensions: %v", err)
	}
	f.set(nil)
	if err := mark(t.Context(), openPostgres(t, url, f.env()...), "a.md", "lantern"); err != nil {
		t.Fatal(err)
	}
	f.set(refuse(503))
	found, err := openPostgres(t, url, f.env()...).search(t.Context(), query{text: "lantern", limit: 5})
	if err != nil || !found.degraded || len(found.hits) != 1 {
		t.Errorf("%d found.hits, found.degraded %v, %v", len(found.hits), found.degraded, err)
	}
}

func TestHangingEmbedderDelaysOnlyTheFirstSearches(t *testing.T) {
	t.Parallel()
	f := newFakeEmbedder(t, 6)
	m := newMemory(&folder{roots: []docsRoot{{dir: t.TempDir()}}, observe: quietObserver()}, hashedEmbedder{}, 1, quietObserver())
	m.embedder = newTestEmbedder(t, f)
	if err := mark(t.Context(), m, "a.md", "lantern"); err != nil {
		t.Fatal(err)
	}
	f.set(func(_ http.ResponseWriter, r *http.Request, _ fakeRequest) bool {
		<-r.Context().Done()
		return true
	})

	var searches sync.WaitGroup
	for i := range 4 {
		searches.Go(func() {
			q := query{text: fmt.Sprintf("lantern %d", i), limit: 5}
			found, err := m.search(t.Context(), q)
			if err != nil || !found.degraded || len(found.hits) != 1 {
				t.Errorf("%d found.hits, found.degraded %v, %v", len(found.hits), found.degraded, err)
			}
		})
	}
	searches.Wait()

	started := time.Now()
	found, err := m.search(t.Context(), query{text: "lantern once more", limit: 5})
	if err != nil || !found.degraded {
		t.Errorf("found.degraded %v, %v", found.degraded, err)
	}
	if took := time.Since(started); took > queryBudget/2 {
		t.Errorf("took %v though the API is known to be away", took)
	}
}

func TestPipelineKeepsTheEmbedderBusy(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second and a half")
	}
	f := newFakeEmbedder(t, 32)
	const callTime = 100 * time.Millisecond
	f.set(func(http.ResponseWriter, *http.Request, fakeRequest) bool {
		time.Sleep(callTime)
		return false
	})
	e := newTestEmbedder(t, f)

	const batches = 48
	started := time.Now()
	if _, err := e.documents(t.Context(), numberedTexts(32*batches)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(started)

	ideal := callTime * batches / 4
	t.Logf("%.1f %% of the ideal throughput", 100*ideal.Seconds()/took.Seconds())
	if f.maxRunning != 4 {
		t.Errorf("%d calls at once, want EMBEDDING_CONCURRENCY", f.maxRunning)
	}
	if took > 2*ideal {
		t.Errorf("took %v, %v are ideal", took, ideal)
	}
}

func TestEmbeddingCallContinuesTheCallersTrace(t *testing.T) {
	f := newFakeEmbedder(t, 6)
	ts := newTestServer(t, f.env()...)
	const trace = "0af7651916cd43dd8448eb211c80319c"
	const callerSpan = "b7ad6b7169203331"
	const traceparent = "Traceparent: 00-" + trace + "-" + callerSpan + "-01"

	ts.get("/search?q=lantern", "X-Correlation-ID: one-id", traceparent, "Tracestate: a=1", "Tracestate: b=2")
	sent := f.calls[len(f.calls)-1].header
	parent := sent.Get("Traceparent")
	if !strings.HasPrefix(parent, "00-"+trace+"-") ||
		strings.Contains(parent, callerSpan) ||
		!strings.HasSuffix(parent, "-01") {
		t.Errorf("Traceparent %q", parent)
	}
	id := sent.Get("X-Correlation-ID")
	state := sent.Get("Tracestate")
	if id != "one-id" || state != "a=1,b=2" {
		t.Errorf("X-Correlation-ID %q, Tracestate %q", id, state)
	}

	tooLong := "Tracestate: a=1" + strings.Repeat(",", 600) + "b=2"
	ts.get("/search?q=flagon", traceparent, tooLong)
	state = f.calls[len(f.calls)-1].header.Get("Tracestate")
	if state != "" {
		t.Errorf("a Tracestate of more than 512 bytes is sent on: %.20q", state)
	}
}

// TestEmbeddingCommandOfTheRunbookRuns calls the API as the runbook says.
func TestEmbeddingCommandOfTheRunbookRuns(t *testing.T) {
	t.Parallel()
	f := newFakeEmbedder(t, 8)
	command := regexp.MustCompile(`(?m)^    (curl .*\$EMBEDDING_URL.*)$`).FindString(readFile(t, "RUNBOOK.md"))
	cmd := exec.Command("bash", "-c", command)
	cmd.Env = append(os.Environ(), f.env("EMBEDDING_API_KEY=key-of-the-api")...)
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), `"embedding":`) || !strings.Contains(string(out), "200 after ") {
		t.Fatalf("%s: %v %s", command, err, out)
	}
	calls := f.calls
	if len(calls) != 1 || calls[0].Model != "fake" || calls[0].header.Get("Authorization") != "Bearer key-of-the-api" {
		t.Errorf("the API was called with %+v", calls)
	}
}
