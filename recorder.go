package main

// View 4 of a record: the last requests and jobs, kept in memory and drawn as waterfalls: what curl shows where there is
// no Jaeger.

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// recorder keeps records in bounded memory: of each kind as many as fit its share, the oldest (of the slow ones: the fastest)
// go first.
type recorder struct {
	mu       sync.Mutex
	inFlight map[*record]struct{}
	requests int // in flight that are not jobs
	recent   keptRecords
	slowest  keptRecords
	failed   keptRecords
}

// recorderBytes bounds the finished records of all kinds together, by estimate.
const recorderBytes = 8 << 20

type keptRecords struct {
	records []keptRecord
	bytes   int
}

type keptRecord struct {
	*record
	bytes int
}

func newRecorder() *recorder { return &recorder{inFlight: make(map[*record]struct{})} }

func (r *recorder) begin(rec *record) {
	r.mu.Lock()
	r.inFlight[rec] = struct{}{}
	if rec.job == "" {
		r.requests++
	}
	r.mu.Unlock()
}

// end moves a record from those in flight to those it belongs to. Probes and jobs that did nothing are forgotten.
func (r *recorder) end(rec *record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.inFlight, rec)
	if rec.job == "" {
		r.requests--
	}
	if rec.failure != "" {
		r.failed.push(rec, recorderBytes/4, 100)
	}
	if rec.probe || rec.isIdleJob() {
		return
	}
	r.recent.push(rec, recorderBytes/2, 300) // each one that is kept is marked by some turns of the garbage collector
	if rec.transport == "" && rec.job == "" {
		r.slowest.insert(rec, recorderBytes/4, 50)
	}
}

// push appends rec and lets the oldest go until what is kept fits.
func (k *keptRecords) push(rec *record, most, length int) {
	bytes := rec.size()
	k.records = append(k.records, keptRecord{rec, bytes})
	for k.bytes += bytes; k.bytes > most || len(k.records) > length; {
		k.bytes -= k.records[0].bytes
		k.records[0].record = nil
		k.records = k.records[1:]
	}
}

// insert keeps the records sorted, the slowest first, and lets the fastest go until what is kept fits.
func (k *keptRecords) insert(rec *record, most, length int) {
	if n := len(k.records); n == length && rec.took <= k.records[n-1].took {
		return
	}
	at, _ := slices.BinarySearchFunc(k.records, rec.took, func(r keptRecord, took time.Duration) int { return cmp.Compare(took, r.took) })
	bytes := rec.size()
	k.records = slices.Insert(k.records, at, keptRecord{rec, bytes})
	for k.bytes += bytes; k.bytes > most || len(k.records) > length; {
		last := len(k.records) - 1
		k.bytes -= k.records[last].bytes
		k.records = slices.Delete(k.records, last, last+1)
	}
}

// size estimates the bytes that a finished record takes.
func (rec *record) size() int {
	const fixed, perStage, perAttr = 1600, 160, 96
	n := fixed + len(rec.correlation) + len(rec.path) + len(rec.userAgent) + rec.state.Len()*perAttr + perAttr*len(rec.attrs)
	for i := range rec.stages {
		n += perStage + perAttr*len(rec.stages[i].attrs)
	}
	return n
}

func (r *recorder) requestsInFlight() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

// view is a record as it is shown.
type view struct {
	CorrelationID string         `json:"correlation_id"`
	TraceID       string         `json:"trace_id"`
	Name          string         `json:"name"`
	Status        int            `json:"status,omitempty"`
	Error         string         `json:"error,omitempty"`
	Kept          string         `json:"kept,omitempty"`
	Started       time.Time      `json:"started"`
	TookMS        float64        `json:"took_ms"`
	Stage         string         `json:"stage,omitempty"` // in flight: the stage it is in
	Attributes    map[string]any `json:"attributes,omitempty"`
	Stages        []stageView    `json:"stages,omitempty"`
}

type stageView struct {
	Name       string         `json:"name"`
	Depth      int            `json:"depth"`
	StartMS    float64        `json:"start_ms"`
	TookMS     float64        `json:"took_ms"`
	Error      string         `json:"error,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`
}

// view returns rec as it is shown, with its stages if whole.
func (rec *record) view(whole bool) view {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	took := cmp.Or(rec.took, time.Since(rec.start))
	v := view{CorrelationID: rec.correlation, TraceID: rec.trace.String(), Name: rec.job, Status: rec.status,
		Error: rec.failure, Kept: rec.kept, Started: rec.start.UTC(), TookMS: milliseconds(took), Attributes: shown(rec.attrs)}
	if rec.job == "" {
		v.Name = rec.spanName()
	}
	depths := make([]int, len(rec.stages))
	for i := range rec.stages {
		st := &rec.stages[i]
		if st.parent >= 0 {
			depths[i] = depths[st.parent] + 1
		}
		end := st.end
		if end == 0 && rec.took == 0 {
			v.Stage, end = st.spanName(), took
		}
		if whole {
			v.Stages = append(v.Stages, stageView{st.spanName(), depths[i] + 1, milliseconds(st.start), milliseconds(end - st.start), errorType(st.err), shown(st.attrs)})
		}
	}
	return v
}

