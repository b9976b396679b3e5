package main

// A mixed load, as agents, readers, writers and monitoring make it together. The tests of growth, of stops and of data
// races share it.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// mixedLoad sends requests from several clients at once, and counts what becomes of them.
type mixedLoad struct {
	url   string
	token string // ADMIN_TOKEN of the server

	mu      sync.Mutex
	refused int // by admission or by the budget of wrong tokens: 503 and 429 with Retry-After
	errors  int
	first   []string // the first errors
	took    []time.Duration
}

// loadClient is one client, with connections and documents of its own.
type loadClient struct {
	*mixedLoad
	http   *http.Client
	number int
	step   int
}

// loadRequest is one of the requests that a client sends in turn.
type loadRequest struct {
	method, path, body string
	headers            string // "Key: value", one a line
	want               []int  // statuses
	isStream           bool   // read to its first line only
}

const maxShownErrors = 5

// run lets clients send requests until ctx ends, or until the server closes their connections in a drain.
func (l *mixedLoad) run(ctx context.Context, clients int) {
	var running sync.WaitGroup
	for number := range clients {
		running.Go(func() {
			transport := new(http.Transport)
			defer transport.CloseIdleConnections()
			c := &loadClient{
				mixedLoad: l,
				http:      &http.Client{Transport: transport},
				number:    number,
			}
			for ctx.Err() == nil && c.ask() {
				c.step++
			}
		})
	}
	running.Wait()
}

// round returns the requests of a client in their order. It ends with the documents that it began with.
func (c *loadClient) round() []loadRequest {
	n := c.step
	id := fmt.Sprintf("load/%d.md", c.number)
	text := fmt.Sprintf("# Copper lantern %d\n\nA **note** of client %d.\n\n## Wick\n\n```sh\ntrim --wick=%d\n```\n", n, c.number, n)
	lines := mustJSON(map[string]string{"id": id, "text": text}) + "\n" +
		mustJSON(map[string]string{"id": "load/../x.md", "text": "a"}) + "\n"
	const rpc = "Content-Type: application/json\nMCP-Protocol-Version: 2025-06-18"
	const batches = "Content-Type: application/json\nMCP-Protocol-Version: 2025-03-26\nX-Correlation-ID: load"
	call := func(method string, params map[string]any) string {
		return mustJSON(map[string]any{"jsonrpc": "2.0", "id": n, "method": method, "params": params})
	}
	find := call("tools/call", map[string]any{"name": "search_docs", "arguments": map[string]any{"query": "restore a file"}})
	batch := "[" + find + "," + call("resources/read", map[string]any{"uri": "docs:///" + id}) + "]"
	return []loadRequest{
		{"PUT", "/documents/" + id, text, "", []int{201, 204}, false},
		{"GET", fmt.Sprintf("/search?q=copper+lantern+%d", n), "", "", []int{200}, false},
		{"GET", "/documents/" + id, "", "", []int{200}, false},
		{"POST", "/mcp", find, rpc, []int{200}, false},
		{"GET", "/search?q=%E7%81%AF%E7%AC%BC&partial=1&explain=1", "", "", []int{200}, false},
		{"GET", "/documents?prefix=load/&limit=20", "", "", []int{200}, false},
		{"POST", "/documents", lines, "", []int{200}, false},
		{"GET", "/read/" + id, "", "Accept: text/html", []int{200}, false},
		{"POST", "/mcp", batch, batches, []int{200}, false},
		{"GET", "/search?q=restore+a+fiel&prefix=guide/", "", "Traceparent: 00-" + strings.Repeat("ab", 16) + "-" + strings.Repeat("cd", 8) + "-01", []int{200}, false},
		{"GET", "/search", "", "", []int{400}, false},
		{"GET", "/documents/none.md", "", "", []int{404}, false},
		{"GET", "/sse", "", "", []int{200}, true},
		{"GET", "/llms.txt", "", "", []int{200}, false},
		{"GET", "/metrics", "", "", []int{200}, false},
		{"GET", "/mcp", "", "Accept: text/event-stream\nMCP-Protocol-Version: 2025-06-18", []int{200}, true},
		{"GET", "/readyz?verbose", "", "", []int{200, 503}, false},
		{"GET", "/debug/requests", "", "", []int{200}, false},
		{"PUT", "/documents/" + id, text, "If-None-Match: *", []int{412}, false},
		{"DELETE", "/documents/" + id, "", "Authorization: Bearer wrong", []int{401}, false},
		{"DELETE", "/documents/" + id, "", "", []int{204}, false},
	}
}

// ask sends the next request. It returns false if the server closes the connection, or accepts none.
func (c *loadClient) ask() bool {
	round := c.round()
	next := round[c.step%len(round)]

	started := time.Now()
	status, isClosed, err := c.send(next)
	took := time.Since(started)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	c.count(next, status, took, err)
	return !isClosed
}

// send sends a request and reads its answer.
func (c *loadClient) send(next loadRequest) (status int, isClosed bool, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, next.method, c.url+next.path, strings.NewReader(next.body))
	if err != nil {
		return 0, true, err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	for line := range strings.Lines(next.headers) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		r.Header.Set(key, value)
	}

	resp, err := c.http.Do(r)
	if err != nil {
		return 0, true, err
	}
	defer resp.Body.Close()
	if next.isStream && resp.StatusCode == http.StatusOK {
		_, err := bufio.NewReader(resp.Body).ReadString('\n')
		return resp.StatusCode, resp.Close, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Close, err
}

// count adds the outcome of a request to the sums.
func (l *mixedLoad) count(asked loadRequest, status int, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took)
	isRefused := status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
	switch {
	case err == nil && slices.Contains(asked.want, status):
	case err == nil && isRefused:
		l.refused++
	default:
		l.errors++
		if len(l.first) < maxShownErrors {
			l.first = append(l.first, fmt.Sprintf("%s %s: %d, %v", asked.method, asked.path, status, err))
		}
	}
}

// report prints the sums, and fails the test if a request had an error.
func (l *mixedLoad) report(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%d errors, %d refused, of %s", l.errors, l.refused, quantiles(l.took))
	if l.errors > 0 {
		t.Errorf("%d of %d requests failed, such as\n%s", l.errors, len(l.took), strings.Join(l.first, "\n"))
	}
	if len(l.took) == 0 {
		t.Error("no request was sent")
	}
}
