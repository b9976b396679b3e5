package main

// JSON-RPC 2.0 on the wire: messages with the params of each method, responses and errors. This file knows the names
// and types of MCP's messages, but not their meaning.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// message is a JSON-RPC message: a request, a notification, or a response.
type message struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"` // nil: a notification
	Method  string          `json:"method"`
	Params  params          `json:"params"` // nil: none; see newParams
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
}

func (m *message) isRequest() bool {
	return m.ID != nil && m.Method != ""
}

func (m *message) isResponse() bool {
	return m.Result != nil || m.Error != nil
}

// meta returns the _meta of the params.
func (m *message) meta() requestMeta {
	if m.Params == nil {
		return requestMeta{}
	}
	return m.Params.meta()
}

// paramsAs returns m's params, which are of the type that newParams made for its method. They are empty if m has none.
func paramsAs[P any](m *message) *P {
	if m.Params == nil {
		return new(P)
	}
	return any(m.Params).(*P)
}

// params are the params of one method. Members that the method does not know are ignored.
type params interface{ meta() requestMeta }

// newParams returns a pointer to empty params of the method.
func newParams(method string) params {
	switch method {
	case "initialize":
		return new(initializeParams)
	case "tools/call", "prompts/get":
		return new(callParams)
	case "tools/list", "resources/list":
		return new(listParams)
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		return new(resourceParams)
	case "completion/complete":
		return new(completeParams)
	case "subscriptions/listen":
		return new(listenParams)
	case "notifications/cancelled":
		return new(cancelledParams)
	}
	return new(baseParams)
}

// baseParams are the members that the params of every method have.
type baseParams struct {
	Meta requestMeta `json:"_meta"`
}

func (p *baseParams) meta() requestMeta { return p.Meta }

// requestMeta is the _meta that a modern client sends with each message.
type requestMeta struct {
	Version      *string    `json:"io.modelcontextprotocol/protocolVersion"`
	Capabilities *struct{}  `json:"io.modelcontextprotocol/clientCapabilities"`
	Client       clientInfo `json:"io.modelcontextprotocol/clientInfo"`
	Traceparent  any        `json:"traceparent"`
}

// clientInfo is the name and version that a client program states.
type clientInfo struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// initializeParams name the client and the version that it asks for.
type initializeParams struct {
	baseParams
	ProtocolVersion string     `json:"protocolVersion"`
	Client          clientInfo `json:"clientInfo"`
}

// callParams name a tool or a prompt.
type callParams struct {
	baseParams
	Name      string         `json:"name"`
	Arguments map[string]any `json:"arguments"`
}

// listParams ask for a page of a list.
type listParams struct {
	baseParams
	Cursor string `json:"cursor"`
}

// resourceParams name a resource.
type resourceParams struct {
	baseParams
	URI string `json:"uri"`
}

// completeParams ask for completions of an argument's value.
type completeParams struct {
	baseParams
	Ref struct {
		URI string `json:"uri"`
	} `json:"ref"`
	Argument struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"argument"`
}

// listenParams open a stream of notifications.
type listenParams struct {
	baseParams
	Notifications subscriptions `json:"notifications"`
}

// subscriptions are the notifications that a client asks for.
type subscriptions struct {
	ResourcesListChanged  bool     `json:"resourcesListChanged,omitempty"`
	ResourceSubscriptions []string `json:"resourceSubscriptions,omitempty"` // URIs
}

// cancelledParams name a request that the client has cancelled.
type cancelledParams struct {
	baseParams
	RequestID json.RawMessage `json:"requestId"`
}

// parseMessage decodes a message. If it returns an error, the message has the members that could be read, so that the
// response can have the id.
func parseMessage(text []byte) (*message, error) {
	m, err := decodeMessage(text)
	typeError, isTypeError := errors.AsType[*json.UnmarshalTypeError](err)
	if err != nil && !isTypeError || !utf8.Valid(text) {
		return new(message), rpcErrorf(codeParse,
			"not JSON in UTF-8: send a JSON-RPC 2.0 message")
	}
	if m.ID != nil && !bytes.ContainsAny(m.ID[:1], `"-0123456789`) {
		m.ID = nil
		return m, rpcErrorf(codeInvalidRequest,
			"id must be a string or a number, and absent in a notification")
	}

	field := ""
	if isTypeError {
		// encoding/json names the embedded struct, which is not on the wire.
		field = strings.Replace(typeError.Field, ".baseParams.", ".", 1)
	}
	switch {
	case isTypeError && !strings.HasPrefix(field, "params"):
		return m, rpcErrorf(codeInvalidRequest,
			"not a JSON-RPC message: %s must not be of type %s",
			cmp.Or(field, "it"), typeError.Value)
	case m.JSONRPC != "2.0":
		return m, rpcErrorf(codeInvalidRequest,
			`not a JSON-RPC message: it needs "jsonrpc":"2.0"`)
	case m.Method == "" && !m.isResponse():
		return m, rpcErrorf(codeInvalidRequest,
			"not a JSON-RPC message: it needs a method")
	case isTypeError:
		return m, rpcErrorf(codeInvalidParams,
			"%s must not be of type %s",
			field, typeError.Value)
	}
	return m, nil
}

