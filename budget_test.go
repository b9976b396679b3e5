package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// repeated returns as many copies of s as n bytes hold.
func repeated(s string, n int) string { return strings.Repeat(s, n/len(s)) }

// distinctWords returns n bytes of words that differ, in lines of the given number of words.
func distinctWords(n, perLine int) string {
	var b strings.Builder
	for i := 1; b.Len() < n; i++ {
		fmt.Fprintf(&b, "w%x", i)
		b.WriteByte(" \n"[min(1, max(0, 1-i%perLine))])
	}
	return b.String()
}

// ideographs returns about n bytes of text without spaces, of 20,000 characters.
func ideographs(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteRune(rune(0x4e00 + i*7919%20000))
	}
	return b.String()
}

// costlyDocuments returns documents of which one size multiplies another, or whose parts cost more than their bytes.
func costlyDocuments() map[string]string {
	return map[string]string{
		"long heading, many sections":   "# " + distinctWords(1<<20, 1<<30) + "\n" + strings.Repeat("## s\nx\n", 4000),
		"158 KB of that shape":          "# " + distinctWords(100<<10, 1<<30) + "\n" + repeated("## s\nx\n", 58<<10),
		"long headings at three levels": "# " + repeated("ab ", 9000) + "\n## " + repeated("cd ", 9000) + "\n### " + repeated("ef ", 9000) + "\n" + repeated("#### g\nh\n", 1<<20),
		"one heading a line":            repeated("# a\n", 1<<20),
		"two headings a section":        repeated("## a b\nx\n", 1<<20),
		"headings at all levels":        repeated("# a\n## b\n### c\n#### d\n##### e\n###### f\nx\n", 1<<20),
		"underlined headings":           repeated("a\nb\n===\n", 1<<20),
		"title of 17,000 words":         "# " + distinctWords(100_000, 1<<30) + "\n\ntext\n",
		"front matter of many words":    "---\ntitle: " + distinctWords(60<<10, 1<<30) + "\ntags: [" + distinctWords(2<<10, 1<<30) + "]\n---\n" + repeated("# a\nb\n", 100<<10),
		"many tags":                     "---\ntags: [" + repeated("ab, ", 200<<10) + "]\n---\n" + repeated("# a\nb\n", 100<<10),
		"short lines":                   repeated("a\n", 4<<20),
		"short items":                   repeated("- a\n", 4<<20),
		"nested items":                  repeated("- ", 1<<20),
		"nested quotes":                 repeated(">", 1<<20),
		"quotes and items":              repeated("> > > - - 1. a\n", 1<<20),
		"cells":                         "|a|b|\n|-|-|\n" + repeated("|c|d|\n", 1<<20),
		"wide table":                    "|" + repeated("a|", 1<<19) + "\n|" + repeated("-|", 1<<19) + "\n" + repeated("|c|d|\n", 1<<19),
		"fence with a long opening":     "```" + repeated("abc ", 1000) + "\n" + repeated("x = 1\n", 1<<20),
		"link definitions":              repeated("[a]: b\n", 1<<20),
		"open links":                    repeated("[a](", 1<<20),
		"open comments":                 repeated("<!--", 1<<20),
		"tags":                          repeated("<b>", 1<<20),
		"spaces":                        "a" + strings.Repeat(" ", 2<<20) + "b",
		"distinct words":                distinctWords(1<<20, 20),
		"no spaces":                     ideographs(1 << 20),
		"words of many parts":           repeated("aB cD eF gH iJ kL mN oP qR ", 1<<20),
		"versions":                      repeated("1.2.3.4.5.6.7 ", 1<<20),
		"empty":                         "",
		"one word":                      "word",
	}
}

// checkIndexCost fails unless the cost of d's index is in proportion to the text. Work is counted in bytes that are
// analyzed, and memory in bytes of the index.
func checkIndexCost(t *testing.T, d *document) {
	t.Helper()
	analyzed := 0
	for i := range d.chunks {
		p := d.passage(i)
		analyzed += len(p.title) + len(p.heading) + len(p.text) + len(p.tags)
	}
	if limit := indexShare/wordShare*len(d.text) + minIndexBytes; analyzed > limit {
		t.Errorf("%d bytes are analyzed for a text of %d", analyzed, len(d.text))
	}
	words := make(vocabulary)
	postings := 0
	for i := range d.chunks {
		postings += len(lexicalVector(d.passage(i), words))
	}
	if cost := postings*(plainCost+chunkCost) + len(words)*documentCost; cost > 2*maxWordCost {
		t.Errorf("%d words in %d postings are indexed", len(words), postings)
	}
	if len(d.chunks) > maxDocumentChunks {
		t.Errorf("%d chunks", len(d.chunks))
	}

	e := newEntry(d)
	_, err := setMissing([]*entry{e}, func(texts []string) ([][]float32, error) {
		if len(texts) > embedGroup {
			t.Errorf("%d texts are embedded at once", len(texts))
		}
		return hashedEmbedder{}.documents(t.Context(), texts)
	})
	if err != nil || e.isIncomplete() {
		t.Errorf("vectors are missing: %v", err)
	}
	size := len(e.chunks)*int(unsafe.Sizeof(chunk{})) +
		len(e.terms)*int(unsafe.Sizeof(documentTerm{})) +
		len(e.postings)*int(unsafe.Sizeof(posting{})) +
		8*len(e.bloom) + len(e.vectors) + 4*len(e.scales)
	for _, c := range e.chunks {
		size += len(c.heading) + len(c.slug) + len(c.text)
		if terms := lexicalVector(passage{e.title, c.heading, c.text, e.keywords}, make(vocabulary)); len(terms) > 16_000 {
			t.Errorf("a chunk has %d terms: a sparsevec holds 16,000", len(terms))
		}
	}
	if limit := indexShare*len(d.text) + 2*minIndexBytes; size > limit {
		t.Errorf("the index takes %d bytes for a text of %d", size, len(d.text))
	}
}

