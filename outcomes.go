package main

// Outcomes of requests and stages as a closed set of label values, and the histograms that have them as a label.

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// labelValues are the values of a cappedHistogram's labels, in the order of cappedOpts.labels. A histogram with fewer labels
// leaves the last values empty.
type labelValues [4]string

// cappedHistogram is a histogram with an outcome among its labels. A refusal is an outcome that depends on the request alone,
// so any client can produce refusals with many combinations of labels. Therefore only the first maxRefusals of these
// combinations get a series of their own, and all others share one series. Other outcomes always get their own series.
type cappedHistogram struct {
	opts cappedOpts
	vec  *prometheus.HistogramVec
	desc *prometheus.Desc

	mu       sync.RWMutex
	series   map[labelValues]prometheus.ExemplarObserver
	expected map[labelValues]bool // see expect
	refusals int                  // unexpected refusals that have a series of their own
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
	overflow    labelValues // of the series that refusals beyond maxRefusals share
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

// isStatusRefusal reports whether a request, with its method as the first label and its status as the third, is a refusal:
// the status is 4xx. Other outcomes that the caller can choose for any route count too: those of HEAD, and the statuses that
// headers such as Range bring about.
func isStatusRefusal(values labelValues) bool {
	method, status := values[0], values[2]
	return status[0] == '4' || status == "206" || status == "304" ||
		method == http.MethodHead && status[0] != '5'
}

// isErrorRefusal reports whether error_type, the third label, is an error that is the caller's fault.
func isErrorRefusal(values labelValues) bool {
	return values[2] != "" && !slices.Contains(ownOutcomes, values[2])
}

// isMessageRefusal reports whether an MCP message is a refusal: it has an error code, the fourth label, without error_type,
// the third (see messageOutcome), or error_type is the caller's fault.
func isMessageRefusal(values labelValues) bool {
	return values[2] == "" && values[3] != "" || isErrorRefusal(values)
}

// expect makes a series with these label values exist at zero. Alerts use the rates of series, and a rate misses what a series
// counts before its first scrape. Until something is counted, the series has only the bucket +Inf. That keeps scrapes short,
// because few of the expected failures ever happen.
func (h *cappedHistogram) expect(values ...string) {
	var labels labelValues
	copy(labels[:], values)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expected[labels] = true
}

// with returns the series with these label values, or the shared one for a refusal beyond maxRefusals.
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
	// A clone, because a slice of labels would make labels escape to the heap in each call.
	values := slices.Clone(labels[:len(h.opts.labels)])
	series, _ = h.vec.WithLabelValues(values...).(prometheus.ExemplarObserver) // every histogram is one
	h.series[labels] = series
	return series
}

// Describe implements prometheus.Collector.
func (h *cappedHistogram) Describe(to chan<- *prometheus.Desc) { h.vec.Describe(to) }

// Collect implements prometheus.Collector. It also sends the expected series in which nothing has been counted.
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

// ownOutcomes are the values of error_type that are not the caller's fault. The alert on availability matches all of them
// except canceled.
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

// outcome returns the value of the label error_type for err, empty for nil. To keep the set of values closed, it replaces an
// SQLSTATE that is not in ownOutcomes by its class.
func outcome(err error) string {
	kind := errorType(err)
	if !isSQLState(kind) || slices.Contains(ownOutcomes, kind) {
		return kind
	}
	return sqlStateClass(kind, ownOutcomes)
}

// sqlStateClass returns the general code of an SQLSTATE's class, such as 08000 for 08006, or _OTHER if allowed does not have
// that code.
func sqlStateClass(state string, allowed []string) string {
	class := state[:2] + "000"
	if slices.Contains(allowed, class) {
		return class
	}
	return "_OTHER"
}

// isSQLState reports whether s has the form of an SQLSTATE: five digits or capital letters.
func isSQLState(s string) bool {
	return len(s) == 5 && strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// messageOutcome returns the labels error_type and rpc_response_status_code of an MCP message that ended with err. A mistake
// of the caller has only the code of its JSON-RPC error. A failed tool has no code, because its result is not a JSON-RPC error.
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

// toolFailure is the error_type of a tool call that fails through a mistake of the model.
const toolFailure = "tool_error"

// foldSQLState returns the error_type of a message for that of a statement. It replaces an SQLSTATE by its class, because each
// value has a series for each method and tool. The metrics of statements have the full codes.
func foldSQLState(kind string) string {
	if !isSQLState(kind) {
		return kind
	}
	return sqlStateClass(kind, messageFailures)
}

// messageFailures are the values of error_type of a message that fails through the server's fault.
var messageFailures = []string{
	"timeout", "unavailable", "connection", "_OTHER", "-32603", "503",
	"08000", "28000", "53000", "57000",
}

// embedderFailures are the values of error_type of the usual failures of an embeddings API.
var embedderFailures = []string{
	"timeout", "unavailable", "connection", "_OTHER", "401", "404", "429", "500", "503",
}
