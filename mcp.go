package main

// The transports of the Model Context Protocol: POST /mcp for revision 2026-07-28 ("modern") and the initialize era
// before it ("legacy"), GET /mcp for the notifications of the latter, and GET /sse with POST /messages for revision
// 2024-11-05. /sse is the only transport with state per client.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxBatch limits the messages of a batch, because each needs a stage of the record.
const maxBatch = maxStages

// handleMCP answers POST /mcp: a message of either era, or a legacy batch.
func (s *server) handleMCP(w http.ResponseWriter, r *http.Request) error {
	st, err := s.answerPost(w, r)
	if err != nil || st == nil {
		return err
	}

	// answerPost has released the message and its buffer, because the stream may last an hour.
	return s.serveStream(w, r, st)
}

// answerPost answers POST /mcp. If the message opens a stream, answerPost returns the stream instead.
func (s *server) answerPost(w http.ResponseWriter, r *http.Request) (*stream, error) {
	buf := takeBuffer()
	defer releaseBuffer(buf)
	if err := readMessage(w, r, buf); err != nil {
		return nil, err
	}
	text := bytes.TrimPrefix(buf.Bytes(), []byte(byteOrderMark))
	text = bytes.TrimLeft(text, " \t\r\n")
	if bytes.HasPrefix(text, []byte("[")) {
		return nil, s.answerBatch(w, r, buf, text)
	}

	var st *stream
	c, err := parseCall(text, r.Header)
	c.urls = s.addresses(r)
	switch {
	case err != nil:
		// It is answered below.
	case c.isListen():
		st, err = s.listen(r, c)
	case c.isRequest() && !acceptsAnswer(r):
		err = errNotAcceptable
	}
	if st != nil {
		return st, nil
	}

	s.respond(r.Context(), w, r, buf, c, err)
	return nil, nil
}

var errNotJSON = userError{
	http.StatusUnsupportedMediaType,
	"the body must be JSON: send Content-Type: application/json",
}

// readMessage reads the body of r into buf.
func readMessage(w http.ResponseWriter, r *http.Request, buf *bytes.Buffer) error {
	if !isJSON(r.Header) {
		return errNotJSON
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		return bodyError(err)
	}
	markBodyRead(r.Context())
	return nil
}

// respond answers c over HTTP, with err if it is not nil. buf is room for the response.
func (s *server) respond(
	ctx context.Context, w http.ResponseWriter, r *http.Request,
	buf *bytes.Buffer, c *call, err error,
) {
	status, p := s.answer(ctx, buf, c, err)
	if status != p.status {
		// Headers such as Retry-After do not fit another status than the problem's own.
		p = problem{}
	}
	writeMessage(w, r, status, p, buf, c.shared)
}

// writeMessage writes the response in buf with the headers of p, which is zero without a problem. With
// Content-Length the response needs no chunked encoding; a shared text has an unknown length. A client that takes only
// events gets the response as one event. Errors with their own status stay JSON, because clients read the body of such a
// status as text.
func writeMessage(
	w http.ResponseWriter, r *http.Request, status int, p problem, buf *bytes.Buffer, shared sharedText,
) {
	h := w.Header()
	p.setHeader(h)
	if buf.Len() > 0 {
		h["Content-Type"] = jsonType
	}
	if buf.Len() > 0 && status == http.StatusOK && wantsEvent(r) {
		data := buf.String()
		buf.Reset()
		writeEvent(buf, "message", data)
		shared.at += buf.Len() - len(data) - len("\n\n")
		h["Cache-Control"] = streamCache
		h.Set("Content-Type", "text/event-stream")
	}
	if buf.Len() > 0 && shared.text == "" {
		h.Set("Content-Length", strconv.Itoa(buf.Len()))
	}
	w.WriteHeader(status)

	// The report of the request says if the client has gone.
	_ = reply{buf.Bytes(), shared}.writeTo(w)
}

// answerBatch answers the messages in text one after the other. Each counts against the rate limit. buf is room for the
// response.
func (s *server) answerBatch(w http.ResponseWriter, r *http.Request, buf *bytes.Buffer, text []byte) error {
	texts, err := parseBatch(text, tokenValue(r.Header, versionHeader))
	if err == nil && !acceptsAnswer(r) && slices.ContainsFunc(texts, needsAnswer) {
		err = errNotAcceptable
	}
	if err != nil {
		s.respond(r.Context(), w, r, buf, &call{message: new(message)}, err)
		return nil
	}

	// The guard has counted the request, and with it the first message.
	for range texts[1:] {
		if err := s.limit(r); err != nil {
			return err
		}
	}

	out := batchWriter{w: w, r: r}
	for _, text := range texts {
		s.answerInBatch(r, &out, buf, text)
	}
	if !out.hasBegun {
		buf.Reset()
		writeMessage(w, r, http.StatusAccepted, problem{}, buf, sharedText{})
		return nil
	}
	out.end()
	return nil
}

// maxBatchAnswer bounds the responses of a batch together.
const maxBatchAnswer = 16 << 20

