// Vitrine is a documentation search server for agents and people that you can see through.
//
//	vitrine            serve, as the environment says
//	vitrine -h         this manual
//	vitrine -version   the version
//	vitrine -health    ask /readyz of the server that runs here with the same settings: exit 0 if it is ready, else 1
//	vitrine -reindex   embed all documents in DATABASE_URL anew, as the settings say, and exit
//
// Give it a folder of Markdown and search it with curl:
//
//	DOCS_DIR=./docs vitrine
//	curl 'http://127.0.0.1:8080/search?q=install'
//
// Without DOCS_DIR it serves its own README and RUNBOOK, so that the first search answers. It writes JSON lines to
// stdout, ends politely on SIGTERM, and exits with 0, with 1 if it cannot go on, or with 2 if a setting or an argument
// is wrong. All settings are environment variables:
package main

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

//go:embed README.md RUNBOOK.md
var ownDocuments embed.FS

//go:embed main.go
var manualSource string

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

	apiToken       string
	adminToken     string
	allowedHosts   []string
	allowedOrigins []string
	trustedProxies []netip.Prefix
	rateLimit      float64
	maxStreams     int
	profiling      bool
	sampleRate     float64
	tracesExporter string
	serviceName    string
	environment    string
	logLevel       slog.Level
	slowRequest    time.Duration
	drainDelay     time.Duration
	observability  bool
}

// model names the embedder in telemetry.
func (c *settings) model() string { return cmp.Or(c.embeddingModel, hashedModel) }

// variable is one environment variable: a line of the manual, of README's table and of what is checked at start-up.
type variable struct {
	name, standard string // standard: the value where it is unset or empty
	example        string // for the error message, where the standard value is none
	secret         bool
	about          string
	set            func(cfg *settings, value string) error
}

