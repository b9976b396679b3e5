package main

// The metrics that are read from the state of the server at scrape time.

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gauges is the state of the server at one moment.
type gauges struct {
	activeRequests  int
	openConnections int
	maxConnections  int
	documents       int
	chunks          int

	// When the index was last known to be in step with the folder, and the time since then by the same clock (0: never).
	indexed  time.Time
	indexAge time.Duration

	ready map[string]bool // by the name of the check
	pool  poolStats

	// Searches that wait now to begin, and those that were refused since the start.
	admissionWaiting int64
	admissionRefused int64
	authFailures     int64 // wrong tokens since the start

	logLinesDropped int64
	gapReports      map[string]int64 // by problem
	traces          traceStats
	cost            time.Duration // CPU time of observability
}

// collect registers a collector that calls read at each scrape.
func (m *metrics) collect(read func() gauges) {
	m.registry.MustRegister(collector{read})
}

// collector turns gauges into Prometheus metrics.
type collector struct {
	read func() gauges
}

// Describe sends nothing, so that Prometheus does not check in advance which metrics Collect sends.
func (collector) Describe(chan<- *prometheus.Desc) {}

// sample is one series of a family with one label.
type sample struct {
	label string
	value float64
}

// sender sends families of metrics to Prometheus.
type sender chan<- prometheus.Metric

// gauge sends a gauge without labels.
func (s sender) gauge(name, help string, value float64) {
	desc := prometheus.NewDesc(name, help, nil, nil)
	const kind = prometheus.GaugeValue
	s <- prometheus.MustNewConstMetric(desc, kind, value)
}

// counter sends a counter without labels.
func (s sender) counter(name, help string, value float64) {
	desc := prometheus.NewDesc(name, help, nil, nil)
	const kind = prometheus.CounterValue
	s <- prometheus.MustNewConstMetric(desc, kind, value)
}

// family sends a family with one label and one series for each sample.
func (s sender) family(
	kind prometheus.ValueType,
	label, name, help string,
	samples ...sample,
) {
	desc := prometheus.NewDesc(name, help, []string{label}, nil)
	s.samples(kind, desc, samples)
}

// samples sends one series of desc, which has one label, for each sample.
func (s sender) samples(
	kind prometheus.ValueType,
	desc *prometheus.Desc,
	samples []sample,
) {
	for _, one := range samples {
		s <- prometheus.MustNewConstMetric(
			desc,
			kind,
			one.value,
			one.label)
	}
}

// Collect sends all families.
func (c collector) Collect(to chan<- prometheus.Metric) {
	g := c.read()
	out := sender(to)

	out.gauge("http_server_active_requests",
		"Requests that are being answered.",
		float64(g.activeRequests))
	out.gauge("vitrine_documents",
		"Documents in the store.",
		float64(g.documents))
	out.gauge("vitrine_chunks",
		"Passages in the store, the units that are found.",
		float64(g.chunks))
	out.gauge("vitrine_index_last_success_timestamp_seconds",
		"When the index was last known "+
			"to be in step with the folder.",
		seconds(g.indexed))
	out.gauge("vitrine_index_age_seconds",
		"Time since the index was last known "+
			"to be in step with the folder, by the server's own clock; "+
			"0 before the first scan has ended.",
		g.indexAge.Seconds())
	out.counter("vitrine_log_lines_dropped_total",
		"Log lines lost because nobody read them in time.",
		float64(g.logLinesDropped))
	out.counter("vitrine_observability_cpu_seconds_total",
		"CPU time that records, logs, metrics and traces took: "+
			"of batches measured, of the requests themselves "+
			"estimated from one in 64.",
		g.cost.Seconds())
	out.gauge("vitrine_trace_queue_records",
		"Kept records that wait for export.",
		float64(g.traces.queued))
	out.gauge("vitrine_span_export_last_success_timestamp_seconds",
		"When spans were last exported.",
		seconds(g.traces.lastSuccess))
	out.gauge("vitrine_span_export_age_seconds",
		"Time since spans were last exported, "+
			"by the server's own clock; 0 before the first export.",
		age(g.traces.lastSuccess).Seconds())
	g.sendPool(out)
	g.sendRefusals(out)
	g.sendLabelled(out)
}

