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
	"maps"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"runtime"
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
		{"ADDR", "127.0.0.1:8080", "", false, "address to listen on", into(&c.addr, parseAddr)},
		{"ADMIN_ADDR", "", "127.0.0.1:9090", false, "address for /metrics and /debug/, which are then served there and only there", into(&c.adminAddr, parseAddr)},
		{"DATABASE_URL", "", "postgres://u@db.example.com/v?sslmode=verify-full", true, "PostgreSQL 14 or later with pgvector 0.8; without it the store is in memory", into(&c.databaseURL, parseDatabaseURL)},
		{"DB_MAX_CONNS", "20", "", false, "connections that requests may use; background work takes up to 2 more", into(&c.dbMaxConns, parseCount(1000))},
		{"DOCS_DIR", "", "./docs", false, "folder of Markdown to serve; without it the program's own manual", into(&c.docsDir, parseText)},
		{"DOCS_SYNC_INTERVAL", "10s", "", false, "how often the folder is looked through for changes", into(&c.docsSync, parseDuration(100*time.Millisecond))},
		{"EMBEDDING_URL", "", "http://127.0.0.1:11434/v1/embeddings", false, "any OpenAI-compatible embeddings API; without it the built-in, lexical vectors", into(&c.embeddingURL, parseURL)},
		{"EMBEDDING_MODEL", "", "nomic-embed-text", false, "model to name to the API", into(&c.embeddingModel, parseText)},
		{"EMBEDDING_API_KEY", "", "a-key", true, "bearer token of the API", into(&c.embeddingKey, parseToken)},
		{"EMBEDDING_DIMENSIONS", "", "512", false, "dimensions to ask the model for; unset: its own", into(&c.embeddingDimensions, parseCount(maxDimensions))},
		{"EMBEDDING_QUERY_PREFIX", "", "query: ", false, "what the model wants before a question", into(&c.embeddingQueryPrefix, parseText)},
		{"EMBEDDING_DOCUMENT_PREFIX", "", "passage: ", false, "what the model wants before a text", into(&c.embeddingDocumentPrefix, parseText)},
		{"EMBEDDING_BATCH", "32", "", false, "texts a call", into(&c.embeddingBatch, parseCount(2048))},
		{"EMBEDDING_CONCURRENCY", "4", "", false, "calls at once", into(&c.embeddingConcurrency, parseCount(100))},
		{"EMBEDDING_MIN_COSINE", "0.3", "", false, "cosine from which on a text counts as found though it shares no word with the question", into(&c.embeddingMinCosine, parseNumber(-1, 1))},
		{"VECTOR_WEIGHT", "0.5", "", false, "weight of the vectors beside the words (1) in the ranking; with EMBEDDING_URL 1.0", into(&c.vectorWeight, parseNumber(0, 100))},
		{"API_TOKEN", "", "a-long-random-text", true, "bearer token for searching and reading; without it they are open to anybody", into(&c.apiToken, parseToken)},
		{"ADMIN_TOKEN", "", "a-long-random-text", true, "token that opens everything, as bearer or Basic password; without it the admin routes are closed", into(&c.adminToken, parseToken)},
		{"ALLOWED_HOSTS", "", "docs.example.com", false, "host names served, without ports, besides its own IP address; unset: the loopback names if ADDR is loopback, else any", into(&c.allowedHosts, parseList(parseHost))},
		{"ALLOWED_ORIGINS", "", "https://app.example.com", false, "origins beside the request's own host whose pages may ask", into(&c.allowedOrigins, parseList(parseOrigin))},
		{"TRUSTED_PROXIES", "", "10.0.0.0/8", false, "networks whose X-Forwarded-For is believed", into(&c.trustedProxies, parseList(netip.ParsePrefix))},
		{"RATE_LIMIT", "50", "", false, "requests a second per client, in bursts of twice as many; 0: no limit", into(&c.rateLimit, parseRate)},
		{"MAX_STREAMS", "10000", "", false, "SSE streams open at once, per client 100 of them", into(&c.maxStreams, parseCount(math.MaxInt32))},
		{"ENABLE_PROFILING", "false", "", false, "true opens /debug/pprof/ and /debug/flight to whoever has ADMIN_TOKEN", into(&c.profiling, parseTrue)},
		{"OTEL_TRACE_SAMPLE_RATE", "0.1", "", false, "share of the traces that are kept, 0 to 1; failed and slow ones are always kept", into(&c.sampleRate, parseNumber(0, 1))},
		{"OTEL_TRACES_EXPORTER", "", "otlp", false, "otlp, console (standard error) or none; unset: otlp if OTEL_EXPORTER_OTLP_ENDPOINT is set", into(&c.tracesExporter, parseExporter)},
		{"OTEL_RESOURCE_ATTRIBUTES", "", "k8s.pod.name=docs-1", false, "further attributes of the traces' resource", into(new(string), parseText)}, // the OpenTelemetry SDK reads it
		{"OTEL_SERVICE_NAME", "vitrine", "", false, "name of the service in logs, metrics and traces", into(&c.serviceName, parseText)},
		{"ENVIRONMENT", "development", "", false, "name of the environment in logs, metrics and traces", into(&c.environment, parseText)},
		{"LOG_LEVEL", "info", "", false, "debug, info, warn or error", into(&c.logLevel, parseLevel)},
		{"SLOW_REQUEST", "500ms", "", false, "requests that take longer are logged as warnings, and their traces kept", into(&c.slowRequest, parseDuration(0))},
		{"DRAIN_DELAY", "0s", "", false, "pause between being no longer ready and closing", into(&c.drainDelay, parseDuration(0))},
		{"OBSERVABILITY", "on", "", false, "off leaves out what is recorded of each request, to measure what that costs", into(&c.observability, parseOn)},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "vitrine:", err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

