package main

// Server-sent events: the count of open streams, what waits on each, and the loop that sends it. Streams know the URIs
// of documents. The handlers that open streams are in mcp.go.

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
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxSubscriptions = 1000 // URIs of one stream
	maxQueuedAnswers = 32   // responses that wait for the reader of one session
)

// streams is the set of open streams. It limits their number and finds those of /sse by session id.
type streams struct {
	max          int
	maxPerClient int
	keepAlive    time.Duration // between comments, which keep proxies from closing an idle stream
	patience     time.Duration // how long one write may take
	maxAge       time.Duration
	maxIdle      time.Duration // how long a session may go without a request from its client
	coalesce     time.Duration // changes within this time make one notification

	mu       sync.Mutex // guards the following
	open     int
	byClient map[netip.Prefix]int
	sessions map[string]*stream
}

// newStreams returns an empty set of streams, of which at most maxOpen may be open at once.
func newStreams(maxOpen int) *streams {
	return &streams{
		max:          maxOpen,
		maxPerClient: 100,
		keepAlive:    15 * time.Second,
		patience:     10 * time.Second,
		maxAge:       time.Hour,
		maxIdle:      30 * time.Minute,
		coalesce:     100 * time.Millisecond,
		byClient:     make(map[netip.Prefix]int),
		sessions:     make(map[string]*stream),
	}
}

var (
	errTooManyStreams = headerError{
		userError{
			http.StatusServiceUnavailable,
			"too many streams are open: try again later, or raise MAX_STREAMS",
		},
		"Retry-After",
		"10",
	}
	errTooManyOfClient = headerError{
		userError{
			http.StatusTooManyRequests,
			"too many streams are open from this address: close some",
		},
		"Retry-After",
		"10",
	}
)

// add counts st as open, or returns an error if there are too many.
func (a *streams) add(st *stream) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open >= a.max {
		return errTooManyStreams
	}
	if a.byClient[st.client] >= a.maxPerClient {
		return errTooManyOfClient
	}

	a.open++
	a.byClient[st.client]++
	if st.session != "" {
		a.sessions[st.session] = st
	}
	return nil
}

// remove stops counting st, which add has counted.
func (a *streams) remove(st *stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open--
	a.byClient[st.client]--
	if a.byClient[st.client] == 0 {
		delete(a.byClient, st.client)
	}
	delete(a.sessions, st.session)
}

// find returns the open stream of a session, or nil.
func (a *streams) find(session string) *stream {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sessions[session]
}

// stream is an open SSE stream and what waits to be sent on it. A slow reader cannot make that grow without bound:
// a change only marks a subscription, and a session with too many waiting answers is dropped.
type stream struct {
	transport string
	client    netip.Prefix // address that it counts under: see maxPerClient
	hello     []byte       // events to begin with
	goodbye   []byte       // events to end with, if the server ends the stream
	meta      string       // JSON of the _meta that each notification carries, or empty
	coalesce  time.Duration
	wake      chan struct{} // a value in it: there are changes to notify of

	// Only of a session, which is a stream of /sse:
	session    string
	clientName atomic.Value  // a string, from initialize
	answers    chan []byte   // events with responses
	dropped    chan struct{} // closed when answers overflow

	mu          sync.Mutex      // guards the following
	lists       bool            // the client wants list_changed
	listChanged bool            // list_changed waits to be sent
	uris        map[string]bool // subscriptions; true: the resource changed
	waking      bool            // sendWake has been scheduled

	// Also guarded by mu, but only of a session:
	calls    map[string]context.CancelFunc // requests in flight by id; nil once it has ended
	lastUsed time.Time                     // when its client last sent a request
}

// newStream returns a stream of one of the transports in record.go. It is not open yet: see openStream.
func newStream(transport string) *stream {
	return &stream{transport: transport, wake: make(chan struct{}, 1)}
}

