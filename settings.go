package main

// The settings, and the table of their environment variables. parsers.go parses one value, and settings_read.go reads all
// of them. A new setting needs a field and a row in variables. SETTINGS.md is made from the table.

import (
	"log/slog"
	"math"
	"net/netip"
	"net/url"
	"time"
)

// settings is the configuration that readSettings has checked. The fields are in the order of variables.
type settings struct {
	addr      string // HOST:PORT
	adminAddr string // HOST:PORT; empty: addr serves everything

	databaseURL string // with an explicit sslmode; empty: the store is in memory
	dbMaxConns  int
	docsDirs    []docsRoot    // empty: no folder is followed
	docsWait    bool          // a folder may be missing at start-up
	docsExclude []string      // see isExcluded
	docsSync    time.Duration // time between two scans of docsDirs

	docsURL         *url.URL // of the site that shows the documents, without a slash at the end; nil: this server
	docsTitle       string   // one line; empty: see title
	docsDescription string   // one line
	recordGaps      bool

	checkQuestions string // file for -check; empty: questionsFile in docsDirs
	checkMin       float64

	embeddingURL            string // empty: the built-in embedder
	embeddingModel          string // set if embeddingURL is
	embeddingKey            string
	embeddingDimensions     int // 0: the model's own
	embeddingQueryPrefix    string
	embeddingDocumentPrefix string
	embeddingBatch          int // texts in one call
	embeddingConcurrency    int
	embeddingMinCosine      float64
	vectorWeight            float64 // in the ranking; the weight of words is 1

	apiToken       string   // empty: searching and reading need no token
	adminToken     string   // empty: the admin routes are closed
	allowedHosts   []string // never empty; "*": all
	allowedOrigins []string // "*": all
	trustedProxies []netip.Prefix
	rateLimit      float64 // requests per second and client; 0: no limit
	maxStreams     int
	maxConnections int

	profiling      bool
	sampleRate     float64 // share of traces to keep, 0 to 1
	tracesExporter string  // "otlp", "console" or "none"
	otlp           otlpSettings
	resource       map[string]string // attributes of all telemetry, beside the following
	serviceName    string
	serviceVersion string
	environment    string
	logFormat      string // "auto", "json" or "text"
	logLevel       slog.Level
	slowRequest    time.Duration
	drainDelay     time.Duration
	observability  bool

	onTerminal  bool // standard output is a terminal
	isTokenOurs bool // adminToken was made for this run
}

