// Vitrine is a documentation search server for agents and people. It shows how each request was answered.
//
//	vitrine            start the server
//	vitrine -h         print this manual
//	vitrine -version   print the version
//	vitrine -health    ask the local server with the same settings whether it is ready; exit with 0 if it is, else with 1
//	vitrine -check     check the folder in DOCS_DIR: what is left out, links that lead nowhere, answers to questions.tsv
//	vitrine -reindex   compute all vectors in DATABASE_URL again, then exit
//
// Give it a folder of Markdown and search it with curl:
//
//	DOCS_DIR=./docs vitrine
//	curl 'http://127.0.0.1:8080/search?q=install'
//
// With no settings it serves its own README and RUNBOOK, so the first search has results. It logs JSON lines to stdout.
// On SIGTERM it finishes the requests in flight and exits. The exit code is 0 after a clean stop, 1 after a fatal
// error, and 2 if a setting or an argument is wrong.
//
// All settings are environment variables. The second column is the default:
package main

// Entry point: the commands, and the life of the server from its start to its drain.

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

// drainTimeout bounds how long a drain waits for requests in flight. It is longer than handlerBudget, so that they can
// finish. Together with DRAIN_DELAY it should stay below Kubernetes' default grace period of 30 seconds.
const drainTimeout = handlerBudget + 5*time.Second

//go:embed main.go
var manualSource string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the process

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
	switch command {
	case "-h", "-help":
		return printManual(stdout)
	case "-version":
		_, err := fmt.Fprintln(stdout, version())
		return err
	}

	env := environment(environ)
	cfg, err := readSettings(env)
	if err != nil {
		return err
	}
	if command == "-health" {
		return checkHealth(ctx, cfg, stdout)
	}

	if command == "" || command == "-check" {
		if err := cfg.checkFolders(); err != nil {
			return err
		}
	}
	if command == "-check" {
		return checkDocuments(ctx, cfg, stdout)
	}

	s, err := newServer(cfg, stdout)
	if err != nil {
		return err
	}
	defer s.close()
	s.log.Info("starting", "go", goVersion(), "settings", effectiveSettings(env))
	warnAboutSettings(s.log, cfg, env)
	limitMemory(s.log, env)
	raiseGCPercent(env)

	if command == "-reindex" {
		return s.reindex(ctx)
	}
	return s.serve(ctx)
}

// parseCommand returns the command with a single dash, or "" for the server.
func parseCommand(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}

	command := strings.Replace(strings.Join(args, " "), "--", "-", 1)
	switch command {
	case "-h", "-help", "-version", "-health", "-check", "-reindex":
		return command, nil
	}
	return "", fmt.Errorf("unknown argument %q: settings are environment variables; %w", args[0], errUsage)
}

// printManual prints the package comment and the settings.
func printManual(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	comment, _, _ := strings.Cut(manualSource, "\npackage main")
	for line := range strings.Lines(comment + "\n") {
		line = strings.TrimPrefix(line, "//")
		line = strings.TrimPrefix(line, " ")
		fmt.Fprint(table, strings.ReplaceAll(line, "\t", "  "))
	}

	for _, v := range variables(new(settings)) {
		fmt.Fprintf(table, "\n  %s\t%s\t%s", v.name, v.defaultValue, v.about)
	}
	fmt.Fprintln(table)
	return table.Flush()
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

// checkHealth asks a running server whether it is ready, prints its answer, and returns an error if it is not ready.
// Docker's HEALTHCHECK uses it because the image has no curl.
func checkHealth(ctx context.Context, cfg *settings, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, readinessURL(cfg.addr), http.NoBody)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	if name := cfg.allowedHosts[0]; name != "*" {
		r.Host = name
	}

	client := http.Client{Transport: &http.Transport{}} // it ignores HTTP_PROXY
	resp, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s\n%s", resp.Status, text)
	}

	_, err = stdout.Write(text)
	return err
}

// readinessURL returns the URL of /readyz on addr, HOST:PORT. If addr stands for all addresses, the URL has 127.0.0.1.
func readinessURL(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(host)
	if host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/readyz?verbose"
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
		addr := listeners[i].Addr().String()
		s.log.Info("serving", "addr", addr, "try", "curl http://"+addr)
	}
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

// listen opens a listener for each server.
func listen(servers []*http.Server) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, hs := range servers {
		listener, err := net.Listen("tcp", hs.Addr)
		if err != nil {
			return nil, fmt.Errorf("%w; set ADDR and ADMIN_ADDR to addresses that are free", err)
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
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

	var err error
	for _, hs := range servers {
		err = errors.Join(err, hs.Shutdown(ctx))
	}
	if err != nil {
		return fmt.Errorf("requests were cut off after %v: %w", drainTimeout, err)
	}
	s.log.Info("stopped")
	return nil
}

// reindex computes the vectors in the database again, with the embedder that the settings name.
func (s *server) reindex(ctx context.Context) error {
	if s.cfg.databaseURL == "" {
		return fmt.Errorf("-reindex is for a database, the embedded store embeds at each start: set DATABASE_URL; %w", errUsage)
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

	documents, chunks, err := p.size(ctx)
	s.log.Info("reindexed", "documents", documents, "chunks", chunks)
	return err
}
