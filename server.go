package main

// The HTTP surface: one table of routes, and one place that guards them and turns errors into answers.

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Deadlines nest: what is outside waits longer than what is inside.
const (
	writeTimeout = 30 * time.Second
	readTimeout  = 30 * time.Second

	maxBodyBytes = 1 << 20
)

const (
	handlerBudget = 10 * time.Second // of the store and the embedder, for one request

	// backgroundBudget is for a document of 8 MiB too, which may have 100,000 sections.
	backgroundBudget = 5 * time.Minute
)

// timeLeft is how long whatever can block may still take: until ctx's deadline, else to the end of its request's budget,
// else, where no request waits for it, backgroundBudget. A timer for every request would cost more than most of them.
func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	if s := currentScope(ctx); s != nil && s.record.job == "" {
		begin := s.record.start
		if !s.record.read.IsZero() {
			begin = s.record.read
		}
		return handlerBudget - time.Since(begin)
	}
	return backgroundBudget
}

// server answers requests. Its fields are set before it serves.
type server struct {
	cfg     *settings
	log     *slog.Logger
	level   *logLevel
	logs    *logWriter
	observe *observer
	profile *profiler
	store   store
	folder  *folder // nil: nothing is followed
	limits  *limiter
	strikes *limiter // failed tokens on the profiling routes
	streams *streams

	ready    atomic.Bool   // false before serving, and again once a drain has begun
	stopping chan struct{} // closed when streams must end
	metrics  http.Handler  // of /metrics
	known    knownState
}

// access says who may use a route.
type access int

const (
	open      access = iota // anybody, never limited: probes
	api                     // who has API_TOKEN, or anybody if there is none
	admin                   // who has ADMIN_TOKEN
	profiling               // the same, limited by a budget of its own instead of RATE_LIMIT
)

// route is a line of the route table.
type route struct {
	pattern string
	access  access
	maxBody int64 // bytes; noLimit for bulk loads and captures, which last; ownLimits where the handler sees to it
	handler func(w http.ResponseWriter, r *http.Request) error
}

const (
	noLimit   = -1
	ownLimits = -2
)

// routes is the whole HTTP surface of a listener that serves "search", "admin" or both.
func (s *server) routes(serves string) []route {
	tables := map[string][]route{
		"search": {
			{"POST /mcp", api, ownLimits, s.handleMCP},                         // claude mcp add --transport http docs http://127.0.0.1:8080/mcp
			{"GET /mcp", api, ownLimits, s.handleNotifications},                // curl -N -H 'Accept: text/event-stream' :8080/mcp
			{"GET /sse", api, ownLimits, s.handleSSE},                          // curl -N :8080/sse
			{"POST /messages", api, ownLimits, s.handleMessages},               // curl -H 'Content-Type: application/json' -d … ':8080/messages?sessionId=…'
			{"GET /search", api, maxBodyBytes, s.handleSearch},                 // curl ':8080/search?q=install'
			{"GET /documents", api, maxBodyBytes, s.handleList},                // curl ':8080/documents?prefix=guide/'
			{"POST /documents", admin, noLimit, s.handleBulk},                  // curl --data-binary @docs.ndjson
			{"GET /documents/{id...}", api, maxBodyBytes, s.handleGet},         // curl :8080/documents/README.md
			{"PUT /documents/{id...}", admin, maxDocumentBytes, s.handlePut},   // curl -T install.md
			{"DELETE /documents/{id...}", admin, maxBodyBytes, s.handleDelete}, // curl -X DELETE
		},
		"admin": append(s.profile.routes(), []route{
			{"GET /metrics", open, maxBodyBytes, s.handleMetrics},              // curl :8080/metrics
			{"GET /debug/requests", admin, maxBodyBytes, s.handleRequests},     // curl -u :$ADMIN_TOKEN :8080/debug/requests
			{"GET /debug/requests/{id}", admin, maxBodyBytes, s.handleRequest}, // the waterfall of a correlation or trace id
			{"GET /debug/loglevel", admin, maxBodyBytes, s.handleLogLevel},     // curl -u :$ADMIN_TOKEN :8080/debug/loglevel
			{"PUT /debug/loglevel", admin, maxBodyBytes, s.handleSetLogLevel},  // curl -X PUT -d debug ':8080/debug/loglevel?for=10m'
		}...),
	}
	routes := []route{
		{"GET /{$}", open, maxBodyBytes, s.handleIndex(serves)}, // curl :8080, or a browser
		{"GET /livez", open, maxBodyBytes, s.handleLive},        // curl :8080/livez
		{"GET /healthz", open, maxBodyBytes, s.handleLive},      // the same, by its older name
		{"GET /readyz", open, maxBodyBytes, s.handleReady},      // curl ':8080/readyz?verbose'
	}
	for name := range strings.FieldsSeq(serves) {
		routes = append(routes, tables[name]...)
	}
	return routes
}

