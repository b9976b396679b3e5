package main

// The settings: one table of environment variables, their parsers, what of them is secret; and what the build was
// stamped with.

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// settings is the whole configuration, checked. Its fields are in the order of the variables.
type settings struct {
	addr, adminAddr string
	databaseURL     string
	dbMaxConns      int
	docsDir         string
	docsSync        time.Duration

	embeddingURL, embeddingModel, embeddingKey    string
	embeddingDimensions                           int
	embeddingQueryPrefix, embeddingDocumentPrefix string
	embeddingBatch, embeddingConcurrency          int
	embeddingMinCosine, vectorWeight              float64

	apiToken, adminToken         string
	allowedHosts, allowedOrigins []string
	trustedProxies               []netip.Prefix
	rateLimit                    float64
	maxStreams                   int

	profiling                bool
	sampleRate               float64
	tracesExporter           string
	serviceName, environment string
	logLevel                 slog.Level
	slowRequest, drainDelay  time.Duration
	observability            bool
}

// model names the embedder in telemetry.
func (c *settings) model() string { return cmp.Or(c.embeddingModel, hashedModel) }

// maxDimensions is what pgvector's HNSW index takes of half-precision numbers.
const maxDimensions = 4000

// variable is one environment variable: a line of the manual, of README's table and of what is checked at start-up.
type variable struct {
	name, standard string // standard: the value where it is unset or empty
	example        string // for the error message, where the standard value is none
	secret         bool
	about          string
	set            func(value string) error
}

