package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"
)

// TestPostgresRanksLikeMemory compares the two stores on the manual in testdata, or on the set that EVAL_DIR names.
func TestPostgresRanksLikeMemory(t *testing.T) {
	set := evalSetOfTest(t)
	m := newMemory(nil, 0.5)
	p := openPostgres(t, newDatabase(t))
	loadSet(t, m, set)
	loadSet(t, p, set)
	want, got := set.measure(t, m), set.measure(t, p)
	t.Logf("%d documents, %d questions\nmemory:   %v\npostgres: %v", len(set.documents), len(set.questions), want, got)
	for _, difference := range []float64{got.ndcg10 - want.ndcg10, got.recall10 - want.recall10, got.recall100 - want.recall100, got.mrr10 - want.mrr10} {
		if difference > .01 || difference < -.01 {
			t.Errorf("the stores rank differently: %v and %v", want, got)
		}
	}
}

func evalSetOfTest(t *testing.T) evalSet {
	t.Helper()
	if dir := os.Getenv("EVAL_DIR"); dir != "" {
		return directorySet(t, dir)
	}
	return manualSet(t)
}

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
	set := evalSetOfTest(t)
	p := openPostgres(t, newDatabase(t))
	loadSet(t, p, set)
	if err := p.buildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, n := 0, 0
	for _, question := range set.questions {
		q := query{text: question.text, limit: 10}
		p.exactChunks = 0
		indexed, _, err := p.search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		p.exactChunks = exactChunks
		exact, _, err := p.search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		n, found = n+len(exact), found+countSame(exact, indexed)
	}
	recall := float64(found) / float64(n)
	t.Logf("recall@10 is %.3f", recall)
	if recall < .95 {
		t.Errorf("the indexes find %.3f of what a scan finds", recall)
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
// the documents has, beside pgbench with the same statements:
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
				if _, _, err := p.search(b.Context(), q); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(started))
				sum += took[len(took)-1]
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

// literalSearch is the statement of a search with its values in it, on one line.
func (p *postgres) literalSearch(q query) string {
	f := p.frequencies.Load()
	lexical, rarest := f.weigh(queryTerms(q.text))
	exact := "NULL"
	if q.prefix == "" {
		exact = strconv.FormatBool(f.chunks <= p.exactChunks)
	}
	vector, _ := pq.Float32Array(hashedVector(q.text)).Value()
	return strings.ReplaceAll(strings.NewReplacer("$1", "'"+lexical+"'", "$2", fmt.Sprintf("'%s'", vector), "$3", "'"+likePrefix(q.prefix)+"'",
		"$4", exact, "$5", "'"+rarest+"'", "$6", fmt.Sprint(p.vectorWeight), "$7", fmt.Sprint(minHashedCosine), "$8", strconv.Itoa(q.limit),
		"$9", strconv.Itoa(p.exactChunks)).Replace(searchSQL), "\n", " ") + ";\n"
}

// pgbench returns the mean time in ms that pgbench measures for the statements, n of them.
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
	cmd.Env = append(os.Environ(), "PGOPTIONS=-c jit=off -c hnsw.ef_search=100 -c hnsw.iterative_scan=relaxed_order")
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

// recall returns which part of the ten best documents by a scan of everything a search finds, over 50 questions.
func recall(b *testing.B, p *postgres, prefix string) float64 {
	b.Helper()
	next := syntheticQueries()
	found, n := 0, 0
	for range 50 {
		q := query{text: next(), prefix: prefix, limit: 10}
		got, _, err := p.search(b.Context(), q)
		if err != nil {
			b.Fatal(err)
		}
		p.exactChunks = 1 << 30
		exact, _, err := p.search(b.Context(), q)
		p.exactChunks = exactChunks
		if err != nil {
			b.Fatal(err)
		}
		n, found = n+len(exact), found+countSame(exact, got)
	}
	return float64(found) / float64(n)
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

// background starts the store as the server does, and ends it with the test.
func background(t testing.TB, p *postgres) *postgres {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		working.Wait()
	})
	if err := p.start(ctx, &working); err != nil {
		t.Fatal(err)
	}
	return p
}

