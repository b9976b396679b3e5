package main

// The form for signing in and out, and errors as pages for browsers.

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// returnAddress matches the addresses to which the form may lead: pages of this server.
var returnAddress = regexp.MustCompile(`^(?:read/[^\\]*|\?[^\\]*)?$`)

// handleSignIn answers POST /signin with a cookie for the token in the form.
func (s *server) handleSignIn(w http.ResponseWriter, r *http.Request) error {
	form, err := parseForm(r)
	if err != nil {
		return err
	}
	token := strings.TrimSpace(form.Get("token"))
	if token == "" {
		token = requestToken(r)
	}
	kind := s.tokenKind(token)
	if kind == "" {
		if token != "" { // no token is no guess
			if err := s.countFailure(r); err != nil {
				return err
			}
		}
		return headerError{
			userError: userError{http.StatusUnauthorized, "that token was not accepted: check it and try again"},
			header:    "WWW-Authenticate",
			value:     `Bearer realm="vitrine"`,
		}
	}

	http.SetCookie(w, newSignInCookie(r, s.cookieValue(kind, time.Now()), signInLifetime))
	return answerSigned(w, r, form)
}

// handleSignOut answers POST /signout: the browser forgets the cookie.
func (s *server) handleSignOut(w http.ResponseWriter, r *http.Request) error {
	form, err := parseForm(r)
	if err != nil {
		return err
	}
	http.SetCookie(w, newSignInCookie(r, "", -time.Second))
	return answerSigned(w, r, form)
}

// answerSigned redirects browsers to the page that they came from.
func answerSigned(w http.ResponseWriter, r *http.Request, form url.Values) error {
	w.Header()["Cache-Control"] = noStore
	if !acceptsHTML(r) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	to := form.Get("to")
	if !returnAddress.MatchString(to) {
		to = ""
	}
	w.Header().Set("Location", "./"+to)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// parseForm returns the fields of a form in the body.
func parseForm(r *http.Request) (url.Values, error) {
	if err := r.ParseForm(); err != nil {
		return nil, bodyError(err)
	}
	return r.PostForm, nil
}

// tokenKind returns what a token opens, or "" if it is not one of the server's tokens.
func (s *server) tokenKind(token string) string {
	isAdmin := sameToken(token, s.cfg.adminToken)
	isAPI := sameToken(token, s.cfg.apiToken)
	switch {
	case isAdmin:
		return signedInAdmin
	case isAPI:
		return signedInAPI
	}
	return ""
}

// answerPage answers a browser with an error as a page. If a token is missing, the page has a form for it.
func (s *server) answerPage(w http.ResponseWriter, r *http.Request, err error) {
	p := reportError(r.Context(), err)
	p.setHeader(w.Header())
	if p.status == http.StatusUnauthorized {
		w.Header().Del("WWW-Authenticate") // a browser would ask for a password
	}
	data := s.newPageData(r, http.StatusText(p.status))
	data.Read = &readPage{Problem: p.message}
	if p.status == http.StatusUnauthorized {
		why := "These documents need a token."
		to := strings.TrimPrefix(r.URL.EscapedPath(), "/")
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		if r.Method == http.MethodPost {
			why = "That token was not accepted. Check it and try again."
			to = r.PostForm.Get("to")
		}
		data.Read.Problem = ""
		data.SignIn = &signInForm{Why: why, To: to}
	}
	_ = writePage(w, r, p.status, data) // the client has gone
}
