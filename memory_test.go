package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// newFilled returns a store with those documents, pairs of id and text.
func newFilled(t *testing.T, pairs ...string) *memory {
	t.Helper()
	m := newMemory(&folder{dir: t.TempDir()}, hashedEmbedder{}, 0.5, quietObserver())
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
	m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
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
