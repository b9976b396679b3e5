package main

// View 3 of a record: the export of its spans. spans.go creates the spans. Only these two files use
// OpenTelemetry's SDK. collector.go reads what the collector answers.

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	traceQueueRecords = 2048

	// maxBatchSpans is the approximate size of a batch. A batch ends with the record that reaches it.
	maxBatchSpans = 512

	// batchRecords is how many queued records are enough for a batch, if each has four spans.
	batchRecords = maxBatchSpans / 4

	// exportPause is how long an export waits until there are enough records for a batch.
	exportPause = time.Second

	// The pause before another attempt doubles from minExportBackoff up to maxExportBackoff.
	minExportBackoff = 500 * time.Millisecond
	maxExportBackoff = 5 * time.Second

	// cutOffTimeout is how long close waits for attempts that it has cut off.
	cutOffTimeout = time.Second

	failureLogInterval = time.Minute // between two log lines about failed attempts
)

// traceExport turns the records that are kept into spans and hands them to the exporter, in the
// background. A nil traceExport exports nothing. All methods that others call accept it, except add.
type traceExport struct {
	exporter   sdktrace.SpanExporter
	resource   *resource.Resource
	constant   map[stageKind][]attribute.KeyValue // attributes of each span
	log        *slog.Logger
	queue      chan *record
	batchReady chan struct{} // batchRecords are queued, or the queue is closed
	queueFull  chan struct{}
	ended      chan struct{}
	timeout    time.Duration // of one attempt

	ctx     context.Context // of all attempts, not of a request
	cutOff  context.CancelFunc
	closing chan struct{} // closed when no more than closeBy is left
	closeBy time.Time     // set before closing is closed

	// Used by run alone:
	notBefore  time.Time // the collector has asked for this pause
	unreported int       // failed attempts since the last log line
	reportedAt time.Time // time of that line

	cost cpuMeter

	exported    atomic.Int64 // spans
	dropped     atomic.Int64 // spans that did not fit into the queue
	failed      atomic.Int64 // spans that could not be exported
	lastSuccess atomic.Pointer[time.Time]
}

// newTraceExport starts the export that the settings ask for. It returns nil if they ask for none.
func newTraceExport(ctx context.Context, cfg *settings, log *slog.Logger) (*traceExport, error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("OpenTelemetry", "error", err)
	}))
	silence(otel.SetLogger)

	exporter, err := newExporter(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("vitrine: setting up the trace exporter: %w", err)
	}
	if exporter == nil {
		return nil, nil
	}
	return startTraceExport(exporter, cfg, log), nil
}

// silence sets the zero logger, which discards everything. The SDK's own logger writes plain text to standard error, and
// only about variables that readOTLP has checked. The type of the logger is a parameter, because it belongs to a module
// that this one does not import.
func silence[L any](setLogger func(L)) {
	var none L
	setLogger(none)
}

// newResource returns what all spans say about the service.
func newResource(cfg *settings) *resource.Resource {
	var attrs []attribute.KeyValue
	for name, value := range cfg.resource {
		attrs = append(attrs, attribute.String(name, value))
	}
	// Of two attributes with the same name, the last one counts.
	return resource.NewSchemaless(append(attrs,
		attribute.String("service.name", cfg.serviceName),
		attribute.String("service.version", cfg.serviceVersion),
		attribute.String("deployment.environment.name", cfg.environment))...)
}

// newExporter returns the exporter that the settings name, nil for "none". OTLP reads its headers and compression from
// the environment itself. It does not retry, because export does.
func newExporter(ctx context.Context, cfg *settings) (sdktrace.SpanExporter, error) {
	switch cfg.tracesExporter {
	case "otlp":
		return otlptracehttp.New(ctx,
			otlptracehttp.WithEndpointURL(cfg.otlp.url),
			otlptracehttp.WithHTTPClient(newCollectorClient(cfg.otlp.tls)),
			otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
	case "console":
		return stdouttrace.New(stdouttrace.WithWriter(os.Stderr))
	}
	return nil, nil
}

// startTraceExport starts an export that the caller must close.
func startTraceExport(exporter sdktrace.SpanExporter, cfg *settings, log *slog.Logger) *traceExport {
	e := &traceExport{
		exporter:   exporter,
		resource:   newResource(cfg),
		constant:   constantAttributes(cfg),
		log:        log,
		queue:      make(chan *record, traceQueueRecords),
		batchReady: make(chan struct{}, 1),
		queueFull:  make(chan struct{}, 1),
		ended:      make(chan struct{}),
		timeout:    cfg.otlp.timeout,
		closing:    make(chan struct{}),
	}
	e.ctx, e.cutOff = context.WithCancel(context.Background())
	go e.run()
	return e
}

// traceStats are the counts of a traceExport. They are zero without an export.
type traceStats struct {
	queued      int       // records
	exported    int64     // spans
	dropped     int64     // spans: see traceExport
	failed      int64     // spans that could not be exported
	lastSuccess time.Time // zero: none yet
}

// stats returns the counts so far.
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
	if last := e.lastSuccess.Load(); last != nil {
		stats.lastSuccess = *last
	}
	return stats
}

// costs returns the CPU time of making and exporting spans, without that of net/http's own goroutines.
func (e *traceExport) costs() time.Duration {
	if e == nil {
		return 0
	}
	return e.cost.elapsed()
}