// errUsage is wrapped by errors that are mended by other settings or arguments.
var errUsage = errors.New("vitrine -h prints the manual")

// run does what the program is asked for until ctx ends.
func run(ctx context.Context, args, environ []string, stdout io.Writer) error {
	command := strings.Replace(strings.Join(args, " "), "--", "-", 1)
	switch command {
	case "-h", "-help":
		return manual(stdout)
	case "-version":
		_, err := fmt.Fprintln(stdout, version())
		return err
	case "-health", "-reindex":
	default:
		if len(args) > 0 {
			return fmt.Errorf("unknown argument %q: settings are environment variables; %w", args[0], errUsage)
		}
	}
	env := environment(environ)
	cfg, err := readSettings(env)
	if err != nil {
		return err
	}
	if command == "-health" {
		return health(ctx, cfg, stdout)
	}
	s, err := newServer(cfg, stdout)
	if err != nil {
		return err
	}
	defer s.close()
	s.log.Info("starting", "go", goVersion(), "settings", effective(env))
	s.warn(env)
	limitMemory(s.log, env["GOMEMLIMIT"])
	// While little is in use, the garbage collector would begin a cycle for each 4 MB allocated, a hundred times a second under
	// load. This makes it 32 MB more; its pages are never touched and take no memory.
	ballast := make([]byte, 32<<20)
	defer runtime.KeepAlive(ballast)
	if command == "-reindex" {
		return s.reindex(ctx)
	}
	return s.serve(ctx)
}

// environment turns KEY=value pairs into a map; of a key that comes twice the last value holds.
func environment(pairs []string) map[string]string {
	env := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
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
		return fmt.Errorf("not ready: %w", err)
	}
	if name := cfg.allowedHosts[0]; name != "*" {
		r.Host = name
	}
	direct := http.Client{Transport: &http.Transport{}} // whatever HTTP_PROXY says
	answer, err := direct.Do(r)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s\n%s", answer.Status, text)
	}
	_, err = stdout.Write(text)
	return err
}

// manual prints the package comment and the settings.
func manual(w io.Writer) error {
	comment, _, _ := strings.Cut(manualSource, "\npackage main")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for line := range strings.Lines(comment + "\n") {
		line = strings.TrimPrefix(strings.TrimPrefix(line, "//"), " ")
		fmt.Fprint(table, strings.ReplaceAll(line, "\t", "  "))
	}
	for _, v := range variables(new(settings)) {
		fmt.Fprintf(table, "\n  %s\t%s\t%s", v.name, v.standard, v.about)
	}
	fmt.Fprintln(table)
	return table.Flush()
}

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

// serve opens what the settings name, serves until ctx ends, and drains.
func (s *server) serve(ctx context.Context) error {
	servers := s.httpServers()
	listeners := make([]net.Listener, len(servers))
	for i, hs := range servers { // before anything else is begun: a busy port is a start-up error
		var err error
		if listeners[i], err = net.Listen("tcp", hs.Addr); err != nil {
			return fmt.Errorf("%w; set ADDR and ADMIN_ADDR to addresses that are free", err)
		}
	}
	var working sync.WaitGroup
	background, endBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer working.Wait()
	defer endBackground()
	if err := s.openStore(background, &working); err != nil {
		return err
	}
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
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
		return s.drain(ctx, servers)
	}
}

