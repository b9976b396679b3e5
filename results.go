package main

// The result of a tool, as a model gets it.

import (
	"bytes"
	"encoding/json"
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
