package main

import (
	"log/slog"
	"strings"
	"testing"
)

func TestReindexMakesTheDatabaseFitTheSettings(t *testing.T) {
	t.Parallel()
	fake := newFakeEmbedder(t, 8)
	url := newDatabase(t)
	p := openPostgres(t, url)
	if err := mark(t.Context(), p, "a.md", "lantern"); err != nil {
		t.Fatal(err)
	}
	execSQL(t, url,
		"UPDATE settings SET analyzer = 0",
		"UPDATE chunks SET slots = '{}', text = 'spoilt'")

	other := unopenedPostgres(t, url, fake.env()...)
	if err := other.open(t.Context()); err == nil || !strings.Contains(err.Error(), "vitrine reindex") {
		t.Fatalf("opened with another model: %v", err)
	}
	if err := other.reindex(t.Context()); err != nil {
		t.Fatal(err)
	}

	reopened := openPostgres(t, url, fake.env()...)
	found, err := reopened.search(t.Context(), query{text: "lantern", limit: 5})
	if err != nil || found.degraded || len(found.hits) != 1 || found.hits[0].Text != "lantern" {
		t.Errorf("found %+v, %v, %v", found.hits, found.degraded, err)
	}
	const embedded = "SELECT count(*) FROM embeddings WHERE vector_dims(embedding) = 8"
	if n := count(t, url, embedded); n != 2 {
		t.Errorf("%d chunks have the new vectors, want 2", n)
	}
	if err := p.reload(t.Context()); err == nil {
		t.Error("a replica with the old settings goes on")
	}
}

func TestInvalidIndexIsBuiltAnew(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	p := openPostgres(t, url)
	if err := p.buildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}

	execSQL(t, url, `
		UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chunks_slots'::regclass`)
	if err := p.buildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}

	const valid = `
		SELECT count(*) FROM pg_index WHERE indisvalid
			AND indexrelid IN ('chunks_slots'::regclass, 'embeddings_embedding'::regclass)`
	if n := count(t, url, valid); n != 2 {
		t.Errorf("%d valid indexes", n)
	}
}

// TestEmbedMissingLogsTheSumOfItsBatches stores more than two batches while the API is away.
func TestEmbedMissingLogsTheSumOfItsBatches(t *testing.T) {
	t.Parallel()
	fake := newFakeEmbedder(t, 8)
	p := openPostgres(t, newDatabase(t), fake.env()...)
	cfg := testSettings(t)
	logs := new(logBuffer)
	p.observe = newTestObserver(cfg, newLogger(logs, slog.LevelInfo, cfg))
	d := mustDocument(t, "a.md", strings.Repeat("## Section\n\nA lantern.\n\n", 2*embedBatch+1))
	err := p.transact(t.Context(), queryPut, func(tx *transaction) error {
		return tx.store(t.Context(), d, nil, storedDocument{}, fromAPI)
	})
	if err != nil {
		t.Fatal(err)
	}

	if !p.withLease(t.Context(), "embed_missing", p.embedMissing) {
		t.Error("embedding has failed")
	}
	p.observe.close()
	if chunks := logs.find(t, "job", "")["chunks"]; chunks != float64(len(d.chunks)) {
		t.Errorf("the log says that %v chunks were embedded, want %d", chunks, len(d.chunks))
	}
}