// newServer makes a server that needs no more than a store. It must be closed.
func newServer(cfg *settings, stdout io.Writer) (*server, error) {
	level := newLogLevel(cfg.logLevel)
	logs := newLogWriter(stdout, newLogger(stdout, slog.LevelWarn, cfg))
	log := newLogger(logs, level, cfg)
	s := &server{
		cfg: cfg, log: log, level: level, logs: logs, observe: newObserver(cfg, log), profile: new(profiler),
		limits: newLimiter(cfg.rateLimit, max(1, 2*cfg.rateLimit)), strikes: newLimiter(0.1, 5), streams: newStreams(cfg.maxStreams),
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
	s.observe.close()
	s.observe.traces.close(5 * time.Second)
	s.logs.close(2 * time.Second)
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
			return fmt.Errorf("DATABASE_URL: %w", err)
		}
		if err := p.start(ctx, working); err != nil {
			return err
		}
		s.store = p
	} else {
		m := newMemory(s.folder, s.cfg.vectorWeight)
		m.embedder = e
		s.store = m
		if s.folder == nil {
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
	return e, err
}

// reindex makes the database's vectors those of the settings.
func (s *server) reindex(ctx context.Context) error {
	if s.cfg.databaseURL == "" {
		return fmt.Errorf("-reindex is for a database, the embedded store embeds at each start: set DATABASE_URL; %w", errUsage)
	}
	e, err := s.openEmbedder(ctx)
	if err != nil {
		return err
	}
	p, err := newPostgres(s.cfg, e, s.observe)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer p.close()
	if err := p.reindex(ctx); err != nil {
		return fmt.Errorf("reindexing: %w", err)
	}
	documents, chunks, err := p.size(ctx)
	s.log.Info("reindexed", "documents", documents, "chunks", chunks)
	return err
}

// httpServers returns the server of ADDR, and that of ADMIN_ADDR if it is set.
func (s *server) httpServers() []*http.Server {
	if s.cfg.adminAddr == "" {
		return []*http.Server{s.httpServer(s.cfg.addr, "search admin")}
	}
	return []*http.Server{s.httpServer(s.cfg.addr, "search"), s.httpServer(s.cfg.adminAddr, "admin")}
}

func (s *server) httpServer(addr, serves string) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           s.handler(serves),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // handshakes and aborted connections
		ConnState:         s.observe.countConnection,
	}
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
		return fmt.Errorf("requests were cut off after %v: %w", drainTimeout, failed)
	}
	s.log.Info("stopped")
	return nil
}

// drainTimeout is longer than any answer may take, and with DRAIN_DELAY within Kubernetes' 30 seconds.
const drainTimeout = handlerBudget + 5*time.Second

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

// limitMemory tells the garbage collector 90 % of the cgroup's memory limit, which it does not look for itself
// (go.dev/issue/75164), unless GOMEMLIMIT is set.
func limitMemory(log *slog.Logger, goMemLimit string) {
	text, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		text, _ = os.ReadFile("/sys/fs/cgroup/memory/memory.limit_in_bytes") // version 1 of cgroups
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || limit > 1<<50 || goMemLimit != "" { // version 1 says "none" by a huge number
		return
	}
	debug.SetMemoryLimit(limit / 10 * 9)
	log.Info("memory limit set from the cgroup", "bytes", limit/10*9)
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

// into makes a setter of a parser.
func into[T any](field *T, parse func(string) (T, error)) func(string) error {
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

// between makes a parser of values in a range, of a parser of all. NaN is in none.
func between[T cmp.Ordered](kind string, least, most T, parse func(string) (T, error)) func(string) (T, error) {
	return func(v string) (T, error) {
		value, err := parse(v)
		if isInside := least <= value && value <= most; err != nil || !isInside {
			return value, fmt.Errorf("not a %s from %v to %v", kind, least, most)
		}
		return value, nil
	}
}

func parseCount(most int) func(string) (int, error) {
	return between("number", 1, most, strconv.Atoi)
}

func parseNumber(least, most float64) func(string) (float64, error) {
	return between("number", least, most, func(v string) (float64, error) { return strconv.ParseFloat(v, 64) })
}

func parseDuration(least time.Duration) func(string) (time.Duration, error) {
	return between("duration", least, 365*24*time.Hour, time.ParseDuration)
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
	parseTrue     = oneOf("true or false", map[string]bool{"true": true, "false": false})
	parseOn       = oneOf("on or off", map[string]bool{"on": true, "off": false})
	parseExporter = oneOf("otlp, console or none", map[string]string{"otlp": "otlp", "console": "console", "none": "none"})
	parseLower    = oneOf("debug, info, warn or error", map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	})
)

func parseLevel(v string) (slog.Level, error) { return parseLower(strings.ToLower(v)) }
