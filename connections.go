package main

// The limit on open HTTP connections. A new connection beyond it closes another one, and this room chooses which. Without a
// limit, the process runs out of file descriptors and can accept no connection at all.

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// connections are the open connections of all listeners, at most limit.
type connections struct {
	limit int

	mu   sync.Mutex // guards open and what it points to
	open map[net.Conn]*connection
}

// connection is what is known of an open connection.
type connection struct {
	client netip.Prefix
	opened time.Time
	phase  connectionPhase
	since  time.Time // when the phase began
}

// connectionPhase is what a connection is doing. The lower the phase, the less the client loses if the connection is closed.
type connectionPhase int

const (
	phaseIdle    connectionPhase = iota // between two requests
	phaseWaiting                        // the header of a request has not arrived yet
	phaseServing                        // the header has arrived, and the response has not ended
)

// newConnections returns an empty set of at most limit connections.
func newConnections(limit int) *connections {
	return &connections{limit: limit, open: make(map[net.Conn]*connection)}
}

// connectionKey is the context key of a request's net.Conn.
type connectionKey struct{}

// withConnection returns ctx with conn, for the requests that arrive on conn. It is a callback for http.Server.ConnContext.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

// changed records the new state of a connection. It is a callback for http.Server.ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.add(conn)
	case http.StateIdle:
		c.enter(conn, phaseIdle)
	case http.StateActive: // the first byte of a request has arrived
		c.enter(conn, phaseWaiting)
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	}
}

// serve records that the header of a request has arrived. ctx is the request's context. net/http does not tell it by
// ConnState.
func (c *connections) serve(ctx context.Context) {
	conn, isKnown := ctx.Value(connectionKey{}).(net.Conn)
	if !isKnown {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enter(conn, phaseServing)
}

// enter records that a connection has entered a phase. The caller holds c.mu.
func (c *connections) enter(conn net.Conn, phase connectionPhase) {
	known := c.open[conn]
	if known != nil { // nil: closed to make room for another one
		known.phase = phase
		known.since = time.Now()
	}
}

// add adds a new connection. If the limit is reached, it closes one, maybe the new one. The caller holds c.mu.
func (c *connections) add(conn net.Conn) {
	now := time.Now()
	c.open[conn] = &connection{
		client: clientOfConnection(conn),
		opened: now,
		phase:  phaseWaiting,
		since:  now,
	}
	if len(c.open) <= c.limit {
		return
	}
	victim := c.victim(conn)
	delete(c.open, victim) // now, because StateClosed comes later
	_ = victim.Close()
}

// clientOfConnection returns the network that counts as the client of a connection: that of its peer, maybe a proxy.
func clientOfConnection(conn net.Conn) netip.Prefix {
	peer, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return clientPrefix(peer.Addr())
}

// victim returns the connection to close so that the newest one fits: the one that has been idle for longest, else the one
// that has waited for longest for a header, else that of lastOfCrowd. The caller holds c.mu.
func (c *connections) victim(newest net.Conn) net.Conn {
	victim := newest
	best := c.open[newest]
	for conn, other := range c.open {
		isBetter := other.phase < best.phase || other.phase == best.phase && other.since.Before(best.since)
		if other.phase != phaseServing && isBetter {
			victim = conn
			best = other
		}
	}
	if victim != newest {
		return victim
	}
	return c.lastOfCrowd(newest)
}

// lastOfCrowd returns the last opened connection of the client that has the most, so that one client does not keep all others
// out. If that client does not have at least two more than the client of the newest connection, it returns the newest one:
// with one more, the two clients would only change places. The caller holds c.mu.
func (c *connections) lastOfCrowd(newest net.Conn) net.Conn {
	client := c.open[newest].client
	crowd := client
	counts := make(map[netip.Prefix]int)
	for _, other := range c.open {
		counts[other.client]++
		if counts[other.client] > counts[crowd] {
			crowd = other.client
		}
	}
	if counts[crowd] < counts[client]+2 {
		return newest
	}

	last := newest
	var opened time.Time
	for conn, other := range c.open {
		if other.client == crowd && other.opened.After(opened) {
			last = conn
			opened = other.opened
		}
	}
	return last
}

// count returns how many connections are open.
func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// busy returns how many connections are not idle, and the remote addresses of at most n of them, sorted.
func (c *connections) busy(n int) (clients []string, count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, known := range c.open {
		if known.phase != phaseIdle {
			clients = append(clients, conn.RemoteAddr().String())
		}
	}
	slices.Sort(clients)
	return clients[:min(n, len(clients))], len(clients)
}
