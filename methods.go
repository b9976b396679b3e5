package main

// The methods of the Model Context Protocol: their table, the call of a method, the encoding of its result or error, and
// the server's description of itself. The specification: modelcontextprotocol.io/specification.

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// eras is a set of eras of the protocol.
type eras int

const (
	legacy  eras = 1 << iota // revisions that begin with initialize
	modern                   // revision 2026-07-28
	session                  // legacy, on /sse

	both = legacy | modern
)

// method is a JSON-RPC method: the eras that have it, and its function.
type method struct {
	eras eras

	// ttl is how long a modern client may cache the result. If it is 0, the result has no cache hint.
	ttl time.Duration

	// call returns the result, which is encoded as JSON. Only callTool returns a result beside an error.
	call func(s *server, ctx context.Context, c *call) (any, error)
}

const (
	// fixedTTL is for results that only another version of the program changes.
	fixedTTL = time.Hour

	// documentTTL is for results that depend on the documents.
	documentTTL = 10 * time.Second
)

// methods are all methods by name. The last five are never called: handleMCP answers subscriptions/listen with a
// stream, and notifications of any name are accepted. They are here so that methodLabel knows their names.
var methods = map[string]method{
	"initialize":               {legacy, 0, (*server).initialize},
	"ping":                     {legacy, 0, (*server).ping},
	"logging/setLevel":         {legacy, 0, (*server).setLevel},
	"resources/subscribe":      {session, 0, (*server).subscribe},
	"resources/unsubscribe":    {session, 0, (*server).unsubscribe},
	"server/discover":          {modern, fixedTTL, (*server).discover},
	"tools/list":               {both, fixedTTL, (*server).listTools},
	"tools/call":               {both, 0, (*server).callTool},
	"resources/list":           {both, documentTTL, (*server).listResources},
	"resources/templates/list": {both, fixedTTL, (*server).listTemplates},
	"resources/read":           {both, documentTTL, (*server).readResource},
	"prompts/list":             {both, fixedTTL, (*server).listPrompts},
	"prompts/get":              {both, 0, (*server).getPrompt},
	"completion/complete":      {both, 0, (*server).complete},

	"subscriptions/listen":             {},
	"notifications/initialized":        {},
	"notifications/cancelled":          {},
	"notifications/progress":           {},
	"notifications/roots/list_changed": {},
}

// trivialMethods use nothing that can fail. They refuse wrong parameters, and metrics expect no other failure of them.
var trivialMethods = map[string]bool{
	"ping":             true,
	"logging/setLevel": true,
}

// methodLabel returns the name of a method for metrics and spans. These must not have names that clients make up, so it
// returns _OTHER for an unknown method.
func methodLabel(name string) string {
	if _, exists := methods[name]; !exists {
		return "_OTHER"
	}
	return strings.Clone(name) // the name shares the memory of the whole message
}

// answer calls c's method and sets buf to the response. If err is not nil, it only answers c with err. It returns the
// HTTP status and, for an error response, its problem. A notification has no response, and leaves buf empty.
func (s *server) answer(
	ctx context.Context, buf *bytes.Buffer, c *call, err error,
) (status int, p problem) {
	ctx, end := c.beginStage(ctx, methodLabel(c.Method))
	defer end(&err)
	c.answer = takeBuffer()
	defer releaseBuffer(c.answer)

	var result any
	if err == nil && c.isRequest() {
		result, err = s.callMethod(ctx, c)
	}
	buf.Reset()
	switch {
	case result != nil:
		// A failed tool has a result too. Its error is only for the record.
		encodeErr := s.appendResult(buf, c, result)
		if encodeErr == nil {
			return http.StatusOK, problem{}
		}
		err = encodeErr
		buf.Reset()
	case err == nil:
		return http.StatusAccepted, problem{}
	}

	p = reportError(ctx, err)
	writeRPCError(buf, c, p)
	return c.errorStatus(p), p
}

// writeRPCError sets buf to the error response to c.
func writeRPCError(buf *bytes.Buffer, c *call, p problem) {
	buf.Reset()
	response := errorResponse{
		JSONRPC: "2.0",
		ID:      c.id(),
		Error:   rpcError{p.code, p.message, p.data},
	}
	_ = encodeJSON(buf, response) // cannot fail: it has only strings and numbers
}

