package main

// Gaps: questions that the documents do not answer. A search leaves one if it finds nothing, and agents report some. With
// RECORD_GAPS they are kept in memory for GET /debug/gaps. Their text is private, so no other output shows it.

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

const (
	maxGaps = 200

	// maxReportChars limits the question of a report.
	maxReportChars = 500

	// A client may send reportBurst reports at once, and then reportRate a second.
	reportRate  = 0.1
	reportBurst = 20
)

// Problems that a search finds.
const (
	gapNothingFound = "nothing_found"
	gapCorrected    = "corrected" // found only by another spelling
)

// reportProblems are the problems that agents report: a closed set, because they are values of a label.
var reportProblems = []string{"missing", "wrong", "outdated", "unclear"}

// gapKey identifies a gap. Occurrences with the same key are counted together.
type gapKey struct {
	Question string `json:"question"` // normalized
	Problem  string `json:"problem"`
	Prefix   string `json:"prefix,omitempty"`   // of the search
	Document string `json:"document,omitempty"` // that the report names
}

// gap is a gap in the response of GET /debug/gaps.
type gap struct {
	gapKey
	Count         int       `json:"count"`
	Last          time.Time `json:"last"`
	Client        string    `json:"client"` // the last one
	CorrelationID string    `json:"correlation_id"`
	Request       string    `json:"request"` // the path of its waterfall
	Test          string    `json:"test"`    // a line for questions.tsv
}

// gapList keeps the gaps. A nil list keeps none.
type gapList struct {
	limits *limiter // of reports, by client

	mu       sync.Mutex // guards the following
	gaps     map[gapKey]*gap
	reported map[string]int64 // reports, by problem
}

func newGapList() *gapList {
	return &gapList{
		limits:   newLimiter(reportRate, reportBurst),
		gaps:     make(map[gapKey]*gap),
		reported: make(map[string]int64),
	}
}

// searched adds a search that found nothing, or something only by another spelling. A partial query is no question yet.
func (l *gapList) searched(ctx context.Context, q query, result found) {
	if l == nil || q.partial {
		return
	}
	isFound := len(result.hits) > 0
	if isFound && result.corrected == "" {
		return
	}
	problem := gapNothingFound
	if isFound {
		problem = gapCorrected
	}

	l.add(ctx, gapKey{
		Question: normalizeQuestion(q.text),
		Problem:  problem,
		Prefix:   visibleText(q.prefix),
	})
}

// report adds a report. problem is one of reportProblems.
func (l *gapList) report(ctx context.Context, question, problem, document string) {
	l.add(ctx, gapKey{
		Question: normalizeQuestion(question),
		Problem:  problem,
		Document: visibleText(document),
	})

	l.mu.Lock()
	defer l.mu.Unlock()
	l.reported[problem]++
}

// add counts an occurrence of a gap in the request of ctx.
func (l *gapList) add(ctx context.Context, key gapKey) {
	correlation, client := requestOrigin(ctx)
	client = visibleText(client)

	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.gaps[key]
	if g == nil {
		l.makeRoom()
		g = &gap{gapKey: key, Test: key.testLine()}
		l.gaps[key] = g
	}
	g.Count++
	g.Last = time.Now().UTC()
	g.Client = client
	g.CorrelationID = correlation
	g.Request = "/debug/requests/" + correlation
}

// makeRoom deletes a gap if the list is full: of those with the lowest count, the oldest. Reports outlast searches.
func (l *gapList) makeRoom() {
	if len(l.gaps) < maxGaps {
		return
	}
	victim := slices.MinFunc(slices.Collect(maps.Values(l.gaps)), func(a, b *gap) int {
		return cmp.Or(
			cmp.Compare(a.rank(), b.rank()),
			cmp.Compare(a.Count, b.Count),
			a.Last.Compare(b.Last))
	})
	delete(l.gaps, victim.gapKey)
}

// rank is 1 for a report and 0 for a search.
func (k gapKey) rank() int {
	if slices.Contains(reportProblems, k.Problem) {
		return 1
	}
	return 0
}

// testLine returns the question as a line of testdata/questions.tsv. Without a document, the reader fills in the page that
// answers the question. A # at the beginning would make it a comment there, and a search does not see it.
func (k gapKey) testLine() string {
	question := cmp.Or(strings.TrimLeft(k.Question, "# "), k.Question)
	return question + "\t" + cmp.Or(k.Document, "PAGE.md")
}

// all returns the gaps, those with the highest count first.
func (l *gapList) all() []gap {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := []gap{} // not null in JSON
	for _, g := range l.gaps {
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b gap) int {
		return cmp.Or(
			cmp.Compare(b.Count, a.Count),
			b.Last.Compare(a.Last),
			cmp.Compare(a.Question, b.Question),
			cmp.Compare(a.Problem, b.Problem))
	})
	return list
}

// reports returns how many reports there were, by problem. It has all problems, even if the list is nil.
func (l *gapList) reports() map[string]int64 {
	counts := make(map[string]int64)
	for _, problem := range reportProblems {
		counts[problem] = 0
	}
	if l == nil {
		return counts
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(counts, l.reported)
	return counts
}

// normalizeQuestion returns a question in lower case, without the punctuation at its end. Questions with the same
// normalized text are the same gap.
func normalizeQuestion(question string) string {
	text := strings.ToLower(visibleText(question))
	return cmp.Or(strings.TrimRight(text, " ?!."), text)
}

// visibleText returns text on one line, without control and invisible characters. A control character
// separates words. A format character, such as U+202E, does not.
func visibleText(text string) string {
	visible := strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Cf, r):
			return -1
		case !unicode.IsPrint(r):
			return ' '
		}
		return r
	}, text)
	return strings.Join(strings.Fields(visible), " ")
}

// gapsAnswer is the response of GET /debug/gaps.
type gapsAnswer struct {
	Gaps []gap `json:"gaps"`
}

// handleGaps answers with the gaps, as text or JSON.
func (s *server) handleGaps(w http.ResponseWriter, r *http.Request) error {
	if s.gaps == nil {
		return userError{http.StatusNotFound,
			"no gaps are recorded: start the server with RECORD_GAPS=true"}
	}
	list := s.gaps.all()
	asJSON, err := wantsJSON(r)
	if err != nil {
		return err
	}
	if asJSON {
		w.Header()["Cache-Control"] = noStore
		writeJSON(w, http.StatusOK, gapsAnswer{list})
		return nil
	}

	var text strings.Builder
	fmt.Fprintf(&text, "gaps: %d\n", len(list))
	for _, g := range list {
		g.draw(&text)
	}
	return writeText(w, http.StatusOK, text.String())
}

// draw writes a gap as text.
func (g *gap) draw(w *strings.Builder) {
	fmt.Fprintf(w, "\n%d× %s: %q", g.Count, g.Problem, g.Question)
	if g.Prefix != "" {
		fmt.Fprintf(w, " below %q", g.Prefix)
	}
	if g.Document != "" {
		fmt.Fprintf(w, " in %q", g.Document)
	}
	fmt.Fprintf(w, "\n  last:    %s by %s\n", g.Last.Format(time.RFC3339), g.Client)
	fmt.Fprintf(w, "  request: %s\n", g.Request)
	fmt.Fprintf(w, "  test:    %s\n", g.Test)
}
