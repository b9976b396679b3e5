package main

// The ResponseWriter of each request. It remembers what was answered, and adds the headers that are known last.

import (
	"net/http"
	"strconv"
	"sync/atomic"
)

// response is a ResponseWriter that remembers what was answered.
type response struct {
	http.ResponseWriter
	record  *record
	closing *atomic.Bool
	status  int // 0: not answered yet
	bytes   int64
}

// hasBegun reports whether a response has been sent at least in part.
func hasBegun(w http.ResponseWriter) bool {
	recorded, ok := w.(*response)
	return ok && recorded.status != 0
}

// WriteHeader remembers the status and adds the last headers. It passes informational statuses on, and ignores a second
// final one.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if status >= http.StatusOK {
		w.status = status
		w.setHeader()
	}
	w.ResponseWriter.WriteHeader(status)
}

// setHeader sets Connection while the server drains, and Server-Timing (w3.org/TR/server-timing).
func (w *response) setHeader() {
	if w.closing.Load() {
		w.Header().Set("Connection", "close")
	}
	var room [8]kindDuration
	text := make([]byte, 0, 128)
	for _, d := range w.record.durations(room[:0]) {
		if len(text) > 0 {
			text = append(text, ", "...)
		}
		text = append(text, d.kind.String()...)
		text = append(text, ";dur="...)
		text = strconv.AppendFloat(text, milliseconds(d.took), 'f', 3, 64)
	}
	if len(text) > 0 {
		w.Header().Set("Server-Timing", string(text))
	}
}

// Write answers with 200 if no status was set before.
func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController flush and set deadlines.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
