package main

// The metric families that count records: their names, help texts, labels and buckets. gauges.go has those that are read
// at scrape time.

import "github.com/prometheus/client_golang/prometheus"

// urlScheme is the scheme of all requests: a proxy ends TLS.
const urlScheme = "http"

// poolName is the name of the one pool of database connections.
const poolName = "vitrine"

// Buckets in seconds. Both lists have the bounds 0.1, 0.5, 1, 2 and 5, for service level objectives.
var (
	requestBuckets = []float64{
		.001, .0025, .005, .01, .05, .1, .25, .5, 1, 2, 5,
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
	labels: []string{
		"http_request_method",
		"http_route",
		"http_response_status_code",
	},
	constLabels: prometheus.Labels{
		"url_scheme": urlScheme,
	},
	maxRefusals: 8,
	isRefusal:   isStatusRefusal,
	overflow:    labelValues{"_OTHER", "other", "other"},
}

// operationFamily counts MCP messages.
var operationFamily = cappedOpts{
	name:    "mcp_server_operation_duration_seconds",
	help:    "Time that an MCP message took.",
	buckets: requestBuckets,
	labels: []string{
		"mcp_method_name",
		"gen_ai_tool_name",
		"error_type",
		"rpc_response_status_code",
	},
	maxRefusals: 6,
	isRefusal:   isMessageRefusal,
	overflow:    labelValues{"_OTHER", "other", "", "other"},
}

// queryFamily returns the family of the operations of the store.
func queryFamily(cfg *settings) cappedOpts {
	return cappedOpts{
		name: "db_client_operation_duration_seconds",
		help: "Time that a statement of the store took, " +
			"in the embedded store that of the same operation.",
		buckets: queryBuckets,
		constLabels: prometheus.Labels{
			"db_system_name": cfg.databaseSystem(),
		},
		labels: []string{
			"db_operation_name",
			"db_query_summary",
			"error_type",
		},
		maxRefusals: 8,
		isRefusal:   isErrorRefusal,
		overflow:    labelValues{"_OTHER", "other", "other"},
	}
}

// embeddingFamily returns the family of the calls of the embedder.
func embeddingFamily(cfg *settings) cappedOpts {
	return cappedOpts{
		name: "gen_ai_client_operation_duration_seconds",
		help: "Time that making embeddings took: " +
			"of a query, or of a batch of chunks.",
		buckets: queryBuckets,
		constLabels: prometheus.Labels{
			"gen_ai_operation_name": "embeddings",
			"gen_ai_provider_name":  cfg.embeddingProvider(),
		},
		labels: []string{
			"gen_ai_request_model",
			"vitrine_embedding_kind",
			"error_type",
		},
		maxRefusals: 6,
		isRefusal:   isErrorRefusal,
		overflow:    labelValues{"_OTHER", "other", "other"},
	}
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

// tokenFamily returns the family of the tokens of the embedder's calls.
func tokenFamily(cfg *settings, model string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: "gen_ai_client_token_usage",
		Help: "Tokens that an embedding call took, " +
			"as the provider counts them.",
		Buckets: []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536},
		ConstLabels: prometheus.Labels{
			"gen_ai_operation_name": "embeddings",
			"gen_ai_provider_name":  cfg.embeddingProvider(),
			"gen_ai_request_model":  model,
			"gen_ai_token_type":     "input",
		},
	}
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
