package main

// Addresses that are links by themselves: in angle brackets by CommonMark, and bare ones by GitHub's rules
// (https://github.github.com/gfm, "Autolinks (extension)").

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	// angleURL is an address of any scheme in angle brackets.
	angleURL = regexp.MustCompile(
		`^<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^<>\x00-\x20]*)>`)

	// angleEmail is an email address in angle brackets, as HTML defines it for forms.
	angleEmail = regexp.MustCompile(
		"^<([a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@" + hostLabel + `(?:\.` + hostLabel + `)*)>`)

	// bareDomain is the beginning of an address behind its scheme: a name, which may have no dot, and a port.
	bareDomain = regexp.MustCompile(
		`^(?:[\pL\pN_-]+\.)*[\pL\pN_-]+(?::\d+)?`)

	// emailDomain is what follows the "@" of an email address without brackets: a name with a dot.
	emailDomain = regexp.MustCompile(
		`^(?:[A-Za-z0-9_-]+\.)+[A-Za-z0-9_-]*[A-Za-z0-9]`)
)

// hostLabel is a part of a domain name between dots.
const hostLabel = `[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?`

// maxAddressBytes bounds the search for the end of an address, because a text may have a "<" at each of its bytes.
const maxAddressBytes = 2000

// autolink parses an address in angle brackets at p.at. Like bareURL and bareEmail, it reports whether there is one. If
// so, it has added a link and moved p.at behind it.
func (p *inlineParser) autolink() bool {
	rest := firstBytes(p.text[p.at:], maxAddressBytes)
	end := 1 + strings.IndexAny(rest[1:], "<> \n")
	if end == 0 || rest[end] != '>' {
		return false
	}
	if found := angleURL.FindStringSubmatch(rest[:end+1]); found != nil {
		return p.takeAddress(len(found[0]), found[1], found[1])
	}
	if found := angleEmail.FindStringSubmatch(rest[:end+1]); found != nil {
		return p.takeAddress(len(found[0]), "mailto:"+found[1], found[1])
	}
	return false
}

// takeAddress replaces the n bytes at p.at by a link with that text.
func (p *inlineParser) takeAddress(n int, target, text string) bool {
	index := len(p.links)
	p.links = append(p.links, link{target: target})
	p.flush(p.at)
	p.add(tokenLink, "", index)
	p.add(tokenText, text, 0)
	return p.take(n, tokenEnd, "", index)
}

// bareURL parses an address without brackets. p.at is behind its scheme, which is one of schemes, or behind its "www".
func (p *inlineParser) bareURL(schemes ...string) bool {
	if len(p.brackets) > 0 {
		return false // links do not nest
	}

	for _, scheme := range schemes {
		begin := p.at - len(scheme)
		isScheme := begin >= p.pending && strings.EqualFold(p.text[begin:p.at], scheme)
		if !isScheme || !p.mayBeginAddress(begin) {
			continue
		}
		mark := "."
		prefix := "http://"
		if scheme != "www" {
			mark = "://"
			prefix = ""
		}
		rest := p.text[p.at:]
		if !strings.HasPrefix(rest, mark) {
			return false
		}
		length := bareURLLength(rest[len(mark):])
		if length == 0 {
			return false
		}
		end := p.at + len(mark) + length
		address := p.text[begin:end]
		p.at = begin
		return p.takeAddress(len(address), prefix+address, address)
	}
	return false
}

// mayBeginAddress reports whether a bare address may begin at this offset: after a space, some punctuation, or Chinese
// characters, which have no spaces between words.
func (p *inlineParser) mayBeginAddress(at int) bool {
	before, _ := utf8.DecodeLastRuneInString(p.text[:at])
	return isSpaceRune(before) || strings.ContainsRune("*_~(\"'", before) || unicode.Is(unicode.Han, before)
}

// bareURLLength returns the length of the domain and path that s begins with, or 0. Punctuation at the end does not
// belong to it, nor do parentheses that it does not open.
func bareURLLength(s string) int {
	s = firstBytes(s, maxAddressBytes)
	if bareDomain.FindString(s) == "" {
		return 0
	}

	end := strings.IndexAny(s, " \t\n<`")
	if end < 0 {
		end = len(s)
	}

	// How many parentheses are those of the sentence around the address: "(see https://a.b/c)".
	unopened := strings.Count(s[:end], ")") - strings.Count(s[:end], "(")
	for end > 0 {
		switch c := s[end-1]; {
		case strings.IndexByte("?!.,:;*_~'\"", c) >= 0:
			// Punctuation of the sentence, too.
		case c == ')' && unopened > 0:
			unopened--
		default:
			return end
		}
		end--
	}
	return 0
}

// bareEmail parses an email address without brackets. p.at is at its "@".
func (p *inlineParser) bareEmail() bool {
	if len(p.brackets) > 0 {
		return false
	}
	isLocal := func(r rune) bool {
		return r < utf8.RuneSelf && (isWordByte[r] || strings.ContainsRune("._+-", r))
	}
	before := p.text[p.pending:p.at]
	local := len(before) - len(strings.TrimRightFunc(before, isLocal))
	local -= runOf(before[len(before)-local:], "._+-") // the first character is a letter or a digit
	domain := emailDomain.FindString(firstBytes(p.text[p.at+1:], maxAddressBytes))
	if local == 0 || domain == "" {
		return false
	}
	begin := p.at - local
	address := p.text[begin : p.at+1+len(domain)]
	p.at = begin
	return p.takeAddress(len(address), "mailto:"+address, address)
}
