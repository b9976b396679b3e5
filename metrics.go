package main

// View 2 of a record: the metrics. The only room that knows Prometheus.

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Buckets contain the 0.1, 0.5, 1, 2 and 5 s that objectives are set at.
var (
	requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10}
	queryBuckets   = []float64{.0005, .001, .0025, .005, .01, .05, .1, .5, 1, 2, 5}
)

// metrics is everything that is counted. The families are there from the start, in both stores.
type metrics struct {
	registry                                  *prometheus.Registry
	requests, operations, queries, embeddings *cappedHistogram
	results, batchSize, tokens                prometheus.Histogram
	streams                                   *prometheus.GaugeVec
	streamDurations                           *prometheus.HistogramVec
	cache                                     *prometheus.CounterVec
}

func newMetrics(cfg *settings) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: newCappedHistogram("http_server_request_duration_seconds", "Time from a request to the end of its answer; streams are not among them.",
			requestBuckets, 24, "http_request_method", "http_route", "http_response_status_code"),
		operations: newCappedHistogram("mcp_server_operation_duration_seconds", "Time that an MCP message took.",
			requestBuckets, 12, "mcp_method_name", "gen_ai_tool_name", "error_type"),
		queries: newCappedHistogram("db_client_operation_duration_seconds", "Time that a statement of the store took, in the embedded store that of the same operation.",
			queryBuckets, 20, "db_operation_name", "db_query_summary", "error_type"),
		embeddings: newCappedHistogram("gen_ai_client_operation_duration_seconds", "Time that making embeddings took: of a query, or of a batch of chunks.",
			queryBuckets, 12, "gen_ai_request_model", "vitrine_embedding_kind", "error_type"),
		results: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vitrine_search_results",
			Help: "Documents that a search found; bucket 0 counts the searches that found nothing.", Buckets: []float64{0, 1, 2, 5, 10, 20, 50, 100}}),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vitrine_embedding_batch_size",
			Help: "Texts that were embedded together.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128}}),
		tokens: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "gen_ai_client_token_usage",
			Help: "Tokens that an embedding call took, as the provider counts them.", Buckets: []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536}}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "vitrine_sse_streams", Help: "Event streams that are open."}, []string{"transport"}),
		streamDurations: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "vitrine_sse_stream_duration_seconds",
			Help: "How long event streams were open.", Buckets: []float64{.1, 1, 10, 60, 600, 3600}}, []string{"transport"}),
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vitrine_embedding_cache_requests_total",
			Help: "Query embeddings asked of the cache, by whether it had them."}, []string{"result"}),
	}
	m.registry.MustRegister(m.requests.vec, m.operations.vec, m.queries.vec, m.embeddings.vec, m.results, m.batchSize, m.tokens,
		m.streams, m.streamDurations, m.cache, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for name, labels := range map[string]prometheus.Labels{
		"vitrine_build_info": {"version": version(), "goversion": goVersion(), "revision": revision()},
		"target_info":        {"service_name": cfg.serviceName, "service_version": version(), "deployment_environment_name": cfg.environment},
	} {
		info := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: "What runs here; always 1.", ConstLabels: labels})
		info.Set(1)
		m.registry.MustRegister(info)
	}
	for _, result := range []string{"hit", "miss"} {
		m.cache.WithLabelValues(result)
	}
	for _, transport := range []string{streamableHTTP, legacySSE} {
		m.streams.WithLabelValues(transport)
		m.streamDurations.WithLabelValues(transport)
	}
	for _, t := range tools {
		m.operations.with([3]string{"tools/call", t.Name, ""})
	}
	for _, attrs := range queryAttrs {
		m.queries.with([3]string{attrs[0].Value.String(), attrs[1].Value.String(), ""})
	}
	for _, kind := range []string{"query", "batch"} {
		m.embeddings.with([3]string{cfg.model(), kind, ""})
	}
	return m
}

