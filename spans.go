package main

// OpenTelemetry spans from records. Names, kinds and attributes follow the semantic conventions
// (opentelemetry.io/docs/specs/semconv) for HTTP, databases, generative AI and MCP.

import (
	"errors"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// spanScope is the instrumentation scope of all spans. OpenTelemetry requires one.
var spanScope = instrumentation.Scope{
	Name:    "vitrine",
	Version: version(),
}

// appendSpans appends the span of a record and the spans of its stages. Ids and times come from the
// record.
func (e *traceExport) appendSpans(
	spans []sdktrace.ReadOnlySpan, rec *record,
) []sdktrace.ReadOnlySpan {
	rec.mu.Lock()
	defer rec.mu.Unlock()

	root := e.recordSpan(rec)
	spans = append(spans, root.Snapshot())

	for i := range rec.stages {
		span := e.stageSpan(rec, i)
		spans = append(spans, span.Snapshot())
	}
	return spans
}

// recordSpan returns the span of a record. SpanStub is made for tests, but it is the only public span
// of the SDK that takes given ids and times.
func (e *traceExport) recordSpan(rec *record) tracetest.SpanStub {
	// The span has at most this many attributes in addition to rec.attrs.
	const otherAttrs = 16
	id := rec.sampledContext(rec.trace, rec.span)
	span := tracetest.SpanStub{
		Name:                 rec.job,
		SpanContext:          id,
		SpanKind:             trace.SpanKindInternal,
		StartTime:            rec.start,
		EndTime:              rec.start.Add(rec.took),
		Attributes:           spanAttributes(rec.attrs, otherAttrs),
		ChildSpanCount:       len(rec.stages),
		Resource:             e.resource,
		InstrumentationScope: spanScope,
	}
	span.Attributes = append(span.Attributes,
		attribute.String("vitrine.correlation_id", rec.correlation),
		attribute.String("vitrine.kept", rec.kept))

	if rec.parent.IsValid() {
		const isRemote = true
		span.Parent = rec.spanContext(
			rec.trace,
			rec.parent,
			trace.FlagsSampled,
			isRemote,
		)
	}
	if rec.job == "" {
		span.Name = rec.spanName()
		span.SpanKind = trace.SpanKindServer
		span.Attributes = rec.appendHTTP(span.Attributes)
	}
	if rec.failure != "" {
		span.Status.Code = codes.Error
		kind := attribute.String("error.type", rec.failure)
		span.Attributes = append(span.Attributes, kind)
	}
	return span
}

// stageSpan returns the span of a record's stage.
func (e *traceExport) stageSpan(rec *record, i int) tracetest.SpanStub {
	st := &rec.stages[i]
	id, spanID := rec.spanOf(i)
	parent, links := rec.stageParent(st)
	// The end is 0 if the stage never ended.
	end := max(st.start, st.end)
	span := tracetest.SpanStub{
		Name:                 st.spanName(),
		SpanContext:          rec.sampledContext(id, spanID),
		Parent:               parent,
		SpanKind:             st.spanKind(),
		StartTime:            rec.start.Add(st.start),
		EndTime:              rec.start.Add(end),
		Attributes:           append(spanAttributes(st.attrs, 2), e.constant[st.kind]...),
		Links:                links,
		Resource:             e.resource,
		InstrumentationScope: spanScope,
	}

	span.Attributes = append(span.Attributes, st.errorAttributes()...)
	if st.isFailure() {
		span.Status.Code = codes.Error
		span.Status.Description = st.err.Error()
	}
	return span
}

// constantAttributes returns the attributes that all spans of a kind of stage have. PostgreSQL names itself in its stages,
// because the waterfall shows it.
func constantAttributes(cfg *settings) map[stageKind][]attribute.KeyValue {
	var database []attribute.KeyValue
	if cfg.databaseURL == "" {
		database = append(database, attribute.String("db.system.name", cfg.databaseSystem()))
	}
	return map[stageKind][]attribute.KeyValue{
		stageDB:     database,
		stageEmbed:  {attribute.String("gen_ai.provider.name", cfg.embeddingProvider())},
		stageSearch: {attribute.String("gen_ai.data_source.id", dataSource)},
	}
}

// dataSource is what searches search, for the semantic conventions.
const dataSource = "documents"

// errorAttributes returns how the stage failed, as the metrics have it.
func (st *stageRecord) errorAttributes() (attrs []attribute.KeyValue) {
	kind := errorType(st.err)
	if st.kind == stageMCP {
		var code string
		kind, code = messageOutcome(st.err)
		if code != "" {
			attrs = append(attrs, attribute.String("rpc.response.status_code", code))
		}
	}
	if kind != "" {
		attrs = append(attrs, attribute.String("error.type", kind))
	}
	return attrs
}

// isFailure reports whether the stage's span has failed. A mistake of the caller does not fail it.
func (st *stageRecord) isFailure() bool {
	if st.kind == stageMCP {
		kind, _ := messageOutcome(st.err)
		return kind != ""
	}
	_, isUserError := errors.AsType[userError](st.err)
	return st.err != nil && !isUserError
}

// stageParent returns the parent of a stage's span: the surrounding stage or the record. A stage that
// continues a trace of the caller belongs to the caller's span instead, and is linked to the record.
func (rec *record) stageParent(st *stageRecord) (trace.SpanContext, []sdktrace.Link) {
	if st.remote != nil {
		id := rec.sampledContext(rec.trace, rec.span)
		request := sdktrace.Link{SpanContext: id}
		return *st.remote, []sdktrace.Link{request}
	}

	id, parent := rec.spanOf(st.parent)
	return rec.sampledContext(id, parent), nil
}

// sampledContext returns the context of a sampled span of this process.
func (rec *record) sampledContext(id trace.TraceID, span trace.SpanID) trace.SpanContext {
	return rec.spanContext(id, span, trace.FlagsSampled, false)
}

// spanName returns the name of a request's span: the method and the route. A request in flight has the
// path instead.
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

// appendHTTP appends the HTTP attributes of a request's span.
func (rec *record) appendHTTP(attrs []attribute.KeyValue) []attribute.KeyValue {
	method := knownMethod(rec.method)
	add := func(key attribute.Key, value string) {
		attrs = append(attrs, key.String(value))
	}
	add("http.request.method", method)
	add("url.path", rec.path)
	add("url.scheme", "http")
	attrs = append(attrs,
		attribute.Int("http.response.status_code", rec.status),
		attribute.Int64("http.response.body.size", rec.bytes))

	if rec.route != "unmatched" {
		add("http.route", rec.route)
	}
	if method == "_OTHER" {
		original := truncate(rec.method, 32)
		add("http.request.method_original", original)
	}
	if rec.userAgent != "" {
		add("user_agent.original", rec.userAgent)
	}

	// A client behind a proxy has no port.
	address, port := rec.clientAddress()
	add("client.address", address)
	if port == 0 {
		return attrs
	}
	attrs = append(attrs, attribute.Int("client.port", port))
	return attrs
}

// spanName returns the name of a stage's span. A kind without a convention gives its own name.
func (st *stageRecord) spanName() string {
	switch st.kind {
	case stageDB:
		return st.text("db.query.summary")
	case stageMCP:
		// A message names a tool, a prompt, or neither.
		tool := st.text("gen_ai.tool.name")
		prompt := st.text("gen_ai.prompt.name")
		method := st.text("mcp.method.name")
		return strings.TrimSpace(method + " " + tool + prompt)
	case stageTool:
		return "execute_tool " + st.text("gen_ai.tool.name")
	case stageEmbed:
		return "embeddings " + st.text("gen_ai.request.model")
	case stageSearch:
		return "retrieval " + dataSource
	default:
		return st.kind.String()
	}
}

// spanKind returns server for an MCP message, client for stages that may call another service, and
// internal for all others.
func (st *stageRecord) spanKind() trace.SpanKind {
	switch st.kind {
	case stageMCP:
		return trace.SpanKindServer
	case stageDB, stageEmbed, stageSearch:
		return trace.SpanKindClient
	default:
		return trace.SpanKindInternal
	}
}

// spanAttributes converts attrs. The result has room for more attributes.
func spanAttributes(attrs []slog.Attr, room int) []attribute.KeyValue {
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
