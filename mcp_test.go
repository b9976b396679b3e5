package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const benchmarkDocument = "guide/install.md"

// benchmarkText is Markdown of 2,000 bytes.
func benchmarkText() string {
	return ("# Install\n\n" + strings.Repeat("Run the installer with `--prefix /opt` and <angle> \"quotes\".\n", 40))[:2000]
}

const benchmarkRequest = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_document","arguments":{"id":"guide/install.md"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`

// BenchmarkMCPGetDocument compares the CPU time of a tools/call of a document: that of the program with everything on
// (its traces go to a collector that is there, its log is read) and that of a bare handler, each a process of its own, in turns.
// All on one core: taskset -c 0 go test -run '^$' -bench MCPGetDocument -benchtime 7x .
func BenchmarkMCPGetDocument(b *testing.B) {
	const calls = 40_000
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	dir := folderOf(b, benchmarkDocument, benchmarkText())
	vitrine := start(b, []string{"DOCS_DIR=" + dir, "GOMAXPROCS=1", "OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL})
	bare := start(b, []string{"GOMAXPROCS=1", "BARE_HANDLER=yes"}, os.Args[0])
	for _, p := range []*process{vitrine, bare} {
		benchmarkCalls(b, p, calls/10)
	}
	var ratios, ours, bares []float64
	for b.Loop() {
		ours, bares = append(ours, benchmarkCalls(b, vitrine, calls)), append(bares, benchmarkCalls(b, bare, calls))
		ratios = append(ratios, bares[len(bares)-1]/ours[len(ours)-1])
	}
	for unit, values := range map[string][]float64{"cpu-µs/call": ours, "bare-cpu-µs/call": bares, "of-bare": ratios} {
		slices.Sort(values)
		b.ReportMetric(values[len(values)/2], unit)
	}
	b.ReportMetric(0, "ns/op")
}

// serveBare answers tools/call with net/http and encoding/json alone.
func serveBare(addr string) error {
	text := benchmarkText()
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			ID     json.RawMessage `json:"id"`
			Params struct {
				Arguments map[string]any `json:"arguments"`
			} `json:"params"`
		}
		if r.Method == http.MethodGet { // somebody waits until it is ready
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Params.Arguments["id"] != benchmarkDocument {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": in.ID, "result": map[string]any{
			"content": []map[string]string{{"type": "text", "text": text}}}})
	}))
}

// benchmarkCalls sends calls over 16 kept connections, without net/http's client, which costs more than a server, and returns the
// microseconds of CPU that each took of p.
func benchmarkCalls(b *testing.B, p *process, calls int) float64 {
	address := strings.TrimPrefix(p.url, "http://")
	request := fmt.Appendf(nil, "POST /mcp HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"+
		"Mcp-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: get_document\r\nContent-Length: %d\r\n\r\n%s", address, len(benchmarkRequest), benchmarkRequest)
	started := p.cpuTime(b)
	var left atomic.Int64
	left.Store(int64(calls))
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			reader := bufio.NewReader(conn)
			for left.Add(-1) >= 0 {
				_, _ = conn.Write(request)
				answer, err := http.ReadResponse(reader, nil)
				if err != nil || answer.StatusCode != http.StatusOK {
					b.Error(answer, err)
					return
				}
				if n, err := io.Copy(io.Discard, answer.Body); err != nil || n < 2000 {
					b.Error(n, err)
					return
				}
			}
		})
	}
	clients.Wait()
	time.Sleep(500 * time.Millisecond) // for what is done after the answers
	return float64((p.cpuTime(b) - started).Nanoseconds()) / 1000 / float64(calls)
}

var goldenDocuments = map[string]string{
	"guide/install.md": "# Install Vitrine\n\nDownload the binary.\n\n## Linux\n\nInstall with `tar -x` & run <it>.\n\n## macOS\n\nUse the archive.\n",
	"guide/upgrade.md": "# Upgrade\n\nStop it, replace the binary, start it.\n",
	"a b.md":           "# Spaces\n\nNo newline at the end",
}

var update = flag.Bool("update", false, "write testdata/mcp/*.golden anew")