// decodeMessage decodes a message with the params of its method. It guesses the method first, so that nearly all
// messages are decoded in one pass. A second pass over the params would cost 8 % of a tools/call.
func decodeMessage(text []byte) (*message, error) {
	guess := guessMethod(text)
	m := &message{Params: newParams(guess)}
	err := json.Unmarshal(text, m)
	if m.Method == guess {
		return m, err
	}
	m = &message{Params: newParams(m.Method)}
	return m, json.Unmarshal(text, m)
}

// guessMethod returns the string after the first "method" in text. The guess is wrong if the params come before the
// method and have a member of that name too, or if the name is escaped.
func guessMethod(text []byte) string {
	_, rest, _ := bytes.Cut(text, []byte(`"method"`))
	_, rest, _ = bytes.Cut(rest, []byte(`"`))
	name, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(name)
}

// rpcError is the error object of a JSON-RPC response.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

func rpcErrorf(code int, format string, args ...any) rpcError {
	return rpcError{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e rpcError) Error() string { return e.Message }

func (e rpcError) problem() problem {
	return problem{
		status:  http.StatusBadRequest,
		code:    e.Code,
		message: e.Message,
		data:    e.Data,
	}
}

func (e rpcError) errorType() string { return strconv.Itoa(e.Code) }

// errorResponse is the response to a request that failed.
type errorResponse struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"` // null if it could not be read
	Error   rpcError        `json:"error"`
}

// speaksJSONRPC reports whether r's errors must be in JSON-RPC form.
func speaksJSONRPC(r *http.Request) bool {
	path := strings.TrimSuffix(r.URL.Path, "/")
	return path == "/mcp" || path == "/messages"
}

// writeRPCProblem answers a request that failed before its message was read. It therefore reports invalid params as an
// invalid request.
func writeRPCProblem(w http.ResponseWriter, p problem) {
	p.setHeader(w.Header())
	if p.code == codeInvalidParams {
		p.code = codeInvalidRequest
	}
	data := map[string]string{"correlation_id": w.Header().Get("X-Correlation-Id")}
	writeJSON(w, p.status, errorResponse{
		JSONRPC: "2.0",
		Error:   rpcError{p.code, p.message, data},
	})
}

// buffers are pooled. Each holds the body of a request and then the response to it.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooledBytes limits the size of pooled buffers, because a document of megabytes must not stay in memory.
const maxPooledBytes = 64 << 10

// takeBuffer returns an empty buffer. The caller gives it back with releaseBuffer.
func takeBuffer() *bytes.Buffer {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	return b
}

func releaseBuffer(b *bytes.Buffer) {
	if b.Cap() <= maxPooledBytes {
		buffers.Put(b)
	}
}

// encodeJSON appends v in JSON to buf. It does not escape < and >, because documents are full of them.
func encodeJSON(buf *bytes.Buffer, v any) error {
	encoder := json.NewEncoder(buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	buf.Truncate(buf.Len() - len("\n"))
	return nil
}

// mustJSON encodes a value that cannot fail to encode, such as a string.
func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}