var variables = []variable{
	{"ADDR", "127.0.0.1:8080", "", false, "address to listen on", func(c *settings, v string) error {
		return parseAddr(v, &c.addr)
	}},
	{"ADMIN_ADDR", "", "127.0.0.1:9090", false, "address for /metrics and /debug/, which are then served there and only there", func(c *settings, v string) error {
		return parseAddr(v, &c.adminAddr)
	}},
	{"DATABASE_URL", "", "postgres://vitrine@db.example.com/vitrine?sslmode=verify-full", true, "PostgreSQL 14 or later with pgvector 0.8; without it the store is in memory", func(c *settings, v string) error {
		return parseDatabaseURL(v, &c.databaseURL)
	}},
	{"DB_MAX_CONNS", "20", "", false, "connections that requests may use; background work takes up to 3 more", func(c *settings, v string) error {
		return parseCount(v, 1000, &c.dbMaxConns)
	}},
	{"DOCS_DIR", "", "./docs", false, "folder of Markdown to serve; without it the program's own manual", func(c *settings, v string) error {
		c.docsDir = v
		return nil
	}},
	{"DOCS_SYNC_INTERVAL", "10s", "", false, "how often the folder is looked through for changes", func(c *settings, v string) error {
		return parseDuration(v, 100*time.Millisecond, &c.docsSync)
	}},
	{"EMBEDDING_URL", "", "http://127.0.0.1:11434/v1/embeddings", false, "any OpenAI-compatible embeddings API; without it the built-in, lexical vectors", func(c *settings, v string) error {
		return parseURL(v, &c.embeddingURL)
	}},
	{"EMBEDDING_MODEL", "", "nomic-embed-text", false, "model to name to the API", func(c *settings, v string) error {
		c.embeddingModel = v
		return nil
	}},
	{"EMBEDDING_API_KEY", "", "a-key", true, "bearer token of the API", func(c *settings, v string) error {
		return parseToken(v, &c.embeddingKey)
	}},
	{"EMBEDDING_DIMENSIONS", "", "512", false, "dimensions to ask the model for; unset: its own", func(c *settings, v string) error {
		return parseCount(v, maxDimensions, &c.embeddingDimensions)
	}},
	{"EMBEDDING_QUERY_PREFIX", "", "query: ", false, "what the model wants before a question", func(c *settings, v string) error {
		c.embeddingQueryPrefix = v
		return nil
	}},
	{"EMBEDDING_DOCUMENT_PREFIX", "", "passage: ", false, "what the model wants before a text", func(c *settings, v string) error {
		c.embeddingDocumentPrefix = v
		return nil
	}},
	{"EMBEDDING_BATCH", "32", "", false, "texts a call", func(c *settings, v string) error {
		return parseCount(v, 2048, &c.embeddingBatch)
	}},
	{"EMBEDDING_CONCURRENCY", "4", "", false, "calls at once", func(c *settings, v string) error {
		return parseCount(v, 100, &c.embeddingConcurrency)
	}},
	{"EMBEDDING_MIN_COSINE", "0.3", "", false, "cosine from which on a text counts as found though it shares no word with the question", func(c *settings, v string) error {
		return parseNumber(v, -1, 1, &c.embeddingMinCosine)
	}},
	{"VECTOR_WEIGHT", "0.5", "", false, "weight of the vectors beside the words (1) in the ranking; with EMBEDDING_URL 1.0", func(c *settings, v string) error {
		return parseNumber(v, 0, 100, &c.vectorWeight)
	}},
	{"API_TOKEN", "", "a-long-random-text", true, "bearer token for searching and reading; without it they are open to anybody", func(c *settings, v string) error {
		return parseToken(v, &c.apiToken)
	}},
	{"ADMIN_TOKEN", "", "a-long-random-text", true, "token that opens everything, as bearer or Basic password; without it the admin routes are closed", func(c *settings, v string) error {
		return parseToken(v, &c.adminToken)
	}},
	{"ALLOWED_HOSTS", "", "docs.example.com", false, "host names served, without ports; unset: the loopback names if ADDR is loopback, else any", func(c *settings, v string) error {
		c.allowedHosts = splitList(strings.ToLower(v))
		if slices.ContainsFunc(c.allowedHosts, func(host string) bool { return host != hostname(host) }) {
			return errors.New("not host names without ports")
		}
		return nil
	}},
	{"ALLOWED_ORIGINS", "", "https://app.example.com", false, "origins beside the request's own host whose pages may ask", func(c *settings, v string) error {
		return parseOrigins(v, &c.allowedOrigins)
	}},
	{"TRUSTED_PROXIES", "", "10.0.0.0/8", false, "networks whose X-Forwarded-For is believed", func(c *settings, v string) error {
		return parsePrefixes(v, &c.trustedProxies)
	}},
	{"RATE_LIMIT", "50", "", false, "requests a second per client, in bursts of twice as many; 0: no limit", func(c *settings, v string) error {
		return parseNumber(v, 0, 1e6, &c.rateLimit)
	}},
	{"MAX_STREAMS", "10000", "", false, "SSE streams open at once, per client 100 of them", func(c *settings, v string) (err error) {
		c.maxStreams, err = strconv.Atoi(v)
		if err != nil || c.maxStreams < 1 {
			return errors.New("not a number of at least 1")
		}
		return nil
	}},
	{"ENABLE_PROFILING", "false", "", false, "true opens /debug/pprof/ and /debug/flight to whoever has ADMIN_TOKEN", func(c *settings, v string) (err error) {
		c.profiling, err = parseBool(v)
		return err
	}},
	{"OTEL_TRACE_SAMPLE_RATE", "0.1", "", false, "share of the traces that are kept, 0 to 1; failed and slow ones are always kept", func(c *settings, v string) error {
		return parseNumber(v, 0, 1, &c.sampleRate)
	}},
	{"OTEL_TRACES_EXPORTER", "", "otlp", false, "otlp, console (standard error) or none; unset: otlp if OTEL_EXPORTER_OTLP_ENDPOINT is set", func(c *settings, v string) error {
		c.tracesExporter = v
		if v != "otlp" && v != "console" && v != "none" {
			return errors.New("not otlp, console or none")
		}
		return nil
	}},
	{"OTEL_RESOURCE_ATTRIBUTES", "", "k8s.pod.name=docs-1", false, "further attributes of the traces' resource", func(*settings, string) error {
		return nil // the OpenTelemetry SDK reads it
	}},
	{"OTEL_SERVICE_NAME", "vitrine", "", false, "name of the service in logs, metrics and traces", func(c *settings, v string) error {
		c.serviceName = v
		return nil
	}},
	{"ENVIRONMENT", "development", "", false, "name of the environment in logs, metrics and traces", func(c *settings, v string) error {
		c.environment = v
		return nil
	}},
	{"LOG_LEVEL", "info", "", false, "debug, info, warn or error", func(c *settings, v string) (err error) {
		c.logLevel, err = parseLevel(v)
		return err
	}},
	{"SLOW_REQUEST", "500ms", "", false, "requests that take longer are logged as warnings, and their traces kept", func(c *settings, v string) error {
		return parseDuration(v, 0, &c.slowRequest)
	}},
	{"DRAIN_DELAY", "0s", "", false, "pause between being no longer ready and closing", func(c *settings, v string) error {
		return parseDuration(v, 0, &c.drainDelay)
	}},
	{"OBSERVABILITY", "on", "", false, "off leaves out what is recorded of each request, to measure what that costs", func(c *settings, v string) error {
		c.observability = v == "on"
		if v != "on" && v != "off" {
			return errors.New("not on or off")
		}
		return nil
	}},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

// errUsage is wrapped by errors that are mended by other settings or arguments.
var errUsage = errors.New("vitrine -h prints the manual")

// run does what the program is asked for until ctx ends.
func run(ctx context.Context, args, environ []string, stdout io.Writer) error {
	isReindex := len(args) == 1 && (args[0] == "-reindex" || args[0] == "--reindex")
	isHealth := len(args) == 1 && (args[0] == "-health" || args[0] == "--health")
	switch {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "-help" || args[0] == "--help"):
		return manual(stdout)
	case len(args) == 1 && (args[0] == "-version" || args[0] == "--version"):
		_, err := fmt.Fprintln(stdout, version())
		return err
	case len(args) > 0 && !isReindex && !isHealth:
		return fmt.Errorf("vitrine: unknown argument %q: settings are environment variables; %w", args[0], errUsage)
	}
	getenv := func(name string) string {
		value := ""
		for _, pair := range environ {
			if key, v, _ := strings.Cut(pair, "="); key == name {
				value = v
			}
		}
		return value
	}
	cfg, err := readSettings(getenv)
	if err != nil {
		return err
	}
	if isHealth {
		return health(ctx, cfg, stdout)
	}
	s, err := newServer(cfg, stdout)
	if err != nil {
		return err
	}
	defer s.close()
	s.log.Info("starting", "go", goVersion(), "settings", effective(getenv))
	s.warn(environ)
	limitMemory(s.log, getenv)
	if isReindex {
		return s.reindex(ctx)
	}
	return s.serve(ctx)
}

