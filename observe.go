package main

// One record for each request and each background job, carried by the context, and everything that is made from it
// once it is finished: the log line, the metrics, the spans, the waterfall. Nothing else measures time or writes a line
// per request. Only this file knows Prometheus and OpenTelemetry.

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const (
	// maxStages bounds what one record holds; the time of further stages goes into the last one.
	maxStages = 64

	// maxSampledByCaller is how many records a second are kept because their caller's traceparent asks for it.
	maxSampledByCaller = 10

	// statusClientClosed is what the log says where the client went away before its answer (nginx's 499).
	statusClientClosed = 499
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

// record is what is known of one request or background job. Its stages may come from several goroutines.
type record struct {
	observer    *observer
	correlation string
	isTraceID   bool // the correlation id is the trace id
	trace       trace.TraceID
	span        trace.SpanID
	parent      trace.SpanID // zero: the trace begins here
	state       trace.TraceState
	sampled     bool   // kept whatever becomes of it; what is called on its way is told so
	kept        string // why its trace is kept, empty if it is not
	start       time.Time
	read        time.Time     // when its body was there; zero: there is none to wait for
	took        time.Duration // 0 until it is finished
	streams     string        // transport of a stream, which lasts as long as its client wants and is never slow
	failure     string        // error.type of what went wrong on our side, empty if nothing did

	job                                    string // the job's name; empty for a request, which has the following
	method, route, path, client, userAgent string
	status                                 int
	bytes                                  int64

	mu     sync.Mutex // guards the following
	attrs  []slog.Attr
	stages []stageRecord
	summed int // stages beyond maxStages

	header     http.Header // of the answer; nil once finished
	scopes     *[6]scope   // room for the contexts of most records; nil once finished: it would keep the request
	usedScopes int
	firstAttrs [4]slog.Attr   // room for the attributes of most records
	first      [6]stageRecord // room for the stages of most records
}

// stageRecord is one timed part of a record.
type stageRecord struct {
	name       string
	parent     int // index of the stage around it, -1: the record itself
	start, end time.Duration
	attrs      []slog.Attr
	err        error
	span       trace.SpanID
	remote     *trace.SpanContext // the caller's span that it continues instead of the record's
}

// scope is a context with the record and the stage it stands in.
type scope struct {
	context.Context
	record *record
	stage  int
}

type scopeKey struct{}

// Value makes a scope find itself without a second context around it.
func (s *scope) Value(key any) any {
	if key == (scopeKey{}) {
		return s
	}
	return s.Context.Value(key)
}

// currentScope returns the scope that ctx stands in, nil outside any record.
func currentScope(ctx context.Context) *scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

// newRecord begins a record. A usable X-Correlation-ID and traceparent are taken over; without the first the
// correlation id is the trace id, so that it opens the trace.
func (o *observer) newRecord(h http.Header) *record {
	rec := &record{observer: o, start: time.Now()}
	rec.stages, rec.attrs, rec.scopes = rec.first[:0], rec.firstAttrs[:0], new([6]scope)
	caller := callersSpan(h.Get("Traceparent"), h["Tracestate"]...)
	if rec.trace, rec.parent, rec.state = caller.TraceID(), caller.SpanID(), caller.TraceState(); !caller.IsValid() {
		randomID(rec.trace[:])
	}
	randomID(rec.span[:])
	if o.keeps(rec.trace) {
		rec.sampled, rec.kept = true, "ratio"
	} else if caller.IsSampled() && o.callers.take(anyClient, rec.start) == 0 {
		rec.sampled, rec.kept = true, "caller"
	}
	if rec.correlation = h.Get("X-Correlation-Id"); !isCorrelationID(rec.correlation) {
		rec.correlation, rec.isTraceID = rec.trace.String(), true
	}
	return rec
}

// keeps decides by the trace id alone, as other services do.
func (o *observer) keeps(trace trace.TraceID) bool {
	return binary.BigEndian.Uint64(trace[8:])>>1 < o.ratio
}

// scope returns a context of the record's stage, -1 for the record itself. The caller holds rec.mu or is the only one to have rec.
func (rec *record) scope(ctx context.Context, stage int) *scope {
	if rec.scopes == nil || rec.usedScopes == len(rec.scopes) {
		return &scope{ctx, rec, stage}
	}
	s := &rec.scopes[rec.usedScopes]
	rec.usedScopes++
	*s = scope{ctx, rec, stage}
	return s
}

// stage times a part of ctx's record until end is called with the error it ended in:
//
//	ctx, end := stage(ctx, "db", slog.String("db.query.summary", "search"))
//	defer end(&err)
//
// Stages nest by their context. Attributes have the names of OpenTelemetry's semantic conventions. Outside a record
// it does nothing.
func stage(ctx context.Context, name string, attrs ...slog.Attr) (_ context.Context, end func(*error)) {
	s := currentScope(ctx)
	if s == nil || s.record.observer.off {
		return ctx, func(*error) {}
	}
	rec := s.record
	started := time.Since(rec.start)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	at := len(rec.stages)
	if at == maxStages {
		return ctx, rec.sumStage(stageRecord{name: name, start: started, attrs: attrs})
	}
	rec.stages = append(rec.stages, stageRecord{name: name, parent: s.stage, start: started, attrs: attrs})
	randomID(rec.stages[at].span[:])
	return rec.scope(ctx, at), func(err *error) {
		rec.mu.Lock()
		rec.stages[at].finish(rec, err)
		rec.mu.Unlock()
	}
}

// sumStage is for a stage that finds no room: its time goes into the last one, but it is counted on its own.
func (rec *record) sumStage(st stageRecord) (end func(*error)) {
	rec.summed++
	return func(err *error) {
		st.finish(rec, err)
		rec.mu.Lock()
		rec.stages[maxStages-1].end += st.end - st.start
		rec.mu.Unlock()
		rec.observer.metrics.stage(&st, nil)
	}
}

func (st *stageRecord) finish(rec *record, err *error) {
	st.end = time.Since(rec.start)
	if err != nil {
		st.err = *err
	}
}

// attr returns the value of the stage's attribute, the zero value if it has none.
func (st *stageRecord) attr(key string) slog.Value {
	for _, a := range st.attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return slog.Value{}
}

func (st *stageRecord) text(key string) string {
	if v := st.attr(key); v.Kind() == slog.KindString {
		return v.String()
	}
	return ""
}

// annotate adds attributes to the stage that ctx stands in: what is known only once it runs.
func annotate(ctx context.Context, attrs ...slog.Attr) {
	if s := currentScope(ctx); s != nil && s.stage >= 0 {
		s.record.mu.Lock()
		st := &s.record.stages[s.stage]
		st.attrs = append(st.attrs, attrs...)
		s.record.mu.Unlock()
	}
}

// note adds attributes to the log line of ctx's record.
func note(ctx context.Context, attrs ...slog.Attr) {
	if s := currentScope(ctx); s != nil {
		s.record.mu.Lock()
		s.record.attrs = append(s.record.attrs, attrs...)
		s.record.mu.Unlock()
	}
}

// markFailed says that ctx's record failed for a reason of ours, which keeps its trace.
func markFailed(ctx context.Context, err error) {
	if s := currentScope(ctx); s != nil {
		s.record.mu.Lock()
		s.record.failure = cmp.Or(s.record.failure, errorType(err))
		s.record.mu.Unlock()
	}
}

// bodyRead says that the body of ctx's request is there: how slowly it came is not to be made up for by the store.
func bodyRead(ctx context.Context) {
	if s := currentScope(ctx); s != nil {
		s.record.read = time.Now()
	}
}

// Streams: the transports of events, and answers that last because of what they do.
const (
	streamableHTTP = "streamable_http"
	legacySSE      = "sse"
	bulkStream     = "bulk"
	captureStream  = "capture"
)

// isEvents reports whether a stream is one of server-sent events.
func isEvents(transport string) bool { return transport == streamableHTTP || transport == legacySSE }

// markStream says that ctx's record is a stream of that kind, which lasts as long as its client wants.
func markStream(ctx context.Context, transport string) {
	if s := currentScope(ctx); s != nil {
		s.record.mu.Lock()
		s.record.streams = transport
		s.record.mu.Unlock()
		if o := s.record.observer; isEvents(transport) && !o.off {
			o.metrics.streams.WithLabelValues(transport).Inc()
		}
	}
}

// continueTrace makes the trace that traceparent names the one of ctx's stage: that of the whole record if the request
// brought none, else of this stage and those below it, which are then linked to the request's.
func continueTrace(ctx context.Context, traceparent string) {
	s, remote := currentScope(ctx), callersSpan(traceparent)
	if s == nil || s.stage < 0 || !remote.IsValid() {
		return
	}
	rec := s.record
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if remote.IsSampled() && !rec.sampled && rec.observer.callers.take(anyClient, rec.start) == 0 {
		rec.sampled, rec.kept = true, "caller"
	}
	if !rec.parent.IsValid() && s.stage == 0 {
		rec.trace, rec.parent, rec.state = remote.TraceID(), remote.SpanID(), remote.TraceState()
		if !rec.sampled && rec.observer.keeps(rec.trace) {
			rec.sampled, rec.kept = true, "ratio"
		}
		if rec.isTraceID = rec.isTraceID && rec.header != nil; rec.isTraceID { // the answer is still to come: it names the new trace
			rec.correlation = rec.trace.String()
			rec.header.Set("X-Correlation-Id", rec.correlation)
		}
		return
	}
	rec.stages[s.stage].remote = &remote
}

// errorType classifies err for error.type: a small set, never a message.
func errorType(err error) string {
	if err == nil {
		return ""
	}
	if typed, ok := errors.AsType[interface {
		error
		errorType() string
	}](err); ok {
		return typed.errorType()
	}
	user, isUsers := errors.AsType[userError](err)
	switch {
	case isUsers:
		return strconv.Itoa(user.status)
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, errUnavailable):
		return "unavailable"
	}
	return "_OTHER"
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
			note(inside, slog.String("error", (*err).Error()))
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

// isSlow reports whether a record took longer than its kind should.
func (rec *record) isSlow() bool {
	return rec.took >= rec.observer.slow && rec.streams == "" && rec.job == ""
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

// logLine writes the one line of a record.
func (o *observer) logLine(rec *record) {
	level, message := slog.LevelInfo, "request"
	if rec.job != "" {
		message = "job"
	}
	switch {
	case rec.job != "" && rec.failure != "":
		level = slog.LevelWarn
	case rec.failure != "":
		level = slog.LevelError
	case rec.isSlow():
		level = slog.LevelWarn
	case rec.job != "" && len(rec.attrs) == 0, isProbe(rec.route):
		level = slog.LevelDebug
	}
	ctx := context.Background() // the ids are given below, in their place before the other attributes
	handler := o.log.Handler()
	if o.off && level < slog.LevelWarn || !handler.Enabled(ctx, level) {
		return
	}
	var room [24]slog.Attr
	ids := rec.ids()
	attrs := append(room[:0], ids[:]...)
	if rec.job != "" {
		attrs = append(attrs, slog.String("job", rec.job))
	} else {
		attrs = append(attrs, slog.String("method", rec.method), slog.String("route", rec.route))
		if rec.path != rec.route {
			attrs = append(attrs, slog.String("path", rec.path))
		}
		attrs = append(attrs, slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes), slog.String("client", rec.client))
		if rec.userAgent != "" {
			attrs = append(attrs, slog.String("user_agent", rec.userAgent))
		}
	}
	attrs = append(attrs, slog.Float64("took_ms", milliseconds(rec.took)))
	var sums [8]duration
	for _, d := range rec.durations(sums[:0]) { // the waterfall has the others; a float costs what five strings do
		switch {
		case d.took < time.Microsecond:
		case d.name == "db":
			attrs = append(attrs, slog.Float64("db_ms", milliseconds(d.took)))
		case d.name == "embed":
			attrs = append(attrs, slog.Float64("embed_ms", milliseconds(d.took)))
		}
	}
	if rec.kept != "" {
		attrs = append(attrs, slog.String("kept", rec.kept))
	}
	rec.mu.Lock()
	if rec.summed > 0 {
		attrs = append(attrs, slog.Int("stages_summed", rec.summed))
	}
	attrs = append(attrs, rec.attrs...)
	rec.mu.Unlock()
	line := slog.NewRecord(rec.start.Add(rec.took), level, message, 0)
	line.AddAttrs(attrs...)
	_ = handler.Handle(ctx, line) // a log that cannot be written counts its own losses
}

// ids are the three that lead from a log line to everything else.
func (rec *record) ids() [3]slog.Attr {
	return [3]slog.Attr{slog.String("correlation_id", rec.correlation), slog.String("trace_id", rec.traceID()), slog.String("span_id", rec.span.String())}
}

// traceID is the trace id in hex: mostly the correlation id, which need not be made twice.
func (rec *record) traceID() string {
	if rec.isTraceID {
		return rec.correlation
	}
	return rec.trace.String()
}

type duration struct {
	name string
	took time.Duration
}

// durations appends to sums the stages so far, summed by their name, in the order in which they began.
func (rec *record) durations(sums []duration) []duration {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i := range rec.stages {
		st := &rec.stages[i]
		end := st.end
		if end == 0 {
			end = time.Since(rec.start)
		}
		at := slices.IndexFunc(sums, func(d duration) bool { return d.name == st.name })
		if at < 0 {
			at = len(sums)
			sums = append(sums, duration{name: st.name})
		}
		sums[at].took += end - st.start
	}
	return sums
}

// randomID fills id, whose length is a multiple of 8, with random bytes that are not all zero.
func randomID(id []byte) {
	for i := 0; i < len(id); i += 8 {
		binary.BigEndian.PutUint64(id[i:], rand.Uint64()|1)
	}
}

// callersSpan reads the headers of W3C Trace Context. Whatever is malformed counts as absent.
func callersSpan(traceparent string, tracestate ...string) trace.SpanContext {
	if traceparent == "" {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{"traceparent": traceparent}
	if state := strings.Join(tracestate, ","); len(state) <= 512 { // as much as W3C asks to pass on: records keep it
		carrier["tracestate"] = state
	}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}

// propagate sets the headers by which what is called from ctx continues its trace.
func propagate(ctx context.Context, h http.Header) {
	s := currentScope(ctx)
	if s == nil {
		return
	}
	rec := s.record
	rec.mu.Lock()
	defer rec.mu.Unlock()
	h.Set("X-Correlation-Id", rec.correlation)
	id, span := rec.spanOf(s.stage)
	flags := trace.TraceFlags(0).WithSampled(rec.sampled)
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(ctx, rec.spanContext(id, span, flags, false)), propagation.HeaderCarrier(h))
}

// spanContext joins ids with the caller's tracestate, which belongs to the record's own trace alone.
func (rec *record) spanContext(id trace.TraceID, span trace.SpanID, flags trace.TraceFlags, isRemote bool) trace.SpanContext {
	config := trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: flags, Remote: isRemote}
	if id == rec.trace {
		config.TraceState = rec.state
	}
	return trace.NewSpanContext(config)
}

