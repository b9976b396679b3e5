package main

// Server-sent events: notification streams of both eras, and the stream of the 2024-11-05 transport.

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const maxSubscriptions = 1000

// streams counts the open streams and knows those of /sse by their session id.
type streams struct {
	most, mostPerClient int
	keepAlive           time.Duration // between comments that keep proxies from closing an idle stream
	patience            time.Duration // with a reader that does not take what is written
	maxAge              time.Duration
	maxIdle             time.Duration // of a session: without any message from its client
	coalesce            time.Duration // changes within it make one notification

	mu       sync.Mutex
	open     int
	byClient map[netip.Prefix]int
	sessions map[string]*stream
}

func newStreams(most int) *streams {
	return &streams{
		most: most, mostPerClient: 100, keepAlive: 15 * time.Second, patience: 10 * time.Second, maxAge: time.Hour,
		maxIdle: 30 * time.Minute, coalesce: 100 * time.Millisecond,
		byClient: make(map[netip.Prefix]int), sessions: make(map[string]*stream),
	}
}

// add counts st, or says why it may not be opened.
func (a *streams) add(client netip.Prefix, st *stream) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.open >= a.most:
		return headerError{userError{http.StatusServiceUnavailable, "too many streams are open: try again later, or raise MAX_STREAMS"}, "Retry-After", "10"}
	case a.byClient[client] >= a.mostPerClient:
		return headerError{userError{http.StatusTooManyRequests, "too many streams are open from this address: close some"}, "Retry-After", "10"}
	}
	a.open++
	a.byClient[client]++
	if st.session != "" {
		a.sessions[st.session] = st
	}
	return nil
}

func (a *streams) remove(client netip.Prefix, st *stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open--
	if a.byClient[client]--; a.byClient[client] == 0 {
		delete(a.byClient, client)
	}
	delete(a.sessions, st.session)
}

func (a *streams) find(session string) *stream {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sessions[session]
}

// stream is an open SSE stream with what waits to be sent on it. However slow its reader, that is bounded: changes are
// kept as a set of what was asked for, and a session whose answers pile up is dropped.
type stream struct {
	transport string
	session   string   // id on /sse, else empty
	request   *message // subscriptions/listen, else nil
	meta      string   // JSON of the _meta that each notification carries, or empty
	coalesce  time.Duration
	wake      chan struct{} // there are changes
	answers   chan []byte   // /sse: the responses
	dropped   chan struct{} // closed when answers overflow
	client    atomic.Value  // /sse: name and version, a string

	mu          sync.Mutex
	lists       bool            // list_changed is wanted
	uris        map[string]bool // of resources whose changes are wanted; true: it changed
	listChanged bool
	waking      bool                          // wake is on its way
	calls       map[string]context.CancelFunc // /sse: requests in flight by id
	used        time.Time                     // when the client last sent a message
}

// changed is told by the store of documents that changed, of any if ids is nil.
func (st *stream) changed(ids []string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.lists && len(st.uris) == 0 {
		return
	}
	something := st.lists
	st.listChanged = st.lists
	for uri := range st.uris {
		if id, _ := documentID(uri); ids == nil || slices.Contains(ids, id) {
			st.uris[uri], something = true, true
		}
	}
	if something && !st.waking {
		st.waking = true
		time.AfterFunc(st.coalesce, func() { st.wake <- struct{}{} }) // has room: waking says that nobody else sends
	}
}

// notifications returns the events for what changed since the last call.
func (st *stream) notifications() []byte {
	st.mu.Lock()
	defer st.mu.Unlock()
	var b bytes.Buffer
	tell := func(method, params string) {
		if st.meta != "" {
			params += `,"_meta":` + st.meta
		}
		writeEvent(&b, "message", `{"jsonrpc":"2.0","method":"`+method+`","params":{`+strings.TrimPrefix(params, ",")+`}}`)
	}
	if st.listChanged {
		tell("notifications/resources/list_changed", "")
	}
	for _, uri := range slices.Sorted(maps.Keys(st.uris)) {
		if st.uris[uri] {
			tell("notifications/resources/updated", `"uri":`+mustJSON(uri))
			st.uris[uri] = false
		}
	}
	st.listChanged, st.waking = false, false
	return b.Bytes()
}