// newSession returns a stream of /sse. Its session id is a secret: whoever has it can post as the client.
func newSession() *stream {
	st := newStream(legacySSE)
	st.session = rand.Text()
	st.answers = make(chan []byte, maxQueuedAnswers)
	st.dropped = make(chan struct{})
	st.calls = make(map[string]context.CancelFunc)
	st.lastUsed = time.Now()
	return st
}

// subscribe adds URIs of documents. The errors are of kind rpcError.
func (st *stream) subscribe(uris ...string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.uris)+len(uris) > maxSubscriptions {
		return rpcErrorf(codeInvalidParams,
			"a stream has at most %d subscriptions: resources/list_changed tells of every change",
			maxSubscriptions)
	}

	if st.uris == nil {
		st.uris = make(map[string]bool)
	}
	for _, uri := range uris {
		if _, ok := documentID(uri); !ok {
			return rpcError{
				Code:    codeInvalidParams,
				Message: fmt.Sprintf("no document has the URI %.100q", uri),
				Data:    map[string]string{"uri": uri},
			}
		}
		st.uris[strings.Clone(uri)] = false // not the memory of the whole message
	}
	return nil
}

// unsubscribe ignores URIs that are not subscribed to.
func (st *stream) unsubscribe(uri string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.uris, uri)
}

// changed marks what the client wants to know about the changed documents. If ids is nil, any may have changed. The
// store calls it.
func (st *stream) changed(ids []string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.lists && len(st.uris) == 0 {
		return
	}

	isWanted := st.lists
	st.listChanged = st.lists
	for uri := range st.uris {
		id, _ := documentID(uri)
		if ids == nil || slices.Contains(ids, id) {
			st.uris[uri] = true
			isWanted = true
		}
	}
	if isWanted && !st.waking {
		st.waking = true
		time.AfterFunc(st.coalesce, st.sendWake)
	}
}

// sendWake never blocks: the channel has room for one value, and waking keeps others from sending.
func (st *stream) sendWake() { st.wake <- struct{}{} }

// notifications returns the events for the changes since the last call.
func (st *stream) notifications() []byte {
	st.mu.Lock()
	defer st.mu.Unlock()

	var b bytes.Buffer
	if st.listChanged {
		st.writeNotification(&b, "notifications/resources/list_changed", "")
	}
	for _, uri := range slices.Sorted(maps.Keys(st.uris)) {
		if st.uris[uri] {
			members := `"uri":` + mustJSON(uri)
			st.writeNotification(&b, "notifications/resources/updated", members)
			st.uris[uri] = false
		}
	}

	st.listChanged = false
	st.waking = false
	return b.Bytes()
}

// writeNotification appends the event of a notification. members are the JSON of its params without the braces.
func (st *stream) writeNotification(b *bytes.Buffer, method, members string) {
	if st.meta != "" {
		if members != "" {
			members += ","
		}
		members += `"_meta":` + st.meta
	}
	writeEvent(b, "message", `{"jsonrpc":"2.0","method":"`+method+`","params":{`+members+`}}`)
}

// writeEvent appends an SSE event. data must have no line breaks. The JSON that this program writes has none.
func writeEvent(b *bytes.Buffer, event, data string) {
	b.WriteString("event: ")
	b.WriteString(event)
	b.WriteString("\ndata: ")
	b.WriteString(data)
	b.WriteString("\n\n")
}

// openStream counts st and marks r's record as a stream. The caller must call serveStream next.
func (s *server) openStream(r *http.Request, st *stream) error {
	st.client = s.proxies.prefix(r)
	st.coalesce = s.streams.coalesce
	if err := s.streams.add(st); err != nil {
		return err
	}
	markStream(r.Context(), st.transport)
	return nil
}