// spanOf returns the trace and span ids of a stage, for -1 of the record. The caller holds rec.mu.
func (rec *record) spanOf(stage int) (trace trace.TraceID, span trace.SpanID) {
	if stage < 0 {
		return rec.trace, rec.span
	}
	span = rec.stages[stage].span
	for at := stage; at >= 0; at = rec.stages[at].parent {
		if remote := rec.stages[at].remote; remote != nil {
			return remote.TraceID(), span
		}
	}
	return rec.trace, span
}

// isCorrelationID reports whether s matches [A-Za-z0-9][A-Za-z0-9._-]{0,127}: it may stand in SQL comments and logs.
func isCorrelationID(s string) bool {
	if s == "" || len(s) > 128 || strings.ContainsAny(s[:1], "._-") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r >= 0x80 || !isWordRune(r) && r != '.' && r != '_' && r != '-'
	})
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

// newLogger returns a logger of JSON lines that carry the ids of the record their context stands in.
func newLogger(w io.Writer, level slog.Leveler, cfg *settings) *slog.Logger {
	rename := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		switch a.Key {
		case slog.TimeKey:
			a.Key, a.Value = "timestamp", slog.TimeValue(a.Value.Time().UTC())
		case slog.MessageKey:
			a.Key = "message"
		case slog.LevelKey:
			if level, ok := a.Value.Any().(slog.Level); ok {
				a.Value = slog.StringValue(levelName(level))
			}
		}
		return a
	}
	h := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: rename})
	return slog.New(recordHandler{h}).With("service_name", cfg.serviceName, "version", version(), "environment", cfg.environment)
}

