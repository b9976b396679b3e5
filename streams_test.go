package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// events reads the events of a stream until one contains the text, and returns them all.
func events(t testing.TB, r *bufio.Reader, until string) string {
	t.Helper()
	var all strings.Builder
	for {
		line, err := r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			t.Fatalf("stream ended (%v) before %q: %s", err, until, &all)
		}
		if strings.Contains(line, until) {
			return all.String()
		}
	}
}

// TestMCPNotifiesInAllEras changes documents and expects to be told on each kind of stream.
func TestMCPNotifiesInAllEras(t *testing.T) {
	s := newMCPServer(t, goldenDocuments, func(s *server) { s.streams.coalesce = time.Millisecond })
	modern := &mcpClient{testServer: s, version: modernVersion}
	listen := modern.send(t.Context(), "/mcp", "subscriptions/listen", "sub-1", map[string]any{"notifications": map[string]any{
		"toolsListChanged": true, "resourcesListChanged": true, "resourceSubscriptions": []string{"docs:///guide/install.md"}}})
	narrow := modern.send(t.Context(), "/mcp", "subscriptions/listen", 7, map[string]any{"notifications": map[string]any{
		"resourceSubscriptions": []string{"docs:///guide/upgrade.md"}}})
	get, _ := http.NewRequestWithContext(t.Context(), "GET", s.url+"/mcp", nil)
	get.Header.Set("Accept", "text/event-stream")
	get.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	legacy, err := http.DefaultClient.Do(get)
	if err != nil {
		t.Fatal(err)
	}
	sse, path := s.openSSE()
	old := &mcpClient{testServer: s}
	old.send(t.Context(), path, "resources/subscribe", 1, map[string]any{"uri": "docs:///guide/install.md"})
	events(t, sse, `"id":1,"result":{}`)

	listened, narrowed, notified := bufio.NewReader(listen.Body), bufio.NewReader(narrow.Body), bufio.NewReader(legacy.Body)
	if first := events(t, listened, "data:"); !strings.Contains(first, `"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"resourcesListChanged":true,"resourceSubscriptions":["docs:///guide/install.md"]},"_meta":{"io.modelcontextprotocol/subscriptionId":"sub-1"}`) {
		t.Error("not acknowledged first:", first)
	}
	events(t, narrowed, "acknowledged")
	if listen.Header.Get("X-Accel-Buffering") != "no" || listen.Header.Get("Content-Type") != "text/event-stream" {
		t.Error(listen.Header)
	}
	const updated = `"method":"notifications/resources/updated","params":{"uri":"docs:///guide/install.md"`
	const changed = `"method":"notifications/resources/list_changed"`
	for _, change := range []func() answer{
		func() answer { return s.put("guide/install.md", "# Other\n") },
		func() answer { return s.do("DELETE", "/documents/guide/install.md", "") },
	} {
		if a := change(); a.status != http.StatusNoContent {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if got := events(t, listened, updated+`,"_meta":{"io.modelcontextprotocol/subscriptionId":"sub-1"}`); !strings.Contains(got, changed+`,"params":{"_meta"`) {
			t.Error("listen:", got)
		}
		events(t, notified, changed)
		if got := events(t, sse, updated); !strings.Contains(got, changed) {
			t.Error("sse:", got)
		}
	}
	old.send(t.Context(), path, "resources/unsubscribe", 2, map[string]any{"uri": "docs:///guide/install.md"})
	events(t, sse, `"id":2,"result":{}`)
	for _, id := range []string{"guide/install.md", "guide/upgrade.md"} {
		if a := s.put(id, "# Newer\n"); a.status >= 300 {
			t.Fatalf("%s: %d %s", id, a.status, a.body)
		}
	}
	if got := events(t, narrowed, "guide/upgrade.md"); strings.Contains(got, "install.md") || strings.Contains(got, changed) {
		t.Error("told of what was not asked for:", got)
	}
	old.send(t.Context(), path, "ping", 3, nil)
	if got := events(t, sse, `"id":3`); strings.Contains(got, "updated") {
		t.Error("told after unsubscribe:", got)
	}

	close(s.stopping)
	events(t, listened, `"id":"sub-1","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"sub-1"`)
	for _, r := range []*bufio.Reader{listened, narrowed, notified, sse} {
		rest, err := io.ReadAll(r)
		if err != nil || r == narrowed && strings.Contains(string(rest), "updated") {
			t.Error("stream did not end well:", string(rest), err)
		}
	}
}

// openSSE opens GET /sse and returns its stream and where to post.
func (ts *testServer) openSSE() (stream *bufio.Reader, path string) {
	ts.t.Helper()
	r, _ := http.NewRequestWithContext(ts.t.Context(), "GET", ts.url+"/sse", nil)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		ts.t.Fatal(err)
	}
	ts.t.Cleanup(func() { answer.Body.Close() })
	stream = bufio.NewReader(answer.Body)
	first := events(ts.t, stream, "data: ")
	path, ok := strings.CutPrefix(first, "event: endpoint\ndata: messages?")
	if !ok {
		ts.t.Fatal("no endpoint first:", first)
	}
	return stream, "/messages?" + strings.TrimSpace(path)
}

