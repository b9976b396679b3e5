package main

// View 1 of a record: its log line. This file also has the program's logger. Its level can change for
// a limited time. Its writer never blocks a request.

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// logRecord writes the one line of a finished record. With observability off it writes only warnings
// and errors.
func logRecord(log *slog.Logger, rec *record) {
	level := rec.logLevel()
	if rec.policy.off && level < slog.LevelWarn {
		return
	}
	handler := log.Handler()
	ctx := context.Background() // not the record's: recordHandler would add the ids twice
	if !handler.Enabled(ctx, level) {
		return
	}

	message := "request"
	if rec.job != "" {
		message = "job"
	}

	var room [24]slog.Attr // enough for most lines, which saves an allocation
	line := slog.NewRecord(rec.start.Add(rec.took), level, message, 0)
	line.AddAttrs(rec.appendLogAttrs(room[:0])...)
	_ = handler.Handle(ctx, line) // logWriter counts the lines that it drops
}

// logLevel returns the level of rec's line. A failed job is only a warning, because no caller sees it.
func (rec *record) logLevel() slog.Level {
	switch {
	case rec.failure != "" && rec.job != "":
		return slog.LevelWarn
	case rec.failure != "":
		return slog.LevelError
	case rec.isSlow():
		return slog.LevelWarn
	case rec.probe, rec.isIdleJob():
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// appendLogAttrs appends the attributes of rec's line in their order.
func (rec *record) appendLogAttrs(attrs []slog.Attr) []slog.Attr {
	ids := rec.ids()
	attrs = append(attrs, ids[:]...)
	if rec.job != "" {
		attrs = append(attrs, slog.String("job", rec.job))
	} else {
		attrs = rec.appendRequestAttrs(attrs)
	}

	attrs = append(attrs, slog.Float64("took_ms", milliseconds(rec.took)))

	// Only these kinds of stages are on the line, because formatting a float costs as much as formatting
	// five strings. The waterfall shows all kinds.
	var room [8]kindDuration
	for _, d := range rec.durations(room[:0]) {
		switch {
		case d.took < time.Microsecond: // it would be logged as 0
		case d.kind == stageDB:
			attrs = append(attrs, slog.Float64("db_ms", milliseconds(d.took)))
		case d.kind == stagePoolWait && d.took >= time.Millisecond: // a free connection takes microseconds
			attrs = append(attrs, slog.Float64("pool_wait_ms", milliseconds(d.took)))
		case d.kind == stageEmbed:
			attrs = append(attrs, slog.Float64("embed_ms", milliseconds(d.took)))
		}
	}
	if rec.kept != "" {
		attrs = append(attrs, slog.String("kept", rec.kept))
	}

	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.summed > 0 {
		attrs = append(attrs, slog.Int("stages_summed", rec.summed))
	}
	if rec.droppedAttrs > 0 {
		attrs = append(attrs, slog.Int("attributes_dropped", rec.droppedAttrs))
	}
	return append(attrs, rec.attrs...)
}

// appendRequestAttrs appends the attributes that a job does not have.
func (rec *record) appendRequestAttrs(attrs []slog.Attr) []slog.Attr {
	attrs = append(attrs,
		slog.String("method", rec.method),
		slog.String("route", rec.route))
	if rec.path != rec.route {
		attrs = append(attrs, slog.String("path", rec.path))
	}
	host, port := rec.clientAddress() // apart, so that lines can be grouped by client
	attrs = append(attrs,
		slog.Int("status", rec.status),
		slog.Int64("bytes", rec.bytes),
		slog.String("client", host))
	if port > 0 {
		attrs = append(attrs, slog.Int("client_port", port))
	}
	if rec.userAgent != "" {
		attrs = append(attrs, slog.String("user_agent", rec.userAgent))
	}
	return attrs
}

// ids returns the attributes that connect a log line to its trace and its waterfall.
func (rec *record) ids() [3]slog.Attr {
	return [3]slog.Attr{
		slog.String("correlation_id", rec.correlation),
		slog.String("trace_id", rec.traceID()),
		slog.String("span_id", rec.span.String()),
	}
}

// newLogger returns a logger that writes to w: JSON lines, or lines for people. Lines logged with the
// context of a record carry the record's ids.
func newLogger(w io.Writer, level slog.Leveler, cfg *settings) *slog.Logger {
	if cfg.logsText() {
		h := newConsoleHandler(w, level, cfg.onTerminal)
		return slog.New(recordHandler{h})
	}

	h := slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level:       level,
		ReplaceAttr: renameAttr,
	})
	return slog.New(recordHandler{h}).With(
		"service_name", cfg.serviceName,
		"version", cfg.serviceVersion,
		"environment", cfg.environment,
	)
}

// takeOverLogs makes what libraries log through the package log, such as net/http, a line of log.
func takeOverLogs(log *slog.Logger) {
	slog.SetLogLoggerLevel(slog.LevelWarn)
	slog.SetDefault(log)
}

// renameAttr renames slog's own attributes time and msg, and writes the level as levelName does.
func renameAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.Time("timestamp", a.Value.Time().UTC())
	case slog.MessageKey:
		a.Key = "message"
	case slog.LevelKey:
		level, ok := a.Value.Any().(slog.Level)
		if ok {
			a.Value = slog.StringValue(levelName(level))
		}
	default:
		a.Value = displayableValue(a.Value)
	}
	return a
}