func levelName(level slog.Level) string {
	switch {
	case level < slog.LevelInfo:
		return "debug"
	case level < slog.LevelWarn:
		return "info"
	case level < slog.LevelError:
		return "warn"
	}
	return "error"
}

// recordHandler adds the ids of the context's record to each line.
type recordHandler struct{ slog.Handler }

func (h recordHandler) Handle(ctx context.Context, line slog.Record) error {
	if s := currentScope(ctx); s != nil {
		with := slog.NewRecord(line.Time, line.Level, line.Message, line.PC)
		ids := s.record.ids()
		with.AddAttrs(ids[:]...)
		line.Attrs(func(a slog.Attr) bool {
			with.AddAttrs(a)
			return true
		})
		line = with
	}
	return h.Handler.Handle(ctx, line)
}

func (h recordHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return recordHandler{h.Handler.WithAttrs(attrs)}
}

func (h recordHandler) WithGroup(name string) slog.Handler {
	return recordHandler{h.Handler.WithGroup(name)}
}

// logLevel is the least level that is logged. It may be changed for a while.
type logLevel struct {
	slog.LevelVar
	mu     sync.Mutex
	normal slog.Level // what it goes back to
	revert *time.Timer
}

func newLogLevel(level slog.Level) *logLevel {
	l := &logLevel{normal: level}
	l.Set(level)
	return l
}

