package main

// Tags of HTML and JSX within text.

import "strings"

// tagLength returns the length of the tag that text begins with, or 0. Values in braces are those of JSX. Each byte is
// read once, because a text may have a "<" at each of its bytes.
func tagLength(text string) int {
	at := 1
	if strings.HasPrefix(text[at:], "/") {
		at++
	}
	name := runIn(text[at:], isNameByte)
	if name > 0 && !isLetter(text[at]) {
		return 0
	}
	at += name
	for name > 0 {
		spaces := runIn(text[at:], isSpaceByte)
		n := attributeLength(text[at+spaces:])
		if spaces == 0 || n == 0 {
			at += spaces
			break
		}
		at += spaces + n
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
		return bracesLength(text)
	}
	name := runIn(text, isAttributeByte)
	if name == 0 || !isLetter(text[0]) && strings.IndexByte("_:@", text[0]) < 0 {
		return 0
	}
	at := name + runIn(text[name:], isSpaceByte)
	if !strings.HasPrefix(text[at:], "=") {
		return name
	}
	at++
	at += runIn(text[at:], isSpaceByte)
	n := valueLength(text[at:])
	if n == 0 {
		return 0
	}
	return at + n
}

// valueLength returns the length of the value that text begins with, or 0.
func valueLength(text string) int {
	if text == "" {
		return 0
	}
	switch text[0] {
	case '{':
		return bracesLength(text)
	case '"', '\'':
		end := strings.IndexByte(text[1:], text[0])
		if end < 0 {
			return 0
		}
		return end + len(`""`)
	}
	return runIn(text, isValueByte)
}

// bracesLength returns the length of the braces that text begins with, or 0. Double ones end with double ones.
func bracesLength(text string) int {
	if strings.HasPrefix(text, "{{") {
		line, _, _ := strings.Cut(text, "\n")
		end := strings.Index(line, "}}")
		if end > 0 {
			return end + runLength(line[end:], '}')
		}
	}
	return 1 + strings.IndexByte(text, '}')
}

// runLength returns how many bytes c text begins with.
func runLength(text string, c byte) int { return len(text) - len(strings.TrimLeft(text, string(c))) }

// runIn returns how many of the first bytes of text are of a kind.
func runIn(text string, is func(byte) bool) int {
	n := 0
	for n < len(text) && is(text[n]) {
		n++
	}
	return n
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isNameByte(c byte) bool {
	return isLetter(c) || c >= '0' && c <= '9' || strings.IndexByte("_.-", c) >= 0
}

func isAttributeByte(c byte) bool { return isNameByte(c) || c == ':' || c == '@' }

func isSpaceByte(c byte) bool { return strings.IndexByte(" \t\n\f\r", c) >= 0 }

func isValueByte(c byte) bool { return !isSpaceByte(c) && strings.IndexByte("\"'=<>`{}", c) < 0 }

func isPunctuation(c byte) bool {
	return c >= '!' && c <= '/' || c >= ':' && c <= '@' || c >= '[' && c <= '`' || c >= '{' && c <= '~'
}
