package main

// The outcomes of requests and stages, as a closed set of label values, and the histograms with an outcome label.

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// labelValues are the values of a cappedHistogram's labels, in their order. A histogram with fewer labels leaves the last
// ones empty.
type labelValues [4]string

// cappedHistogram is a histogram whose labels say how something ended. A refusal is an end that the caller's request alone
// brings about, so any client can cause refusals. Therefore at most maxRefusals combinations of labels with a refusal have a
// series of their own. All others share one series. Other ends always have a series of their own.
type cappedHistogram struct {
	opts cappedOpts
	vec  *prometheus.HistogramVec
	desc *prometheus.Desc

	mu       sync.RWMutex
	series   map[labelValues]prometheus.ExemplarObserver
	expected map[labelValues]bool // series that exist at zero
	refusals int                  // series of refusals so far
}

// cappedOpts are the options of a cappedHistogram.
type cappedOpts struct {
	name        string
	help        string
	buckets     []float64
	constLabels prometheus.Labels
	labels      []string
	maxRefusals int
	isRefusal   func(values labelValues) bool
	overflow    labelValues // of the series that the refusals beyond maxRefusals share
}

func newCappedHistogram(opts cappedOpts) *cappedHistogram {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:        opts.name,
		Help:        opts.help,
		Buckets:     opts.buckets,
		ConstLabels: opts.constLabels,
	}, opts.labels)
	return &cappedHistogram{
		opts:     opts,
		vec:      vec,
		desc:     prometheus.NewDesc(opts.name, opts.help, opts.labels, opts.constLabels),
		series:   make(map[labelValues]prometheus.ExemplarObserver),
		expected: make(map[labelValues]bool),
	}
}

// isStatusRefusal reports whether the HTTP status, the third label, is 4xx: the caller is at fault. What else only a
// caller brings about counts too: HEAD, the first label, of any route, and the statuses of headers such as Range.
func isStatusRefusal(values labelValues) bool {
	method, status := values[0], values[2]
	return status[0] == '4' || status == "206" || status == "304" ||
		method == http.MethodHead && status[0] != '5'
}

// isErrorRefusal reports whether error_type, the third label, is the caller's fault.
func isErrorRefusal(values labelValues) bool {
	return values[2] != "" && !slices.Contains(ownOutcomes, values[2])
}

// isMessageRefusal reports whether an MCP message has an error code, the fourth label, that is the caller's fault.
func isMessageRefusal(values labelValues) bool {
	return values[2] == "" && values[3] != "" || isErrorRefusal(values)
}

// expect makes a series exist at zero. An alert divides by the rate of series, and a rate misses what a series counts
// before it is first scraped. Until something is counted in the series, it has no bucket but the last one. That keeps the
// answer to a scrape short, because few of the expected failures ever happen.
func (h *cappedHistogram) expect(values ...string) {
	var labels labelValues
	copy(labels[:], values)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expected[labels] = true
}

// Describe sends the description of the family.
func (h *cappedHistogram) Describe(to chan<- *prometheus.Desc) { h.vec.Describe(to) }

// Collect sends all series.
func (h *cappedHistogram) Collect(to chan<- prometheus.Metric) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.vec.Collect(to)
	for labels := range h.expected {
		if _, exists := h.series[labels]; !exists {
			values := labels[:len(h.opts.labels)]
			to <- prometheus.MustNewConstHistogram(h.desc, 0, 0, nil, values...)
		}
	}
}

// ownOutcomes are the errors that are not the caller's fault. The alert on availability matches all of them except
// canceled.
var ownOutcomes = []string{
	"canceled", "timeout", "unavailable", "connection", "_OTHER",
	"-32603", "500", "503", "507",

	// SQLSTATEs: connection, data, transaction state,
	"08000", "08001", "08003", "08004", "08006", "22021", "25006",
	// authorization, database name, rollback, access,
	"28000", "28P01", "3D000", "40001", "40P01", "42501", "42P01",
	// resources, limits, locks, operator, system, internal.
	"53000", "53100", "53200", "53300", "53400", "54000", "55P03",
	"57000", "57014", "57P01", "57P02", "57P03", "57P05",
	"58000", "58030", "XX000",
}

// outcome returns the value of the label error_type for err, empty for nil. To keep the set of values closed, it replaces
// an SQLSTATE that is not in ownOutcomes by the general code of its class, or by _OTHER if that is not there either.
func outcome(err error) string {
	kind := errorType(err)
	if !isSQLState(kind) || slices.Contains(ownOutcomes, kind) {
		return kind
	}
	class := kind[:2] + "000"
	if slices.Contains(ownOutcomes, class) {
		return class
	}
	return "_OTHER"
}

// isSQLState reports whether s has the form of an SQLSTATE: five digits or capital letters.
func isSQLState(s string) bool {
	return len(s) == 5 && strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// messageOutcome returns the labels error_type and rpc_response_status_code of an MCP message. A mistake of the caller has
// only the code of its JSON-RPC error. A failed tool has no code, because its result is not a JSON-RPC error.
func messageOutcome(err error) (kind, code string) {
	if err == nil {
		return "", ""
	}
	kind = foldSQLState(outcome(err))
	p := publicError(err)
	switch {
	case kind == toolFailure:
		return kind, ""
	case !slices.Contains(ownOutcomes, kind):
		return "", strconv.Itoa(p.code)
	case p.status >= http.StatusInternalServerError:
		return kind, strconv.Itoa(p.code)
	}
	return kind, ""
}

// toolFailure is the error_type of a tool that cannot do as asked, through a mistake of the model.
const toolFailure = "tool_error"

// foldSQLState replaces most SQLSTATEs, because each has a series for each method and tool. The metrics of statements have
// them all.
func foldSQLState(kind string) string {
	if !isSQLState(kind) {
		return kind
	}
	class := kind[:2] + "000"
	if slices.Contains(messageFailures, class) {
		return class
	}
	return "_OTHER"
}

// messageFailures are the values of error_type of messages that fail through the server's fault.
var messageFailures = []string{
	"timeout", "unavailable", "connection", "_OTHER", "-32603", "503",
	"08000", "28000", "53000", "57000",
}

// embedderFailures are the usual failures of an embeddings API.
var embedderFailures = []string{
	"timeout", "unavailable", "connection", "_OTHER", "401", "404", "429", "500", "503",
}

// with returns the series for these labels, or the shared one for a refusal beyond maxRefusals.
func (h *cappedHistogram) with(labels labelValues) prometheus.ExemplarObserver {
	h.mu.RLock()
	series, exists := h.series[labels]
	h.mu.RUnlock()
	if exists {
		return series
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	isCounted := h.opts.isRefusal(labels) && !h.expected[labels]
	if isCounted && h.refusals >= h.opts.maxRefusals {
		labels = h.opts.overflow
	}
	series, exists = h.series[labels] // another goroutine may have created it meanwhile
	if exists {
		return series
	}
	if isCounted {
		h.refusals++
	}
	// A slice of labels itself would move it to the heap in each call.
	values := slices.Clone(labels[:len(h.opts.labels)])
	series, _ = h.vec.WithLabelValues(values...).(prometheus.ExemplarObserver) // every histogram is one
	h.series[labels] = series
	return series
}
