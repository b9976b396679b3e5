package main

// The execution traces of slow requests. If profiling is on and a request takes longer than SLOW_REQUEST, this room keeps
// what the flight recorder holds at its end. go tool trace reads it.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	// slowTraceInterval is the minimum time between two traces, because writing one takes CPU time.
	slowTraceInterval = time.Minute

	maxSlowTraces     = 2
	maxSlowTraceBytes = 16 << 20 // of all traces together
)

// slowTraces keeps the last execution traces in memory.
type slowTraces struct {
	log     *slog.Logger
	dump    func(w io.Writer) error // writes what the flight recorder has
	writing sync.WaitGroup

	mu        sync.Mutex
	lastBegan time.Time
	kept      []slowTrace // the oldest first
}

// slowTrace is the execution trace of the seconds before a slow request ended.
type slowTrace struct {
	record *record
	data   []byte
}

// keep writes the execution trace of a slow request that has just ended, in the background. It does nothing if the last
// one was written less than slowTraceInterval ago.
func (s *slowTraces) keep(rec *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.lastBegan) < slowTraceInterval {
		return
	}
	s.lastBegan = time.Now()
	s.writing.Go(func() { s.write(rec) })
}

// write keeps the execution trace of rec and logs so.
func (s *slowTraces) write(rec *record) {
	attrs := rec.ids()
	var buf boundedBuffer
	err := s.dump(&buf)
	if err != nil {
		s.log.LogAttrs(context.Background(), slog.LevelWarn, "execution trace not kept",
			append(attrs[:], slog.String("error", err.Error()))...)
		return
	}
	s.add(slowTrace{rec, buf.Bytes()})
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "execution trace kept",
		append(attrs[:], slog.Int("bytes", buf.Len()))...)
}

// add keeps a trace, and drops the oldest ones beyond the bounds.
func (s *slowTraces) add(added slowTrace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added.record.setTraced(true)
	s.kept = append(s.kept, added)

	total := 0
	for _, kept := range s.kept {
		total += len(kept.data)
	}
	for len(s.kept) > maxSlowTraces || total > maxSlowTraceBytes {
		oldest := s.kept[0]
		oldest.record.setTraced(false)
		total -= len(oldest.data)
		s.kept[0] = slowTrace{} // else the backing array would keep it in memory
		s.kept = s.kept[1:]
	}
}

// find returns the trace of the request with this correlation or trace id, nil if none is kept. Of several, it returns the
// newest.
func (s *slowTraces) find(id string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []byte
	for _, kept := range s.kept {
		if kept.record.hasID(id) {
			found = kept.data
		}
	}
	return found
}

// handle answers with the execution trace of a slow request.
func (s *slowTraces) handle(w http.ResponseWriter, r *http.Request) error {
	data := s.find(r.PathValue("id"))
	if data == nil {
		return userErrorf(http.StatusNotFound,
			"no execution trace of that id is kept: the last %d requests over SLOW_REQUEST have one, at most one a minute",
			maxSlowTraces)
	}
	h := w.Header()
	h["Cache-Control"] = noStore
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="slow.trace"`)
	_, err := w.Write(data)
	return err
}

// setTraced says whether the execution trace of a finished record is kept.
func (rec *record) setTraced(traced bool) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.traced = traced
}

// boundedBuffer is a buffer for one trace. Writing more than maxSlowTraceBytes fails.
type boundedBuffer struct{ bytes.Buffer }

func (b *boundedBuffer) Write(data []byte) (int, error) {
	if b.Len()+len(data) > maxSlowTraceBytes {
		return 0, errors.New("it is larger than 16 MiB")
	}
	return b.Buffer.Write(data)
}
