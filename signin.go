package main

// Sign-in: a cookie that stands for a token, so that a browser can read. It allows GET and HEAD where the token does,
// and nothing else. It holds a keyed hash of the time of the sign-in, so every replica can check it, and a new
// token ends it.

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// signInCookie is the name of the cookie. It has no path, so that browsers use the path prefix of the address.
	signInCookie = "vitrine"

	signInLifetime = 30 * 24 * time.Hour
	maxSignInBytes = 8 << 10
)

// What a cookie opens.
const (
	signedInAPI   = "api"
	signedInAdmin = "admin"
)

// newSignInCookie returns the cookie. A negative lifetime deletes it.
func newSignInCookie(r *http.Request, value string, lifetime time.Duration) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // not Secure over plain HTTP, where a browser would drop it
		Name:     signInCookie,
		Value:    value,
		MaxAge:   int(lifetime.Seconds()),
		Secure:   isSecure(r),
		HttpOnly: true,
		SameSite: http.SameSiteStrictMode,
	}
}

// isSecure reports whether the client uses HTTPS, as the proxy in front says.
func isSecure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// tokenOf returns the token that a cookie of this kind stands for, empty if there is none.
func (s *server) tokenOf(kind string) string {
	switch kind {
	case signedInAPI:
		return s.cfg.apiToken
	case signedInAdmin:
		return s.cfg.adminToken
	}
	return ""
}

// cookieValue returns the cookie of a sign-in: KIND.SECONDS.MAC.
func (s *server) cookieValue(kind string, at time.Time) string {
	signed := kind + "." + strconv.FormatInt(at.Unix(), 10)
	return signed + "." + s.cookieMAC(kind, signed)
}

// cookieMAC returns the keyed hash of what a cookie says. The key is the token that it stands for.
func (s *server) cookieMAC(kind, signed string) string {
	key := s.tokenOf(kind)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("vitrine sign-in " + signed))
	return hex.EncodeToString(mac.Sum(nil))
}

// signedInAs returns what the cookie of r opens, empty if there is no valid one.
func (s *server) signedInAs(r *http.Request) string {
	kind, seconds, isGenuine := s.readCookie(r)
	age := time.Since(time.Unix(seconds, 0))
	if !isGenuine || age < -time.Minute || age > signInLifetime {
		return ""
	}
	return kind
}

// hasForgedCookie reports whether r has a cookie that the token has not made: an attempt to guess the token, or the cookie
// of a token that was replaced.
func (s *server) hasForgedCookie(r *http.Request) bool {
	kind, _, isGenuine := s.readCookie(r)
	return kind != "" && !isGenuine
}

// readCookie returns what the cookie of r says: the kind of token, and when it was signed in. The kind is empty if r has no
// cookie of that form, or if the server has no such token. The cookie is genuine if the token has made it.
func (s *server) readCookie(r *http.Request) (kind string, seconds int64, isGenuine bool) {
	cookie, err := r.Cookie(signInCookie)
	if err != nil {
		return "", 0, false
	}
	parts := strings.Split(cookie.Value, ".")
	if len(parts) != 3 || s.tokenOf(parts[0]) == "" {
		return "", 0, false
	}
	seconds, err = strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return "", 0, false
	}

	kind = parts[0]
	mac := s.cookieMAC(kind, kind+"."+parts[1])
	isGenuine = hmac.Equal([]byte(mac), []byte(parts[2]))
	return kind, seconds, isGenuine
}

// signedInToken returns the token that the cookie of r stands for, or "" unless r only reads.
func (s *server) signedInToken(r *http.Request) string {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return ""
	}
	return s.tokenOf(s.signedInAs(r))
}
