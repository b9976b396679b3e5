package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"
)

// TestPostgresRanksLikeMemory compares the two stores on the manual in testdata, or on the set that EVAL_DIR names.
func TestPostgresRanksLikeMemory(t *testing.T) {
	t.Parallel()
	set := evalSetOfTest(t)
	m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
	p := openPostgres(t, newDatabase(t))
	loadSet(t, m, set)
	loadSet(t, p, set)

	want := set.measure(t, m)
	got := set.measure(t, p)
	t.Logf("%d documents, %d questions\nmemory:   %v\npostgres: %v",
		len(set.documents), len(set.questions), want, got)
	for _, difference := range []float64{
		got.ndcg10 - want.ndcg10,
		got.recall10 - want.recall10,
		got.recall100 - want.recall100,
		got.mrr10 - want.mrr10,
	} {
		if difference > .01 || difference < -.01 {
			t.Errorf("the stores rank differently: %v and %v", want, got)
		}
	}
}

// loadSet stores the documents of the set as a scan of a folder does.
func loadSet(t *testing.T, st store, set evalSet) {
	t.Helper()
	if _, err := st.folderIDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := st.sync(t.Context(), time.Now(), set.documents, nil); err != nil {
		t.Fatal(err)
	}
	storeTest{t, st}.settle()
}

// TestIndexesFindWhatAScanFinds compares the branches of a search for large collections with those for small ones.
func TestIndexesFindWhatAScanFinds(t *testing.T) {
	t.Parallel()
	set := evalSetOfTest(t)
	p := openPostgres(t, newDatabase(t))
	loadSet(t, p, set)
	if err := p.buildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}

	found := 0
	total := 0
	for _, question := range set.questions {
		q := query{text: question.text, limit: 10}
		p.exactChunks = 0
		indexed, err := p.search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		p.exactChunks = exactChunks
		exact, err := p.search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		total += len(exact.hits)
		found += countSame(exact.hits, indexed.hits)
	}

	recall := float64(found) / float64(total)
	t.Logf("recall@10 is %.3f", recall)
	if total == 0 || recall < .95 {
		t.Errorf("the indexes find %.3f of what a scan finds", recall)
	}
}

// syntheticQueries returns a generator of questions: 2 to 7 words of syntheticDocuments, by Zipf's law.
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

// BenchmarkPostgres loads 100,000 chunks, builds the indexes, and searches: with no prefix, and with a
// prefix that a twentieth of the documents has. It also runs the same statements with pgbench:
//
//	OPTIONS='-c shared_buffers=1GB' go test -run '^$' -bench Postgres -benchtime 300x -timeout 30m -v .
func BenchmarkPostgres(b *testing.B) {
	url := newDatabase(b)
	p := openPostgres(b, url)
	loadSynthetic(b, p, 10_000)
	for _, prefix := range []string{"", "part07/"} {
		b.Run("prefix="+prefix, func(b *testing.B) {
			next := syntheticQueries()
			var took []time.Duration
			var sum time.Duration
			var statements strings.Builder
			for b.Loop() {
				q := query{text: next(), prefix: prefix, limit: 10}
				started := time.Now()
				_, err := p.search(b.Context(), q)
				duration := time.Since(started)
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, duration)
				sum += duration
				statements.WriteString(p.literalSearch(q))
			}

			slices.Sort(took)
			mean := milliseconds(sum) / float64(len(took))
			b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
			b.ReportMetric(milliseconds(took[len(took)*95/100]), "p95-ms")
			b.ReportMetric(mean, "mean-ms")
			b.ReportMetric(mean/pgbench(b, url, statements.String(), len(took)), "x-pgbench")
			b.ReportMetric(recall(b, p, prefix), "recall@10")
		})
	}
}

