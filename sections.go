package main

// Sections of a document by the path of their headings, such as "Install > Docker".

import (
	"slices"
	"strconv"
	"strings"
)

// headingSeparator stands between the headings of a path.
const headingSeparator = " > "

const (
	maxListedHeadings = 30  // in one answer
	maxTitleBytes     = 200 // longer titles and headings are cut
)

// section is a part of a document below one heading.
type section struct {
	heading string // its path
	slug    string // see chunk
	line    int    // of the heading
	end     int    // the last line, with the sections inside it
}

// sectionsOf returns the sections of d in their order, without those that have no text.
func sectionsOf(d *document) []section {
	lines := strings.Split(d.text, "\n")
	var found []section
	above := 1 // the first line that may have the heading
	for _, c := range d.chunks {
		last := len(found) - 1
		if c.heading != "" && (last < 0 || found[last].heading != c.heading) {
			line := headingLine(lines, c, above)
			found = append(found, section{
				heading: c.heading,
				slug:    c.slug,
				line:    line,
				end:     countLines(d.text),
			})
		}
		above = c.line + 1
	}

	for i, s := range found {
		rest := found[i+1:]
		next := slices.IndexFunc(rest, func(other section) bool {
			return !isInside(other.heading, s.heading)
		})
		if next >= 0 {
			found[i].end = lineBefore(lines, rest[next].line)
		}
	}
	return found
}

// headingLine returns the line of the heading of c: the nearest above its text, and not above the line above.
func headingLine(lines []string, c chunk, above int) int {
	name := c.heading
	if at := strings.LastIndex(name, headingSeparator); at >= 0 {
		name = name[at+len(headingSeparator):]
	}
	for line := min(c.line, len(lines)); line >= above; line-- {
		if strings.Contains(lines[line-1], name) {
			return line
		}
	}
	return c.line
}

// lineBefore returns the last line before the heading at line. A heading directly above it belongs to it: it is one without
// text.
func lineBefore(lines []string, line int) int {
	end := line - 1
	for i := end; i >= 1; i-- {
		text := strings.TrimSpace(lines[i-1])
		if text != "" && !strings.HasPrefix(text, "#") {
			break
		}
		if text != "" {
			end = i - 1
		}
	}
	return end
}

// countLines returns the number of lines of text. The last line counts even without a newline.
func countLines(text string) int {
	lines := strings.Count(text, "\n")
	if !strings.HasSuffix(text, "\n") {
		lines++
	}
	return lines
}

// isInside reports whether heading is outer or a heading below it.
func isInside(heading, outer string) bool {
	return heading == outer || strings.HasPrefix(heading, outer+headingSeparator)
}

// findSection returns the section with that path of headings: the whole path, else its end, else one that contains the
// words. Case does not matter. A heading whose only text is that of the headings below it is found by these.
func findSection(sections []section, path string) (found section, ok bool) {
	wanted := strings.ToLower(strings.Join(strings.Fields(path), " "))
	matches := []func(heading string) bool{
		func(heading string) bool { return heading == wanted },
		func(heading string) bool { return isInside(heading, wanted) },
		func(heading string) bool { return strings.HasSuffix(heading, headingSeparator+wanted) },
		func(heading string) bool { return strings.Contains(heading, headingSeparator+wanted+headingSeparator) },
		func(heading string) bool { return strings.Contains(heading, wanted) },
	}
	for _, match := range matches {
		i := slices.IndexFunc(sections, func(s section) bool {
			return match(strings.ToLower(s.heading))
		})
		if i < 0 || wanted == "" {
			continue
		}
		found = sections[i]
		for _, s := range sections[i+1:] {
			if !match(strings.ToLower(s.heading)) || !isInside(strings.ToLower(s.heading), wanted) {
				break
			}
			found.end = s.end
		}
		return found, true
	}
	return section{}, false
}

// headingLabel returns a line that names a section.
func headingLabel(s section) string {
	return "line " + strconv.Itoa(s.line) + ": " + truncate(s.heading, maxTitleBytes) + "\n"
}

// listHeadings returns the labels of the first sections.
func listHeadings(sections []section) string {
	var list strings.Builder
	for i, s := range sections {
		if i == maxListedHeadings {
			list.WriteString("…\n")
			break
		}
		list.WriteString(headingLabel(s))
	}
	return list.String()
}