// health asks a running server whether it is ready, for HEALTHCHECK: an image from scratch has no curl.
func health(ctx context.Context, cfg *settings, stdout io.Writer) error {
	host, port, _ := net.SplitHostPort(cfg.addr)
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz?verbose", http.NoBody)
	if err != nil {
		return fmt.Errorf("vitrine: not ready: %w", err)
	}
	if name := cfg.allowedHosts[0]; name != "*" {
		r.Host = name
	}
	direct := http.Client{Transport: &http.Transport{}} // whatever HTTP_PROXY says
	answer, err := direct.Do(r)
	if err != nil {
		return fmt.Errorf("vitrine: not ready: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("vitrine: not ready: %s\n%s", answer.Status, text)
	}
	_, err = stdout.Write(text)
	return err
}

// manual prints the package comment and the settings.
func manual(w io.Writer) error {
	comment, _, _ := strings.Cut(manualSource, "\npackage main")
	for line := range strings.Lines(comment + "\n") {
		line = strings.TrimPrefix(strings.TrimPrefix(line, "//"), " ")
		if _, err := io.WriteString(w, strings.ReplaceAll(line, "\t", "  ")); err != nil {
			return err
		}
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range variables {
		fmt.Fprintf(table, "\n  %s\t%s\t%s", v.name, v.standard, v.about)
	}
	fmt.Fprintln(table)
	return table.Flush()
}

// readSettings checks all variables and reports all that is wrong at once.
func readSettings(getenv func(string) string) (*settings, error) {
	var cfg settings
	var problems []error
	for _, v := range variables {
		value := getenv(v.name)
		if value == "" {
			value = v.standard
		}
		if value == "" {
			continue
		}
		if err := v.set(&cfg, value); err != nil {
			example := v.example
			if example == "" {
				example = v.standard
			}
			if v.secret {
				value = "(secret)"
			}
			problems = append(problems, fmt.Errorf("%s=%q: %w; for example %s=%s", v.name, redact(value), err, v.name, example))
		}
	}
	if (cfg.embeddingURL == "") != (cfg.embeddingModel == "") {
		problems = append(problems, errors.New("EMBEDDING_URL and EMBEDDING_MODEL must be set together; for example EMBEDDING_MODEL=nomic-embed-text"))
	}
	if cfg.profiling && cfg.adminToken == "" {
		problems = append(problems, errors.New("ENABLE_PROFILING=true needs ADMIN_TOKEN; for example ADMIN_TOKEN=a-long-random-text"))
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		if value := getenv(name); value != "" && parseURL(value, new(string)) != nil {
			problems = append(problems, fmt.Errorf("%s is not a URL; for example %s=http://127.0.0.1:4318", name, name))
		}
	}
	if problems != nil {
		return nil, fmt.Errorf("%w\n%w", errors.Join(problems...), errUsage)
	}
	if cfg.embeddingURL != "" && getenv("VECTOR_WEIGHT") == "" {
		cfg.vectorWeight = 1
	}
	if cfg.tracesExporter == "" {
		cfg.tracesExporter = "none"
		if getenv("OTEL_EXPORTER_OTLP_ENDPOINT")+getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
			cfg.tracesExporter = "otlp"
		}
	}
	if len(cfg.allowedHosts) == 0 {
		cfg.allowedHosts = []string{"*"}
		if isLoopback(cfg.addr) {
			cfg.allowedHosts = []string{"localhost", "127.0.0.1", "::1", hostname(cfg.addr)}
		}
	}
	return &cfg, nil
}

// warn logs what was set but may not be what was meant.
func (s *server) warn(environ []string) {
	if s.cfg.apiToken == "" && !isLoopback(s.cfg.addr) {
		s.log.Warn("searching and reading are open to whoever reaches this address: set API_TOKEN to close them", "addr", s.cfg.addr)
	}
	if !s.cfg.observability {
		s.log.Warn("OBSERVABILITY is off: requests are neither logged nor measured nor traced")
	}
	var ignored []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		known := slices.ContainsFunc(variables, func(v variable) bool { return v.name == name }) || strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_") && !strings.Contains(name, "_METRICS_") && !strings.Contains(name, "_LOGS_") &&
			!strings.HasSuffix(name, "_PROTOCOL") // HTTP with protobuf, whatever it says
		if strings.HasPrefix(name, "OTEL_") && !known {
			ignored = append(ignored, name)
		}
	}
	if ignored != nil {
		s.log.Warn("these variables are not honoured", "variables", ignored)
	}
}