// variables are all settings, each with a setter that checks a value and keeps it in c.
func variables(c *settings) []variable {
	return []variable{
		{"ADDR", "127.0.0.1:8080", "", false, "address to listen on", setter(&c.addr, parseAddr)},
		{"ADMIN_ADDR", "", "127.0.0.1:9090", false, "address for /metrics and /debug/, which are then served there and only there", setter(&c.adminAddr, parseAddr)},
		{"DATABASE_URL", "", "postgres://u@db.example.com/v?sslmode=verify-full", true, "PostgreSQL 14 or later with pgvector 0.8; without it the store is in memory", setter(&c.databaseURL, parseDatabaseURL)},
		{"DB_MAX_CONNS", "20", "", false, "connections that requests may use; background work takes up to 2 more", setter(&c.dbMaxConns, parseCount(1000))},
		{"DOCS_DIR", "", "./docs", false, "folder of Markdown to serve; without it the program's own manual", setter(&c.docsDir, parseText)},
		{"DOCS_SYNC_INTERVAL", "10s", "", false, "how often the folder is looked through for changes", setter(&c.docsSync, parseDuration(100*time.Millisecond))},
		{"EMBEDDING_URL", "", "http://127.0.0.1:11434/v1/embeddings", false, "any OpenAI-compatible embeddings API; without it the built-in, lexical vectors", setter(&c.embeddingURL, parseURL)},
		{"EMBEDDING_MODEL", "", "nomic-embed-text", false, "model to name to the API", setter(&c.embeddingModel, parseText)},
		{"EMBEDDING_API_KEY", "", "a-key", true, "bearer token of the API", setter(&c.embeddingKey, parseToken)},
		{"EMBEDDING_DIMENSIONS", "", "512", false, "dimensions to ask the model for; unset: its own", setter(&c.embeddingDimensions, parseCount(maxDimensions))},
		{"EMBEDDING_QUERY_PREFIX", "", "query: ", false, "what the model wants before a question", setter(&c.embeddingQueryPrefix, parseText)},
		{"EMBEDDING_DOCUMENT_PREFIX", "", "passage: ", false, "what the model wants before a text", setter(&c.embeddingDocumentPrefix, parseText)},
		{"EMBEDDING_BATCH", "32", "", false, "texts a call", setter(&c.embeddingBatch, parseCount(2048))},
		{"EMBEDDING_CONCURRENCY", "4", "", false, "calls at once", setter(&c.embeddingConcurrency, parseCount(100))},
		{"EMBEDDING_MIN_COSINE", "0.3", "", false, "cosine from which on a text counts as found though it shares no word with the question", setter(&c.embeddingMinCosine, parseNumber(-1, 1))},
		{"VECTOR_WEIGHT", "0.5", "", false, "weight of the vectors beside the words (1) in the ranking; with EMBEDDING_URL 1.0", setter(&c.vectorWeight, parseNumber(0, 100))},
		{"API_TOKEN", "", "a-long-random-text", true, "bearer token for searching and reading; without it they are open to anybody", setter(&c.apiToken, parseToken)},
		{"ADMIN_TOKEN", "", "a-long-random-text", true, "token that opens everything, as bearer or Basic password; without it the admin routes are closed", setter(&c.adminToken, parseToken)},
		{"ALLOWED_HOSTS", "", "docs.example.com", false, "host names served, without ports, besides its own IP address; unset: the loopback names if ADDR is loopback, else any", setter(&c.allowedHosts, parseList(parseHost))},
		{"ALLOWED_ORIGINS", "", "https://app.example.com", false, "origins beside the request's own host whose pages may ask", setter(&c.allowedOrigins, parseList(parseOrigin))},
		{"TRUSTED_PROXIES", "", "10.0.0.0/8", false, "networks whose X-Forwarded-For is believed", setter(&c.trustedProxies, parseList(netip.ParsePrefix))},
		{"RATE_LIMIT", "50", "", false, "requests a second per client, in bursts of twice as many; 0: no limit", setter(&c.rateLimit, parseRate)},
		{"MAX_STREAMS", "10000", "", false, "SSE streams open at once, per client 100 of them", setter(&c.maxStreams, parseCount(math.MaxInt32))},
		{"ENABLE_PROFILING", "false", "", false, "true opens /debug/pprof/ and /debug/flight to whoever has ADMIN_TOKEN", setter(&c.profiling, parseTrue)},
		{"OTEL_TRACE_SAMPLE_RATE", "0.1", "", false, "share of the traces that are kept, 0 to 1; failed and slow ones are always kept", setter(&c.sampleRate, parseNumber(0, 1))},
		{"OTEL_TRACES_EXPORTER", "", "otlp", false, "otlp, console (standard error) or none; unset: otlp if OTEL_EXPORTER_OTLP_ENDPOINT is set", setter(&c.tracesExporter, parseExporter)},
		{"OTEL_RESOURCE_ATTRIBUTES", "", "k8s.pod.name=docs-1", false, "further attributes of the traces' resource", setter(new(string), parseText)}, // the OpenTelemetry SDK reads it
		{"OTEL_SERVICE_NAME", "vitrine", "", false, "name of the service in logs, metrics and traces", setter(&c.serviceName, parseText)},
		{"ENVIRONMENT", "development", "", false, "name of the environment in logs, metrics and traces", setter(&c.environment, parseText)},
		{"LOG_LEVEL", "info", "", false, "debug, info, warn or error", setter(&c.logLevel, parseLevel)},
		{"SLOW_REQUEST", "500ms", "", false, "requests that take longer are logged as warnings, and their traces kept", setter(&c.slowRequest, parseDuration(0))},
		{"DRAIN_DELAY", "0s", "", false, "pause between being no longer ready and closing", setter(&c.drainDelay, parseDuration(0))},
		{"OBSERVABILITY", "on", "", false, "off leaves out what is recorded of each request, to measure what that costs", setter(&c.observability, parseOn)},
	}
}

// errUsage is wrapped by errors that are mended by other settings or arguments.
var errUsage = errors.New("vitrine -h prints the manual")

