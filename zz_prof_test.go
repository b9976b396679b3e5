package main

import (
	"os"
	"testing"
	"time"
)

func BenchmarkZZ(b *testing.B) {
	text := largestText(os.Getenv("COSTLIEST"), maxDocumentBytes)
	for b.Loop() {
		d, err := newDocument("a.md", text, time.Now())
		if err != nil {
			b.Fatal(err)
		}
		e := newEntry(d)
		_, _ = setMissing([]*entry{e}, func(texts []string) ([][]float32, error) {
			return hashedEmbedder{}.documents(b.Context(), texts)
		})
		c := newCorpus()
		c.add(e)
	}
}