// change sets the level: for that long, or for good if the duration is 0.
func (l *logLevel) change(level slog.Level, duration time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.revert != nil {
		l.revert.Stop()
	}
	l.Set(level)
	if duration == 0 {
		l.normal = level
		return
	}
	normal := l.normal
	l.revert = time.AfterFunc(duration, func() { l.Set(normal) })
}

// maxLogBytes is how much of the log waits for a reader before lines are dropped.
const maxLogBytes = 1 << 20

// logWriter writes lines in the background, so that nobody waits for whoever reads them. Lines that find no room are
// dropped and counted; how many were is reported once there is room again.
type logWriter struct {
	to      io.Writer
	report  *slog.Logger // writes to the same, at once
	dropped atomic.Int64
	ended   chan struct{}

	mu      sync.Mutex
	filled  sync.Cond // signals that there is something to write, or that it is closed
	waiting []byte
	closed  bool
}

func newLogWriter(to io.Writer, report *slog.Logger) *logWriter {
	l := &logWriter{to: to, report: report, ended: make(chan struct{})}
	l.filled.L = &l.mu
	go l.run()
	return l
}

// Write takes one line.
func (l *logWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.waiting)+len(line) > maxLogBytes {
		l.dropped.Add(1)
		return len(line), nil
	}
	if len(l.waiting) == 0 {
		l.filled.Signal()
	}
	l.waiting = append(l.waiting, line...)
	return len(line), nil
}

// run writes until the writer is closed and everything is written.
func (l *logWriter) run() {
	defer close(l.ended)
	var writing []byte
	reported := int64(0)
	for closed := false; !closed; {
		l.mu.Lock()
		for len(l.waiting) == 0 && !l.closed {
			l.filled.Wait()
		}
		writing, l.waiting, closed = l.waiting, writing[:0], l.closed
		l.mu.Unlock()
		if n, err := l.to.Write(writing); err != nil {
			l.dropped.Add(int64(strings.Count(string(writing[n:]), "\n")))
		} else if dropped := l.dropped.Load(); dropped > reported {
			l.report.Warn("log lines dropped", "count", dropped-reported)
			reported = dropped
		}
	}
}

// close writes what is waiting, for as long as timeout.
func (l *logWriter) close(timeout time.Duration) {
	l.mu.Lock()
	l.closed = true
	l.filled.Signal()
	l.mu.Unlock()
	select {
	case <-l.ended:
	case <-time.After(timeout):
	}
}

// Buckets contain the 0.1, 0.5, 1, 2 and 5 s that objectives are set at.
var (
	requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10}
	queryBuckets   = []float64{.0005, .001, .0025, .005, .01, .05, .1, .5, 1, 2, 5}
)

// metrics is everything that is counted. The families are there from the start, in both stores.
type metrics struct {
	registry                                  *prometheus.Registry
	requests, operations, queries, embeddings *closedHistogram
	results, batchSize, tokens                prometheus.Histogram
	streams                                   *prometheus.GaugeVec
	streamDurations                           *prometheus.HistogramVec
	cache                                     *prometheus.CounterVec
}

