package main

// Whether the process is alive and can serve.

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

func (s *server) handleLive(w http.ResponseWriter, _ *http.Request) error {
	return writeText(w, http.StatusOK, "ok\n")
}

func (s *server) handleReady(w http.ResponseWriter, r *http.Request) error {
	status, lines := http.StatusOK, ""
	for _, c := range s.state(r.Context()).checks {
		state := "ok"
		if c.problem != "" {
			status, state = http.StatusServiceUnavailable, "not ready: "+c.problem
		}
		lines += fmt.Sprintf("%s %s%s\n", c.name, state, c.detail)
	}
	switch {
	case status != http.StatusOK:
		w.Header().Set("Retry-After", "1")
	case !r.URL.Query().Has("verbose"):
		lines = "ok\n"
	}
	return writeText(w, status, lines)
}

// state is what is known of the server: for /readyz and for the metrics.
type state struct {
	checks            []check
	documents, chunks int
	indexed           time.Time // when the index was last in step with the folder
}

// check is one line of /readyz?verbose.
type check struct {
	name    string
	problem string // empty: fine
	detail  string
}

// storeState is what the store said a moment ago: it is asked once a second, however often others ask.
type storeState struct {
	mu                sync.Mutex
	asked             time.Time
	documents, chunks int
	err               error
}

// state tells what must be fine for the server to be sent requests.
func (s *server) state(ctx context.Context) state {
	k := &s.known
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.asked) > time.Second {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		documents, chunks, err := s.store.size(ctx)
		if err == nil {
			k.documents, k.chunks = documents, chunks
		}
		k.asked, k.err = time.Now(), err
	}
	serving, index, stored := check{name: "serving"}, check{name: "index"}, check{name: "store"}
	if !s.ready.Load() {
		serving.problem = "starting or stopping"
	}
	if k.err != nil {
		stored.problem = k.err.Error()
	} else {
		stored.detail = fmt.Sprintf(": %d documents, %d chunks", k.documents, k.chunks)
	}
	indexed := time.Now() // what is never changed is never stale
	if s.folder != nil {
		index.problem, index.detail = s.folder.status()
		indexed = time.UnixMilli(s.folder.synced.Load())
	}
	return state{[]check{serving, index, stored}, k.documents, k.chunks, indexed}
}

func (s *server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}
