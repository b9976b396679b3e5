package main

// Recorded requests as plain text: the lists of /debug/requests, and the waterfall of one request.

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

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
