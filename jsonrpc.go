package main

// JSON-RPC 2.0 on the wire: messages with the params of each method, responses and errors. This file knows the names
// and types of MCP's messages, but not their meaning.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// message is a JSON-RPC message: a request, a notification, or a response.
type message struct {
	ID     rawValue // empty: a notification or a response, whose id is that of a request of the server
	Method string
	Params params // of the type that newParams makes for the method

	isResponse bool // it has a result or an error, and no method

	decoding decoding
	room     [16]member // for most messages, which saves allocations
}

func (m *message) isRequest() bool {
	return m.ID != "" && m.Method != ""
}

// id returns the id for a response, nil if there is none.
func (m *message) id() json.RawMessage {
	if m.ID == "" {
		return nil
	}
	return json.RawMessage(m.ID)
}

// meta returns the _meta of the params.
func (m *message) meta() *requestMeta {
	if m.Params == nil {
		return new(requestMeta)
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
type params interface {
	read(f *objectMembers)
	meta() *requestMeta
}

// newParams returns a pointer to empty params of the method.
func newParams(method string) params {
	switch method {
	case "initialize":
		return new(initializeParams)
	case "tools/call", "prompts/get":
		return new(callParams)
	case "tools/list", "resources/list", "resources/templates/list", "prompts/list":
		return new(listParams)
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		return new(resourceParams)
	case "completion/complete":
		return new(completeParams)
	case "subscriptions/listen":
		return new(listenParams)
	case "logging/setLevel":
		return new(levelParams)
	case "notifications/cancelled":
		return new(cancelledParams)
	}
	return new(baseParams)
}

// baseParams are the members that the params of every method have.
type baseParams struct {
	Meta requestMeta
}

func (p *baseParams) meta() *requestMeta { return &p.Meta }

func (p *baseParams) read(f *objectMembers) {
	meta := f.object("_meta", "params._meta.")
	if meta.members == nil {
		return
	}
	const (
		version      = "io.modelcontextprotocol/protocolVersion"
		capabilities = "io.modelcontextprotocol/clientCapabilities"
		client       = "io.modelcontextprotocol/clientInfo"
	)
	p.Meta.Version = meta.text(version)
	p.Meta.HasVersion = !meta.get(version).isAbsent()
	meta.object(capabilities, "")
	p.Meta.HasCapabilities = !meta.get(capabilities).isAbsent()
	p.Meta.Client = readClientInfo(meta.object(client, "params._meta."+client+"."))
	if traceparent := meta.get("traceparent"); traceparent.isString() {
		p.Meta.Traceparent = traceparent.text()
	}
}

// requestMeta is the _meta that a modern client sends with each message.
type requestMeta struct {
	Version         string
	HasVersion      bool
	HasCapabilities bool
	Client          clientInfo
	Traceparent     string
}

// clientInfo is the name and version that a client program states.
type clientInfo struct {
	Name    string
	Version string
}

func readClientInfo(f objectMembers) clientInfo {
	return clientInfo{f.text("name"), f.text("version")}
}

// initializeParams name the client and the version that it asks for.
type initializeParams struct {
	baseParams
	ProtocolVersion string
	Client          clientInfo
}

func (p *initializeParams) read(f *objectMembers) {
	p.baseParams.read(f)
	p.ProtocolVersion = f.text("protocolVersion")
	p.Client = readClientInfo(f.object("clientInfo", "params.clientInfo."))
}

// callParams name a tool or a prompt.
type callParams struct {
	baseParams
	Name      string
	Arguments []member
}

func (p *callParams) read(f *objectMembers) {
	p.baseParams.read(f)
	p.Name = f.text("name")
	p.Arguments = f.object("arguments", "").members
}

// listParams ask for a page of a list.
type listParams struct {
	baseParams
	Cursor string
}

func (p *listParams) read(f *objectMembers) {
	p.baseParams.read(f)
	p.Cursor = f.text("cursor")
}

// resourceParams name a resource.
type resourceParams struct {
	baseParams
	URI string
}

func (p *resourceParams) read(f *objectMembers) {
	p.baseParams.read(f)
	p.URI = f.text("uri")
}

// completeParams ask for completions of an argument's value.
type completeParams struct {
	baseParams
	RefURI string
	Name   string // of the argument
	Value  string
}

func (p *completeParams) read(f *objectMembers) {
	p.baseParams.read(f)
	ref := f.object("ref", "params.ref.")
	p.RefURI = ref.text("uri")
	argument := f.object("argument", "params.argument.")
	p.Name = argument.text("name")
	p.Value = argument.text("value")
}

// listenParams open a stream of notifications.
type listenParams struct {
	baseParams
	Notifications subscriptions
}

func (p *listenParams) read(f *objectMembers) {
	p.baseParams.read(f)
	wanted := f.object("notifications", "params.notifications.")
	p.Notifications.ResourcesListChanged = wanted.flag("resourcesListChanged")
	p.Notifications.ResourceSubscriptions = wanted.texts("resourceSubscriptions")
}

// subscriptions are the notifications that a client asks for.
type subscriptions struct {
	ResourcesListChanged  bool     `json:"resourcesListChanged,omitempty"`
	ResourceSubscriptions []string `json:"resourceSubscriptions,omitempty"` // URIs
}

// levelParams name a level of log messages.
type levelParams struct {
	baseParams
	Level string
}

func (p *levelParams) read(f *objectMembers) {
	p.baseParams.read(f)
	p.Level = f.text("level")
}

// cancelledParams name a request that the client has cancelled.
type cancelledParams struct {
	baseParams
	RequestID rawValue
}

func (p *cancelledParams) read(f *objectMembers) {
	p.baseParams.read(f)
	p.RequestID = f.get("requestId")
}

// parseMessage decodes a message. If it returns an error, the message has the members that could be read, so that the
// response can have the id. Only a request is answered, so nothing in the params of another message is an error.
func parseMessage(text []byte) (*message, error) {
	m := new(message)
	text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	if !json.Valid(text) || !utf8.Valid(text) {
		return m, rpcErrorf(codeParse,
			"not JSON in UTF-8: send a JSON-RPC 2.0 message")
	}

	v := rawValue(bytes.Trim(text, " \t\r\n"))
	if v[0] != '{' {
		return m, rpcErrorf(codeInvalidRequest,
			"not a JSON-RPC message: it must be an object, not %s", v.kind())
	}
	if err := m.readEnvelope(v); err != nil {
		return m, err
	}
	if !m.isRequest() {
		return m, nil
	}

	if v.hasDuplicates() {
		return m, errDuplicate
	}
	problem := m.decoding.problem
	if problem.name != "" {
		return m, rpcErrorf(codeInvalidParams, "%v", problem)
	}
	return m, nil
}

// errDuplicate refuses a message with two members of the same name: a gateway may have read the other one.
var errDuplicate = rpcErrorf(codeInvalidRequest,
	"an object of the message has two members of the same name: send each once")

// readEnvelope reads the members of the message itself, and its params. An error in the params stays in m.decoding,
// because parseMessage reports it only for requests.
func (m *message) readEnvelope(v rawValue) error {
	d := &m.decoding
	d.members = m.room[:0]
	f := d.fieldsOf(v, "")
	m.Method = f.text("method")
	result := f.get("result")
	failure := f.get("error")
	m.isResponse = m.Method == "" && (result != "" || failure != "")
	if err := m.readID(&f); err != nil {
		return err
	}
	version := f.text("jsonrpc")

	problem := d.problem
	switch {
	case problem.name != "":
		return rpcErrorf(codeInvalidRequest,
			"not a JSON-RPC message: %v", problem)
	case version != "2.0":
		return rpcErrorf(codeInvalidRequest,
			`not a JSON-RPC message: it needs "jsonrpc":"2.0"`)
	case m.Method == "" && !m.isResponse:
		return rpcErrorf(codeInvalidRequest,
			"not a JSON-RPC message: it needs a method")
	case m.Method != "" && (!result.isAbsent() || !failure.isAbsent()):
		// A gateway may take it for a response and let it pass.
		return rpcErrorf(codeInvalidRequest,
			"not a JSON-RPC message: it has a method and a result, so it is neither a request nor a response")
	}

	m.Params = newParams(m.Method)
	params := f.object("params", "params.")
	m.Params.read(&params)
	return nil
}

// readID reads the id of the message, unless it is a response. It refuses a message that has two members of the same
// name, because the server cannot tell which one counts. If only other members are repeated, m.ID is still set, for the
// error response.
func (m *message) readID(f *objectMembers) error {
	var names nameSet
	isDuplicate := false
	for _, member := range f.members {
		if names.add(member.name) {
			continue
		}
		isDuplicate = true
		if member.name == "id" {
			return errDuplicate
		}
	}

	if !m.isResponse {
		m.ID = f.get("id")
	}
	if m.ID != "" && !m.ID.isString() && !m.ID.isNumber() {
		m.ID = ""
		return rpcErrorf(codeInvalidRequest,
			"id must be a string or a number, and absent in a notification")
	}
	if isDuplicate {
		return errDuplicate
	}
	return nil
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