// readSettings checks all variables and reports all that is wrong at once.
func readSettings(env map[string]string) (*settings, error) {
	var cfg settings
	var problems []error
	for _, v := range variables(&cfg) {
		value := cmp.Or(env[v.name], v.standard)
		if value == "" {
			continue
		}
		if err := v.set(value); err != nil {
			if v.secret {
				value = "(secret)"
			}
			problems = append(problems, fmt.Errorf("%s=%q: %w; for example %s=%s", v.name, redact(value), err, v.name, cmp.Or(v.example, v.standard)))
		}
	}
	if (cfg.embeddingURL == "") != (cfg.embeddingModel == "") {
		problems = append(problems, errors.New("EMBEDDING_URL and EMBEDDING_MODEL must be set together; for example EMBEDDING_MODEL=nomic-embed-text"))
	}
	if cfg.profiling && cfg.adminToken == "" {
		problems = append(problems, errors.New("ENABLE_PROFILING=true needs ADMIN_TOKEN; for example ADMIN_TOKEN=a-long-random-text"))
	}
	collector := ""
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		collector += env[name]
		if _, err := parseURL(env[name]); err != nil && env[name] != "" {
			problems = append(problems, fmt.Errorf("%s is not a URL; for example %s=http://127.0.0.1:4318", name, name))
		}
	}
	if problems != nil {
		return nil, fmt.Errorf("%w\n%w", errors.Join(problems...), errUsage)
	}
	if cfg.embeddingURL != "" && env["VECTOR_WEIGHT"] == "" {
		cfg.vectorWeight = 1
	}
	switch {
	case cfg.tracesExporter == "" && collector != "":
		cfg.tracesExporter = "otlp"
	case cfg.tracesExporter == "":
		cfg.tracesExporter = "none"
	}
	switch {
	case len(cfg.allowedHosts) == 0 && isLoopback(cfg.addr):
		cfg.allowedHosts = []string{"localhost", "127.0.0.1", "::1", hostname(cfg.addr)}
	case len(cfg.allowedHosts) == 0:
		cfg.allowedHosts = []string{"*"}
	}
	return &cfg, nil
}

// warn logs what was set but may not be what was meant.
func (s *server) warn(env map[string]string) {
	if s.cfg.apiToken == "" && !isLoopback(s.cfg.addr) {
		s.log.Warn("searching and reading are open to whoever reaches this address: set API_TOKEN to close them", "addr", s.cfg.addr)
	}
	if !s.cfg.observability {
		s.log.Warn("OBSERVABILITY is off: requests are neither logged nor measured nor traced")
	}
	var ignored []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		isSetting := slices.ContainsFunc(variables(new(settings)), func(v variable) bool { return v.name == name })
		isExporters := strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_") && !strings.Contains(name, "_METRICS_") && !strings.Contains(name, "_LOGS_") &&
			!strings.HasSuffix(name, "_PROTOCOL") // HTTP with protobuf, whatever it says
		if strings.HasPrefix(name, "OTEL_") && !isSetting && !isExporters {
			ignored = append(ignored, name)
		}
	}
	if ignored != nil {
		s.log.Warn("these variables are not honoured", "variables", ignored)
	}
}

// effective returns the settings as they are in force, secrets redacted.
func effective(env map[string]string) slog.Value {
	var attrs []slog.Attr
	for _, v := range variables(new(settings)) {
		value := redact(cmp.Or(env[v.name], v.standard))
		if v.secret && value != "" {
			value = "(set)"
		}
		attrs = append(attrs, slog.String(v.name, value))
	}
	return slog.GroupValue(attrs...)
}

// redact takes the credentials out of a URL: its user and its query. Other values stay as they are.
func redact(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.User == nil && u.RawQuery == "" {
		return value
	}
	return u.Scheme + "://(redacted)@" + u.Host + u.Path
}

// Stamps of a build outside a repository: -ldflags "-X main.stampedVersion=… -X main.stampedRevision=…".
var stampedVersion, stampedRevision string

// version is what the build was stamped with, or the module's: "(devel)" outside a repository.
var version = sync.OnceValue(func() string {
	info, _ := debug.ReadBuildInfo()
	return cmp.Or(stampedVersion, strings.Trim(info.Main.Version, "()"), "devel")
})

// revision is the commit that the build was made from.
func revision() string {
	revision := "unknown"
	info, _ := debug.ReadBuildInfo()
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			revision = setting.Value
		}
	}
	return cmp.Or(stampedRevision, revision)
}

func goVersion() string { return runtime.Version() }

// isLoopback reports whether addr can be reached from this machine alone.
func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// hostname returns host without its port, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
}

// setter makes a setter of a parser.
func setter[T any](field *T, parse func(string) (T, error)) func(string) error {
	return func(v string) (err error) {
		*field, err = parse(v)
		return err
	}
}