// handler returns the handler of a listener that serves "search", "admin" or both.
func (s *server) handler(serves string) http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.routes(serves) {
		mux.Handle(rt.pattern, s.handle(rt))
	}
	// A catch-all would turn each 405 into a 404, so this one finds out which it is. Without "/documents" PUT /documents
	// would be redirected, and without those of HEAD a stream's GET would answer it.
	for _, pattern := range []string{"/", "/documents", "HEAD /mcp", "HEAD /sse"} {
		mux.Handle(pattern, s.handle(route{pattern, open, maxBodyBytes, func(w http.ResponseWriter, r *http.Request) error {
			return unmatched(mux, w, r)
		}}))
	}
	return s.observe.observe(mux)
}

// unmatched answers a request that no route answers: a CORS preflight, which the guard has let through, with 204; others
// with 405 if another method would do, else 404.
func unmatched(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	var allowed []string
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
		other := http.Request{Method: method, Host: r.Host, URL: r.URL}
		if _, pattern := mux.Handler(&other); strings.Contains(pattern, " ") && !strings.HasPrefix(pattern, "HEAD") {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		return userError{http.StatusNotFound, "no such page: GET / lists the routes"}
	}
	list := strings.Join(allowed, ", ")
	return headerError{userError{http.StatusMethodNotAllowed, "method not allowed here: use " + list}, "Allow", list}
}

// Header values that are the same in most answers, set without making them anew.
var nosniff, noStore, jsonType = []string{"nosniff"}, []string{"no-store"}, []string{"application/json"}

// handle guards a route and makes the answer of an error.
func (s *server) handle(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Content-Type-Options"] = nosniff
		err := s.guard(w, r, rt)
		if err == nil {
			err = s.call(w, r, rt)
		}
		if err != nil {
			s.answerError(w, r, err)
		}
	})
}

// call calls the route's handler within its limits.
func (s *server) call(w http.ResponseWriter, r *http.Request, rt route) error {
	ctx, restore := s.profile.label(r.Context(), "route", rt.pattern)
	defer restore()
	switch rt.maxBody {
	case ownLimits:
	case noLimit:
		markStream(ctx, bulkStream)
	default:
		r.Body = http.MaxBytesReader(w, r.Body, rt.maxBody)
	}
	if ctx != r.Context() { // a copy of the request is not for nothing
		r = r.WithContext(ctx)
	}
	return rt.handler(w, r)
}

// guard refuses what may not reach the route's handler.
func (s *server) guard(w http.ResponseWriter, r *http.Request, rt route) error {
	if err := s.checkOrigin(w, r); err != nil {
		return err
	}
	if host := hostname(r.Host); !allows(s.cfg.allowedHosts, host) && !isOwnAddress(r, host) {
		return userError{http.StatusForbidden, fmt.Sprintf("host %.100q is not served here: add it to ALLOWED_HOSTS", host)}
	}
	if rt.access == api || rt.access == admin {
		if err := s.limit(r); err != nil {
			return err
		}
	}
	if err := s.authorize(r, rt.access); err != nil {
		if rt.access == profiling {
			if wait := s.strikes.take(s.client(r), time.Now()); wait > 0 {
				return tooManyRequests(wait, "too many failed tokens: wait as long as Retry-After says")
			}
		}
		return err
	}
	switch encoding := r.Header.Get("Content-Encoding"); {
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return userError{http.StatusUnsupportedMediaType, "the body must not be compressed: leave Content-Encoding out"}
	case strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "multipart/"):
		return userError{http.StatusUnsupportedMediaType, "the body must not be multipart: with curl use --data-binary or -T instead of -F"}
	}
	return nil
}

