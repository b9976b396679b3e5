package main

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

// syntheticDocuments makes n documents of ten chunks whose words follow Zipf's law, as those of real text do.
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
		d, err := newDocument(fmt.Sprintf("part%02d/doc%05d.md", i%20, i), text.String(), time.Now())
		if err != nil {
			panic(err)
		}
		documents = append(documents, d)
	}
	return documents
}

// syntheticWord writes n in syllables.
func syntheticWord(n uint64) string {
	word := ""
	for {
		word += string("bdfgklmnprstvz"[n%14]) + string("aeiou"[n/14%5])
		if n /= 70; n == 0 {
			return word
		}
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// BenchmarkSearch reports the 50th and 95th percentile of searches with and without a prefix that a twentieth of the
// documents has: go test -run '^$' -bench Search -cpu 1 .
func BenchmarkSearch(b *testing.B) {
	for _, chunks := range []int{10_000, 100_000} {
		m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
		if err := m.sync(b.Context(), time.Now(), syntheticDocuments(chunks/10), nil); err != nil {
			b.Fatal(err)
		}
		for _, prefix := range []string{"", "part07/"} {
			b.Run(fmt.Sprintf("chunks=%d/prefix=%s", chunks, prefix), func(b *testing.B) {
				source := rand.New(rand.NewPCG(3, 4))
				zipf := rand.NewZipf(source, 1.1, 20, 50_000)
				var took []time.Duration
				for b.Loop() {
					text := ""
					for range 2 + source.IntN(6) {
						text += syntheticWord(zipf.Uint64()) + " "
					}
					started := time.Now()
					if _, _, err := m.search(b.Context(), query{text: text, prefix: prefix, limit: 10}); err != nil {
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
}

// BenchmarkIndex reports how fast documents are indexed on one core and what memory a chunk takes beyond its text:
// go test -run '^$' -bench Index -cpu 1 .
func BenchmarkIndex(b *testing.B) {
	documents := syntheticDocuments(500)
	before := heapBytes()
	for b.Loop() {
		m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
		started := time.Now()
		if err := m.sync(b.Context(), time.Now(), documents, nil); err != nil {
			b.Fatal(err)
		}
		_, chunks, _ := m.size(b.Context())
		b.ReportMetric(float64(chunks)/time.Since(started).Seconds(), "chunks/s")
		b.StopTimer()
		b.ReportMetric(float64(heapBytes()-before)/float64(chunks), "bytes/chunk")
		b.StartTimer()
		runtime.KeepAlive(m)
	}
}

// BenchmarkSearchDuringPuts reports what searches of 10,000 chunks take while a writer replaces documents without a pause:
// go test -run '^$' -bench DuringPuts .
func BenchmarkSearchDuringPuts(b *testing.B) {
	for _, writers := range []int{0, 1} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			m := newMemory(&folder{dir: b.TempDir()}, hashedEmbedder{}, 0.5, quietObserver())
			documents := syntheticDocuments(1000)
			if err := m.sync(b.Context(), time.Now(), documents, nil); err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			var writing sync.WaitGroup
			for range writers {
				writing.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						if _, err := m.put(context.Background(), documents[i%len(documents)], precondition{}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			var took []time.Duration
			for b.Loop() {
				started := time.Now()
				if _, _, err := m.search(b.Context(), query{text: "badena kosu", limit: 10}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(started))
			}
			cancel()
			writing.Wait()
			slices.Sort(took)
			b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
			b.ReportMetric(milliseconds(took[len(took)*99/100]), "p99-ms")
		})
	}
}