var errBatchTooLarge = userErrorf(http.StatusRequestEntityTooLarge,
	"the responses of this batch have more than %d MiB: send the rest in another one", maxBatchAnswer>>20)

// batchWriter writes the responses of a batch as they are made.
type batchWriter struct {
	w        http.ResponseWriter
	r        *http.Request
	hasBegun bool
	bytes    int  // written so far
	isFull   bool // a response had no room
}

// add writes one response.
func (b *batchWriter) add(one reply) {
	b.bytes += one.bytes()
	if b.hasBegun {
		b.write(",")
	} else {
		b.begin()
	}
	_ = one.writeTo(b.w) // the report of the request says if the client has gone
}

// begin writes what stands before the first response. A client that takes only events gets the whole array as one event.
func (b *batchWriter) begin() {
	b.hasBegun = true
	h := b.w.Header()
	h["Cache-Control"] = noStore
	h["Content-Type"] = jsonType
	before := "["
	if wantsEvent(b.r) {
		h["Cache-Control"] = streamCache
		h.Set("Content-Type", "text/event-stream")
		before = "event: message\ndata: ["
	}
	b.w.WriteHeader(http.StatusOK)
	b.write(before)
}

// end writes what stands after the last response.
func (b *batchWriter) end() {
	b.write("]")
	if wantsEvent(b.r) {
		b.write("\n\n")
	}
}

func (b *batchWriter) write(text string) { _, _ = io.WriteString(b.w, text) }

// parseBatch returns the messages of a batch. version is that of the header.
func parseBatch(text []byte, version string) ([]json.RawMessage, error) {
	var texts []json.RawMessage
	err := json.Unmarshal(text, &texts)
	switch {
	case err != nil:
		return nil, rpcErrorf(codeParse,
			"not JSON: send a JSON-RPC 2.0 message")
	case version != "" && version != batchVersion:
		return nil, rpcErrorf(codeInvalidRequest,
			"batches are part of protocol version %s alone: send the messages one by one",
			batchVersion)
	case len(texts) == 0, len(texts) > maxBatch:
		return nil, rpcErrorf(codeInvalidRequest,
			"a batch has 1 to %d messages",
			maxBatch)
	}
	return texts, nil
}

// needsAnswer reports whether a message of a batch is a request.
func needsAnswer(text json.RawMessage) bool {
	m, _ := parseMessage(text)
	return m.isRequest()
}

// answerInBatch answers one message of a batch. buf is room for the response. After a response without room, all
// further ones are errors, which are small.
func (s *server) answerInBatch(r *http.Request, out *batchWriter, buf *bytes.Buffer, text []byte) {
	c, err := parseCall(text, r.Header)
	c.urls = s.addresses(r)
	switch {
	case err != nil:
		// It is answered below.
	case c.isRequest() && c.Method == "initialize":
		err = rpcErrorf(codeInvalidRequest,
			"initialize must not be part of a batch")
	case c.isRequest() && out.isFull:
		err = errBatchTooLarge
	}

	s.answer(r.Context(), buf, c, err)
	if buf.Len() == 0 {
		return
	}
	one := reply{buf.Bytes(), c.shared}
	if out.bytes+one.bytes() <= maxBatchAnswer || out.isFull {
		out.add(one)
		return
	}
	out.isFull = true
	c.shared = sharedText{}
	writeRPCError(buf, c, reportError(r.Context(), errBatchTooLarge))
	out.add(reply{encoded: buf.Bytes()})
}

// listen opens the stream of subscriptions/listen, the modern notification stream.
func (s *server) listen(r *http.Request, c *call) (*stream, error) {
	if !accepts(r, "text/event-stream") {
		return nil, errNotAcceptable
	}

	const maxListenID = 1024 // it is part of each notification
	if len(c.ID) > maxListenID {
		return nil, rpcErrorf(codeInvalidRequest, "id must have at most %d bytes", maxListenID)
	}
	wanted := paramsAs[listenParams](c.message).Notifications
	st := newStream(streamableHTTP)
	st.lists = wanted.ResourcesListChanged
	for _, uri := range wanted.ResourceSubscriptions {
		if _, ok := documentID(uri); !ok {
			return nil, noSuchURI(uri)
		}
	}

	s.setListenEvents(st, string(c.ID), wanted)

	if err := s.openStream(r, st); err != nil {
		return nil, err
	}
	if err := s.streams.subscribe(st, wanted.ResourceSubscriptions...); err != nil {
		s.streams.end(st)
		return nil, err
	}

	// The stage ends here, because the request then only waits for changes.
	_, end := c.beginStage(r.Context(), methodLabel(c.Method))
	end(nil)
	return st, nil
}

// setListenEvents sets the first and the last event of the stream of subscriptions/listen: the granted subscriptions,
// and the result of the call with this id.
func (s *server) setListenEvents(st *stream, id string, granted subscriptions) {
	subscription := `"io.modelcontextprotocol/subscriptionId":` + id
	st.meta = "{" + subscription + "}"

	var hello bytes.Buffer
	members := `"notifications":` + mustJSON(granted)
	st.writeNotification(&hello, "notifications/subscriptions/acknowledged", members)
	st.hello = hello.Bytes()

	var goodbye bytes.Buffer
	meta := `{` + subscription + `,` + s.identity.meta + `}`
	result := `{"resultType":"complete","_meta":` + meta + `}`
	response := `{"jsonrpc":"2.0","id":` + id + `,"result":` + result + `}`
	writeEvent(&goodbye, "message", response)
	st.goodbye = goodbye.Bytes()
}

