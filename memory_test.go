package main

// What the embedded store does beyond testStore.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// newFilled returns a store with one document.
func newFilled(t *testing.T, d *document) *memory {
	t.Helper()
	m := newMemory(&folder{roots: []docsRoot{{dir: t.TempDir()}}}, hashedEmbedder{}, 0.5, quietObserver())
	_, err := m.put(t.Context(), d, precondition{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestSearchNeverSeesHalfADocument replaces a document by another version of it again and again.
// Each snapshot has all chunks of one version and none of the other.
func TestSearchNeverSeesHalfADocument(t *testing.T) {
	const sections = 50
	versions := []string{"alpha", "omega"}
	version := func(n int) *document {
		var text strings.Builder
		for section := range sections {
			fmt.Fprintf(&text, "# Section %d\n\nneedle %s\n\n", section, versions[n])
		}
		return mustDocument(t, "doc.md", text.String())
	}

	m := newFilled(t, version(1))
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	writers.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			_, err := m.put(context.Background(), version(n%2), precondition{})
			if err != nil {
				t.Error(err)
			}
		}
	})

	var seen [2]int // how often each version was seen
	look := func() {
		s := m.current.Load()
		var counts [2]int
		for n := range counts {
			r, err := searcher{s, m.corpus, m.embedder}.legs(t.Context(), query{text: versions[n]}, nil)
			if err != nil {
				t.Fatal(err)
			}
			counts[n] = len(r.lexical)
		}

		isWhole := counts == [2]int{sections, 0} || counts == [2]int{0, sections}
		if !isWhole || s.chunks != sections {
			t.Fatalf("a search saw %v chunks of the versions, of %d", counts, s.chunks)
		}
		seen[0] += counts[0] / sections
		seen[1] += counts[1] / sections
	}
	waitFor(t, "both versions are seen often", func() bool {
		for range 500 {
			look()
		}
		return min(seen[0], seen[1]) >= 200
	})
	cancel()
	writers.Wait()
}

func TestSearchEndsWithItsContext(t *testing.T) {
	m := newFilled(t, mustDocument(t, "a.md", "alpha"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, err := m.search(ctx, query{text: "alpha", limit: 1})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestFrequenciesFollowTheDocuments compares the frequencies that the corpus counts with those of the index.
func TestFrequenciesFollowTheDocuments(t *testing.T) {
	t.Parallel()
	m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
	documents := syntheticDocuments(20)
	steps := []struct {
		changed []*document
		gone    []string
	}{
		{documents[:10], nil},
		{documents[5:], nil},
		{[]*document{mustDocument(t, documents[0].id, "# Lantern\n\nA brass lantern.\n\n## Wick\n\nA lantern.")}, nil},
		{nil, []string{documents[1].id, documents[2].id}},
	}
	for i, step := range steps {
		if err := m.sync(t.Context(), time.Now(), step.changed, step.gone); err != nil {
			t.Fatal(err)
		}
		want := make(map[term]int32)
		for _, e := range m.current.Load().entries {
			for _, found := range e.terms[:len(e.terms)-1] {
				want[found.term] += int32(len(e.find(found.term)))
			}
		}
		if !maps.Equal(m.corpus.frequencies, want) {
			t.Errorf("step %d: the corpus has %d frequencies, the index %d", i, len(m.corpus.frequencies), len(want))
		}
	}
	if n := m.corpus.frequency(newTerm("lantern")); n != 2 {
		t.Errorf("lantern is in %d chunks", n)
	}
}

// TestWordsLeaveWithTheirDocuments replaces and removes documents with words of their own.
func TestWordsLeaveWithTheirDocuments(t *testing.T) {
	t.Parallel()
	m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
	sync := func(changed []*document, gone ...string) {
		if err := m.sync(t.Context(), time.Now(), changed, gone); err != nil {
			t.Fatal(err)
		}
	}
	knows := func(word string, want bool) {
		t.Helper()
		isNear := slices.Contains(m.corpus.nearest(word[:len(word)-1]), word)
		isCompleted := slices.Contains(m.corpus.completions(word[:3]), word)
		if m.corpus.has(word) != want || isNear != want || isCompleted != want {
			t.Errorf("%s: has %v, near %v, completed %v, want %v", word, m.corpus.has(word), isNear, isCompleted, want)
		}
	}
	sync([]*document{mustDocument(t, "a.md", "lantern copper"), mustDocument(t, "b.md", "copper wick")})
	knows("lantern", true)
	knows("copper", true)

	sync(nil, "a.md")
	knows("lantern", false)
	knows("copper", true)
	sync([]*document{mustDocument(t, "a.md", "lantern oil")})
	knows("lantern", true)
	sync([]*document{mustDocument(t, "b.md", "wick")})
	knows("copper", false)

	for i := range 200 {
		sync([]*document{mustDocument(t, "c.md", fmt.Sprintf("lantern only%d here%d", i, i))})
	}
	if n := len(m.corpus.words); n > 50 {
		t.Errorf("%d words are kept of three documents", n)
	}
	knows("lantern", true)
}

// TestEmbedMissingLogsWhatItEmbedded takes one vector of a document away, in each of two groups.
func TestEmbedMissingLogsWhatItEmbedded(t *testing.T) {
	t.Parallel()
	cfg := testSettings(t)
	logs := new(logBuffer)
	o := newTestObserver(cfg, newLogger(logs, slog.LevelInfo, cfg))
	m := newMemory(nil, hashedEmbedder{}, 0.5, o)
	sections := strings.Repeat("## Section\n\nA lantern.\n\n", embedGroup)
	documents := []*document{mustDocument(t, "a.md", "# A\n\n"+sections), mustDocument(t, "b.md", "# B\n\n"+sections)}
	if err := m.sync(t.Context(), time.Now(), documents, nil); err != nil {
		t.Fatal(err)
	}
	for _, e := range m.current.Load().entries {
		e.scales[1] = noVector
	}

	m.embedIncomplete(t.Context())
	o.close()
	if chunks := logs.find(t, "job", "")["chunks"]; chunks != 2.0 {
		t.Errorf("the log says that %v chunks were embedded, want 2", chunks)
	}
}
