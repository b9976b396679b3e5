package main

// One record for each request and each background job, carried by the context. A record has stages, which time its
// parts. A finished record has four views: the log line, the metrics, the spans and the waterfall.

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// maxStages bounds the memory of a record. The last stage lasts until the last of all further stages has ended.
const maxStages = 64

// stageKind is what a stage measures. Metrics and spans depend on it. It is a number, so that a misspelt kind does not
// compile.
type stageKind uint8

const (
	stageDB       stageKind = iota // an operation of the store
	stageEmbed                     // turning texts into vectors
	stageSearch                    // a search from its parameters to its hits
	stageRank                      // the fusion of the two rankings in memory
	stageMCP                       // one JSON-RPC message
	stageTool                      // one call of a tool
	stageFile                      // reading or writing one file of DOCS_DIR
	stagePoolWait                  // waiting for a connection of the database pool
	stageKinds                     // how many kinds there are
)

var stageNames = [...]string{
	stageDB:     "db",
	stageEmbed:  "embed",
	stageSearch: "search",
	stageRank:   "rank",
	stageMCP:    "mcp",
	stageTool:   "tool",
	stageFile:   "file",

	stagePoolWait: "pool.wait",
}

// String returns the name that Server-Timing and the waterfall show.
func (k stageKind) String() string { return stageNames[k] }

// Transports of streams. The first two are server-sent events. A bulk load and a profile capture take long as well.
const (
	streamableHTTP = "streamable_http"
	legacySSE      = "sse"
	bulkStream     = "bulk"
	captureStream  = "capture"
)

// isEventStream reports whether the transport carries server-sent events.
func isEventStream(transport string) bool {
	return transport == streamableHTTP || transport == legacySSE
}

// recordPolicy is the configuration that all records share.
type recordPolicy struct {
	off      bool          // OBSERVABILITY=off: only failures are reported
	slow     time.Duration // a request that takes this long is logged as a warning and kept
	ratio    uint64        // records whose trace id is below it are kept: see isInRatio
	byCaller *limiter      // limits the records kept because their caller's traceparent is sampled

	cost *cpuMeter // what the records cost on the path of requests

	countStage  func(st *stageRecord)  // counts a stage beyond maxStages
	countStream func(transport string) // counts an event stream that has begun
}

// isInRatio decides by the trace id alone whether a record is kept, as OpenTelemetry's TraceIDRatioBased does, so that
// services with the same ratio keep the same traces.
func (p *recordPolicy) isInRatio(id trace.TraceID) bool {
	return binary.BigEndian.Uint64(id[8:])>>1 < p.ratio
}

// record describes one request or background job. Several goroutines may add stages to it.
type record struct {
	policy      *recordPolicy
	correlation string
	isTraceID   bool // the correlation id is the trace id
	trace       trace.TraceID
	span        trace.SpanID
	parent      trace.SpanID     // zero: the trace begins here
	state       trace.TraceState // the caller's tracestate, passed on
	sampled     bool             // kept whatever its outcome; its outgoing calls have the sampled flag
	kept        string           // why the trace is kept: ratio, caller, failed, slow; empty if it is not
	start       time.Time
	bodyReadAt  time.Time     // when the request's body had arrived; zero if the handler reads none
	took        time.Duration // 0 until the record is finished
	transport   string        // of a stream, which is never slow; else empty
	probe       bool          // a request of a probe: logged at debug; the recorder keeps only failures
	measured    bool          // what this record costs is measured
	traced      bool          // its execution trace is kept
	failure     string        // error.type if the server is at fault, else empty

	job string // name of the background job; empty for a request, which has the following fields

	method    string
	route     string // the pattern without its method
	path      string
	client    string
	userAgent string
	status    int
	bytes     int64

	mu           sync.Mutex // guards the following
	attrs        []slog.Attr
	attrBytes    int // of attrs: see maxAttrsBytes
	droppedAttrs int // beyond maxAttrs and maxAttrsBytes
	stages       []stageRecord
	summed       int // stages beyond maxStages
	busy         [stageKinds]busyTime
	kinds        []stageKind // of the stages, in the order in which each first began

	header http.Header // of the response; nil once finished

	// Room for the scopes, attributes and stages of most records, which saves a dozen allocations. scopeRoom is nil once
	// the record is finished, because scopes refer to the request.
	scopeRoom  *[6]scope
	usedScopes int
	attrRoom   [4]slog.Attr
	stageRoom  [6]stageRecord
	kindRoom   [4]stageKind
}

