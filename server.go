package main

// The server: its parts, and how they are opened and closed.

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// server answers requests. Its fields are set before it serves.
type server struct {
	cfg     *settings
	log     *slog.Logger
	level   *logLevel  // of log
	logs    *logWriter // where log writes
	observe *observer
	profile *profiler

	embedder embedder
	store    store
	folder   *folder // nil: no folder is followed
	streams  *streams
	identity *identity // what agents learn of this server
	tree     treeCache

	gaps *gapList // nil: RECORD_GAPS is off

	proxies      proxies  // whose X-Forwarded-For is trusted
	limits       *limiter // requests a second, by client
	guesses      *limiter // failed tokens, by client
	authFailures atomic.Int64
	admission    *admission // of searches
	work         *admission // of pages and parts of documents that are made
	largePages   *admission // of pages that are sent
	hints        *admission // of hints, see nearbyIDs
	encoding     *admission // of the parts of large texts in responses

	scrapes  *scrapes      // answers GET /metrics
	ready    atomic.Bool   // false until the store is open, and again during a drain
	stopping chan struct{} // closed when streams must end
}

// newServer returns a server without a store. openStore opens the store. The caller must close the server.
func newServer(cfg *settings, stdout io.Writer) (*server, error) {
	level := newLogLevel(cfg.logLevel)
	logs := newLogWriter(stdout, newLogger(stdout, slog.LevelWarn, cfg))
	log := newLogger(logs, level, cfg)

	proxies := proxies(cfg.trustedProxies)
	m := newMetrics(cfg, labelsFor(cfg))

	s := &server{
		cfg:      cfg,
		log:      log,
		level:    level,
		logs:     logs,
		observe:  newObserver(cfg, log, m, proxies.name),
		profile:  new(profiler),
		streams:  newStreams(cfg.maxStreams),
		identity: newIdentity(cfg),
		proxies:  proxies,
		limits:   newLimiter(cfg.rateLimit, max(1, 2*cfg.rateLimit)),
		guesses:  newLimiter(0.1, 5),
		stopping: make(chan struct{}),
	}
	s.limitWork()
	if cfg.recordGaps {
		s.gaps = newGapList()
	}

	s.observe.metrics.collect(s.gauges)
	if cfg.observability {
		s.expectRoutes()
	}
	s.scrapes = s.observe.metrics.scrapes(log, s.observe.report)

	var err error
	s.observe.traces, err = newTraceExport(context.Background(), cfg, log)
	if err != nil {
		return nil, err
	}
	if cfg.profiling {
		if err := s.startProfiler(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// limitWork limits the work that only computes, other than searches.
func (s *server) limitWork() {
	s.work = newWorkAdmission()
	s.largePages = newSharedAdmission(maxLargePages)
	s.hints = newSharedAdmission(runtime.GOMAXPROCS(0))
	s.hints.maxWaiting = 0 // the answer is right without the hint
	s.encoding = newTurns()
}

// startProfiler turns profiling on.
func (s *server) startProfiler() error {
	profile, err := newProfiler(s.log, s.proxies.name)
	if err != nil {
		return err
	}
	s.profile = profile
	s.observe.onSlow = profile.slow.keep
	return nil
}

// expectRoutes creates the series of the routes that do not answer with streams.
func (s *server) expectRoutes() {
	streams := []string{"GET /mcp", "GET /sse"}
	for _, rt := range s.routes(servesBoth) {
		if rt.kind == short && !slices.Contains(streams, rt.pattern) {
			s.observe.metrics.expectRoute(rt.pattern)
		}
	}
}

// labelsFor returns the label values whose series the metrics create at start-up.
func labelsFor(cfg *settings) metricLabels {
	labels := metricLabels{model: cfg.embeddingModel}
	if cfg.embeddingURL == "" {
		labels.model = hashedModel
	}

	for _, attrs := range queryAttrs {
		operation := attrs[0].Value.String()
		summary := attrs[1].Value.String()
		labels.queries = append(labels.queries, [2]string{operation, summary})
	}

	for _, t := range toolsFor(cfg) {
		labels.tools = append(labels.tools, t.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(methods)) {
		if methods[name].call != nil && !trivialMethods[name] {
			labels.methods = append(labels.methods, name)
		}
	}
	return labels
}

// close closes the store, and then flushes records, traces and logs.
func (s *server) close() {
	if s.store != nil {
		s.store.close()
	}
	s.profile.close()
	s.observe.close()
	s.observe.traces.close(5 * time.Second)
	s.logs.close(2 * time.Second)
}

// makeStore makes the store that the settings name, without opening it.
func (s *server) makeStore() error {
	s.embedder = newEmbedder(s.cfg)
	if len(s.cfg.docsDirs) > 0 {
		s.folder = &folder{
			roots:   s.cfg.docsDirs,
			exclude: s.cfg.docsExclude,
			observe: s.observe,
		}
	}

	if s.cfg.databaseURL == "" {
		m := newMemory(s.folder, s.embedder, s.cfg.vectorWeight, s.observe)
		s.admission = newSharedAdmission(maxSearches())
		m.admission = s.admission
		s.store = m
		return nil
	}
	p, err := newPostgres(s.cfg, s.embedder, s.observe)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	s.admission = newDatabaseAdmission(s.cfg)
	p.admission = s.admission
	s.store = p
	return nil
}

// openStore opens the store and begins to follow the folder. Background work runs in tasks until ctx ends. openStore may
// wait long for a database or an embedding API. Requests are answered meanwhile.
func (s *server) openStore(ctx context.Context, tasks *sync.WaitGroup) error {
	s.store.watch(s.streams.changed) // for as long as the server lives
	s.store.watch(s.tree.changed)
	if err := s.checkEmbedder(ctx); err != nil {
		return err
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

// newEmbedder returns the embedder that the settings name.
func newEmbedder(cfg *settings) embedder {
	if cfg.embeddingURL == "" {
		return hashedEmbedder{}
	}
	return newRemoteEmbedder(cfg)
}

// checkEmbedder returns an error if the settings of the embedder are wrong. If its API is unavailable, it logs a warning
// and returns no error.
func (s *server) checkEmbedder(ctx context.Context) error {
	err := s.embedder.check(ctx)
	if errors.Is(err, errUnavailable) {
		s.log.Warn("searches are lexical until the embedding API answers",
			"error", err)
		return nil
	}
	return err
}

//go:embed README.md RUNBOOK.md
var ownDocuments embed.FS

// loadOwnDocuments fills a store with README.md and RUNBOOK.md.
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

// httpServers returns the server of ADDR, and that of ADMIN_ADDR if it is set.
func (s *server) httpServers() []*http.Server {
	if s.cfg.adminAddr == "" {
		return []*http.Server{s.httpServer(s.cfg.addr, servesBoth)}
	}
	return []*http.Server{
		s.httpServer(s.cfg.addr, servesSearch),
		s.httpServer(s.cfg.adminAddr, servesAdmin),
	}
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
		ConnState:         s.observe.connections.changed,
		ConnContext:       withConnection,
	}
}
