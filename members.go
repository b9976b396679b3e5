package main

// JSON objects by the exact names of their members. encoding/json takes "Method" for "method" and the last of two equal
// names, so a gateway that reads the message otherwise would see another call than the one that runs. encoding/json/v2
// does neither, but exists only with GOEXPERIMENT=jsonv2. encoding/json still checks the syntax: all text here is valid.

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// rawValue is the text of a JSON value without the space around it. It is empty if the member is absent.
type rawValue string

// member is a member of a JSON object.
type member struct {
	name  string
	value rawValue
}

// maxScannedMembers is the size of objects up to which comparing all names beats a map.
const maxScannedMembers = 16

// isAbsent reports whether v is absent or null.
func (v rawValue) isAbsent() bool { return v == "" || v == "null" }

// isObject reports whether v, which is not absent, is an object, or an empty array: PHP encodes an empty object as one.
func (v rawValue) isObject() bool {
	return v[0] == '{' || v[0] == '[' && strings.TrimLeft(string(v[1:]), " \t\r\n") == "]"
}

func (v rawValue) isString() bool { return v != "" && v[0] == '"' }

func (v rawValue) isNumber() bool {
	return v != "" && (v[0] == '-' || v[0] >= '0' && v[0] <= '9')
}

// kind returns the type of v, which is not absent, in the words of error messages.
func (v rawValue) kind() string {
	switch v[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// text returns the value of a string.
func (v rawValue) text() string {
	if !strings.Contains(string(v), `\`) {
		return string(v[1 : len(v)-1])
	}
	var text string
	_ = json.Unmarshal([]byte(v), &text) // valid
	return text
}

// number returns the value of a number, or of a string that has the form of one. It refuses what only Go takes for a number,
// such as 0x1p4 and 1_000.
func (v rawValue) number() (n float64, ok bool) {
	text := string(v)
	if v.isString() {
		text = strings.TrimSpace(v.text())
	}
	if strings.Trim(text, "+-.0123456789eE") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

// appendMembers appends the members of an object in their order. It appends none of another value.
func appendMembers(members []member, v rawValue) []member {
	for name, value := range v.elements {
		if name != "" {
			members = append(members, member{name.text(), value})
		}
	}
	return members
}

// elements yields the members of an object, or the elements of an array without names.
func (v rawValue) elements(yield func(name, value rawValue) bool) {
	if v == "" || v[0] != '{' && v[0] != '[' {
		return
	}

	isObject := v[0] == '{'
	at := skipSpace(v, 1)
	for v[at] != '}' && v[at] != ']' {
		name := rawValue("")
		if isObject {
			end := skipString(v, at)
			name = v[at:end]
			at = skipSpace(v, end) + len(":")
		}
		at = skipSpace(v, at)
		end := skipValue(v, at)
		if !yield(name, v[at:end]) {
			return
		}
		at = skipSpace(v, end)
		if v[at] == ',' {
			at = skipSpace(v, at+1)
		}
	}
}

// hasDuplicates reports whether an object in v, at any depth, has two members of the same name.
func (v rawValue) hasDuplicates() bool {
	_, found := v.findDuplicate(0)
	return found
}

// findDuplicate looks for two members of the same name in the value that begins at at, and returns the offset after it. It
// is one pass, because skipping each level of a deep value would take quadratic time.
func (v rawValue) findDuplicate(at int) (end int, found bool) {
	switch v[at] {
	case '"':
		return skipString(v, at), false
	case '{', '[':
	default:
		return skipValue(v, at), false
	}

	isObject := v[at] == '{'
	var seen nameSet
	at = skipSpace(v, at+1)
	for v[at] != '}' && v[at] != ']' {
		if isObject {
			end := skipString(v, at)
			if !seen.add(v[at:end].text()) {
				return end, true
			}
			at = skipSpace(v, skipSpace(v, end)+len(":"))
		}
		at, found = v.findDuplicate(at)
		if found {
			return at, true
		}
		at = skipSpace(v, at)
		if v[at] == ',' {
			at = skipSpace(v, at+1)
		}
	}
	return at + 1, false
}

// nameSet is a set of names that allocates only when it is large.
type nameSet struct {
	few  [maxScannedMembers]string
	n    int
	many map[string]bool
}

// add adds a name. It reports whether the name is new.
func (s *nameSet) add(name string) bool {
	if s.many[name] || slices.Contains(s.few[:s.n], name) {
		return false
	}
	if s.n < len(s.few) {
		s.few[s.n] = name
		s.n++
		return true
	}
	if s.many == nil {
		s.many = make(map[string]bool)
	}
	s.many[name] = true
	return true
}

// skipSpace returns the offset of the first character from at on that is not white space.
func skipSpace(v rawValue, at int) int {
	for at < len(v) && (v[at] == ' ' || v[at] == '\n' || v[at] == '\r' || v[at] == '\t') {
		at++
	}
	return at
}

// skipString returns the offset after the string that begins at at.
func skipString(v rawValue, at int) int {
	for at++; v[at] != '"'; at++ {
		if v[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// skipValue returns the offset after the value that begins at at.
func skipValue(v rawValue, at int) int {
	depth := 0
	for at < len(v) {
		switch v[at] {
		case '"':
			at = skipString(v, at)
			if depth == 0 {
				return at
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return at // after a number or a literal
			}
			depth--
			if depth == 0 {
				return at + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return at
			}
		}
		at++
	}
	return at
}

// objectMembers are the members of an object. A member that is absent or null has the zero value.
type objectMembers struct {
	path    string // of the object in the message, with a dot at its end
	members []member
	shared  *decoding
}

// decoding is what all members of a message share.
type decoding struct {
	problem typeProblem // the first member of a wrong type
	members []member    // of all objects, so that a message needs no slice for each
}

// typeProblem is a member of a wrong type.
type typeProblem struct {
	name   string // its path; empty: there is no problem
	wanted string // the type that it must have
	kind   string // the type that it has
}

func (p typeProblem) String() string {
	return p.name + " must be " + p.wanted + ", not " + p.kind
}

// fieldsOf returns the members of an object, none of another value.
func (d *decoding) fieldsOf(v rawValue, path string) objectMembers {
	begin := len(d.members)
	d.members = appendMembers(d.members, v)
	return objectMembers{path, d.members[begin:], d}
}

// get returns the value of a member.
func (f *objectMembers) get(name string) rawValue {
	for _, m := range f.members {
		if m.name == name {
			return m.value
		}
	}
	return ""
}

// fail keeps the first problem.
func (f *objectMembers) fail(name, wanted string, v rawValue) {
	if f.shared.problem.name == "" {
		f.shared.problem = typeProblem{f.path + name, wanted, v.kind()}
	}
}

// text returns the value of a string.
func (f *objectMembers) text(name string) string {
	v := f.get(name)
	if v.isAbsent() {
		return ""
	}
	if !v.isString() {
		f.fail(name, "a string", v)
		return ""
	}
	return v.text()
}

// flag returns the value of a boolean.
func (f *objectMembers) flag(name string) bool {
	v := f.get(name)
	if !v.isAbsent() && v != "true" && v != "false" {
		f.fail(name, "a boolean", v)
	}
	return v == "true"
}

// texts returns the values of an array of strings.
func (f *objectMembers) texts(name string) []string {
	v := f.get(name)
	if v.isAbsent() {
		return nil
	}
	if v[0] != '[' {
		f.fail(name, "an array of strings", v)
		return nil
	}

	var texts []string
	for _, value := range v.elements {
		if !value.isString() {
			f.fail(name+"[]", "a string", value)
			return nil
		}
		texts = append(texts, value.text())
	}
	return texts
}

// object returns the members of an object. path is that of its members.
func (f *objectMembers) object(name, path string) objectMembers {
	v := f.get(name)
	if !v.isAbsent() && !v.isObject() {
		f.fail(name, "an object", v)
		v = ""
	}
	return f.shared.fieldsOf(v, path)
}
