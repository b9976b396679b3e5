package main

// The observer. It begins and finishes the record of each request and each background job. A goroutine reports finished
// records: it writes their log lines, counts them in the metrics and hands them to the recorder.

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// reportDelay is how long a finished record waits for others. Reporting records together costs a third less, because
	// code and data stay in the CPU's cache. Their lines are also written together: writing one line costs as much CPU
	// time as making four. /metrics and /debug/requests do not wait for it.
	reportDelay = 20 * time.Millisecond

	// maxFinished is how many records may wait. The goroutine that adds the last of them reports them all.
	maxFinished = 1024

	// These bound what a record keeps of a request.
	maxMethodBytes    = 16
	maxPathBytes      = maxValueBytes
	maxUserAgentBytes = maxValueBytes
)

// observer makes the records and reports them.
type observer struct {
	log        *slog.Logger
	policy     *recordPolicy
	clientName func(r *http.Request) string // for logs and traces
	metrics    *metrics
	traces     *traceExport // nil: spans are not exported
	recent     *recorder
	cost       cpuMeter
	onSlow     func(rec *record) // called with each slow request; may be nil

	closing     atomic.Bool  // a drain has begun: responses have Connection: close
	connections *connections // that are open

	reporting sync.Mutex    // held during a report
	wake      chan struct{} // there is something to report
	ended     chan struct{} // closed when run has ended

	mu       sync.Mutex // guards the following
	finished []*record  // to be reported
	closed   bool
}

// newObserver returns an observer that reports in the background until it is closed.
func newObserver(
	cfg *settings,
	log *slog.Logger,
	m *metrics,
	clientName func(r *http.Request) string,
) *observer {
	o := &observer{
		log: log,
		policy: &recordPolicy{
			off:         !cfg.observability,
			slow:        cfg.slowRequest,
			ratio:       uint64(cfg.sampleRate * (1 << 63)),
			byCaller:    newLimiter(maxSampledByCaller, maxSampledByCaller),
			countStage:  func(st *stageRecord) { m.stage(st, nil) },
			countStream: m.streamBegan,
		},
		clientName: clientName,
		metrics:    m,
		recent:     newRecorder(),

		connections: newConnections(cfg.maxConnections),

		wake:  make(chan struct{}, 1),
		ended: make(chan struct{}),
	}
	o.policy.cost = &o.cost
	go o.run()
	return o
}

// middleware is the outermost handler: it gives each request its record and finishes it, even after a panic.
func (o *observer) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		o.connections.serve(r.Context())
		rec := o.policy.newRecord(r.Header)
		rec.method = displayable(r.Method, maxMethodBytes)
		rec.path = displayable(r.URL.Path, maxPathBytes)
		rec.client = o.clientName(r)
		rec.userAgent = displayable(r.UserAgent(), maxUserAgentBytes)
		rec.header = w.Header()
		rec.header.Set("X-Correlation-Id", rec.correlation)
		if !o.policy.off {
			o.recent.begin(rec)
			rec.measured = isMeasured()
		}

		r = r.WithContext(rec.newScope(r.Context(), -1))
		recorded := &response{ResponseWriter: w, record: rec, closing: &o.closing}
		defer o.end(rec, r, recorded)
		if rec.measured {
			o.cost.section(began)
		}
		next.ServeHTTP(recorded, r)
	})
}

// end finishes the record of a request.
func (o *observer) end(rec *record, r *http.Request, w *response) {
	began := time.Now()
	o.describe(rec, r, w)
	o.finish(rec)
	if rec.measured {
		o.cost.section(began)
	}
}

// describe copies into rec what is reported of r and w, so that rec does not refer to them.
func (o *observer) describe(rec *record, r *http.Request, w *response) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.route = routeOf(r)
	rec.bytes = w.bytes

	rec.status = w.status
	if rec.status == 0 {
		rec.status = http.StatusOK
		if r.Context().Err() != nil {
			rec.status = statusClientClosed
		}
	}

	isFailure := rec.status >= http.StatusInternalServerError && !rec.probe // a 503 of /readyz is no failure
	if isFailure && rec.failure == "" {
		rec.failure = strconv.Itoa(rec.status)
	}
}

// routeOf returns the pattern that r matched, without its method: one of a closed set.
func routeOf(r *http.Request) string {
	_, path, _ := strings.Cut(r.Pattern, " ")
	if path == "" {
		return "unmatched"
	}
	return routeLabel(path)
}

// job begins the record of a background job. end finishes it. The job has failed if end gets an error, unless ctx has
// ended.
func (o *observer) job(ctx context.Context, name string) (_ context.Context, end func(*error)) {
	rec := o.policy.newJobRecord(ctx, name)
	inside := rec.newScope(ctx, -1)

	if !o.policy.off {
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

// finish ends a record and decides whether its trace is kept. Its views are made a moment later.
func (o *observer) finish(rec *record) {
	rec.mu.Lock()
	rec.took = time.Since(rec.start)
	rec.scopeRoom = nil
	rec.header = nil
	switch {
	case rec.kept != "":
	case rec.failure != "":
		rec.kept = "failed"
	case rec.isSlow():
		rec.kept = "slow"
	}
	rec.mu.Unlock()

	if o.onSlow != nil && rec.isSlow() {
		o.onSlow(rec)
	}
	if o.enqueue(rec) == maxFinished {
		o.report()
	}
}

// enqueue queues a finished record for the next report and, if its trace is kept, for export. It returns how many records
// wait for the report.
func (o *observer) enqueue(rec *record) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed { // the log closes later
		logRecord(o.log, rec)
		return 0
	}

	o.finished = append(o.finished, rec)
	select {
	case o.wake <- struct{}{}:
	default: // a wake-up is pending already
	}
	if rec.kept != "" && !o.policy.off && o.traces != nil {
		o.traces.add(rec)
	}
	return len(o.finished)
}

// run reports until the observer is closed.
func (o *observer) run() {
	defer close(o.ended)
	for range o.wake {
		time.Sleep(reportDelay)
		o.report()
	}
}

// report makes the views of the records that have finished so far.
func (o *observer) report() {
	o.reporting.Lock()
	defer o.reporting.Unlock()
	o.mu.Lock()
	finished := o.finished
	o.finished = make([]*record, 0, len(finished)) // the next report is about as long
	o.mu.Unlock()

	o.cost.run(func() {
		for _, rec := range finished {
			o.makeViews(rec)
		}
	})
}

// makeViews makes the views of a finished record, except its spans.
func (o *observer) makeViews(rec *record) {
	logRecord(o.log, rec)
	if o.policy.off {
		return
	}
	o.metrics.record(rec)
	o.recent.end(rec)
}

// close reports the finished records. Records that finish later are only logged.
func (o *observer) close() {
	o.mu.Lock()
	o.closed = true
	close(o.wake)
	o.mu.Unlock()
	<-o.ended
	o.report()
}

// costs returns the CPU time of all that makes and exports views.
func (o *observer) costs() time.Duration { return o.cost.elapsed() + o.traces.costs() }