// busyTime is how long at least one stage of a kind ran.
type busyTime struct {
	running int           // stages that have begun and not ended
	since   time.Duration // when running last became 1
	total   time.Duration // until running last became 0
}

// stageRecord is one timed part of a record. Times count from the start of the record.
type stageRecord struct {
	kind   stageKind
	parent int // index of the surrounding stage, -1 for the record itself
	start  time.Duration
	end    time.Duration
	attrs  []slog.Attr
	err    error
	span   trace.SpanID
	remote *trace.SpanContext // the caller's span that is this stage's parent; nil: see parent
}

// scope is a context with its record and its stage.
type scope struct {
	context.Context
	record *record
	stage  int // index, -1 for the record itself
}

type scopeKey struct{}

// Value returns the scope itself for scopeKey. context.WithValue would allocate a second context.
func (s *scope) Value(key any) any {
	if key == (scopeKey{}) {
		return s
	}
	return s.Context.Value(key)
}

// currentScope returns the innermost scope of ctx, nil outside any record.
func currentScope(ctx context.Context) *scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

// newScope returns a context of the given stage, -1 for the record itself. The caller holds rec.mu, or no other goroutine
// has rec yet.
func (rec *record) newScope(ctx context.Context, stage int) *scope {
	if rec.scopeRoom == nil || rec.usedScopes == len(rec.scopeRoom) {
		return &scope{ctx, rec, stage}
	}
	s := &rec.scopeRoom[rec.usedScopes]
	rec.usedScopes++
	*s = scope{ctx, rec, stage}
	return s
}

// stage begins a stage of ctx's record. end ends it and takes the error of the stage:
//
//	ctx, end := stage(ctx, stageDB, slog.String("db.query.summary", "search"))
//	defer end(&err)
//
// Stages nest by their context. Attributes have the names of OpenTelemetry's semantic conventions. Outside a record
// it does nothing.
func stage(ctx context.Context, kind stageKind, attrs ...slog.Attr) (_ context.Context, end func(*error)) {
	s := currentScope(ctx)
	if s == nil || s.record.policy.off {
		return ctx, func(*error) {}
	}
	if !s.record.measured {
		return s.beginStage(ctx, kind, attrs)
	}

	cost := s.record.policy.cost
	began := time.Now()
	inside, endStage := s.beginStage(ctx, kind, attrs)
	cost.section(began)
	return inside, func(err *error) {
		began := time.Now()
		endStage(err)
		cost.section(began)
	}
}

// beginStage begins a stage inside the scope s of ctx.
func (s *scope) beginStage(ctx context.Context, kind stageKind, attrs []slog.Attr) (_ context.Context, end func(*error)) {
	rec := s.record
	st := stageRecord{
		kind:   kind,
		parent: s.stage,
		start:  time.Since(rec.start),
		attrs:  attrs,
	}
	boundAttrs(st.attrs)

	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.began(kind, st.start)
	i := len(rec.stages)
	if i == maxStages {
		return ctx, rec.sumStage(st)
	}
	randomID(st.span[:])
	rec.stages = append(rec.stages, st)
	return rec.newScope(ctx, i), func(err *error) {
		rec.mu.Lock()
		rec.stages[i].finish(rec, err)
		rec.mu.Unlock()
	}
}

// sumStage handles a stage beyond maxStages. end extends the last stage and counts the further one in the metrics.
func (rec *record) sumStage(st stageRecord) (end func(*error)) {
	rec.summed++
	return func(err *error) {
		rec.mu.Lock()
		st.finish(rec, err)
		last := &rec.stages[maxStages-1]
		last.end = max(last.end, st.end)
		rec.mu.Unlock()
		rec.policy.countStage(&st)
	}
}

// began notes that a stage of this kind has begun. The caller holds rec.mu.
func (rec *record) began(kind stageKind, at time.Duration) {
	busy := &rec.busy[kind]
	if busy.running == 0 {
		busy.since = at
	}
	busy.running++
	if !slices.Contains(rec.kinds, kind) {
		rec.kinds = append(rec.kinds, kind)
	}
}

// finish ends the stage. The caller holds rec.mu.
func (st *stageRecord) finish(rec *record, err *error) {
	st.end = time.Since(rec.start)
	if err != nil {
		st.err = *err
	}

	busy := &rec.busy[st.kind]
	busy.running--
	if busy.running == 0 {
		busy.total += st.end - busy.since
	}
}

