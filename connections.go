package main

// The limit on open HTTP connections, and the choice of the one to close for a new one. Without this limit, the process
// runs out of file descriptors, and then it cannot accept any connection.

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// connections are the open connections of all listeners.
type connections struct {
	limit int

	mu   sync.Mutex
	open map[net.Conn]*connection
}

// connection is what is known of an open connection.
type connection struct {
	client netip.Prefix
	opened time.Time
	phase  connectionPhase
	since  time.Time // when the phase began
}

// connectionPhase is what a connection does, from what costs its client least if the connection is closed.
type connectionPhase int

const (
	phaseIdle    connectionPhase = iota // between two requests
	phaseWaiting                        // the header of a request has not arrived yet
	phaseServing
)

// newConnections returns an empty set of at most limit connections.
func newConnections(limit int) *connections {
	return &connections{limit: limit, open: make(map[net.Conn]*connection)}
}

// connectionKey is the key under which the context of a request has its net.Conn.
type connectionKey struct{}

// withConnection adds conn to the context of its requests. It is a callback for http.Server.ConnContext.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

// changed records the state of a connection. It is a callback for http.Server.ConnState.
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

// serve records that the header of a request has arrived. ctx is the context of the request.
func (c *connections) serve(ctx context.Context) {
	conn, isKnown := ctx.Value(connectionKey{}).(net.Conn)
	if !isKnown {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enter(conn, phaseServing)
}

// enter records that a phase of a connection begins. The caller holds c.mu.
func (c *connections) enter(conn net.Conn, phase connectionPhase) {
	known := c.open[conn]
	if known != nil { // else it has been closed for another one
		known.phase = phase
		known.since = time.Now()
	}
}

// add adds a new connection. If there are too many, it closes one. The caller holds c.mu.
func (c *connections) add(conn net.Conn) {
	now := time.Now()
	added := &connection{
		client: clientOfConnection(conn),
		opened: now,
		phase:  phaseWaiting,
		since:  now,
	}
	isFull := len(c.open) >= c.limit
	c.open[conn] = added
	if !isFull {
		return
	}
	victim := c.victim(conn, added)
	delete(c.open, victim) // StateClosed comes later, and deletes it once more
	_ = victim.Close()
}

// clientOfConnection returns the network of the peer of a connection.
func clientOfConnection(conn net.Conn) netip.Prefix {
	peer, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return clientPrefix(peer.Addr())
}

// victim returns the connection to close for the newest one: the one that has been idle for longest, else the one that has
// waited for longest for a header. If all serve requests, it is the last one that was opened by the client that has most of
// them, so that one client does not keep all others out. The caller holds c.mu.
func (c *connections) victim(newest net.Conn, added *connection) net.Conn {
	victim := newest
	best := added
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
	return c.lastOfCrowd(newest, added)
}

// lastOfCrowd returns the last connection of the client that has most of them, if these are at least two more than those
// of the client of the newest one, else the newest one. The caller holds c.mu.
func (c *connections) lastOfCrowd(newest net.Conn, added *connection) net.Conn {
	counts := make(map[netip.Prefix]int)
	crowd := added.client
	for _, other := range c.open {
		counts[other.client]++
		if counts[other.client] > counts[crowd] {
			crowd = other.client
		}
	}
	const fair = 2
	if counts[crowd] < counts[added.client]+fair {
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

// busy returns the addresses of the clients whose connections are not idle, at most n of them, and how many there are.
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
