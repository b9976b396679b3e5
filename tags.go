package main

// Tags of HTML and JSX within text. They are read by hand: a regular expression takes a hundred times as long for text that
// only looks like many tags.

import "strings"

// tagLength returns the length of the tag that text begins with, or 0. Values in braces are those of JSX.
func tagLength(text string) int {
	at := 1
	if strings.HasPrefix(text[at:], "/") {
		at++
	}
	name := nameLength(text[at:], "", ".-")
	at += name
	for name > 0 {
		spaces := spaceLength(text[at:])
		n := attributeLength(text[at+spaces:])
		at += spaces
		if spaces == 0 || n == 0 {
			break
		}
		at += n
	}
	if name > 0 && strings.HasPrefix(text[at:], "/") {
		at++
	}
	if !strings.HasPrefix(text[at:], ">") {
		return 0
	}
	return at + 1
}

// attributeLength returns the length of the attribute that text begins with, or 0.
func attributeLength(text string) int {
	if strings.HasPrefix(text, "{") {
		return strings.IndexByte(text, '}') + 1
	}
	name := nameLength(text, "_:@", ".:-")
	at := name + spaceLength(text[name:])
	if name == 0 || !strings.HasPrefix(text[at:], "=") {
		return name
	}
	at++
	at += spaceLength(text[at:])
	value := valueLength(text[at:])
	if value == 0 {
		return name
	}
	return at + value
}

// valueLength returns the length of the value of an attribute, or 0.
func valueLength(text string) int {
	if text == "" {
		return 0
	}
	switch c := text[0]; c {
	case '"', '\'':
		end := strings.IndexByte(text[1:], c)
		if end < 0 {
			return 0
		}
		return end + 2
	case '{':
		return bracedLength(text)
	}
	end := strings.IndexAny(text, " \t\n\f\r\"'=<>`{}")
	if end < 0 {
		return len(text)
	}
	return end
}

// bracedLength returns the length of a value in braces. One in two pairs of them ends on its line.
func bracedLength(text string) int {
	line, _, _ := strings.Cut(text, "\n")
	if end := strings.Index(line, "}}"); strings.HasPrefix(text, "{{") && end > 0 {
		end += len("}}")
		return end + len(text[end:]) - len(strings.TrimLeft(text[end:], "}"))
	}
	return strings.IndexByte(text, '}') + 1
}

// nameLength returns the length of a name: a letter or a mark of first, then letters, digits and marks of rest.
func nameLength(text, first, rest string) int {
	n := 0
	for n < len(text) {
		c := text[n]
		isLetter := c|0x20 >= 'a' && c|0x20 <= 'z'
		isLater := n > 0 && (c >= '0' && c <= '9' || c == '_' || strings.IndexByte(rest, c) >= 0)
		if !isLetter && !isLater && (n > 0 || strings.IndexByte(first, c) < 0) {
			break
		}
		n++
	}
	return n
}

func spaceLength(text string) int { return len(text) - len(strings.TrimLeft(text, " \t\n\f\r")) }