// cappedHistogram is a histogram over three labels, the last of which is the outcome. Of the refusals, which anybody can
// provoke, at most so many combinations are told apart and the others count as "other": no client decides how many series
// there are, nor takes the room of what succeeds or fails.
type cappedHistogram struct {
	vec  *prometheus.HistogramVec
	most int

	mu       sync.RWMutex
	seen     map[[3]string]prometheus.ExemplarObserver
	refusals int
}

func newCappedHistogram(name, help string, buckets []float64, most int, labels ...string) *cappedHistogram {
	opts := prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}
	if strings.HasPrefix(name, "gen_ai_") {
		opts.ConstLabels = prometheus.Labels{"gen_ai_operation_name": "embeddings"}
	}
	vec := prometheus.NewHistogramVec(opts, labels)
	return &cappedHistogram{vec: vec, most: most, seen: make(map[[3]string]prometheus.ExemplarObserver)}
}

// with returns the series of the labels.
func (h *cappedHistogram) with(labels [3]string) prometheus.ExemplarObserver {
	h.mu.RLock()
	series, ok := h.seen[labels]
	h.mu.RUnlock()
	if ok {
		return series
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if outcome := labels[2]; outcome != "" && !strings.ContainsAny(outcome[:1], "235") {
		if h.refusals++; h.refusals > h.most {
			labels = [3]string{"_OTHER", "other", "other"}
		}
	}
	if series, ok = h.seen[labels]; !ok {
		series, _ = h.vec.WithLabelValues(labels[:]...).(prometheus.ExemplarObserver) // every histogram is one
		h.seen[labels] = series
	}
	return series
}

// observe counts a duration, with an exemplar unless that is nil.
func (h *cappedHistogram) observe(took time.Duration, exemplar prometheus.Labels, labels ...string) {
	h.with([3]string(labels)).ObserveWithExemplar(took.Seconds(), exemplar)
}

// record counts a finished record and its stages.
func (m *metrics) record(rec *record) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	var exemplar prometheus.Labels
	if rec.kept != "" {
		exemplar = prometheus.Labels{"trace_id": rec.traceID(), "span_id": rec.span.String()}
	}
	switch {
	case isEvents(rec.transport):
		m.streams.WithLabelValues(rec.transport).Dec()
		m.streamDurations.WithLabelValues(rec.transport).Observe(rec.took.Seconds())
	case rec.transport == "" && rec.job == "":
		m.requests.observe(rec.took, exemplar, rec.methodLabel(), rec.route, strconv.Itoa(rec.status))
	}
	for i := range rec.stages {
		m.stage(&rec.stages[i], exemplar)
	}
}

// stage counts one stage.
func (m *metrics) stage(st *stageRecord, exemplar prometheus.Labels) {
	took := st.end - st.start
	switch st.name {
	case "db":
		m.queries.observe(took, exemplar, st.text("db.operation.name"), st.text("db.query.summary"), errorType(st.err))
	case "mcp":
		m.operations.observe(took, exemplar, st.text("mcp.method.name"), st.text("gen_ai.tool.name"), errorType(st.err))
	case "embed":
		m.embeddings.observe(took, exemplar, st.text("gen_ai.request.model"), st.text("vitrine.embedding.kind"), errorType(st.err))
		if result := st.text("vitrine.embedding.cache"); result != "" {
			m.cache.WithLabelValues(result).Inc()
		}
		if size := st.attr("vitrine.embedding.batch_size"); size.Kind() == slog.KindInt64 {
			m.batchSize.Observe(float64(size.Int64()))
		}
		if tokens := st.attr("gen_ai.usage.input_tokens"); tokens.Kind() == slog.KindInt64 {
			m.tokens.Observe(float64(tokens.Int64()))
		}
	case "search":
		if hits := st.attr("hits"); hits.Kind() == slog.KindInt64 {
			m.results.Observe(float64(hits.Int64()))
		}
	}
}