func newMetrics(cfg *settings) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: newClosedHistogram("http_server_request_duration_seconds", "Time from a request to the end of its answer; streams are not among them.",
			requestBuckets, 24, "http_request_method", "http_route", "http_response_status_code"),
		operations: newClosedHistogram("mcp_server_operation_duration_seconds", "Time that an MCP message took.",
			requestBuckets, 12, "mcp_method_name", "gen_ai_tool_name", "error_type"),
		queries: newClosedHistogram("db_client_operation_duration_seconds", "Time that a statement of the store took, in the embedded store that of the same operation.",
			queryBuckets, 20, "db_operation_name", "db_query_summary", "error_type"),
		embeddings: newClosedHistogram("gen_ai_client_operation_duration_seconds", "Time that making embeddings took: of a query, or of a batch of chunks.",
			queryBuckets, 12, "gen_ai_request_model", "vitrine_embedding_kind", "error_type"),
		results: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vitrine_search_results",
			Help: "Documents that a search found; bucket 0 counts the searches that found nothing.", Buckets: []float64{0, 1, 2, 5, 10, 20, 50, 100}}),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vitrine_embedding_batch_size",
			Help: "Texts that were embedded together.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128}}),
		tokens: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "gen_ai_client_token_usage",
			Help: "Tokens that an embedding call took, as the provider counts them.", Buckets: []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536}}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "vitrine_sse_streams", Help: "Event streams that are open."}, []string{"transport"}),
		streamDurations: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "vitrine_sse_stream_duration_seconds",
			Help: "How long event streams were open.", Buckets: []float64{.1, 1, 10, 60, 600, 3600}}, []string{"transport"}),
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vitrine_embedding_cache_requests_total",
			Help: "Query embeddings asked of the cache, by whether it had them."}, []string{"result"}),
	}
	m.registry.MustRegister(m.requests.vec, m.operations.vec, m.queries.vec, m.embeddings.vec, m.results, m.batchSize, m.tokens,
		m.streams, m.streamDurations, m.cache, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for name, labels := range map[string]prometheus.Labels{
		"vitrine_build_info": {"version": version(), "goversion": goVersion(), "revision": revision()},
		"target_info":        {"service_name": cfg.serviceName, "service_version": version(), "deployment_environment_name": cfg.environment},
	} {
		info := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: "What runs here; always 1.", ConstLabels: labels})
		info.Set(1)
		m.registry.MustRegister(info)
	}
	for _, result := range []string{"hit", "miss"} {
		m.cache.WithLabelValues(result)
	}
	for _, transport := range []string{streamableHTTP, legacySSE} {
		m.streams.WithLabelValues(transport)
		m.streamDurations.WithLabelValues(transport)
	}
	for _, t := range tools {
		m.operations.with([3]string{"tools/call", t.Name, ""})
	}
	for _, attrs := range queries {
		m.queries.with([3]string{attrs[0].Value.String(), attrs[1].Value.String(), ""})
	}
	for _, kind := range []string{"query", "batch"} {
		m.embeddings.with([3]string{cfg.model(), kind, ""})
	}
	return m
}

// closedHistogram is a histogram over three labels, the last of which is the outcome. Of the refusals, which anybody can
// provoke, at most so many combinations are told apart and the others count as "other": no client decides how many series
// there are, nor takes the room of what succeeds or fails.
type closedHistogram struct {
	vec  *prometheus.HistogramVec
	most int

	mu       sync.RWMutex
	seen     map[[3]string]prometheus.ExemplarObserver
	refusals int
}

func newClosedHistogram(name, help string, buckets []float64, most int, labels ...string) *closedHistogram {
	opts := prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}
	if strings.HasPrefix(name, "gen_ai_") {
		opts.ConstLabels = prometheus.Labels{"gen_ai_operation_name": "embeddings"}
	}
	vec := prometheus.NewHistogramVec(opts, labels)
	return &closedHistogram{vec: vec, most: most, seen: make(map[[3]string]prometheus.ExemplarObserver)}
}

// with returns the series of the labels.
func (h *closedHistogram) with(labels [3]string) prometheus.ExemplarObserver {
	h.mu.RLock()
	series, ok := h.seen[labels]
	h.mu.RUnlock()
	if ok {
		return series
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if outcome := labels[2]; outcome != "" && !strings.ContainsAny(outcome[:1], "235") {
		if h.refusals++; h.refusals > h.most {
			labels = [3]string{"_OTHER", "other", "other"}
		}
	}
	if series, ok = h.seen[labels]; !ok {
		series, _ = h.vec.WithLabelValues(labels[:]...).(prometheus.ExemplarObserver) // every histogram is one
		h.seen[labels] = series
	}
	return series
}

// observe counts a duration, with an exemplar unless that is nil.
func (h *closedHistogram) observe(took time.Duration, exemplar prometheus.Labels, labels ...string) {
	h.with([3]string(labels)).ObserveWithExemplar(took.Seconds(), exemplar)
}

// record counts a finished record and its stages.
func (m *metrics) record(rec *record) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	var exemplar prometheus.Labels
	if rec.kept != "" {
		exemplar = prometheus.Labels{"trace_id": rec.traceID(), "span_id": rec.span.String()}
	}
	switch {
	case isEvents(rec.streams):
		m.streams.WithLabelValues(rec.streams).Dec()
		m.streamDurations.WithLabelValues(rec.streams).Observe(rec.took.Seconds())
	case rec.streams == "" && rec.job == "":
		m.requests.observe(rec.took, exemplar, rec.methodLabel(), rec.route, strconv.Itoa(rec.status))
	}
	for i := range rec.stages {
		m.stage(&rec.stages[i], exemplar)
	}
}