// TestIndexCostIsInProportionToTheText indexes documents that multiplied their sizes: 3 GiB for the first.
func TestIndexCostIsInProportionToTheText(t *testing.T) {
	t.Parallel()
	for name, text := range costlyDocuments() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkIndexCost(t, mustDocument(t, "guide/a.md", text))
		})
	}
}

func FuzzIndexCost(f *testing.F) {
	for _, text := range costlyDocuments() {
		f.Add(text[:min(len(text), 1000)], uint16(100))
	}
	f.Fuzz(func(t *testing.T, part string, times uint16) {
		text := strings.Repeat(part, min(int(times), 1+(1<<20)/(1+len(part))))
		d, err := newDocument("guide/a.md", text, time.Time{})
		if err != nil {
			return
		}
		checkIndexCost(t, d)
	})
}

// TestWordsOfADocumentAreBounded counts the work of documents of which 8 MiB took 5 s of CPU time, as distinct words,
// and 9 s, as distinct ideographs.
func TestWordsOfADocumentAreBounded(t *testing.T) {
	t.Parallel()
	for _, shape := range []string{
		"distinct words", "ideographs", "digits", "identifiers of parts",
	} {
		t.Run(shape, func(t *testing.T) {
			d := mustDocument(t, "a.md", largestText(shape, maxDocumentBytes/2))
			if d.indexed == 0 {
				t.Errorf("all of it is indexed: %d chunks", len(d.chunks))
			}
			cost := 0
			seen := make(map[uint64]bool)
			for i := range d.chunks {
				d.passage(i).eachWord(func(w word, _ float64) {
					cost += plainCost
					if h := hash(w.text); !seen[h] {
						cost += chunkCost + documentCost
						seen[h] = true
					}
				})
			}
			if cost > maxWordCost*5/4 {
				t.Errorf("its words cost %d, at most %d may", cost, maxWordCost)
			}
		})
	}
}

// TestHandbooksAreIndexedWhole holds the bound above what people write.
func TestHandbooksAreIndexedWhole(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"4 MiB of prose":      proseText(4 << 20),
		"1.5 MB of new words": "# Words\n\n" + distinctWords(1_500_000, 20),
	} {
		if d := mustDocument(t, "a.md", text); d.indexed > 0 {
			t.Errorf("%s: indexed up to line %d", name, d.indexed)
		}
	}
}

// TestLargeDocumentIsIndexedByItsBeginning asks for it where people look: in the list, in readiness and in the log.
func TestLargeDocumentIsIndexedByItsBeginning(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	sections := "# Title\n\nfirstword\n" + strings.Repeat("## a b\nx\n", 17_000) + "## lastsection\nlastword\n"
	ts.writeFile("scanned.md", sections)
	if a := ts.put("put.md", sections+"another\n", "X-Correlation-ID: put-1"); a.status != 201 {
		t.Fatal(a)
	}
	waitFor(t, "both documents", func() bool { return len(ts.search("q=firstword")) == 2 })
	if found := ts.search("q=lastword"); len(found) > 0 {
		t.Errorf("%s is found by its end", found)
	}
	if a := ts.get("/documents/scanned.md"); a.body != sections {
		t.Errorf("%d bytes are served", len(a.body))
	}
	if list := ts.get("/documents").body; strings.Count(list, `"indexed_lines":`) != 2 {
		t.Errorf("the list does not say what is indexed: %s", list)
	}
	waitFor(t, "readiness that says what is indexed", func() bool {
		return strings.Contains(ts.get("/readyz?verbose").body, "2 documents, 2 of them indexed by their beginning")
	})
	ts.lines.find(t, "documents indexed by their beginning", "")
	if line := ts.lines.find(t, "request", "put-1"); line["indexed_lines"] == nil {
		t.Errorf("the log line does not say what is indexed: %v", line)
	}
	ts.put("put.md", "# Short\n")
	if list := ts.get("/documents?prefix=put").body; strings.Contains(list, "indexed_lines") {
		t.Errorf("a short document: %s", list)
	}
}
