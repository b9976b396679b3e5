package main

// Cutting text into words, in the same way for documents and queries.
//
// People write one thing in several ways: maxConns, max_conns, max conns. So an identifier yields both itself, as a whole, and
// its parts. Flags, versions, C# and .NET are wholes too.

import (
	"iter"
	"strings"
	"unicode/utf8"
)

// word is a word of a text.
type word struct {
	text   string // folded: see foldWord and unfoldedWords
	kind   wordKind
	isCode bool // it stands in a code span or a fenced code block
}

type wordKind uint8

const (
	// plainWord is an ordinary word, which belongs to no whole.
	plainWord wordKind = iota

	// wholeWord is an identifier, a flag or a version as a whole. Its parts and pieces follow it.
	wholeWord

	// partWord is a part of the whole before it, cut where the case changes: max and conns of maxConns.
	// The numbers of a version are parts too: 3 and 12 of 3.12.
	partWord

	// pieceWord is a piece of the whole before it that the writer has set off: max and conns of max_conns, no and cache of
	// --no-cache. The beginning of a version or of a name with a number is one too: 3.12 of 3.12.1, http of http3.
	pieceWord

	// joinedWord is a short compound without its separator: email of e-mail, http3 of HTTP/3. The words
	// that it joins are words of their own.
	joinedWord
)

// words yields the words of text in order.
func words(text string) iter.Seq[word] {
	return cutWords(text, foldWord)
}

// unfoldedWords yields the words of text in order, as they are written. It suffices for counting them, and folding takes time.
func unfoldedWords(text string) iter.Seq[word] {
	return cutWords(text, func(word string) string { return word })
}

// cutWords yields the words of text in order, each folded by fold.
func cutWords(text string, fold func(string) string) iter.Seq[word] {
	return func(yield func(word) bool) {
		c := cutter{
			text:  text,
			fold:  fold,
			yield: yield,
		}
		for c.next() {
		}
	}
}

// cutter cuts text into words.
type cutter struct {
	text  string
	at    int // offset of the text that is not cut yet
	fold  func(string) string
	yield func(word) bool

	ticks  int    // length of the backtick run that opened the current code; 0 outside code
	run    string // the last run, for joined words
	runEnd int    // its end in text
}

// next cuts what begins at c.at and advances c.at. It returns false at the end of the text, or as soon as yield does.
func (c *cutter) next() bool {
	if c.at >= len(c.text) {
		return false
	}

	switch b := c.text[c.at]; {
	case b == '`':
		c.toggleCode()
		return true
	case b == '-' || b == '.':
		if end := c.markedEnd(); end > 0 {
			return c.emitMarked(end)
		}
		c.at++
		return true
	case b < utf8.RuneSelf && !isWordByte[b]:
		c.at++
		return true
	}

	end := runEnd(c.text, c.at)
	if end == c.at {
		_, size := utf8.DecodeRuneInString(c.text[c.at:])
		c.at += size
		return true
	}
	return c.emitRun(end)
}

// toggleCode handles a run of backticks: it closes the code that a run of the same length opened, or opens code if such a run
// follows later (CommonMark 0.31, section 6.1). A fence is such a run too.
func (c *cutter) toggleCode() {
	rest := c.text[c.at:]
	n := len(rest) - len(strings.TrimLeft(rest, "`"))
	c.at += n

	switch {
	case c.ticks == n:
		c.ticks = 0
	case c.ticks == 0 && strings.Contains(c.text[c.at:], strings.Repeat("`", n)):
		c.ticks = n
	}
}

// markedEnd returns the end of the flag (--no-cache, -v) or dotted name (.NET, .env) that begins at c.at, or 0 if none does: a
// letter must follow the mark, and what precedes it must be a boundary. It is 0 also if the name exceeds maxWordBytes.
func (c *cutter) markedEnd() int {
	if before, _ := utf8.DecodeLastRuneInString(c.text[:c.at]); c.at > 0 && !isBoundary(before) {
		return 0
	}

	mark := c.text[c.at]
	begin := c.at + 1
	if mark == '-' && strings.HasPrefix(c.text[begin:], "-") {
		begin++
	}
	if begin >= len(c.text) || !isLetterByte(c.text[begin]) {
		return 0
	}

	end := begin
	for end < len(c.text) {
		b := c.text[end]
		isInner := mark == '-' && b == '-' && end+1 < len(c.text) && isWordByte[c.text[end+1]]
		if !isInner && !isWordByte[b] && b != '_' {
			break
		}
		end++
	}
	if end-c.at > maxWordBytes {
		return 0
	}
	return end
}

// emitMarked yields the flag or dotted name text[at:end] as a whole, and its pieces between the marks.
func (c *cutter) emitMarked(end int) bool {
	marked := c.text[c.at:end]
	c.at = end
	if !c.emit(c.fold(marked), wholeWord) {
		return false
	}

	isSeparator := func(r rune) bool { return r == '-' || r == '.' || r == '_' }
	for piece := range strings.FieldsFuncSeq(marked, isSeparator) {
		if !c.emit(c.fold(piece), pieceWord) {
			return false
		}
	}
	return true
}

