package main

// The outermost handler gives each request its record and reports it once it has finished; jobs do the same for
// background work.

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// reportPause is how long a finished record waits for others. Reported together they cost a third less: the code and
	// the data of one are at hand for the next.
	reportPause = 5 * time.Millisecond

	// maxFinished is how many wait: whoever adds the last one reports them all.
	maxFinished = 1024
)

// observer makes the records and reports them.
type observer struct {
	log     *slog.Logger
	slow    time.Duration                // from here on a request is worth a warning and is kept
	off     bool                         // OBSERVABILITY=off: only what fails is reported
	ratio   uint64                       // records whose trace id is below are kept
	callers *limiter                     // of records kept for their callers' sake
	closing atomic.Bool                  // a drain has begun: answers tell clients to close their connection
	open    atomic.Int64                 // connections
	client  func(r *http.Request) string // the address of who asks
	metrics *metrics
	traces  *traceExport // nil: none
	recent  *recorder

	reporting sync.Mutex // held by whoever reports
	wake      chan struct{}
	ended     chan struct{}

	mu       sync.Mutex // guards the following
	finished []*record  // to be reported
	closed   bool
}

func newObserver(cfg *settings, log *slog.Logger) *observer {
	o := &observer{
		log: log, slow: cfg.slowRequest, off: !cfg.observability, ratio: uint64(cfg.sampleRate * (1 << 63)),
		callers: newLimiter(maxSampledByCaller, maxSampledByCaller), metrics: newMetrics(cfg), recent: newRecorder(),
		client: func(r *http.Request) string { return r.RemoteAddr }, wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	go o.run()
	return o
}

// observe is the outermost handler: it gives each request its record and reports it, whatever becomes of the request.
func (o *observer) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := o.newRecord(r.Header)
		w.Header().Set("X-Correlation-Id", rec.correlation)
		r = r.WithContext(rec.scope(r.Context(), -1))
		rec.header = w.Header()
		rec.method, rec.path = r.Method, truncate(r.URL.Path, 256)
		rw := &response{ResponseWriter: w, record: rec}
		if !o.off {
			o.recent.begin(rec)
		}
		defer func() {
			broken := recover()
			if broken != nil && broken != http.ErrAbortHandler {
				err := fmt.Errorf("panic: %v", broken)
				o.log.ErrorContext(r.Context(), "handler panicked", "error", err, "stack", string(debug.Stack()))
				markFailed(r.Context(), err)
				if rw.status == 0 {
					writeError(rw, r, err)
					broken = nil
				}
			}
			rec.describe(r, rw)
			o.finish(rec)
			if broken != nil {
				panic(http.ErrAbortHandler) // the answer is cut off: the client must not take it for whole
			}
		}()
		next.ServeHTTP(rw, r)
	})
}

// countConnection keeps the number of open connections.
func (o *observer) countConnection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		o.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		o.open.Add(-1)
	default: // between requests and in them it stays open
	}
}

// describe takes from r what is reported: the request itself is not kept.
func (rec *record) describe(r *http.Request, w *response) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.route, rec.client, rec.userAgent = routeOf(r), rec.observer.client(r), truncate(r.UserAgent(), 256)
	rec.status, rec.bytes = w.status, w.bytes
	if rec.status == 0 {
		rec.status = http.StatusOK
		if r.Context().Err() != nil {
			rec.status = statusClientClosed
		}
	}
	if rec.status >= http.StatusInternalServerError && rec.failure == "" && !isProbe(rec.route) { // not ready is no failure
		rec.failure = strconv.Itoa(rec.status)
	}
}

// job begins a record for background work; on a stream it continues the stream's trace under the same id. end reports it:
// failures as warnings, what noted something at info, the rest at debug.
func (o *observer) job(ctx context.Context, name string) (_ context.Context, end func(*error)) {
	rec := o.newRecord(nil)
	rec.job = name
	if outer := currentScope(ctx); outer != nil {
		rec.correlation, rec.isTraceID, rec.trace, rec.parent = outer.record.correlation, outer.record.isTraceID, outer.record.trace, outer.record.span
		rec.sampled, rec.kept = outer.record.sampled, outer.record.kept
	}
	inside := rec.scope(ctx, -1)
	if !o.off {
		o.recent.begin(rec)
	}
	return inside, func(err *error) {
		if err != nil && *err != nil && ctx.Err() == nil {
			markFailed(inside, *err)
			logAttrs(inside, slog.String("error", (*err).Error()))
		}
		o.finish(rec)
	}
}

// finish ends a record. Its views are made a moment later.
func (o *observer) finish(rec *record) {
	rec.mu.Lock()
	rec.took, rec.scopes, rec.header = time.Since(rec.start), nil, nil
	switch {
	case rec.kept != "":
	case rec.failure != "":
		rec.kept = "failed"
	case rec.isSlow():
		rec.kept = "slow"
	}
	rec.mu.Unlock()
	if o.enqueue(rec) == maxFinished {
		o.report()
	}
}

// enqueue adds a finished record to those to be reported and, if it is kept, to those to be exported. It returns how many are
// to be reported.
func (o *observer) enqueue(rec *record) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed { // the log may still be open
		o.logLine(rec)
		return 0
	}
	o.finished = append(o.finished, rec)
	select {
	case o.wake <- struct{}{}:
	default: // it is awake
	}
	if rec.kept != "" && !o.off && o.traces != nil {
		o.traces.add(rec)
	}
	return len(o.finished)
}

// run reports until the observer is closed.
func (o *observer) run() {
	defer close(o.ended)
	for range o.wake {
		time.Sleep(reportPause)
		o.report()
	}
}

// report makes the views of what has finished so far.
func (o *observer) report() {
	o.reporting.Lock()
	defer o.reporting.Unlock()
	o.mu.Lock()
	finished := o.finished
	o.finished = make([]*record, 0, len(finished)) // as many are to be expected again
	o.mu.Unlock()
	for _, rec := range finished {
		o.logLine(rec)
		if !o.off {
			o.metrics.record(rec)
			o.recent.end(rec)
		}
	}
}

// close reports what has finished. What finishes later is only logged.
func (o *observer) close() {
	o.mu.Lock()
	o.closed = true
	close(o.wake)
	o.mu.Unlock()
	<-o.ended
	o.report()
}

// routeOf returns the pattern that r matched, without its method: a closed set.
func routeOf(r *http.Request) string {
	_, path, _ := strings.Cut(r.Pattern, " ")
	if path == "" {
		return "unmatched"
	}
	return path
}

// isProbe reports whether a route is asked every few seconds by a machine: such lines are for debugging alone.
func isProbe(route string) bool {
	switch route {
	case "/livez", "/healthz", "/readyz", "/metrics":
		return true
	}
	return false
}

// response is a ResponseWriter that remembers what was answered.
type response struct {
	http.ResponseWriter
	record *record
	status int
	bytes  int64
}

// WriteHeader adds the headers that are known only now and remembers the status, but for informational ones.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return // what is sent cannot be changed
	}
	if status >= http.StatusOK {
		w.status = status
		if w.record.observer.closing.Load() {
			w.Header().Set("Connection", "close")
		}
		text := make([]byte, 0, 128)
		var room [8]duration
		for _, d := range w.record.durations(room[:0]) {
			text = append(append(text, d.name...), ";dur="...)
			text = append(strconv.AppendFloat(text, milliseconds(d.took), 'f', 3, 64), ", "...)
		}
		if len(text) > 0 {
			w.Header().Set("Server-Timing", string(text[:len(text)-len(", ")]))
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController flush and set deadlines.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
