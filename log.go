package main

// View 1 of a record: its log line. The logger, its level, and its writer, which blocks nobody.

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// logRecord writes the one line of a finished record.
func logRecord(log *slog.Logger, rec *record) {
	level := rec.logLevel()
	handler := log.Handler()
	ctx := context.Background() // recordHandler adds no ids: they stand first among the attributes below
	if rec.policy.off && level < slog.LevelWarn || !handler.Enabled(ctx, level) {
		return
	}
	message := "request"
	if rec.job != "" {
		message = "job"
	}
	var room [24]slog.Attr
	line := slog.NewRecord(rec.start.Add(rec.took), level, message, 0)
	line.AddAttrs(rec.appendLogAttrs(room[:0])...)
	_ = handler.Handle(ctx, line) // the writer counts the lines that it loses
}

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

// appendLogAttrs appends what a line says, in the order in which it says it.
func (rec *record) appendLogAttrs(attrs []slog.Attr) []slog.Attr {
	ids := rec.ids()
	attrs = append(attrs, ids[:]...)
	if rec.job != "" {
		attrs = append(attrs, slog.String("job", rec.job))
	} else {
		attrs = rec.appendRequestAttrs(attrs)
	}
	attrs = append(attrs, slog.Float64("took_ms", milliseconds(rec.took)))

	// The waterfall has the other stages: a float costs as much as five strings.
	var room [8]kindDuration
	for _, d := range rec.durations(room[:0]) {
		switch {
		case d.took < time.Microsecond:
		case d.kind == stageDB:
			attrs = append(attrs, slog.Float64("db_ms", milliseconds(d.took)))
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
	return append(attrs, rec.attrs...)
}

func (rec *record) appendRequestAttrs(attrs []slog.Attr) []slog.Attr {
	attrs = append(attrs,
		slog.String("method", rec.method),
		slog.String("route", rec.route))
	if rec.path != rec.route {
		attrs = append(attrs, slog.String("path", rec.path))
	}
	attrs = append(attrs,
		slog.Int("status", rec.status),
		slog.Int64("bytes", rec.bytes),
		slog.String("client", rec.client))
	if rec.userAgent != "" {
		attrs = append(attrs, slog.String("user_agent", rec.userAgent))
	}
	return attrs
}

// ids returns the three attributes that lead from a log line to everything else.
func (rec *record) ids() [3]slog.Attr {
	return [3]slog.Attr{
		slog.String("correlation_id", rec.correlation),
		slog.String("trace_id", rec.traceID()),
		slog.String("span_id", rec.span.String()),
	}
}

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