// stage counts one stage.
func (m *metrics) stage(st *stageRecord, exemplar prometheus.Labels) {
	took := st.end - st.start
	switch st.name {
	case "db":
		m.queries.observe(took, exemplar, st.text("db.operation.name"), st.text("db.query.summary"), errorType(st.err))
	case "mcp":
		m.operations.observe(took, exemplar, st.text("mcp.method.name"), st.text("gen_ai.tool.name"), errorType(st.err))
	case "embed":
		m.embeddings.observe(took, exemplar, st.text("gen_ai.request.model"), st.text("vitrine.embedding.kind"), errorType(st.err))
		if result := st.text("vitrine.embedding.cache"); result != "" {
			m.cache.WithLabelValues(result).Inc()
		}
		if size := st.attr("vitrine.embedding.batch_size"); size.Kind() == slog.KindInt64 {
			m.batchSize.Observe(float64(size.Int64()))
		}
		if tokens := st.attr("gen_ai.usage.input_tokens"); tokens.Kind() == slog.KindInt64 {
			m.tokens.Observe(float64(tokens.Int64()))
		}
	case "search":
		if hits := st.attr("hits"); hits.Kind() == slog.KindInt64 {
			m.results.Observe(float64(hits.Int64()))
		}
	}
}

// methodLabel is the method where a route has it.
func (rec *record) methodLabel() string {
	if rec.route == "unmatched" {
		return "_OTHER"
	}
	return knownMethod(rec.method)
}

// knownMethod folds methods that HTTP does not define into one.
func knownMethod(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE":
		return method
	}
	return "_OTHER"
}

// poolStats are the numbers of a connection pool; zero where there is none.
type poolStats struct {
	used, idle, most, pending int
	waited                    time.Duration
	timeouts                  int64
}

// serverCollector reads at scrape time what the server knows anyway.
type serverCollector struct{ *server }

// Describe says nothing: the collector is unchecked, and Collect says it all.
func (serverCollector) Describe(chan<- *prometheus.Desc) {}

// Collect sends each family, with the value of its one label, if it has one, before each of its values.
func (c serverCollector) Collect(ch chan<- prometheus.Metric) {
	type sample struct {
		value float64
		label string
	}
	send := func(kind prometheus.ValueType, name, help, label string, samples ...sample) {
		var labels []string
		if label != "" {
			labels = []string{label}
		}
		desc := prometheus.NewDesc(name, help, labels, nil)
		for _, s := range samples {
			ch <- prometheus.MustNewConstMetric(desc, kind, s.value, []string{s.label}[:len(labels)]...)
		}
	}
	gauge := func(name, help string, value float64) {
		send(prometheus.GaugeValue, name, help, "", sample{value: value})
	}
	counter := func(name, help string, value float64) {
		send(prometheus.CounterValue, name, help, "", sample{value: value})
	}
	active, open := float64(c.observe.recent.requestsInFlight()), float64(c.observe.open.Load())
	gauge("http_server_active_requests", "Requests that are being answered.", active)
	send(prometheus.GaugeValue, "vitrine_http_connections", "Open HTTP connections, by whether a request is being answered on them.", "state",
		sample{active, "active"}, sample{max(0, open-active), "idle"})
	state := c.state(context.Background())
	gauge("vitrine_documents", "Documents in the store.", float64(state.documents))
	gauge("vitrine_chunks", "Passages in the store, the units that are found.", float64(state.chunks))
	gauge("vitrine_index_last_success_timestamp_seconds", "When the index was last known to be in step with the folder.", float64(state.indexed.UnixMilli())/1000)
	for _, check := range state.checks {
		ready := sample{0, check.name}
		if check.problem == "" {
			ready.value = 1
		}
		send(prometheus.GaugeValue, "vitrine_ready", "Whether the check of /readyz passes.", "check", ready)
	}
	var pool poolStats
	if pooled, ok := c.store.(interface{ pool() poolStats }); ok {
		pool = pooled.pool()
	}
	send(prometheus.GaugeValue, "db_client_connection_count", "Connections of the database pool.", "db_client_connection_state",
		sample{float64(pool.used), "used"}, sample{float64(pool.idle), "idle"})
	gauge("db_client_connection_max", "Most connections that the database pool opens.", float64(pool.most))
	gauge("db_client_connection_pending_requests", "Callers that wait for a database connection.", float64(pool.pending))
	counter("db_client_connection_timeouts_total", "Callers that gave up waiting for a database connection.", float64(pool.timeouts))
	counter("vitrine_db_wait_seconds_total", "Time that callers have waited for a database connection.", pool.waited.Seconds())
	counter("vitrine_log_lines_dropped_total", "Log lines lost because nobody read them in time.", float64(c.logs.dropped.Load()))
	traces := c.observe.traces
	if traces == nil {
		traces = &traceExport{}
	}
	gauge("vitrine_trace_queue_records", "Kept records that wait for export.", float64(len(traces.queue)))
	send(prometheus.CounterValue, "vitrine_spans_total", "Spans by what became of them: exported, dropped because the queue was full, or failed to be exported.", "outcome",
		sample{float64(traces.exported.Load()), "exported"}, sample{float64(traces.dropped.Load()), "dropped"}, sample{float64(traces.failed.Load()), "failed"})
	gauge("vitrine_span_export_last_success_timestamp_seconds", "When spans were last exported.", float64(traces.lastSuccess.Load())/1000)
}

