package main

// The limit on open HTTP connections, and the choice of the one to close for a new one. Without this limit, the process
// runs out of file descriptors, and then it cannot accept any connection.

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// connections are the open connections of all listeners.
type connections struct {
	limit int

	mu   sync.Mutex
	open map[net.Conn]time.Time // when a connection became idle; zero: it is not idle
}

// newConnections returns an empty set of at most limit connections.
func newConnections(limit int) *connections {
	return &connections{limit: limit, open: make(map[net.Conn]time.Time)}
}

// changed records the state of a connection. It is a callback for http.Server.ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		if len(c.open) >= c.limit {
			c.makeRoom(conn)
		}
		c.open[conn] = time.Time{}
	case http.StateIdle:
		c.open[conn] = time.Now()
	case http.StateActive:
		c.open[conn] = time.Time{}
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	}
}

// makeRoom closes the connection that has been idle for longest. If none is idle, it closes the new one.
func (c *connections) makeRoom(newest net.Conn) {
	oldest := newest
	var since time.Time
	for conn, idle := range c.open {
		isOlder := since.IsZero() || idle.Before(since)
		if !idle.IsZero() && isOlder {
			oldest = conn
			since = idle
		}
	}
	delete(c.open, oldest) // StateClosed comes later, and deletes it once more
	_ = oldest.Close()
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
	for conn, idle := range c.open {
		if idle.IsZero() {
			clients = append(clients, conn.RemoteAddr().String())
		}
	}
	slices.Sort(clients)
	return clients[:min(n, len(clients))], len(clients)
}
