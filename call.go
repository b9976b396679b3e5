package main

// A call is one message in one revision of the protocol. This file has the negotiation of the revision, the checks of
// the HTTP headers that it demands, and how the record and the HTTP status describe the call.

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
)

// Revisions of the protocol.
const (
	modernVersion = "2026-07-28"
	batchVersion  = "2025-03-26" // the one with batches; requests without a version mean it
	sseVersion    = "2024-11-05" // the one on /sse
)

// legacyVersions are the revisions that begin with initialize, the newest first.
var legacyVersions = []string{"2025-11-25", "2025-06-18", batchVersion, sseVersion}

// call is a message with its protocol version and its session.
type call struct {
	*message
	version string  // of the protocol
	session *stream // on /sse, else nil
	urls    addresses

	shared sharedText // of the response; empty: the response has all of its text

	// answer is an empty buffer for the text of a tool's answer. It is released once the response is encoded.
	answer *bytes.Buffer
}

// parseCall parses a message that came with these headers. Beside an error, the call has the members that could be read.
func parseCall(text []byte, h http.Header) (*call, error) {
	m, err := parseMessage(text)
	c := &call{message: m, version: tokenValue(h, versionHeader)}
	if err != nil {
		return c, err
	}
	return c, c.negotiate(h)
}

func (c *call) isModern() bool { return c.version == modernVersion }

// isListen reports whether c asks for a stream.
func (c *call) isListen() bool {
	return c.isModern() && c.isRequest() && c.Method == "subscriptions/listen"
}

// Headers in which a modern client repeats parts of its message, in canonical form.
const (
	versionHeader = "Mcp-Protocol-Version"
	methodHeader  = "Mcp-Method"
	nameHeader    = "Mcp-Name"
)

// headerValue joins the values of a header with commas. key must be in canonical form. A value that is repeated counts
// once, because some proxies send a header twice.
func headerValue(h http.Header, key string) string {
	values := h[key]
	if len(values) > 1 {
		values = slices.Compact(slices.Clone(values))
	}
	return strings.Join(values, ",")
}

// tokenValue is headerValue for a header whose value has no commas. Some proxies join a repeated header into one line.
func tokenValue(h http.Header, key string) string {
	value := headerValue(h, key)
	first, rest, isList := strings.Cut(value, ",")
	if !isList {
		return value
	}
	first = strings.TrimSpace(first)
	for other := range strings.SplitSeq(rest, ",") {
		if strings.TrimSpace(other) != first {
			return value
		}
	}
	return first
}

// isJSON reports whether a body with these headers is JSON. A type that is repeated counts once, but another one beside it
// makes the body ambiguous.
func isJSON(h http.Header) bool {
	for value := range strings.SplitSeq(headerValue(h, "Content-Type"), ",") {
		mediaType, _, _ := strings.Cut(value, ";")
		if !strings.EqualFold(strings.TrimSpace(mediaType), "application/json") {
			return false
		}
	}
	return true
}

// negotiate sets c's protocol version and checks the headers as that version demands. Proxies read only the headers, so
// those of a modern request must agree with its body.
func (c *call) negotiate(h http.Header) error {
	version := tokenValue(h, versionHeader)
	if !c.meta().HasVersion && version != modernVersion {
		return c.negotiateLegacy(version)
	}
	c.version = modernVersion
	if c.isResponse {
		return rpcErrorf(codeInvalidRequest,
			"this server asks nothing: send requests and notifications")
	}
	if c.ID == "" {
		// Clients send notifications without the headers.
		return nil
	}

	if err := c.checkMeta(version); err != nil {
		return err
	}
	return c.checkHeaders(h)
}

// negotiateLegacy sets the legacy version that the header names.
func (c *call) negotiateLegacy(version string) error {
	c.version = version
	if version == "" {
		c.version = batchVersion
	}
	if slices.Contains(legacyVersions, c.version) || c.Method == "initialize" {
		return nil
	}
	supported := slices.Concat([]string{modernVersion}, legacyVersions)
	return unsupportedVersion(version, supported)
}

// checkMeta checks the _meta of a modern request. version is that of the header.
func (c *call) checkMeta(version string) error {
	meta := c.meta()
	switch {
	case !meta.HasVersion:
		return rpcErrorf(codeInvalidParams,
			"params._meta lacks io.modelcontextprotocol/protocolVersion")
	case meta.Version != version:
		return headerMismatch("MCP-Protocol-Version", version, meta.Version)
	case meta.Version != modernVersion:
		return unsupportedVersion(meta.Version, []string{modernVersion})
	case !meta.HasCapabilities:
		return rpcErrorf(codeInvalidParams,
			"params._meta lacks the object io.modelcontextprotocol/clientCapabilities")
	}
	return nil
}

// checkHeaders checks that the headers repeat the method and, if it has one, the name or URI in its params.
func (c *call) checkHeaders(h http.Header) error {
	method := tokenValue(h, methodHeader)
	if method != c.Method {
		return headerMismatch(methodHeader, method, c.Method)
	}

	var want string
	switch c.Method {
	case "tools/call", "prompts/get":
		want = paramsAs[callParams](c.message).Name
	case "resources/read":
		want = paramsAs[resourceParams](c.message).URI
	default:
		return nil
	}
	name := headerValue(h, nameHeader) // a name may have commas
	once := tokenValue(h, nameHeader)
	if name == "" || decodeHeader(name) != want && decodeHeader(once) != want {
		return headerMismatch(nameHeader, name, want)
	}
	return nil
}

// decodeHeader decodes a header value of the form =?base64?…?=, which stands for text that a header cannot carry. It
// returns any other value unchanged, and "" if the base64 is broken.
func decodeHeader(value string) string {
	encoded, begins := strings.CutPrefix(value, "=?base64?")
	encoded, ends := strings.CutSuffix(encoded, "?=")
	if !begins || !ends {
		return value
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ""
	}
	return string(decoded)
}

