package main

// Bulk loads: a request carries one document per line, in JSON, and the response carries one result
// per line, each sent as soon as the document is stored.

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
	"strconv"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxBulkLineBytes admits a document of the maximum size with every character escaped: \u0041
	// takes six bytes.
	maxBulkLineBytes = 6*maxDocumentBytes + 4096

	bulkBufferBytes = 64 << 10
)

var errLineTooLong = errors.New("line too long")

// bulkResult is a line of the response of POST /documents. A zero bulkResult is not sent.
type bulkResult struct {
	ID     string `json:"id"`
	Status int    `json:"status"` // the status of a PUT of this document
	Error  string `json:"error,omitempty"`
}

func (b bulkResult) isStored() bool { return b.ID != "" && b.Error == "" }

// handleBulk stores documents while it reads them. It cuts off a client that stops sending for
// readTimeout or receiving for writeTimeout. When the server stops, it ends the load.
func (s *server) handleBulk(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	err := control.EnableFullDuplex()
	if err != nil && !errors.Is(err, http.ErrNotSupported) { // HTTP/2 is always full-duplex
		return err
	}
	stopWatching := s.interruptReads(control)
	defer stopWatching()

	h := w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h["Cache-Control"] = streamCache
	h.Set("X-Accel-Buffering", "no") // as for other streams
	encoder := json.NewEncoder(w)
	body := bufio.NewReaderSize(r.Body, bulkBufferBytes)
	stored := 0

	for {
		err := control.SetReadDeadline(time.Now().Add(readTimeout))
		if err != nil {
			return err
		}
		line, readErr := s.readBulkLine(body)

		result, more := s.loadLine(r.Context(), line, readErr, stored)
		if result.isStored() {
			stored++
		}

		err = sendResult(control, encoder, result)
		if err != nil {
			return err
		}
		if !more {
			logAttrs(r.Context(), slog.Int("documents", stored))
			return nil
		}
	}
}

// interruptReads makes a pending read of the request's body fail when the server stops, so that an
// idle client does not delay the drain. The caller calls stop when it has finished reading.
func (s *server) interruptReads(control *http.ResponseController) (stop func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-s.stopping:
			_ = control.SetReadDeadline(time.Now())
		case <-done:
		}
	})
	return func() {
		close(done)
		watching.Wait() // control is of no use after the handler has returned
	}
}

// readBulkLine reads the next line, or nothing if the server is stopping. The caller must set the read
// deadline first. That may overwrite the deadline of interruptReads, so the check must come after it.
func (s *server) readBulkLine(body *bufio.Reader) ([]byte, error) {
	if s.isStopping() {
		return nil, nil
	}
	return readLine(body, maxBulkLineBytes)
}

// sendResult sends a line of the response at once.
func sendResult(control *http.ResponseController, encoder *json.Encoder, result bulkResult) error {
	if result == (bulkResult{}) {
		return nil
	}
	return errors.Join(
		control.SetWriteDeadline(time.Now().Add(writeTimeout)),
		encoder.Encode(result),
		control.Flush(),
	)
}

// loadLine stores the document of one line, or turns readErr into a result. stored is the number of
// documents so far. more is false at the end of the load.
func (s *server) loadLine(
	ctx context.Context, line []byte, readErr error, stored int,
) (result bulkResult, more bool) {
	switch {
	case s.isStopping():
		return bulkResult{
			Status: http.StatusServiceUnavailable,
			Error:  fmt.Sprintf("the server is stopping after %d documents: send the rest again", stored),
		}, false

	case errors.Is(readErr, errLineTooLong):
		return bulkResult{
			Status: http.StatusRequestEntityTooLarge,
			Error:  "the line is too long: a document has at most 8 MiB",
		}, true

	case readErr != nil && !errors.Is(readErr, io.EOF):
		logAttrs(ctx, slog.String("error", readErr.Error()))
		return bulkResult{
			Status: http.StatusBadRequest,
			Error:  fmt.Sprintf("the body was cut off after %d documents: send the rest again", stored),
		}, false
	}

	line = bytes.TrimPrefix(line, []byte(byteOrderMark))
	line = bytes.TrimSpace(line)
	if len(line) > 0 {
		result = s.putLine(ctx, line)
	}
	return result, readErr == nil
}

