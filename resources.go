package main

// Documents as MCP resources, subscriptions to them, the one prompt, and the completion of ids.

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

	// maxCompletions is the limit that the specification sets on the values in one answer.
	maxCompletions = 100

	// promptHits is how many passages the prompt quotes at most.
	promptHits = 5

	promptName = "answer_from_docs"
)

// listedResource is a document in the form of resources/list.
type listedResource struct {
	Annotations map[string]string `json:"annotations"`

	// The URL for readers.
	Meta map[string]string `json:"_meta"`

	MIMEType string `json:"mimeType"`
	Name     string `json:"name"`
	Size     int    `json:"size"` // bytes
	Title    string `json:"title"`
	URI      string `json:"uri"`
}

// listResources answers with a page of the documents.
func (s *server) listResources(ctx context.Context, c *call) (any, error) {
	cursor := paramsAs[listParams](c.message).Cursor
	page, err := s.list(ctx, "", cursor, resourcesPerPage)
	if err != nil {
		return nil, err
	}

	resources := []listedResource{} // not null in JSON
	for _, d := range page.Documents {
		modified := d.Updated.UTC().Format(time.RFC3339)
		address := c.urls.of(d.ID, "")
		resources = append(resources, listedResource{
			Annotations: map[string]string{"lastModified": modified},
			Meta:        map[string]string{"url": address},
			MIMEType:    mediaType(d.ID),
			Name:        d.ID,
			Size:        d.Bytes,
			Title:       d.Title,
			URI:         documentURI(d.ID),
		})
	}

	result := map[string]any{"resources": resources}
	if page.NextCursor != "" {
		result["nextCursor"] = page.NextCursor
	}
	return result, nil
}

// templateList is the result of resources/templates/list.
const templateList = `{"resourceTemplates":[{
	"uriTemplate":"` + documentScheme + `{+id}",
	"name":"document","title":"Document",
	"description":"A Markdown document by its id, such as guide/install.md; completion/complete completes ids"}]}`

// listTemplates answers with the only template. It matches the URIs of all documents.
func (s *server) listTemplates(_ context.Context, c *call) (any, error) {
	if err := checkOnlyPage(c); err != nil {
		return nil, err
	}
	return json.RawMessage(templateList), nil
}

// readResource answers with the text of a document.
func (s *server) readResource(ctx context.Context, c *call) (any, error) {
	uri := paramsAs[resourceParams](c.message).URI
	d, err := s.documentByURI(ctx, uri)
	if errors.Is(err, errNotFound) {
		return nil, c.noSuchResource(uri, s.nearbyResources(ctx, uri))
	}
	if err != nil {
		return nil, err
	}

	address := c.urls.of(d.id, "")
	if len(d.text) >= minSharedBytes {
		return sharedResource{
			uri:      uri,
			mimeType: mediaType(d.id),
			url:      address,
			text: sharedText{
				text:   d.text,
				turns:  s.encoding,
				client: clientOf(ctx),
			},
		}, nil
	}
	contents := map[string]any{
		"uri":      uri,
		"mimeType": mediaType(d.id),
		"text":     d.text,
		"_meta":    map[string]string{"url": address},
	}
	return map[string]any{"contents": []any{contents}}, nil
}

// nearbyResources returns a question that names the resources with the most similar URIs, or "".
func (s *server) nearbyResources(ctx context.Context, uri string) string {
	name := strings.TrimPrefix(uri, documentScheme)
	if unescaped, err := url.PathUnescape(name); err == nil {
		name = unescaped
	}
	near, err := s.nearbyIDs(ctx, name)
	if err != nil {
		return ""
	}
	for i, id := range near {
		near[i] = documentURI(id)
	}
	return meantOneOf(near)
}

// noSuchResource returns the error for a URI without a document, with the code of c's protocol version. hint names
// resources that may be meant, if there are any.
func (c *call) noSuchResource(uri, hint string) error {
	// The modern era has no separate code for a missing resource.
	code := codeInvalidParams
	if !c.isModern() {
		code = codeResourceNotFound
	}
	if hint == "" {
		hint = "resources/list lists them, " +
			documentScheme + "guide/install.md " +
			"is the form of their URIs"
	}
	return rpcError{
		Code:    code,
		Message: "no such resource: " + hint,
		Data:    map[string]string{"uri": uri},
	}
}

// sharedResource is the result of resources/read for a large document.
type sharedResource struct {
	uri      string
	mimeType string
	url      string // for readers
	text     sharedText
}

// appendTo appends the result to buf without the text. It returns the text, and the place in buf where it belongs.
func (r sharedResource) appendTo(buf *bytes.Buffer) sharedText {
	meta := `{"url":` + mustJSON(r.url) + `}`
	buf.WriteString(`{"contents":[{"_meta":` + meta)
	buf.WriteString(`,"mimeType":` + mustJSON(r.mimeType))
	buf.WriteString(`,"text":`)
	r.text.at = buf.Len()
	buf.WriteString(`,"uri":` + mustJSON(r.uri) + `}]}`)
	return r.text
}

