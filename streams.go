package main

// The set of open streams: their number, which of them learn of a change, and the loop that sends what waits. The handlers
// that open streams are in mcp.go.

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
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
	opened   map[netip.Prefix]int // streams of a client
	sessions map[string]*stream
	subscriptionIndex
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
		opened:       make(map[netip.Prefix]int),
		sessions:     make(map[string]*stream),

		subscriptionIndex: newSubscriptionIndex(),
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

// begin counts st as open, or returns an error if there are too many.
func (a *streams) begin(st *stream) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open >= a.max {
		return errTooManyStreams
	}
	if a.opened[st.client] >= a.maxPerClient {
		return errTooManyOfClient
	}

	a.open++
	a.opened[st.client]++
	if st.lists {
		a.lists[st] = true
	}
	if st.session != "" {
		a.sessions[st.session] = st
	}
	return nil
}

// end stops counting st, which begin has counted.
func (a *streams) end(st *stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open--
	a.opened[st.client]--
	if a.opened[st.client] == 0 {
		delete(a.opened, st.client)
	}
	delete(a.sessions, st.session)
	a.forget(st)
}

// find returns the open stream of a session, or nil.
func (a *streams) find(session string) *stream {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sessions[session]
}

// changed notes that the documents with these ids have changed, or any document if ids is nil. The store calls it.
func (a *streams) changed(ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == 0 {
		return
	}
	if ids == nil || len(a.pending)+len(ids) > maxPendingChanges {
		a.anyPending = true
		clear(a.pending)
	}
	if !a.anyPending {
		for _, id := range ids {
			a.pending[id] = true
		}
	}
	if !a.isScheduled {
		a.isScheduled = true
		time.AfterFunc(a.coalesce, a.notify)
	}
}

// notify marks the pending changes on the streams that want to know of them.
func (a *streams) notify() {
	a.mu.Lock()
	ids := a.pending
	isAny := a.anyPending
	a.pending = make(map[string]bool)
	a.anyPending = false
	a.isScheduled = false

	wanted := make(map[*stream][]string)
	for st := range a.lists {
		wanted[st] = nil
	}
	for id := range a.affected(ids, isAny) {
		for st := range a.byID[id] {
			wanted[st] = append(wanted[st], id)
		}
	}
	a.mu.Unlock()

	for st, ids := range wanted {
		st.mark(ids)
	}
}

// subscribe adds URIs of documents to an open stream. The errors are of kind rpcError.
func (a *streams) subscribe(st *stream, uris ...string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, uri := range uris {
		id, ok := documentID(uri)
		if !ok {
			return noSuchURI(uri)
		}
		if st.subscribes(id, uri) {
			continue
		}
		if err := a.add(st, id); err != nil {
			return err
		}
		st.addURI(id, uri)
	}
	return nil
}

// unsubscribe ignores URIs that are not subscribed to.
func (a *streams) unsubscribe(st *stream, uri string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	st.mu.Lock()
	defer st.mu.Unlock()
	id, _ := documentID(uri)
	if !st.subscribes(id, uri) {
		return
	}
	kept := slices.DeleteFunc(slices.Clone(st.uris[id]), func(other string) bool { return other == uri })
	delete(st.updated, uri)
	if len(kept) > 0 {
		st.uris[id] = kept
		a.byClient[st.client]--
		return
	}
	delete(st.uris, id)
	a.remove(st, id, 1)
}

// forget removes all subscriptions of st. The caller holds a.mu.
func (a *streams) forget(st *stream) {
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(a.lists, st)
	for id, uris := range st.uris {
		a.remove(st, id, len(uris))
	}
	clear(st.uris)
}

// openStream counts st and marks r's record as a stream. The caller must call serveStream next.
func (s *server) openStream(r *http.Request, st *stream) error {
	st.client = s.proxies.prefix(r)
	if err := s.streams.begin(st); err != nil {
		return err
	}
	markStream(r.Context(), st.transport)
	return nil
}

// serveStream sends the events of an open stream until it ends, and closes it.
func (s *server) serveStream(w http.ResponseWriter, r *http.Request, st *stream) error {
	defer s.streams.end(st)

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
	st.hello = nil
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
		case <-st.wake:
			err = st.sendAnswers(write)
			if err == nil && st.hasNotifications() {
				_, end := s.observe.job(ctx, "sse_events")
				err = write(st.notifications())
				end(&err)
			}
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
