package main

// How long a client's searches take while another client sends as many requests as the rate limit allows.

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	neighbourDocuments = 5_000
	neighbourRate      = 48 // requests a second, which the default RATE_LIMIT allows
)

// neighbourLoads are the requests that cost a server with neighbourDocuments documents most. Each is a path, or a body for /mcp.
var neighbourLoads = []struct{ name, request string }{
	{"/livez", "/livez"},
	{"a page", "/read/s1/p101.md"},
	{"a page of 8 MiB", "/read/big.md"},
	{"a document of 8 MiB", "/documents/big.md"},
	{"lists of 1,000", "/documents?limit=1000"},
	{"lists of 1,000 with a prefix", "/documents?limit=1000&prefix=s"},
	{"/llms.txt", "/llms.txt"},
	{"330 Chinese characters", "/search?q=" + url.QueryEscape(ideographs(3*330))},
	{"words of every document", "/search?limit=50&q=install+the+server+and+search+documents+with+a+token"},
	{"ids without a document", "/documents/" + strings.Repeat("word/", 40) + "a.md"},
	{"sections of 8 MiB", toolCall("get_document", `{"id":"big.md","heading":"Limits"}`)},
	{"sections without a document", toolCall("get_document", `{"id":"deploy/copper-lantern.md"}`)},
	{"list_documents", toolCall("list_documents", `{"limit":100}`)},
	{"resources of 8 MiB", rpcCall("resources/read", `{"uri":"docs:///big.md"}`)},
	{"resources/list", rpcCall("resources/list", `{}`)},
	{"completion/complete", rpcCall("completion/complete",
		`{"ref":{"type":"ref/resource","uri":"docs:///{+id}"},"argument":{"name":"id","value":"s"}}`)},
	{"prompts/get", rpcCall("prompts/get", `{"name":"answer_from_docs","arguments":{"question":"install the server with a token"}}`)},
	{"batches of sections", "[" + strings.Repeat(toolCall("get_document", `{"id":"big.md","heading":"Limits"}`)+",", 19) + ping + "]"},
	{"batches of searches", "[" + strings.Repeat(toolCall("search_docs", `{"query":"install the server"}`)+",", 19) + ping + "]"},
	{"folders", "/read/s1/"},
	{"missing pages", "/read/s1/missing.md"},
	{"partial words", "/search?partial=1&q=in"},
	{"phrases", "/search?q=%22the+server%22+%22a+document%22"},
}

const ping = `{"jsonrpc":"2.0","id":2,"method":"ping"}`

func rpcCall(method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params)
}

// toolCall returns the body of a tools/call request. arguments is a JSON object.
func toolCall(name, arguments string) string {
	return rpcCall("tools/call", fmt.Sprintf(`{"name":%q,"arguments":%s}`, name, arguments))
}

// BenchmarkNeighbour prints how long a client's searches take while another client, with its own address, sends one of
// neighbourLoads at the default rate limit for ten seconds. The environment variable NEIGHBOUR is a regular expression that
// selects loads by name. If DATABASE is not empty, the documents are in PostgreSQL:
//
//	go test -run '^$' -bench Neighbour -benchtime 1x .
func BenchmarkNeighbour(b *testing.B) {
	ts := &testServer{t: b, dir: b.TempDir()}
	prose := proseText(12_000)
	for i := range neighbourDocuments {
		ts.writeFile(fmt.Sprintf("s%d/p%d.md", i%50, i), fmt.Sprintf("# Page %d\n\n%s", i, prose[i%6_000:]))
	}
	ts.writeFile("big.md", proseText(maxDocumentBytes))
	env := []string{"DOCS_DIR=" + ts.dir, "DOCS_SYNC_INTERVAL=1h", "RATE_LIMIT="}
	var p *process
	if os.Getenv("DATABASE") == "" {
		p = start(b, env)
	} else {
		p = start(b, append(env, "DATABASE_URL="+newDatabase(b)))
		waitFor(b, "the indexes", func() bool { return strings.Contains(p.logs.String(), `"job":"build_indexes"`) })
	}

	wanted := regexp.MustCompile(os.Getenv("NEIGHBOUR"))
	for _, load := range neighbourLoads {
		if !wanted.MatchString(load.name) {
			continue
		}
		if status, err := p.send(b.Context(), http.DefaultClient, load.request); err != nil || status >= http.StatusInternalServerError {
			b.Errorf("%s: %d, %v", load.name, status, err)
		}
		ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
		var clients sync.WaitGroup
		var answered, refused atomic.Int64
		clients.Go(func() { p.sendAtRate(ctx, load.request, &answered, &refused) })
		took := p.searchSteadily(ctx, b)
		clients.Wait()
		cancel()

		slices.Sort(took)
		fmt.Printf("%-30s %4d answered %4d refused; the other: %3d searches, p50 %4d ms, p99 %4d ms\n",
			load.name, answered.Load(), refused.Load(),
			len(took), took[len(took)/2].Milliseconds(), took[len(took)*99/100].Milliseconds())
	}
}

// sendAtRate sends a request neighbourRate times a second from 127.0.0.2, without waiting for the answers.
func (p *process) sendAtRate(ctx context.Context, request string, answered, refused *atomic.Int64) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	client := &http.Client{Transport: &http.Transport{
		DialContext:         dialer.DialContext,
		MaxIdleConnsPerHost: neighbourRate,
	}}
	defer client.CloseIdleConnections()

	var requests sync.WaitGroup
	defer requests.Wait()
	tick := time.NewTicker(time.Second / neighbourRate)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		requests.Go(func() {
			switch status, err := p.send(ctx, client, request); {
			case err != nil:
			case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
				refused.Add(1)
			default:
				answered.Add(1)
			}
		})
	}
}

// send sends a request of neighbourLoads and reads the answer to its end.
func (p *process) send(ctx context.Context, client *http.Client, request string) (status int, err error) {
	method, path, body := http.MethodGet, request, ""
	if !strings.HasPrefix(request, "/") {
		method, path, body = http.MethodPost, "/mcp", request
	}
	r, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Accept", "text/html, application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("MCP-Protocol-Version", batchVersion)
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// searchSteadily searches ten times a second and returns how long each search took.
func (p *process) searchSteadily(ctx context.Context, b *testing.B) (took []time.Duration) {
	b.Helper()
	words := []string{"install", "metrics", "search", "database", "token", "folder", "latency", "trace"}
	for i := 0; ctx.Err() == nil; i++ {
		began := time.Now()
		status, body := p.get(fmt.Sprintf("/search?q=%s+%d", words[i%len(words)], i))
		took = append(took, time.Since(began))
		if status != http.StatusOK {
			b.Errorf("%d %s", status, body)
		}
		time.Sleep(time.Until(began.Add(100 * time.Millisecond)))
	}
	return took
}
