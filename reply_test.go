package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestJSONStringIsWrittenInParts(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "a", `"`, `\`, "\n\t\x01\x7f", "<b>&amp;", "\u2028", "Straße 北京 👩‍👩‍👧", `"""`,
		strings.Repeat("北京", 20_000), strings.Repeat(`"`, 70_000), strings.Repeat("a", 32<<10) + `"`, "x" + strings.Repeat("👩", 20_000),
	} {
		var got, want bytes.Buffer
		if err := (sharedText{text: text}).writeTo(&got); err != nil {
			t.Fatal(err)
		}
		if err := encodeJSON(&want, text); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%.20q is written as %.40s", text, &got)
		}
	}
}

func FuzzJSONString(f *testing.F) {
	f.Add("a\"b\\c\n\u2028<", uint16(9000))
	f.Fuzz(func(t *testing.T, part string, times uint16) {
		text := strings.ToValidUTF8(strings.Repeat(part, min(int(times), 1+(1<<20)/(1+len(part)))), "")
		var got bytes.Buffer
		var back string
		if err := (sharedText{text: text}).writeTo(&got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got.Bytes(), &back); err != nil || back != text {
			t.Errorf("%.40q became %.40q: %v", text, back, err)
		}
	})
}

// largeDocuments returns a document of 4 MiB that is shared in responses, and a small one.
func largeDocuments() map[string]string {
	return map[string]string{
		"large.md": "# Large\n\n" + strings.Repeat("All the \"same\" words, 北京.\n", 4<<20/30),
		"small.md": "# Small\n",
	}
}

func readMessageOf(id int, uri string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"resources/read","params":{"uri":"docs:///%s"}}`, id, uri)
}

// readTexts returns the texts in the responses of resources/read, by id.
func readTexts(t *testing.T, responses []byte) (texts map[int]string, failures map[int]string) {
	t.Helper()
	var all []struct {
		ID     int
		Result struct {
			Contents []struct{ URI, MIMEType, Text string }
		}
		Error struct{ Message string }
	}
	if responses[0] == '{' {
		responses = []byte("[" + string(responses) + "]")
	}
	if err := json.Unmarshal(responses, &all); err != nil {
		t.Fatalf("%v in %.200s", err, responses)
	}
	texts = make(map[int]string)
	failures = make(map[int]string)
	for _, one := range all {
		if one.Error.Message != "" {
			failures[one.ID] = one.Error.Message
			continue
		}
		texts[one.ID] = one.Result.Contents[0].Text
		if !strings.HasPrefix(one.Result.Contents[0].URI, "docs:///") || one.Result.Contents[0].MIMEType != "text/markdown" {
			t.Errorf("the other members: %v %v", one.Result.Contents[0].URI, one.Result.Contents[0].MIMEType)
		}
	}
	return texts, failures
}

func TestLargeResourceIsReadWhole(t *testing.T) {
	t.Parallel()
	s := newMCPServer(t, largeDocuments(), nil)
	large := largeDocuments()["large.md"]
	for _, test := range []struct {
		name    string
		body    string
		headers []string
	}{
		{"legacy", readMessageOf(1, "large.md"), nil},
		{"as an event", readMessageOf(1, "large.md"), []string{"Accept: text/event-stream"}},
		{"batch", "[" + readMessageOf(2, "small.md") + "," + readMessageOf(1, "large.md") + "]", nil},
	} {
		a := s.do("POST", "/mcp", test.body, append(test.headers, "Content-Type: application/json")...)
		body := strings.TrimSpace(strings.TrimPrefix(a.body, "event: message\ndata: "))
		texts, _ := readTexts(t, []byte(body))
		if a.status != http.StatusOK || texts[1] != large {
			t.Errorf("%s: %d, %d bytes of %d", test.name, a.status, len(texts[1]), len(large))
		}
	}

	modern := &mcpClient{testServer: s, version: modernVersion}
	resp := modern.send(t.Context(), "/mcp", "resources/read", 1, map[string]any{"uri": "docs:///large.md"})
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if texts, _ := readTexts(t, body); texts[1] != large {
		t.Errorf("modern: %d bytes", len(texts[1]))
	}

	sse, path := s.openSSE()
	old := &mcpClient{testServer: s}
	for id := range 3 {
		old.send(t.Context(), path, "resources/read", id, map[string]any{"uri": "docs:///large.md"})
		event := events(t, sse, fmt.Sprintf(`"id":%d`, id))
		_, data, _ := strings.Cut(event, "data: ")
		if texts, _ := readTexts(t, []byte(data)); texts[id] != large {
			t.Errorf("/sse: %d bytes", len(texts[id]))
		}
	}
}

// TestBatchIsBounded reads a document of 4 MiB 64 times: four responses have room.
func TestBatchIsBounded(t *testing.T) {
	t.Parallel()
	s := newMCPServer(t, largeDocuments(), nil)
	var messages []string
	for i := range maxBatch {
		messages = append(messages, readMessageOf(i, "large.md"))
	}
	messages[10] = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	a := s.do("POST", "/mcp", "["+strings.Join(messages, ",")+"]", "Content-Type: application/json")
	texts, failures := readTexts(t, []byte(a.body))
	if len(texts) != 3 && len(texts) != 4 || len(texts)+len(failures) != maxBatch-1 {
		t.Errorf("%d texts and %d failures", len(texts), len(failures))
	}
	for id, message := range failures {
		if !strings.Contains(message, "16 MiB") {
			t.Errorf("%d: %s", id, message)
		}
	}
	if len(a.body) > maxBatchAnswer*3/2 {
		t.Errorf("%d bytes", len(a.body))
	}
}

// TestSlowReadersShareTheDocument opens reads of 4 MiB that are not finished, and looks at the heap.
func TestSlowReadersShareTheDocument(t *testing.T) {
	s := openTestServer(t, datedFolder(t, largeDocuments()), "DOCS_SYNC_INTERVAL=1h", "LOG_LEVEL=debug")
	s.serve()
	waitForScans(t, s.lines)
	before := heapBytes()
	var bodies []io.Closer
	for i := range 40 {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", s.url+"/mcp", strings.NewReader(readMessageOf(i, "large.md")))
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		bodies = append(bodies, resp.Body)
	}
	if grown := int64(heapBytes()) - int64(before); grown > 20<<20 {
		t.Errorf("40 readers of 4 MiB take %d MiB", grown>>20)
	}
	for _, body := range bodies {
		body.Close()
	}
}

// TestUnreadSessionIsDroppedByBytes sends large answers on a session, without a reader.
func TestUnreadSessionIsDroppedByBytes(t *testing.T) {
	t.Parallel()
	st := newSession()
	large := reply{encoded: []byte(`{}`), shared: sharedText{text: strings.Repeat("x", 8<<20), at: 1}}
	isDropped := func() bool {
		select {
		case <-st.dropped:
			return true
		default:
			return false
		}
	}
	st.send(large)
	if isDropped() {
		t.Error("one large answer drops the session")
	}
	st.send(reply{encoded: []byte("{}")})
	if !isDropped() || st.answerBytes > len(large.shared.text)+100 {
		t.Errorf("%d bytes wait", st.answerBytes)
	}

	small := newSession()
	for range 1000 {
		small.send(reply{encoded: make([]byte, 1000)})
	}
	select {
	case <-small.dropped:
		t.Error("1 MB of small answers drop the session")
	default:
	}
	for range 10_000 {
		small.send(reply{encoded: make([]byte, 1000)})
	}
	if small.answerBytes > maxQueuedBytes {
		t.Errorf("%d bytes wait", small.answerBytes)
	}
}

// TestListenKeepsNothingOfItsBody opens streams by bodies of 1 MB with arguments that nobody uses.
func TestListenKeepsNothingOfItsBody(t *testing.T) {
	s := newMCPServer(t, goldenDocuments, nil)
	padding := strings.Repeat("x", 900_000)
	body := `{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{"unused":"` + padding + `",` +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"` + modernVersion + `","io.modelcontextprotocol/clientCapabilities":{},` +
		`"io.modelcontextprotocol/clientInfo":{"name":"` + padding[:50_000] + `","version":"1"}},` +
		`"notifications":{"resourceSubscriptions":["docs:///guide/install.md"]}}}`
	open := func() io.Closer {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", s.url+"/mcp", strings.NewReader(body))
		for key, value := range map[string]string{"Content-Type": "application/json", "Accept": "text/event-stream, application/json",
			"Mcp-Protocol-Version": modernVersion, "Mcp-Method": "subscriptions/listen"} {
			r.Header.Set(key, value)
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		events(t, bufio.NewReader(resp.Body), "acknowledged")
		return resp.Body
	}
	defer open().Close()
	before := heapBytes()
	for range 60 {
		defer open().Close()
	}
	runtime.GC()
	if grown := int64(heapBytes()) - int64(before); grown > 20<<20 {
		t.Errorf("60 streams keep %d MiB", grown>>20)
	}
}

// TestSubscriptionsAreBoundedByClient opens streams of one client until it has 1,000 subscriptions.
func TestSubscriptionsAreBoundedByClient(t *testing.T) {
	t.Parallel()
	a := newStreams(100)
	uris := func(from, n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("docs:///%d.md", from+i))
		}
		return all
	}
	one, two := newStream(streamableHTTP), newStream(streamableHTTP)
	for _, st := range []*stream{one, two} {
		if err := a.begin(st); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.subscribe(one, uris(0, 600)...); err != nil {
		t.Fatal(err)
	}
	if err := a.subscribe(one, uris(0, 600)...); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := a.subscribe(two, uris(0, 401)...); err == nil {
		t.Error("1,001 subscriptions")
	}
	a.unsubscribe(one, "docs:///1.md")
	a.unsubscribe(one, "docs:///1.md")
	if err := a.subscribe(two, "docs:///700.md"); err != nil {
		t.Errorf("after one was removed: %v", err)
	}
	if err := a.subscribe(two, "docs:///no"); err == nil {
		t.Error("a URI of no document")
	}

	a.end(one)
	a.end(two)
	if len(a.byID)+len(a.byClient)+len(a.lists)+len(a.opened) > 0 {
		t.Errorf("what is left: %d ids, %d clients", len(a.byID), len(a.byClient))
	}
}

// TestTellingVisitsOnlyWhoSubscribes changes documents, some with more than one URI, and looks at what is marked.
func TestTellingVisitsOnlyWhoSubscribes(t *testing.T) {
	t.Parallel()
	a := newStreams(100)
	a.coalesce = time.Hour // the test tells
	listening, subscribed, other := newStream(streamableHTTP), newStream(streamableHTTP), newStream(streamableHTTP)
	listening.lists = true
	for _, st := range []*stream{listening, subscribed, other} {
		if err := a.begin(st); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.subscribe(subscribed, "docs:///a.md", "docs:///%61.md", "docs:///b.md"); err != nil {
		t.Fatal(err)
	}
	if err := a.subscribe(other, "docs:///c.md"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		ids                 []string
		subscribed, another int // notifications
	}{
		{[]string{"a.md"}, 2, 0},
		{[]string{"a.md", "b.md", "x.md"}, 3, 0},
		{[]string{"c.md"}, 0, 1},
		{[]string{"x.md"}, 0, 0},
		{nil, 3, 1},
	} {
		a.changed(test.ids)
		a.notify()
		count := func(st *stream) int { return strings.Count(string(st.notifications()), "resources/updated") }
		if got := count(subscribed); got != test.subscribed {
			t.Errorf("%v: %d notifications, want %d", test.ids, got, test.subscribed)
		}
		if got := count(other); got != test.another {
			t.Errorf("%v: the other has %d notifications, want %d", test.ids, got, test.another)
		}
		if !strings.Contains(string(listening.notifications()), "list_changed") {
			t.Errorf("%v: no list_changed", test.ids)
		}
	}
	var many []string
	for i := range maxPendingChanges + 1 {
		many = append(many, fmt.Sprintf("%d.md", i))
	}
	a.changed(many)
	a.notify()
	if !other.hasNotifications() {
		t.Error("after very many changes any document may have changed")
	}
}
