package main

// Responses: JSON, text and errors. Every error that reaches a caller goes through publicError, whether over HTTP, in a
// bulk load or over MCP.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// statusClientClosed is nginx's status for a client that went away before its answer. Only the log shows it.
const statusClientClosed = 499

// Codes of JSON-RPC errors: those of JSON-RPC 2.0, then those of MCP.
const (
	codeParse              = -32700
	codeInvalidRequest     = -32600
	codeMethodNotFound     = -32601
	codeInvalidParams      = -32602
	codeInternal           = -32603
	codeResourceNotFound   = -32002 // in MCP revisions with initialize; later: codeInvalidParams
	codeHeaderMismatch     = -32020
	codeUnsupportedVersion = -32022
)

// handlerFunc answers a request, or returns an error for answerError to answer with.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

// problem is an error in the form in which callers see it.
type problem struct {
	status  int    // of HTTP
	code    int    // of JSON-RPC
	message string // what is wrong and what to do next
	data    any    // of JSON-RPC: details for the client program, nil for none
	header  string // name of a header that goes with the status, empty for none
	value   string // of that header
}

// publicError returns the problem that the caller sees for err. A publicProblem defines its own. For any other error, the
// caller learns only whether to try again.
func publicError(err error) problem {
	if known, ok := errors.AsType[publicProblem](err); ok {
		return known.problem()
	}
	return asUserError(err).problem()
}

// asUserError returns what the caller is told about an error that does not define its own problem.
func asUserError(err error) userError {
	tooLarge, isTooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case isTooLarge:
		return userErrorf(http.StatusRequestEntityTooLarge,
			"the body is larger than %d bytes", tooLarge.Limit)
	case errors.Is(err, context.Canceled):
		return userError{statusClientClosed, "the client went away"}
	case errors.Is(err, errUnavailable), errors.Is(err, context.DeadlineExceeded):
		return userError{http.StatusServiceUnavailable,
			"cannot answer right now: try again in a moment; /readyz?verbose or the log says why"}
	}
	return userError{http.StatusInternalServerError,
		"internal error: try once more; the log says more under this correlation_id"}
}

// publicProblem is an error that defines the problem that callers see.
type publicProblem interface {
	error
	problem() problem
}

// userError is a mistake of the caller. Its message is lower-case, says what to do, and goes to the caller.
type userError struct {
	status  int
	message string
}

// userErrorf returns a userError with a formatted message.
func userErrorf(status int, format string, args ...any) userError {
	return userError{status, fmt.Sprintf(format, args...)}
}

func (e userError) Error() string { return e.message }

// problem chooses the code of JSON-RPC by the status.
func (e userError) problem() problem {
	p := problem{
		status:  e.status,
		code:    codeInvalidRequest,
		message: e.message,
	}
	switch {
	case e.status == http.StatusBadRequest, e.status == http.StatusNotFound:
		p.code = codeInvalidParams
	case e.status >= http.StatusInternalServerError:
		p.code = codeInternal
	}
	if e.status == http.StatusServiceUnavailable {
		p.header = "Retry-After"
		p.value = "1"
	}
	return p
}

// headerError is a userError with a header that goes with its status.
type headerError struct {
	userError
	header string
	value  string
}

func (e headerError) Unwrap() error { return e.userError }

func (e headerError) problem() problem {
	p := e.userError.problem()
	p.header = e.header
	p.value = e.value
	return p
}

// tooManyRequests returns a 429 with the time to wait in Retry-After, rounded up to seconds.
func tooManyRequests(wait time.Duration, message string) error {
	seconds := int(math.Ceil(wait.Seconds()))
	return headerError{
		userError: userError{http.StatusTooManyRequests, message},
		header:    "Retry-After",
		value:     strconv.Itoa(seconds),
	}
}

// errUnavailable is wrapped by temporary errors: the store or the embedder is unavailable (503).
var errUnavailable = errors.New("unavailable")

// errDiskFull is the error of a write for which the store has no room.
var errDiskFull = userError{
	http.StatusInsufficientStorage,
	"no space left where the documents are stored: free some, then try again",
}

// errorType classifies err for the attribute error.type: a small set of values, never a message.
func errorType(err error) string {
	if err == nil {
		return ""
	}
	typed, ok := errors.AsType[interface {
		error
		errorType() string
	}](err)
	if ok {
		return typed.errorType()
	}
	user, isUser := errors.AsType[userError](err)
	switch {
	case isUser:
		return strconv.Itoa(user.status)
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, errUnavailable):
		return "unavailable"
	}
	return "_OTHER"
}

// bodyError returns the error for a body that could not be read: it is too large (413), or was cut off (400).
func bodyError(err error) error {
	if _, isTooLarge := errors.AsType[*http.MaxBytesError](err); isTooLarge {
		return err
	}
	return userError{http.StatusBadRequest, "the body was cut off: send it again"}
}

// Header values that responses share, so that a response does not allocate them.
var (
	nosniff  = []string{"nosniff"}
	noStore  = []string{"no-store"}
	jsonType = []string{"application/json"}

	// streamCache is the Cache-Control of streams. A proxy that compressed a stream would hold events back.
	streamCache = []string{"no-store, no-transform"}
)

// errorBody is the JSON form of a problem.
type errorBody struct {
	Code          string `json:"code"` // the status in words, such as not_found
	Message       string `json:"message"`
	CorrelationID string `json:"correlation_id"`
}

// writeProblem answers with p as JSON.
func writeProblem(w http.ResponseWriter, p problem) {
	p.setHeader(w.Header())
	code := "client_closed_request" // the one status without a text in net/http
	if text := http.StatusText(p.status); text != "" {
		code = strings.ReplaceAll(strings.ToLower(text), " ", "_")
	}
	body := errorBody{code, p.message, w.Header().Get("X-Correlation-Id")}
	writeJSON(w, p.status, map[string]errorBody{"error": body})
}

// setHeader sets the headers of a response with p. It replaces those that the handler has set for its own response.
func (p problem) setHeader(h http.Header) {
	h.Del("ETag")
	h["Cache-Control"] = noStore
	if p.header != "" {
		h.Set(p.header, p.value)
	}
}

// writeJSON answers with v. It ignores the error of a write, because a client that has gone needs no answer.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v)
}

// writeText answers with plain text that caches must not keep.
func writeText(w http.ResponseWriter, status int, text string) error {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h["Cache-Control"] = noStore
	w.WriteHeader(status)
	_, err := io.WriteString(w, text)
	return err
}