// writeEvent writes an SSE event. JSON as we write it has no line breaks.
func writeEvent(b *bytes.Buffer, event, data string) {
	b.WriteString("event: ")
	b.WriteString(event)
	b.WriteString("\ndata: ")
	b.WriteString(data)
	b.WriteString("\n\n")
}

// subscribeTo adds uris, or says that there are too many.
func (st *stream) subscribeTo(uris ...string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.uris)+len(uris) > maxSubscriptions {
		return rpcErrorf(codeInvalidParams, "a stream has at most %d subscriptions: resources/list_changed tells of every change", maxSubscriptions)
	}
	for _, uri := range uris {
		if _, ok := documentID(uri); !ok {
			return rpcError{Code: codeInvalidParams, Message: fmt.Sprintf("no document has the URI %.100q", uri), Data: map[string]string{"uri": uri}}
		}
		if st.uris == nil {
			st.uris = make(map[string]bool)
		}
		st.uris[uri] = false
	}
	return nil
}

func (s *server) subscribe(_ context.Context, m *message) (any, error) {
	return struct{}{}, m.session.subscribeTo(m.Params.URI)
}

func (s *server) unsubscribe(_ context.Context, m *message) (any, error) {
	m.session.mu.Lock()
	defer m.session.mu.Unlock()
	delete(m.session.uris, m.Params.URI)
	return struct{}{}, nil
}

// listen answers subscriptions/listen, the modern notification stream: what is granted first, the result at the end.
func (s *server) listen(w http.ResponseWriter, r *http.Request, m *message) error {
	if !accepts(r, "text/event-stream") {
		return errNotAcceptable
	}
	id := `{"io.modelcontextprotocol/subscriptionId":` + string(m.ID)
	st := &stream{transport: streamableHTTP, request: m, meta: id + "}", lists: m.Params.Notifications.ResourcesListChanged}
	if err := st.subscribeTo(m.Params.Notifications.ResourceSubscriptions...); err != nil {
		return err
	}
	var hello, goodbye bytes.Buffer
	writeEvent(&hello, "message", `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":`+
		mustJSON(m.Params.Notifications)+`,"_meta":`+st.meta+`}}`)
	writeEvent(&goodbye, "message", `{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":{"resultType":"complete","_meta":`+id+
		`,"io.modelcontextprotocol/serverInfo":`+serverInfoJSON+`}}}`)
	return s.serveStream(w, r, st, hello.Bytes(), goodbye.Bytes())
}

// handleNotifications answers GET /mcp, the legacy notification stream. Nobody can subscribe without a session, so it
// tells of list changes alone.
func (s *server) handleNotifications(w http.ResponseWriter, r *http.Request) error {
	switch version := strings.Join(r.Header["Mcp-Protocol-Version"], ","); {
	case version == modernVersion:
		return headerError{userError{http.StatusMethodNotAllowed, "send requests with POST: subscriptions/listen is the stream of this protocol version"}, "Allow", "POST"}
	case version != "" && !slices.Contains(legacyVersions, version):
		return userError{http.StatusBadRequest, fmt.Sprintf("protocol version %.40q is not spoken here: use %s", version, legacyVersions[0])}
	case !accepts(r, "text/event-stream"):
		return errNotAcceptable
	}
	return s.serveStream(w, r, &stream{transport: streamableHTTP, lists: true}, []byte(": notifications follow\n\n"), nil)
}