func headerMismatch(header, value, body string) error {
	return rpcErrorf(codeHeaderMismatch,
		"header %s is %.100q and the body says %.100q: they must agree",
		header, value, body)
}

func unsupportedVersion(version string, supported []string) error {
	return rpcError{
		Code:    codeUnsupportedVersion,
		Message: fmt.Sprintf("protocol version %.40q is not spoken here: use %s", version, strings.Join(supported, ", ")),
		Data:    map[string]any{"supported": supported, "requested": version},
	}
}

// errNotAcceptable refuses a request whose Accept header excludes the media type of its answer.
var errNotAcceptable = userError{
	http.StatusNotAcceptable,
	"send Accept: application/json, text/event-stream",
}

// accepts reports whether r's Accept header allows an answer of this media type. Without the header it allows all. The
// most specific range of the type decides (RFC 9110, section 12.5.1): "application/json;q=0, */*" allows all but JSON.
func accepts(r *http.Request, mediaType string) bool {
	if headerValue(r.Header, "Accept") == "" {
		return true
	}
	group, _, _ := strings.Cut(mediaType, "/")
	for _, mediaRange := range []string{mediaType, group + "/*", "*/*"} {
		if isNamed, isAllowed := findRange(r, mediaRange); isNamed {
			return isAllowed
		}
	}
	return false
}

// acceptsAnswer reports whether r's Accept header allows an answer to a request: as JSON or as an event.
func acceptsAnswer(r *http.Request) bool {
	return accepts(r, "application/json") || accepts(r, "text/event-stream")
}

// wantsEvent reports whether r's Accept header allows an answer as an event, but not as JSON.
func wantsEvent(r *http.Request) bool {
	return !accepts(r, "application/json") && accepts(r, "text/event-stream")
}

// namesType reports whether r's Accept header allows this media type by its name, not only by a wildcard.
func namesType(r *http.Request, mediaType string) bool {
	_, isAllowed := findRange(r, mediaType)
	return isAllowed
}

// findRange reports whether r's Accept header has a range of media types, and whether without the weight 0.
func findRange(r *http.Request, mediaRange string) (isNamed, isAllowed bool) {
	accept := strings.ToLower(headerValue(r.Header, "Accept"))
	for item := range strings.SplitSeq(accept, ",") {
		named, parameters, _ := strings.Cut(item, ";")
		if strings.TrimSpace(named) == mediaRange {
			isNamed = true
			isAllowed = isAllowed || !hasZeroWeight(parameters)
		}
	}
	return isNamed, isAllowed
}

// hasZeroWeight reports whether the parameters of a media range have q=0, which means that it is not acceptable.
func hasZeroWeight(parameters string) bool {
	for parameter := range strings.SplitSeq(parameters, ";") {
		weight, isWeight := strings.CutPrefix(strings.TrimSpace(parameter), "q=")
		if isWeight {
			return strings.Trim(weight, "0.") == ""
		}
	}
	return false
}

// checkOnlyPage refuses a cursor, because the list that c asks for has one page, and no cursor was ever given out.
func checkOnlyPage(c *call) error {
	if paramsAs[listParams](c.message).Cursor == "" {
		return nil
	}
	return rpcErrorf(codeInvalidParams, "bad cursor: %s has one page, leave cursor out", c.Method)
}

// beginStage begins the stage of c and adds the method and the client to the log line. label is what methodLabel returns
// for c's method.
func (c *call) beginStage(ctx context.Context, label string) (context.Context, func(*error)) {
	attrs := make([]slog.Attr, 0, 6) // with room for those of a tool
	attrs = append(attrs,
		slog.String("mcp.method.name", label),
		slog.String("mcp.protocol.version", c.version),
		slog.String("network.transport", "tcp"))
	if c.ID != "" {
		// The clone lets the record outlive the memory of the message.
		id := strings.Trim(string(c.ID), `"`)
		id = strings.Clone(truncate(id, 64))
		attrs = append(attrs, slog.String("jsonrpc.request.id", id))
	}
	ctx, end := stage(ctx, stageMCP, attrs...)

	if traceparent := c.meta().Traceparent; traceparent != "" {
		continueTrace(ctx, traceparent)
	}
	logAttrs(ctx, slog.String("mcp_method", label))
	if client := c.clientName(); client != "" {
		logAttrs(ctx, slog.String("mcp_client", client))
	}
	return ctx, end
}

// clientName returns the name and version that the client states, or "". Modern clients state them in each request.
// Legacy clients state them only in initialize. Only a session, on /sse, remembers them.
func (c *call) clientName() string {
	if c.Method != "initialize" && c.session != nil {
		name, _ := c.session.clientName.Load().(string)
		return name
	}
	client := c.meta().Client
	if c.Method == "initialize" {
		client = paramsAs[initializeParams](c.message).Client
	}

	const maxBytes = 64
	name := truncate(client.Name, maxBytes) + " " +
		truncate(client.Version, maxBytes)
	return truncate(strings.TrimSpace(name), maxBytes)
}

// errorStatus returns the HTTP status of c's error response. A legacy client treats any status but 200 as a broken
// transport, so it gets 200 if the request was understood.
func (c *call) errorStatus(p problem) int {
	understood := []int{
		codeMethodNotFound,
		codeInvalidParams,
		codeResourceNotFound,
		codeInternal,
	}
	switch {
	case !c.isModern() && slices.Contains(understood, p.code):
		return http.StatusOK
	case p.code == codeMethodNotFound:
		return http.StatusNotFound
	}
	return p.status
}
