package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// evalSet is a labelled search set: documents, and questions with the ids of the documents that answer them.
type evalSet struct {
	documents []*document
	questions []evalQuestion
}

type evalQuestion struct {
	text     string
	relevant map[string]bool
}

// scores are the means over all questions of a set (Manning et al., "Introduction to Information Retrieval", 2008,
// chapter 8): normalized discounted cumulative gain, recall and mean reciprocal rank, with binary relevance.
type scores struct{ ndcg10, recall10, recall100, mrr10 float64 }

func (s scores) String() string {
	return fmt.Sprintf("nDCG@10 %.3f  R@10 %.3f  R@100 %.3f  MRR@10 %.3f", s.ndcg10, s.recall10, s.recall100, s.mrr10)
}

// TestEval measures the ranking: on the manual in testdata, or on the set that EVAL_DIR names (docs.jsonl with id, title,
// text; queries.jsonl with id, text; qrels.tsv with query id, document id, relevance).
func TestEval(t *testing.T) {
	set, least := evalSetOfTest(t), 0.72
	if os.Getenv("EVAL_DIR") != "" {
		least = 0
	}
	m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
	if err := m.sync(t.Context(), time.Now(), set.documents, nil); err != nil {
		t.Fatal(err)
	}
	got := set.measure(t, m)
	t.Logf("%d documents, %d questions: %v", len(set.documents), len(set.questions), got)
	if got.ndcg10 < least {
		t.Errorf("nDCG@10 = %.3f, want at least %.2f: the ranking has got worse", got.ndcg10, least)
	}
}

func (set evalSet) measure(t *testing.T, st store) scores {
	t.Helper()
	if len(set.questions) == 0 {
		t.Fatal("the set has no questions") // scores would be NaN, which is below nothing
	}
	var sum scores
	for _, question := range set.questions {
		found, err := st.search(t.Context(), query{text: question.text, limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		sum.add(found.hits, question.relevant)
	}
	n := float64(len(set.questions))
	return scores{sum.ndcg10 / n, sum.recall10 / n, sum.recall100 / n, sum.mrr10 / n}
}

func (s *scores) add(hits []hit, relevant map[string]bool) {
	gain, ideal, reciprocal := 0.0, 0.0, 0.0
	found10, found100 := 0.0, 0.0
	for i, h := range hits {
		if !relevant[h.Document] {
			continue
		}
		found100++
		if i < 10 {
			found10++
			gain += 1 / math.Log2(float64(i)+2)
			reciprocal = max(reciprocal, 1/float64(i+1))
		}
	}
	for i := range min(10, len(relevant)) {
		ideal += 1 / math.Log2(float64(i)+2)
	}
	s.ndcg10 += gain / ideal
	s.recall10 += found10 / float64(len(relevant))
	s.recall100 += found100 / float64(len(relevant))
	s.mrr10 += reciprocal
}

// evalSetOfTest returns the set that EVAL_DIR names, else the manual in testdata. EVAL_DIR is a set with questions (see
// TestEval), or any folder of Markdown. Of a folder, the questions are the titles of its documents.
func evalSetOfTest(t testing.TB) evalSet {
	t.Helper()
	dir := os.Getenv("EVAL_DIR")
	if dir == "" {
		return manualSet(t)
	}
	if _, err := os.Stat(filepath.Join(dir, "docs.jsonl")); err == nil {
		return directorySet(t, dir)
	}

	set := evalSet{documents: treeDocuments(t, dir)}
	for _, d := range set.documents {
		set.questions = append(set.questions, evalQuestion{d.title, map[string]bool{d.id: true}})
	}
	if len(set.questions) == 0 {
		t.Fatalf("EVAL_DIR: %s has neither docs.jsonl nor a file .md", dir)
	}
	return set
}

// manualSet is the set in testdata: the manual of an invented backup server, and questions about it.
func manualSet(t testing.TB) evalSet {
	t.Helper()
	set := evalSet{documents: treeDocuments(t, filepath.Join("testdata", "manual"))}
	for _, line := range readLines(t, filepath.Join("testdata", "questions.tsv")) {
		text, ids, _ := strings.Cut(line, "\t")
		relevant := make(map[string]bool)
		for id := range strings.SplitSeq(ids, ",") {
			relevant[id] = true
		}
		set.questions = append(set.questions, evalQuestion{text, relevant})
	}
	return set
}

func directorySet(t testing.TB, dir string) evalSet {
	t.Helper()
	var set evalSet
	for _, line := range readLines(t, filepath.Join(dir, "docs.jsonl")) {
		var in struct{ ID, Title, Text string }
		if err := json.Unmarshal([]byte(line), &in); err != nil {
			t.Fatal(err)
		}
		set.documents = append(set.documents, mustDocument(t, in.ID+".md", "---\ntitle: "+in.Title+"\n---\n"+in.Text))
	}
	relevant := make(map[string]map[string]bool)
	for _, line := range readLines(t, filepath.Join(dir, "qrels.tsv")) {
		fields := strings.Split(line, "\t")
		if relevant[fields[0]] == nil {
			relevant[fields[0]] = make(map[string]bool)
		}
		relevant[fields[0]][fields[1]+".md"] = true
	}
	for _, line := range readLines(t, filepath.Join(dir, "queries.jsonl")) {
		var in struct{ ID, Text string }
		if err := json.Unmarshal([]byte(line), &in); err != nil {
			t.Fatal(err)
		}
		if relevant[in.ID] != nil {
			set.questions = append(set.questions, evalQuestion{in.Text, relevant[in.ID]})
		}
	}
	return set
}

func mustDocument(t testing.TB, id, text string) *document {
	t.Helper()
	d, err := newDocument(id, text, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func readLines(t testing.TB, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	scanner := bufio.NewScanner(bytes.NewReader(text))
	scanner.Buffer(nil, len(text)+1)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	return lines
}