// mark puts a document whose chunks all carry one word.
func mark(ctx context.Context, st store, id, word string) error {
	d, err := newDocument(id, fmt.Sprintf("# %s\n\n## One\n\n%s\n\n## Two\n\n%s\n", word, word, word), time.Now())
	if err == nil {
		_, err = st.put(ctx, d, precondition{})
	}
	return err
}

// count returns the number that a statement asks for.
func count(t testing.TB, url, statement string, args ...any) (n int) {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(statement, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return n
}

func TestSchemaIsCreatedOnceByReplicasThatStartTogether(t *testing.T) {
	url := newDatabase(t)
	var wg sync.WaitGroup
	for range 4 {
		p := unopenedPostgres(t, url)
		wg.Go(func() {
			if err := p.open(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := count(t, url, "SELECT count(*) FROM settings"); n != 1 {
		t.Errorf("%d rows of settings", n)
	}
}

func TestStartSaysWhatToRun(t *testing.T) {
	for _, test := range []struct {
		name string
		sql  []string
		user string
		env  string
		want string
	}{
		{"another analyzer", []string{"UPDATE settings SET analyzer = 0"}, "", "", "vitrine -reindex"},
		{"another model", []string{"UPDATE settings SET model = 'bge'"}, "", "", "vitrine -reindex"},
		{"other dimensions", []string{"UPDATE settings SET dimensions = 7"}, "", "", "vitrine -reindex"},
		{"a newer schema", []string{"UPDATE settings SET schema = 99"}, "", "", "upgrade this program"},
		{"no rights", []string{"DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "DROP ROLE IF EXISTS vitrine_poor", "CREATE ROLE vitrine_poor LOGIN"}, "vitrine_poor", "", "CREATE EXTENSION IF NOT EXISTS vector; GRANT"},
		{"an unknown user", nil, "vitrine_nobody", "", "check user and password"},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := newDatabase(t)
			openPostgres(t, url)
			execSQL(t, url, test.sql...)
			if test.user != "" {
				url = strings.Replace(url, "postgres@", test.user+"@", 1)
			}
			err := unopenedPostgres(t, url).open(t.Context())
			if err == nil || errors.Is(err, errUnavailable) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that says %q", err, test.want)
			}
		})
	}
	err := unopenedPostgres(t, strings.Replace(newDatabase(t), "vitrine_test", "no_such_database", 1)).open(t.Context())
	if err == nil || !strings.Contains(err.Error(), "createdb") {
		t.Errorf("without database: %v", err)
	}
}

func TestReindexMakesTheDatabaseFitTheSettings(t *testing.T) {
	fake := newFakeEmbedder(t, 8)
	url := newDatabase(t)
	p := openPostgres(t, url)
	if err := mark(t.Context(), p, "a.md", "lantern"); err != nil {
		t.Fatal(err)
	}
	execSQL(t, url, "UPDATE settings SET analyzer = 0", "UPDATE chunks SET slots = '{}', text = 'spoilt'")
	other := unopenedPostgres(t, url, fake.env()...)
	if err := other.open(t.Context()); err == nil || !strings.Contains(err.Error(), "-reindex") {
		t.Fatalf("opened with another model: %v", err)
	}
	if err := other.reindex(t.Context()); err != nil {
		t.Fatal(err)
	}
	hits, degraded, err := openPostgres(t, url, fake.env()...).search(t.Context(), query{text: "lantern", limit: 5})
	if err != nil || degraded || len(hits) != 1 || hits[0].Text != "lantern" {
		t.Errorf("found %+v, %v, %v", hits, degraded, err)
	}
	if n := count(t, url, "SELECT count(*) FROM embeddings WHERE vector_dims(embedding) = 8"); n != 2 {
		t.Errorf("%d chunks have the new vectors, want 2", n)
	}
	if err := p.reload(t.Context()); err == nil {
		t.Error("a replica with the old settings goes on")
	}
}

func TestInvalidIndexIsBuiltAnew(t *testing.T) {
	url := newDatabase(t)
	p := openPostgres(t, url)
	if err := p.buildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	execSQL(t, url, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chunks_slots'::regclass")
	if err := p.buildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, url, "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid IN ('chunks_slots'::regclass, 'embeddings_embedding'::regclass)"); n != 2 {
		t.Errorf("%d valid indexes", n)
	}
}

func TestStatementsNameTheirRequest(t *testing.T) {
	url := newDatabase(t)
	p := openPostgres(t, url)
	rec := quietObserver().newRecord(http.Header{"X-Correlation-Id": {"find-me-42"}})
	ctx, cancel := context.WithCancel(rec.scope(t.Context(), -1))
	defer cancel()
	failed := make(chan error)
	go func() {
		failed <- p.transact(ctx, "search", func(tx *transaction) error {
			return tx.exec(ctx, "SELECT pg_sleep(60)")
		})
	}()
	const running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '/*correlation_id=''find-me-42'',traceparent=''00-%''*/ SELECT pg_sleep%'"
	waitFor(t, "the statement runs", func() bool { return count(t, url, running) == 1 })
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	waitFor(t, "a cancelled request leaves nothing running", func() bool { return count(t, url, running) == 0 })
	if len(rec.stages) != 1 || rec.stages[0].name != "db" {
		t.Fatalf("stages are %+v", rec.stages)
	}
	st := rec.stages[0]
	for _, want := range []string{"db.system.name=postgresql", "db.operation.name=SELECT", "db.query.summary=search"} {
		if !slices.ContainsFunc(st.attrs, func(a slog.Attr) bool { return a.String() == want }) {
			t.Errorf("no %s in %v", want, st.attrs)
		}
	}
	if e, ok := errors.AsType[*databaseError](st.err); !ok || e.class != "canceled" {
		t.Errorf("the stage's error is %v", st.err)
	}
}

func TestServerEndsAStatementBeforeItsCallerDoes(t *testing.T) {
	p := openPostgres(t, newDatabase(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := p.transact(ctx, "search", func(tx *transaction) error {
		return tx.exec(context.WithoutCancel(ctx), "SELECT pg_sleep(60)")
	})
	if e, ok := errors.AsType[*databaseError](err); !ok || e.class != "57014" || !errors.Is(err, errUnavailable) {
		t.Errorf("got %v, want the server's statement_timeout", err)
	}
}

func TestPendingIsExact(t *testing.T) {
	p := openPostgres(t, newDatabase(t), "DB_MAX_CONNS=2")
	release := make(chan struct{})
	var wg sync.WaitGroup
	hold := func(timeout time.Duration) {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_ = p.transact(ctx, "search", func(*transaction) error {
				<-release
				return nil
			})
		})
	}
	for range 5 {
		hold(time.Minute)
	}
	pool := func(inUse, pending int, timeouts int64) func() bool {
		return func() bool {
			stats := p.pool()
			return stats.used == inUse && stats.pending == pending && stats.timeouts == timeouts
		}
	}
	waitFor(t, "two have a connection, three wait", pool(2, 3, 0))
	for range 3 {
		hold(100 * time.Millisecond)
	}
	waitFor(t, "three more have given up", pool(2, 3, 3))
	close(release)
	wg.Wait()
	waitFor(t, "nobody waits", pool(0, 0, 3))
}

// countSame counts the documents of exact that got has too.
func countSame(exact, got []hit) (n int) {
	for _, h := range exact {
		if slices.ContainsFunc(got, func(other hit) bool { return other.Document == h.Document }) {
			n++
		}
	}
	return n
}
