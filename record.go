package main

// One record for each request and each background job, carried by the context. Nothing else measures time.

import (
	"cmp"
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/propagation"
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
	bodyReadAt  time.Time     // when its body was there; zero: there is none to wait for
	took        time.Duration // 0 until it is finished
	transport   string        // transport of a stream, which lasts as long as its client wants and is never slow
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
	caller := parseTraceparent(h.Get("Traceparent"), h["Tracestate"]...)
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

// spanAttrs adds attributes to the stage that ctx stands in: what is known only once it runs.
func spanAttrs(ctx context.Context, attrs ...slog.Attr) {
	if s := currentScope(ctx); s != nil && s.stage >= 0 {
		s.record.mu.Lock()
		st := &s.record.stages[s.stage]
		st.attrs = append(st.attrs, attrs...)
		s.record.mu.Unlock()
	}
}

// logAttrs adds attributes to the log line of ctx's record.
func logAttrs(ctx context.Context, attrs ...slog.Attr) {
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
		s.record.bodyReadAt = time.Now()
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
		s.record.transport = transport
		s.record.mu.Unlock()
		if o := s.record.observer; isEvents(transport) && !o.off {
			o.metrics.streams.WithLabelValues(transport).Inc()
		}
	}
}

// continueTrace makes the trace that traceparent names the one of ctx's stage: that of the whole record if the request
// brought none, else of this stage and those below it, which are then linked to the request's.
func continueTrace(ctx context.Context, traceparent string) {
	s, remote := currentScope(ctx), parseTraceparent(traceparent)
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

// isSlow reports whether a record took longer than its kind should.
func (rec *record) isSlow() bool {
	return rec.took >= rec.observer.slow && rec.transport == "" && rec.job == ""
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

// parseTraceparent reads the headers of W3C Trace Context. Whatever is malformed counts as absent.
func parseTraceparent(traceparent string, tracestate ...string) trace.SpanContext {
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

// timeLeft is how long whatever can block may still take: until ctx's deadline, else to the end of its request's budget,
// else, where no request waits for it, backgroundBudget. A timer for every request would cost more than most of them.
func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	if s := currentScope(ctx); s != nil && s.record.job == "" {
		begin := s.record.start
		if !s.record.bodyReadAt.IsZero() {
			begin = s.record.bodyReadAt
		}
		return handlerBudget - time.Since(begin)
	}
	return backgroundBudget
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// truncate cuts s to at most n bytes without splitting a character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
