package main

// The transports of the Model Context Protocol: POST /mcp for revision 2026-07-28 ("modern") and the initialize era
// before it ("legacy"), GET /mcp for the notifications of the latter, and GET /sse with POST /messages for revision
// 2024-11-05. /sse is the only transport with state per client.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxBatch bounds the messages of a batch: each needs a stage of the record.
const maxBatch = maxStages

// handleMCP answers POST /mcp: a message of either era, or a legacy batch.
func (s *server) handleMCP(w http.ResponseWriter, r *http.Request) error {
	st, err := s.answerPost(w, r)
	if err != nil || st == nil {
		return err
	}
	return s.serveStream(w, r, st) // which lasts: nothing of the message is kept for it
}

// answerPost answers POST /mcp, except where the message opens a stream: that it returns.
func (s *server) answerPost(w http.ResponseWriter, r *http.Request) (*stream, error) {
	buf := takeBuffer()
	defer releaseBuffer(buf)
	if err := readMessage(w, r, buf); err != nil {
		return nil, err
	}
	text := bytes.TrimLeft(buf.Bytes(), " \t\r\n")
	if bytes.HasPrefix(text, []byte("[")) {
		return nil, s.answerBatch(w, r, buf)
	}

	m, err := parseMessage(buf.Bytes())
	c := &call{message: m, version: headerValue(r.Header, versionHeader)}
	if err == nil {
		err = c.negotiate(r.Header)
	}
	isListen := c.Method == "subscriptions/listen" && c.isModern() && c.isRequest()
	if err == nil && isListen {
		var st *stream
		st, err = s.listen(r, c)
		if err == nil {
			return st, nil
		}
	} else if err == nil && !accepts(r, "application/json") {
		err = errNotAcceptable
	}
	status, p := s.answer(r.Context(), buf, c, err)
	writeMessage(w, status, p, buf)
	return nil, nil
}

// readMessage reads the body of r into buf.
func readMessage(w http.ResponseWriter, r *http.Request, buf *bytes.Buffer) error {
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(mediaType), "application/json") {
		return userError{http.StatusUnsupportedMediaType, "the body must be JSON: send Content-Type: application/json"}
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		return bodyError(err)
	}
	markBodyRead(r.Context())
	return nil
}

// writeMessage answers with the response in buf. p is the problem that it tells of, if any. Content-Length spares the
// answer the chunked encoding.
func writeMessage(w http.ResponseWriter, status int, p problem, buf *bytes.Buffer) {
	if status != p.status {
		p = problem{} // its headers belong to its own status
	}
	h := w.Header()
	p.setHeader(h)
	if buf.Len() > 0 {
		h["Content-Type"] = jsonType
		h.Set("Content-Length", strconv.Itoa(buf.Len()))
	}
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // a client that is gone is noticed when the request is reported
}

// answerBatch answers the messages in buf one after the other. Each counts against the rate limit.
func (s *server) answerBatch(w http.ResponseWriter, r *http.Request, buf *bytes.Buffer) error {
	texts, err := parseBatch(buf.Bytes(), headerValue(r.Header, versionHeader))
	if err != nil {
		status, p := s.answer(r.Context(), buf, &call{message: new(message)}, err)
		writeMessage(w, status, p, buf)
		return nil
	}
	for range texts[1:] { // the first one has been counted with the request
		if err := s.limit(r); err != nil {
			return err
		}
	}

	var responses [][]byte
	for _, text := range texts {
		response := s.answerInBatch(r, text)
		if len(response) > 0 {
			responses = append(responses, response)
		}
	}
	buf.Reset()
	if responses == nil {
		writeMessage(w, http.StatusAccepted, problem{}, buf)
		return nil
	}
	fmt.Fprintf(buf, "[%s]", bytes.Join(responses, []byte(",")))
	writeMessage(w, http.StatusOK, problem{}, buf)
	return nil
}

// parseBatch returns the messages of a batch. version is that of the header.
func parseBatch(text []byte, version string) ([]json.RawMessage, error) {
	var texts []json.RawMessage
	if err := json.Unmarshal(text, &texts); err != nil {
		return nil, rpcErrorf(codeParse, "not JSON: send a JSON-RPC 2.0 message")
	}
	if version != "" && version != batchVersion {
		return nil, rpcErrorf(codeInvalidRequest, "batches are part of protocol version %s alone: send the messages one by one", batchVersion)
	}
	if len(texts) == 0 || len(texts) > maxBatch {
		return nil, rpcErrorf(codeInvalidRequest, "a batch has 1 to %d messages", maxBatch)
	}
	return texts, nil
}

