package main

// A JSON-RPC response that waits to be sent. The text of a large document is not copied into it: it is shared with
// the store and encoded while it is sent, so that 300 slow readers of a document take no more memory than one.

import (
	"bytes"
	"context"
	"io"
	"net/netip"
)

// minSharedBytes is the size from which the text of a document is shared.
const minSharedBytes = 64 << 10

// sharedText is a text to insert into a response as a JSON string, at an offset.
type sharedText struct {
	text   string
	at     int
	turns  *admission // of the parts to encode; nil: no limit
	client netip.Prefix
}

// reply is a response, or an event with one.
type reply struct {
	encoded []byte
	shared  sharedText
}

// newReply returns the response in buf, which it copies.
func newReply(buf *bytes.Buffer, shared sharedText) reply {
	return reply{bytes.Clone(buf.Bytes()), shared}
}

// bytes returns about how much memory the reply keeps.
func (r reply) bytes() int { return len(r.encoded) + len(r.shared.text) }

// writeTo writes the whole response.
func (r reply) writeTo(w io.Writer) error {
	if r.shared.text == "" {
		_, err := w.Write(r.encoded)
		return err
	}
	if _, err := w.Write(r.encoded[:r.shared.at]); err != nil {
		return err
	}
	if err := r.shared.writeTo(w); err != nil {
		return err
	}
	_, err := w.Write(r.encoded[r.shared.at:])
	return err
}

// writeTo writes the text as a JSON string, a part at a time. Encoding waits for its turn. Writing does not, because readers
// may be slow.
func (s sharedText) writeTo(w io.Writer) error {
	buf := takeBuffer()
	defer releaseBuffer(buf)
	quote := []byte{'"'}
	if _, err := w.Write(quote); err != nil {
		return err
	}
	for part := range inParts(s.text) {
		// A stream may write this after the request has ended, so the request's context does not count.
		leave, err := s.turns.enter(context.Background(), s.client)
		if err != nil {
			return err
		}
		buf.Reset()
		err = encodeJSON(buf, part)
		leave()
		if err != nil {
			return err
		}
		unquoted := buf.Bytes()[1 : buf.Len()-1]
		if _, err := w.Write(unquoted); err != nil {
			return err
		}
	}
	_, err := w.Write(quote)
	return err
}
