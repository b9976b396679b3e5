package main

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

// TestEvalTree measures a search of a real documentation tree, the folder that EVAL_TREE names, as people use it: the
// questions in its questions.tsv, titles, words in lower case, invented words, typos, and words while they are typed.
func TestEvalTree(t *testing.T) {
	dir := os.Getenv("EVAL_TREE")
	if dir == "" {
		t.Skip("set EVAL_TREE to a folder of documents with a questions.tsv")
	}

	documents := treeDocuments(t, dir)
	m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
	if err := m.sync(t.Context(), time.Now(), documents, nil); err != nil {
		t.Fatal(err)
	}
	tree := evalTree{t, m, documents, rand.New(rand.NewPCG(1, 2))}
	t.Logf("%d documents", len(documents))
	tree.questions(filepath.Join(dir, "questions.tsv"))
	tree.titles()
	tree.mixedCase()
	tree.invented()
	tree.typos()
	tree.partial()
}

type evalTree struct {
	t         *testing.T
	m         *memory
	documents []*document
	random    *rand.Rand
}

// treeDocuments returns the documents below dir that the program would serve.
func treeDocuments(t testing.TB, dir string) []*document {
	t.Helper()
	var documents []*document
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || checkID(name) != nil {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if checkText(string(text)) == nil {
			documents = append(documents, mustDocument(t, name, string(text)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return documents
}

func (e evalTree) search(text string, partial bool) []hit {
	e.t.Helper()
	found, err := e.m.search(e.t.Context(), query{text: text, limit: 10, partial: partial})
	if err != nil {
		e.t.Fatal(err)
	}
	return found.hits
}

// log logs a share, with some of the cases that it misses.
func (e evalTree) log(name string, good, all int, missed []string) {
	e.t.Helper()
	e.t.Logf("%-32s %5.1f %% of %d   missed: %.200q", name, 100*float64(good)/float64(max(all, 1)), all,
		missed[:min(len(missed), 8)])
}

func (e evalTree) questions(file string) {
	var missed []string
	first, three, ten, all := 0, 0, 0, 0
	for _, line := range readLines(e.t, file) {
		question, ids, _ := strings.Cut(line, "\t")
		right := strings.Split(ids, ",")
		place := slices.IndexFunc(e.search(question, false), func(h hit) bool {
			return slices.Contains(right, h.Document)
		})
		all++
		if place == 0 {
			first++
		}
		if 0 <= place && place < 3 {
			three++
		}
		if place >= 0 {
			ten++
		} else {
			missed = append(missed, question)
		}
	}
	e.log("question: first", first, all, nil)
	e.log("question: in the first three", three, all, nil)
	e.log("question: not in ten", all-ten, all, missed)
}

// titles asks for each title that only one document has.
func (e evalTree) titles() {
	count := make(map[uint64]int)
	for _, d := range e.documents {
		count[titleKey(d.title)]++
	}
	var missed []string
	good, all := 0, 0
	for _, d := range e.documents {
		if count[titleKey(d.title)] != 1 {
			continue
		}
		all++
		if hits := e.search(d.title, false); len(hits) > 0 && hits[0].Document == d.id {
			good++
		} else {
			missed = append(missed, d.title)
		}
	}
	e.log("unique title: first", good, all, missed)
}

// mixedCase asks in lower case for words that have a capital inside.
func (e evalTree) mixedCase() {
	mixed := make(map[string]bool)
	for _, d := range e.documents {
		for _, c := range d.chunks {
			for run := range strings.FieldsFuncSeq(c.text, func(r rune) bool { return !isWordRune(r) }) {
				if len(run) < 30 && strings.ContainsFunc(run[1:], unicode.IsUpper) && run != strings.ToUpper(run) {
					mixed[run] = true
				}
			}
		}
	}
	var missed []string
	words := e.sample(slices.Sorted(maps.Keys(mixed)), 400)
	good := 0
	for _, w := range words {
		hits := e.search(strings.ToLower(w), false)
		if len(hits) > 0 && e.contains(hits[0].Document, w) {
			good++
		} else {
			missed = append(missed, w)
		}
	}
	e.log("mixed case in lower case: first", good, len(words), missed)
}

func (e evalTree) contains(id, word string) bool {
	_, entry := e.m.current.Load().find(id)
	return strings.Contains(strings.ToLower(entry.text), strings.ToLower(word))
}

// invented asks for words of two to four syllables that mean nothing.
func (e evalTree) invented() {
	for syllables := 2; syllables <= 4; syllables++ {
		var found []string
		for range 400 {
			word := ""
			for range syllables {
				word += string("bcdfghjklmnprstvz"[e.random.IntN(17)]) + string("aeiou"[e.random.IntN(5)])
			}
			if hits := e.search(word, false); len(hits) > 0 {
				found = append(found, word)
			}
		}
		e.log("invented word: hits", len(found), 400, found)
	}
}

// typos misspells a word of each title that only one document has, and then each word of titles by itself. The right
// page for a word is the one that is found if it is spelt correctly.
func (e evalTree) typos() {
	var missed []string
	good, nothing := 0, 0
	words := e.titleWords(5)
	for _, w := range words {
		hits := e.search(e.misspell(w), false)
		if len(hits) == 0 {
			nothing++
		}
		if right := e.search(w, false); len(hits) > 0 && hits[0].Document == right[0].Document {
			good++
		} else {
			missed = append(missed, w)
		}
	}
	e.log("typo in a title word: first", good, len(words), missed)
	e.log("typo in a title word: nothing", nothing, len(words), nil)
}

func (e evalTree) misspell(word string) string {
	at := 1 + e.random.IntN(len(word)-2)
	switch e.random.IntN(4) {
	case 0:
		return word[:at] + word[at+1:]
	case 1:
		return word[:at] + word[at:at+1] + word[at:]
	case 2:
		return word[:at] + string(rune('a'+e.random.IntN(26))) + word[at+1:]
	}
	return word[:at] + word[at+1:at+2] + word[at:at+1] + word[at+2:]
}

// partial asks for the first four letters of words of titles.
func (e evalTree) partial() {
	var missed []string
	good := 0
	words := e.titleWords(5)
	for _, w := range words {
		begins := func(other string) bool { return strings.HasPrefix(other, w[:4]) }
		hits := e.search(w[:4], true)
		if len(hits) > 0 && e.containsFunc(hits[0].Document, begins) {
			good++
		} else {
			missed = append(missed, w)
		}
	}
	e.log("four letters of a title word", good, len(words), missed)
}

func (e evalTree) containsFunc(id string, isWanted func(word string) bool) bool {
	_, entry := e.m.current.Load().find(id)
	return slices.ContainsFunc(sequence(entry.title+" "+entry.text), isWanted)
}

// titleWords returns words of titles of at least n ASCII letters.
func (e evalTree) titleWords(n int) []string {
	found := make(map[string]bool)
	isOther := func(r rune) bool { return r < 'a' || r > 'z' }
	for _, d := range e.documents {
		for w := range words(d.title) {
			if w.kind == plainWord && len(w.text) >= n && !strings.ContainsFunc(w.text, isOther) {
				found[w.text] = true
			}
		}
	}
	return e.sample(slices.Sorted(maps.Keys(found)), 300)
}

func (e evalTree) sample(words []string, n int) []string {
	e.random.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	return words[:min(n, len(words))]
}
