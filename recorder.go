package main

// View 4 of a record: the recorder keeps recent requests and jobs in memory, for use without Jaeger.
// waterfall.go draws them.

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// recorderBytes bounds the estimated size of all finished records together.
const recorderBytes = 8 << 20

// recorder keeps the records in flight and three lists of finished ones, in bounded memory.
type recorder struct {
	mu       sync.Mutex
	inFlight map[*record]struct{}
	requests int // in flight, without jobs
	recent   recordList
	slowest  recordList
	failed   recordList
	swept    time.Time // when slowest was last swept
}

// slowestAge is how long a request stays among the slowest. Without an end, the list would show an incident
// of last week, and none of the requests that are slow now.
const slowestAge = time.Hour

// newRecorder returns an empty recorder. The lists are short, because each cycle of the garbage
// collector marks all records in them.
func newRecorder() *recorder {
	return &recorder{
		inFlight: make(map[*record]struct{}),
		recent:   recordList{maxBytes: recorderBytes / 2, maxRecords: 300},
		slowest:  recordList{maxBytes: recorderBytes / 4, maxRecords: 50},
		failed:   recordList{maxBytes: recorderBytes / 4, maxRecords: 100},
	}
}

// begin adds a record that has just begun.
func (r *recorder) begin(rec *record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight[rec] = struct{}{}
	if rec.job == "" {
		r.requests++
	}
}

// end removes a finished record from those in flight and adds it to its lists. Probes and idle jobs
// are in no list unless they have failed.
func (r *recorder) end(rec *record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.inFlight, rec)
	if rec.job == "" {
		r.requests--
	}

	if rec.failure != "" {
		r.failed.push(rec)
	}
	if rec.probe || rec.isIdleJob() {
		return
	}
	r.recent.push(rec)
	if rec.transport == "" && rec.job == "" { // a stream or a job is never slow
		r.sweep(rec.start)
		r.slowest.insert(rec)
	}
}

// sweep removes from the slowest what has become too old, at most once a minute.
func (r *recorder) sweep(now time.Time) {
	if now.Sub(r.swept) < time.Minute {
		return
	}
	r.swept = now
	r.slowest.removeBefore(now.Add(-slowestAge))
}

// requestsInFlight counts the requests that have begun and not ended, without jobs.
func (r *recorder) requestsInFlight() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

// recordLists is the response of GET /debug/requests.
type recordLists struct {
	InFlight []recordView `json:"in_flight"` // the oldest first
	Failed   []recordView `json:"failed"`    // the newest first
	Slowest  []recordView `json:"slowest"`   // the slowest first
	Recent   []recordView `json:"recent"`    // the newest first
}

// lists returns views of all records, without stages.
func (r *recorder) lists() recordLists {
	r.mu.Lock()
	inFlight := slices.Collect(maps.Keys(r.inFlight))
	failed := r.failed.all()
	slowest := r.slowest.all()
	recent := r.recent.all()
	r.mu.Unlock()

	slices.SortFunc(inFlight, func(a, b *record) int { return a.start.Compare(b.start) })
	slices.Reverse(failed)
	slices.Reverse(recent)
	return recordLists{
		InFlight: summaries(inFlight),
		Failed:   summaries(failed),
		Slowest:  summaries(slowest),
		Recent:   summaries(recent),
	}
}

// summaries returns views of the first maxListed records, without stages.
func summaries(records []*record) []recordView {
	const maxListed = 100
	views := []recordView{} // not nil: JSON would have null instead of []
	for _, rec := range records[:min(len(records), maxListed)] {
		views = append(views, rec.view(false))
	}
	return views
}

// find returns views of the records with this correlation or trace id, with their stages, the oldest
// first.
func (r *recorder) find(id string) []recordView {
	r.mu.Lock()
	candidates := slices.Concat(r.recent.all(), r.slowest.all(), r.failed.all())
	candidates = slices.AppendSeq(candidates, maps.Keys(r.inFlight))
	r.mu.Unlock()

	checked := make(map[*record]bool) // a record may be in several lists
	views := []recordView{}
	for _, rec := range candidates {
		if !checked[rec] && rec.hasID(id) {
			views = append(views, rec.view(true))
		}
		checked[rec] = true
	}
	slices.SortFunc(views, func(a, b recordView) int { return a.Started.Compare(b.Started) })
	return views
}

