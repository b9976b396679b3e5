package main

// Emphasis and strikethrough: which runs of marks open and close which. This is the algorithm "process emphasis" of
// CommonMark (https://spec.commonmark.org/0.31.2/#phase-2-inline-structure). Instead of building nodes, it records at each
// run which elements begin and end there. The open runs are a doubly linked list, so that taking one out costs one step.

import "unicode/utf8"

// Elements that a run of marks begins or ends. The first two have the number of their marks.
const (
	emphasized = 1
	strong     = 2
	struckOut  = 3
)

const (
	maxStruck   = 2  // marks of a strikethrough
	thirds      = 3  // see isOddMatch
	closerKinds = 16 // more than closerKind returns
)

// markRun parses a run of marks. The characters around it decide whether it can open, close, or do both.
func (p *inlineParser) markRun(mark byte) bool {
	length := runOf(p.text[p.at:], string(mark))
	before, _ := utf8.DecodeLastRuneInString(p.text[:p.at])
	after, _ := utf8.DecodeRuneInString(p.text[p.at+length:])
	// CommonMark calls such a run left-flanking or right-flanking.
	isLeft := !isSpaceRune(after) && (!isMarkRune(after) || isSpaceRune(before) || isMarkRune(before))
	isRight := !isSpaceRune(before) && (!isMarkRune(before) || isSpaceRune(after) || isMarkRune(after))

	run := markRun{
		mark:     mark,
		canOpen:  isLeft,
		canClose: isRight,
		length:   length,
		left:     length,
		previous: p.lastRun,
		next:     -1,
	}
	switch {
	case mark == '_': // not within words: snake_case_name
		run.canOpen = isLeft && (!isRight || isMarkRune(before))
		run.canClose = isRight && (!isLeft || isMarkRune(after))
	case mark == '~' && length > maxStruck:
		run.canOpen = false
		run.canClose = false
	}
	if !run.canOpen && !run.canClose {
		p.at += length
		return true
	}

	index := len(p.runs)
	p.runs = append(p.runs, run)
	if p.lastRun >= 0 {
		p.runs[p.lastRun].next = index
	}
	p.lastRun = index
	return p.take(length, tokenMarks, "", index)
}

// matchRuns matches the open runs after bottom, and takes them out of the list. bottom is -1 at the end of the text. At the
// end of a link, it is the last run before the link, because no element reaches over the end of one.
func (p *inlineParser) matchRuns(bottom int) {
	var bottoms [closerKinds]int // by kind of closer: no run up to this one opens it
	for i := range bottoms {
		bottoms[i] = bottom
	}
	closer := p.firstRun(bottom)
	for closer >= 0 {
		run := &p.runs[closer]
		if !run.canClose {
			closer = run.next
			continue
		}

		kind := run.closerKind()
		opener := p.findOpener(closer, max(bottom, bottoms[kind]))
		if opener >= 0 {
			closer = p.matchRun(opener, closer)
			continue
		}
		bottoms[kind] = run.previous
		if !run.canOpen {
			p.removeRun(closer)
		}
		closer = run.next
	}
	for p.lastRun > bottom {
		p.lastRun = p.runs[p.lastRun].previous
	}
	if p.lastRun >= 0 {
		p.runs[p.lastRun].next = -1
	}
}

// firstRun returns the first open run after bottom.
func (p *inlineParser) firstRun(bottom int) int {
	first := -1
	for run := p.lastRun; run > bottom; run = p.runs[run].previous {
		first = run
	}
	return first
}

// closerKind groups the closers that the same runs can open.
func (r *markRun) closerKind() int {
	kind := r.length % thirds
	if r.canOpen {
		kind += thirds
	}
	switch r.mark {
	case '*':
		return kind
	case '_':
		return 2*thirds + kind
	}
	return 4*thirds + r.length
}

// findOpener returns the nearest run after bottom that closer closes, or -1.
func (p *inlineParser) findOpener(closer, bottom int) int {
	run := &p.runs[closer]
	for i := run.previous; i > bottom; i = p.runs[i].previous {
		p.work++
		opener := &p.runs[i]
		if opener.mark == run.mark && opener.canOpen && !isOddMatch(opener, run) {
			return i
		}
	}
	return -1
}

// isOddMatch reports whether two runs must not match, for instance in "*a**b*": rules 9 and 10 of CommonMark.
func isOddMatch(opener, closer *markRun) bool {
	if closer.mark == '~' {
		return opener.length != closer.length
	}
	isBoth := closer.canOpen || opener.canClose
	return isBoth && closer.length%thirds != 0 && (opener.length+closer.length)%thirds == 0
}

// matchRun makes an element of what is between two runs. It returns the next run that may close one.
func (p *inlineParser) matchRun(openerIndex, closerIndex int) int {
	opener := &p.runs[openerIndex]
	closer := &p.runs[closerIndex]
	used := emphasized
	element := uint8(emphasized)
	if opener.left >= strong && closer.left >= strong {
		used = strong
		element = strong
	}
	if closer.mark == '~' {
		used = closer.length
		element = struckOut
	}

	opener.left -= used
	closer.left -= used
	opener.begins = append(opener.begins, element)
	closer.ends = append(closer.ends, element)
	opener.next = closerIndex
	closer.previous = openerIndex
	if opener.left == 0 {
		p.removeRun(openerIndex)
	}
	if closer.left > 0 {
		return closerIndex
	}
	p.removeRun(closerIndex)
	return closer.next
}

// removeRun takes a run out of the list of open runs.
func (p *inlineParser) removeRun(index int) {
	run := p.runs[index]
	if run.previous >= 0 {
		p.runs[run.previous].next = run.next
	}
	if run.next >= 0 {
		p.runs[run.next].previous = run.previous
	}
	if index == p.lastRun {
		p.lastRun = run.previous
	}
}