// serveStream sends the events of an open stream until it ends, and closes it.
func (s *server) serveStream(w http.ResponseWriter, r *http.Request, st *stream) error {
	defer s.streams.remove(st)
	defer s.store.watch(st.changed)()

	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h["Cache-Control"] = streamCache
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back

	control := http.NewResponseController(w)
	write := func(text []byte) error {
		_ = control.SetWriteDeadline(time.Now().Add(s.streams.patience))
		_, err := w.Write(text)
		return errors.Join(err, control.Flush())
	}

	ended := s.sendEvents(r.Context(), st, write)
	logAttrs(r.Context(), slog.String("stream", st.transport), slog.String("stream_ended", ended))
	return nil
}

// sendEvents writes the events of st as they come up. It returns why it stopped: client_gone, slow_reader, idle,
// stopping (the server stops), or max_age (the client should open a new stream).
func (s *server) sendEvents(ctx context.Context, st *stream, write func([]byte) error) (ended string) {
	age := time.NewTimer(s.streams.maxAge)
	defer age.Stop()
	keepAlive := time.NewTicker(s.streams.keepAlive)
	defer keepAlive.Stop()

	err := write(st.hello)
	for err == nil {
		select {
		case <-ctx.Done():
			return "client_gone"
		case <-st.dropped:
			return "slow_reader"
		case <-s.stopping:
			_ = write(st.goodbye)
			return "stopping"
		case <-age.C:
			_ = write(st.goodbye)
			return "max_age"
		case text := <-st.answers:
			err = write(text)
		case <-st.wake:
			_, end := s.observe.job(ctx, "sse_events")
			err = write(st.notifications())
			end(&err)
		case <-keepAlive.C:
			err = write([]byte(": keep-alive\n\n"))
			if st.isIdle(s.streams.maxIdle) {
				return "idle"
			}
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "slow_reader"
	}
	return "client_gone"
}

// isIdle reports whether a session's client has been silent for longer than maxIdle. Other streams are never idle.
func (st *stream) isIdle(maxIdle time.Duration) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.session != "" && len(st.calls) == 0 && time.Since(st.lastUsed) > maxIdle
}

// beginCall registers a request of a session, so that it can be cancelled.
func (st *stream) beginCall(id string, cancel context.CancelFunc) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.lastUsed = time.Now()
	_, isTaken := st.calls[id]
	if isTaken || st.calls == nil {
		return rpcErrorf(codeInvalidRequest,
			"another request of this id is in flight, or the stream has ended")
	}
	st.calls[id] = cancel
	return nil
}

// endCall removes a request of a session. It reports whether the request was still in flight: a cancelled
// request gets no response.
func (st *stream) endCall(id string) (inFlight bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	_, inFlight = st.calls[id]
	delete(st.calls, id)
	return inFlight
}

// cancelCall cancels a request of a session if it is in flight.
func (st *stream) cancelCall(id string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if cancel, inFlight := st.calls[id]; inFlight {
		cancel()
		delete(st.calls, id)
	}
}

// cancelCalls cancels all requests of a session when its stream has ended.
func (st *stream) cancelCalls() {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, cancel := range st.calls {
		cancel()
	}
	st.calls = nil
}

// send queues a response for the client of a session. If the queue is full, it drops the session.
func (st *stream) send(response []byte) {
	var b bytes.Buffer
	writeEvent(&b, "message", string(response))
	select {
	case st.answers <- b.Bytes():
		return
	default:
	}

	st.mu.Lock()
	defer st.mu.Unlock()
	select {
	case <-st.dropped: // already
	default:
		close(st.dropped)
	}
}

const documentScheme = "docs:///"

// documentURI returns the URI of a document. It escapes characters of the id that a URI may not have.
func documentURI(id string) string {
	path := url.URL{Path: id}
	return documentScheme + path.EscapedPath()
}

// documentID returns the id in uri. ok reports whether uri has the form of a document's URI.
func documentID(uri string) (id string, ok bool) {
	escaped, ok := strings.CutPrefix(uri, documentScheme)
	if !ok {
		return "", false
	}
	id, err := url.PathUnescape(escaped)
	return id, err == nil && checkID(id) == nil
}
