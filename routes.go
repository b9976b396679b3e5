package main

// The table of the routes, and the path of a request through one: the guard, the handler, and the response to an error.

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
)

// routes returns all routes of a listener. A comment above a route shows how to call it.
func (s *server) routes(serves string) []route {
	const small, document = maxBodyBytes, maxDocumentBytes
	routes := []route{
		// curl :8080, or a browser
		{"GET /{$}", open, small, short, s.handleIndex(serves)},
		// what pages load
		{"GET /page/{name}", open, small, short, s.handleAsset},
		// a browser that shows a response without a link to the icon
		{"GET /favicon.ico", open, small, short, s.handleIcon},
		// curl -c cookies -d token=$API_TOKEN :8080/signin
		{"POST /signin", limited, maxSignInBytes, browse, s.handleSignIn},
		{"POST /signout", limited, maxSignInBytes, browse, s.handleSignOut},
		// curl :8080/livez, and the same by its older name
		{"GET /livez", open, small, probe, s.handleLive},
		{"GET /healthz", open, small, probe, s.handleLive},
		// curl ':8080/readyz?verbose'
		{"GET /readyz", open, small, probe, s.handleReady},
	}

	if strings.Contains(serves, servesSearch) {
		routes = append(routes, []route{
			// claude mcp add --transport http docs http://127.0.0.1:8080/mcp
			{"POST /mcp", api, noLimit, short, s.handleMCP},
			// curl -N -H 'Accept: text/event-stream' :8080/mcp
			{"GET /mcp", api, noLimit, short, s.handleNotifications},
			// curl -N :8080/sse
			{"GET /sse", api, noLimit, short, s.handleSSE},
			// curl --json … ':8080/messages?sessionId=…'
			{"POST /messages", api, noLimit, short, s.handleMessages},
			// curl ':8080/search?q=install'
			{"GET /search", api, small, short, s.handleSearch},
			// curl ':8080/documents?prefix=guide/'
			{"GET /documents", api, small, short, s.handleList},
			// a browser, or curl :8080/read/guide/install.md
			{"GET /read/{id...}", api, small, browse, s.handleRead},
			// <img src="files/guide/screen.png">
			{"GET /files/{path...}", api, small, short, s.handleFile},
			// a browser that adds the search to its address bar
			{"GET /opensearch.xml", open, small, short, s.handleOpenSearch},
			// curl :8080/llms.txt
			{"GET /llms.txt", api, small, short, s.handleLLMs},
			// curl --data-binary @docs.ndjson :8080/documents
			{"POST /documents", admin, noLimit, long, only(s.handleBulk)},
			// curl :8080/documents/README.md
			{"GET /documents/{id...}", api, small, short, only(s.handleGet)},
			// curl -T install.md :8080/documents/guide/install.md
			{"PUT /documents/{id...}", admin, document, short, only(s.handlePut)},
			// curl -X DELETE :8080/documents/guide/install.md
			{"DELETE /documents/{id...}", admin, small, short, only(s.handleDelete)},
		}...)
	}

	if strings.Contains(serves, servesAdmin) {
		routes = append(routes, []route{
			// curl :8080/metrics
			{"GET /metrics", open, small, scrape, s.handleMetrics},
			// curl -u :$ADMIN_TOKEN :8080/debug/requests, and the waterfalls of a correlation or trace id
			{"GET /debug/requests", admin, small, short, only(s.handleRequests, "format")},
			{"GET /debug/requests/{id}", admin, small, short, only(s.handleRequest, "format")},
			// curl -u :$ADMIN_TOKEN :8080/debug/gaps
			{"GET /debug/gaps", admin, small, short, only(s.handleGaps, "format")},
			// curl -u :$ADMIN_TOKEN -X PUT -d debug ':8080/debug/loglevel?for=10m'
			{"GET /debug/loglevel", admin, small, short, only(s.handleLogLevel)},
			{"PUT /debug/loglevel", admin, small, short, only(s.handleSetLogLevel, "for")},
		}...)

		// go tool pprof http://x:$ADMIN_TOKEN@localhost:8080/debug/pprof/profile
		for path, handler := range s.profile.handlers() {
			handler = only(handler, "seconds", "debug", "gc") // those of net/http/pprof
			routes = append(routes, route{"GET " + path, profiling, noLimit, short, handler})
		}
	}
	return routes
}

