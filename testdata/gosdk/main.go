// Command gosdk tries vitrine with the official Go SDK's client: go run . URL
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	url := os.Args[1]
	failed := false
	for _, attempt := range []struct {
		name      string
		version   string
		transport mcp.Transport
	}{
		{"Go SDK, newest", "", &mcp.StreamableClientTransport{Endpoint: url + "/mcp"}},
		{"Go SDK, 2025-11-25", "2025-11-25", &mcp.StreamableClientTransport{Endpoint: url + "/mcp"}},
		{"Go SDK, 2025-03-26", "2025-03-26", &mcp.StreamableClientTransport{Endpoint: url + "/mcp"}},
		{"Go SDK, HTTP+SSE", "2024-11-05", &mcp.SSEClientTransport{Endpoint: url + "/sse"}},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		version, err := try(ctx, attempt.transport, attempt.version)
		cancel()
		if err != nil {
			fmt.Printf("FAIL %s: %v\n", attempt.name, err)
			failed = true
			continue
		}
		fmt.Printf("ok   %s: speaks %s\n", attempt.name, version)
	}
	if failed {
		os.Exit(1)
	}
}

// try does with the client what an agent does, and returns the protocol version that was agreed on.
func try(ctx context.Context, transport mcp.Transport, version string) (agreed string, err error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "gosdk", Version: "1"}, nil)
	session, err := client.Connect(ctx, transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		return "", fmt.Errorf("connecting: %w", err)
	}
	defer session.Close()
	tools, err := session.ListTools(ctx, nil)
	if err != nil || len(tools.Tools) != 3 {
		return "", fmt.Errorf("listing tools: %v, %w", tools, err)
	}
	for _, call := range []mcp.CallToolParams{
		{Name: "search_docs", Arguments: map[string]any{"query": "restore a file", "prefix": "guide/"}},
		{Name: "list_documents", Arguments: map[string]any{"limit": 3}},
		{Name: "get_document", Arguments: map[string]any{"id": "guide/install.md"}},
	} {
		result, err := session.CallTool(ctx, &call)
		if err != nil || result.IsError || len(result.Content) != 1 {
			return "", fmt.Errorf("calling %s: %v, %w", call.Name, result, err)
		}
	}
	listed := 0
	for _, err := range session.Resources(ctx, nil) {
		if err != nil {
			return "", fmt.Errorf("listing resources: %w", err)
		}
		listed++
	}
	read, err := session.ReadResource(ctx, &mcp.ReadResourceParams{URI: "docs:///guide/install.md"})
	if err != nil || listed < 30 || !strings.Contains(read.Contents[0].Text, "systemctl enable") {
		return "", fmt.Errorf("reading one of %d resources: %w", listed, err)
	}
	prompt, err := session.GetPrompt(ctx, &mcp.GetPromptParams{Name: "answer_from_docs", Arguments: map[string]string{"question": "How do I install it?"}})
	if err != nil || len(prompt.Messages) != 1 {
		return "", fmt.Errorf("getting the prompt: %v, %w", prompt, err)
	}
	return session.InitializeResult().ProtocolVersion, nil
}
