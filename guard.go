package main

// The guard: checks of the host, the origin, the rate, the token and the body's type, before a route's handler runs.

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// access says who may use a route.
type access int

const (
	open      access = iota // everybody, without a rate limit
	limited                 // everybody
	api                     // holders of API_TOKEN; everybody if there is none
	admin                   // holders of ADMIN_TOKEN
	profiling               // holders of ADMIN_TOKEN; the profiler's budget replaces RATE_LIMIT
)

// route is a line of the route table.
type route struct {
	pattern string
	access  access
	maxBody int64 // bytes; noLimit if the handler limits the body itself
	kind    routeKind
	handler handlerFunc
}

const noLimit = 0

// Each listener serves a part of the routes, or both parts.
const (
	servesSearch = "search"
	servesAdmin  = "admin"
	servesBoth   = servesSearch + " " + servesAdmin
)

// routeKind says how requests of a route are reported.
type routeKind int

const (
	short  routeKind = iota
	scrape           // machines ask it every few seconds: logged at debug only
	probe            // as scrape, and answers whatever the Host
	long             // may take long: never logged as slow, and not in the latency metrics
	browse           // as short, and browsers get its errors as pages
)

// guard returns an error if r must not reach the route's handler.
func (s *server) guard(w http.ResponseWriter, r *http.Request, rt *route) error {
	if err := s.checkOrigin(w, r); err != nil {
		return err
	}
	if rt.kind != probe {
		if err := s.checkHost(r); err != nil {
			return err
		}
	}
	if rt.access == limited || rt.access == api || rt.access == admin {
		if err := s.limit(r); err != nil {
			return err
		}
	}
	if rt.kind != probe {
		s.countForgedCookie(r)
	}
	if err := s.authorize(r, rt.access); err != nil {
		return err
	}
	return checkBodyType(r.Header)
}

// checkHost refuses a Host that is not served. This stops DNS rebinding. Every browser sends a Host, so a request without
// one comes from a program that speaks HTTP/1.0, such as the health check of a load balancer.
func (s *server) checkHost(r *http.Request) error {
	if r.Host == "" {
		return nil
	}
	host := hostname(r.Host)
	if allows(s.cfg.allowedHosts, host) || isOwnAddress(r, host) {
		return nil
	}

	return userErrorf(http.StatusForbidden,
		"host %.100q is not served here: add it to ALLOWED_HOSTS", host)
}

// isOwnAddress reports whether host is the IP address on which r arrived. Probes and scrapes send that address. It is
// safe to allow, because DNS rebinding needs a name.
func isOwnAddress(r *http.Request, host string) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	own := local.AddrPort().Addr()
	return addr.Unmap() == own.Unmap().WithZone("")
}

// checkOrigin refuses an Origin that is not allowed, and sets the CORS headers for one that is. It lets requests without
// Origin pass: browsers send it with every request by which another origin could read an answer or change data.
func (s *server) checkOrigin(w http.ResponseWriter, r *http.Request) error {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}

	isAllowed := allows(s.cfg.allowedOrigins, strings.ToLower(origin))
	if !isAllowed && !isOwnOrigin(origin, r.Host) {
		return userErrorf(http.StatusForbidden,
			"origin %.100q is not allowed: add it to ALLOWED_ORIGINS", origin)
	}

	h := w.Header()
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", exposedHeaders)
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE")
		h.Set("Access-Control-Allow-Headers", allowedHeaders)
		h.Set("Access-Control-Max-Age", "600")
	}
	return nil
}

// defaultPorts are those that an origin leaves out. Some proxies write them into Host all the same.
var defaultPorts = map[string]string{"http": ":80", "https": ":443"}

// isOwnOrigin reports whether an origin is that of the host.
func isOwnOrigin(origin, host string) bool {
	scheme, address, isOrigin := strings.Cut(strings.ToLower(origin), "://")
	port := defaultPorts[scheme]
	address = strings.TrimSuffix(address, port)
	return isOrigin && scheme != "" && address != "" && address == strings.TrimSuffix(strings.ToLower(host), port)
}

// Headers that pages of allowed origins may read and send.
const (
	exposedHeaders = "ETag, X-Correlation-ID, Retry-After, " +
		"Server-Timing, WWW-Authenticate, " +
		"Mcp-Session-Id, Mcp-Protocol-Version"
	allowedHeaders = "Authorization, Content-Type, " +
		"If-Match, If-None-Match, Last-Event-ID, " +
		"Mcp-Method, Mcp-Name, Mcp-Protocol-Version, Mcp-Session-Id, " +
		"Traceparent, Tracestate, X-Correlation-ID"
)

func allows(list []string, value string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, value)
}

// limit counts r against the rate limit of its client.
func (s *server) limit(r *http.Request) error {
	if s.limits.rate == 0 {
		return nil
	}
	client := s.proxies.prefix(r)
	wait := s.limits.take(client, time.Now())
	if wait > 0 {
		return tooManyRequests(wait,
			"too many requests: wait as long as Retry-After says, or raise RATE_LIMIT")
	}
	return nil
}