// variables returns all settings. Each row's set parses a value and stores it in c.
func variables(c *settings) []variable {
	return []variable{
		{
			name:         "ADDR",
			defaultValue: "127.0.0.1:8080",
			about:        "Address to listen on.",
			set:          setter(&c.addr, parseAddr),
		},

		{
			name:    "ADMIN_ADDR",
			example: "127.0.0.1:9090",
			about: "Address to serve /metrics and /debug/ on. " +
				"If it is set, ADDR does not serve them.",
			set: setter(&c.adminAddr, parseAddr),
		},

		{
			name:    "DATABASE_URL",
			example: "postgres://u@db.example.com/v?sslmode=verify-full",
			about: "PostgreSQL 14 or later with pgvector 0.8. " +
				"Without it, the store is in memory. ~/.pgpass and PGPASSFILE are not read.",
			secret: true,
			set:    setter(&c.databaseURL, parseDatabaseURL),
		},

		{
			name:         "DB_MAX_CONNS",
			defaultValue: "20",
			about: "Maximum number of connections for requests. " +
				"Background work uses up to 2 more.",
			set: setter(&c.dbMaxConns, parseCount(1000)),
		},

		{
			name:    "DOCS_DIR",
			example: "./docs",
			about: "Folder of documents to serve, or several: " +
				"api=/git/api,guide=/git/guide. Without it and " +
				"DATABASE_URL, Vitrine serves its own manual.",
			set: setter(&c.docsDirs, parseDocsDir),
		},

		{
			name:         "DOCS_WAIT",
			defaultValue: "false",
			about: "true starts without the folder, and is " +
				"ready once it exists. Otherwise a missing " +
				"folder is a start-up error.",
			set: setter(&c.docsWait, parseBool),
		},

		{
			name:    "DOCS_EXCLUDE",
			example: "archive,drafts/*,*.draft.md",
			about: "Patterns of what is not served, separated " +
				"by commas. A pattern matches a whole id, or " +
				"the name of a file or folder.",
			set: setter(&c.docsExclude, parseList(parsePattern)),
		},

		{
			name:         "DOCS_SYNC_INTERVAL",
			defaultValue: "10s",
			about: "How often DOCS_DIR is scanned for changes. " +
				"On Linux, most are noticed at once.",
			set: setter(&c.docsSync, parseDuration(100*time.Millisecond)),
		},

		{
			name:    "DOCS_URL",
			example: "https://docs.example.com",
			about: "Site where readers find the documents, for the " +
				"URLs in answers. Without it, these name the " +
				"server's own pages, /read/ID.",
			set: setter(&c.docsURL, parseSite),
		},

		{
			name:    "DOCS_TITLE",
			example: "Payments API",
			about: "What the documents are called, on the page " +
				"and for agents: at most 100 characters.",
			set: setter(&c.docsTitle, parseLine(100)),
		},

		{
			name:    "DOCS_DESCRIPTION",
			example: "How to charge cards and refund payments.",
			about: "What the documents are about, so that agents " +
				"search in the right ones: at most 500 " +
				"characters.",
			set: setter(&c.docsDescription, parseLine(500)),
		},

		{
			name:    "CHECK_QUESTIONS",
			example: "./questions.tsv",
			about: "File of questions for vitrine check: a question, " +
				"a tab, the id of the document that answers it. " +
				"The default is questions.tsv in DOCS_DIR, if " +
				"it is there.",
			set: setter(&c.checkQuestions, parseText),
		},

		{
			name:         "CHECK_MIN",
			defaultValue: "0",
			about: "Lowest mean reciprocal rank, from 0 to 1, with " +
				"which vitrine check succeeds.",
			set: setter(&c.checkMin, parseNumber(0, 1)),
		},

		{
			name:         "RECORD_GAPS",
			defaultValue: "false",
			about: "true keeps the questions that found nothing for " +
				"/debug/gaps, and offers agents the tool report_gap.",
			set: setter(&c.recordGaps, parseBool),
		},

		{
			name:    "EMBEDDING_URL",
			example: "http://127.0.0.1:11434/v1/embeddings",
			about: "OpenAI-compatible embeddings API. Without " +
				"it, the built-in lexical vectors are used.",
			set: setter(&c.embeddingURL, parseURL),
		},

		{
			name:    "EMBEDDING_MODEL",
			example: "nomic-embed-text",
			about: "Model to request from the API. It must be " +
				"set together with EMBEDDING_URL.",
			set: setter(&c.embeddingModel, parseText),
		},

		{
			name:    "EMBEDDING_API_KEY",
			example: "a-key",
			about:   "Bearer token for the API.",
			secret:  true,
			set:     setter(&c.embeddingKey, parseToken),
		},

		{
			name:    "EMBEDDING_DIMENSIONS",
			example: "512",
			about: "Number of dimensions to request from the " +
				"API. Without it, the model's own number is " +
				"used.",
			set: setter(&c.embeddingDimensions, parseCount(maxDimensions)),
		},

		{
			name:    "EMBEDDING_QUERY_PREFIX",
			example: "query: ",
			about:   "Text that the model expects before a query.",
			set:     setter(&c.embeddingQueryPrefix, parseText),
		},

		{
			name:    "EMBEDDING_DOCUMENT_PREFIX",
			example: "passage: ",
			about: "Text that the model expects before a " +
				"passage.",
			set: setter(&c.embeddingDocumentPrefix, parseText),
		},

		{
			name:         "EMBEDDING_BATCH",
			defaultValue: "32",
			about:        "Maximum number of texts in one API call.",
			set:          setter(&c.embeddingBatch, parseCount(2048)),
		},

		{
			name:         "EMBEDDING_CONCURRENCY",
			defaultValue: "4",
			about:        "Maximum number of concurrent API calls.",
			set:          setter(&c.embeddingConcurrency, parseCount(100)),
		},

		{
			name:         "EMBEDDING_MIN_COSINE",
			defaultValue: "0.3",
			about: "Minimum cosine similarity for a passage " +
				"that shares no word with the query. Applies " +
				"with EMBEDDING_URL.",
			set: setter(&c.embeddingMinCosine, parseNumber(-1, 1)),
		},

		{
			name:         "VECTOR_WEIGHT",
			defaultValue: "0.5",
			about: "Weight of vectors in the ranking. Words " +
				"have weight 1. With EMBEDDING_URL, the " +
				"default is 1.0.",
			set: setter(&c.vectorWeight, parseNumber(0, 100)),
		},

		{
			name:    "API_TOKEN",
			example: "a-long-random-text",
			about: "Bearer token for searching and reading. " +
				"Without it, no token is needed.",
			secret: true,
			set:    setter(&c.apiToken, parseToken),
		},

		{
			name:    "ADMIN_TOKEN",
			example: "a-long-random-text",
			about: "Bearer token or Basic password for all " +
				"routes. Without it, the admin routes are " +
				"closed, but on a terminal a loopback server " +
				"makes one for this run.",
			secret: true,
			set:    setter(&c.adminToken, parseToken),
		},

		{
			name:    "ALLOWED_HOSTS",
			example: "docs.example.com",
			about: "Host names to serve, without ports, separated by commas. The server's own IP address is always allowed. " +
				"The default is the loopback names if ADDR is loopback, else all hosts.",
			set: setter(&c.allowedHosts, parseList(parseHost)),
		},

		{
			name:    "ALLOWED_ORIGINS",
			example: "https://app.example.com",
			about: "Origins whose web pages may send requests, " +
				"separated by commas. The request's own host " +
				"is always allowed.",
			set: setter(&c.allowedOrigins, parseList(parseOrigin)),
		},

		{
			name:    "TRUSTED_PROXIES",
			example: "10.0.0.0/8",
			about: "Networks of proxies whose X-Forwarded-For, " +
				"-Proto, -Host and -Prefix are trusted, " +
				"separated by commas.",
			set: setter(&c.trustedProxies, parseList(netip.ParsePrefix)),
		},

		{
			name:         "RATE_LIMIT",
			defaultValue: "50",
			about: "Requests per second for each client. A " +
				"burst may have twice as many. 0 means no " +
				"limit.",
			set: setter(&c.rateLimit, parseRate),
		},

		{
			name:         "MAX_STREAMS",
			defaultValue: "10000",
			about: "Maximum number of open SSE streams. One " +
				"client may have 100 of them.",
			set: setter(&c.maxStreams, parseCount(math.MaxInt32)),
		},

		{
			name:    "MAX_CONNECTIONS",
			example: "1000",
			about: "Maximum number of open HTTP connections. For a new one, " +
				"the connection that has been without a request for longest is closed. " +
				"The default is the limit of open files, less 64.",
			set: setter(&c.maxConnections, parseCount(math.MaxInt32)),
		},

		{
			name:         "ENABLE_PROFILING",
			defaultValue: "false",
			about: "true opens /debug/pprof/ and /debug/flight " +
				"for requests with ADMIN_TOKEN, and keeps the " +
				"execution traces of slow requests.",
			set: setter(&c.profiling, parseBool),
		},

		{
			name:         "OTEL_TRACE_SAMPLE_RATE",
			defaultValue: "0.1",
			about: "Share of traces to keep, from 0 to 1. " +
				"Traces of failed and slow requests are " +
				"always kept.",
			set: setter(&c.sampleRate, parseNumber(0, 1)),
		},

		{
			name:    "OTEL_TRACES_EXPORTER",
			example: "otlp",
			about: "otlp, console (standard error) or none. The " +
				"default is otlp if " +
				"OTEL_EXPORTER_OTLP_ENDPOINT is set, else " +
				"none.",
			set: setter(&c.tracesExporter, parseExporter),
		},

		{
			name:    "OTEL_RESOURCE_ATTRIBUTES",
			example: "k8s.pod.name=docs-1",
			about: "Additional resource attributes of all " +
				"traces. service.name, service.version and " +
				"deployment.environment.name also name the " +
				"service in logs and metrics.",
			set: setter(&c.resource, parseAttributes),
		},

		{
			name:         "OTEL_SERVICE_NAME",
			defaultValue: "vitrine",
			about:        "Service name in logs, metrics and traces.",
			set:          setter(&c.serviceName, parseText),
		},

		{
			name:         "ENVIRONMENT",
			defaultValue: "development",
			about: "Environment name in logs, metrics and " +
				"traces.",
			set: setter(&c.environment, parseText),
		},

		{
			name:         "LOG_FORMAT",
			defaultValue: "auto",
			about: "json, text (for people) or auto: text on " +
				"a terminal, else json.",
			set: setter(&c.logFormat, parseLogFormat),
		},

		{
			name:         "LOG_LEVEL",
			defaultValue: "info",
			about: "Minimum level of log lines: debug, info, " +
				"warn or error.",
			set: setter(&c.logLevel, parseLevel),
		},

		{
			name:         "SLOW_REQUEST",
			defaultValue: "500ms",
			about: "Requests that take longer are logged as " +
				"warnings, and their traces are kept.",
			set: setter(&c.slowRequest, parseDuration(0)),
		},

		{
			name:         "DRAIN_DELAY",
			defaultValue: "0s",
			about: "On SIGTERM, how long to accept requests " +
				"after /readyz has begun to fail. " +
				"The default is 1s if ADDR is not loopback.",
			set: setter(&c.drainDelay, parseDuration(0)),
		},

		{
			name:         "OBSERVABILITY",
			defaultValue: "on",
			about: "off disables log lines, metrics and traces " +
				"of requests. Use it to measure what they " +
				"cost.",
			set: setter(&c.observability, parseOnOff),
		},
	}
}