// emitRun yields the words of the run text[at:end], with the signs (C++) or the rest of a version (3.12) that follow it.
func (c *cutter) emitRun(end int) bool {
	start := c.at
	run := c.text[start:end]
	joined := c.joined(run)
	c.at = end
	c.run = run
	c.runEnd = end

	if suffix := signSuffix(run, c.text[end:]); suffix != "" {
		c.at += len(suffix)
		return c.emit(c.fold(run)+suffix, wholeWord) && c.emit(c.fold(run), partWord)
	}

	if version := versionEnd(c.text, start, end); version > end {
		return c.emitVersion(start, version)
	}

	if !c.emitSegments(run) {
		return false
	}
	return c.emit(joined, joinedWord)
}

// joined returns run, which begins at c.at, joined with the run before it if many people write the two as one word: e-mail,
// HTTP/3. Otherwise it returns "". One of the two must be short: joining all compounds costs more than it finds.
func (c *cutter) joined(run string) string {
	previous := c.run
	isJoined := c.runEnd > 0 && c.at == c.runEnd+1 && (c.text[c.runEnd] == '-' || c.text[c.runEnd] == '/')
	isShort := min(len(previous), len(run)) <= 2 && len(previous)+len(run) <= maxWordBytes
	if !isJoined || !isShort {
		return ""
	}
	return c.fold(previous + run)
}

// emitVersion yields the version text[start:end] with the name before it: python3.12.1 yields python, 3.12.1 as a whole, its
// beginnings of at least two numbers (3.12), and its numbers.
func (c *cutter) emitVersion(start, end int) bool {
	run := c.text[start:end]
	c.at = end
	c.runEnd = end

	name := strings.TrimRight(c.run, "0123456789")
	version := run[len(name):]
	if len(version) > maxWordBytes {
		version = version[:maxWordBytes]
	}
	if len(name) > 1 { // not v
		if !c.emitSegments(name) {
			return false
		}
	}
	if !c.emit(version, wholeWord) {
		return false
	}

	for i := range len(version) {
		isBeginning := version[i] == '.' && strings.Contains(version[:i], ".")
		if isBeginning && !c.emit(version[:i], pieceWord) {
			return false
		}
	}
	for number := range strings.SplitSeq(version, ".") {
		if !c.emit(number, partWord) {
			return false
		}
	}
	return true
}

// emitSegments yields the words of a run, segment by segment: a segment in a script without spaces yields its characters and
// pairs, any other an identifier.
func (c *cutter) emitSegments(run string) bool {
	for len(run) > 0 {
		end, spaceless := segmentEnd(run)
		segment := run[:end]
		run = run[end:]

		var wanted bool
		if spaceless {
			wanted = c.emitGrams(c.fold(segment))
		} else {
			wanted = c.emitIdentifier(segment)
		}
		if !wanted {
			return false
		}
	}
	return true
}

// emitGrams yields each character of text and each pair of adjacent characters.
func (c *cutter) emitGrams(text string) bool {
	previous := -1
	for i, r := range text {
		end := i + utf8.RuneLen(r)
		if !c.emit(text[i:end], plainWord) {
			return false
		}
		if previous >= 0 && !c.emit(text[previous:end], plainWord) {
			return false
		}
		previous = i
	}
	return true
}

// emitIdentifier yields a segment as a plain word if it has only one part, else as a whole followed by its parts and pieces.
func (c *cutter) emitIdentifier(segment string) bool {
	isPlain := true // the usual case: no capital behind the first letter, no underscore, no digit
	for i := 1; i < len(segment); i++ {
		b := segment[i]
		if b < 'a' || b > 'z' {
			isPlain = false
			break
		}
	}
	if isPlain {
		return c.emit(c.fold(segment), plainWord)
	}

	whole := c.fold(strings.ReplaceAll(segment, "_", ""))
	letters := strings.TrimRight(whole, "0123456789")
	hasNumber := len(letters) > 1 && len(letters) < len(whole)
	first := segment[:partEnd(segment)]
	if len(first) == len(segment) && !hasNumber {
		return c.emit(whole, plainWord)
	}

	if !c.emit(whole, wholeWord) {
		return false
	}
	if hasNumber && !c.emit(letters, pieceWord) {
		return false
	}
	return c.emitParts(segment)
}

// emitParts yields the parts or pieces of an identifier that have more than one character. An identifier with only one part
// yields nothing, because it has been yielded as a whole.
func (c *cutter) emitParts(segment string) bool {
	kind := partWord
	if strings.Contains(segment, "_") {
		kind = pieceWord
	}

	for rest := segment; len(rest) > 0; {
		end := partEnd(rest)
		part := strings.Trim(rest[:end], "_")
		rest = rest[end:]
		if len(part) < 2 || end == len(segment) {
			continue
		}
		part = c.fold(part)
		if utf8.RuneCountInString(part) < 2 {
			continue
		}
		if !c.emit(part, kind) {
			return false
		}
	}
	return true
}

// emit yields a word unless its text is empty. It returns false as soon as yield does.
func (c *cutter) emit(text string, kind wordKind) bool {
	if text == "" {
		return true
	}
	return c.yield(word{text, kind, c.ticks > 0})
}

// isSeparate reports whether w does not repeat other words of the text, as wholes and joined words do.
func (w word) isSeparate() bool {
	return w.kind != wholeWord && w.kind != joinedWord
}
