package main

// One record for each request and each background job, carried by the context, and everything that is made from it
// once it is finished. Nothing else measures time or writes a line per request.

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

const (
	// maxStages bounds what one record holds; further stages are summed into the last one.
	maxStages = 64

	// statusClientClosed is what the log says where the client went away before its answer (nginx's 499).
	statusClientClosed = 499
)

// observer makes the records and reports them.
type observer struct {
	log  *slog.Logger
	slow time.Duration // from here on a request is worth a warning
}

// record is what is known of one request or background job. Its stages may come from several goroutines.
type record struct {
	correlation string
	trace       [16]byte
	span        [8]byte
	parent      [8]byte // zero: the trace begins here
	start       time.Time
	streams     bool // takes as long as the client wants: never slow

	mu     sync.Mutex
	attrs  []slog.Attr
	stages []stageRecord
	summed int // stages beyond maxStages
}

// stageRecord is one timed part of a record.
type stageRecord struct {
	name       string
	parent     int // index of the stage around it, -1: the record itself
	start, end time.Duration
	attrs      []slog.Attr
	err        error
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

// stage times a part of ctx's record until end is called with the error it ended in:
//
//	ctx, end := stage(ctx, "db", slog.String("query", "search"))
//	defer end(&err)
//
// Stages nest by their context. Outside a record it does nothing.
func stage(ctx context.Context, name string, attrs ...slog.Attr) (_ context.Context, end func(*error)) {
	s := currentScope(ctx)
	if s == nil {
		return ctx, func(*error) {}
	}
	rec := s.record
	started := time.Since(rec.start)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	at := len(rec.stages)
	if at == maxStages {
		rec.summed++
		return ctx, func(*error) {
			rec.mu.Lock()
			rec.stages[maxStages-1].end += time.Since(rec.start) - started
			rec.mu.Unlock()
		}
	}
	rec.stages = append(rec.stages, stageRecord{name: name, parent: s.stage, start: started, attrs: attrs})
	return &scope{ctx, rec, at}, func(err *error) {
		rec.mu.Lock()
		st := &rec.stages[at]
		st.end = time.Since(rec.start)
		if err != nil {
			st.err = *err
		}
		rec.mu.Unlock()
	}
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

// markStream says that ctx's record lasts as long as its client wants.
func markStream(ctx context.Context) {
	if s := currentScope(ctx); s != nil {
		s.record.streams = true
	}
}

// observe is the outermost handler: it gives each request its record and reports it, whatever becomes of the request.
func (o *observer) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := newRecord(r.Header)
		w.Header().Set("X-Correlation-ID", rec.correlation)
		r = r.WithContext(&scope{r.Context(), rec, -1})
		rw := &response{ResponseWriter: w}
		defer func() {
			broken := recover()
			if broken != nil && broken != http.ErrAbortHandler {
				o.log.ErrorContext(r.Context(), "handler panicked", "error", fmt.Sprint(broken), "stack", string(debug.Stack()))
				if rw.status == 0 {
					writeError(rw, errors.New("panic"))
					broken = nil
				}
			}
			o.report(r, rw, rec)
			if broken != nil {
				panic(http.ErrAbortHandler) // the answer is cut off: the client must not take it for whole
			}
		}()
		next.ServeHTTP(rw, r)
	})
}

// report writes the one log line of a finished request.
func (o *observer) report(r *http.Request, w *response, rec *record) {
	took := time.Since(rec.start)
	status := w.status
	if status == 0 {
		status = http.StatusOK
		if r.Context().Err() != nil {
			status = statusClientClosed
		}
	}
	level := slog.LevelInfo
	switch {
	case status >= 500:
		level = slog.LevelError
	case took >= o.slow && !rec.streams:
		level = slog.LevelWarn
	case isProbe(r):
		level = slog.LevelDebug
	}
	if !o.log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("route", routeOf(r)), slog.String("path", r.URL.Path),
		slog.Int("status", status), slog.Float64("took_ms", milliseconds(took)), slog.Int64("bytes", w.bytes),
		slog.String("client", r.RemoteAddr), slog.String("user_agent", truncate(r.UserAgent(), 256)),
	}
	if rec.parent != [8]byte{} {
		attrs = append(attrs, slog.String("parent_id", hex.EncodeToString(rec.parent[:])))
	}
	o.log.LogAttrs(r.Context(), level, "request", append(attrs, rec.summary()...)...)
}