// methodLabel is the method where a route has it.
func (rec *record) methodLabel() string {
	if rec.route == "unmatched" {
		return "_OTHER"
	}
	return knownMethod(rec.method)
}

// knownMethod folds methods that HTTP does not define into one.
func knownMethod(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE":
		return method
	}
	return "_OTHER"
}

// serverCollector reads at scrape time what the server knows anyway.
type serverCollector struct{ *server }

// Describe says nothing: the collector is unchecked, and Collect says it all.
func (serverCollector) Describe(chan<- *prometheus.Desc) {}

// Collect sends each family, with the value of its one label, if it has one, before each of its values.
func (c serverCollector) Collect(ch chan<- prometheus.Metric) {
	type sample struct {
		value float64
		label string
	}
	send := func(kind prometheus.ValueType, name, help, label string, samples ...sample) {
		var labels []string
		if label != "" {
			labels = []string{label}
		}
		desc := prometheus.NewDesc(name, help, labels, nil)
		for _, s := range samples {
			ch <- prometheus.MustNewConstMetric(desc, kind, s.value, []string{s.label}[:len(labels)]...)
		}
	}
	gauge := func(name, help string, value float64) {
		send(prometheus.GaugeValue, name, help, "", sample{value: value})
	}
	counter := func(name, help string, value float64) {
		send(prometheus.CounterValue, name, help, "", sample{value: value})
	}
	active, open := float64(c.observe.recent.requestsInFlight()), float64(c.observe.open.Load())
	gauge("http_server_active_requests", "Requests that are being answered.", active)
	send(prometheus.GaugeValue, "vitrine_http_connections", "Open HTTP connections, by whether a request is being answered on them.", "state",
		sample{active, "active"}, sample{max(0, open-active), "idle"})
	state := c.state(context.Background())
	gauge("vitrine_documents", "Documents in the store.", float64(state.documents))
	gauge("vitrine_chunks", "Passages in the store, the units that are found.", float64(state.chunks))
	gauge("vitrine_index_last_success_timestamp_seconds", "When the index was last known to be in step with the folder.", float64(state.indexed.UnixMilli())/1000)
	for _, check := range state.checks {
		ready := sample{0, check.name}
		if check.problem == "" {
			ready.value = 1
		}
		send(prometheus.GaugeValue, "vitrine_ready", "Whether the check of /readyz passes.", "check", ready)
	}
	pool := c.store.pool()
	send(prometheus.GaugeValue, "db_client_connection_count", "Connections of the database pool.", "db_client_connection_state",
		sample{float64(pool.used), "used"}, sample{float64(pool.idle), "idle"})
	gauge("db_client_connection_max", "Most connections that the database pool opens.", float64(pool.most))
	gauge("db_client_connection_pending_requests", "Callers that wait for a database connection.", float64(pool.pending))
	counter("db_client_connection_timeouts_total", "Callers that gave up waiting for a database connection.", float64(pool.timeouts))
	counter("vitrine_db_wait_seconds_total", "Time that callers have waited for a database connection.", pool.waited.Seconds())
	counter("vitrine_log_lines_dropped_total", "Log lines lost because nobody read them in time.", float64(c.logs.dropped.Load()))
	traces := c.observe.traces
	if traces == nil {
		traces = &traceExport{}
	}
	gauge("vitrine_trace_queue_records", "Kept records that wait for export.", float64(len(traces.queue)))
	send(prometheus.CounterValue, "vitrine_spans_total", "Spans by what became of them: exported, dropped because the queue was full, or failed to be exported.", "outcome",
		sample{float64(traces.exported.Load()), "exported"}, sample{float64(traces.dropped.Load()), "dropped"}, sample{float64(traces.failed.Load()), "failed"})
	gauge("vitrine_span_export_last_success_timestamp_seconds", "When spans were last exported.", float64(traces.lastSuccess.Load())/1000)
}
