// Vitrine is a documentation search server for agents and people. It shows how each request was answered.
//
//	vitrine            start the server; also vitrine serve
//	vitrine FOLDER     the same, with DOCS_DIR=FOLDER
//	vitrine help       print this manual; also -h
//	vitrine version    print the version; also -v
//	vitrine health     ask the local server with the same settings whether it is ready; exit with 0 if it is, else with 1
//	vitrine check      report links that lead nowhere, what is left out, how questions.tsv is answered; also
//	                   vitrine check FOLDER
//	vitrine reindex    compute all vectors in DATABASE_URL again, then exit
//
// A command may be written with dashes: -health. Give it a folder of Markdown and search it with curl:
//
//	vitrine ./docs
//	curl 'http://127.0.0.1:8080/search?q=install'
//
// With no settings it serves its own README and RUNBOOK, so the first search has results. It logs to stdout: lines for
// people on a terminal, else JSON lines. On SIGTERM it finishes the requests in flight and exits. The exit code is 0 after
// a clean stop, 1 after a fatal error, and 2 if a setting or an argument is wrong.
//
// All settings are environment variables. The second column is the default:
package main

// Entry point: the commands, and the life of the server from its start to its drain.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// drainTimeout bounds how long a drain waits for requests in flight. It is longer than handlerBudget, so that they can
// finish. Together with DRAIN_DELAY it should stay below Kubernetes' default grace period of 30 seconds.
const drainTimeout = handlerBudget + 5*time.Second

// maxNamedClients is how many of the clients that are cut off the log names.
const maxNamedClients = 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the process

	// A log that nobody reads any more loses lines, which are counted. It does not end the process.
	signal.Ignore(syscall.SIGPIPE)

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

// run executes the command in args. The server runs until ctx ends. environ has the form of os.Environ.
func run(ctx context.Context, args, environ []string, stdout io.Writer) error {
	command, err := parseCommand(args)
	if err != nil {
		return err
	}
	env := environment(environ)
	if command.folder != "" {
		env["DOCS_DIR"] = command.folder
	}

	switch command.name {
	case "help":
		return printManual(stdout)
	case "version":
		_, err := fmt.Fprintln(stdout, version())
		return err
	}

	cfg, err := readSettings(env)
	if err != nil {
		return err
	}
	cfg.onTerminal = isTerminal(stdout)
	switch command.name {
	case "health":
		return checkHealth(ctx, cfg, stdout)
	case "", "check":
		if err := cfg.checkFolders(); err != nil {
			return err
		}
	}
	if command.name == "check" {
		return checkDocuments(ctx, cfg, stdout)
	}
	return startServer(ctx, command, cfg, env, stdout)
}

// startServer makes the server and lets it serve, or reindex.
func startServer(ctx context.Context, command command, cfg *settings, env map[string]string, stdout io.Writer) error {
	reindexes := command.name == "reindex"
	if cfg.greets() && !reindexes {
		cfg.createAdminToken()
	}
	s, err := newServer(cfg, stdout)
	if err != nil {
		return err
	}
	defer s.close()
	takeOverLogs(s.log)

	if cfg.greets() && !reindexes {
		s.logs.hold()
	}
	s.logStart(env)
	warnAboutSettings(s.log, cfg, env)
	limitMemory(s.log, env)
	delayCollections(env)

	if reindexes {
		return s.reindex(ctx)
	}
	return s.serve(ctx)
}

// environment turns KEY=value pairs into a map. If a key comes twice, its last value is used.
func environment(pairs []string) map[string]string {
	env := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// serve opens the listeners, serves until ctx ends, and drains. It opens the store while it serves, so that the process
// is alive and heeds a signal from the first moment on.
func (s *server) serve(ctx context.Context) error {
	servers := s.httpServers()
	listeners, err := listen(servers) // before the store: a busy port fails at once
	if err != nil {
		return err
	}

	// Background work must outlive ctx: requests in flight need it while they are drained.
	var tasks sync.WaitGroup
	background, endBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer tasks.Wait()
	defer endBackground()
	err = s.makeStore()
	if err != nil {
		return err
	}

	failures := make(chan error, len(servers)+1)
	for i, hs := range servers {
		tasks.Go(func() { failures <- fmt.Errorf("serving: %w", hs.Serve(listeners[i])) })
	}
	s.announce(background, &tasks, listeners)
	tasks.Go(func() { s.ignoreHangups(background) })
	tasks.Go(func() {
		err := s.openStore(background, &tasks)
		if err != nil {
			failures <- err
			return
		}
		s.ready.Store(true)
	})

	select {
	case err := <-failures:
		for _, hs := range servers {
			_ = hs.Close()
		}
		return err
	case <-ctx.Done():
		return s.drain(ctx, servers)
	}
}

// listen opens a listener for each server: that of ADDR, and that of ADMIN_ADDR if there are two.
func listen(servers []*http.Server) ([]net.Listener, error) {
	var listeners []net.Listener
	for i, hs := range servers {
		listener, err := net.Listen("tcp", hs.Addr)
		if err != nil {
			setting := []string{"ADDR", "ADMIN_ADDR"}[i]
			return nil, fmt.Errorf("%s=%s: %w; %s", setting, hs.Addr, err, listenAdvice(err))
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

// listenAdvice says what to do if an address cannot be listened on.
func listenAdvice(err error) string {
	switch {
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 need a right: choose a port from 1024 on, for example :8080, and let a proxy serve the other, " +
			"or give the program the right with setcap cap_net_bind_service=+ep"
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there: stop it, or choose another port, for example 127.0.0.1:8081"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine does not have that address: choose one of its own, or :8080 for all of them"
	}
	return "choose an address of this machine, for example 127.0.0.1:8080"
}

// drain stops the servers without losing a request. It fails readiness, waits until load balancers have noticed, ends
// the streams, and lets requests in flight finish.
func (s *server) drain(ctx context.Context, servers []*http.Server) error {
	s.log.Info("draining", "delay", s.cfg.drainDelay.String())
	s.ready.Store(false)
	s.observe.closing.Store(true)
	time.Sleep(s.cfg.drainDelay)
	close(s.stopping)

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()

	for _, hs := range servers {
		if hs.Shutdown(ctx) == nil {
			continue
		}
		clients, count := s.observe.connections.busy(maxNamedClients)
		s.log.Warn("connections closed: their clients neither ended nor read in time",
			"after", drainTimeout.String(),
			"count", count,
			"clients", clients)
		_ = hs.Close()
	}
	s.log.Info("stopped")
	return nil
}

// reindex computes the vectors in the database again, with the embedder that the settings name.
func (s *server) reindex(ctx context.Context) error {
	if s.cfg.databaseURL == "" {
		return fmt.Errorf("reindex is for a database, and the store in memory embeds at each start: set DATABASE_URL; %w", errUsage)
	}
	s.embedder = newEmbedder(s.cfg)
	if err := s.checkEmbedder(ctx); err != nil {
		return err
	}
	p, err := newPostgres(s.cfg, s.embedder, s.observe)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer p.close()

	err = p.reindex(ctx)
	if err != nil {
		return fmt.Errorf("reindexing: %w", err)
	}

	size, err := p.size(ctx)
	s.log.Info("reindexed", "documents", size.documents, "chunks", size.chunks)
	return err
}
