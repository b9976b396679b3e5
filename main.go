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
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

//go:embed main.go
var manualSource string

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
	s.log.Info("starting", "go", goVersion(), "settings", effectiveSettings(env))
	warnAboutSettings(s.log, cfg, env)
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
		fmt.Fprintf(table, "\n  %s\t%s\t%s", v.name, v.defaultValue, v.about)
	}
	fmt.Fprintln(table)
	return table.Flush()
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
