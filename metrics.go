package main

// View 2 of a record: the metrics. The only room that knows Prometheus. Names follow OpenTelemetry's semantic conventions
// where there is one. Labels come from closed sets: whatever clients send, there are fewer than 2,000 series.

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Buckets in seconds. They contain the 0.1, 0.5, 1, 2 and 5 s that objectives are set at.
var (
	requestBuckets = []float64{
		.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10,
	}
	queryBuckets = []float64{
		.0005, .001, .0025, .005, .01, .05, .1, .5, 1, 2, 5,
	}
)

// metrics is everything that is counted. All families exist from the start, in both stores.
type metrics struct {
	registry *prometheus.Registry

	requests   *cappedHistogram // by method, route, status
	operations *cappedHistogram // MCP messages, by method, tool, error
	queries    *cappedHistogram // operations of the store, by operation, query, error
	embeddings *cappedHistogram // by model, kind, error

	results         prometheus.Histogram
	batchSize       prometheus.Histogram
	tokens          prometheus.Histogram
	streams         *prometheus.GaugeVec
	streamDurations *prometheus.HistogramVec
	cache           *prometheus.CounterVec
}

// metricLabels are the label values whose series exist from the start, so that a rate over them never misses the first
// event.
type metricLabels struct {
	tools   []string
	queries [][2]string // operation and summary
	model   string      // of the embedder
}

// newMetrics returns the metrics with all their series at zero.
func newMetrics(cfg *settings, labels metricLabels) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.makeCapped()
	m.makeOthers()
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.info("vitrine_build_info", prometheus.Labels{
		"version":   version(),
		"goversion": goVersion(),
		"revision":  revision(),
	})
	m.info("target_info", prometheus.Labels{
		"service_name":                cfg.serviceName,
		"service_version":             version(),
		"deployment_environment_name": cfg.environment,
	})
	m.createSeries(labels)
	return m
}

// makeCapped makes the histograms over outcomes.
func (m *metrics) makeCapped() {
	m.requests = newCappedHistogram(cappedOpts{
		name: "http_server_request_duration_seconds",
		help: "Time from a request to the end of its answer; " +
			"streams are not among them.",
		buckets: requestBuckets,
		labels: [3]string{
			"http_request_method",
			"http_route",
			"http_response_status_code",
		},
		maxRefusals: 24,
		isRefusal:   isStatusRefusal,
	})

	m.operations = newCappedHistogram(cappedOpts{
		name:    "mcp_server_operation_duration_seconds",
		help:    "Time that an MCP message took.",
		buckets: requestBuckets,
		labels: [3]string{
			"mcp_method_name",
			"gen_ai_tool_name",
			"error_type",
		},
		maxRefusals: 12,
		isRefusal:   isErrorRefusal,
	})

	m.queries = newCappedHistogram(cappedOpts{
		name: "db_client_operation_duration_seconds",
		help: "Time that a statement of the store took, " +
			"in the embedded store that of the same operation.",
		buckets: queryBuckets,
		labels: [3]string{
			"db_operation_name",
			"db_query_summary",
			"error_type",
		},
		maxRefusals: 20,
		isRefusal:   isErrorRefusal,
	})

	m.embeddings = newCappedHistogram(cappedOpts{
		name: "gen_ai_client_operation_duration_seconds",
		help: "Time that making embeddings took: " +
			"of a query, or of a batch of chunks.",
		buckets: queryBuckets,
		constLabels: prometheus.Labels{
			"gen_ai_operation_name": "embeddings",
		},
		labels: [3]string{
			"gen_ai_request_model",
			"vitrine_embedding_kind",
			"error_type",
		},
		maxRefusals: 12,
		isRefusal:   isErrorRefusal,
	})

	m.registry.MustRegister(
		m.requests.vec,
		m.operations.vec,
		m.queries.vec,
		m.embeddings.vec,
	)
}

