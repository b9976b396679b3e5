package main

// The search of the PostgreSQL store: one statement ranks by both legs and fuses them, as the embedded
// store does. Before it, a short one looks up which of the query's words exist.

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lib/pq"
)

// search ranks by the lexical and the vector leg and fuses the two document by document: see fuse. If the
// embedder does not answer, the lexical leg ranks alone.
func (p *postgres) search(ctx context.Context, q query) (found, error) {
	vector, embedErr := p.embedder.query(ctx, q.text)
	if ctx.Err() != nil {
		return found{}, ctx.Err()
	}
	if isZero(vector) {
		vector = nil // a query without words is similar to no text
	}
	leave, err := p.admission.enter(ctx, clientOf(ctx))
	if err != nil {
		return found{}, err
	}
	defer leave()

	result := found{degraded: embedErr != nil}
	err = p.transact(ctx, querySearch, func(tx *transaction) error {
		asked, err := p.ask(ctx, tx, q)
		if err != nil {
			return err
		}
		if asked.question.text != q.text {
			result.corrected = asked.question.text
			if !p.embedder.worthReusing() { // it is the built-in one; models understand misspelt words
				vector, _ = p.embedder.query(ctx, result.corrected)
			}
		}
		if len(asked.question.phrases) > 0 {
			result.hits, err = p.searchPhrases(ctx, tx, q, asked)
		} else {
			result.hits, err = p.searchLegs(ctx, tx, q, asked, vector)
		}
		return err
	})
	return result, err
}

// ask analyzes the query. It completes its last word if that is partial, and corrects words that no
// document has.
func (p *postgres) ask(ctx context.Context, tx *transaction, q query) (askedTerms, error) {
	v := storedWords{ctx, tx, p.frequencies.Load()}
	asked := newQuestion(q.text, q.partial)
	if err := v.complete(asked); err != nil {
		return askedTerms{}, err
	}
	df, err := p.documentFrequency(ctx, tx, asked.terms())
	if err != nil {
		return askedTerms{}, err
	}

	corrected, err := asked.correct(asked.unknown(df), v)
	if err != nil {
		return askedTerms{}, err
	}
	if corrected != nil {
		asked = corrected
		df, err = p.documentFrequency(ctx, tx, asked.terms())
		if err != nil {
			return askedTerms{}, err
		}
	}
	return askedTerms{asked, asked.weights(df, p.frequencies.Load().chunks)}, nil
}

// documentFrequency returns a function that estimates how many chunks contain one of terms. It is 0 only
// for terms that no document has. Statistics know the common terms. The words table knows which of the
// others exist.
func (p *postgres) documentFrequency(
	ctx context.Context,
	tx *transaction,
	terms []term,
) (func(term) int, error) {
	f := p.frequencies.Load()
	var rare []int64
	for _, t := range terms {
		if f.counts[t] == 0 {
			rare = append(rare, int64(t))
		}
	}

	exists := make(map[term]bool)
	if len(rare) > 0 {
		var known []int64
		err := tx.row(ctx, []any{pq.Array(&known)}, `
			SELECT array_agg(DISTINCT term) FROM words WHERE term = ANY($1::int[])`,
			pq.Array(rare))
		if err != nil {
			return nil, err
		}
		for _, t := range known {
			exists[term(t)] = true
		}
	}

	return func(t term) int {
		switch {
		case f.counts[t] > 0:
			return f.counts[t]
		case exists[t]:
			return max(f.rare, 1)
		}
		return 0
	}, nil
}

// maxVocabularyRead is the most words that a completion reads.
const maxVocabularyRead = 2000

// storedWords is the dictionary of the PostgreSQL store.
type storedWords struct {
	ctx         context.Context
	tx          *transaction
	frequencies *frequencies
}

// complete sets the completions of the question's partial word: the most frequent ones.
func (v storedWords) complete(q *question) error {
	if q.partial == "" {
		return nil
	}
	column := func(word *string) []any { return []any{word} }
	all, err := txRows(v.ctx, v.tx, column, `
		SELECT word FROM words WHERE word LIKE $1 ORDER BY word LIMIT $2`,
		likePrefix(q.partial),
		maxVocabularyRead)
	if err != nil {
		return err
	}

	all, err = v.mostFrequent(all, 1)
	q.complete(all)
	return err
}

// frequent implements dictionary.
func (v storedWords) frequent(words []string) ([]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	column := func(word *string) []any { return []any{word} }
	stored, err := txRows(v.ctx, v.tx, column, `
		SELECT word FROM words WHERE word = ANY($1)`,
		pq.Array(words))
	if err != nil {
		return nil, err
	}
	return v.mostFrequent(stored, minFrequency(v.frequencies.chunks))
}

// nearest implements dictionary. It compares with all words of about the same length.
func (v storedWords) nearest(misspelt string) ([]string, error) {
	length := utf8.RuneCountInString(misspelt)
	edits := maxEdits(misspelt)
	var joined sql.NullString
	err := v.tx.row(v.ctx, []any{&joined}, `
		SELECT string_agg(word, ' ') FROM words WHERE char_length(word) BETWEEN $1 AND $2`,
		length-edits,
		length+edits)
	if err != nil {
		return nil, err
	}

	s := newSpeller(misspelt)
	for w := range strings.SplitSeq(joined.String, " ") {
		s.add(w, newWordShape(w))
	}
	return v.mostFrequent(s.nearest, minFrequency(v.frequencies.chunks))
}

// mostFrequent returns the words that at least minimum chunks contain, in the order of the function mostFrequent.
func (v storedWords) mostFrequent(words []string, minimum int) ([]string, error) {
	counts, err := v.count(words)
	if err != nil {
		return nil, err
	}
	frequency := func(t term) int { return cmp.Or(v.frequencies.counts[t], counts[t]) }
	return mostFrequent(words, frequency, minimum), nil
}

// count returns how many chunks contain the words that the statistics do not know. These are rare. Counting a common word
// would read most chunks. The words table has no counts, and it also has words of documents that have been removed.
func (v storedWords) count(words []string) (map[term]int, error) {
	var rare []int64
	for _, w := range words {
		t := newTerm(w)
		if v.frequencies.counts[t] == 0 {
			rare = append(rare, int64(t))
		}
	}
	if len(rare) == 0 {
		return nil, nil
	}

	type counted struct {
		term  int64
		count int
	}
	columns := func(c *counted) []any { return []any{&c.term, &c.count} }
	all, err := txRows(v.ctx, v.tx, columns, `
		SELECT slot, count(*) FROM chunks, unnest(slots) AS slot
		WHERE slots && $1::int[] AND slot = ANY($1::int[]) GROUP BY slot`,
		pq.Array(rare))
	if err != nil {
		return nil, err
	}
	counts := make(map[term]int)
	for _, c := range all {
		counts[term(c.term)] = c.count
	}
	return counts, nil
}

// isZero reports whether v is nil or the zero vector. A text without words has the zero vector.
func isZero(v []float32) bool {
	return !slices.ContainsFunc(v, func(x float32) bool { return x != 0 })
}