// authorize checks the token. The wrong tokens of a client share one budget over all routes. A client that has used it
// up gets 429 instead of 401. The right token always passes, so one client that guesses does not lock out the others behind
// the same address.
func (s *server) authorize(r *http.Request, needed access) error {
	err := s.checkToken(r, needed)
	isGuess := errors.Is(err, errWrongToken) && requestToken(r) != ""
	if !isGuess {
		return err
	}
	return cmp.Or(s.countFailure(r), err)
}

// countForgedCookie counts a cookie that the token has not made, because whoever guesses tokens can send the cookie of each
// guess. Open routes count it too: the page at / says whether a cookie is valid. The request is not refused: after a change
// of the token, browsers send the cookies of the old one, and must get the form.
func (s *server) countForgedCookie(r *http.Request) {
	if s.hasForgedCookie(r) {
		_ = s.countFailure(r)
	}
}

// countFailure counts a failed token against its client. The error has status 429 if there were too many.
func (s *server) countFailure(r *http.Request) error {
	s.authFailures.Add(1)
	client := s.proxies.prefix(r)
	wait := s.guesses.take(client, time.Now())
	if wait > 0 {
		return tooManyRequests(wait,
			"too many failed tokens: wait as long as Retry-After says")
	}
	return nil
}

func (s *server) checkToken(r *http.Request, needed access) error {
	if needed == open || needed == limited || needed == api && s.cfg.apiToken == "" {
		return nil
	}
	needsAdmin := needed == admin || needed == profiling
	if needsAdmin && s.cfg.adminToken == "" {
		return userError{http.StatusForbidden,
			"this route is closed: set ADMIN_TOKEN to open it to whoever has the token"}
	}

	token := requestToken(r)
	if token == "" {
		token = s.signedInToken(r)
	}
	isAPI := sameToken(token, s.cfg.apiToken)
	if needed == api && isAPI || sameToken(token, s.cfg.adminToken) {
		return nil
	}
	if isAPI {
		return userError{http.StatusForbidden,
			"API_TOKEN does not open this route: use ADMIN_TOKEN"}
	}

	challenge := `Bearer realm="vitrine"`
	if needsAdmin {
		challenge += `, Basic realm="vitrine"`
	}
	return headerError{errWrongToken, "WWW-Authenticate", challenge}
}

var errWrongToken = userError{
	http.StatusUnauthorized,
	"no valid token: send the header Authorization: Bearer TOKEN",
}

// requestToken returns the bearer token, or the password of Basic credentials. go tool pprof sends the token as such a
// password.
func requestToken(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// sameToken compares in constant time, so that the time does not reveal want or its length. If want is empty, nothing
// matches it.
func sameToken(given, want string) bool {
	a := sha256.Sum256([]byte(given))
	b := sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && want != ""
}

// checkBodyType refuses compressed and multipart bodies, because no handler reads them.
func checkBodyType(h http.Header) error {
	encoding := h.Get("Content-Encoding")
	if encoding != "" && !strings.EqualFold(encoding, "identity") {
		return userError{http.StatusUnsupportedMediaType,
			"the body must not be compressed: leave Content-Encoding out"}
	}
	contentType := strings.ToLower(h.Get("Content-Type"))
	if strings.HasPrefix(contentType, "multipart/") {
		return userError{http.StatusUnsupportedMediaType,
			"the body must not be multipart: with curl use --data-binary or -T instead of -F"}
	}
	return nil
}

// proxies are the networks whose X-Forwarded-For is trusted.
type proxies []netip.Prefix

// name returns the client as logs and traces show it: the address from a trusted proxy, else the peer with its port.
func (p proxies) name(r *http.Request) string {
	if !p.sent(r) {
		return r.RemoteAddr
	}
	return p.addr(r).String()
}

// sent reports whether r comes from a trusted proxy.
func (p proxies) sent(r *http.Request) bool {
	if len(p) == 0 {
		return false
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && p.contains(peer.Addr().Unmap().WithZone(""))
}

// prefix returns the network whose rate limit r counts against: one IPv4 address, or an IPv6 /64, which one subscriber
// usually has.
func (p proxies) prefix(r *http.Request) netip.Prefix { return clientPrefix(p.addr(r)) }

// addr returns the address of the client. If the peer is a trusted proxy, it is the last address in X-Forwarded-For that
// is not a trusted proxy's. Otherwise it is the peer's.
func (p proxies) addr(r *http.Request) netip.Addr {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	addr := peer.Addr().Unmap().WithZone("")
	if !p.contains(addr) {
		return addr
	}

	forwardedFor := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	hops := splitList(forwardedFor)
	for _, hop := range slices.Backward(hops) {
		forwarded, err := netip.ParseAddr(hop)
		if err != nil {
			break
		}
		addr = forwarded.Unmap().WithZone("")
		if !p.contains(addr) {
			break
		}
	}
	return addr
}

func (p proxies) contains(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool {
		return network.Contains(addr)
	})
}