func (m *metrics) makeOthers() {
	m.results = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "vitrine_search_results",
		Help: "Documents that a search found; " +
			"bucket 0 counts the searches that found nothing.",
		Buckets: []float64{0, 1, 2, 5, 10, 20, 50, 100},
	})

	m.batchSize = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "vitrine_embedding_batch_size",
		Help:    "Texts that were embedded together.",
		Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128},
	})

	m.tokens = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "gen_ai_client_token_usage",
		Help:    "Tokens that an embedding call took, as the provider counts them.",
		Buckets: []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536},
	})

	m.streams = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "vitrine_sse_streams",
		Help: "Event streams that are open.",
	}, []string{"transport"})

	m.streamDurations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "vitrine_sse_stream_duration_seconds",
		Help:    "How long event streams were open.",
		Buckets: []float64{.1, 1, 10, 60, 600, 3600},
	}, []string{"transport"})

	m.cache = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "vitrine_embedding_cache_requests_total",
		Help: "Query embeddings asked of the cache, by whether it had them.",
	}, []string{"result"})

	m.registry.MustRegister(
		m.results,
		m.batchSize,
		m.tokens,
		m.streams,
		m.streamDurations,
		m.cache,
	)
}

// info registers a gauge that is always 1 and says something by its labels.
func (m *metrics) info(name string, labels prometheus.Labels) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        name,
		Help:        "What runs here; always 1.",
		ConstLabels: labels,
	})
	info.Set(1)
	m.registry.MustRegister(info)
}

// createSeries creates the series that are known beforehand.
func (m *metrics) createSeries(labels metricLabels) {
	for _, result := range []string{"hit", "miss"} {
		m.cache.WithLabelValues(result)
	}
	for _, transport := range []string{streamableHTTP, legacySSE} {
		m.streams.WithLabelValues(transport)
		m.streamDurations.WithLabelValues(transport)
	}
	for _, tool := range labels.tools {
		m.operations.with("tools/call", tool, "")
	}
	for _, query := range labels.queries {
		m.queries.with(query[0], query[1], "")
	}
	for _, kind := range []string{"query", "batch"} {
		m.embeddings.with(labels.model, kind, "")
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
	var exemplar prometheus.Labels // nil for none
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
		series := m.requests.with(rec.methodLabel(), rec.route, status)
		series.ObserveWithExemplar(rec.took.Seconds(), exemplar)
	}

	for i := range rec.stages {
		m.stage(&rec.stages[i], exemplar)
	}
}

// stage counts one stage.
func (m *metrics) stage(st *stageRecord, exemplar prometheus.Labels) {
	seconds := (st.end - st.start).Seconds()
	outcome := outcome(st.err)
	switch st.kind {
	case stageDB:
		operation := st.text("db.operation.name")
		summary := st.text("db.query.summary")
		series := m.queries.with(operation, summary, outcome)
		series.ObserveWithExemplar(seconds, exemplar)
	case stageMCP:
		method := st.text("mcp.method.name")
		tool := st.text("gen_ai.tool.name")
		series := m.operations.with(method, tool, outcome)
		series.ObserveWithExemplar(seconds, exemplar)
	case stageEmbed:
		model := st.text("gen_ai.request.model")
		kind := st.text("vitrine.embedding.kind")
		series := m.embeddings.with(model, kind, outcome)
		series.ObserveWithExemplar(seconds, exemplar)
		if result := st.text("vitrine.embedding.cache"); result != "" {
			m.cache.WithLabelValues(result).Inc()
		}
		observeInt(m.batchSize, st.attr("vitrine.embedding.batch_size"))
		observeInt(m.tokens, st.attr("gen_ai.usage.input_tokens"))
	case stageSearch:
		observeInt(m.results, st.attr("hits"))
	default: // tools, ranking and files have no metric of their own
	}
}

// observeInt counts an integer attribute, if the stage has it.
func observeInt(h prometheus.Histogram, v slog.Value) {
	if v.Kind() == slog.KindInt64 {
		h.Observe(float64(v.Int64()))
	}
}

// methodLabel is the method of a request that matched a route.
func (rec *record) methodLabel() string {
	if rec.route == "unmatched" {
		return "_OTHER"
	}
	return knownMethod(rec.method)
}

// knownMethod folds methods that HTTP does not define into _OTHER, as the semantic conventions do.
func knownMethod(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE":
		return method
	}
	return "_OTHER"
}

// handler answers GET /metrics. Scrapes that come together share one collection.
func (m *metrics) handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: 8,
		Timeout:             5 * time.Second,
		CoalesceGather:      true,
	})
}
