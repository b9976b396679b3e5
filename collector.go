package main

// The responses of an OpenTelemetry collector: whether it accepted the spans, and whether they may be sent again. The
// SDK's exporter reports this only in the text of its errors.

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxReplyBytes = 1 << 20

	// maxReplyText bounds what the log shows of a reply.
	maxReplyText = 500

	// maxCollectorWait bounds the pause that a collector may ask for.
	maxCollectorWait = time.Minute
)

// errPaused is the reason for spans that were dropped without being sent.
var errPaused = errors.New("the collector has asked for a longer pause than the queue has room for")

// retryStatuses are the HTTP statuses after which OTLP allows a client to send the same spans again.
var retryStatuses = []int{
	http.StatusTooManyRequests,
	http.StatusBadGateway,
	http.StatusServiceUnavailable,
	http.StatusGatewayTimeout,
}

// collectorReply is the outcome of one attempt to send spans.
type collectorReply struct {
	isAccepted bool
	mayRetry   bool          // the spans may be sent again
	retryAfter time.Duration // not before this time; 0: the client chooses
	rejected   int64         // spans of an accepted batch that the collector does not take
	message    string        // why, or a warning
}

// problem returns an error if the collector rejected spans or sent a warning.
func (c *collectorReply) problem() error {
	switch {
	case c.rejected > 0:
		return fmt.Errorf("the collector has rejected %d spans: %s", c.rejected, c.message)
	case c.message != "":
		return errors.New(c.message)
	}
	return nil
}

type replyKey struct{}

// withReply returns a context whose request to the collector fills reply.
func withReply(ctx context.Context, reply *collectorReply) context.Context {
	return context.WithValue(ctx, replyKey{}, reply)
}

// newCollectorClient returns a client that fills the reply of a request's context. config may be nil.
func newCollectorClient(config *tls.Config) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	return &http.Client{
		Transport:     collectorTransport{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// collectorTransport reads from each response what the exporter hides from its caller.
type collectorTransport struct{ next http.RoundTripper }

// RoundTrip reads the body of a successful response, and replaces it by an empty one.
func (t collectorTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	reply, ok := r.Context().Value(replyKey{}).(*collectorReply)
	if err != nil || !ok {
		return resp, err
	}

	if resp.StatusCode/100 != 2 {
		reply.mayRetry = slices.Contains(retryStatuses, resp.StatusCode)
		reply.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
		return resp, nil
	}

	// The collector has accepted the spans, so no later error may cause a retry.
	*reply = collectorReply{isAccepted: true}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes))
	_ = resp.Body.Close()
	resp.Body = http.NoBody
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		reply.readJSON(body)
	} else {
		reply.readProtobuf(body)
	}
	reply.message = truncate(reply.message, maxReplyText)
	return resp, nil
}

// retryAfter parses a header Retry-After: seconds or a date. It returns 0 if there is none, and at most maxCollectorWait:
// until then all spans are lost once the queue is full.
func retryAfter(value string, now time.Time) time.Duration {
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err == nil {
		return min(time.Duration(seconds)*time.Second, maxCollectorWait)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, min(date.Sub(now), maxCollectorWait))
}

// readJSON reads an ExportTraceServiceResponse in JSON. It treats a body that it cannot parse as success.
func (c *collectorReply) readJSON(body []byte) {
	var response struct {
		PartialSuccess struct {
			RejectedSpans json.Number `json:"rejectedSpans"`
			ErrorMessage  string      `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	_ = json.NewDecoder(bytes.NewReader(body)).Decode(&response)
	rejected, _ := response.PartialSuccess.RejectedSpans.Int64()
	c.rejected = max(0, rejected)
	c.message = response.PartialSuccess.ErrorMessage
}

// readProtobuf reads an ExportTraceServiceResponse: field 1 is partial_success, of which field 1 is rejected_spans and
// field 2 is error_message.
func (c *collectorReply) readProtobuf(body []byte) {
	for field := range protobufFields(body) {
		if field.number != 1 {
			continue
		}
		for inner := range protobufFields(field.bytes) {
			switch inner.number {
			case 1:
				c.rejected = int64(inner.value)
			case 2:
				c.message = strings.ToValidUTF8(string(inner.bytes), "")
			}
		}
	}
	c.rejected = max(0, c.rejected)
}

// protobufField is a field of a message (protobuf.dev/programming-guides/encoding). A varint has a value, and a string
// or a message has bytes.
type protobufField struct {
	number uint64
	value  uint64
	bytes  []byte
}

// protobufFields yields the fields of a message, and stops where it is malformed.
func protobufFields(message []byte) iter.Seq[protobufField] {
	return func(yield func(protobufField) bool) {
		for len(message) > 0 {
			field, rest, ok := nextField(message)
			if !ok || !yield(field) {
				return
			}
			message = rest
		}
	}
}

// nextField returns the first field of a message and what follows it.
func nextField(message []byte) (field protobufField, rest []byte, ok bool) {
	key, rest, ok := uvarint(message)
	if !ok {
		return field, nil, false
	}
	field.number = key >> 3

	var size uint64
	switch key & 7 {
	case 0: // varint
		field.value, rest, ok = uvarint(rest)
		return field, rest, ok
	case 1: // 64 bits
		size = 8
	case 2: // a length and as many bytes
		size, rest, ok = uvarint(rest)
	case 5: // 32 bits
		size = 4
	default: // groups, which are deprecated
		return field, nil, false
	}
	if !ok || size > uint64(len(rest)) {
		return field, nil, false
	}
	field.bytes = rest[:size]
	return field, rest[size:], true
}

// uvarint returns the varint that b begins with, and what follows it.
func uvarint(b []byte) (value uint64, rest []byte, ok bool) {
	value, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return value, b[n:], true
}
