package main

// A JSON-RPC response that is ready to be sent. It does not copy the text of a large document: it shares the text with the
// store and encodes it while sending, so that 300 slow readers of a document take hardly more memory than one.

import (
	"bytes"
	"context"
	"io"
	"net/netip"
)

// minSharedBytes is the size from which a response shares the text of a document instead of copying it.
const minSharedBytes = 64 << 10

// sharedText is a text to insert into a response as a JSON string. The zero value inserts nothing.
type sharedText struct {
	text   string
	at     int        // offset in the encoded response
	turns  *admission // of encoding; nil: no limit
	client netip.Prefix
}

// reply is a response, or a server-sent event that carries one.
type reply struct {
	encoded []byte
	shared  sharedText
}

// newReply returns a reply with a copy of the bytes in buf.
func newReply(buf *bytes.Buffer, shared sharedText) reply {
	return reply{bytes.Clone(buf.Bytes()), shared}
}

// bytes returns about how many bytes of memory the reply keeps alive, shared ones too.
func (r reply) bytes() int { return len(r.encoded) + len(r.shared.text) }

// writeTo writes the whole response. The error is that of w, or errBusy if the text waited too long for its turn.
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

// writeTo encodes and writes the text as a JSON string, a part at a time. It takes a turn for encoding each part and gives it
// back before writing, because the reader may be slow.
func (s sharedText) writeTo(w io.Writer) error {
	buf := takeBuffer()
	defer releaseBuffer(buf)
	quote := []byte{'"'}
	if _, err := w.Write(quote); err != nil {
		return err
	}
	for part := range inParts(s.text) {
		// Not the request's context: a stream may write the response after the request has ended.
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
