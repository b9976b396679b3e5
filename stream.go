package main

// One stream of server-sent events: its subscriptions, and what waits to be sent. The URIs of documents are here too.

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxQueuedBytes bounds the responses that wait for the reader of one session. One response may be larger.
const maxQueuedBytes = 4 << 20

// stream is an open SSE stream and what waits to be sent on it. A slow reader cannot make that grow without bound:
// a change only marks a subscription, and a session whose waiting answers are too large is dropped.
type stream struct {
	transport string
	client    netip.Prefix  // address that it counts under: see maxPerClient
	hello     []byte        // events to begin with
	goodbye   []byte        // events to end with, if the server ends the stream
	meta      string        // JSON of the _meta that each notification carries, or empty
	lists     bool          // the client wants list_changed
	wake      chan struct{} // a value in it: there are changes to notify of, or answers to send

	// Only of a session, which is a stream of /sse:
	session    string
	clientName atomic.Value  // a string, from initialize
	dropped    chan struct{} // closed when answers are too large

	mu          sync.Mutex          // guards the following
	listChanged bool                // list_changed waits to be sent
	uris        map[string][]string // subscriptions by the document's id
	updated     map[string]bool     // URIs whose change waits to be sent

	// Also guarded by mu, but only of a session:
	answers     []reply                       // events with responses
	answerBytes int                           // of answers
	calls       map[string]context.CancelFunc // requests in flight by id; nil once it has ended
	lastUsed    time.Time                     // when its client last sent a request
}

// newStream returns a stream of one of the transports in record.go. It is not open yet: see openStream.
func newStream(transport string) *stream {
	return &stream{
		transport: transport,
		wake:      make(chan struct{}, 1),
		uris:      make(map[string][]string),
		updated:   make(map[string]bool),
	}
}

// newSession returns a stream of /sse. Its session id is a secret: whoever has it can post as the client.
func newSession() *stream {
	st := newStream(legacySSE)
	st.session = rand.Text()
	st.dropped = make(chan struct{})
	st.calls = make(map[string]context.CancelFunc)
	st.lastUsed = time.Now()
	return st
}

// subscribes reports whether st has this URI of a document. The caller holds st.mu.
func (st *stream) subscribes(id, uri string) bool { return slices.Contains(st.uris[id], uri) }

// addURI adds a URI of a document. It keeps copies, not the memory of the whole message. The caller holds st.mu.
func (st *stream) addURI(id, uri string) {
	id = strings.Clone(id)
	st.uris[id] = append(st.uris[id], strings.Clone(uri))
}

// noSuchURI returns the error for a URI that no document can have.
func noSuchURI(uri string) error {
	return rpcError{
		Code:    codeInvalidParams,
		Message: fmt.Sprintf("no document has the URI %.100q", uri),
		Data:    map[string]string{"uri": displayable(uri, maxValueBytes)},
	}
}

// mark records that the documents with these ids have changed, and wakes the stream.
func (st *stream) mark(ids []string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.listChanged = st.lists
	for _, id := range ids {
		for _, uri := range st.uris[id] {
			st.updated[uri] = true
		}
	}
	st.sendWake()
}

// sendWake never blocks: one value in the channel stands for all that waits.
func (st *stream) sendWake() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// notifications returns the events for the changes since the last call.
func (st *stream) notifications() []byte {
	st.mu.Lock()
	defer st.mu.Unlock()

	var b bytes.Buffer
	if st.listChanged {
		st.writeNotification(&b, "notifications/resources/list_changed", "")
	}
	for _, uri := range slices.Sorted(maps.Keys(st.updated)) {
		members := `"uri":` + mustJSON(uri)
		st.writeNotification(&b, "notifications/resources/updated", members)
	}

	st.listChanged = false
	clear(st.updated)
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

// send queues a response for the client of a session. If too much waits already, it drops the session.
func (st *stream) send(response reply) {
	before := []byte("event: message\ndata: ")
	event := reply{
		encoded: slices.Concat(before, response.encoded, []byte("\n\n")),
		shared:  response.shared,
	}
	event.shared.at += len(before)

	st.mu.Lock()
	defer st.mu.Unlock()
	isTooMuch := len(st.answers) > 0 && st.answerBytes+event.bytes() > maxQueuedBytes
	if !isTooMuch {
		st.answers = append(st.answers, event)
		st.answerBytes += event.bytes()
		st.sendWake()
		return
	}
	select {
	case <-st.dropped: // already
	default:
		close(st.dropped)
	}
}

// nextAnswer takes the answer that has waited longest.
func (st *stream) nextAnswer() (next reply, ok bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.answers) == 0 {
		return reply{}, false
	}
	next = st.answers[0]
	st.answers = slices.Delete(st.answers, 0, 1)
	st.answerBytes -= next.bytes()
	return next, true
}

// sendAnswers writes the answers that wait.
func (st *stream) sendAnswers(write func([]byte) error) error {
	for {
		next, ok := st.nextAnswer()
		if !ok {
			return nil
		}
		if err := next.writeTo(writerFunc(write)); err != nil {
			return err
		}
	}
}

// writerFunc is an io.Writer that calls a function.
type writerFunc func([]byte) error

func (f writerFunc) Write(p []byte) (int, error) { return len(p), f(p) }

func (st *stream) hasNotifications() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.listChanged || len(st.updated) > 0
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