// answerInBatch returns the response to one message of a batch, empty for a notification.
func (s *server) answerInBatch(r *http.Request, text []byte) []byte {
	m, err := parseMessage(text)
	c := &call{message: m}
	if err == nil {
		err = c.negotiate(r.Header)
	}
	if err == nil && c.Method == "initialize" {
		err = rpcErrorf(codeInvalidRequest, "initialize must not be part of a batch")
	}
	var response bytes.Buffer
	s.answer(r.Context(), &response, c, err)
	return response.Bytes()
}

// listen opens the stream of subscriptions/listen, the modern notification stream. It begins with what is granted and
// ends with the result of the call.
func (s *server) listen(r *http.Request, c *call) (*stream, error) {
	if !accepts(r, "text/event-stream") {
		return nil, errNotAcceptable
	}
	wanted := paramsAs[listenParams](c.message).Notifications
	st := newStream(streamableHTTP)
	st.lists = wanted.ResourcesListChanged
	if err := st.subscribe(wanted.ResourceSubscriptions...); err != nil {
		return nil, err
	}

	id := string(c.ID)
	subscription := `"io.modelcontextprotocol/subscriptionId":` + id
	st.meta = "{" + subscription + "}"
	var hello, goodbye bytes.Buffer
	st.writeNotification(&hello, "notifications/subscriptions/acknowledged", `"notifications":`+mustJSON(wanted))
	writeEvent(&goodbye, "message", `{"jsonrpc":"2.0","id":`+id+`,"result":{"resultType":"complete","_meta":{`+subscription+
		`,"io.modelcontextprotocol/serverInfo":`+serverInfoJSON+`}}}`)
	st.hello = hello.Bytes()
	st.goodbye = goodbye.Bytes()

	if err := s.openStream(r, st); err != nil {
		return nil, err
	}
	_, end := c.beginStage(r.Context(), methodLabel(c.Method))
	end(nil) // the rest of the request is waiting
	return st, nil
}

// handleNotifications answers GET /mcp, the legacy notification stream. It has no session that could subscribe to a
// document, so it tells of list changes alone.
func (s *server) handleNotifications(w http.ResponseWriter, r *http.Request) error {
	version := headerValue(r.Header, versionHeader)
	switch {
	case version == modernVersion:
		return headerError{
			userError{http.StatusMethodNotAllowed, "send requests with POST: subscriptions/listen is the stream of this protocol version"},
			"Allow", "POST",
		}
	case version != "" && !slices.Contains(legacyVersions, version):
		return userError{http.StatusBadRequest, fmt.Sprintf("protocol version %.40q is not spoken here: use %s", version, legacyVersions[0])}
	case !accepts(r, "text/event-stream"):
		return errNotAcceptable
	}

	st := newStream(streamableHTTP)
	st.lists = true
	st.hello = []byte(": notifications follow\n\n")
	if err := s.openStream(r, st); err != nil {
		return err
	}
	return s.serveStream(w, r, st)
}

// handleSSE answers GET /sse, the stream of revision 2024-11-05: the address for messages first, then the responses.
func (s *server) handleSSE(w http.ResponseWriter, r *http.Request) error {
	if !accepts(r, "text/event-stream") {
		return errNotAcceptable
	}
	st := newSession()
	st.lists = true
	var hello bytes.Buffer
	writeEvent(&hello, "endpoint", "/messages?sessionId="+st.session)
	st.hello = hello.Bytes()
	if err := s.openStream(r, st); err != nil {
		return err
	}
	defer st.cancelCalls()
	return s.serveStream(w, r, st)
}

// handleMessages answers POST /messages: a message of a client of /sse. Its response goes onto the client's stream.
func (s *server) handleMessages(w http.ResponseWriter, r *http.Request) error {
	id := r.URL.Query().Get("sessionId")
	if id == "" {
		return userError{http.StatusBadRequest, "missing sessionId: open GET /sse and post to the address in its first event"}
	}
	st := s.streams.find(id)
	if st == nil {
		return userError{http.StatusNotFound, "no such session: its stream has ended, open GET /sse again"}
	}
	buf := takeBuffer()
	defer releaseBuffer(buf)
	if err := readMessage(w, r, buf); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	m, err := parseMessage(buf.Bytes())
	c := &call{message: m, version: sseVersion, session: st}
	requestID := string(c.ID)
	if err == nil && c.ID != nil {
		err = st.beginCall(requestID, cancel)
	}
	if err != nil {
		status, p := s.answer(ctx, buf, c, err)
		writeMessage(w, status, p, buf)
		return nil
	}

	if c.Method == "notifications/cancelled" {
		st.cancelCall(string(paramsAs[cancelledParams](m).RequestID))
	}
	s.answer(ctx, buf, c, nil)
	inFlight := st.endCall(requestID)
	if inFlight && buf.Len() > 0 {
		st.send(buf.Bytes())
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
