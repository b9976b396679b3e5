package main

// The result of a tool, as a model gets it.

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"unicode/utf8"
)

const (
	// minPassageChars is the least room for a hit's text. With less, the hit is left out.
	minPassageChars = 40

	// maxToolURLBytes is the length from which on a hit's URL leaves out its fragment.
	maxToolURLBytes = 500
)

// toolResult is the result of tools/call.
type toolResult struct {
	Content           []content       `json:"content"`
	StructuredContent json.RawMessage `json:"structuredContent,omitempty"`
	IsError           bool            `json:"isError,omitempty"`
}

// content is a block of text for the model.
type content struct {
	Type string   `json:"type"`
	Text markdown `json:"text"`
}

// markdown is text for a JSON string. Unlike a string, it can be encoded from a pooled buffer without a copy.
type markdown []byte

// MarshalText makes encoding/json write m as a string.
func (m markdown) MarshalText() ([]byte, error) {
	return m, nil
}

// textResult returns text as a result.
func textResult(text markdown) toolResult {
	return toolResult{Content: []content{{"text", text}}}
}

// structuredResult returns v as structured content and as text, for clients that read only text.
func structuredResult(v any) (toolResult, error) {
	var b bytes.Buffer
	if err := encodeJSON(&b, v); err != nil {
		return toolResult{}, err
	}
	result := textResult(b.Bytes())
	result.StructuredContent = b.Bytes()
	return result, nil
}

// fitHits returns the hits that fit into room characters of JSON, with their texts cut. Each text gets an equal share of
// the room that the others leave.
func fitHits(hits []hit, room int) []hit {
	fitted := make([]hit, 0, len(hits)) // not null in JSON
	for _, h := range hits {
		h = withoutText(h)
		frame := jsonChars(h) + len(",")
		if room-frame < (len(fitted)+1)*minPassageChars {
			break
		}
		room -= frame
		fitted = append(fitted, h)
	}

	for i := range fitted {
		share := room / (len(fitted) - i)
		text, chars := fit(hits[i].Text, share)
		fitted[i].Text = text
		room -= chars
	}
	return fitted
}

// withoutText returns a hit without its text, and with the rest of it cut to what a model needs.
func withoutText(h hit) hit {
	h.Text = ""
	h.Title = truncate(h.Title, maxTitleBytes)
	h.Heading = truncate(h.Heading, maxTitleBytes)
	h.Score = math.Round(h.Score*1e4) / 1e4
	if len(h.URL) > maxToolURLBytes {
		h.URL, _, _ = strings.Cut(h.URL, "#") // it still opens the document
	}
	return h
}

// fit cuts text so that it takes at most room characters within the quotes of a JSON string. It returns how many it takes.
func fit(text string, room int) (fitted string, chars int) {
	const ellipsis = "…" // one character
	end := 0             // of the longest part with room for the ellipsis
	endChars := 0
	for i, r := range text {
		if chars < room {
			end = i
			endChars = chars
		}
		chars += charsInJSON(r)
		if chars > room {
			return text[:end] + ellipsis, endChars + 1
		}
	}
	return text, chars
}

// charsInJSON returns an upper bound of the characters that r takes in a JSON string that encodeJSON writes.
func charsInJSON(r rune) int {
	const escaped = len(`\u0000`)
	switch {
	case r == '"', r == '\\', r == '\n', r == '\r', r == '\t':
		return len(`\n`)
	case r < ' ', r == '\u2028', r == '\u2029', r == utf8.RuneError:
		return escaped
	}
	return 1
}

// jsonChars returns an upper bound of the characters that v takes in JSON: mustJSON escapes more than encodeJSON.
func jsonChars(v any) int {
	return utf8.RuneCountInString(mustJSON(v))
}
