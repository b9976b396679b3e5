package main

// The server: what it is made of, the one table of routes, and the one place where an error becomes an answer.

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// server answers requests. Its fields are set before it serves.
type server struct {
	cfg          *settings
	log          *slog.Logger
	level        *logLevel
	logs         *logWriter
	observe      *observer
	profile      *profiler
	store        store
	folder       *folder // nil: nothing is followed
	limits       *limiter
	authFailures *limiter // failed tokens on the profiling routes
	streams      *streams

	ready    atomic.Bool   // false before serving, and again once a drain has begun
	stopping chan struct{} // closed when streams must end
	metrics  http.Handler  // of /metrics
	known    storeState
}

// newServer makes a server that needs no more than a store. It must be closed.
func newServer(cfg *settings, stdout io.Writer) (*server, error) {
	level := newLogLevel(cfg.logLevel)
	logs := newLogWriter(stdout, newLogger(stdout, slog.LevelWarn, cfg))
	log := newLogger(logs, level, cfg)
	s := &server{
		cfg: cfg, log: log, level: level, logs: logs, observe: newObserver(cfg, log), profile: new(profiler),
		limits: newLimiter(cfg.rateLimit, max(1, 2*cfg.rateLimit)), authFailures: newLimiter(0.1, 5), streams: newStreams(cfg.maxStreams),
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
	if s.store != nil {
		s.store.close()
	}
	s.profile.close()
	s.observe.close()
	s.observe.traces.close(5 * time.Second)
	s.logs.close(2 * time.Second)
}

// openStore opens the store that the settings name and begins to follow the folder. Background work goes into tasks and
// lasts until ctx ends.
func (s *server) openStore(ctx context.Context, tasks *sync.WaitGroup) error {
	e, err := s.openEmbedder(ctx)
	if err != nil {
		return err
	}
	if s.cfg.docsDir != "" {
		s.folder = &folder{dir: s.cfg.docsDir, observe: s.observe}
	}
	if s.cfg.databaseURL == "" {
		s.store = newMemory(s.folder, e, s.cfg.vectorWeight, s.observe)
	} else {
		p, err := newPostgres(s.cfg, e, s.observe)
		if err != nil {
			return fmt.Errorf("DATABASE_URL: %w", err)
		}
		s.store = p
	}
	if err := s.store.start(ctx, tasks); err != nil {
		return err
	}
	switch {
	case s.folder != nil:
		tasks.Go(func() { s.folder.follow(ctx, s.store, s.cfg.docsSync) })
	case s.cfg.databaseURL == "":
		return loadOwnDocuments(ctx, s.store)
	}
	return nil
}

//go:embed README.md RUNBOOK.md
var ownDocuments embed.FS

// loadOwnDocuments fills a store with the program's manual.
func loadOwnDocuments(ctx context.Context, st store) error {
	files, err := ownDocuments.ReadDir(".")
	if err != nil {
		return err
	}
	var documents []*document
	for _, file := range files {
		text, err := ownDocuments.ReadFile(file.Name())
		if err != nil {
			return err
		}
		d, err := newDocument(file.Name(), string(text), time.Now())
		if err != nil {
			return err
		}
		documents = append(documents, d)
	}
	return st.sync(ctx, time.Now(), documents, nil)
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

// routes is the whole HTTP surface of a listener that serves "search", "admin" or both.
func (s *server) routes(serves string) []route {
	tables := map[string][]route{
		"search": {
			{"POST /mcp", api, ownLimits, s.handleMCP},                         // claude mcp add --transport http docs http://127.0.0.1:8080/mcp
			{"GET /mcp", api, ownLimits, s.handleNotifications},                // curl -N -H 'Accept: text/event-stream' :8080/mcp
			{"GET /sse", api, ownLimits, s.handleSSE},                          // curl -N :8080/sse
			{"POST /messages", api, ownLimits, s.handleMessages},               // curl -H 'Content-Type: application/json' -d … ':8080/messages?sessionId=…'
			{"GET /search", api, maxBodyBytes, s.handleSearch},                 // curl ':8080/search?q=install'
			{"GET /documents", api, maxBodyBytes, s.handleList},                // curl ':8080/documents?prefix=guide/'
			{"POST /documents", admin, noLimit, s.handleBulk},                  // curl --data-binary @docs.ndjson
			{"GET /documents/{id...}", api, maxBodyBytes, s.handleGet},         // curl :8080/documents/README.md
			{"PUT /documents/{id...}", admin, maxDocumentBytes, s.handlePut},   // curl -T install.md
			{"DELETE /documents/{id...}", admin, maxBodyBytes, s.handleDelete}, // curl -X DELETE
		},
		"admin": append(s.profile.routes(), []route{
			{"GET /metrics", open, maxBodyBytes, s.handleMetrics},              // curl :8080/metrics
			{"GET /debug/requests", admin, maxBodyBytes, s.handleRequests},     // curl -u :$ADMIN_TOKEN :8080/debug/requests
			{"GET /debug/requests/{id}", admin, maxBodyBytes, s.handleRequest}, // the waterfall of a correlation or trace id
			{"GET /debug/loglevel", admin, maxBodyBytes, s.handleLogLevel},     // curl -u :$ADMIN_TOKEN :8080/debug/loglevel
			{"PUT /debug/loglevel", admin, maxBodyBytes, s.handleSetLogLevel},  // curl -X PUT -d debug ':8080/debug/loglevel?for=10m'
		}...),
	}
	routes := []route{
		{"GET /{$}", open, maxBodyBytes, s.handleIndex(serves)}, // curl :8080, or a browser
		{"GET /livez", open, maxBodyBytes, s.handleLive},        // curl :8080/livez
		{"GET /healthz", open, maxBodyBytes, s.handleLive},      // the same, by its older name
		{"GET /readyz", open, maxBodyBytes, s.handleReady},      // curl ':8080/readyz?verbose'
	}
	for name := range strings.FieldsSeq(serves) {
		routes = append(routes, tables[name]...)
	}
	return routes
}

// handler returns the handler of a listener that serves "search", "admin" or both.
func (s *server) handler(serves string) http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.routes(serves) {
		mux.Handle(rt.pattern, s.handle(rt))
	}
	// A catch-all would turn each 405 into a 404, so this one finds out which it is. Without "/documents" PUT /documents
	// would be redirected, and without those of HEAD a stream's GET would answer it.
	for _, pattern := range []string{"/", "/documents", "HEAD /mcp", "HEAD /sse"} {
		mux.Handle(pattern, s.handle(route{pattern, open, maxBodyBytes, func(w http.ResponseWriter, r *http.Request) error {
			return unmatched(mux, w, r)
		}}))
	}
	return s.observe.observe(mux)
}

// unmatched answers a request that no route answers: a CORS preflight, which the guard has let through, with 204; others
// with 405 if another method would do, else 404.
func unmatched(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	var allowed []string
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
		other := http.Request{Method: method, Host: r.Host, URL: r.URL}
		if _, pattern := mux.Handler(&other); strings.Contains(pattern, " ") && !strings.HasPrefix(pattern, "HEAD") {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		return userError{http.StatusNotFound, "no such page: GET / lists the routes"}
	}
	list := strings.Join(allowed, ", ")
	return headerError{userError{http.StatusMethodNotAllowed, "method not allowed here: use " + list}, "Allow", list}
}

// handle guards a route and makes the answer of an error.
func (s *server) handle(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Content-Type-Options"] = nosniff
		err := s.guard(w, r, rt)
		if err == nil {
			err = s.call(w, r, rt)
		}
		if err != nil {
			s.answerError(w, r, err)
		}
	})
}

// call calls the route's handler within its limits.
func (s *server) call(w http.ResponseWriter, r *http.Request, rt route) error {
	ctx, restore := s.profile.label(r.Context(), "route", rt.pattern)
	defer restore()
	switch rt.maxBody {
	case ownLimits:
	case noLimit:
		markStream(ctx, bulkStream)
	default:
		r.Body = http.MaxBytesReader(w, r.Body, rt.maxBody)
	}
	if ctx != r.Context() { // a copy of the request is not for nothing
		r = r.WithContext(ctx)
	}
	return rt.handler(w, r)
}

// answerError is the only place where an error becomes a response. The caller learns of his own faults, the log of ours.
func (s *server) answerError(w http.ResponseWriter, r *http.Request, err error) {
	logAttrs(r.Context(), slog.String("error", err.Error()))
	if sent, ok := w.(*response); ok && sent.status != 0 { // too late for a status: the log tells
		return
	}
	if publicError(err).status >= http.StatusInternalServerError {
		markFailed(r.Context(), err)
	}
	writeError(w, r, err)
}