// TestSSECallThatPanicsEnds: the client may use its id again, and the session can be idle.
func TestSSECallThatPanicsEnds(t *testing.T) {
	s := newMCPServer(t, goldenDocuments, func(s *server) {
		s.store = storeStub{s.store, func(context.Context) error { panic("secret cause") }}
	})
	_, path := s.openSSE()
	const search = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_docs","arguments":{"query":"a"}}}`
	for range 2 {
		a := s.do("POST", path, search, "Content-Type: application/json")
		if a.status != http.StatusInternalServerError {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
}

// TestSSECancelledIsNotAnswered cancels a request on /sse.
func TestSSECancelledIsNotAnswered(t *testing.T) {
	s, blocking := newBlockingServer(t)
	sse, path := s.openSSE()
	c := &mcpClient{testServer: s}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.send(t.Context(), path, "tools/call", "slow", map[string]any{"name": "search_docs", "arguments": map[string]any{"query": "install"}})
	}()
	<-blocking.began
	if answer := c.send(t.Context(), path, "ping", "slow", nil); answer.StatusCode != http.StatusBadRequest {
		t.Error("an id in flight was taken again:", answer.Status)
	}
	c.send(t.Context(), path, "notifications/cancelled", nil, map[string]any{"requestId": "slow"})
	<-blocking.ended
	<-done
	c.send(t.Context(), path, "ping", 2, nil)
	if got := events(t, sse, `"id":2,"result":{}`); strings.Contains(got, "slow") {
		t.Error("answered what was cancelled:", got)
	}
}

// TestSlowReaderIsDropped calls for more than an unread stream takes.
func TestSlowReaderIsDropped(t *testing.T) {
	s := newMCPServer(t, map[string]string{"big.md": strings.Repeat("0123456789\n", 20_000)}, func(s *server) { s.streams.patience = 100 * time.Millisecond })
	_, path := s.openSSE()
	c := &mcpClient{testServer: s}
	for i := range 500 {
		answer := c.send(t.Context(), path, "tools/call", i, map[string]any{"name": "get_document", "arguments": map[string]any{"id": "big.md", "max_chars": 80_000}})
		if answer.StatusCode == http.StatusNotFound {
			s.waitForStreams(0)
			s.waitForLog(`"stream_ended":"slow_reader"`)
			return
		}
	}
	t.Fatal("a reader that does not read is still served")
}

// waitForStreams waits until n streams are open and, if that is none, nothing is kept of any.
func (ts *testServer) waitForStreams(n int) {
	ts.t.Helper()
	waitFor(ts.t, fmt.Sprintf("%d open streams", n), func() bool {
		ts.streams.mu.Lock()
		defer ts.streams.mu.Unlock()
		return ts.streams.open == n && (n > 0 || len(ts.streams.sessions) == 0 && len(ts.streams.opened) == 0 && len(ts.streams.byClient) == 0 && len(ts.streams.byID) == 0)
	})
}

// TestStreamsAreCapped opens more than one client, and then more than all together, may have.
func TestStreamsAreCapped(t *testing.T) {
	s := newMCPServer(t, goldenDocuments, func(s *server) {
		s.streams.max, s.streams.maxPerClient = 3, 2
		s.proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	for _, step := range []struct {
		client string
		want   int
	}{{"10.0.0.1", 200}, {"10.0.0.1", 200}, {"10.0.0.1", 429}, {"10.0.0.2", 200}, {"10.0.0.2", 503}} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", s.url+"/sse", nil)
		r.Header.Set("X-Forwarded-For", step.client)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != step.want || step.want != 200 && answer.Header.Get("Retry-After") == "" {
			t.Error(step, answer.Status, answer.Header)
		}
	}
	s.waitForStreams(3)
}

// TestStreamsEnd keeps an idle stream alive with comments, for longer than a request may take, and ends it when it is
// old, a session when it is idle.
func TestStreamsEnd(t *testing.T) {
	t.Parallel()
	s := openTestServer(t, datedFolder(t, goldenDocuments))
	s.timeout = time.Second
	s.streams.keepAlive, s.streams.maxIdle, s.streams.maxAge = 20*time.Millisecond, 100*time.Millisecond, 2*s.timeout
	s.serve()
	sse, _ := s.openSSE()
	events(t, sse, ": keep-alive")
	if _, err := io.ReadAll(sse); err != nil {
		t.Error("idle session:", err)
	}
	c := &mcpClient{testServer: s, version: modernVersion}
	listen := bufio.NewReader(c.send(t.Context(), "/mcp", "subscriptions/listen", 9, nil).Body)
	events(t, listen, ": keep-alive")
	events(t, listen, `"id":9,"result":`)
	if rest, err := io.ReadAll(listen); err != nil || len(rest) > 1 {
		t.Error(string(rest), err)
	}
	s.waitForStreams(0)
	s.waitForLog(`"stream":"sse","stream_ended":"idle"`)
	s.waitForLog(`"stream":"streamable_http","stream_ended":"max_age"`)
}

// TestStreamsLeaveNothing opens 10,000 streams of all three kinds, from a process of its own because of the limit on open
// files, drops them, and expects goroutines and memory back. It compares a second crowd with the first, because the runtime
// keeps 450 bytes of each dead goroutine to use again.
func TestStreamsLeaveNothing(t *testing.T) {
	if address := os.Getenv("VITRINE_TEST_STREAMS"); address != "" {
		holdStreams(t, address, manyStreams)
		return
	}
	if testing.Short() {
		t.Skip("opens 10,000 streams")
	}
	s := newMCPServer(t, goldenDocuments, func(s *server) {
		s.proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	s.lines.discard()
	watchers := func() (n int) {
		s.store.(*memory).callbacks.Range(func(any, any) bool { n++; return true })
		return n
	}
	watching := watchers()
	goroutines := runtime.NumGoroutine()

	if used := openAndDropStreams(t, s); used > 400<<20 {
		t.Errorf("too much for idle streams: %d MB", used>>20)
	}
	waitFor(t, "goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	s.spans.Reset()
	heap := heapBytes()
	openAndDropStreams(t, s)
	waitFor(t, "goroutines, heap and watchers as before", func() bool {
		s.spans.Reset() // of the test, not of the server
		return runtime.NumGoroutine() <= goroutines+2 && heapBytes() < heap+2<<20 && watchers() == watching
	})
	t.Logf("%d goroutines and %d bytes of heap, before %d and %d", runtime.NumGoroutine(), heapBytes(), goroutines, heap)
}

// manyStreams is the size of a crowd.
const manyStreams = 10_000

// openAndDropStreams opens a crowd of idle streams, drops them, and returns the bytes of heap and stacks that were in use
// with them.
func openAndDropStreams(t *testing.T, s *testServer) (used uint64) {
	t.Helper()
	clients := exec.Command(os.Args[0], "-test.run=^TestStreamsLeaveNothing$")
	clients.Env = append(os.Environ(), "VITRINE_TEST_STREAMS="+strings.TrimPrefix(s.url, "http://"))
	clients.Stderr = os.Stderr
	held, err := clients.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := clients.Start(); err != nil {
		t.Fatal(err)
	}
	s.waitForStreams(manyStreams)

	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	t.Logf("%d idle streams: %d MB of heap and %d MB of stacks in use, %d MB from the system",
		manyStreams, stats.HeapInuse>>20, stats.StackInuse>>20, stats.Sys>>20)

	held.Close()
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
	s.waitForStreams(0)
	return stats.HeapInuse + stats.StackInuse
}

// holdStreams opens n streams and keeps them until its standard input ends.
func holdStreams(t *testing.T, address string, n int) {
	const body = `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourcesListChanged":true},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	for i := range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		head := fmt.Sprintf("X-Forwarded-For: 10.0.%d.%d\r\nHost: localhost\r\nAccept: text/event-stream\r\n", i>>8, i&255)
		_, err = io.WriteString(conn, []string{
			"GET /mcp HTTP/1.1\r\nMcp-Protocol-Version: 2025-11-25\r\n" + head + "\r\n",
			"GET /sse HTTP/1.1\r\n" + head + "\r\n",
			fmt.Sprintf("POST /mcp HTTP/1.1\r\n%sContent-Type: application/json\r\nMcp-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body),
		}[i%3])
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}
