package main

// Where words begin and end in a text.

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxWordBytes limits the cost of a word. Longer runs are cut into several words.
const maxWordBytes = 64

// runEnd returns the end of the run of word runes and underscores that begins at text[at].
func runEnd(text string, at int) int {
	end := at
	for end < len(text) {
		b := text[end]
		if b < utf8.RuneSelf {
			if !isWordByte[b] && b != '_' {
				break
			}
			end++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[end:])
		if !isWordRune(r) {
			break
		}
		end += size
	}
	return end
}

// segmentEnd returns the length in bytes of the first segment of a run: of one kind of script, and of at
// most maxWordBytes. spaceless tells the kind: see isSpaceless.
func segmentEnd(run string) (end int, spaceless bool) {
	first, _ := utf8.DecodeRuneInString(run)
	spaceless = isSpaceless(first)
	for i, r := range run {
		isOther := r >= utf8.RuneSelf || spaceless
		if i >= maxWordBytes || isOther && !isCombining(r) && isSpaceless(r) != spaceless {
			return i, spaceless
		}
	}
	return len(run), spaceless
}

// partEnd returns the length in bytes of the first part of an identifier. A part ends behind an
// underscore and where the case changes: max|Conns, HTTP|Server.
func partEnd(identifier string) int {
	previous := '_'
	for i, r := range identifier {
		size := utf8.RuneLen(r)
		next, _ := utf8.DecodeRuneInString(identifier[min(i+size, len(identifier)):])

		isPlural := identifier[i:] == "s" && isUpper(previous) && i > 1 // API|s
		isChange := isUpper(r) && (!isUpper(previous) || isLower(next)) &&
			identifier[min(i+size, len(identifier)):] != "s"
		isBehind := previous == '_' && r != '_'
		if i > 0 && (isChange || isBehind || isPlural) && strings.Trim(identifier[:i], "_") != "" {
			return i
		}
		previous = r
	}
	return len(identifier)
}

// isBoundary reports whether a flag may follow r.
func isBoundary(r rune) bool {
	return unicode.IsSpace(r) || strings.ContainsRune("`\"'([{<|=,;:/*", r)
}

// signSuffix returns the signs behind run that belong to a name such as C++, C# or F#, or "".
func signSuffix(run, rest string) string {
	if len(run) > 8 || !isLetterByte(run[len(run)-1]) {
		return ""
	}

	var suffix string
	switch {
	case strings.HasPrefix(rest, "++"):
		suffix = "++"
	case len(run) == 1 && strings.HasPrefix(rest, "#"):
		suffix = "#"
	default:
		return ""
	}
	after, _ := utf8.DecodeRuneInString(rest[len(suffix):])
	if isWordRune(after) {
		return ""
	}
	return suffix
}

// versionEnd returns the end of the version (3.12, v1.2.3, python3.12) whose beginning is the run
// text[start:end], or end if it is none.
func versionEnd(text string, start, end int) int {
	if !isDigitByte(text[end-1]) || start > 0 && text[start-1] == '.' {
		return end
	}
	for end+1 < len(text) && text[end] == '.' && isDigitByte(text[end+1]) {
		end++
		for end < len(text) && isDigitByte(text[end]) {
			end++
		}
	}
	return end
}

// isWordByte tells which bytes of ASCII are letters or digits.
var isWordByte = func() (is [256]bool) {
	for b := range is {
		is[b] = isDigitByte(byte(b)) || isLetterByte(byte(b))
	}
	return is
}()

func isDigitByte(b byte) bool { return '0' <= b && b <= '9' }

func isLetterByte(b byte) bool { return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' }
