package main

// Sections of a document by the path of their headings, such as "Install > Docker".

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// headingSeparator stands between the headings of a path.
const headingSeparator = " > "

const (
	maxListedHeadings = 30  // in one answer
	maxNamesakes      = 5   // in one answer
	maxTitleBytes     = 200 // longer titles and headings are cut
)

// section is a part of a document below one heading.
type section struct {
	heading string // its path, as that of a chunk; the title for the heading that is the title
	slug    string // see chunk
	level   int    // of the heading
	line    int    // of the heading
	end     int    // the last line, with the sections inside it
}

// sectionsOf returns the sections of d in their order.
func sectionsOf(d *document) []section {
	list := d.sectionHeadings()
	sections := make([]section, 0, len(list))
	c := chunker{title: d.title}
	lines := countLines(d.text)
	for _, h := range list {
		c.enter(h)
		sections = append(sections, section{
			heading: cmp.Or(c.current.heading, d.title),
			slug:    h.slug,
			level:   h.level,
			line:    h.line,
			end:     lines,
		})
	}
	endSections(sections)
	return sections
}

// endSections makes each section end before the next one of its level or of one above.
func endSections(sections []section) {
	var open []int // the indexes of the sections around the next one
	for i, s := range sections {
		for len(open) > 0 && sections[open[len(open)-1]].level >= s.level {
			sections[open[len(open)-1]].end = s.line - 1
			open = open[:len(open)-1]
		}
		open = append(open, i)
	}
}

// countLines returns the number of lines of text. The last line counts even without a newline.
func countLines(text string) int {
	lines := strings.Count(text, "\n")
	if !strings.HasSuffix(text, "\n") {
		lines++
	}
	return lines
}

// findSections returns the sections with that path of headings: the whole path, else its end, else the slug of the
// heading, else a path that contains it. Case, markup and the title at the beginning do not matter.
func findSections(sections []section, path, title string) []section {
	wanted := foldHeading(path)
	inside, _ := strings.CutPrefix(wanted, foldHeading(title)+headingSeparator)
	slug := strings.ToLower(strings.TrimLeft(path, "# "))
	if wanted == "" {
		return nil
	}

	matches := []func(s section, heading string) bool{
		func(_ section, heading string) bool { return heading == wanted || heading == inside },
		func(_ section, heading string) bool { return strings.HasSuffix(heading, headingSeparator+inside) },
		func(s section, _ string) bool { return s.slug == slug },
		func(_ section, heading string) bool { return strings.Contains(heading, inside) },
	}
	for _, match := range matches {
		var found []section
		for _, s := range sections {
			if match(s, foldHeading(s.heading)) {
				found = append(found, s)
			}
		}
		if found != nil {
			return found
		}
	}
	return nil
}

// headingMarks are the characters of markup that a path of headings may have.
var headingMarks = strings.NewReplacer("`", "", "*", "")

// foldHeading returns a path of headings in the form in which two are compared.
func foldHeading(path string) string {
	path = headingMarks.Replace(strings.ToLower(path))
	var headings []string
	for heading := range strings.SplitSeq(path, strings.TrimSpace(headingSeparator)) {
		heading = strings.TrimLeft(heading, "# ")
		headings = append(headings, strings.Join(strings.Fields(heading), " "))
	}
	return strings.Join(headings, headingSeparator)
}

// namesakes returns those of found that are not inside chosen, which is one of them.
func namesakes(found []section, chosen section) []section {
	return slices.DeleteFunc(slices.Clone(found), func(s section) bool {
		return s.line >= chosen.line && s.line <= chosen.end
	})
}

// headingLabel returns a line that names a section.
func headingLabel(s section) string {
	return "line " + strconv.Itoa(s.line) + ": " + truncate(s.heading, maxTitleBytes) + "\n"
}

// listHeadings returns the labels of the first n sections.
func listHeadings(sections []section, n int) string {
	var list strings.Builder
	for i, s := range sections {
		if i == n {
			list.WriteString("…\n")
			break
		}
		list.WriteString(headingLabel(s))
	}
	return list.String()
}
