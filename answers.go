package main

// What callers are told: JSON, text, and errors.

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

// userError is the caller's fault. Its message is lower-case, says what to do, and goes to the caller.
type userError struct {
	status  int
	message string
}

func (e userError) Error() string { return e.message }

// headerError is a userError with a header that its status calls for.
type headerError struct {
	userError
	key, value string
}

func (e headerError) Unwrap() error { return e.userError }

func tooManyRequests(wait time.Duration, message string) error {
	return headerError{userError{http.StatusTooManyRequests, message}, "Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds())))}
}

// errUnavailable wraps what keeps the store from answering for the moment: 503.
var errUnavailable = errors.New("unavailable")

// publicError is what a caller is told of err.
func publicError(err error) userError {
	user, isUsers := errors.AsType[userError](err)
	tooLarge, isTooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case isUsers:
		return user
	case isTooLarge:
		return userError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	case errors.Is(err, context.Canceled):
		return userError{statusClientClosed, "the client went away"}
	case errors.Is(err, errUnavailable), errors.Is(err, context.DeadlineExceeded):
		return userError{http.StatusServiceUnavailable, "cannot answer right now: try again in a moment; /readyz?verbose says more"}
	}
	return userError{http.StatusInternalServerError, "internal error: try once more; the log says more under this correlation_id"}
}

// errorType classifies err for error.type: a small set, never a message.
func errorType(err error) string {
	if err == nil {
		return ""
	}
	if typed, ok := errors.AsType[interface {
		error
		errorType() string
	}](err); ok {
		return typed.errorType()
	}
	user, isUsers := errors.AsType[userError](err)
	switch {
	case isUsers:
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

// errorBody is the JSON form of an error.
type errorBody struct {
	Code          string `json:"code"`
	Message       string `json:"message"`
	CorrelationID string `json:"correlation_id"`
}

// writeError answers with what a caller is told of err.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	user, h := publicError(err), w.Header()
	h.Del("ETag")
	h.Set("Cache-Control", "no-store")
	if user.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	if special, ok := errors.AsType[headerError](err); ok {
		h.Set(special.key, special.value)
	}
	if speaksJSONRPC(r) {
		writeJSON(w, user.status, refusal(user, h.Get("X-Correlation-Id")))
		return
	}
	code := "client_closed_request" // the one status without a text
	if text := http.StatusText(user.status); text != "" {
		code = strings.ReplaceAll(strings.ToLower(text), " ", "_")
	}
	writeJSON(w, user.status, map[string]errorBody{"error": {code, user.message, h.Get("X-Correlation-Id")}})
}

// writeJSON answers with v. That the client may have gone is seen by whoever writes the log line.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v)
}

func writeText(w http.ResponseWriter, status int, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, err := io.WriteString(w, text)
	return err
}

// bodyError is the error of a body that could not be read: too large (413, made by answerError) or cut off.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return userError{http.StatusBadRequest, "the body was cut off: send it again"}
}

// Header values that are the same in most answers, set without making them anew.
var nosniff, noStore, jsonType = []string{"nosniff"}, []string{"no-store"}, []string{"application/json"}
