package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
)

// TestPostgresRanksLikeMemory compares the two stores on the manual in testdata, or on the set that EVAL_DIR names.
func TestPostgresRanksLikeMemory(t *testing.T) {
	set := manualSet(t)
	if dir := os.Getenv("EVAL_DIR"); dir != "" {
		set = directorySet(t, dir)
	}
	m := newMemory(nil, 0.5)
	p := openPostgres(t, newDatabase(t))
	for _, st := range []store{m, p} {
		if _, err := st.folderIDs(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := st.sync(t.Context(), time.Now(), set.documents, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.analyze(t.Context()); err != nil {
		t.Fatal(err)
	}
	want, got := set.measure(t, m), set.measure(t, p)
	t.Logf("%d documents, %d questions\nmemory:   %v\npostgres: %v", len(set.documents), len(set.questions), want, got)
	for _, difference := range []float64{got.ndcg10 - want.ndcg10, got.recall10 - want.recall10, got.recall100 - want.recall100, got.mrr10 - want.mrr10} {
		if difference > .01 || difference < -.01 {
			t.Errorf("the stores rank differently: %v and %v", want, got)
		}
	}
}

// syntheticQuery makes a question of 2 to 7 words as syntheticDocuments has them.
func syntheticQueries() func() string {
	source := rand.New(rand.NewPCG(3, 4))
	zipf := rand.NewZipf(source, 1.1, 20, 50_000)
	return func() string {
		text := ""
		for range 2 + source.IntN(6) {
			text += syntheticWord(zipf.Uint64()) + " "
		}
		return text
	}
}

// BenchmarkPostgres loads 100,000 chunks, builds the indexes, and searches with and without a prefix that a twentieth of
// the documents has: go test -run '^$' -bench Postgres -benchtime 300x -timeout 30m .
func BenchmarkPostgres(b *testing.B) {
	p := openPostgres(b, newDatabase(b))
	loadSynthetic(b, p, 10_000)
	for _, prefix := range []string{"", "part07/"} {
		b.Run("search/prefix="+prefix, func(b *testing.B) {
			next := syntheticQueries()
			var took []time.Duration
			for b.Loop() {
				started := time.Now()
				if _, _, err := p.search(b.Context(), query{text: next(), prefix: prefix, limit: 10}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(started))
			}
			slices.Sort(took)
			b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
			b.ReportMetric(milliseconds(took[len(took)*95/100]), "p95-ms")
		})
	}
}

// loadSynthetic loads n documents of ten chunks as a scan does, and builds the indexes.
func loadSynthetic(b *testing.B, p *postgres, n int) {
	documents := syntheticDocuments(n)
	ctx := context.WithoutCancel(b.Context())
	if _, err := p.folderIDs(ctx); err != nil {
		b.Fatal(err)
	}
	started := time.Now()
	batches, failures := make(chan []*document), make(chan error)
	for range runtime.GOMAXPROCS(0) {
		go func() {
			var failure error
			for batch := range batches {
				if failure == nil {
					failure = p.sync(ctx, started, batch, nil)
				}
			}
			failures <- failure
		}()
	}
	for batch := range slices.Chunk(documents, 32) {
		batches <- batch
	}
	close(batches)
	for range runtime.GOMAXPROCS(0) {
		if err := <-failures; err != nil {
			b.Fatal(err)
		}
	}
	loaded := time.Since(started)
	for _, finish := range []func(context.Context) error{p.analyze, p.buildIndexes} {
		if err := finish(ctx); err != nil {
			b.Fatal(err)
		}
	}
	total := time.Since(started)
	_, chunks, err := p.size(ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d chunks: loaded in %v, analyzed and indexed after %v: %.0f chunks/s", chunks, loaded, total, float64(chunks)/total.Seconds())
}

var _ = fmt.Sprint
