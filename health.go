package main

// Liveness, readiness, and the gauges that /metrics reads from the server.

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// handleLive answers 200 while the process runs. It does not check the store or the folder.
func (s *server) handleLive(w http.ResponseWriter, _ *http.Request) error {
	return writeText(w, http.StatusOK, "ok\n")
}

// handleReady answers 503 if a check fails, so that requests go to another replica. The answer lists the checks after a
// failure, or with ?verbose.
func (s *server) handleReady(w http.ResponseWriter, r *http.Request) error {
	// Causes contain addresses, users and paths, so only an admin sees them.
	showsCauses := requestToken(r) != "" &&
		s.authorize(r, admin) == nil
	status := http.StatusOK
	var lines strings.Builder
	for _, c := range s.state().checks {
		outcome := "ok"
		if c.problem != "" {
			status = http.StatusServiceUnavailable
			outcome = "not ready: " + c.problem
		}
		cause := ""
		if c.cause != "" && showsCauses {
			cause = ": " + c.cause
		}
		fmt.Fprintf(&lines,
			"%s %s%s%s\n",
			c.name, outcome, c.detail, cause)
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
	indexed   time.Time     // when the index was last in step with the folder
	indexAge  time.Duration // 0: it never was
}

// check is one line of /readyz?verbose.
type check struct {
	name    string // a value of the label check
	problem string // why the server is not ready; empty: the check passes
	detail  string

	// The cause of the problem or of the detail, only for holders of ADMIN_TOKEN.
	cause string
}

// slowAnswer is how long the store's own check may take before /readyz says so.
const slowAnswer = 100 * time.Millisecond

// state runs the readiness checks. None of them waits: they report what background work has found.
func (s *server) state() serverState {
	serving := check{name: "serving"}
	if !s.ready.Load() || s.observe.closing.Load() {
		serving.problem = "starting or stopping"
	}

	index := check{name: "index"}
	indexed := time.Now() // without a folder, the index is never stale
	if s.folder != nil {
		index.problem, index.detail, index.cause = s.folder.status()
		indexed = s.folder.indexed()
	}
	var indexAge time.Duration
	if !indexed.IsZero() {
		indexAge = max(time.Since(indexed), time.Millisecond)
	}

	// Asked after the folder: if the first scan has just ended, the status includes what the scan stored.
	status := s.store.status()
	if status.problem == "" && index.problem+index.detail == "" {
		index.detail = s.folder.contents(status)
	}

	return serverState{
		checks:    []check{serving, index, checkStore(status)},
		documents: status.documents,
		chunks:    status.chunks,
		indexed:   indexed,
		indexAge:  indexAge,
	}
}

// checkStore returns the check of the store.
func checkStore(status storeStatus) check {
	stored := check{
		name:    "store",
		problem: status.problem,
		cause:   status.cause,
	}
	if stored.problem != "" {
		return stored
	}

	stored.detail = fmt.Sprintf(": %d documents, %d chunks",
		status.documents, status.chunks)
	if status.took >= slowAnswer {
		stored.detail += fmt.Sprintf(", slow: %d ms for an answer",
			status.took.Milliseconds())
	}
	if status.readOnly != "" {
		stored.detail += ", read-only: " + status.readOnly
	}
	if status.isShort {
		stored.detail += ", short of connections: the database refuses more (53300)"
	}
	return stored
}

// gauges returns what a scrape reads from the server itself.
func (s *server) gauges() gauges {
	state := s.state()
	ready := make(map[string]bool, len(state.checks))
	for _, c := range state.checks {
		ready[c.name] = c.problem == ""
	}

	waiting, refused := s.admission.stats()
	for _, a := range []*admission{s.work, s.largePages} {
		w, r := a.stats()
		waiting += w
		refused += r
	}
	return gauges{
		activeRequests:  s.observe.recent.requestsInFlight(),
		openConnections: s.observe.connections.count(),
		maxConnections:  s.cfg.maxConnections,
		documents:       state.documents,
		chunks:          state.chunks,
		indexed:         state.indexed,
		indexAge:        state.indexAge,
		ready:           ready,
		pool:            s.store.pool(),

		admissionWaiting: waiting,
		admissionRefused: refused,
		authFailures:     s.authFailures.Load(),

		logLinesDropped: s.logs.dropped.Load(),
		gapReports:      s.gaps.reports(),
		traces:          s.observe.traces.stats(),
		cost:            s.observe.costs() + s.logs.cost.elapsed(),
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
