package main

// GET /llms.txt (llmstxt.org): a description of the documents, and links to them by folder, for language models.

import (
	"cmp"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
)

// maxListedLinks bounds the links in /llms.txt, because the context of a model is limited.
const maxListedLinks = 1000

// handleLLMs answers GET /llms.txt.
func (s *server) handleLLMs(w http.ResponseWriter, r *http.Request) error {
	page, err := s.list(r.Context(), "", "", maxListedLinks)
	if err != nil {
		return err
	}
	s.addresses(r).setDocuments(page.Documents)

	var text strings.Builder
	title := cmp.Or(s.cfg.docsTitle, "Documentation")
	description := s.cfg.docsDescription
	fmt.Fprintf(&text, "# %s\n", markdownText(title))
	if description != "" {
		fmt.Fprintf(&text, "\n> %s\n", markdownText(description))
	}
	listByFolder(&text, page.Documents)

	if page.NextCursor != "" {
		own := s.ownURL(r)
		fmt.Fprintf(&text,
			"\n## Optional\n\n- [The documents after these %d]"+
				"(%s/documents?cursor=%s): as JSON, a page at a time\n",
			len(page.Documents), own.String(), page.NextCursor)
	}
	return writeText(w, http.StatusOK, text.String())
}

// listByFolder appends a section of links for each folder. It sorts the documents by folder first, because in the order
// of their ids the files of one folder are not all together.
func listByFolder(text *strings.Builder, documents []documentInfo) {
	byFolder := func(a, b documentInfo) int {
		return strings.Compare(path.Dir(a.ID), path.Dir(b.ID))
	}
	slices.SortStableFunc(documents, byFolder)

	last := ""
	for _, d := range documents {
		folder := path.Dir(d.ID)
		if folder != last {
			fmt.Fprintf(text, "\n## %s\n\n", folderTitle(folder))
			last = folder
		}
		fmt.Fprintf(text, "- [%s](%s)\n", markdownText(d.Title), d.URL)
	}
}

// folderTitle returns the heading of a folder. The root has no name of its own.
func folderTitle(folder string) string {
	if folder == "." {
		return "Documents"
	}
	return markdownText(folder)
}

// markdownMarks are the characters that would be markup in a link or a heading.
var markdownMarks = strings.NewReplacer(
	`\`, `\\`,
	"[", `\[`,
	"]", `\]`,
	"<", `\<`,
	">", `\>`,
	"`", "\\`",
	"*", `\*`,
	"_", `\_`,
)

// markdownText returns a line of Markdown that renders as text. People read it too, so control and format characters are
// shown as escapes. The backslashes of these escapes are then escaped as Markdown.
func markdownText(text string) string {
	return markdownMarks.Replace(wholeDisplayable(oneLine(text)))
}