// serve opens what the settings name, serves until ctx ends, and drains.
func (s *server) serve(ctx context.Context) error {
	listeners, err := listen(s.cfg.addr, s.cfg.adminAddr)
	if err != nil {
		return err
	}
	var working sync.WaitGroup
	background, endBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer working.Wait()
	defer endBackground()
	if err := s.openStore(background, &working); err != nil {
		return err
	}
	servers := s.httpServers()
	failed := make(chan error, len(servers))
	for i, hs := range servers {
		working.Go(func() { failed <- hs.Serve(listeners[i]) })
		s.log.Info("serving", "addr", listeners[i].Addr().String(), "try", fmt.Sprintf("curl http://%s", listeners[i].Addr()))
	}
	s.ready.Store(true)
	select {
	case err := <-failed:
		for _, hs := range servers {
			_ = hs.Close()
		}
		return fmt.Errorf("vitrine: serving: %w", err)
	case <-ctx.Done():
		return s.drain(ctx, servers)
	}
}

// newServer makes a server that needs no more than a store. It must be closed.
func newServer(cfg *settings, stdout io.Writer) (*server, error) {
	level := newLogLevel(cfg.logLevel)
	logs := newLogWriter(stdout, newLogger(stdout, level, cfg))
	log := newLogger(logs, level, cfg)
	s := &server{
		cfg: cfg, log: log, level: level, logs: logs, observe: newObserver(cfg, log), profile: new(profiler),
		limits: newLimiter(cfg.rateLimit, 2*cfg.rateLimit), strikes: newLimiter(0.1, 5), streams: newStreams(cfg.maxStreams),
		stopping: make(chan struct{}),
	}
	s.observe.client = s.clientName
	s.observe.metrics.registry.MustRegister(serverCollector{s})
	s.metrics = s.metricsHandler()
	var err error
	if s.observe.traces, err = newTraceExport(context.Background(), cfg, log); err != nil {
		return nil, err
	}
	if cfg.profiling {
		s.profile, err = newProfiler(log, s.clientName)
	}
	return s, err
}

// close sends off what was recorded.
func (s *server) close() {
	s.profile.close()
	s.observe.traces.close(5 * time.Second)
	s.logs.close(2 * time.Second)
}

