package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzJSONRPC feeds bodies to POST /mcp's decoder and dispatcher and expects JSON, an echoed id, and no panic:
// go test -run '^$' -fuzz FuzzJSONRPC -fuzztime 1000000x .
func FuzzJSONRPC(f *testing.F) {
	files, _ := filepath.Glob("testdata/mcp/*.golden")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		request, _, _ := strings.Cut(string(text), "\n---\n")
		_, body, _ := strings.Cut(request, "\n\n")
		f.Add([]byte(body), modernVersion)
		f.Add([]byte(body), "")
	}
	s := newMCPServer(f, goldenDocuments, nil)
	s.lines.discard()
	f.Fuzz(func(t *testing.T, body []byte, version string) {
		r := httptest.NewRequest("POST", "/mcp", bytes.NewReader(body))
		r.Header["Mcp-Protocol-Version"] = []string{version}
		m, err := parseMessage(body)
		if err == nil && m.Method == "subscriptions/listen" {
			return // a stream
		}
		if err == nil {
			r.Header.Set("Mcp-Method", m.Method)
			switch p := m.Params.(type) {
			case *callParams:
				r.Header.Set("Mcp-Name", p.Name)
			case *resourceParams:
				r.Header.Set("Mcp-Name", p.URI)
			}
		}
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		if err := s.handleMCP(w, r); err != nil {
			if len(body) <= maxBodyBytes {
				t.Errorf("%v", err)
			}
			return
		}
		if w.Body.Len() == 0 {
			if w.Code != http.StatusAccepted {
				t.Errorf("%d without a body", w.Code)
			}
			return
		}
		var answer struct{ ID json.RawMessage }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil && w.Body.Bytes()[0] != '[' {
			t.Errorf("%v in %s", err, w.Body)
		}
		if m.ID != nil && !bytes.Equal(answer.ID, m.ID) {
			t.Errorf("id %s for %s", answer.ID, m.ID)
		}
	})
}

// TestParseMessageGuessesTheMethod expects the params of the method, wherever that stands and whatever looks like it.
func TestParseMessageGuessesTheMethod(t *testing.T) {
	for _, text := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`,
		`{"jsonrpc": "2.0", "id": 1, "method" : "tools/call", "params": {"name": "x"}}`,
		`{"params":{"name":"x"},"method":"tools/call","id":1,"jsonrpc":"2.0"}`,
		`{"params":{"name":"x","arguments":{"method":"ping"}},"method":"tools/call","id":1,"jsonrpc":"2.0"}`,
		`{"jsonrpc":"2.0","id":"\"method\":\"ping\"","method":"tools/call","params":{"name":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools\u002fcall","params":{"name":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"x"}}`,
	} {
		m, err := parseMessage([]byte(text))
		if err != nil {
			t.Errorf("%v in %s", err, text)
			continue
		}
		if got := paramsAs[callParams](m).Name; got != "x" {
			t.Errorf("name %q in %s", got, text)
		}
	}

	m, err := parseMessage([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":null}`))
	if err != nil || paramsAs[callParams](m).Name != "" {
		t.Error(m, err)
	}
}