// displayableValue escapes the characters of a value that encoding/json does not escape and a terminal obeys.
func displayableValue(v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindString:
		if text := v.String(); !isASCII(text) {
			return slog.StringValue(wholeDisplayable(text))
		}
		return v
	case slog.KindAny:
	default:
		return v
	}

	switch one := v.Any().(type) {
	case error:
		return slog.StringValue(wholeDisplayable(one.Error()))
	case []string:
		shown := make([]string, len(one))
		for i, s := range one {
			shown[i] = wholeDisplayable(s)
		}
		return slog.AnyValue(shown)
	}
	return v
}

// recordHandler adds the ids of the context's record to each line, before the line's own attributes.
type recordHandler struct{ slog.Handler }

func (h recordHandler) Handle(ctx context.Context, line slog.Record) error {
	s := currentScope(ctx)
	if s == nil {
		return h.Handler.Handle(ctx, line)
	}

	withIDs := slog.NewRecord(line.Time, line.Level, line.Message, line.PC)
	ids := s.record.ids()
	withIDs.AddAttrs(ids[:]...)
	line.Attrs(func(a slog.Attr) bool {
		withIDs.AddAttrs(a)
		return true
	})
	return h.Handler.Handle(ctx, withIDs)
}

func (h recordHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return recordHandler{h.Handler.WithAttrs(attrs)}
}

func (h recordHandler) WithGroup(name string) slog.Handler {
	return recordHandler{h.Handler.WithGroup(name)}
}

// logLevel is the lowest level that is logged. change can set it for a limited time.
type logLevel struct {
	slog.LevelVar

	mu      sync.Mutex
	normal  slog.Level // the level after a limited change
	changes int        // number of calls of change
}

// newLogLevel returns a logLevel whose normal level is level.
func newLogLevel(level slog.Level) *logLevel {
	l := &logLevel{normal: level}
	l.Set(level)
	return l
}

// change sets the level for duration, or for good if duration is 0. It replaces an earlier limited
// change.
func (l *logLevel) change(level slog.Level, duration time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes++
	l.Set(level)
	if duration == 0 {
		l.normal = level
		return
	}

	change := l.changes
	time.AfterFunc(duration, func() { l.revert(change) })
}

// revert sets the normal level, unless there was a change after the given one.
func (l *logLevel) revert(change int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changes == change {
		l.Set(l.normal)
	}
}

// maxLogBytes bounds the lines that wait to be written. Lines beyond it are dropped.
const maxLogBytes = 1 << 20

// logWriter writes lines in the background, so that a slow reader of the log does not block requests.
// It drops and counts the lines that do not fit into its buffer, and logs the count when it can write
// again.
type logWriter struct {
	to      io.Writer
	report  *slog.Logger // logs the count of dropped lines to the writer directly
	dropped atomic.Int64 // lines
	cost    cpuMeter
	ended   chan struct{}

	mu      sync.Mutex
	changed sync.Cond // signalled when there is something to write and when closed is set
	waiting []byte    // whole lines
	held    bool      // nothing is written until release or close
	closed  bool
}

// newLogWriter returns a logWriter that the caller must close. report logs the count of dropped lines.
// It must write to the same writer, and not through this logWriter.
func newLogWriter(to io.Writer, report *slog.Logger) *logWriter {
	l := &logWriter{
		to:     to,
		report: report,
		ended:  make(chan struct{}),
	}
	l.changed.L = &l.mu
	go l.run()
	return l
}

// Write takes one line. It never blocks and never fails.
func (l *logWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.waiting)+len(line) > maxLogBytes {
		l.dropped.Add(1)
		return len(line), nil
	}

	if len(l.waiting) == 0 {
		l.changed.Signal()
	}
	l.waiting = append(l.waiting, line...)
	return len(line), nil
}

// hold keeps lines back until release, so that the greeting comes first.
func (l *logWriter) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

// release writes text, and then the lines that were held back.
func (l *logWriter) release(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append([]byte(text), l.waiting...)
	l.held = false
	l.changed.Signal()
}

// run writes until the writer is closed and everything is written.
func (l *logWriter) run() {
	defer close(l.ended)
	var lines []byte
	reported := int64(0)
	for closed := false; !closed; {
		lines, closed = l.next(lines)
		var n int
		var err error
		l.cost.run(func() { n, err = l.to.Write(lines) })
		if err != nil {
			lost := strings.Count(string(lines[n:]), "\n")
			l.dropped.Add(int64(lost))
			continue
		}

		dropped := l.dropped.Load()
		if dropped > reported {
			l.report.Warn("log lines dropped", "count", dropped-reported)
			reported = dropped
		}
	}
}

// next blocks until lines wait or the writer is closed, and returns the lines. written is the buffer
// that next returned before. It becomes the buffer for new lines.
func (l *logWriter) next(written []byte) (lines []byte, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for (len(l.waiting) == 0 || l.held) && !l.closed {
		l.changed.Wait()
	}
	lines = l.waiting
	l.waiting = written[:0]
	return lines, l.closed
}

// close writes what is waiting, for at most timeout.
func (l *logWriter) close(timeout time.Duration) {
	l.mu.Lock()
	l.closed = true
	l.changed.Signal()
	l.mu.Unlock()

	select {
	case <-l.ended:
	case <-time.After(timeout):
	}
}