// listen listens on the addresses that are not empty, before anything else is begun: a busy port is a start-up error.
func listen(addrs ...string) (listeners []net.Listener, err error) {
	for _, addr := range addrs {
		if addr == "" {
			continue
		}
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			for _, opened := range listeners {
				_ = opened.Close()
			}
			return nil, fmt.Errorf("vitrine: %w; set ADDR and ADMIN_ADDR to addresses that are free", err)
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

// openStore opens the store that the settings name and begins to follow the folder.
func (s *server) openStore(ctx context.Context, working *sync.WaitGroup) error {
	e, err := s.openEmbedder(ctx)
	if err != nil {
		return err
	}
	if s.cfg.docsDir != "" {
		s.folder = &folder{dir: s.cfg.docsDir, observe: s.observe}
	}
	if s.cfg.databaseURL != "" {
		p, err := newPostgres(s.cfg, e, s.observe)
		if err != nil {
			return fmt.Errorf("vitrine: DATABASE_URL: %w", err)
		}
		if err := p.start(ctx, working); err != nil {
			return fmt.Errorf("vitrine: %w", err)
		}
		s.store = p
	} else {
		m := newMemory(s.folder, s.cfg.vectorWeight)
		m.embedder = e
		s.store = m
		if s.cfg.docsDir == "" {
			return m.loadFiles(ctx, ownDocuments)
		}
		working.Go(func() { m.embedMissing(ctx, s.observe) })
	}
	if s.folder != nil {
		working.Go(func() { s.folder.follow(ctx, s.store, s.cfg.docsSync) })
	}
	return nil
}

// openEmbedder returns the embedder that the settings name. An API that is away for the moment is a warning.
func (s *server) openEmbedder(ctx context.Context) (embedder, error) {
	if s.cfg.embeddingURL == "" {
		return hashedEmbedder{}, nil
	}
	e := newRemoteEmbedder(s.cfg)
	err := e.check(ctx)
	if errors.Is(err, errUnavailable) {
		s.log.Warn("searches are lexical until the embedding API answers", "error", err)
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("vitrine: %w", err)
	}
	return e, nil
}

// reindex makes the database's vectors those of the settings.
func (s *server) reindex(ctx context.Context) error {
	if s.cfg.databaseURL == "" {
		return fmt.Errorf("vitrine: -reindex is for a database, the embedded store embeds at each start: set DATABASE_URL; %w", errUsage)
	}
	e, err := s.openEmbedder(ctx)
	if err != nil {
		return err
	}
	p, err := newPostgres(s.cfg, e, s.observe)
	if err != nil {
		return fmt.Errorf("vitrine: DATABASE_URL: %w", err)
	}
	defer p.close()
	if err := p.reindex(ctx); err != nil {
		return fmt.Errorf("vitrine: reindexing: %w", err)
	}
	documents, chunks, err := p.size(ctx)
	s.log.Info("reindexed", "documents", documents, "chunks", chunks)
	return err
}

// httpServers returns the server of ADDR, and that of ADMIN_ADDR if it is set.
func (s *server) httpServers() []*http.Server {
	tables := [][]route{slices.Concat(s.routes(), s.adminRoutes(), s.sharedRoutes("search admin"))}
	if s.cfg.adminAddr != "" {
		tables = [][]route{slices.Concat(s.routes(), s.sharedRoutes("search")), slices.Concat(s.adminRoutes(), s.sharedRoutes("admin"))}
	}
	var servers []*http.Server
	for _, table := range tables {
		servers = append(servers, &http.Server{
			Handler:           s.handler(table),
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // handshakes and aborted connections
			ConnState:         s.observe.countConnection,
		})
	}
	return servers
}

// drain ends the server so that no request is lost: it says that it is not ready, waits until that has got around,
// ends the streams, and lets everything in flight finish.
func (s *server) drain(ctx context.Context, servers []*http.Server) error {
	s.log.Info("draining", "delay", s.cfg.drainDelay.String())
	s.ready.Store(false)
	s.observe.closing.Store(true)
	time.Sleep(s.cfg.drainDelay)
	close(s.stopping)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	var failed error
	for _, hs := range servers {
		failed = errors.Join(failed, hs.Shutdown(ctx))
	}
	if failed != nil {
		return fmt.Errorf("vitrine: requests were cut off after %v: %w", drainTimeout, failed)
	}
	s.log.Info("stopped")
	return nil
}

// drainTimeout is longer than any answer may take, and with DRAIN_DELAY within Kubernetes' 30 seconds.
const drainTimeout = handlerBudget + 5*time.Second

// effective returns the settings as they are in force, secrets redacted.
func effective(getenv func(string) string) slog.Value {
	var attrs []slog.Attr
	for _, v := range variables {
		value := getenv(v.name)
		switch {
		case value == "":
			value = v.standard
		case v.secret:
			value = "(set)"
		}
		attrs = append(attrs, slog.String(v.name, redact(value)))
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

// limitMemory tells the garbage collector 90 % of the cgroup's memory limit, which it does not look for itself
// (go.dev/issue/75164), unless GOMEMLIMIT is set.
func limitMemory(log *slog.Logger, getenv func(string) string) {
	text, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		text, err = os.ReadFile("/sys/fs/cgroup/memory/memory.limit_in_bytes") // version 1 of cgroups
	}
	limit, parseErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || parseErr != nil || limit > 1<<50 || getenv("GOMEMLIMIT") != "" { // version 1 says "none" by a huge number
		return
	}
	debug.SetMemoryLimit(limit / 10 * 9)
	log.Info("memory limit set from the cgroup", "bytes", limit/10*9)
}

// Stamps of a build outside a repository: -ldflags "-X main.stampedVersion=… -X main.stampedRevision=…".
var stampedVersion, stampedRevision string

// version is what the build was stamped with, and revision the commit it was made from.
var version = sync.OnceValue(func() string {
	if stampedVersion != "" {
		return stampedVersion
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
})

func revision() string {
	if stampedRevision != "" {
		return stampedRevision
	}
	info, _ := debug.ReadBuildInfo()
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return "unknown"
}

func goVersion() string {
	info, _ := debug.ReadBuildInfo()
	return info.GoVersion
}

func parseAddr(v string, to *string) error {
	_, port, err := net.SplitHostPort(v)
	if n, portErr := strconv.Atoi(port); err != nil || portErr != nil || n < 0 || n > 65535 {
		return errors.New("not an address HOST:PORT")
	}
	*to = v
	return nil
}

// parseDatabaseURL checks a postgres:// URL. What lib/pq would do by itself, or otherwise in its next version, is said.
func parseDatabaseURL(v string, to *string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return errors.New("not a URL postgres://USER:PASSWORD@HOST/DATABASE?sslmode=MODE")
	}
	q := u.Query()
	if q.Get("sslmode") == "" {
		return errors.New("sslmode is missing: add ?sslmode=verify-full, or disable where nobody can listen")
	}
	for _, standard := range [][2]string{{"connect_timeout", "5"}, {"binary_parameters", "yes"}, {"application_name", "vitrine"}} {
		if !q.Has(standard[0]) {
			q.Set(standard[0], standard[1])
		}
	}
	u.RawQuery = q.Encode()
	*to = u.String()
	return nil
}

func parseURL(v string, to *string) error {
	if u, err := url.Parse(v); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("not a URL http://HOST/… or https://HOST/…")
	}
	*to = v
	return nil
}

func parseCount(v string, most int, to *int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		return fmt.Errorf("not a number from 1 to %d", most)
	}
	*to = n
	return nil
}

// isLoopback reports whether addr can be reached from this machine alone.
func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func parseDuration(v string, least time.Duration, to *time.Duration) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < least {
		return fmt.Errorf("not a duration of at least %v", least)
	}
	*to = d
	return nil
}