// documentByURI returns the document with this URI, or errNotFound.
func (s *server) documentByURI(ctx context.Context, uri string) (*document, error) {
	id, ok := documentID(uri)
	if !ok {
		return nil, errNotFound
	}
	return s.store.document(ctx, id)
}

// subscribe makes the session get notifications of the changes of a document.
func (s *server) subscribe(_ context.Context, c *call) (any, error) {
	uri := paramsAs[resourceParams](c.message).URI
	if err := s.streams.subscribe(c.session, uri); err != nil {
		return nil, err
	}
	return struct{}{}, nil
}

// unsubscribe ends the notifications of the changes of a document. It is no error if there were none.
func (s *server) unsubscribe(_ context.Context, c *call) (any, error) {
	uri := paramsAs[resourceParams](c.message).URI
	s.streams.unsubscribe(c.session, uri)
	return struct{}{}, nil
}

// complete completes ids in the resource template. For any other argument, or one that begins no id, it returns no values
// and no error.
func (s *server) complete(ctx context.Context, c *call) (any, error) {
	params := paramsAs[completeParams](c.message)
	values := []string{} // not null in JSON
	hasMore := false

	isTemplate := strings.HasPrefix(params.RefURI, documentScheme)
	if isTemplate && params.Name == "id" && checkPrefix(params.Value) == nil {
		page, err := s.list(ctx, params.Value, "", maxCompletions)
		if err != nil {
			return nil, err
		}
		hasMore = page.NextCursor != ""
		for _, d := range page.Documents {
			values = append(values, d.ID)
		}
	}

	completion := map[string]any{"values": values, "hasMore": hasMore}
	return map[string]any{"completion": completion}, nil
}

// promptList is the result of prompts/list.
const promptList = `{"prompts":[{
	"name":"` + promptName + `",
	"title":"Answer from the documentation",
	"description":"Searches the documentation for a question, quotes what it finds, and asks for an answer that cites it",
	"arguments":[{"name":"question","title":"Question","description":"What to answer","required":true}]}]}`

// listPrompts answers with the only prompt.
func (s *server) listPrompts(_ context.Context, c *call) (any, error) {
	if err := checkOnlyPage(c); err != nil {
		return nil, err
	}
	return json.RawMessage(promptList), nil
}

// getPrompt returns the prompt answer_from_docs. It searches for the question and quotes the hits.
func (s *server) getPrompt(ctx context.Context, c *call) (any, error) {
	params := paramsAs[callParams](c.message)
	if params.Name != promptName {
		return nil, rpcErrorf(codeInvalidParams,
			"no prompt %.60q: prompts/list names them",
			params.Name)
	}
	spanAttrs(ctx, slog.String("gen_ai.prompt.name", promptName))

	// Unlike a tool, a prompt cannot report wrong arguments in its result. It returns a JSON-RPC error.
	args := arguments{values: params.Arguments}
	question := args.query("question", maxQueryChars)
	if err := args.check("question"); err != nil {
		return nil, rpcErrorf(codeInvalidParams, "%v", err)
	}
	asked := query{
		text:  question,
		limit: promptHits,
	}
	found, err := s.search(ctx, asked, c.urls)
	if err != nil {
		return nil, err
	}

	message := map[string]any{
		"role":    "user",
		"content": content{"text", promptText(question, found)},
	}
	return map[string]any{
		"description": "Answer from the documentation",
		"messages":    []map[string]any{message},
	}, nil
}

// promptText returns text for a model that asks the question and quotes what was found.
func promptText(question string, found searchAnswer) []byte {
	var text bytes.Buffer
	text.WriteString("Answer this question from the documentation " +
		"quoted below, and cite document, heading and line, " +
		"with the link, of whatever you use. " +
		"Say so if the quotes do not answer it; " +
		"then search on with search_docs.\n\n")
	text.WriteString("Question: " + question + "\n")
	if found.Corrected != "" {
		fmt.Fprintf(&text, "No document has all words of the question: the quotes are for %s.\n",
			mustJSON(truncate(found.Corrected, maxTitleBytes)))
	}
	for _, h := range found.Hits {
		// A hit does not have the hash of its document. The hash of the passage is as hard to forge.
		hash := sha256.Sum256([]byte(h.Text))
		from := source{
			id:      h.Document,
			heading: cmp.Or(h.Heading, h.Title),
			url:     h.URL,
			lines:   "line " + strconv.Itoa(h.Line),
			hash:    hex.EncodeToString(hash[:]),
		}
		text.WriteByte('\n')
		quote(&text, from, h.Text)
	}
	if len(found.Hits) == 0 {
		text.WriteString("\nThe search found nothing.\n")
	}
	return text.Bytes()
}