// callMethod calls c's method if its era has it. Only a failed tool has a result beside an error.
func (s *server) callMethod(ctx context.Context, c *call) (any, error) {
	era := legacy
	switch {
	case c.isModern():
		era = modern
	case c.session != nil:
		era = legacy | session
	}

	method := methods[c.Method]
	if method.eras&era == 0 {
		return nil, c.noSuchMethod(method)
	}
	return method.call(s, ctx, c)
}

// noSuchMethod returns the error for a method that c's era does not have. m is zero if no era has it.
func (c *call) noSuchMethod(m method) error {
	if m.eras == session {
		return rpcErrorf(codeMethodNotFound,
			"no method %s at /mcp, which has no sessions: use subscriptions/listen of %s, or /sse",
			c.Method, modernVersion)
	}
	return rpcErrorf(codeMethodNotFound,
		"no method %.60q in protocol version %s",
		c.Method, c.version)
}

// appendResult appends the response with c's result. Every modern result must have some common members. They come first,
// and a comma replaces the opening brace of result. This works because no modern result is an empty object.
func (s *server) appendResult(buf *bytes.Buffer, c *call, result any) error {
	buf.WriteString(`{"jsonrpc":"2.0","id":`)
	buf.WriteString(string(c.ID))
	buf.WriteString(`,"result":`)
	if c.isModern() {
		buf.WriteString(s.identity.modernResult)
		s.appendCacheHint(buf, methods[c.Method].ttl)
	}
	brace := buf.Len()
	if large, isShared := result.(sharedResource); isShared {
		c.shared = large.appendTo(buf)
	} else if err := encodeJSON(buf, result); err != nil {
		return err
	}
	if c.isModern() {
		buf.Bytes()[brace] = ','
	}
	buf.WriteByte('}')
	return nil
}

// appendCacheHint appends the members that say how long a result may be cached, and whether by shared caches.
func (s *server) appendCacheHint(buf *bytes.Buffer, ttl time.Duration) {
	if ttl == 0 {
		return
	}
	scope := "public"
	if s.cfg.apiToken != "" {
		scope = "private"
	}
	fmt.Fprintf(buf, `,"ttlMs":%d,"cacheScope":"%s"`, ttl.Milliseconds(), scope)
}

// capabilities returns what the server offers. Subscriptions need a connection that belongs to one client, which only
// /sse and subscriptions/listen have.
func capabilities(subscribe bool) map[string]any {
	resources := map[string]bool{"listChanged": true}
	if subscribe {
		resources["subscribe"] = true
	}
	return map[string]any{
		"tools":       struct{}{},
		"resources":   resources,
		"prompts":     struct{}{},
		"completions": struct{}{},
	}
}

// discover tells a modern client what initialize tells a legacy one.
func (s *server) discover(context.Context, *call) (any, error) {
	return map[string]any{
		"supportedVersions": []string{modernVersion},
		"capabilities":      capabilities(true),
		"instructions":      s.identity.instructions,
	}, nil
}

// initialize answers with the version that the client asks for, or with the newest legacy one if it does not know that.
func (s *server) initialize(_ context.Context, c *call) (any, error) {
	version := paramsAs[initializeParams](c.message).ProtocolVersion
	if !slices.Contains(legacyVersions, version) {
		version = legacyVersions[0]
	}
	if c.session != nil {
		c.session.clientName.Store(c.clientName())
	}
	return map[string]any{
		"protocolVersion": version,
		"capabilities":    capabilities(c.session != nil),
		"serverInfo":      s.identity.info,
		"instructions":    s.identity.instructions,
	}, nil
}

// ping answers with an empty object.
func (s *server) ping(context.Context, *call) (any, error) {
	return struct{}{}, nil
}

// logLevels are the levels of log messages in the protocol.
var logLevels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// setLevel accepts each level. The server sends no log messages and does not declare them, but some clients set a level
// without looking and take an error for a failed connection.
func (s *server) setLevel(_ context.Context, c *call) (any, error) {
	level := paramsAs[levelParams](c.message).Level
	if !slices.Contains(logLevels, level) {
		return nil, rpcErrorf(codeInvalidParams,
			"level %.20q is none of %s",
			level, strings.Join(logLevels, ", "))
	}
	return struct{}{}, nil
}
