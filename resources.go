package main

// Documents as MCP resources, the one prompt, and the completion of ids.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	resourcesPerPage = 100
	maxCompletions   = 100 // by the specification

	documentScheme = "docs:///"
)

func (s *server) listResources(ctx context.Context, m *message) (any, error) {
	page, err := s.list(ctx, "", m.Params.Cursor, resourcesPerPage)
	if err != nil {
		return nil, err
	}
	resources := []map[string]any{}
	for _, d := range page.Documents {
		resources = append(resources, map[string]any{
			"uri": documentURI(d.ID), "name": d.ID, "title": d.Title, "mimeType": "text/markdown", "size": d.Bytes,
			"annotations": map[string]string{"lastModified": d.Updated.UTC().Format(time.RFC3339)},
		})
	}
	result := map[string]any{"resources": resources}
	if page.NextCursor != "" {
		result["nextCursor"] = page.NextCursor
	}
	return result, nil
}

func (s *server) listTemplates(context.Context, *message) (any, error) {
	return json.RawMessage(`{"resourceTemplates":[{"uriTemplate":"` + documentScheme + `{+id}","name":"document","title":"Document",` +
		`"description":"A Markdown document by its id, such as guide/install.md; completion/complete completes ids","mimeType":"text/markdown"}]}`), nil
}

func (s *server) readResource(ctx context.Context, m *message) (any, error) {
	id, ok := documentID(m.Params.URI)
	var d *document
	err := errNotFound
	if ok {
		d, err = s.store.document(ctx, id)
	}
	if errors.Is(err, errNotFound) {
		code := codeInvalidParams
		if !m.isModern() {
			code = codeResourceNotFound
		}
		return nil, rpcError{code, "no such resource: resources/list lists them, " + documentScheme + "guide/install.md is the form of their URIs",
			map[string]string{"uri": m.Params.URI}}
	}
	if err != nil {
		return nil, err
	}
	contents := map[string]string{"uri": m.Params.URI, "mimeType": "text/markdown", "text": d.text}
	return map[string]any{"contents": []map[string]string{contents}}, nil
}

// documentURI returns the URI of the document of that id. Its path may have characters that URIs may not.
func documentURI(id string) string { return documentScheme + (&url.URL{Path: id}).EscapedPath() }

// documentID returns the id in a document's URI.
func documentID(uri string) (id string, ok bool) {
	escaped, ok := strings.CutPrefix(uri, documentScheme)
	id, err := url.PathUnescape(escaped)
	return id, ok && err == nil && checkID(id) == nil
}

// complete completes ids in the resource template. There is nothing to propose for anything else, which is no error.
func (s *server) complete(ctx context.Context, m *message) (any, error) {
	values, more := []string{}, false
	if strings.HasPrefix(m.Params.Ref.URI, documentScheme) && m.Params.Argument.Name == "id" {
		page, err := s.list(ctx, m.Params.Argument.Value, "", maxCompletions)
		if err != nil {
			return nil, err
		}
		more = page.NextCursor != ""
		for _, d := range page.Documents {
			values = append(values, d.ID)
		}
	}
	return map[string]any{"completion": map[string]any{"values": values, "hasMore": more}}, nil
}

const promptList = `{"prompts":[{"name":"answer_from_docs","title":"Answer from the documentation",
	"description":"Searches the documentation for a question, quotes what it finds, and asks for an answer that cites it",
	"arguments":[{"name":"question","title":"Question","description":"What to answer","required":true}]}]}`

func (s *server) listPrompts(context.Context, *message) (any, error) {
	return json.RawMessage(promptList), nil
}

// getPrompt returns answer_from_docs, the one prompt.
func (s *server) getPrompt(ctx context.Context, m *message) (any, error) {
	if m.Params.Name != "answer_from_docs" {
		return nil, rpcErrorf(codeInvalidParams, "no prompt %.60q: prompts/list names them", m.Params.Name)
	}
	spanAttrs(ctx, slog.String("gen_ai.prompt.name", m.Params.Name))
	args := arguments{values: m.Params.Arguments}
	question := args.query("question")
	if err := args.check("question"); err != nil {
		return nil, rpcErrorf(codeInvalidParams, "%v", err)
	}
	found, err := s.search(ctx, query{text: question, limit: 5})
	if err != nil {
		return nil, err
	}
	var quotes bytes.Buffer
	fmt.Fprintf(&quotes, "Answer this question from the documentation quoted below, and cite document, heading and line of whatever you use. "+
		"Say so if the quotes do not answer it; then search on with search_docs.\n\nQuestion: %s\n", question)
	for _, h := range found.Hits {
		quotes.WriteByte('\n')
		sum := sha256.Sum256([]byte(h.Text))
		quote(&quotes, h.Document, cmp.Or(h.Heading, h.Title), "line "+strconv.Itoa(h.Line), hex.EncodeToString(sum[:]), h.Text)
	}
	if len(found.Hits) == 0 {
		quotes.WriteString("\nThe search found nothing.\n")
	}
	asked := map[string]any{"role": "user", "content": content{"text", quotes.Bytes()}}
	return map[string]any{"description": "Answer from the documentation", "messages": []map[string]any{asked}}, nil
}