// putLine stores the document of a line.
func (s *server) putLine(ctx context.Context, line []byte) bulkResult {
	id, text, ok := parseBulkLine(line)
	if !ok {
		return bulkResult{
			Status: http.StatusBadRequest,
			Error:  `not a line of the form {"id":"guide/install.md","text":"# Install\n…"} in UTF-8`,
		}
	}

	// A line that has arrived whole is stored, even if its sender has closed the connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handlerBudget)
	defer cancel()

	d, err := s.newDocument(id, text)
	if err != nil {
		return s.bulkFailure(ctx, id, err)
	}
	created, err := s.store.put(ctx, d, precondition{})
	if err != nil {
		return s.bulkFailure(ctx, id, err)
	}
	return bulkResult{ID: id, Status: putStatus(created)}
}

// bulkFailure returns the result for a document that could not be stored. An internal error is
// logged here: the response has status 200, so nothing else reports it.
func (s *server) bulkFailure(ctx context.Context, id string, err error) bulkResult {
	p := publicError(err)
	if p.status == http.StatusInternalServerError {
		s.log.ErrorContext(ctx, "bulk line failed", "document", id, "error", err)
	}
	return bulkResult{ID: id, Status: p.status, Error: p.message}
}

// bulkQuotes is how many double quotes two members have whose values are strings.
const bulkQuotes = 8

// parseBulkLine accepts a JSON object with exactly the members id and text, each once, and nothing after it.
func parseBulkLine(line []byte) (id, text string, ok bool) {
	if !utf8.Valid(line) || hasLoneSurrogate(line) { // encoding/json would replace the bad characters
		return "", "", false
	}

	// A json.Decoder could refuse other members by itself, but it would copy the line.
	var members map[bulkMember]*string
	err := json.Unmarshal(line, &members)
	if err != nil || members["id"] == nil || members["text"] == nil {
		return "", "", false
	}
	if countQuotes(line) != bulkQuotes { // encoding/json takes the last of two members with the same name
		return "", "", false
	}
	return *members["id"], *members["text"], true
}

// countQuotes returns the number of double quotes in a JSON text that begin or end a string.
func countQuotes(text []byte) int {
	count := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			count++
		}
	}
	return count
}

// bulkMember is the name of a member of a bulk line.
type bulkMember string

var errUnknownMember = errors.New("a bulk line has the members id and text only")

// UnmarshalText ends the decoding of a line at the first member with another name.
func (m *bulkMember) UnmarshalText(name []byte) error {
	*m = bulkMember(name)
	if *m != "id" && *m != "text" {
		return errUnknownMember
	}
	return nil
}

// escapeBytes is the length of an escaped UTF-16 code unit in JSON, such as \u0041.
const escapeBytes = 6

// hasLoneSurrogate reports whether a JSON text escapes half of a surrogate pair.
func hasLoneSurrogate(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return false
		}
		text = text[i:]
		unit, ok := escapedUnit(text)
		if !ok { // another escape, such as that of a backslash
			text = text[min(2, len(text)):]
			continue
		}

		text = text[escapeBytes:]
		if !utf16.IsSurrogate(unit) {
			continue
		}
		low, _ := escapedUnit(text)
		if utf16.DecodeRune(unit, low) == utf8.RuneError {
			return true
		}
		text = text[escapeBytes:]
	}
}

// escapedUnit returns the UTF-16 code unit whose escape text begins with.
func escapedUnit(text []byte) (unit rune, ok bool) {
	if len(text) < escapeBytes || !bytes.HasPrefix(text, []byte(`\u`)) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[2:escapeBytes]), 16, 16)
	return rune(n), err == nil
}

// readLine returns the next line with its newline. At the end of the body it returns io.EOF, with the
// last line if that has no newline. It skips a line longer than maxBytes and returns errLineTooLong.
func readLine(r *bufio.Reader, maxBytes int) (line []byte, err error) {
	length := 0
	for {
		part, err := r.ReadSlice('\n')
		length += len(part)
		if length <= maxBytes {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) { // the line goes on
			continue
		}
		if length > maxBytes { // if err is io.EOF, the next call returns it
			return nil, errLineTooLong
		}
		return line, err
	}
}
