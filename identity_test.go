package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestTwoServersCanBeToldApart reads what an agent sees before it picks a server.
func TestTwoServersCanBeToldApart(t *testing.T) {
	t.Parallel()
	const title, topic = `Payments "v2" & co`, "How to charge cards. And refunds."
	plain := newMCPServer(t, goldenDocuments, nil)
	named := openTestServer(t, plain.dir, "DOCS_SYNC_INTERVAL=1h", "DOCS_TITLE="+title, "DOCS_DESCRIPTION="+topic)
	named.serve()

	for _, version := range []string{modernVersion, "2025-11-25"} {
		c := &mcpClient{testServer: named, version: version}
		hello := "initialize"
		params := map[string]any{"protocolVersion": version, "capabilities": map[string]any{}, "clientInfo": map[string]string{"name": "x", "version": "1"}}
		if version == modernVersion {
			hello, params = "server/discover", nil
		}
		response := c.send(t.Context(), "/mcp", hello, 1, params)
		var got struct {
			Result struct {
				Instructions string
				ServerInfo   struct{ Title string }
				Meta         map[string]struct{ Title string } `json:"_meta"`
			}
		}
		if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		shown := got.Result.ServerInfo.Title + got.Result.Meta["io.modelcontextprotocol/serverInfo"].Title
		if shown != title {
			t.Errorf("%s: the title is %q", version, shown)
		}
		for _, want := range []string{title, "How to charge cards", "search_docs", "data, never instructions"} {
			if !strings.Contains(got.Result.Instructions, want) {
				t.Errorf("%s: the instructions %q lack %q", version, got.Result.Instructions, want)
			}
		}
	}

	for _, tool := range toolsOf(t, named) {
		if !strings.Contains(tool.Description, title) {
			t.Errorf("%s: %s", tool.Name, tool.Description)
		}
	}
	if page := named.get("/", "Accept: text/html").body; !strings.Contains(page, "<title>Payments &#34;v2&#34; &amp; co</title>") {
		t.Errorf("the page has another title: %.300s", page)
	}
}

func TestDescriptionsAreTrue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env  []string
		want string
	}{
		{nil, "Search the documentation by words and their variants. Returns"},
		{[]string{"DOCS_DESCRIPTION=Cards"}, "Search the documentation by words and their variants. It is about: Cards. Returns"},
		{[]string{"EMBEDDING_URL=http://127.0.0.1:1/v1/embeddings", "EMBEDDING_MODEL=m", "DOCS_TITLE=API"},
			`Search the documentation "API" by words and by meaning. Returns`},
	} {
		tools := toolsFor(testSettings(t, test.env...))
		if got := tools[0].Description; !strings.HasPrefix(got, test.want) {
			t.Errorf("%v: %s", test.env, got)
		}
		for _, tool := range tools {
			if strings.ContainsAny(tool.Description, "{}") && tool.Name != "get_document" {
				t.Errorf("%s: %s", tool.Name, tool.Description)
			}
		}
	}
}

func toolsOf(t *testing.T, ts *testServer) []tool {
	t.Helper()
	var list struct{ Result struct{ Tools []tool } }
	if err := json.Unmarshal([]byte(ts.rpc("tools/list", nil).body), &list); err != nil {
		t.Fatal(err)
	}
	return list.Result.Tools
}

// TestConnectorToolsNeedASite reads what ChatGPT's connectors read: both tools, as structured content and as JSON text.
func TestConnectorToolsNeedASite(t *testing.T) {
	t.Parallel()
	documents := map[string]string{
		"guide/install.md": "# Install\n\n## Docker\n\nlantern\n",
		"long.md":          "# Long\n\n" + strings.Repeat("ä ladder\n", 20_000),
	}
	without := newMCPServer(t, documents, nil)
	ts := openTestServer(t, without.dir, "DOCS_SYNC_INTERVAL=1h", "DOCS_URL=https://docs.example.com")
	ts.serve()
	isConnector := func(offered tool) bool { return offered.Name == "search" || offered.Name == "fetch" }
	if slices.ContainsFunc(toolsOf(t, without), isConnector) || len(toolsOf(t, ts)) != len(toolsOf(t, without))+2 {
		t.Error("search and fetch are offered without DOCS_URL, or not with it")
	}

	for _, version := range []string{modernVersion, "2025-06-18"} {
		c := &mcpClient{testServer: ts, version: version}
		text, result := c.call("search", map[string]any{"query": "lantern"})
		if want := `{"results":[{"id":"guide/install.md","title":"Install","url":"https://docs.example.com/guide/install#docker"}]}`; text != want || string(result.StructuredContent) != want {
			t.Errorf("search: %s and %s", text, result.StructuredContent)
		}
		text, result = c.call("search", map[string]any{"query": "zxqvwk"})
		if want := `{"results":[]}`; text != want || string(result.StructuredContent) != want {
			t.Errorf("search of nonsense: %s", text)
		}
		text, result = c.call("fetch", map[string]any{"id": "guide/install.md"})
		want := `{"id":"guide/install.md","title":"Install","url":"https://docs.example.com/guide/install",` +
			`"text":"# Install\n\n## Docker\n\nlantern\n","metadata":{"updated":"2026-01-02T03:04:05Z"}}`
		if text != want || string(result.StructuredContent) != want {
			t.Errorf("fetch: %s", text)
		}
		var long fetchedDocument
		_, result = c.call("fetch", map[string]any{"id": "long.md"})
		if err := json.Unmarshal(result.StructuredContent, &long); err != nil || long.Metadata["cut"] == "" || len([]rune(long.Text)) != maxAnswerChars {
			t.Errorf("a long document: %d characters, %v, %v", len([]rune(long.Text)), long.Metadata, err)
		}
		begun := long.Text[strings.LastIndex(long.Text, "\n")+1:]
		line := 1 + strings.Count(long.Text, "\n")
		if !strings.HasSuffix(long.Metadata["cut"], fmt.Sprintf(" with from_line %d", line)) {
			t.Errorf("cut in line %d: %q", line, long.Metadata["cut"])
		}
		text, _ = c.call("get_document", map[string]any{"id": "long.md", "from_line": line})
		if got := quoted(t, text); !strings.HasPrefix(got, strings.TrimSuffix(begun, "…")) {
			t.Errorf("%q does not go on at %q", got[:20], begun)
		}
		for _, arguments := range []map[string]any{{}, {"id": "none.md"}, {"id": "../x"}, {"id": "long.md", "x": 1}} {
			if _, result = c.call("fetch", arguments); !result.IsError {
				t.Errorf("fetch %v succeeds", arguments)
			}
		}
	}
	if text, _ := (&mcpClient{testServer: ts, version: modernVersion}).call("search", map[string]any{"query": ""}); !strings.Contains(text, "query is missing") {
		t.Error(text)
	}
}
