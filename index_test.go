package main

// Benchmarks of the embedded store on documents that are made up.

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// syntheticDocuments returns n documents of ten chunks. Their words follow Zipf's law, as the words
// of real text do.
func syntheticDocuments(n int) []*document {
	source := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(source, 1.1, 20, 50_000)

	documents := make([]*document, 0, n)
	for i := range n {
		var text strings.Builder
		fmt.Fprintf(&text, "# Document %d\n", i)
		for section := range 10 {
			fmt.Fprintf(&text, "\n## Section %d\n\n", section)
			for range 130 {
				text.WriteString(syntheticWord(zipf.Uint64()))
				text.WriteByte(' ')
			}
		}

		id := fmt.Sprintf("part%02d/doc%05d.md", i%20, i)
		d, err := newDocument(id, text.String(), time.Now())
		if err != nil {
			panic(err)
		}
		documents = append(documents, d)
	}
	return documents
}

// syntheticWord returns a word that is different for each n: n in base 70, a syllable a digit.
func syntheticWord(n uint64) string {
	word := ""
	for {
		word += string("bdfgklmnprstvz"[n%14]) + string("aeiou"[n/14%5])
		n /= 70
		if n == 0 {
			return word
		}
	}
}

func heapBytes() uint64 {
	for range 2 {
		runtime.GC() // the second one empties the pools
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// reportPercentiles reports the median and one more percentile of durations.
func reportPercentiles(b *testing.B, durations []time.Duration, percentile int) {
	b.Helper()
	slices.Sort(durations)
	n := len(durations)
	b.ReportMetric(milliseconds(durations[n/2]), "p50-ms")
	b.ReportMetric(milliseconds(durations[n*percentile/100]), fmt.Sprintf("p%d-ms", percentile))
}

// BenchmarkSearch searches with and without a prefix that a twentieth of the documents has:
// go test -run '^$' -bench Search -cpu 1 .
func BenchmarkSearch(b *testing.B) {
	for _, chunks := range []int{10_000, 100_000} {
		m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
		err := m.sync(b.Context(), time.Now(), syntheticDocuments(chunks/10), nil)
		if err != nil {
			b.Fatal(err)
		}

		for _, prefix := range []string{"", "part07/"} {
			b.Run(fmt.Sprintf("chunks=%d/prefix=%s", chunks, prefix), func(b *testing.B) {
				benchmarkSearch(b, m, prefix)
			})
		}
	}
}

// benchmarkSearch searches for two to seven words a query.
func benchmarkSearch(b *testing.B, m *memory, prefix string) {
	source := rand.New(rand.NewPCG(3, 4))
	zipf := rand.NewZipf(source, 1.1, 20, 50_000)

	var durations []time.Duration
	for b.Loop() {
		text := ""
		for range 2 + source.IntN(6) {
			text += syntheticWord(zipf.Uint64()) + " "
		}

		started := time.Now()
		_, err := m.search(b.Context(), query{text: text, prefix: prefix, limit: 10})
		if err != nil {
			b.Fatal(err)
		}
		durations = append(durations, time.Since(started))
	}
	reportPercentiles(b, durations, 95)
}

// BenchmarkIndex reports how fast one core indexes documents, and how much memory a chunk takes
// beside its text: go test -run '^$' -bench Index -cpu 1 .
func BenchmarkIndex(b *testing.B) {
	documents := syntheticDocuments(500)
	before := heapBytes()
	for b.Loop() {
		m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())

		started := time.Now()
		err := m.sync(b.Context(), time.Now(), documents, nil)
		if err != nil {
			b.Fatal(err)
		}
		chunks := m.status().chunks
		b.ReportMetric(float64(chunks)/time.Since(started).Seconds(), "chunks/s")

		b.StopTimer()
		b.ReportMetric(float64(heapBytes()-before)/float64(chunks), "bytes/chunk")
		b.StartTimer()
		runtime.KeepAlive(m)
	}
}

// BenchmarkSearchDuringPuts searches 10,000 chunks while a writer replaces documents without a
// pause: go test -run '^$' -bench DuringPuts .
func BenchmarkSearchDuringPuts(b *testing.B) {
	for _, writers := range []int{0, 1} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			benchmarkSearchDuringPuts(b, writers)
		})
	}
}

func benchmarkSearchDuringPuts(b *testing.B, writers int) {
	m := newMemory(&folder{roots: []docsRoot{{dir: b.TempDir()}}}, hashedEmbedder{}, 0.5, quietObserver())
	documents := syntheticDocuments(1000)
	if err := m.sync(b.Context(), time.Now(), documents, nil); err != nil {
		b.Fatal(err)
	}

	ctx, cancel := context.WithCancel(b.Context())
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				d := documents[i%len(documents)]
				_, err := m.put(context.Background(), d, precondition{})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}

	var durations []time.Duration
	for b.Loop() {
		started := time.Now()
		_, err := m.search(b.Context(), query{text: "badena kosu", limit: 10})
		if err != nil {
			b.Fatal(err)
		}
		durations = append(durations, time.Since(started))
	}
	cancel()
	writing.Wait()
	reportPercentiles(b, durations, 99)
}
