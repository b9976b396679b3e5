package main

// Many documents in one request: a line of JSON each, and a line of answer.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"time"
	"unicode/utf8"
)

// maxBulkLineBytes lets through a document of the greatest size in which every character is escaped.
const maxBulkLineBytes = 6*maxDocumentBytes + 4096

// bulkLine is what POST /documents answers for a line of its body.
type bulkLine struct {
	ID     string `json:"id"`
	Status int    `json:"status"`
	Error  string `json:"error,omitempty"`
}

// handleBulk stores a document per line while it reads, and answers each with a line of its own as soon as it is
// stored. A client that stops reading or sending for readTimeout is cut off; one that sends nothing does not hold up a drain.
func (s *server) handleBulk(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	if err := control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err // HTTP/2 is full-duplex as it is
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.stopping:
			_ = control.SetReadDeadline(time.Now())
		case <-done:
		}
	}()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	encoder := json.NewEncoder(w)
	body := bufio.NewReaderSize(r.Body, 64<<10)
	for stored := 0; ; {
		if err := control.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
			return err
		}
		var line []byte
		var readErr error
		if !s.isStopping() { // after the deadline is set, which the drain sets to now
			line, readErr = readLine(body, maxBulkLineBytes)
		}
		result, more := s.bulkResult(r.Context(), line, readErr, stored)
		if result.Error == "" && result.ID != "" {
			stored++
		}
		if result != (bulkLine{}) {
			err := errors.Join(control.SetWriteDeadline(time.Now().Add(writeTimeout)), encoder.Encode(result), control.Flush())
			if err != nil {
				return err
			}
		}
		if !more {
			logAttrs(r.Context(), slog.Int("documents", stored))
			return nil
		}
	}
}

// bulkResult returns what to answer for a line that was read with that error after so many documents, the zero value for
// nothing, and whether to read on.
func (s *server) bulkResult(ctx context.Context, line []byte, err error, stored int) (result bulkLine, more bool) {
	line = bytes.TrimSpace(line)
	switch {
	case s.isStopping():
		return bulkLine{Status: http.StatusServiceUnavailable, Error: fmt.Sprintf("the server is stopping after %d documents: send the rest again", stored)}, false
	case errors.Is(err, errLineTooLong):
		return bulkLine{Status: http.StatusRequestEntityTooLarge, Error: "the line is too long: a document has at most 8 MiB"}, true
	case err != nil && !errors.Is(err, io.EOF):
		logAttrs(ctx, slog.String("error", err.Error()))
		return bulkLine{Status: http.StatusBadRequest, Error: fmt.Sprintf("the body was cut off after %d documents: send the rest again", stored)}, false
	case len(line) > 0:
		result = s.putLine(ctx, line)
	}
	return result, err == nil
}

// putLine stores the document of one line and returns the line to answer.
func (s *server) putLine(ctx context.Context, line []byte) bulkLine {
	var in struct {
		ID   *string `json:"id"`
		Text *string `json:"text"`
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&in)
	if _, rest := decoder.Token(); err != nil || rest != io.EOF || in.ID == nil || in.Text == nil || !utf8.Valid(line) || hasLoneSurrogate(line) {
		return bulkLine{Status: http.StatusBadRequest, Error: `not a line of the form {"id":"guide/install.md","text":"# Install\n…"} in UTF-8`}
	}
	// A line that was read whole is stored, though its sender may have gone, or have closed its half of the connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handlerBudget)
	defer cancel()
	d, err := newDocument(*in.ID, *in.Text, time.Now())
	var created bool
	if err == nil {
		created, err = s.store.put(ctx, d, precondition{})
	}
	if err == nil {
		return bulkLine{ID: *in.ID, Status: putStatus(created)}
	}
	user := publicError(err)
	if user.status == http.StatusInternalServerError {
		s.log.ErrorContext(ctx, "bulk line failed", "document", *in.ID, "error", err)
	}
	return bulkLine{*in.ID, user.status, user.message}
}

// surrogates finds the escaped halves of characters beyond 16 bits, in pairs (2) and alone (1, 3); escaped backslashes first.
var surrogates = regexp.MustCompile(`(?i)\\\\|\\u(d[89ab]..)(\\ud[c-f]..)?|\\u(d[c-f]..)`)

// hasLoneSurrogate reports whether a JSON text escapes what is no character: encoding/json would put another in its place.
func hasLoneSurrogate(text []byte) bool {
	for _, found := range surrogates.FindAllSubmatch(text, -1) {
		if found[1] != nil && found[2] == nil || found[3] != nil {
			return true
		}
	}
	return false
}

var errLineTooLong = errors.New("line too long")

// readLine reads the next line. Of a line longer than most it returns nothing but errLineTooLong.
func readLine(r *bufio.Reader, most int) (line []byte, err error) {
	for length := 0; ; {
		part, err := r.ReadSlice('\n')
		if length += len(part); length <= most {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull): // there is more of it
		case length > most:
			return nil, errLineTooLong // and an error comes again with the next
		default:
			return line, err
		}
	}
}