// sendPool sends the families of the connection pool.
func (g *gauges) sendPool(out sender) {
	const label = "db_client_connection_pool_name"
	out.family(prometheus.GaugeValue, label,
		"db_client_connection_max",
		"Most connections that the database pool opens.",
		sample{poolName, float64(g.pool.max)})
	out.family(prometheus.GaugeValue, label,
		"db_client_connection_pending_requests",
		"Callers that wait for a database connection.",
		sample{poolName, float64(g.pool.pending)})
	out.family(prometheus.CounterValue, label,
		"db_client_connection_timeouts_total",
		"Callers that gave up waiting "+
			"for a database connection.",
		sample{poolName, float64(g.pool.timeouts)})

	count := prometheus.NewDesc("db_client_connection_count",
		"Connections of the database pool.",
		[]string{"db_client_connection_state"},
		prometheus.Labels{label: poolName})
	out.samples(prometheus.GaugeValue, count, []sample{
		{"used", float64(g.pool.used)},
		{"idle", float64(g.pool.idle)},
	})
	out.counter("vitrine_db_wait_seconds_total",
		"Time that callers have waited "+
			"for a database connection.",
		g.pool.waited.Seconds())
}

// sendRefusals sends the families of the limits that protect the server.
func (g *gauges) sendRefusals(out sender) {
	out.gauge("vitrine_admission_waiting",
		"Searches and pages that wait until others have ended.",
		float64(g.admissionWaiting))
	out.counter("vitrine_admission_refused_total",
		"Searches and pages that were refused "+
			"because too many ran and waited.",
		float64(g.admissionRefused))
	out.counter("vitrine_auth_failures_total",
		"Requests with a wrong token.",
		float64(g.authFailures))
}

// sendLabelled sends the families with a label.
func (g *gauges) sendLabelled(out sender) {
	active := float64(g.activeRequests)
	idle := float64(g.openConnections) - active
	out.family(
		prometheus.GaugeValue,
		"state",
		"vitrine_http_connections",
		"Open HTTP connections, "+
			"by whether a request is being answered on them, "+
			"and how many there may be.",
		sample{"active", active},
		sample{"idle", max(0, idle)},
		sample{"limit", float64(g.maxConnections)},
	)

	var checks []sample
	for name, ready := range g.ready {
		value := 0.0
		if ready {
			value = 1
		}
		checks = append(checks, sample{name, value})
	}
	out.family(
		prometheus.GaugeValue,
		"check",
		"vitrine_ready",
		"Whether the check of /readyz passes.",
		checks...,
	)

	var reports []sample
	for problem, n := range g.gapReports {
		reports = append(reports, sample{problem, float64(n)})
	}
	out.family(
		prometheus.CounterValue,
		"problem",
		"vitrine_gaps_total",
		"Gaps in the documents that agents have reported.",
		reports...,
	)

	g.sendOutcomes(out)
}

// sendOutcomes sends what became of spans.
func (g *gauges) sendOutcomes(out sender) {
	out.family(
		prometheus.CounterValue,
		"outcome",
		"vitrine_spans_total",
		"Spans by what became of them: exported, "+
			"dropped because the queue was full, "+
			"or failed to be exported.",
		sample{"exported", float64(g.traces.exported)},
		sample{"dropped", float64(g.traces.dropped)},
		sample{"failed", float64(g.traces.failed)},
	)
}

// seconds converts a time to seconds since 1970, as Prometheus expects it. The zero time becomes 0.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// age returns the time since t by the clock that t was read from, 0 for the zero time.
func age(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return time.Since(t)
}
