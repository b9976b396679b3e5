package main

// View 3 of a record: its spans. The only room that knows OpenTelemetry's SDK.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

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

// traceStats are the numbers of an export, zero where there is none.
type traceStats struct {
	queued      int   // records
	exported    int64 // spans
	dropped     int64 // spans for which the queue had no room
	failed      int64 // spans that could not be exported
	lastSuccess time.Time
}

func (e *traceExport) stats() traceStats {
	if e == nil {
		return traceStats{}
	}
	stats := traceStats{
		queued:   len(e.queue),
		exported: e.exported.Load(),
		dropped:  e.dropped.Load(),
		failed:   e.failed.Load(),
	}
	if ms := e.lastSuccess.Load(); ms > 0 {
		stats.lastSuccess = time.UnixMilli(ms)
	}
	return stats
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
	switch st.kind {
	case stageDB:
		return st.text("db.query.summary")
	case stageMCP:
		return strings.TrimSpace(st.text("mcp.method.name") + " " + st.text("gen_ai.tool.name") + st.text("gen_ai.prompt.name"))
	case stageTool:
		return "execute_tool " + st.text("gen_ai.tool.name")
	case stageEmbed:
		return "embeddings " + st.text("gen_ai.request.model")
	case stageSearch:
		return "retrieval documents"
	}
	return st.kind.String()
}

func (st *stageRecord) spanKind() trace.SpanKind {
	switch st.kind {
	case stageMCP:
		return trace.SpanKindServer
	case stageDB, stageEmbed, stageSearch:
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