// handler returns the outermost handler of a listener.
func (s *server) handler(serves string) http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.routes(serves) {
		mux.Handle(rt.pattern, s.handle(rt))
		if isEndpoint(rt.pattern) {
			mux.Handle(rt.pattern+"/{$}", s.handle(rt))
		}
	}

	// The fallbacks answer with JSON where the mux would answer in plain text. Without "/documents", the mux would
	// redirect PUT /documents to /documents/. Without the HEAD patterns, HEAD would open a stream on a GET route.
	for _, pattern := range []string{
		"/",
		"/documents",
		"HEAD /mcp",
		"HEAD /mcp/{$}",
		"HEAD /sse",
		"HEAD /sse/{$}",
	} {
		fallback := func(w http.ResponseWriter, r *http.Request) error {
			return s.unmatched(mux, serves, w, r)
		}
		mux.Handle(pattern, s.handle(route{pattern, open, maxBodyBytes, short, fallback}))
	}

	return s.observe.middleware(mux)
}

// isEndpoint reports whether a pattern is that of an address which people type into the configuration of an MCP client.
// Some end it with a slash.
func isEndpoint(pattern string) bool {
	return slices.Contains([]string{"POST /mcp", "GET /mcp", "GET /sse", "POST /messages"}, pattern)
}

// unmatched answers a request that no route of a listener matches. If the path has routes for other methods, the status is
// 405, but 204 for OPTIONS, which load balancers send as a health check. If it has none, the status is 404. A CORS preflight
// always gets 204, because the guard has checked its origin.
func (s *server) unmatched(mux *http.ServeMux, serves string, w http.ResponseWriter, r *http.Request) error {
	isOptions := r.Method == http.MethodOptions
	isPreflight := isOptions && r.Header.Get("Access-Control-Request-Method") != ""
	allowed := allowedMethods(mux, r)
	switch {
	case isOptions && allowed != nil:
		w.Header().Set("Allow", strings.Join(allowed, ", ")+", OPTIONS")
		w.WriteHeader(http.StatusNoContent)
		return nil
	case isPreflight:
		w.WriteHeader(http.StatusNoContent)
		return nil
	case allowed == nil && isOAuth(r.URL.Path):
		w.Header()["Cache-Control"] = noStore
		writeJSON(w, http.StatusNotFound, noOAuth)
		return nil
	case allowed == nil:
		return userError{http.StatusNotFound, s.whyNotFound(r.URL.Path, serves) + mcpHint(r, serves, false)}
	}

	list := strings.Join(allowed, ", ")
	text := "method not allowed here: use " + list + mcpHint(r, serves, true)
	return headerError{
		userError: userError{http.StatusMethodNotAllowed, text},
		header:    "Allow",
		value:     list,
	}
}

// allowedMethods returns the methods for which the path of r has a route.
func allowedMethods(mux *http.ServeMux, r *http.Request) []string {
	var allowed []string
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
		other := http.Request{Method: method, Host: r.Host, URL: r.URL}
		_, pattern := mux.Handler(&other)
		// The pattern of a fallback has no method, or HEAD.
		isRoute := strings.Contains(pattern, " ") && !strings.HasPrefix(pattern, "HEAD ")
		if isRoute {
			allowed = append(allowed, method)
		}
	}
	return allowed
}

// whyNotFound says why a listener has no route for path: profiling is off, or the other listener has it.
func (s *server) whyNotFound(path, serves string) string {
	isDebug := strings.HasPrefix(path, "/debug/")
	isProfile := strings.HasPrefix(path, "/debug/pprof") || path == "/debug/flight" ||
		isDebug && strings.HasSuffix(path, "/trace")
	switch {
	case isProfile && !s.profile.enabled:
		return "profiling is off: set ENABLE_PROFILING=true and ADMIN_TOKEN, and start again"
	case serves == servesSearch && (isDebug || path == "/metrics"):
		return "this address does not serve /metrics and /debug/: ask the one in ADMIN_ADDR"
	case serves == servesAdmin:
		return "no such page: GET / lists the routes; the address in ADDR serves search, documents and MCP"
	}
	return "no such page: GET / lists the routes"
}