// draw writes the lists as text, one line per record.
func (l recordLists) draw(w *strings.Builder) {
	drawList(w, "in flight", l.InFlight)
	drawList(w, "failed", l.Failed)
	drawList(w, "slowest", l.Slowest)
	drawList(w, "recent", l.Recent)
	fmt.Fprintln(w, "one in full: /debug/requests/{correlation or trace id}")
}

// drawList writes the title and the first records of one list.
func drawList(w *strings.Builder, title string, views []recordView) {
	const maxDrawn = 20
	fmt.Fprintf(w, "%s: %d\n", title, len(views))
	for _, v := range views[:min(len(views), maxDrawn)] {
		started := v.Started.Format("15:04:05.000")
		outcome := v.outcome(cmp.Or(v.Stage, v.Error))
		fmt.Fprintf(w, "  %s  %10.3f ms  %-30.30s %-12.12s %s\n",
			started, v.TookMS, v.Name, outcome, v.CorrelationID)
	}
}

// recordList is a list of finished records. It drops records when it exceeds one of its bounds.
type recordList struct {
	maxBytes   int
	maxRecords int

	records []sizedRecord
	bytes   int // of all records
}

// sizedRecord is a record and its size when it was added.
type sizedRecord struct {
	*record
	bytes int
}

// push appends rec and drops records from the front, the oldest, until the list is within its bounds.
func (l *recordList) push(rec *record) {
	added := sizedRecord{rec, rec.size()}
	l.records = append(l.records, added)
	l.bytes += added.bytes

	for l.exceedsBounds() {
		l.bytes -= l.records[0].bytes
		l.records[0].record = nil // else the backing array would keep it in memory
		l.records = l.records[1:]
	}
}

// insert adds rec to a list that is sorted, the slowest record first. It drops the fastest records,
// at the end, until the list is within its bounds.
func (l *recordList) insert(rec *record) {
	if len(l.records) == l.maxRecords && rec.took <= l.records[l.maxRecords-1].took {
		return
	}

	descending := func(r sizedRecord, took time.Duration) int { return cmp.Compare(took, r.took) }
	at, _ := slices.BinarySearchFunc(l.records, rec.took, descending)

	added := sizedRecord{rec, rec.size()}
	l.records = slices.Insert(l.records, at, added)
	l.bytes += added.bytes

	for l.exceedsBounds() {
		last := len(l.records) - 1
		l.bytes -= l.records[last].bytes
		l.records = slices.Delete(l.records, last, last+1)
	}
}

// removeBefore removes the records that began before then.
func (l *recordList) removeBefore(then time.Time) {
	l.records = slices.DeleteFunc(l.records, func(rec sizedRecord) bool {
		isOld := rec.start.Before(then)
		if isOld {
			l.bytes -= rec.bytes
		}
		return isOld
	})
}

// exceedsBounds reports whether records must be dropped.
func (l *recordList) exceedsBounds() bool {
	return l.bytes > l.maxBytes || len(l.records) > l.maxRecords
}

// all returns the records in a new slice.
func (l *recordList) all() []*record {
	records := make([]*record, len(l.records))
	for i := range l.records {
		records[i] = l.records[i].record
	}
	return records
}

// size estimates the memory of a finished record in bytes.
func (rec *record) size() int {
	const (
		fixed    = 1600
		perStage = 160
		perAttr  = 96
	)
	n := fixed + len(rec.correlation) + len(rec.path) + len(rec.userAgent)
	n += perAttr * (rec.state.Len() + len(rec.attrs))
	n += rec.attrBytes
	for i := range rec.stages {
		n += perStage + perAttr*len(rec.stages[i].attrs)
		for _, a := range rec.stages[i].attrs {
			n += attrBytes(a)
		}
	}
	return n
}
