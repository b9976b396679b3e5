package main

// GET /llms.txt: what the documents are, and links to them by folder, for programs that read a site as a model does
// (llmstxt.org).

import (
	"cmp"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
)

// maxListedLinks bounds the links in /llms.txt. A model would not read more.
const maxListedLinks = 1000

// handleLLMs answers GET /llms.txt.
func (s *server) handleLLMs(w http.ResponseWriter, r *http.Request) error {
	page, err := s.list(r.Context(), "", "", maxListedLinks)
	if err != nil {
		return err
	}
	s.addresses(r).setDocuments(page.Documents)

	var text strings.Builder
	fmt.Fprintf(&text, "# %s\n", markdownText(cmp.Or(s.cfg.docsTitle, "Documentation")))
	if s.cfg.docsDescription != "" {
		fmt.Fprintf(&text, "\n> %s\n", markdownText(s.cfg.docsDescription))
	}
	listByFolder(&text, page.Documents)

	if page.NextCursor != "" {
		own := s.ownURL(r)
		fmt.Fprintf(&text, "\n## Optional\n\n- [The documents after these %d](%s/documents?cursor=%s): as JSON, a page at a time\n",
			len(page.Documents), own.String(), page.NextCursor)
	}
	return writeText(w, http.StatusOK, text.String())
}

// listByFolder appends a section of links for each folder. The order of ids puts a folder between the files beside it.
func listByFolder(text *strings.Builder, documents []documentInfo) {
	slices.SortStableFunc(documents, func(a, b documentInfo) int {
		return strings.Compare(path.Dir(a.ID), path.Dir(b.ID))
	})

	folder := ""
	for _, d := range documents {
		if in := path.Dir(d.ID); in != folder {
			folder = in
			fmt.Fprintf(text, "\n## %s\n\n", folderTitle(folder))
		}
		fmt.Fprintf(text, "- [%s](%s)\n", markdownText(d.Title), d.URL)
	}
}

// folderTitle returns the heading of a folder. That of the root has no name.
func folderTitle(folder string) string {
	if folder == "." {
		return "Documents"
	}
	return markdownText(folder)
}

// markdownMarks are the characters that would be markup in a link or a heading.
var markdownMarks = strings.NewReplacer(
	`\`, `\\`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`, "`", "\\`", "*", `\*`, "_", `\_`)

// markdownText returns text as a line of Markdown that shows it as it is.
func markdownText(text string) string { return markdownMarks.Replace(oneLine(text)) }
