package main

// The metric families that count records: their names, help texts, labels and buckets. gauges.go has those that are read
// at scrape time.

import "github.com/prometheus/client_golang/prometheus"

// Buckets in seconds. Both lists have the bounds 0.1, 0.5, 1, 2 and 5, for service level objectives.
var (
	requestBuckets = []float64{
		.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10,
	}
	queryBuckets = []float64{
		.0005, .001, .0025, .005, .01, .05, .1, .5, 1, 2, 5,
	}
)

// requestFamily counts HTTP requests that are not streams.
var requestFamily = cappedOpts{
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
}

// operationFamily counts MCP messages.
var operationFamily = cappedOpts{
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
}

// queryFamily counts operations of the store.
var queryFamily = cappedOpts{
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
}

// embeddingFamily counts calls of the embedder.
var embeddingFamily = cappedOpts{
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
}

var resultFamily = prometheus.HistogramOpts{
	Name: "vitrine_search_results",
	Help: "Documents that a search found; " +
		"bucket 0 counts the searches that found nothing.",
	Buckets: []float64{0, 1, 2, 5, 10, 20, 50, 100},
}

var batchSizeFamily = prometheus.HistogramOpts{
	Name:    "vitrine_embedding_batch_size",
	Help:    "Texts that were embedded together.",
	Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128},
}

var tokenFamily = prometheus.HistogramOpts{
	Name: "gen_ai_client_token_usage",
	Help: "Tokens that an embedding call took, " +
		"as the provider counts them.",
	Buckets: []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536},
}

var streamFamily = prometheus.GaugeOpts{
	Name: "vitrine_sse_streams",
	Help: "Event streams that are open.",
}

var streamDurationFamily = prometheus.HistogramOpts{
	Name:    "vitrine_sse_stream_duration_seconds",
	Help:    "How long event streams were open.",
	Buckets: []float64{.1, 1, 10, 60, 600, 3600},
}

var cacheFamily = prometheus.CounterOpts{
	Name: "vitrine_embedding_cache_requests_total",
	Help: "Query embeddings asked of the cache, " +
		"by whether it had them.",
}