var errListenWithPost = userError{
	http.StatusMethodNotAllowed,
	"send requests with POST: subscriptions/listen is the stream of this protocol version",
}

// errNoStream refuses GET /mcp of a client that does not expect this stream and would hang on it.
var errNoStream = userError{
	http.StatusMethodNotAllowed,
	"send requests with POST: a stream needs Accept: text/event-stream and an " +
		"MCP-Protocol-Version from 2025-03-26 to 2025-11-25; /sse has that of 2024-11-05",
}

// handleNotifications answers GET /mcp, the legacy notification stream. It has no session that could subscribe to a
// document, so it reports only changes of the list. Many programs ask GET without wanting a stream: probes that follow
// no events, and clients of 2024-11-05, which wait for an endpoint event. So both headers must ask for it.
func (s *server) handleNotifications(w http.ResponseWriter, r *http.Request) error {
	version := tokenValue(r.Header, versionHeader)
	switch {
	case version == modernVersion:
		return headerError{errListenWithPost, "Allow", "POST"}
	case !namesType(r, "text/event-stream"), version == "", version == sseVersion:
		return headerError{errNoStream, "Allow", "POST"}
	case !slices.Contains(legacyVersions, version):
		text := fmt.Sprintf(
			"protocol version %.40q is not spoken here: use %s",
			version, legacyVersions[0])
		return userError{http.StatusBadRequest, text}
	}

	st := newStream(streamableHTTP)
	st.lists = true
	st.hello = []byte(": notifications follow\n\n")
	if err := s.openStream(r, st); err != nil {
		return err
	}
	return s.serveStream(w, r, st)
}

// handleSSE answers GET /sse, the stream of revision 2024-11-05. It sends the address for messages first, then responses
// and notifications.
func (s *server) handleSSE(w http.ResponseWriter, r *http.Request) error {
	if !accepts(r, "text/event-stream") {
		return errNotAcceptable
	}

	st := newSession()
	st.lists = true
	var hello bytes.Buffer
	writeEvent(&hello, "endpoint", messagesPath(r.URL.Path)+"?sessionId="+st.session)
	st.hello = hello.Bytes()

	if err := s.openStream(r, st); err != nil {
		return err
	}
	defer st.cancelCalls()
	return s.serveStream(w, r, st)
}

// messagesPath returns the path of /messages relative to ssePath, the one of /sse. So a proxy may serve both below a
// prefix that it strips.
func messagesPath(ssePath string) string {
	if strings.HasSuffix(ssePath, "/") {
		return "../messages"
	}
	return "messages"
}

var (
	errNoSessionID = userError{
		http.StatusBadRequest,
		"missing sessionId: open GET /sse and post to the address in its first event",
	}
	errNoSession = userError{
		http.StatusNotFound,
		"no such session: its stream has ended, open GET /sse again",
	}
)

// handleMessages answers POST /messages, a message of a client of /sse. It sends the response on the client's stream.
func (s *server) handleMessages(w http.ResponseWriter, r *http.Request) error {
	sessionID := r.URL.Query().Get("sessionId")
	if sessionID == "" {
		return errNoSessionID
	}
	st := s.streams.find(sessionID)
	if st == nil {
		return errNoSession
	}
	buf := takeBuffer()
	defer releaseBuffer(buf)
	if err := readMessage(w, r, buf); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	c, err := parseSessionCall(buf.Bytes(), st, cancel)
	c.urls = s.addresses(r)
	if err != nil {
		s.respond(ctx, w, r, buf, c, err)
		return nil
	}

	if c.Method == "notifications/cancelled" {
		params := paramsAs[cancelledParams](c.message)
		st.cancelCall(string(params.RequestID))
	}
	isAwaited := s.answerInSession(ctx, buf, c)
	if isAwaited && buf.Len() > 0 {
		st.send(newReply(buf, c.shared))
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// answerInSession answers a call of a session. It reports whether the client still waits for the response. A call that
// panics ends too, so that it does not keep the session from being idle.
func (s *server) answerInSession(ctx context.Context, buf *bytes.Buffer, c *call) (isAwaited bool) {
	defer func() { isAwaited = c.session.endCall(string(c.ID)) }()
	s.answer(ctx, buf, c, nil)
	return false
}

// parseSessionCall parses a message of a session. It registers a request with cancel, so that the client can cancel it.
func parseSessionCall(text []byte, st *stream, cancel context.CancelFunc) (*call, error) {
	m, err := parseMessage(text)
	c := &call{message: m, version: sseVersion, session: st}
	if err != nil || c.ID == "" {
		return c, err
	}
	return c, st.beginCall(string(c.ID), cancel)
}
