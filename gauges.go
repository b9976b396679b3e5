package main

// The metrics that are read from the server at scrape time, because it knows them anyway.

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gauges is the state of the server at one moment.
type gauges struct {
	activeRequests  int
	openConnections int64
	documents       int
	chunks          int
	// When the index was last known to be in step with the folder.
	indexed time.Time
	// By the name of the check.
	ready           map[string]bool
	pool            poolStats
	logLinesDropped int64
	traces          traceStats
}

// collect registers the metrics that read returns at each scrape.
func (m *metrics) collect(read func() gauges) {
	m.registry.MustRegister(collector{read})
}

// collector makes Prometheus metrics of gauges.
type collector struct{ read func() gauges }

// Describe sends nothing, which makes the collector unchecked: Collect describes what it sends.
func (collector) Describe(chan<- *prometheus.Desc) {}

// sample is a value of a family.
type sample struct {
	value float64
	label string // value of the family's label, if it has one
}

// family is a family of metrics with at most one label.
type family struct {
	to    chan<- prometheus.Metric
	kind  prometheus.ValueType
	name  string
	help  string
	label string // name of the one label, empty for none
}

// send sends one metric for each sample.
func (f family) send(samples ...sample) {
	var labels []string
	if f.label != "" {
		labels = []string{f.label}
	}
	desc := prometheus.NewDesc(f.name, f.help, labels, nil)
	for _, s := range samples {
		values := []string{s.label}[:len(labels)]
		f.to <- prometheus.MustNewConstMetric(desc, f.kind, s.value, values...)
	}
}

// Collect sends all families.
func (c collector) Collect(to chan<- prometheus.Metric) {
	g := c.read()
	gauge := func(name, help string, value float64) {
		f := family{to: to, kind: prometheus.GaugeValue, name: name, help: help}
		f.send(sample{value: value})
	}
	counter := func(name, help string, value float64) {
		f := family{to: to, kind: prometheus.CounterValue, name: name, help: help}
		f.send(sample{value: value})
	}

	gauge("http_server_active_requests",
		"Requests that are being answered.",
		float64(g.activeRequests))
	gauge("vitrine_documents",
		"Documents in the store.",
		float64(g.documents))
	gauge("vitrine_chunks",
		"Passages in the store, the units that are found.",
		float64(g.chunks))
	gauge("vitrine_index_last_success_timestamp_seconds",
		"When the index was last known "+
			"to be in step with the folder.",
		seconds(g.indexed))
	gauge("db_client_connection_max",
		"Most connections that the database pool opens.",
		float64(g.pool.max))
	gauge("db_client_connection_pending_requests",
		"Callers that wait for a database connection.",
		float64(g.pool.pending))
	counter("db_client_connection_timeouts_total",
		"Callers that gave up waiting for a database connection.",
		float64(g.pool.timeouts))
	counter("vitrine_db_wait_seconds_total",
		"Time that callers have waited for a database connection.",
		g.pool.waited.Seconds())
	counter("vitrine_log_lines_dropped_total",
		"Log lines lost because nobody read them in time.",
		float64(g.logLinesDropped))
	gauge("vitrine_trace_queue_records",
		"Kept records that wait for export.",
		float64(g.traces.queued))
	gauge("vitrine_span_export_last_success_timestamp_seconds",
		"When spans were last exported.",
		seconds(g.traces.lastSuccess))
	c.collectLabelled(to, &g)
}

// collectLabelled sends the families with a label.
func (collector) collectLabelled(to chan<- prometheus.Metric, g *gauges) {
	idle := float64(g.openConnections) - float64(g.activeRequests)
	family{
		to:   to,
		kind: prometheus.GaugeValue,
		name: "vitrine_http_connections",
		help: "Open HTTP connections, " +
			"by whether a request is being answered on them.",
		label: "state",
	}.send(
		sample{float64(g.activeRequests), "active"},
		sample{max(0, idle), "idle"},
	)

	var checks []sample
	for name, ready := range g.ready {
		value := 0.0
		if ready {
			value = 1
		}
		checks = append(checks, sample{value, name})
	}
	family{
		to:    to,
		kind:  prometheus.GaugeValue,
		name:  "vitrine_ready",
		help:  "Whether the check of /readyz passes.",
		label: "check",
	}.send(checks...)

	family{
		to:    to,
		kind:  prometheus.GaugeValue,
		name:  "db_client_connection_count",
		help:  "Connections of the database pool.",
		label: "db_client_connection_state",
	}.send(
		sample{float64(g.pool.used), "used"},
		sample{float64(g.pool.idle), "idle"},
	)

	family{
		to:   to,
		kind: prometheus.CounterValue,
		name: "vitrine_spans_total",
		help: "Spans by what became of them: exported, dropped because the queue was full, " +
			"or failed to be exported.",
		label: "outcome",
	}.send(
		sample{float64(g.traces.exported), "exported"},
		sample{float64(g.traces.dropped), "dropped"},
		sample{float64(g.traces.failed), "failed"},
	)
}

// seconds is the form of a time in Prometheus: seconds since 1970, 0 for the zero time.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