// mcpHint tells a client of MCP where to connect if it has another address of this server, such as that of the page. It
// returns "" for other requests. isRoute reports whether the path has a route for another method.
func mcpHint(r *http.Request, serves string, isRoute bool) string {
	path := strings.ToLower(strings.Trim(r.URL.Path, "/"))
	isMessage := r.Method == http.MethodPost && isJSON(r.Header)
	isLost := isMessage && (path == "" || path == "sse")
	if !isRoute {
		segments := strings.Split(path, "/")
		isLost = isMessage || slices.Contains(segments, "mcp") || slices.Contains(segments, "sse")
	}
	if !isLost || serves == servesAdmin {
		return ""
	}
	return "; MCP clients connect to /mcp, or to /sse with the transport of 2024-11-05"
}

// noOAuth is the response to MCP clients that look for an authorization server after a 401, in the form of RFC 7591. They
// show its text to their user.
var noOAuth = map[string]string{
	"error":             "invalid_request",
	"error_description": "no OAuth here: send the header Authorization: Bearer TOKEN",
}

// isOAuth reports whether path is one under which clients look for an authorization server: the documents of RFC 8414,
// RFC 9728 and OpenID Connect, and the default endpoints of MCP 2025-03-26.
func isOAuth(path string) bool {
	path = strings.TrimSuffix(path, "/")
	return slices.Contains([]string{"/register", "/authorize", "/token"}, path) ||
		strings.Contains(path, "/.well-known/oauth-") ||
		strings.Contains(path, "/.well-known/openid-configuration")
}

// handle guards a route, calls its handler, and answers with its error or panic.
func (s *server) handle(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.answerPanic(w, r)
		w.Header()["X-Content-Type-Options"] = nosniff
		if rt.kind == scrape || rt.kind == probe {
			markProbe(r.Context())
		}

		err := s.guard(w, r, &rt)
		if err == nil {
			err = s.call(w, r, &rt)
		}
		switch {
		case err == nil:
		case rt.kind == browse && acceptsHTML(r) && !hasBegun(w):
			s.answerPage(w, r, err)
		default:
			answerError(w, r, err)
		}
	})
}

// call calls the route's handler within its limits.
func (s *server) call(w http.ResponseWriter, r *http.Request, rt *route) error {
	ctx, restore := s.profile.label(r.Context(), "route", rt.pattern)
	defer restore()

	if rt.kind == long {
		markStream(ctx, bulkStream)
	}
	if rt.maxBody > 0 {
		r.Body = http.MaxBytesReader(w, r.Body, rt.maxBody)
	}
	if ctx != r.Context() { // WithContext copies the request: skip it unless profiling set a label
		r = r.WithContext(ctx)
	}
	return rt.handler(w, r)
}

// answerError is the only place where an error becomes a response. If the response has begun, it
// only logs the error.
func answerError(w http.ResponseWriter, r *http.Request, err error) {
	if hasBegun(w) {
		logAttrs(r.Context(), slog.String("error", err.Error()))
		return
	}

	p := reportError(r.Context(), err)
	if speaksJSONRPC(r) {
		writeRPCProblem(w, p)
		return
	}
	writeProblem(w, p)
}

// answerPanic turns a panic of the handler into an internal error. It cuts off a response that has begun, so
// that the client does not take it as complete.
func (s *server) answerPanic(w http.ResponseWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause == http.ErrAbortHandler {
		panic(cause)
	}

	err := fmt.Errorf("panic: %v", cause)
	s.log.ErrorContext(r.Context(), "handler panicked",
		"error", err,
		"stack", string(debug.Stack()))

	if hasBegun(w) {
		markFailed(r.Context(), err)
		panic(http.ErrAbortHandler)
	}
	answerError(w, r, err)
}
