package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
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
		m := newMemory(nil, 0.5)
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
		m := newMemory(nil, 0.5)
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
			m := newMemory(&folder{dir: b.TempDir()}, 0.5)
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

// newFilled returns a store with those documents, pairs of id and text.
func newFilled(t *testing.T, pairs ...string) *memory {
	t.Helper()
	m := newMemory(&folder{dir: t.TempDir()}, 0.5)
	for i := 0; i < len(pairs); i += 2 {
		if _, err := m.put(t.Context(), mustDocument(t, pairs[i], pairs[i+1]), precondition{}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// found returns the hits as "id score", in their order.
func found(t *testing.T, m *memory, q query) []string {
	t.Helper()
	if q.limit == 0 {
		q.limit = 10
	}
	hits, _, err := m.search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 0, len(hits))
	for _, h := range hits {
		ids = append(ids, h.Document)
	}
	return ids
}

func TestSearchRanksTitleAndHeadingFirst(t *testing.T) {
	m := newFilled(t,
		"body.md", "# Something\n\nThe retention of snapshots, among other words that stand here.",
		"heading.md", "# Other\n\n## Retention\n\nHow long snapshots stay, among other words that stand here.",
		"title.md", "# Retention of snapshots\n\nHow long they stay, among other words that stand here.",
		"none.md", "# Nothing\n\nOf the kind.")
	if got := found(t, m, query{text: "retention snapshots"}); !slices.Equal(got, []string{"title.md", "heading.md", "body.md"}) {
		t.Errorf("got %v", got)
	}
}

func TestSearchFoldsCaseAndSplitsIdentifiers(t *testing.T) {
	m := newFilled(t,
		"go.md", "The field maxIdleConns of sql.DB.",
		"gr.md", "ΣΊΣΥΦΟΣ rolls a stone.",
		"ja.md", "# 索引\n\n文書を検索するサーバーです。",
		"th.md", "การค้นหาเอกสาร")
	for text, want := range map[string]string{"idle conns": "go.md", "MAX_IDLE_CONNS": "go.md", "σίσυφος": "gr.md", "検索": "ja.md", "サーバー": "ja.md", "ค้นหา": "th.md"} {
		if got := found(t, m, query{text: text}); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: got %v, want %s", text, got, want)
		}
	}
}

func TestNonsenseFindsNothing(t *testing.T) {
	m := newFilled(t)
	if err := m.sync(t.Context(), time.Now(), manualSet(t).documents, nil); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"zxqvwk", "qqqq wwww", "the", "???", "ξψζ"} {
		if got := found(t, m, query{text: text}); len(got) > 0 {
			t.Errorf("%q found %v", text, got)
		}
	}
}

func TestPrefixFilterReturnsAllItsHits(t *testing.T) {
	m := newMemory(nil, 0.5)
	var documents []*document
	for i := range 1000 {
		documents = append(documents, mustDocument(t, fmt.Sprintf("part%02d/%04d.md", i%20, i), fmt.Sprintf("# Page %d\n\nThe common subject, and number%d.", i, i)))
	}
	if err := m.sync(t.Context(), time.Now(), documents, nil); err != nil {
		t.Fatal(err)
	}
	got := found(t, m, query{text: "common subject", prefix: "part07/", limit: 100})
	if len(got) != 50 || slices.ContainsFunc(got, func(id string) bool { return !strings.HasPrefix(id, "part07/") }) {
		t.Errorf("%d of 50 hits: %v", len(got), got)
	}
}

func TestEqualScoresAreRankedByID(t *testing.T) {
	m := newFilled(t, "c.md", "same words", "a.md", "same words", "b.md", "same words")
	hits, _, err := m.search(t.Context(), query{text: "same words", limit: 2})
	if err != nil || len(hits) != 2 || hits[0].Document != "a.md" || hits[1].Document != "b.md" || hits[0].Score != 1.5 {
		t.Errorf("%v %v", hits, err)
	}
}

func TestSearchNeverSeesHalfADocument(t *testing.T) {
	m := newFilled(t)
	version := func(n int) *document {
		var text strings.Builder
		for section := range 50 {
			fmt.Fprintf(&text, "# Section %d\n\nneedle version%d\n\n", section, n)
		}
		return mustDocument(t, "doc.md", text.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			if _, err := m.put(context.Background(), version(n%2), precondition{}); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2000 {
		s := m.current.Load()
		var counts [2]int
		for n := range counts {
			leg, err := s.lexicalLeg(t.Context(), fmt.Sprintf("version%d", n), 0, len(s.entries))
			if err != nil {
				t.Fatal(err)
			}
			counts[n] = len(leg)
		}
		if len(s.entries) > 0 && (counts[0]+counts[1] != 50 || s.chunks != 50) {
			t.Fatalf("a search saw %v chunks of the versions, of %d", counts, s.chunks)
		}
	}
	cancel()
	writing.Wait()
}

func TestSearchEndsWithItsContext(t *testing.T) {
	m := newFilled(t, "a.md", "alpha")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := m.search(ctx, query{text: "alpha", limit: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestReadmeShowsWhatItsFirstSearchAnswers asks the program's own documents, as README does.
func TestReadmeShowsWhatItsFirstSearchAnswers(t *testing.T) {
	m := newMemory(nil, 0.5)
	if err := m.loadFiles(t.Context(), ownDocuments); err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`\{"query":"(.*?)",.*"document":"(.*?)",.*"heading":"(.*?)","line":(\d+),`).FindStringSubmatch(string(readme))
	hits, _, err := m.search(t.Context(), query{text: shown[1], limit: 1})
	if err != nil || len(hits) != 1 {
		t.Fatal(hits, err)
	}
	got := []string{shown[1], hits[0].Document, hits[0].Heading, strconv.Itoa(hits[0].Line)}
	if !slices.Equal(got, shown[1:]) {
		t.Errorf("README shows %q, the answer is %q", shown[1:], got)
	}
	if hits, _, err := m.search(t.Context(), query{text: "zxqvwk", limit: 1}); err != nil || len(hits) > 0 {
		t.Errorf("nonsense finds %v, %v", hits, err)
	}
}