// markStream makes ctx's record a stream of that transport, so that it never counts as slow.
func markStream(ctx context.Context, transport string) {
	s := currentScope(ctx)
	if s == nil {
		return
	}
	s.record.mu.Lock()
	s.record.transport = transport
	s.record.mu.Unlock()

	policy := s.record.policy
	if isEventStream(transport) && !policy.off {
		policy.countStream(transport)
	}
}

// markProbe marks ctx's record as that of a probe.
func markProbe(ctx context.Context) {
	if s := currentScope(ctx); s != nil {
		s.record.probe = true
	}
}

// markBodyRead starts the request's budget again, so that a slow upload does not use it up.
func markBodyRead(ctx context.Context) {
	if s := currentScope(ctx); s != nil {
		s.record.bodyReadAt = time.Now()
	}
}

// timeLeft returns how long a blocking call may take. It is the time to ctx's deadline if there is one. Otherwise it is
// the rest of the request's budget, and in background work backgroundBudget. The budget has no context with a timer,
// because that would cost more than most requests.
func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	s := currentScope(ctx)
	if s == nil || s.record.job != "" {
		return backgroundBudget
	}
	begin := s.record.start
	if !s.record.bodyReadAt.IsZero() {
		begin = s.record.bodyReadAt
	}
	return handlerBudget - time.Since(begin)
}

// isSlow reports whether a finished request took too long. Streams and jobs last as long as they must.
func (rec *record) isSlow() bool {
	return rec.took >= rec.policy.slow && rec.transport == "" && rec.job == ""
}

// isIdleJob reports whether a record is a job that found nothing to do.
func (rec *record) isIdleJob() bool { return rec.job != "" && len(rec.attrs) == 0 }

// clientAddress returns the address of the client and its port, 0 behind a proxy.
func (rec *record) clientAddress() (address string, port int) {
	peer, err := netip.ParseAddrPort(rec.client)
	if err != nil {
		return rec.client, 0
	}
	return peer.Addr().String(), int(peer.Port())
}

// clientOf returns the network that counts as the client of ctx's request: see clientPrefix. In background work it is
// anyClient.
func clientOf(ctx context.Context) netip.Prefix {
	s := currentScope(ctx)
	if s == nil {
		return anyClient
	}
	address, _ := s.record.clientAddress()
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return anyClient
	}
	return clientPrefix(addr)
}

// requestOrigin returns the correlation id of ctx's record, and who sent the request: the name that an MCP client states,
// else the user agent, and the address.
func requestOrigin(ctx context.Context) (correlation, client string) {
	s := currentScope(ctx)
	if s == nil {
		return "", ""
	}
	rec := s.record
	rec.mu.Lock()
	defer rec.mu.Unlock()
	name := rec.userAgent
	for _, a := range rec.attrs {
		if a.Key == "mcp_client" {
			name = a.Value.String()
		}
	}
	address, _ := rec.clientAddress()
	if name != "" {
		address = truncate(name, 64) + " from " + address
	}
	return rec.correlation, address
}

// kindDuration is how long at least one of a record's stages of one kind ran. Stages that run in parallel do not add up.
type kindDuration struct {
	kind stageKind
	took time.Duration
}

// durations appends the time of each kind of stage to times, in the order in which the kinds first began.
func (rec *record) durations(times []kindDuration) []kindDuration {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, kind := range rec.kinds {
		busy := &rec.busy[kind]
		took := busy.total
		if busy.running > 0 {
			took += time.Since(rec.start) - busy.since
		}
		times = append(times, kindDuration{kind, took})
	}
	return times
}

// routeLabel returns the path of a pattern as logs and metrics show it. An endpoint with a slash at its end counts as the
// one without.
func routeLabel(path string) string {
	endpoint, hasSlash := strings.CutSuffix(path, "/{$}")
	if hasSlash && endpoint != "" {
		return endpoint
	}
	return path
}

// randomID fills id, whose length is a multiple of 8, with random bytes. No group of 8 is all zero.
func randomID(id []byte) {
	for i := 0; i < len(id); i += 8 {
		binary.BigEndian.PutUint64(id[i:], rand.Uint64()|1)
	}
}

// milliseconds is the form of a duration in logs and answers, to the microsecond.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
