package main

// What is refused before a route's handler is called: hosts, origins, tokens, and clients that ask too often.

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

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
			if wait := s.authFailures.take(s.client(r), time.Now()); wait > 0 {
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
