package main

// View 2 of a record: the metrics. A name follows OpenTelemetry's semantic conventions if they have one for it. Labels
// come from closed sets, so that there are fewer than 2,000 series, whatever clients send.

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics holds the families that records are counted in. All families exist from the start, with either store.
type metrics struct {
	registry *prometheus.Registry

	// By method, route and status.
	requests *cappedHistogram
	// MCP messages, by method, tool, outcome and code of the JSON-RPC error.
	operations *cappedHistogram
	// Operations of the store, by kind, name and outcome.
	queries *cappedHistogram
	// By model, kind and outcome.
	embeddings *cappedHistogram

	results         prometheus.Histogram
	batchSize       prometheus.Histogram
	tokens          prometheus.Histogram
	streams         *prometheus.GaugeVec
	streamDurations *prometheus.HistogramVec
	cache           *prometheus.CounterVec
}

// metricLabels are the label values whose series exist from the start. A rate over a series that exists at zero does not
// miss the first event.
type metricLabels struct {
	tools   []string
	methods []string // of MCP
	// Operation and summary of each.
	queries [][2]string
	// Of the embedder.
	model string
}

// newMetrics returns the metrics, with the series of labels at zero.
func newMetrics(cfg *settings, labels metricLabels) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.makeFamilies(cfg, labels.model)
	m.info("vitrine_build_info", prometheus.Labels{
		"version":   version(),
		"goversion": goVersion(),
		"revision":  revision(),
	})
	m.info("target_info", prometheus.Labels{
		"service_name":                cfg.serviceName,
		"service_version":             cfg.serviceVersion,
		"deployment_environment_name": cfg.environment,
	})
	m.createSeries(labels)
	return m
}

// makeFamilies makes and registers the families.
func (m *metrics) makeFamilies(cfg *settings, model string) {
	m.requests = newCappedHistogram(requestFamily)
	m.operations = newCappedHistogram(operationFamily)
	m.queries = newCappedHistogram(queryFamily(cfg))
	m.embeddings = newCappedHistogram(embeddingFamily(cfg))

	transport := []string{"transport"}
	m.results = prometheus.NewHistogram(resultFamily)
	m.batchSize = prometheus.NewHistogram(batchSizeFamily)
	m.tokens = prometheus.NewHistogram(tokenFamily(cfg, model))
	m.streams = prometheus.NewGaugeVec(streamFamily, transport)
	m.streamDurations = prometheus.NewHistogramVec(streamDurationFamily, transport)
	m.cache = prometheus.NewCounterVec(cacheFamily, []string{"result"})

	var process collectors.ProcessCollectorOpts
	m.registry.MustRegister(
		m.requests,
		m.operations,
		m.queries,
		m.embeddings,
		m.results,
		m.batchSize,
		m.tokens,
		m.streams,
		m.streamDurations,
		m.cache,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(process),
	)
}

// info registers a gauge that is always 1. Its labels carry the information.
func (m *metrics) info(name string, labels prometheus.Labels) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        name,
		Help:        "What runs here; always 1.",
		ConstLabels: labels,
	})
	info.Set(1)
	m.registry.MustRegister(info)
}

// createSeries creates the series whose label values are known at start-up.
func (m *metrics) createSeries(labels metricLabels) {
	for _, result := range []string{"hit", "miss"} {
		m.cache.WithLabelValues(result)
	}
	transports := []string{streamableHTTP, legacySSE}
	for _, transport := range transports {
		m.streams.WithLabelValues(transport)
		m.streamDurations.WithLabelValues(transport)
	}
	for _, query := range labels.queries {
		m.queries.with(labelValues{query[0], query[1]})
	}
	for _, kind := range []string{"query", "batch"} {
		m.embeddings.with(labelValues{labels.model, kind})
		for _, failure := range embedderFailures {
			m.embeddings.expect(labels.model, kind, failure)
		}
	}
	m.expectMessages(labels)
}