func shown(attrs []slog.Attr) map[string]any {
	if len(attrs) == 0 {
		return nil
	}
	m := make(map[string]any, len(attrs))
	for _, a := range attrs {
		m[a.Key] = a.Value.Any()
	}
	return m
}

// recordLists is the answer of /debug/requests.
type recordLists struct {
	InFlight []view `json:"in_flight"`
	Failed   []view `json:"failed"`
	Slowest  []view `json:"slowest"`
	Recent   []view `json:"recent"`
}

func (r *recorder) lists() recordLists {
	r.mu.Lock()
	var inFlight []keptRecord
	for rec := range r.inFlight {
		inFlight = append(inFlight, keptRecord{record: rec})
	}
	failed, slowest, recent := slices.Clone(r.failed.records), slices.Clone(r.slowest.records), slices.Clone(r.recent.records)
	r.mu.Unlock()
	slices.SortFunc(inFlight, func(a, b keptRecord) int { return a.start.Compare(b.start) })
	slices.Reverse(failed)
	slices.Reverse(recent)
	views := func(records []keptRecord) []view {
		shown := []view{}
		for _, rec := range records[:min(len(records), 100)] {
			shown = append(shown, rec.view(false))
		}
		return shown
	}
	return recordLists{views(inFlight), views(failed), views(slowest), views(recent)}
}

// find returns the records of a correlation or trace id, the oldest first.
func (r *recorder) find(id string) []view {
	r.mu.Lock()
	candidates := slices.Concat(r.recent.records, r.slowest.records, r.failed.records)
	for rec := range r.inFlight {
		candidates = append(candidates, keptRecord{record: rec})
	}
	r.mu.Unlock()
	seen := make(map[*record]bool)
	found := []view{}
	for _, rec := range candidates {
		if !seen[rec.record] && rec.hasID(id) {
			found = append(found, rec.view(true))
		}
		seen[rec.record] = true
	}
	slices.SortFunc(found, func(a, b view) int { return a.Started.Compare(b.Started) })
	return found
}

const (
	waterfallColumns = 100
	waterfallBar     = 46
)

// draw writes the waterfall, at most waterfallColumns wide: a line a stage, its bar from when to when it ran.
func (v view) draw(w *strings.Builder) {
	outcome := v.Error
	if v.Status != 0 {
		outcome = strings.TrimSpace(fmt.Sprintf("%d %s", v.Status, v.Error))
	}
	fmt.Fprintf(w, "%s  %s\n", v.Name, cmp.Or(outcome, v.Stage, "ok"))
	fmt.Fprintf(w, "%s  correlation %s\n", v.Started.Format(time.RFC3339Nano), truncate(v.CorrelationID, 54))
	fmt.Fprintf(w, "trace %s  kept: %s\n", v.TraceID, cmp.Or(v.Kept, "no"))
	line := func(depth int, name string, start, took float64, unit string) {
		scale := waterfallBar / max(v.TookMS, 0.001)
		from := min(int(start*scale), waterfallBar-1)
		to := min(max(int((start+took)*scale+0.5), from+1), waterfallBar)
		bar := strings.Repeat(" ", from) + strings.Repeat("=", to-from) + strings.Repeat(" ", waterfallBar-to)
		text := fmt.Sprintf("%-38.38s %9.3f %s|%s|", strings.Repeat("  ", depth)+name, took, unit, bar)
		fmt.Fprintln(w, text)
	}
	line(0, v.Name, 0, v.TookMS, "ms ")
	for _, st := range v.Stages {
		line(st.Depth, st.Name, st.StartMS, st.TookMS, "   ")
		for _, key := range slices.Sorted(maps.Keys(st.Attributes)) {
			if !strings.Contains(st.Name, fmt.Sprint(st.Attributes[key])) { // the name says it
				fmt.Fprintln(w, truncate(fmt.Sprintf("%s%s = %v", strings.Repeat("  ", st.Depth+1), key, st.Attributes[key]), waterfallColumns))
			}
		}
		if st.Error != "" {
			fmt.Fprintf(w, "%serror.type = %s\n", strings.Repeat("  ", st.Depth+1), st.Error)
		}
	}
	fmt.Fprintln(w)
}
