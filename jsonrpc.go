package main

// JSON-RPC 2.0: messages, responses, errors.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	modernVersion = "2026-07-28"
	batchVersion  = "2025-03-26" // the only one with batches, and the one of requests that name none
	sseVersion    = "2024-11-05"
)

// legacyVersions are the revisions that begin with initialize, the newest first.
var legacyVersions = []string{"2025-11-25", "2025-06-18", batchVersion, sseVersion}

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
	return problem{status: http.StatusBadRequest, code: e.Code, message: e.Message, data: e.Data}
}

func (e rpcError) errorType() string { return strconv.Itoa(e.Code) }

// message is a JSON-RPC message with the params of all methods in one: so it is decoded in one go.
type message struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"` // nil: a notification
	Method  string          `json:"method"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
	Params  struct {
		Meta struct {
			Version      *string    `json:"io.modelcontextprotocol/protocolVersion"`
			Capabilities *struct{}  `json:"io.modelcontextprotocol/clientCapabilities"`
			Client       clientInfo `json:"io.modelcontextprotocol/clientInfo"`
			Traceparent  any        `json:"traceparent"`
		} `json:"_meta"`
		Name      string         `json:"name"`
		URI       string         `json:"uri"`
		Cursor    string         `json:"cursor"`
		Level     string         `json:"level"`
		Arguments map[string]any `json:"arguments"`

		ProtocolVersion string     `json:"protocolVersion"` // initialize
		Client          clientInfo `json:"clientInfo"`

		Ref struct { // completion/complete
			URI string `json:"uri"`
		} `json:"ref"`
		Argument struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"argument"`

		RequestID     json.RawMessage `json:"requestId"` // notifications/cancelled
		Notifications struct {        // subscriptions/listen
			ResourcesListChanged  bool     `json:"resourcesListChanged,omitempty"`
			ResourceSubscriptions []string `json:"resourceSubscriptions,omitempty"`
		} `json:"notifications"`
	} `json:"params"`

	version string        // of the protocol
	session *stream       // on /sse, else nil
	answer  *bytes.Buffer // where a tool may write what it answers
}

type clientInfo struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

func (m *message) isModern() bool  { return m.version == modernVersion }
func (m *message) isRequest() bool { return m.ID != nil && m.Method != "" }

// parseMessage decodes a message. With an error it returns what could be read, for the sake of the id.
func parseMessage(text []byte) (*message, error) {
	m := new(message)
	err := json.Unmarshal(text, m)
	wrong, isType := errors.AsType[*json.UnmarshalTypeError](err)
	if err != nil && !isType || !utf8.Valid(text) {
		return new(message), rpcErrorf(codeParse, "not JSON in UTF-8: send a JSON-RPC 2.0 message")
	}
	if m.ID != nil && !bytes.ContainsAny(m.ID[:1], `"-0123456789`) {
		m.ID = nil
		return m, rpcErrorf(codeInvalidRequest, "id must be a string or a number, and absent in a notification")
	}
	switch {
	case isType && !strings.HasPrefix(wrong.Field, "params"):
		return m, rpcErrorf(codeInvalidRequest, "not a JSON-RPC message: %s must not be of type %s", cmp.Or(wrong.Field, "it"), wrong.Value)
	case m.JSONRPC != "2.0":
		return m, rpcErrorf(codeInvalidRequest, `not a JSON-RPC message: it needs "jsonrpc":"2.0"`)
	case m.Method == "" && m.Result == nil && m.Error == nil:
		return m, rpcErrorf(codeInvalidRequest, "not a JSON-RPC message: it needs a method")
	case isType:
		return m, rpcErrorf(codeInvalidParams, "%s must not be of type %s", wrong.Field, wrong.Value)
	}
	return m, nil
}

// buffers hold first a request's body and then the response to it.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func releaseBuffer(b *bytes.Buffer) {
	if b.Cap() <= 64<<10 { // a document of megabytes must not stay for good
		buffers.Put(b)
	}
}

// appendResult appends the response to m. What the modern era wants in each result is put before the result's own
// members, of which every modern result has some.
func (s *server) appendResult(buf *bytes.Buffer, m *message, result any) error {
	buf.WriteString(`{"jsonrpc":"2.0","id":`)
	buf.Write(m.ID)
	buf.WriteString(`,"result":`)
	if m.isModern() {
		buf.WriteString(modernResult)
		if ttl := methods[m.Method].ttl; ttl > 0 {
			scope := "public"
			if s.cfg.apiToken != "" {
				scope = "private"
			}
			fmt.Fprintf(buf, `,"ttlMs":%d,"cacheScope":"%s"`, ttl.Milliseconds(), scope)
		}
	}
	at := buf.Len()
	if err := encodeJSON(buf, result); err != nil {
		return err
	}
	if m.isModern() {
		buf.Bytes()[at] = ',' // instead of the brace
	}
	buf.WriteByte('}')
	return nil
}

// encodeJSON appends v, leaving < and > as they are: documents are full of them.
func encodeJSON(buf *bytes.Buffer, v any) error {
	encoder := json.NewEncoder(buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	buf.Truncate(buf.Len() - 1) // the newline
	return nil
}

// mustJSON encodes what is fixed in the program.
func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// errorResponse is the JSON-RPC form of an error; its id is null where that could not be read.
type errorResponse struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Error   rpcError        `json:"error"`
}

// writeRPCProblem answers a request whose message was not read: what is wrong is the request, not its params.
func writeRPCProblem(w http.ResponseWriter, p problem) {
	p.setHeader(w.Header())
	if p.code == codeInvalidParams {
		p.code = codeInvalidRequest
	}
	data := map[string]string{"correlation_id": w.Header().Get("X-Correlation-Id")}
	writeJSON(w, p.status, errorResponse{JSONRPC: "2.0", Error: rpcError{p.code, p.message, data}})
}

// speaksJSONRPC reports whether r's errors must be in JSON-RPC form.
func speaksJSONRPC(r *http.Request) bool { return r.URL.Path == "/mcp" || r.URL.Path == "/messages" }

// rpcStatus returns the HTTP status of an error response to m. Initialize-era clients take any status but 200 for a broken
// transport: they get 200 wherever there was a request that could be understood.
func rpcStatus(m *message, p problem) int {
	understood := []int{codeMethodNotFound, codeInvalidParams, codeResourceNotFound, codeInternal}
	switch {
	case !m.isModern() && slices.Contains(understood, p.code):
		return http.StatusOK
	case p.code == codeMethodNotFound:
		return http.StatusNotFound
	}
	return p.status
}