// limit counts one request of r's client.
func (s *server) limit(r *http.Request) error {
	if s.limits.rate == 0 {
		return nil
	}
	if wait := s.limits.take(s.client(r), time.Now()); wait > 0 {
		return tooManyRequests(wait, "too many requests: wait as long as Retry-After says, or raise RATE_LIMIT")
	}
	return nil
}

func tooManyRequests(wait time.Duration, message string) error {
	return headerError{userError{http.StatusTooManyRequests, message}, "Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds())))}
}

// checkOrigin refuses requests that a page of another origin makes unless that is allowed, whatever the host, and sets the
// CORS headers where it is.
func (s *server) checkOrigin(w http.ResponseWriter, r *http.Request) error {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	u, err := url.Parse(origin)
	isOwn := err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
	if !isOwn && !allows(s.cfg.allowedOrigins, strings.ToLower(origin)) {
		return userError{http.StatusForbidden, fmt.Sprintf("origin %.100q is not allowed: add it to ALLOWED_ORIGINS", origin)}
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "ETag, X-Correlation-ID, Retry-After, Server-Timing, Mcp-Session-Id, Mcp-Protocol-Version")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match, If-None-Match, Last-Event-ID, Mcp-Method, Mcp-Name, "+
			"Mcp-Protocol-Version, Mcp-Session-Id, Traceparent, Tracestate, X-Correlation-ID")
		h.Set("Access-Control-Max-Age", "600")
	}
	return nil
}

// hostname returns host without its port, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
}

func allows(list []string, value string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, value)
}

// isOwnAddress reports whether host is the very address that r came in on, which is how probes and scrapes ask: DNS rebinding
// comes with a name.
func isOwnAddress(r *http.Request, host string) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap() == local.AddrPort().Addr().Unmap().WithZone("")
}

// authorize checks the bearer token, or the password of Basic credentials.
func (s *server) authorize(r *http.Request, needed access) error {
	if needed == open || needed == api && s.cfg.apiToken == "" {
		return nil
	}
	if needed >= admin && s.cfg.adminToken == "" {
		return userError{http.StatusForbidden, "this route is closed: set ADMIN_TOKEN to open it to whoever has the token"}
	}
	token := bearer(r)
	isAPI, challenge := sameToken(token, s.cfg.apiToken), `Bearer realm="vitrine"`
	switch {
	case needed == api && isAPI || sameToken(token, s.cfg.adminToken):
		return nil
	case isAPI:
		return userError{http.StatusForbidden, "API_TOKEN does not open this route: use ADMIN_TOKEN"}
	case needed >= admin:
		challenge += `, Basic realm="vitrine"`
	}
	return headerError{userError{http.StatusUnauthorized, "no valid token: send the header Authorization: Bearer TOKEN"}, "WWW-Authenticate", challenge}
}