// literalSearch returns the statement of a search with literals for its parameters, on one line.
func (p *postgres) literalSearch(q query) string {
	f := p.frequencies.Load()
	asked := newQuestion(q.text, false)
	weighted := asked.weights(f.of, f.chunks)
	selecting := f.selectingTerms(weighted)
	exact := "NULL"
	if q.prefix == "" {
		exact = strconv.FormatBool(f.chunks <= p.exactChunks)
	}
	vector, _ := pq.Float32Array(hashedVector(q.text)).Value()
	parameters := strings.NewReplacer( // those of two digits first
		"$10", "'{}'",
		"$11", "0",
		"$12", "0",
		"$13", "false",
		"$1", "'"+sparseVector(weighted)+"'",
		"$2", fmt.Sprintf("'%s'", vector),
		"$3", "'"+likePrefix(q.prefix)+"'",
		"$4", exact,
		"$5", "'"+selecting+"'",
		"$6", fmt.Sprint(p.vectorWeight),
		"$7", fmt.Sprint(minHashedCosine),
		"$8", strconv.Itoa(q.limit),
		"$9", strconv.Itoa(p.exactChunks))
	return strings.ReplaceAll(parameters.Replace(searchSQL), "\n", " ") + ";\n"
}

// pgbench runs n statements with pgbench and returns its mean time for one, in milliseconds.
func pgbench(b *testing.B, url, statements string, n int) float64 {
	b.Helper()
	program, err := exec.LookPath("pgbench")
	if err != nil {
		program = filepath.Join(postgresCache(), "bin", "pgbench")
	}
	script := filepath.Join(b.TempDir(), "search.sql")
	if err := os.WriteFile(script, []byte(statements), 0o600); err != nil {
		b.Fatal(err)
	}

	cmd := exec.Command(program, "--no-vacuum", "--transactions=1", "--file="+script, url)
	cmd.Env = append(os.Environ(), // as transaction.setLocal sets them
		"PGOPTIONS=-c jit=off -c hnsw.ef_search=100 -c hnsw.iterative_scan=relaxed_order")
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	var mean float64
	_, after, _ := strings.Cut(string(out), "latency average = ")
	if _, err := fmt.Sscan(after, &mean); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return mean / float64(n)
}

// recall returns the share of the ten best documents, as a scan of all chunks ranks them, that a search
// finds, over 50 questions.
func recall(b *testing.B, p *postgres, prefix string) float64 {
	b.Helper()
	next := syntheticQueries()
	found := 0
	total := 0
	for range 50 {
		q := query{text: next(), prefix: prefix, limit: 10}
		got, err := p.search(b.Context(), q)
		if err != nil {
			b.Fatal(err)
		}
		p.exactChunks = 1 << 30
		exact, err := p.search(b.Context(), q)
		p.exactChunks = exactChunks
		if err != nil {
			b.Fatal(err)
		}
		total += len(exact.hits)
		found += countSame(exact.hits, got.hits)
	}
	return float64(found) / float64(total)
}

// loadSynthetic loads n documents of ten chunks as a scan does, and builds the indexes.
func loadSynthetic(b *testing.B, p *postgres, n int) {
	documents := syntheticDocuments(n)
	ctx := context.WithoutCancel(b.Context())
	if _, err := p.folderIDs(ctx); err != nil {
		b.Fatal(err)
	}

	started := time.Now()
	batches := make(chan []*document)
	failures := make(chan error)
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

	size, err := p.size(ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d chunks: loaded in %v, analyzed and indexed after %v: %.0f chunks/s",
		size.chunks, loaded, total, float64(size.chunks)/total.Seconds())
}

// countSame returns how many documents of exact are in got.
func countSame(exact, got []hit) (n int) {
	for _, h := range exact {
		if slices.ContainsFunc(got, func(other hit) bool { return other.Document == h.Document }) {
			n++
		}
	}
	return n
}

// TestCommonWordsAreNotCounted completes a word without a transaction, which only counting needs.
func TestCommonWordsAreNotCounted(t *testing.T) {
	t.Parallel()
	v := storedWords{frequencies: &frequencies{counts: map[term]int{
		newTerm("insects"): 3,
		newTerm("install"): 900,
		newTerm("instant"): 7,
	}}}
	got, err := v.mostFrequent([]string{"insects", "instant", "install"}, 5)
	if err != nil || fmt.Sprint(got) != "[install instant]" {
		t.Error(got, err)
	}
}
