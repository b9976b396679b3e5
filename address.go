package main

// The URLs under which readers find documents: those of the site that DOCS_URL names, else those of this server's own
// pages. The latter depend on the request, because the server does not know its name.

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// maxURLBytes bounds the URLs of documents. A longer one leaves out its fragment.
const maxURLBytes = 2000

// addresses makes the URLs of documents.
type addresses struct {
	site  url.URL // its path ends before the slash that begins the path of a document
	isOwn bool    // site is this server
}

// addresses returns the addresses for the answer to r.
func (s *server) addresses(r *http.Request) addresses {
	if s.cfg.docsURL != nil {
		return addresses{site: *s.cfg.docsURL}
	}
	return addresses{site: s.ownURL(r), isOwn: true}
}

// of returns the URL of a document, or of its heading with this slug.
func (a addresses) of(id, slug string) string {
	u := a.site
	if a.isOwn {
		u.Path += "/read/" + id
	} else {
		u.Path += "/" + sitePath(id)
	}
	u.Fragment = slug

	address := u.String()
	if len(address) > maxURLBytes {
		u.Fragment = ""
		return u.String()
	}
	return address
}

// setHits sets the URLs of hits.
func (a addresses) setHits(hits []hit) {
	for i, h := range hits {
		hits[i].URL = a.of(h.Document, h.slug)
	}
}

// setDocuments sets the URLs of documents.
func (a addresses) setDocuments(documents []documentInfo) {
	for i, d := range documents {
		documents[i].URL = a.of(d.ID, "")
	}
}

// sitePath returns the path that sites give a document: without its suffix. The page of an index is that of its folder.
func sitePath(id string) string { return withoutIndex(withoutSuffix(id)) }

// ownURL returns the URL of this server as the client of r sees it. A trusted proxy says in X-Forwarded-Proto, -Host and
// -Prefix how clients reach it. The values of other peers are ignored: anybody can send them.
func (s *server) ownURL(r *http.Request) url.URL {
	own := url.URL{Scheme: "http", Host: r.Host}
	if !isPlainHost(own.Host) {
		own.Host = fmt.Sprint(r.Context().Value(http.LocalAddrContextKey)) // HTTP/1.0 needs no Host
	}
	if !s.proxies.sent(r) {
		return own
	}

	if strings.EqualFold(forwarded(r, "X-Forwarded-Proto"), "https") {
		own.Scheme = "https"
	}
	if host := forwarded(r, "X-Forwarded-Host"); isPlainHost(host) {
		own.Host = host
	}
	if prefix := forwarded(r, "X-Forwarded-Prefix"); plainPrefix.MatchString(prefix) {
		own.Path = strings.TrimRight(prefix, "/")
	}
	return own
}

var plainPrefix = regexp.MustCompile(`^(?:/[\w.~-]+)+/?$`)

const (
	digits         = "0123456789"
	hostCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.-" + digits
)

// isPlainHost reports whether host is a name or an IP address, an IPv6 address in brackets, with a port or without one.
func isPlainHost(host string) bool {
	name := host
	at := strings.LastIndexByte(host, ':')
	if at >= 0 && !strings.HasSuffix(host, "]") {
		name = host[:at]
		port := host[at+1:]
		isPort := 1 <= len(port) && len(port) <= 5 && strings.Trim(port, digits) == ""
		if !isPort {
			return false
		}
	}

	if inner, isBracketed := strings.CutPrefix(name, "["); isBracketed {
		inner, isBracketed = strings.CutSuffix(inner, "]")
		_, err := netip.ParseAddr(inner)
		return isBracketed && err == nil && !strings.Contains(inner, "%")
	}
	return name != "" && strings.Trim(name, hostCharacters) == ""
}

// forwarded returns the first value of a header to which each proxy may have added one. The first value is from the
// proxy next to the client.
func forwarded(r *http.Request, key string) string {
	first, _, _ := strings.Cut(r.Header.Get(key), ",")
	return strings.TrimSpace(first)
}
