package main

// Profiling in production. Its routes exist only with ENABLE_PROFILING and need ADMIN_TOKEN. A budget limits the captures,
// and each capture is logged.

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"runtime"
	rpprof "runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxCaptureSeconds = 60

	// Captures a second, and captures at once. A continuous profiler needs five profiles every ten seconds.
	captureRate  = 1
	captureBurst = 10

	// blockProfileRate and mutexProfileFraction sample contention: one event per 100 µs of blocking, and one in 100
	// events of contended mutexes.
	blockProfileRate     = 100 * time.Microsecond
	mutexProfileFraction = 100

	// The flight recorder keeps at least the last ten seconds, within 16 MiB.
	flightMinAge   = 10 * time.Second
	flightMaxBytes = 16 << 20
)

// snapshots are the profiles that need no capture time.
const snapshots = "heap allocs goroutine block mutex threadcreate"

// profiler captures profiles. The zero value has profiling off.
type profiler struct {
	enabled    bool
	log        *slog.Logger
	clientName func(r *http.Request) string
	flight     *trace.FlightRecorder
	budget     *limiter // all clients share it
	slow       slowTraces

	mu      sync.Mutex
	running map[string]time.Time // by name: the time at which the running capture ends
}

// newProfiler returns an enabled profiler. It starts the mutex and block profiles and the flight recorder, which then
// run all the time.
func newProfiler(log *slog.Logger, clientName func(*http.Request) string) (*profiler, error) {
	runtime.SetMutexProfileFraction(mutexProfileFraction)
	runtime.SetBlockProfileRate(int(blockProfileRate))
	flight := trace.NewFlightRecorder(trace.FlightRecorderConfig{
		MinAge:   flightMinAge,
		MaxBytes: flightMaxBytes,
	})
	if err := flight.Start(); err != nil {
		return nil, fmt.Errorf("starting the flight recorder: %w", err)
	}
	p := &profiler{
		enabled:    true,
		log:        log,
		clientName: clientName,
		budget:     newLimiter(captureRate, captureBurst),
		flight:     flight,
		running:    make(map[string]time.Time),
	}
	p.slow.log = log
	p.slow.dump = p.dumpFlight
	return p, nil
}

// close waits for traces of slow requests that are being written, and stops the flight recorder.
func (p *profiler) close() {
	p.slow.writing.Wait()
	if p.enabled {
		p.flight.Stop()
	}
}

// handlers returns the handlers of the profiling routes by their path, or none if profiling is off. go tool trace reads
// the answers of trace and flight, and go tool pprof reads the others.
func (p *profiler) handlers() map[string]handlerFunc {
	if !p.enabled {
		return nil
	}
	const prefix = "/debug/pprof/"
	handlers := map[string]handlerFunc{
		prefix + "{$}":     p.handleIndex,
		prefix + "profile": p.capture("profile", 30, pprof.Profile),
		prefix + "trace":   p.capture("trace", 1, pprof.Trace),
		"/debug/flight":    p.capture("flight", 0, p.writeFlight),

		"/debug/requests/{id}/trace": p.slow.handle,
	}
	for name := range strings.FieldsSeq(snapshots) {
		handlers[prefix+name] = p.capture(name, 0, pprof.Handler(name).ServeHTTP)
	}
	return handlers
}

// handleIndex lists the profiles and how many entries each has.
func (p *profiler) handleIndex(w http.ResponseWriter, _ *http.Request) error {
	var text strings.Builder
	text.WriteString("profiles: profile?seconds=30 trace?seconds=1 ")
	text.WriteString(snapshots + ", and /debug/flight\n")
	for _, profile := range rpprof.Profiles() {
		fmt.Fprintf(&text, "%-14s %d\n", profile.Name(), profile.Count())
	}
	return writeText(w, http.StatusOK, text.String())
}

// capture returns a handler that checks and logs a capture and then calls serve. Handlers of net/http/pprof extend the
// write deadline themselves. defaultSeconds is the length of a capture without ?seconds=. It is 0 for a snapshot. With
// ?seconds=, a snapshot is the difference over that time.
func (p *profiler) capture(name string, defaultSeconds int, serve http.HandlerFunc) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		markStream(r.Context(), captureStream)
		seconds, err := captureSeconds(r, defaultSeconds)
		if err != nil {
			return err
		}

		wait := p.budget.take(anyClient, time.Now())
		if wait > 0 {
			return tooManyRequests(wait,
				"too many captures: wait as long as Retry-After says")
		}

		duration := time.Duration(seconds) * time.Second
		done, err := p.begin(name, duration)
		if err != nil {
			return err
		}
		defer done()

		p.log.InfoContext(r.Context(), "profile captured",
			"profile", name,
			"seconds", seconds,
			"client", p.clientName(r))
		w.Header()["Cache-Control"] = noStore
		serve(w, r)
		return nil
	}
}

// captureSeconds reads ?seconds=.
func captureSeconds(r *http.Request, defaultSeconds int) (int, error) {
	text := r.URL.Query().Get("seconds")
	if text == "" {
		return defaultSeconds, nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 1 || seconds > maxCaptureSeconds {
		return 0, userErrorf(http.StatusBadRequest,
			"seconds=%.20q is not a number from 1 to %d", text, maxCaptureSeconds)
	}
	return seconds, nil
}

// begin registers a capture until done is called. The runtime can run one CPU profile, one execution trace and one flight
// recording at a time. So begin refuses a second capture of the same name, and says when the first one ends.
func (p *profiler) begin(name string, duration time.Duration) (done func(), err error) {
	if duration == 0 && name != "flight" { // snapshots do not disturb each other
		return func() {}, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()

	until, isRunning := p.running[name]
	if isRunning {
		seconds := int(time.Until(until).Seconds()) + 1
		return nil, headerError{
			userError: userErrorf(http.StatusConflict,
				"another %s is being captured until %s: try again then",
				name, until.UTC().Format(time.RFC3339)),
			header: "Retry-After",
			value:  strconv.Itoa(seconds),
		}
	}

	p.running[name] = time.Now().Add(duration)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.running, name)
	}, nil
}

// writeFlight answers with the execution trace of the last seconds.
func (p *profiler) writeFlight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="flight.trace"`)
	_, err := p.flight.WriteTo(w)
	if err != nil {
		p.log.WarnContext(r.Context(), "flight recording was cut off", "error", err)
	}
}

// dumpFlight writes the execution trace of the last seconds, unless GET /debug/flight does so at the moment.
func (p *profiler) dumpFlight(w io.Writer) error {
	done, err := p.begin("flight", 0)
	if err != nil {
		return err
	}
	defer done()
	_, err = p.flight.WriteTo(w)
	return err
}

// label labels the goroutine's CPU samples until restore is called. If profiling is off, it does nothing and returns ctx.
func (p *profiler) label(ctx context.Context, key, value string) (_ context.Context, restore func()) {
	if !p.enabled {
		return ctx, func() {}
	}
	labelled := rpprof.WithLabels(ctx, rpprof.Labels(key, value))
	rpprof.SetGoroutineLabels(labelled)
	return labelled, func() { rpprof.SetGoroutineLabels(ctx) }
}