// handleSSE answers GET /sse, the stream of the 2024-11-05 transport: where to send messages, then the responses.
func (s *server) handleSSE(w http.ResponseWriter, r *http.Request) error {
	if !accepts(r, "text/event-stream") {
		return errNotAcceptable
	}
	st := &stream{
		transport: legacySSE, session: rand.Text(), lists: true, used: time.Now(),
		answers: make(chan []byte, 32), dropped: make(chan struct{}), calls: make(map[string]context.CancelFunc),
	}
	defer st.cancelCalls()
	var hello bytes.Buffer
	writeEvent(&hello, "endpoint", "/messages?sessionId="+st.session)
	return s.serveStream(w, r, st, hello.Bytes(), nil)
}

// serveStream sends hello and then what comes up, until the client goes, is too slow or idle, or the server wants it
// to come again, which it tells with goodbye. Its error is that st may not be opened.
func (s *server) serveStream(w http.ResponseWriter, r *http.Request, st *stream, hello, goodbye []byte) error {
	client := s.proxies.prefix(r)
	if err := s.streams.add(client, st); err != nil {
		return err
	}
	defer s.streams.remove(client, st)
	st.wake, st.coalesce = make(chan struct{}, 1), s.streams.coalesce
	defer s.store.watch(st.changed)()
	markStream(r.Context(), st.transport)
	if st.request != nil {
		_, end := mcpStage(r.Context(), st.request)
		end(nil) // what follows is waiting
	}
	control := http.NewResponseController(w)
	announceEvents(w.Header())
	write := func(text []byte) error {
		_ = control.SetWriteDeadline(time.Now().Add(s.streams.patience))
		_, err := w.Write(text)
		return errors.Join(err, control.Flush())
	}
	age := time.NewTimer(s.streams.maxAge)
	defer age.Stop()
	keepAlive := time.NewTicker(s.streams.keepAlive)
	defer keepAlive.Stop()
	ended := ""
	for err := write(hello); ended == ""; {
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			ended = "slow_reader"
			continue
		case err != nil:
			ended = "client_gone"
			continue
		}
		select {
		case <-r.Context().Done():
			ended = "client_gone"
		case <-st.dropped:
			ended = "slow_reader"
		case <-s.stopping:
			ended, err = "stopping", write(goodbye)
		case <-age.C:
			ended, err = "max_age", write(goodbye)
		case text := <-st.answers:
			err = write(text)
		case <-st.wake:
			_, end := s.observe.job(r.Context(), "sse_events")
			err = write(st.notifications())
			end(&err)
		case <-keepAlive.C:
			if st.isIdle(s.streams.maxIdle) {
				ended = "idle"
			}
			err = write([]byte(": keep-alive\n\n"))
		}
	}
	logAttrs(r.Context(), slog.String("stream", st.transport), slog.String("stream_ended", ended))
	return nil
}

func announceEvents(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
}

// isIdle reports whether a session's client has been silent for longer than that. Other streams only listen.
func (st *stream) isIdle(most time.Duration) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.session != "" && len(st.calls) == 0 && time.Since(st.used) > most
}

// cancelCalls stops the work for a client that is gone.
func (st *stream) cancelCalls() {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, cancel := range st.calls {
		cancel()
	}
	st.calls = nil
}

// begin registers the request of that id so that it can be cancelled.
func (st *stream) begin(id string, cancel context.CancelFunc) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.used = time.Now()
	if _, taken := st.calls[id]; taken || st.calls == nil {
		return rpcErrorf(codeInvalidRequest, "another request of this id is in flight, or the stream has ended")
	}
	st.calls[id] = cancel
	return nil
}

// take ends what begin began, unless the request has been cancelled.
func (st *stream) take(id string) (cancel context.CancelFunc, inFlight bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	cancel, inFlight = st.calls[id]
	delete(st.calls, id)
	return cancel, inFlight
}

// send passes a response to the stream, whose client is dropped if it has not read the ones before.
func (st *stream) send(response []byte) {
	var b bytes.Buffer
	writeEvent(&b, "message", string(response))
	select {
	case st.answers <- b.Bytes():
	default:
		st.mu.Lock()
		defer st.mu.Unlock()
		select {
		case <-st.dropped:
		default:
			close(st.dropped)
		}
	}
}
