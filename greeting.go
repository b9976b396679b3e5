package main

// The greeting: what the program says on a terminal instead of its first log lines.

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
)

// greetingDelay is how long the greeting waits for the number of documents in a folder or a database.
const greetingDelay = 2 * time.Second

// createAdminToken makes an admin token for this run, if there is none and only this machine can reach the server. The
// greeting shows it, so it is made only for a terminal.
func (c *settings) createAdminToken() {
	isLocal := isLoopback(c.addr) && (c.adminAddr == "" || isLoopback(c.adminAddr))
	if c.adminToken == "" && isLocal {
		c.adminToken = rand.Text()
		c.isTokenOurs = true
	}
}

// logStart logs the start and the settings that differ from their defaults. On a terminal the greeting says that it
// starts.
func (s *server) logStart(env map[string]string) {
	changed := slog.Any("settings", slog.GroupValue(changedSettings(env)...))
	switch {
	case !s.cfg.greets():
		s.log.Info("starting", "go", goVersion(), "max_connections", s.cfg.maxConnections, changed)
	case len(changed.Value.Group()) > 0:
		s.log.Info("settings", changed)
	}
}

// announce says where the server can be reached: in the log, or with the greeting.
func (s *server) announce(ctx context.Context, tasks *sync.WaitGroup, listeners []net.Listener) {
	var addrs []string
	for _, listener := range listeners {
		addrs = append(addrs, listener.Addr().String())
	}
	if s.cfg.greets() {
		tasks.Go(func() { s.greet(ctx, addrs) })
		return
	}
	for _, addr := range addrs {
		s.log.Info("serving", "addr", addr, "try", "curl "+localURL(addr))
	}
}

// greet writes the greeting once the number of documents is known, or after greetingDelay. The program's own manual takes
// milliseconds. addrs are the addresses of the listeners.
func (s *server) greet(ctx context.Context, addrs []string) {
	deadline := time.Now().Add(greetingDelay)
	mayBeLong := s.folder != nil || s.cfg.databaseURL != ""
	for !s.isIndexed() {
		isLate := mayBeLong && time.Now().After(deadline)
		if isLate || !pause(ctx, 10*time.Millisecond) {
			break
		}
	}
	s.logs.release(s.greeting(addrs))
}

// isIndexed reports whether the store is open and the first scan of the folder has ended.
func (s *server) isIndexed() bool {
	return s.ready.Load() && (s.folder == nil || !s.folder.indexed().IsZero())
}

// greeting returns the three lines.
func (s *server) greeting(addrs []string) string {
	page := localURL(addrs[0])
	admin := localURL(addrs[len(addrs)-1])
	link := ""
	if s.cfg.isTokenOurs {
		link = "/#token=" + s.cfg.adminToken
	}

	places := []string{"Page " + page}
	if admin != page {
		places = append(places, "Admin "+admin+link)
	} else {
		places[0] += link
	}
	agents := "Agents: claude mcp add --transport http docs " + page + "/mcp"
	if s.cfg.apiToken != "" {
		agents += ` --header "Authorization: Bearer $API_TOKEN"`
	}
	places = append(places, agents)

	return fmt.Sprintf("Vitrine %s · %s (%s)\n%s\nCtrl-C stops\n",
		versionName(), s.source(), s.contents(), strings.Join(places, " · "))
}

// source says where the documents come from.
func (s *server) source() string {
	var sources []string
	for _, root := range s.cfg.docsDirs {
		sources = append(sources, root.dir)
	}
	switch {
	case s.cfg.databaseURL != "":
		sources = append(sources, "PostgreSQL")
	case len(sources) == 0:
		return "its own manual"
	}
	return strings.Join(sources, ", ")
}

// contents says how many documents there are, or how many have been read so far.
func (s *server) contents() string {
	if !s.isIndexed() {
		return "reading, searches find what has been read"
	}
	documents := s.store.status().documents
	if documents == 1 {
		return "1 document"
	}
	return fmt.Sprintf("%d documents", documents)
}

// versionName returns the version as people write it.
func versionName() string {
	name := version()
	if name[0] >= '0' && name[0] <= '9' {
		return "v" + name
	}
	return name
}

// localURL returns the URL for this machine of a listener's address. A listener on all addresses is on localhost too.
func localURL(addr string) string {
	return "http://" + localAddress(addr, "localhost")
}
