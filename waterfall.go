package main

// A record as it is shown, and its waterfall in plain text.

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// recordView is a record as /debug/requests shows it.
type recordView struct {
	CorrelationID string `json:"correlation_id"`
	TraceID       string `json:"trace_id"`

	// Name is the job, or the request's method and route.
	Name string `json:"name"`

	// Status is 0 for a job and for a request in flight.
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`

	// Kept says why the trace is kept: see record.
	Kept    string    `json:"kept,omitempty"`
	Started time.Time `json:"started"`

	// TookMS is the time so far if the record is in flight.
	TookMS float64 `json:"took_ms"`

	// Stage is the last stage that has not ended, if the record is in flight.
	Stage      string         `json:"stage,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`

	// Stages is absent in lists.
	Stages []stageView `json:"stages,omitempty"`

	// ExecutionTrace is the path under which the execution trace is kept, if it is.
	ExecutionTrace string `json:"execution_trace,omitempty"`
}

// stageView is a stage of a recordView. Its depth is 1 unless another stage surrounds it. It starts
// StartMS after the record.
type stageView struct {
	Name       string         `json:"name"`
	Depth      int            `json:"depth"`
	StartMS    float64        `json:"start_ms"`
	TookMS     float64        `json:"took_ms"`
	Error      string         `json:"error,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`
}

// view returns a view of rec, finished or in flight.
func (rec *record) view(withStages bool) recordView {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	took := cmp.Or(rec.took, time.Since(rec.start))
	v := recordView{
		CorrelationID: rec.correlation,
		TraceID:       rec.trace.String(),
		Name:          rec.job,
		Status:        rec.status,
		Error:         rec.failure,
		Kept:          rec.kept,
		Started:       rec.start.UTC(),
		TookMS:        milliseconds(took),
		Attributes:    attributeMap(rec.attrs),
	}
	if rec.job == "" {
		v.Name = rec.spanName()
	}

	if rec.traced {
		v.ExecutionTrace = "/debug/requests/" + rec.correlation + "/trace"
	}

	isInFlight := rec.took == 0
	depths := make([]int, len(rec.stages))
	for i := range rec.stages {
		st := &rec.stages[i]
		depths[i] = 1
		if st.parent >= 0 {
			depths[i] = depths[st.parent] + 1
		}

		end := st.end
		if end == 0 && isInFlight {
			end = took
			v.Stage = st.spanName()
		}

		if withStages {
			v.Stages = append(v.Stages, st.view(depths[i], end))
		}
	}
	return v
}

// view returns a view of the stage. end is when it ended, or now if it runs.
func (st *stageRecord) view(depth int, end time.Duration) stageView {
	return stageView{
		Name:       st.spanName(),
		Depth:      depth,
		StartMS:    milliseconds(st.start),
		TookMS:     milliseconds(end - st.start),
		Error:      errorType(st.err),
		Attributes: attributeMap(st.attrs),
	}
}

// attributeMap returns attrs for JSON, nil if there are none.
func attributeMap(attrs []slog.Attr) map[string]any {
	if len(attrs) == 0 {
		return nil
	}
	m := make(map[string]any, len(attrs))
	for _, a := range attrs {
		m[a.Key] = a.Value.Any()
	}
	return m
}

// outcome returns reason, after the HTTP status if there is one.
func (v recordView) outcome(reason string) string {
	if v.Status == 0 {
		return reason
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", v.Status, reason))
}

const (
	waterfallColumns = 100
	waterfallBar     = 46 // columns of a bar
)

// draw writes the record as a waterfall, at most waterfallColumns wide. Each stage has a line with a
// bar that shows when it ran, followed by its attributes.
func (v recordView) draw(w *strings.Builder) {
	fmt.Fprintf(w, "%s  %s\n", v.Name, cmp.Or(v.outcome(v.Error), v.Stage, "ok"))

	started := v.Started.Format(time.RFC3339Nano)
	fmt.Fprintf(w, "%s  correlation %s\n", started, truncate(v.CorrelationID, 54))
	fmt.Fprintf(w, "trace %s  kept: %s\n", v.TraceID, cmp.Or(v.Kept, "no"))
	if v.ExecutionTrace != "" {
		fmt.Fprintf(w, "execution trace for go tool trace: %s\n", v.ExecutionTrace)
	}

	v.drawBar(w, stageView{Name: v.Name, TookMS: v.TookMS}, "ms ")
	for _, st := range v.Stages {
		v.drawBar(w, st, "   ")
		st.drawAttributes(w)
	}
	fmt.Fprintln(w)
}

// drawBar writes the line of a stage. A bar is at least one column wide.
func (v recordView) drawBar(w *strings.Builder, st stageView, unit string) {
	scale := waterfallBar / max(v.TookMS, 0.001)
	from := min(int(st.StartMS*scale), waterfallBar-1)
	to := int((st.StartMS+st.TookMS)*scale + 0.5)
	to = min(max(to, from+1), waterfallBar)

	name := strings.Repeat("  ", st.Depth) + st.Name
	before := strings.Repeat(" ", from)
	bar := strings.Repeat("=", to-from)
	after := strings.Repeat(" ", waterfallBar-to)
	fmt.Fprintf(w, "%-38.38s %9.3f %s|%s%s%s|\n", name, st.TookMS, unit, before, bar, after)
}

// drawAttributes writes a line for each attribute, except those whose value is in the stage's name.
func (st stageView) drawAttributes(w *strings.Builder) {
	indent := strings.Repeat("  ", st.Depth+1)
	for _, key := range slices.Sorted(maps.Keys(st.Attributes)) {
		value := fmt.Sprint(st.Attributes[key])
		if strings.Contains(st.Name, value) {
			continue
		}
		line := fmt.Sprintf("%s%s = %s", indent, key, value)
		fmt.Fprintln(w, truncate(line, waterfallColumns))
	}
	if st.Error != "" {
		fmt.Fprintf(w, "%serror.type = %s\n", indent, st.Error)
	}
}