// metricsHandler answers GET /metrics. Scrapes that come together share one collection.
func (s *server) metricsHandler() http.Handler {
	return promhttp.HandlerFor(s.observe.metrics.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
		EnableOpenMetrics: true, MaxRequestsInFlight: 8, Timeout: 5 * time.Second, CoalesceGather: true,
	})
}

// traceExport turns kept records into spans, off the requests' path, and hands them to the exporter.
type traceExport struct {
	exporter sdktrace.SpanExporter
	resource *resource.Resource
	log      *slog.Logger
	queue    chan *record
	enough   chan struct{} // there is a batch, or the queue is closed
	ended    chan struct{}
	failures int       // exports since the last report
	reported time.Time // in the log

	exported, dropped, failed atomic.Int64 // spans
	sending                   atomic.Int64 // spans of the batch under way
	lastSuccess               atomic.Int64 // Unix milliseconds
}

const (
	traceQueueRecords = 2048
	exportBatch       = 512         // spans, about
	exportPause       = time.Second // in which others come along, unless there are enough for a batch
	exportTimeout     = 5 * time.Second
)

// newTraceExport starts the export that the settings ask for; nil if they ask for none.
func newTraceExport(ctx context.Context, cfg *settings, log *slog.Logger) (*traceExport, error) {
	var exporter sdktrace.SpanExporter
	var err error
	switch cfg.tracesExporter {
	case "otlp":
		exporter, err = otlptracehttp.New(ctx, otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
	case "console":
		exporter, err = stdouttrace.New(stdouttrace.WithWriter(os.Stderr))
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("vitrine: setting up the trace exporter: %w", err)
	}
	res, err := resource.New(ctx, resource.WithFromEnv(), resource.WithAttributes(attribute.String("service.name", cfg.serviceName),
		attribute.String("service.version", version()), attribute.String("deployment.environment.name", cfg.environment)))
	if err != nil {
		log.Warn("OTEL_RESOURCE_ATTRIBUTES is not honoured in full", "error", err)
	}
	return startTraceExport(exporter, res, log), nil
}

func startTraceExport(exporter sdktrace.SpanExporter, res *resource.Resource, log *slog.Logger) *traceExport {
	e := &traceExport{exporter: exporter, resource: res, log: log, queue: make(chan *record, traceQueueRecords), enough: make(chan struct{}, 1), ended: make(chan struct{})}
	go e.run()
	return e
}

// add queues a finished record, or drops it whole if the queue is full.
func (e *traceExport) add(rec *record) {
	select {
	case e.queue <- rec:
		if len(e.queue) == exportBatch/4 { // of four spans each
			select {
			case e.enough <- struct{}{}:
			default:
			}
		}
	default:
		e.dropped.Add(int64(1 + len(rec.stages)))
	}
}

// run exports until the queue is closed and empty.
func (e *traceExport) run() {
	defer close(e.ended)
	for rec := range e.queue {
		if len(e.queue) < exportBatch/4 { // else there is a batch already
			select {
			case <-time.After(exportPause):
			case <-e.enough:
			}
		}
		batch := e.spans(rec)
		for len(e.queue) > 0 && len(batch) < exportBatch {
			if rec = <-e.queue; rec != nil {
				batch = append(batch, e.spans(rec)...)
			}
		}
		e.sending.Store(int64(len(batch)))
		if err := e.export(batch); err != nil {
			e.failed.Add(int64(len(batch)))
			e.report(err)
		} else {
			e.exported.Add(int64(len(batch)))
			e.lastSuccess.Store(time.Now().UnixMilli())
		}
		e.sending.Store(0)
	}
}

// report logs once a minute that exports fail.
func (e *traceExport) report(err error) {
	e.failures++
	if time.Since(e.reported) > time.Minute {
		e.log.Warn("spans could not be exported", "error", err, "exports", e.failures, "spans_failed_total", e.failed.Load(), "spans_dropped_total", e.dropped.Load())
		e.reported, e.failures = time.Now(), 0
	}
}

// export tries three times within a few seconds: a refused connection is not retried by OTLP over HTTP.
func (e *traceExport) export(batch []sdktrace.ReadOnlySpan) (err error) {
	for attempt := range 3 {
		time.Sleep(time.Duration(attempt) * 500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), exportTimeout)
		err = e.exporter.ExportSpans(ctx, batch)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

// close exports what is queued, for as long as timeout; what is left counts as dropped.
func (e *traceExport) close(timeout time.Duration) {
	if e == nil {
		return
	}
	close(e.queue)
	close(e.enough)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	select {
	case <-e.ended:
	case <-ctx.Done():
		e.dropped.Add(e.sending.Load())
		e.log.Warn("spans were not exported in time", "spans", e.sending.Load(), "records", len(e.queue))
	}
	_ = e.exporter.Shutdown(ctx) // the spans are counted already
}

var scopeOfSpans = instrumentation.Scope{Name: "vitrine", Version: version()}

// spans makes the spans of a record: one for itself and one for each stage, with the ids and times that they have.
func (e *traceExport) spans(rec *record) []sdktrace.ReadOnlySpan {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	context := func(id trace.TraceID, span trace.SpanID, remote bool) trace.SpanContext {
		return rec.spanContext(id, span, trace.FlagsSampled, remote)
	}
	root := tracetest.SpanStub{
		Name: rec.job, SpanKind: trace.SpanKindInternal, SpanContext: context(rec.trace, rec.span, false), Resource: e.resource,
		StartTime: rec.start, EndTime: rec.start.Add(rec.took), InstrumentationScope: scopeOfSpans, ChildSpanCount: len(rec.stages),
		Attributes: append(attributes(rec.attrs, 16), attribute.String("vitrine.correlation_id", rec.correlation), attribute.String("vitrine.kept", rec.kept)),
	}
	if rec.parent.IsValid() {
		root.Parent = context(rec.trace, rec.parent, true)
	}
	if rec.job == "" {
		root.Name, root.SpanKind = rec.spanName(), trace.SpanKindServer
		root.Attributes = rec.appendHTTP(root.Attributes)
	}
	if rec.failure != "" {
		root.Status.Code = codes.Error
		root.Attributes = append(root.Attributes, attribute.String("error.type", rec.failure))
	}
	spans := []sdktrace.ReadOnlySpan{root.Snapshot()}
	for i := range rec.stages {
		st := &rec.stages[i]
		id, span := rec.spanOf(i)
		stub := tracetest.SpanStub{
			Name: st.spanName(), SpanKind: st.spanKind(), SpanContext: context(id, span, false), Resource: e.resource,
			StartTime: rec.start.Add(st.start), EndTime: rec.start.Add(max(st.start, st.end)), InstrumentationScope: scopeOfSpans, Attributes: attributes(st.attrs, 1),
		}
		if st.remote != nil {
			stub.Parent = *st.remote
			stub.Links = []sdktrace.Link{{SpanContext: context(rec.trace, rec.span, false)}}
		} else {
			parentTrace, parent := rec.spanOf(st.parent)
			stub.Parent = context(parentTrace, parent, false)
		}
		if kind := errorType(st.err); kind != "" {
			stub.Attributes = append(stub.Attributes, attribute.String("error.type", kind))
			if _, isUsers := errors.AsType[userError](st.err); !isUsers {
				stub.Status = sdktrace.Status{Code: codes.Error, Description: st.err.Error()}
			}
		}
		spans = append(spans, stub.Snapshot())
	}
	return spans
}

// spanName is the method and the route, never the path.
func (rec *record) spanName() string {
	method := knownMethod(rec.method)
	if method == "_OTHER" {
		method = "HTTP"
	}
	switch rec.route {
	case "unmatched":
		return method
	case "": // not answered yet
		return method + " " + rec.path
	}
	return method + " " + rec.route
}

// appendHTTP appends the attributes of an HTTP server's span.
func (rec *record) appendHTTP(attrs []attribute.KeyValue) []attribute.KeyValue {
	method := knownMethod(rec.method)
	attrs = append(attrs, attribute.String("http.request.method", method), attribute.String("url.path", rec.path), attribute.String("url.scheme", "http"),
		attribute.Int("http.response.status_code", rec.status), attribute.Int64("http.response.body.size", rec.bytes))
	if rec.route != "unmatched" {
		attrs = append(attrs, attribute.String("http.route", rec.route))
	}
	if method == "_OTHER" {
		attrs = append(attrs, attribute.String("http.request.method_original", truncate(rec.method, 32)))
	}
	if rec.userAgent != "" {
		attrs = append(attrs, attribute.String("user_agent.original", rec.userAgent))
	}
	address, port, _ := net.SplitHostPort(rec.client)
	attrs = append(attrs, attribute.String("client.address", cmp.Or(address, rec.client)))
	if n, err := strconv.Atoi(port); err == nil {
		attrs = append(attrs, attribute.Int("client.port", n))
	}
	return attrs
}

// spanName follows the semantic conventions for what the stage is.
func (st *stageRecord) spanName() string {
	switch st.name {
	case "db":
		return st.text("db.query.summary")
	case "mcp":
		return strings.TrimSpace(st.text("mcp.method.name") + " " + st.text("gen_ai.tool.name") + st.text("gen_ai.prompt.name"))
	case "tool":
		return "execute_tool " + st.text("gen_ai.tool.name")
	case "embed":
		return "embeddings " + st.text("gen_ai.request.model")
	case "search":
		return "retrieval documents"
	}
	return st.name
}

func (st *stageRecord) spanKind() trace.SpanKind {
	switch st.name {
	case "mcp":
		return trace.SpanKindServer
	case "db", "embed", "search":
		return trace.SpanKindClient
	}
	return trace.SpanKindInternal
}

// attributes converts attrs, with room for others.
func attributes(attrs []slog.Attr, room int) []attribute.KeyValue {
	converted := make([]attribute.KeyValue, 0, len(attrs)+room)
	for _, a := range attrs {
		key := attribute.Key(a.Key)
		switch v := a.Value; v.Kind() {
		case slog.KindInt64:
			converted = append(converted, key.Int64(v.Int64()))
		case slog.KindFloat64:
			converted = append(converted, key.Float64(v.Float64()))
		case slog.KindBool:
			converted = append(converted, key.Bool(v.Bool()))
		default:
			converted = append(converted, key.String(v.String()))
		}
	}
	return converted
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// truncate cuts s to at most n bytes without splitting a character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
