package main

// The questions of vitrine check: searches with the documents that should answer them, and how well they are found.

import (
	"fmt"
	"os"
	"strings"
)

// askedQuestion is a line of questions.tsv: a question, a tab, and the ids of documents that answer it, separated by commas.
type askedQuestion struct {
	place string // file and line
	text  string
	ids   []string
}

// parseQuestions returns the questions in a file. It skips empty lines and lines that begin with #.
func parseQuestions(name string) ([]askedQuestion, error) {
	text, err := os.ReadFile(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}

	var questions []askedQuestion
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(strings.TrimPrefix(line, byteOrderMark))
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		place := fmt.Sprintf("%s:%d", name, number)
		text, ids, _ := strings.Cut(line, "\t")
		q := askedQuestion{
			place: place,
			text:  strings.TrimSpace(text),
			ids:   splitList(strings.ReplaceAll(ids, "\t", ",")),
		}
		if q.text == "" || len(q.ids) == 0 {
			return nil, fmt.Errorf("%s: a question, a tab and the id of a document are expected", place)
		}
		questions = append(questions, q)
	}
	return questions, nil
}

// answered counts questions by the place of their first answer.
type answered struct {
	count      int
	first      int
	firstThree int
	reciprocal float64 // sum of 1/place
}

func (a *answered) add(place int) {
	a.count++
	if place == 0 {
		return
	}
	a.reciprocal += 1 / float64(place)
	if place == 1 {
		a.first++
	}
	if place <= 3 {
		a.firstThree++
	}
}

// mrr returns the mean reciprocal rank: 1 if each question's first hit answers it.
func (a answered) mrr() float64 { return a.reciprocal / float64(a.count) }

func (a answered) String() string {
	percent := func(n int) float64 { return 100 * float64(n) / float64(a.count) }
	return fmt.Sprintf("%d: first %d (%.0f %%), first three %d (%.0f %%), MRR %.3f",
		a.count, a.first, percent(a.first), a.firstThree, percent(a.firstThree), a.mrr())
}