// TestMCPGolden sends the request of each golden file and compares the response: every row of the protocol's table of
// statuses and errors, in both eras.
func TestMCPGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/mcp/*.golden")
	if err != nil || len(files) < 100 {
		t.Fatal(len(files), err)
	}
	s := newMCPServer(t, goldenDocuments, nil)
	closed := newMCPServer(t, goldenDocuments, func(s *server) { s.cfg.apiToken = "api-token" })
	limited := newMCPServer(t, goldenDocuments, func(s *server) { s.limits = newLimiter(0.001, 0.5) })
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".golden")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			request, want, _ := strings.Cut(string(text), "\n---\n")
			url := s.url
			switch name {
			case "token-missing":
				url = closed.url
			case "rate-limited":
				url = limited.url
			}
			got := goldenResponse(t, url, request)
			if *update {
				if err := os.WriteFile(file, []byte(request+"\n---\n"+got), 0o666); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// goldenResponse sends a request written as in HTTP/1.1 and returns the response's status, telling headers and body.
func goldenResponse(t testing.TB, url, text string) string {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if strings.HasPrefix(lines[0], "#") {
		lines = lines[1:]
	}
	method, path, _ := strings.Cut(lines[0], " ")
	body = strings.TrimSuffix(body, "\n")
	var pad int
	if _, err := fmt.Sscanf(body, "{{pad %d}}", &pad); err == nil {
		body = strings.Repeat(" ", pad)
	}
	r, err := http.NewRequest(method, url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Correlation-ID", "golden")
	for _, line := range lines[1:] {
		key, value, _ := strings.Cut(line, ": ")
		if key == "Host" {
			r.Host = value
		}
		r.Header.Set(key, value)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := answer.Status + "\n"
	for _, key := range []string{"Allow", "Content-Type", "Retry-After", "Www-Authenticate", "Mcp-Session-Id"} {
		if value := answer.Header.Get(key); value != "" {
			out += key + ": " + value + "\n"
		}
	}
	got = bytes.ReplaceAll(got, []byte(url), []byte("http://HOST"))
	stable := regexp.MustCompile(`"version":"`+regexp.QuoteMeta(version())+`"`).ReplaceAllString(string(got), `"version":"VERSION"`)
	return out + "\n" + strings.TrimSuffix(stable, "\n") + "\n"
}

// client is an MCP client of one era.
type mcpClient struct {
	*testServer
	version string
	id      int
}

// send posts a message and returns status and body.
func (c *mcpClient) send(ctx context.Context, path, method string, id any, params map[string]any) *http.Response {
	c.t.Helper()
	m := map[string]any{"jsonrpc": "2.0", "method": method}
	if id != nil {
		m["id"] = id
	}
	params = maps.Clone(params)
	if params == nil {
		params = map[string]any{}
	}
	if c.version == modernVersion {
		params["_meta"] = map[string]any{"io.modelcontextprotocol/protocolVersion": modernVersion, "io.modelcontextprotocol/clientCapabilities": map[string]any{},
			"io.modelcontextprotocol/clientInfo": map[string]string{"name": "tester", "version": "1.2"}, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	}
	m["params"] = params
	r, err := http.NewRequestWithContext(ctx, "POST", c.url+path, strings.NewReader(mustJSON(m)))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", c.version)
	r.Header.Set("Mcp-Method", method)
	for _, key := range []string{"name", "uri"} {
		if value, ok := params[key].(string); ok {
			r.Header.Set("Mcp-Name", value)
		}
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		if ctx.Err() == nil {
			c.t.Error(err)
		}
		return nil
	}
	c.t.Cleanup(func() { answer.Body.Close() })
	return answer
}

// call calls a tool and returns its text.
func (c *mcpClient) call(tool string, arguments map[string]any) (text string, result toolResult) {
	c.t.Helper()
	c.id++
	answer := c.send(c.t.Context(), "/mcp", "tools/call", c.id, map[string]any{"name": tool, "arguments": arguments})
	var body struct {
		ID     int
		Result struct {
			Content           []struct{ Type, Text string }
			StructuredContent json.RawMessage
			IsError           bool
		}
		Error *rpcError
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || body.Error != nil || body.ID != c.id {
		c.t.Fatal(tool, arguments, body, err)
	}
	text = body.Result.Content[0].Text
	return text, toolResult{textResult(markdown(text)).Content, body.Result.StructuredContent, body.Result.IsError}
}

// TestMCPDisconnectReachesStore drops the connection of a request in both eras and on /sse.
func TestMCPDisconnectReachesStore(t *testing.T) {
	s, blocking := newBlockingServer(t)
	search := map[string]any{"name": "search_docs", "arguments": map[string]any{"query": "install"}}
	for _, version := range []string{modernVersion, "2025-11-25"} {
		ctx, disconnect := context.WithCancel(t.Context())
		c := &mcpClient{testServer: s, version: version}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.send(ctx, "/mcp", "tools/call", 1, search)
		}()
		<-blocking.began
		disconnect()
		<-blocking.ended
		<-done
	}
	ctx, disconnect := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", s.url+"/sse", nil)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	path := "/" + strings.TrimSpace(strings.TrimPrefix(events(t, bufio.NewReader(answer.Body), "data: "), "event: endpoint\ndata: "))
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&mcpClient{testServer: s}).send(t.Context(), path, "tools/call", 1, search)
	}()
	<-blocking.began
	disconnect()
	<-blocking.ended
	<-done
}

// TestMCPLogLine expects one line that says who asked for what.
func TestMCPLogLine(t *testing.T) {
	s := newMCPServer(t, goldenDocuments, nil)
	c := &mcpClient{testServer: s, version: modernVersion}
	c.call("get_document", map[string]any{"id": "none.md"})
	for _, want := range []string{`"route":"/mcp"`, `"status":200`, `"mcp_method":"tools/call"`, `"mcp_client":"tester 1.2"`, `"tool":"get_document"`, `"error":"no document`} {
		s.waitForLog(want)
	}
	_, path := s.openSSE()
	old := &mcpClient{testServer: s}
	old.send(t.Context(), path, "initialize", 1, map[string]any{"clientInfo": map[string]string{"name": strings.Repeat("n", 100), "version": "1"}})
	old.send(t.Context(), path, "no/such", 2, nil)
	s.waitForLog(`"mcp_method":"_OTHER","mcp_client":"` + strings.Repeat("n", 64) + `"`)
}

// waitForLog waits for a line, which is written behind the request's back.
func (ts *testServer) waitForLog(want string) {
	ts.t.Helper()
	waitFor(ts.t, "a log line with "+want, func() bool { return strings.Contains(ts.lines.String(), want) })
}

// TestMCPStages expects the stages of a message in the record: their attributes, errors and the message's own trace.
func TestMCPStages(t *testing.T) {
	s := newMCPServer(t, goldenDocuments, nil)
	rec := s.observe.policy.newRecord(nil)
	ctx := rec.newScope(t.Context(), -1)
	m, err := parseMessage([]byte(`{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"get_document","arguments":{"id":"none.md"},"_meta":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}}`))
	c := &call{message: m, version: "2025-11-25"}
	if status, _ := s.answer(ctx, new(bytes.Buffer), c, err); status != http.StatusOK {
		t.Error(status)
	}
	got := fmt.Sprint(rec.stages[0].kind, rec.stages[0].attrs, rec.stages[1].kind, rec.stages[1].attrs)
	if want := "mcp [mcp.method.name=tools/call mcp.protocol.version=2025-11-25 network.transport=tcp jsonrpc.request.id=x gen_ai.operation.name=execute_tool gen_ai.tool.name=get_document] tool [gen_ai.tool.name=get_document]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if rec.traceID() != "0af7651916cd43dd8448eb211c80319c" {
		t.Error("not in the message's trace:", rec.traceID())
	}
	for _, st := range rec.stages[:2] {
		if failed, ok := st.err.(interface{ errorType() string }); !ok || failed.errorType() != "tool_error" {
			t.Error(st.kind, st.err)
		}
	}
	c.Method = "no/such"
	s.answer(ctx, new(bytes.Buffer), c, nil)
	last := rec.stages[len(rec.stages)-1]
	if failed, ok := errors.AsType[rpcError](last.err); !ok || failed.errorType() != "-32601" {
		t.Error(last.kind, last.err)
	}
}

// TestMCPBatchCountsAgainstTheRateLimit sends a batch of more messages than the limit has left.
func TestMCPBatchCountsAgainstTheRateLimit(t *testing.T) {
	s := newMCPServer(t, goldenDocuments, func(s *server) { s.limits = newLimiter(0.001, 5) })
	const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	for i, want := range []int{200, 429} {
		answer, err := http.Post(s.url+"/mcp", "application/json", strings.NewReader("["+ping+strings.Repeat(","+ping, 3)+"]"))
		if err != nil || answer.StatusCode != want {
			t.Error(i, answer, err)
		}
	}
}
