package main

// Liveness, readiness, and the gauges that /metrics reads from the server.

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// handleLive answers 200 while the process runs. It does not check the store or the folder.
func (s *server) handleLive(w http.ResponseWriter, _ *http.Request) error {
	return writeText(w, http.StatusOK, "ok\n")
}

// handleReady answers 503 if a check fails, so that requests go to another replica. The answer lists the checks after a
// failure, or with ?verbose.
func (s *server) handleReady(w http.ResponseWriter, r *http.Request) error {
	status := http.StatusOK
	var lines strings.Builder
	for _, c := range s.state(r.Context()).checks {
		if c.problem == "" {
			fmt.Fprintf(&lines, "%s ok%s\n", c.name, c.detail)
			continue
		}
		status = http.StatusServiceUnavailable
		fmt.Fprintf(&lines, "%s not ready: %s%s\n", c.name, c.problem, c.detail)
	}

	if status == http.StatusOK && !r.URL.Query().Has("verbose") {
		return writeText(w, status, "ok\n")
	}
	if status != http.StatusOK {
		w.Header().Set("Retry-After", "1")
	}
	return writeText(w, status, lines.String())
}

// serverState is the state of the server that /readyz and the metrics show.
type serverState struct {
	checks    []check
	documents int
	chunks    int
	indexed   time.Time // when the index was last in step with the folder
}

// check is one line of /readyz?verbose.
type check struct {
	name    string // a value of the label check
	problem string // why the server is not ready, empty if this check passes
	detail  string
}

// storeSize caches the size of the store for maxSizeAge, or until the store changes.
type storeSize struct {
	isStale   atomic.Bool // the store has changed since it was asked
	mu        sync.Mutex
	asked     time.Time
	documents int
	chunks    int
	err       error
}

// maxSizeAge bounds the age of a cached size. However many probes and scrapes come, the store is asked once a second.
const maxSizeAge = time.Second

// ask returns the size of the store. If the store does not answer, it returns the last known size and the error.
func (z *storeSize) ask(ctx context.Context, st store) (documents, chunks int, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	isStale := z.isStale.Swap(false)
	if !isStale && time.Since(z.asked) <= maxSizeAge {
		return z.documents, z.chunks, z.err
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	documents, chunks, err = st.size(ctx)

	z.asked = time.Now()
	z.err = err
	if err == nil {
		z.documents = documents
		z.chunks = chunks
	}
	return z.documents, z.chunks, z.err
}

// state runs the readiness checks and reads the size of the store.
func (s *server) state(ctx context.Context) serverState {
	serving := check{name: "serving"}
	if !s.ready.Load() {
		serving.problem = "starting or stopping"
	}

	index := check{name: "index"}
	indexed := time.Now() // without a folder, the index is never stale
	if s.folder != nil {
		index.problem, index.detail = s.folder.status()
		indexed = time.UnixMilli(s.folder.synced.Load())
	}

	// After the folder: if its first scan has just ended, the size has what it found.
	documents, chunks, err := s.size.ask(ctx, s.store)
	stored := check{name: "store"}
	if err != nil {
		stored.problem = err.Error()
	} else {
		stored.detail = fmt.Sprintf(": %d documents, %d chunks", documents, chunks)
	}
	if err == nil && s.folder != nil && index.problem+index.detail == "" {
		index.detail = s.folder.contents(documents)
	}

	return serverState{
		checks:    []check{serving, index, stored},
		documents: documents,
		chunks:    chunks,
		indexed:   indexed,
	}
}

// gauges returns what a scrape reads from the server itself.
func (s *server) gauges() gauges {
	state := s.state(context.Background())
	ready := make(map[string]bool, len(state.checks))
	for _, c := range state.checks {
		ready[c.name] = c.problem == ""
	}

	return gauges{
		activeRequests:  s.observe.recent.requestsInFlight(),
		openConnections: s.observe.connections.Load(),
		documents:       state.documents,
		chunks:          state.chunks,
		indexed:         state.indexed,
		ready:           ready,
		pool:            s.store.pool(),
		logLinesDropped: s.logs.dropped.Load(),
		traces:          s.observe.traces.stats(),
	}
}

// isStopping reports whether streams must end because the server stops.
func (s *server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}
