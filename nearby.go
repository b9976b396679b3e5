package main

// Hints for clients that ask for a document that does not exist: the documents with the most similar ids.

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxNearby = 3 // documents in a hint

	// maxNearbyIDs is how many ids are compared, and how many more of the same folder. In a larger set, the hint may miss
	// the nearest.
	maxNearbyIDs = 5000

	// maxPathWords is how many words of an id are compared, from its end. Each is compared with each of the other id.
	maxPathWords = 16
)

// document returns the document with this id. If there is none, the error has status 404 and names the nearest ids.
func (s *server) document(ctx context.Context, id string) (*document, error) {
	if checkID(id) == nil { // PostgreSQL would refuse an id with NUL or without UTF-8
		d, err := s.store.document(ctx, id)
		if !errors.Is(err, errNotFound) {
			return d, err
		}
	}

	hint := s.didYouMean(ctx, id)
	if hint == "" {
		return nil, errNotFound
	}
	return nil, userErrorf(http.StatusNotFound, "no document %.80q: %s", id, hint)
}

// checkReadID returns the error of checkID. It names the nearest ids, such as guide/install.md for guide/install.
func (s *server) checkReadID(ctx context.Context, id string) error {
	err := checkID(id)
	if err == nil {
		return nil
	}
	hint := s.didYouMean(ctx, id)
	if hint == "" {
		return err
	}
	return userErrorf(http.StatusBadRequest, "%v; %s", err, hint)
}

// didYouMean returns a question that names the ids nearest to id, or "" if none is similar. It returns no error, because
// the answer that there is no such document is right without the hint.
func (s *server) didYouMean(ctx context.Context, id string) string {
	near, err := s.nearbyIDs(ctx, id)
	if err != nil {
		return ""
	}
	return meantOneOf(near)
}

// meantOneOf returns a question that offers names, or "" if there are none.
func meantOneOf(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "did you mean " + strings.Join(names, ", ") + "?"
}

// nearbyIDs returns the ids that share most words of their path with id, the nearest first: see pathSimilarity. There are
// none for an id that is too long for a document: it may have thousands of words to compare. And there are none while too
// many requests ask for them, because comparing takes longer than the rest of such a request.
func (s *server) nearbyIDs(ctx context.Context, id string) ([]string, error) {
	if utf8.RuneCountInString(id) > maxIDBytes {
		return nil, nil
	}
	leave, err := s.hints.enter(ctx, clientOf(ctx))
	if err != nil {
		return nil, nil
	}
	defer leave()
	documents, err := s.comparedWith(ctx, id)
	if err != nil {
		return nil, err
	}

	type candidate struct {
		id    string
		score float64
	}
	wanted := pathWords(id)
	var found []candidate
	for _, d := range documents {
		score := pathSimilarity(wanted, pathWords(d.ID))
		if score > 0 {
			found = append(found, candidate{d.ID, score})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.id, b.id))
	})

	var near []string
	for _, c := range found[:min(len(found), maxNearby)] {
		near = append(near, c.id)
	}
	return near, nil
}

// comparedWith returns the documents whose ids are compared with id: the first ones of all, and in a larger set those of the
// folder that id names. If that has none, they are those of the folder at the top.
func (s *server) comparedWith(ctx context.Context, id string) ([]documentInfo, error) {
	first, err := s.store.list(ctx, "", "", maxNearbyIDs)
	folder := path.Dir(strings.TrimLeft(id, "./")) + "/"
	if err != nil || len(first) < maxNearbyIDs || checkPrefix(folder) != nil {
		return first, err
	}

	inside, err := s.store.list(ctx, folder, "", maxNearbyIDs)
	if err == nil && len(inside) == 0 {
		top, _, _ := strings.Cut(folder, "/")
		inside, err = s.store.list(ctx, top+"/", "", maxNearbyIDs)
	}
	if err != nil {
		return nil, err
	}
	last := first[len(first)-1].ID
	inside = slices.DeleteFunc(inside, func(d documentInfo) bool { return d.ID <= last })
	return slices.Concat(first, inside), nil
}

// pathWords returns the last words of an id without its suffix.
func pathWords(id string) []string {
	words := foldedWords(withoutSuffix(id))
	return words[max(0, len(words)-maxPathWords):]
}

// pathSimilarity returns the share of words that two ids have in common, from 0 to 1. It is the Sørensen–Dice coefficient, in
// which similar words count too: see wordSimilarity.
func pathSimilarity(a, b []string) float64 {
	shared := 0.0
	for _, word := range a {
		best := 0.0
		for _, other := range b {
			best = max(best, wordSimilarity(word, other))
		}
		shared += best
	}
	return 2 * shared / float64(max(1, len(a)+len(b)))
}

// wordSimilarity returns 1 for equal words. It returns 0.5 if one is the beginning of the other, such as deploy and
// deployment, or misspelt by one letter, such as kitchn and kitchen. In shorter words a letter may be all the difference.
func wordSimilarity(a, b string) float64 {
	const (
		minBeginning = 3
		minMisspelt  = 4
	)
	shorter := min(len(a), len(b))
	isBeginning := strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
	switch {
	case a == b:
		return 1
	case shorter >= minBeginning && isBeginning,
		shorter >= minMisspelt && isOneEditAway(a, b):
		return 0.5
	}
	return 0
}
