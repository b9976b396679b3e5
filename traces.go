package main

// View 3 of a record: the export of its spans. spans.go creates the spans. Only these two files use
// OpenTelemetry's SDK.

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

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

	exportTimeout      = 5 * time.Second // of one attempt
	exportAttempts     = 3
	failureLogInterval = time.Minute // between two log lines about failed exports
)

// traceExport turns the records that are kept into spans and hands them to the exporter, in the
// background. A nil traceExport exports nothing. stats and close accept it, but add does not.
type traceExport struct {
	exporter   sdktrace.SpanExporter
	resource   *resource.Resource
	log        *slog.Logger
	queue      chan *record
	batchReady chan struct{} // batchRecords are queued, or the queue is closed
	ended      chan struct{}

	// Used by run alone:
	unreported int       // failed exports since the last log line
	reportedAt time.Time // time of that line

	exported    atomic.Int64 // spans
	dropped     atomic.Int64 // spans that did not fit into the queue, or of the batch that close cut off
	failed      atomic.Int64 // spans that could not be exported
	exporting   atomic.Int64 // spans in the current batch
	lastSuccess atomic.Int64 // Unix milliseconds, 0: none
}

// newTraceExport starts the export that the settings ask for. It returns nil if they ask for none.
func newTraceExport(ctx context.Context, cfg *settings, log *slog.Logger) (*traceExport, error) {
	exporter, err := newExporter(ctx, cfg.tracesExporter)
	if err != nil {
		return nil, fmt.Errorf("vitrine: setting up the trace exporter: %w", err)
	}
	if exporter == nil {
		return nil, nil
	}

	res, err := resource.New(ctx, resource.WithFromEnv(), resource.WithAttributes(
		attribute.String("service.name", cfg.serviceName),
		attribute.String("service.version", version()),
		attribute.String("deployment.environment.name", cfg.environment),
	))
	if err != nil { // res has the attributes that are valid
		log.Warn("OTEL_RESOURCE_ATTRIBUTES is not honoured in full", "error", err)
	}
	return startTraceExport(exporter, res, log), nil
}

// newExporter returns the exporter of that name, nil for "none". OTLP reads its own environment
// variables. It does not retry, because export does.
func newExporter(ctx context.Context, name string) (sdktrace.SpanExporter, error) {
	switch name {
	case "otlp":
		return otlptracehttp.New(ctx, otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
	case "console":
		return stdouttrace.New(stdouttrace.WithWriter(os.Stderr))
	}
	return nil, nil
}

// startTraceExport starts an export that the caller must close.
func startTraceExport(
	exporter sdktrace.SpanExporter, res *resource.Resource, log *slog.Logger,
) *traceExport {
	e := &traceExport{
		exporter:   exporter,
		resource:   res,
		log:        log,
		queue:      make(chan *record, traceQueueRecords),
		batchReady: make(chan struct{}, 1),
		ended:      make(chan struct{}),
	}
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

// add queues a finished record. It drops the whole record if the queue is full.
func (e *traceExport) add(rec *record) {
	select {
	case e.queue <- rec:
	default:
		e.dropped.Add(int64(1 + len(rec.stages)))
		return
	}

	if len(e.queue) != batchRecords {
		return
	}
	select {
	case e.batchReady <- struct{}{}:
	default: // run has not taken the last signal yet
	}
}

// run exports until the queue is closed and empty.
func (e *traceExport) run() {
	defer close(e.ended)
	for rec := range e.queue {
		e.awaitBatch()
		batch := e.batch(rec)
		n := int64(len(batch))

		e.exporting.Store(n)
		err := e.export(batch)
		if err != nil {
			e.failed.Add(n)
			e.reportFailure(err)
		} else {
			e.exported.Add(n)
			e.lastSuccess.Store(time.Now().UnixMilli())
		}
		e.exporting.Store(0)
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

// export makes up to exportAttempts attempts. The OTLP exporter's own retries do not cover refused
// connections.
func (e *traceExport) export(batch []sdktrace.ReadOnlySpan) (err error) {
	for attempt := range exportAttempts {
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

// reportFailure logs that exports fail, at most once per failureLogInterval.
func (e *traceExport) reportFailure(err error) {
	e.unreported++
	if time.Since(e.reportedAt) <= failureLogInterval {
		return
	}
	e.log.Warn("spans could not be exported",
		"error", err,
		"exports", e.unreported,
		"spans_failed_total", e.failed.Load(),
		"spans_dropped_total", e.dropped.Load())
	e.reportedAt = time.Now()
	e.unreported = 0
}

// close exports the queued records, for at most timeout. After that, the spans of the current batch
// count as dropped.
func (e *traceExport) close(timeout time.Duration) {
	if e == nil {
		return
	}
	close(e.queue)
	close(e.batchReady)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()

	select {
	case <-e.ended:
	case <-ctx.Done():
		spans := e.exporting.Load()
		e.dropped.Add(spans)
		e.log.Warn("spans were not exported in time", "spans", spans, "records", len(e.queue))
	}
	_ = e.exporter.Shutdown(ctx) // the spans are counted already
}
