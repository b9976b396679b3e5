package main

// The outcomes of requests and stages, as a closed set of label values, and the histograms with an outcome label.

import (
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// cappedHistogram is a histogram with three labels. The last one is the outcome. A refusal is an outcome that is the
// caller's fault, so any client can cause refusals. Therefore at most maxRefusals combinations of labels with a refusal
// have a series of their own. All others share one series. Other outcomes always have a series of their own.
type cappedHistogram struct {
	vec         *prometheus.HistogramVec
	maxRefusals int
	isRefusal   func(outcome string) bool

	mu       sync.RWMutex
	series   map[[3]string]prometheus.ExemplarObserver
	refusals int // series of refusals so far
}

// cappedOpts are the options of a cappedHistogram.
type cappedOpts struct {
	name        string
	help        string
	buckets     []float64
	constLabels prometheus.Labels
	labels      [3]string // the last one is that of the outcome
	maxRefusals int
	isRefusal   func(outcome string) bool
}

func newCappedHistogram(opts cappedOpts) *cappedHistogram {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:        opts.name,
		Help:        opts.help,
		Buckets:     opts.buckets,
		ConstLabels: opts.constLabels,
	}, opts.labels[:])
	return &cappedHistogram{
		vec:         vec,
		maxRefusals: opts.maxRefusals,
		isRefusal:   opts.isRefusal,
		series:      make(map[[3]string]prometheus.ExemplarObserver),
	}
}

// isStatusRefusal reports whether an HTTP status is 4xx: the caller is at fault.
func isStatusRefusal(status string) bool { return status[0] == '4' }

// isErrorRefusal reports whether a value of error_type is the caller's fault.
func isErrorRefusal(outcome string) bool {
	return outcome != "" && !slices.Contains(ownOutcomes, outcome)
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

// with returns the series for these labels, or the shared one for a refusal beyond maxRefusals.
func (h *cappedHistogram) with(first, second, outcome string) prometheus.ExemplarObserver {
	labels := [3]string{first, second, outcome}
	h.mu.RLock()
	series, exists := h.series[labels]
	h.mu.RUnlock()
	if exists {
		return series
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isRefusal(outcome) && h.refusals >= h.maxRefusals {
		labels = [3]string{"_OTHER", "other", "other"}
	}
	series, exists = h.series[labels] // another goroutine may have created it meanwhile
	if exists {
		return series
	}
	if h.isRefusal(outcome) {
		h.refusals++
	}
	series, _ = h.vec.WithLabelValues(labels[:]...).(prometheus.ExemplarObserver) // every histogram is one
	h.series[labels] = series
	return series
}