func bearer(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// sameToken compares in a time that tells nothing of the token, its length included. An empty token is nobody's.
func sameToken(given, want string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && want != ""
}

// client returns the address that r is counted under: the peer's, or what a trusted proxy says of it. An IPv6 client
// counts by its /64, which is what one subscriber gets.
func (s *server) client(r *http.Request) netip.Prefix {
	addr := s.address(r)
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // the number of bits fits the address
	return prefix
}

// clientName is how logs and traces name who asks.
func (s *server) clientName(r *http.Request) string {
	if len(s.cfg.trustedProxies) == 0 {
		return r.RemoteAddr
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && s.isTrusted(peer.Addr().Unmap()) {
		return s.address(r).String()
	}
	return r.RemoteAddr
}

// address returns the peer's address, or what a trusted proxy says of it.
func (s *server) address(r *http.Request) netip.Addr {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	addr := peer.Addr().Unmap().WithZone("")
	if !s.isTrusted(addr) {
		return addr
	}
	for _, before := range slices.Backward(splitList(strings.Join(r.Header.Values("X-Forwarded-For"), ","))) {
		forwarded, err := netip.ParseAddr(before)
		if err != nil {
			break
		}
		if addr = forwarded.Unmap().WithZone(""); !s.isTrusted(addr) {
			break
		}
	}
	return addr
}

func (s *server) isTrusted(addr netip.Addr) bool {
	return slices.ContainsFunc(s.cfg.trustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func (s *server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// userError is the caller's fault. Its message is lower-case, says what to do, and goes to the caller.
type userError struct {
	status  int
	message string
}

func (e userError) Error() string { return e.message }

// headerError is a userError with a header that its status calls for.
type headerError struct {
	userError
	key, value string
}

func (e headerError) Unwrap() error { return e.userError }

// errUnavailable wraps what keeps the store from answering for the moment: 503.
var errUnavailable = errors.New("unavailable")

// answerError is the only place where an error becomes a response. The caller learns of his own faults, the log of ours.
func (s *server) answerError(w http.ResponseWriter, r *http.Request, err error) {
	note(r.Context(), slog.String("error", err.Error()))
	if sent, ok := w.(*response); ok && sent.status != 0 { // too late for a status: the log tells
		return
	}
	if told(err).status >= http.StatusInternalServerError {
		markFailed(r.Context(), err)
	}
	writeError(w, r, err)
}

// told is what a caller is told of err.
func told(err error) userError {
	user, isUsers := errors.AsType[userError](err)
	tooLarge, isTooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case isUsers:
		return user
	case isTooLarge:
		return userError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	case errors.Is(err, context.Canceled):
		return userError{statusClientClosed, "the client went away"}
	case errors.Is(err, errUnavailable), errors.Is(err, context.DeadlineExceeded):
		return userError{http.StatusServiceUnavailable, "cannot answer right now: try again in a moment; /readyz?verbose says more"}
	}
	return userError{http.StatusInternalServerError, "internal error: try once more; the log says more under this correlation_id"}
}

// errorBody is the JSON form of an error.
type errorBody struct {
	Code          string `json:"code"`
	Message       string `json:"message"`
	CorrelationID string `json:"correlation_id"`
}

// writeError answers with what a caller is told of err.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	user, h := told(err), w.Header()
	h.Del("ETag")
	h.Set("Cache-Control", "no-store")
	if user.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	if special, ok := errors.AsType[headerError](err); ok {
		h.Set(special.key, special.value)
	}
	if speaksJSONRPC(r) {
		writeJSON(w, user.status, refusal(user, h.Get("X-Correlation-Id")))
		return
	}
	code := "client_closed_request" // the one status without a text
	if text := http.StatusText(user.status); text != "" {
		code = strings.ReplaceAll(strings.ToLower(text), " ", "_")
	}
	writeJSON(w, user.status, map[string]errorBody{"error": {code, user.message, h.Get("X-Correlation-Id")}})
}

// writeJSON answers with v. That the client may have gone is seen by whoever writes the log line.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v)
}

// limiter is a token bucket per client, in a map of bounded size.
type limiter struct {
	rate, burst float64 // rate 0: no limit
	max         int

	mu      sync.Mutex
	buckets map[netip.Prefix]time.Time // when each will be full again, which says how full it is
}

// anyClient is the key of a limiter that all clients share.
var anyClient netip.Prefix

func newLimiter(rate, burst float64) *limiter {
	return &limiter{rate: rate, burst: burst, max: 10_000, buckets: make(map[netip.Prefix]time.Time)}
}

// take takes a token of the client's bucket, or says how long it takes until there is one.
func (l *limiter) take(client netip.Prefix, now time.Time) (wait time.Duration) {
	if l.rate == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	full, known := l.buckets[client]
	if full.Before(now) {
		full = now
	}
	full = full.Add(time.Duration(float64(time.Second) / l.rate))
	if wait = full.Sub(now) - time.Duration(float64(time.Second)*l.burst/l.rate); wait > 0 {
		return wait
	}
	if !known && len(l.buckets) >= l.max {
		l.evict()
	}
	l.buckets[client] = full
	return 0
}

// evict keeps the map bounded: of a few buckets, whichever the map yields first, the fullest goes.
func (l *limiter) evict() {
	var victim netip.Prefix
	looked := 0
	for client, full := range l.buckets {
		if looked == 0 || full.Before(l.buckets[victim]) {
			victim = client
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(l.buckets, victim)
}
