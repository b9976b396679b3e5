package main

// Profiling in production: closed unless ENABLE_PROFILING, for who has ADMIN_TOKEN, within a budget, and each capture with
// a line in the log.

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"runtime"
	rpprof "runtime/pprof"
	"runtime/trace"
	"strconv"
	"sync"
	"time"
)

const maxCaptureSeconds = 60

// profiler captures profiles. Its zero value is off.
type profiler struct {
	enabled bool
	log     *slog.Logger
	client  func(r *http.Request) string
	budget  *limiter // of captures, all clients together: five every ten seconds go through
	flight  *trace.FlightRecorder

	mu      sync.Mutex
	running map[string]time.Time // until when a capture of that kind runs
}

// newProfiler turns on what costs a little all the time: the mutex and block profiles and the flight recorder.
func newProfiler(log *slog.Logger, client func(*http.Request) string) (*profiler, error) {
	runtime.SetMutexProfileFraction(100)
	runtime.SetBlockProfileRate(int(100 * time.Microsecond))
	flight := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: 10 * time.Second, MaxBytes: 16 << 20})
	if err := flight.Start(); err != nil {
		return nil, fmt.Errorf("starting the flight recorder: %w", err)
	}
	return &profiler{enabled: true, log: log, client: client, budget: newLimiter(1, 10), flight: flight, running: make(map[string]time.Time)}, nil
}

func (p *profiler) close() {
	if p.enabled {
		p.flight.Stop()
	}
}

// routes are those of the profiles, none if profiling is off.
func (p *profiler) routes() []route {
	if !p.enabled {
		return nil
	}
	routes := []route{
		{"GET /debug/pprof/{$}", profiling, maxBodyBytes, p.handleIndex},
		{"GET /debug/pprof/profile", profiling, noLimit, p.capture("profile", 30, pprof.Profile)}, // go tool pprof http://x:$ADMIN_TOKEN@localhost:8080/debug/pprof/profile
		{"GET /debug/pprof/trace", profiling, noLimit, p.capture("trace", 1, pprof.Trace)},
		{"GET /debug/flight", profiling, noLimit, p.capture("flight", 0, p.writeFlight)}, // the last seconds: go tool trace
	}
	for _, name := range []string{"heap", "allocs", "goroutine", "block", "mutex", "threadcreate"} {
		routes = append(routes, route{"GET /debug/pprof/" + name, profiling, noLimit, p.capture(name, 0, pprof.Handler(name).ServeHTTP)})
	}
	return routes
}

func (p *profiler) handleIndex(w http.ResponseWriter, _ *http.Request) error {
	text := "profiles: profile?seconds=30 trace?seconds=1 heap allocs goroutine block mutex threadcreate, and /debug/flight\n"
	for _, profile := range rpprof.Profiles() {
		text += fmt.Sprintf("%-14s %d\n", profile.Name(), profile.Count())
	}
	return writeText(w, http.StatusOK, text)
}

// capture guards a handler of net/http/pprof, which extends the write deadline itself. seconds is how long it takes unless the
// request says otherwise; 0: a moment, unless it asks for a difference over some seconds.
func (p *profiler) capture(name string, seconds int, serve http.HandlerFunc) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		markStream(r.Context(), captureStream)
		seconds := seconds
		if text := r.URL.Query().Get("seconds"); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > maxCaptureSeconds {
				return userError{http.StatusBadRequest, fmt.Sprintf("seconds=%.20q is not a number from 1 to %d", text, maxCaptureSeconds)}
			}
			seconds = n
		}
		if wait := p.budget.take(anyClient, time.Now()); wait > 0 {
			return tooManyRequests(wait, "too many captures: wait as long as Retry-After says")
		}
		done, err := p.begin(name, time.Duration(seconds)*time.Second)
		if err != nil {
			return err
		}
		defer done()
		p.log.InfoContext(r.Context(), "profile captured", "profile", name, "seconds", seconds, "client", p.client(r))
		w.Header().Set("Cache-Control", "no-store")
		serve(w, r)
		return nil
	}
}

// begin says that a capture of that kind runs, or until when the one that does.
func (p *profiler) begin(name string, duration time.Duration) (done func(), err error) {
	if duration == 0 && name != "flight" { // of which there is one
		return func() {}, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if until, busy := p.running[name]; busy {
		wait := strconv.Itoa(int(time.Until(until).Seconds()) + 1)
		message := "another " + name + " is being captured until " + until.UTC().Format(time.RFC3339) + ": try again then"
		return nil, headerError{userError{http.StatusConflict, message}, "Retry-After", wait}
	}
	p.running[name] = time.Now().Add(duration)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.running, name)
	}, nil
}

func (p *profiler) writeFlight(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="flight.trace"`)
	if _, err := p.flight.WriteTo(w); err != nil {
		p.log.WarnContext(r.Context(), "flight recording was cut off", "error", err)
	}
}

// label marks the goroutine's CPU samples until restore is called, if profiling is on.
func (p *profiler) label(ctx context.Context, key, value string) (_ context.Context, restore func()) {
	if !p.enabled {
		return ctx, func() {}
	}
	labelled := rpprof.WithLabels(ctx, rpprof.Labels(key, value))
	rpprof.SetGoroutineLabels(labelled)
	return labelled, func() { rpprof.SetGoroutineLabels(ctx) }
}