// summary returns the record's own attributes and the time in its stages by their name: db_ms, embed_ms and so on.
func (rec *record) summary() []slog.Attr {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	attrs := rec.attrs
	for i, st := range rec.stages {
		var total time.Duration
		first := true
		for j, other := range rec.stages {
			if other.name == st.name {
				first = first && j >= i
				total += other.end - other.start
			}
		}
		if first {
			attrs = append(attrs, slog.Float64(st.name+"_ms", milliseconds(total)))
		}
	}
	if rec.summed > 0 {
		attrs = append(attrs, slog.Int("stages_summed", rec.summed))
	}
	return attrs
}

// job begins a record for background work; end reports it: failures as warnings, the rest at debug unless it noted
// something.
func (o *observer) job(ctx context.Context, name string) (_ context.Context, end func(*error)) {
	rec := newRecord(nil)
	ctx = &scope{ctx, rec, -1}
	return ctx, func(err *error) {
		attrs := append([]slog.Attr{slog.String("job", name), slog.Float64("took_ms", milliseconds(time.Since(rec.start)))}, rec.summary()...)
		level := slog.LevelDebug
		if len(rec.attrs) > 0 {
			level = slog.LevelInfo
		}
		if err != nil && *err != nil && ctx.Err() == nil {
			level = slog.LevelWarn
			attrs = append(attrs, slog.String("error", (*err).Error()))
		}
		o.log.LogAttrs(ctx, level, "job", attrs...)
	}
}

// newRecord begins a record. A usable X-Correlation-ID and traceparent are taken over; without the first the
// correlation id is the trace id, so that it opens the trace.
func newRecord(h http.Header) *record {
	rec := &record{start: time.Now()}
	if !parseTraceparent(h.Get("Traceparent"), &rec.trace, &rec.parent) {
		randomID(rec.trace[:])
	}
	randomID(rec.span[:])
	if rec.correlation = h.Get("X-Correlation-ID"); !isCorrelationID(rec.correlation) {
		rec.correlation = hex.EncodeToString(rec.trace[:])
	}
	return rec
}

// randomID fills id, whose length is a multiple of 8, with random bytes that are not all zero.
func randomID(id []byte) {
	for i := 0; i < len(id); i += 8 {
		binary.BigEndian.PutUint64(id[i:], rand.Uint64()|1)
	}
}

// parseTraceparent reads a traceparent header (W3C Trace Context, section 3.2). Whatever is malformed counts as absent.
func parseTraceparent(s string, trace *[16]byte, parent *[8]byte) bool {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" || len(s) > length && (s[:2] == "00" || s[length] != '-') {
		return false
	}
	if strings.Trim(s[:2]+s[3:35]+s[36:52]+s[53:55], "0123456789abcdef") != "" {
		return false
	}
	var t [16]byte
	var p [8]byte
	_, _ = hex.Decode(t[:], []byte(s[3:35])) // the digits are checked above
	_, _ = hex.Decode(p[:], []byte(s[36:52]))
	if t == [16]byte{} || p == [8]byte{} {
		return false
	}
	*trace, *parent = t, p
	return true
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

// isProbe reports whether r is asked every few seconds by a machine: such lines are for debugging alone.
func isProbe(r *http.Request) bool {
	switch routeOf(r) {
	case "/livez", "/healthz", "/readyz", "/metrics":
		return true
	}
	return false
}

// response is a ResponseWriter that remembers what was answered.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader remembers the status, but for the informational ones.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
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
			return slog.Time("timestamp", a.Value.Time().UTC())
		case slog.MessageKey:
			a.Key = "message"
		case slog.LevelKey:
			a.Value = slog.StringValue(strings.ToLower(a.Value.String()))
		}
		return a
	}
	h := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: rename})
	return slog.New(recordHandler{h}).With("service_name", cfg.serviceName, "version", version(), "environment", cfg.environment)
}

// recordHandler adds the ids of the context's record to each line.
type recordHandler struct{ slog.Handler }

func (h recordHandler) Handle(ctx context.Context, line slog.Record) error {
	if s := currentScope(ctx); s != nil {
		rec := s.record
		with := slog.NewRecord(line.Time, line.Level, line.Message, line.PC)
		with.AddAttrs(slog.String("correlation_id", rec.correlation), slog.String("trace_id", hex.EncodeToString(rec.trace[:])),
			slog.String("span_id", hex.EncodeToString(rec.span[:])))
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

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// truncate cuts s to at most n bytes without splitting a character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