// add queues a finished record. It drops the whole record if the queue is full.
func (e *traceExport) add(rec *record) {
	select {
	case e.queue <- rec:
	default:
		e.dropped.Add(int64(1 + len(rec.stages)))
		return
	}
	switch len(e.queue) {
	case batchRecords:
		trySend(e.batchReady)
	case cap(e.queue):
		trySend(e.queueFull)
	}
}

// trySend sends a signal to a channel with room for one, unless one waits there already.
func trySend(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// run exports until the queue is closed and empty.
func (e *traceExport) run() {
	defer close(e.ended)
	for rec := range e.queue {
		e.awaitBatch()
		var batch []sdktrace.ReadOnlySpan
		e.cost.run(func() { batch = e.batch(rec) })
		rejected, err := e.export(batch)
		e.failed.Add(rejected)
		e.exported.Add(int64(len(batch)) - rejected)
		if rejected < int64(len(batch)) {
			now := time.Now() // with the reading of the monotonic clock, for age
			e.lastSuccess.Store(&now)
		}
		if err != nil {
			e.unreported++
			e.report(rejected, err)
		}
	}
}

// awaitBatch waits until a batch is queued, for at most exportPause.
func (e *traceExport) awaitBatch() {
	if len(e.queue) >= batchRecords {
		return
	}
	select {
	case <-time.After(exportPause):
	case <-e.batchReady:
	}
}

// batch returns the spans of first and of queued records, until it has maxBatchSpans.
func (e *traceExport) batch(first *record) []sdktrace.ReadOnlySpan {
	spans := e.appendSpans(nil, first)
	for len(e.queue) > 0 && len(spans) < maxBatchSpans { // only run receives, so this does not block
		spans = e.appendSpans(spans, <-e.queue)
	}
	return spans
}

// export sends a batch, and again for as long as the collector may take it later and the queue has room for what is kept
// meanwhile. It returns how many spans of the batch are lost, and why.
func (e *traceExport) export(batch []sdktrace.ReadOnlySpan) (rejected int64, err error) {
	all := int64(len(batch))
	began := time.Now()
	err = errPaused
	for backoff := minExportBackoff; ; backoff = min(2*backoff, maxExportBackoff) {
		if !e.pause(e.notBefore) {
			return all, err
		}

		var reply collectorReply
		reply, err = e.attempt(batch)
		switch {
		case reply.isAccepted:
			return min(reply.rejected, all), err
		case !reply.mayRetry:
			return all, err
		case reply.retryAfter > 0:
			e.notBefore = time.Now().Add(reply.retryAfter)
		default:
			e.notBefore = time.Now().Add(backoff)
		}
		e.unreported++
		if time.Since(began) > maxExportBackoff { // a short restart of the collector needs no line
			e.report(all, err)
		}
	}
}

// attempt sends a batch once.
func (e *traceExport) attempt(batch []sdktrace.ReadOnlySpan) (collectorReply, error) {
	ctx, cancel := context.WithTimeout(e.ctx, e.timeout)
	defer cancel()
	reply := collectorReply{mayRetry: true} // until the collector says otherwise
	var err error
	e.cost.run(func() { err = e.exporter.ExportSpans(withReply(ctx, &reply), batch) })
	if reply.isAccepted {
		return reply, reply.problem()
	}
	reply.isAccepted = err == nil // the console has no more to say
	return reply, err
}

// pause waits until then. It reports false, at once, if that is too long: records are dropped meanwhile, or the export
// must end before.
func (e *traceExport) pause(then time.Time) bool {
	wait := time.Until(then)
	if wait <= 0 {
		return true
	}
	select { // a signal from before this pause does not count
	case <-e.queueFull:
	default:
	}
	if len(e.queue) == cap(e.queue) {
		return false
	}

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-e.queueFull:
		return false
	case <-e.closing:
	}
	if then.After(e.closeBy) {
		return false
	}
	<-timer.C
	return true
}

// report logs that an attempt has failed or come with a warning, at most once per failureLogInterval.
func (e *traceExport) report(rejected int64, err error) {
	if time.Since(e.reportedAt) <= failureLogInterval {
		return
	}
	message := "spans could not be exported"
	if rejected == 0 {
		message = "the collector has taken spans with a warning"
	}
	e.log.Warn(message,
		"error", truncate(err.Error(), maxReplyText),
		"attempts", e.unreported,
		"records_waiting", len(e.queue),
		"spans_failed_total", e.failed.Load(),
		"spans_dropped_total", e.dropped.Load())
	e.reportedAt = time.Now()
	e.unreported = 0
}

// close exports the queued records, for at most timeout. What is not exported by then counts as failed.
func (e *traceExport) close(timeout time.Duration) {
	if e == nil {
		return
	}
	e.closeBy = time.Now().Add(timeout)
	close(e.closing)
	close(e.queue)
	close(e.batchReady)

	select {
	case <-e.ended:
	case <-time.After(timeout):
		e.cutOff()
		select {
		case <-e.ended:
		case <-time.After(cutOffTimeout): // the console may be blocked
		}
		e.log.Warn("spans were not exported in time", "spans_failed_total", e.failed.Load(), "records", len(e.queue))
	}
	ctx, cancel := context.WithTimeout(context.Background(), cutOffTimeout)
	defer cancel()
	_ = e.exporter.Shutdown(ctx) // the spans are counted already
	e.cutOff()
}