func parseNumber(v string, least, most float64, to *float64) error {
	n, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsNaN(n) || n < least || n > most {
		return fmt.Errorf("not a number from %g to %g", least, most)
	}
	*to = n
	return nil
}

// parseToken refuses what could not be sent in a header.
func parseToken(v string, to *string) error {
	if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("not printable ASCII without spaces")
	}
	*to = v
	return nil
}

func parseOrigins(v string, to *[]string) error {
	for _, origin := range splitList(strings.ToLower(v)) {
		if u, err := url.Parse(origin); origin != "*" && (err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin) {
			return fmt.Errorf("%q is not an origin SCHEME://HOST[:PORT]", origin)
		}
		*to = append(*to, origin)
	}
	return nil
}

func parsePrefixes(v string, to *[]netip.Prefix) error {
	for _, text := range splitList(v) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("%q is not a network in CIDR form", text)
		}
		*to = append(*to, prefix)
	}
	return nil
}

func parseBool(v string) (bool, error) {
	if v != "true" && v != "false" {
		return false, errors.New("not true or false")
	}
	return v == "true", nil
}

func parseLevel(v string) (slog.Level, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[strings.ToLower(v)]
	if !ok {
		return 0, errors.New("not debug, info, warn or error")
	}
	return level, nil
}

func splitList(v string) []string {
	var list []string
	for item := range strings.SplitSeq(v, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}
