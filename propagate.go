package main

// The ids of a record: the trace and span ids of W3C Trace Context (w3.org/TR/trace-context), and the correlation id.
// They are read from incoming requests and sent with outgoing ones.

import (
	"context"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// maxSampledByCaller is how many records a second are kept because their callers ask for it. Without it, a caller could
// force the server to keep all of them.
const maxSampledByCaller = 10

// maxTracestateBytes bounds the tracestate that a record keeps. The specification asks to pass on at least this much.
const maxTracestateBytes = 512

// newRecord begins a record. It uses X-Correlation-ID and traceparent of h if they are valid. The default correlation id
// is the trace id, which Jaeger can look up.
func (p *recordPolicy) newRecord(h http.Header) *record {
	rec := &record{
		policy:    p,
		start:     time.Now(),
		scopeRoom: new([6]scope),
	}

	rec.attrs = rec.attrRoom[:0]
	rec.stages = rec.stageRoom[:0]
	rec.kinds = rec.kindRoom[:0]
	randomID(rec.span[:])

	caller := parseTraceparent(h.Get("Traceparent"), h["Tracestate"]...)
	if caller.IsValid() {
		rec.joinTrace(caller)
	} else {
		randomID(rec.trace[:])
	}
	switch {
	case p.isInRatio(rec.trace):
		rec.sample("ratio")
	case caller.IsSampled() && p.byCaller.take(anyClient, rec.start) == 0:
		rec.sample("caller")
	}

	rec.correlation = h.Get("X-Correlation-Id")
	if !isCorrelationID(rec.correlation) {
		rec.correlation = rec.trace.String()
		rec.isTraceID = true
	}
	return rec
}

// newJobRecord begins the record of background work. Within another record, it continues that record's trace and has its
// correlation id.
func (p *recordPolicy) newJobRecord(ctx context.Context, name string) *record {
	rec := p.newRecord(nil)
	rec.job = name
	if s := currentScope(ctx); s != nil {
		rec.correlation = s.record.correlation
		rec.isTraceID = s.record.isTraceID
		rec.trace = s.record.trace
		rec.parent = s.record.span
		rec.sampled = s.record.sampled
		rec.kept = s.record.kept
	}
	return rec
}

// joinTrace makes the record a child of the caller's span.
func (rec *record) joinTrace(caller trace.SpanContext) {
	rec.trace = caller.TraceID()
	rec.parent = caller.SpanID()
	rec.state = caller.TraceState()
}

// sample keeps the record's trace for a reason that is known before its end.
func (rec *record) sample(reason string) {
	rec.sampled = true
	rec.kept = reason
}

// continueTrace makes the stage of ctx continue the trace in traceparent. If it is the first stage, and the request had no
// traceparent, the whole record joins that trace. Otherwise only the stage and its descendants join it, with a link to the
// request.
func continueTrace(ctx context.Context, traceparent string) {
	s := currentScope(ctx)
	remote := parseTraceparent(traceparent)
	if s == nil || s.stage < 0 || !remote.IsValid() {
		return
	}

	rec := s.record
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if remote.IsSampled() && !rec.sampled && rec.policy.byCaller.take(anyClient, rec.start) == 0 {
		rec.sample("caller")
	}
	if rec.parent.IsValid() || s.stage != 0 {
		rec.stages[s.stage].remote = &remote
		return
	}

	rec.joinTrace(remote)
	if !rec.sampled && rec.policy.isInRatio(rec.trace) {
		rec.sample("ratio")
	}
	if !rec.isTraceID {
		return
	}
	if rec.header == nil { // the response has been sent with the old id
		rec.isTraceID = false
		return
	}
	rec.correlation = rec.trace.String()
	rec.header.Set("X-Correlation-Id", rec.correlation)
}

// parseTraceparent reads the headers of W3C Trace Context. Malformed ones count as absent: the result is not valid.
func parseTraceparent(traceparent string, tracestate ...string) trace.SpanContext {
	if traceparent == "" {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{"traceparent": traceparent}
	state := strings.Join(tracestate, ",")
	if len(state) <= maxTracestateBytes {
		carrier["tracestate"] = state
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), carrier)
	return trace.SpanContextFromContext(ctx)
}

// propagate sets the headers of an outgoing call, so that it continues ctx's trace. Outside a record it sets none.
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
	parent := trace.ContextWithSpanContext(ctx, rec.spanContext(id, span, flags, false))
	propagation.TraceContext{}.Inject(parent, propagation.HeaderCarrier(h))
}

// spanContext returns a span context with these ids and flags. It has the tracestate only in the record's own trace.
func (rec *record) spanContext(id trace.TraceID, span trace.SpanID, flags trace.TraceFlags, isRemote bool) trace.SpanContext {
	config := trace.SpanContextConfig{
		TraceID:    id,
		SpanID:     span,
		TraceFlags: flags,
		Remote:     isRemote,
	}
	if id == rec.trace {
		config.TraceState = rec.state
	}
	return trace.NewSpanContext(config)
}

// spanOf returns the trace and span ids of a stage, or those of the record for -1. The caller holds rec.mu.
func (rec *record) spanOf(stage int) (trace.TraceID, trace.SpanID) {
	if stage < 0 {
		return rec.trace, rec.span
	}
	span := rec.stages[stage].span
	for i := stage; i >= 0; i = rec.stages[i].parent {
		if remote := rec.stages[i].remote; remote != nil {
			return remote.TraceID(), span
		}
	}
	return rec.trace, span
}

// traceID returns the trace id in hex. If that is the correlation id, it saves the conversion.
func (rec *record) traceID() string {
	if rec.isTraceID {
		return rec.correlation
	}
	return rec.trace.String()
}

// hasID reports whether id is the record's correlation or trace id. It holds rec.mu, because continueTrace may change
// both while the request is in flight.
func (rec *record) hasID(id string) bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.correlation == id || rec.trace.String() == id
}

// isCorrelationID reports whether s matches [A-Za-z0-9][A-Za-z0-9._-]{0,127}. Such ids need no escaping in SQL comments,
// headers and logs.
func isCorrelationID(s string) bool {
	if s == "" || len(s) > 128 || strings.ContainsAny(s[:1], "._-") {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