func parseText(v string) (string, error) { return v, nil }

func parseAddr(v string) (string, error) {
	_, port, err := net.SplitHostPort(v)
	if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil {
		return "", errors.New("not an address HOST:PORT")
	}
	return v, nil
}

// parseDatabaseURL checks a postgres:// URL. What lib/pq would do by itself, or otherwise in its next version, is said.
func parseDatabaseURL(v string) (string, error) {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", errors.New("not a URL postgres://USER:PASSWORD@HOST/DATABASE?sslmode=MODE")
	}
	q := u.Query()
	if q.Get("sslmode") == "" {
		return "", errors.New("sslmode is missing: add ?sslmode=verify-full, or disable where nobody can listen")
	}
	for name, value := range map[string]string{"connect_timeout": "5", "binary_parameters": "yes", "application_name": "vitrine"} {
		if !q.Has(name) {
			q.Set(name, value)
		}
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

func parseURL(v string) (string, error) {
	if u, err := url.Parse(v); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("not a URL http://HOST/… or https://HOST/…")
	}
	return v, nil
}

// inRange makes a parser of values in a range, of a parser of all. NaN is in none.
func inRange[T cmp.Ordered](kind string, least, most T, parse func(string) (T, error)) func(string) (T, error) {
	return func(v string) (T, error) {
		value, err := parse(v)
		if isInside := least <= value && value <= most; err != nil || !isInside {
			return value, fmt.Errorf("not a %s from %v to %v", kind, least, most)
		}
		return value, nil
	}
}

func parseCount(most int) func(string) (int, error) {
	return inRange("number", 1, most, strconv.Atoi)
}

func parseNumber(least, most float64) func(string) (float64, error) {
	return inRange("number", least, most, func(v string) (float64, error) { return strconv.ParseFloat(v, 64) })
}

func parseDuration(least time.Duration) func(string) (time.Duration, error) {
	return inRange("duration", least, 365*24*time.Hour, time.ParseDuration)
}

// parseRate refuses rates at which a token takes longer than anybody waits.
func parseRate(v string) (float64, error) {
	n, err := parseNumber(0, 1e6)(v)
	if n > 0 && n < 0.001 {
		err = errors.New("not 0 and less than 0.001")
	}
	return n, err
}

// parseToken refuses what could not be sent in a header.
func parseToken(v string) (string, error) {
	if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("not printable ASCII without spaces")
	}
	return v, nil
}

// parseList makes a parser of lists, separated by commas, of a parser of their items.
func parseList[T any](parse func(string) (T, error)) func(string) ([]T, error) {
	return func(v string) (items []T, err error) {
		for _, text := range splitList(v) {
			item, err := parse(text)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		return items, nil
	}
}

func splitList(v string) (items []string) {
	for item := range strings.SplitSeq(v, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func parseHost(v string) (string, error) {
	if v = strings.ToLower(v); v != hostname(v) {
		return "", fmt.Errorf("%q is not a host name without a port", v)
	}
	return v, nil
}

func parseOrigin(v string) (string, error) {
	v = strings.ToLower(v)
	if u, err := url.Parse(v); v != "*" && (err != nil || u.Host == "" || u.Scheme+"://"+u.Host != v) {
		return "", fmt.Errorf("%q is not an origin SCHEME://HOST[:PORT]", v)
	}
	return v, nil
}

// oneOf makes a parser of a few words.
func oneOf[T any](words string, values map[string]T) func(string) (T, error) {
	return func(v string) (T, error) {
		value, ok := values[v]
		if !ok {
			return value, errors.New("not " + words)
		}
		return value, nil
	}
}

var (
	parseTrue      = oneOf("true or false", map[string]bool{"true": true, "false": false})
	parseOn        = oneOf("on or off", map[string]bool{"on": true, "off": false})
	parseExporter  = oneOf("otlp, console or none", map[string]string{"otlp": "otlp", "console": "console", "none": "none"})
	parseLevelName = oneOf("debug, info, warn or error", map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	})
)

func parseLevel(v string) (slog.Level, error) { return parseLevelName(strings.ToLower(v)) }
