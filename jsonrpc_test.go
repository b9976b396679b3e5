package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
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
		if m.ID != "" && string(answer.ID) != string(m.ID) {
			t.Errorf("id %s for %s", answer.ID, m.ID)
		}
	})
}

// FuzzMemberNames adds to each object of a body a copy of each member under a name in another case, and expects the same
// message: go test -run '^$' -fuzz FuzzMemberNames -fuzztime 1m .
func FuzzMemberNames(f *testing.F) {
	for _, text := range []string{
		benchmarkRequest,
		`{"jsonrpc":"2.0","id":"a","method":"initialize","params":{"protocolVersion":"2025-06-18","clientInfo":{"name":"x","version":"1"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["a","b"]}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"uri":"x"},"argument":{"name":"id","value":"\u0061"}}}`,
		`{"jsonrpc":"2.0","id":-1e2,"result":[{},[],"]}",{"a":{"b":null}}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		want, err := parseMessage(text)
		if err != nil {
			return
		}
		got, err := parseMessage([]byte(withOtherCases(rawValue(bytes.TrimPrefix(text, []byte(byteOrderMark))))))
		if !want.isRequest() && err == nil {
			return
		}
		if call, ok := want.Params.(*callParams); ok {
			call.Arguments = nil // all their names count
			got.Params.(*callParams).Arguments = nil
		}
		if err != nil || got.ID != want.ID || got.Method != want.Method || !reflect.DeepEqual(got.Params, want.Params) {
			t.Errorf("%s\ngot  %+v, %v\nwant %+v", text, got, err, want)
		}
	})
}

// withOtherCases returns v with a copy of each member, in upper case.
func withOtherCases(v rawValue) string {
	v = rawValue(strings.TrimSpace(string(v)))
	if v[0] != '{' {
		return string(v)
	}
	var members []string
	seen := map[string]bool{}
	for name := range v.elements {
		seen[name.text()] = true
	}
	for name, value := range v.elements {
		upper := strings.ToUpper(name.text())
		if !seen[upper] {
			seen[upper] = true
			members = append(members, mustJSON(upper)+":5")
		}
		members = append(members, string(name)+":"+withOtherCases(value))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// FuzzMembers compares the members of an object with those that encoding/json finds, and the search for duplicates with its
// tokens.
func FuzzMembers(f *testing.F) {
	for _, text := range []string{
		benchmarkRequest,
		`{"a":{"b":[1,{"c":"}"}],"\u0062":2},"\"":"\\","x":[]} `,
		`{ "a" : -1.5e3 , "b" :null, "c":[ [ ] , { } ] }`,
		`[{"a":1,"A":2,"ſ":3,"s":4,"\ud800":5}]`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) || !utf8.Valid(text) {
			return
		}
		v := rawValue(bytes.Trim(text, " \t\r\n"))
		if got, want := v.hasDuplicates(), hasDuplicateTokens(t, text); got != want {
			t.Errorf("duplicates: %v, want %v in %s", got, want, text)
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(text, &want); err != nil || v.hasDuplicates() {
			return
		}
		got := appendMembers(nil, v)
		if len(got) != len(want) {
			t.Errorf("%d members, want %d in %s", len(got), len(want), text)
		}
		for _, m := range got {
			if string(m.value) != string(want[m.name]) {
				t.Errorf("%q is %s, want %s in %s", m.name, m.value, want[m.name], text)
			}
		}
	})
}

// hasDuplicateTokens is hasDuplicates by the tokens of encoding/json.
func hasDuplicateTokens(t *testing.T, text []byte) bool {
	t.Helper()
	type level struct {
		names  map[string]bool // nil: an array
		isName bool            // the next token
	}
	levels := []level{{}}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		top := &levels[len(levels)-1]
		name, isString := token.(string)
		switch {
		case token == json.Delim('}'), token == json.Delim(']'):
			levels = levels[:len(levels)-1]
			continue
		case top.names != nil && top.isName && isString && top.names[name]:
			return true
		case top.names != nil && top.isName:
			top.names[name] = true
		}
		top.isName = !top.isName
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{names: make(map[string]bool), isName: true})
		case json.Delim('['):
			levels = append(levels, level{})
		}
	}
}

// TestParseMessageFindsTheParams expects the params of the method, wherever that stands and whatever looks like it.
func TestParseMessageFindsTheParams(t *testing.T) {
	for _, text := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`,
		`{"jsonrpc": "2.0", "id": 1, "method" : "tools/call", "params": {"name": "x"}}`,
		`{"params":{"name":"x"},"method":"tools/call","id":1,"jsonrpc":"2.0"}`,
		`{"params":{"name":"x","arguments":{"method":"ping"}},"method":"tools/call","id":1,"jsonrpc":"2.0"}`,
		`{"jsonrpc":"2.0","id":"\"method\":\"ping\"","method":"tools/call","params":{"name":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools\u002fcall","params":{"name":"x"}}`,
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