// expectMessages creates the series of MCP messages.
func (m *metrics) expectMessages(labels metricLabels) {
	for _, tool := range labels.tools {
		m.operations.with(labelValues{"tools/call", tool})
		m.operations.expect("tools/call", tool, toolFailure)
		for _, failure := range messageFailures {
			m.operations.expect("tools/call", tool, failure)
		}
	}
	internal := strconv.Itoa(codeInternal)
	for _, method := range labels.methods {
		m.operations.expect(method)
		for _, failure := range messageFailures {
			m.operations.expect(method, "", failure, internal)
		}
	}
}

// expectRoute creates the series of the outcomes of a route that alerts divide by. pattern is its method and path.
func (m *metrics) expectRoute(pattern string) {
	method, path, _ := strings.Cut(pattern, " ")
	statuses := []string{"200", "429", "500", "503"}
	switch method {
	case http.MethodPut:
		statuses = append(statuses, "201", "204", "507")
	case http.MethodDelete:
		statuses = append(statuses, "204", "507")
	}
	for _, status := range statuses {
		m.requests.expect(method, routeLabel(path), status)
	}
}

// streamBegan counts an event stream as open.
func (m *metrics) streamBegan(transport string) {
	m.streams.WithLabelValues(transport).Inc()
}

// record counts a finished record and its stages.
func (m *metrics) record(rec *record) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	var exemplar prometheus.Labels
	if rec.kept != "" {
		exemplar = prometheus.Labels{
			"trace_id": rec.traceID(),
			"span_id":  rec.span.String(),
		}
	}
	switch {
	case isEventStream(rec.transport):
		m.streams.WithLabelValues(rec.transport).Dec()
		duration := m.streamDurations.WithLabelValues(rec.transport)
		duration.Observe(rec.took.Seconds())
	case rec.transport == "" && rec.job == "":
		status := strconv.Itoa(rec.status)
		method := rec.methodLabel()
		series := m.requests.with(labelValues{method, rec.route, status})
		series.ObserveWithExemplar(rec.took.Seconds(), exemplar)
	}

	for i := range rec.stages {
		m.stage(&rec.stages[i], exemplar)
	}
}

// stage counts one stage.
func (m *metrics) stage(st *stageRecord, exemplar prometheus.Labels) {
	count := func(h *cappedHistogram, labels labelValues) {
		seconds := (st.end - st.start).Seconds()
		h.with(labels).ObserveWithExemplar(seconds, exemplar)
	}
	switch st.kind {
	case stageDB:
		count(m.queries, labelValues{
			st.text("db.operation.name"),
			st.text("db.query.summary"),
			outcome(st.err),
		})
	case stageMCP:
		kind, code := messageOutcome(st.err)
		count(m.operations, labelValues{
			st.text("mcp.method.name"),
			st.text("gen_ai.tool.name"),
			kind,
			code,
		})
	case stageEmbed:
		count(m.embeddings, labelValues{
			st.text("gen_ai.request.model"),
			st.text("vitrine.embedding.kind"),
			outcome(st.err),
		})
		m.embedding(st)
	case stageSearch:
		observeInt(m.results, st.attr("hits"))
	default:
		// Tools, ranking and files have no metric of their own.
	}
}

// embedding counts the cache result, the batch size and the tokens of an embedding stage.
func (m *metrics) embedding(st *stageRecord) {
	result := st.text("vitrine.embedding.cache")
	if result != "" {
		m.cache.WithLabelValues(result).Inc()
	}
	size := st.attr("vitrine.embedding.batch_size")
	observeInt(m.batchSize, size)
	tokens := st.attr("gen_ai.usage.input_tokens")
	observeInt(m.tokens, tokens)
}

// observeInt counts an integer attribute, if the stage has it.
func observeInt(h prometheus.Histogram, v slog.Value) {
	if v.Kind() == slog.KindInt64 {
		h.Observe(float64(v.Int64()))
	}
}

// methodLabel returns the method for the label, or _OTHER for a request that matched no route.
func (rec *record) methodLabel() string {
	if rec.route == "unmatched" {
		return "_OTHER"
	}
	return knownMethod(rec.method)
}

// knownMethod returns _OTHER for a method that HTTP does not define, as the semantic conventions do.
func knownMethod(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE",
		"CONNECT", "OPTIONS", "TRACE":
		return method
	}
	return "_OTHER"
}
