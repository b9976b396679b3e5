package main

// The arguments of tools and prompts, and the errors for the model, which lets it correct its arguments.

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// arguments are those of one call of a tool or prompt. They keep the first problem found, and check returns it.
type arguments struct {
	values []member
	answer *bytes.Buffer // see call
	urls   addresses
	err    error
}

// fail keeps the first problem.
func (a *arguments) fail(format string, args ...any) {
	if a.err == nil {
		a.err = toolErrorf(format, args...)
	}
}

// get returns the value of an argument.
func (a *arguments) get(name string) rawValue {
	given := objectMembers{members: a.values}
	return given.get(name)
}

// text returns the value of a string argument, "" if it is absent or null. PostgreSQL cannot store NUL, so text has U+FFFD
// instead, as it has for half a surrogate pair.
func (a *arguments) text(name string) string {
	value := a.get(name)
	if value.isAbsent() {
		return ""
	}
	if !value.isString() {
		a.fail("%s must be a string", name)
		return ""
	}
	return strings.ReplaceAll(value.text(), "\x00", "\ufffd")
}

// idText returns the value of a string argument that is an id or the beginning of one. It only checks the length, in
// characters as the schema does. A text that cannot be an id names no document.
func (a *arguments) idText(name string) string {
	text := a.text(name)
	if utf8.RuneCountInString(text) > maxIDBytes {
		a.fail("%s must have at most %d characters", name, maxIDBytes)
	}
	return text
}

// choice returns the value of a required argument that is one of choices.
func (a *arguments) choice(name string, choices []string) string {
	text := a.text(name)
	if !slices.Contains(choices, text) {
		a.fail("%s must be one of %s", name, strings.Join(choices, ", "))
	}
	return text
}

// integer returns the value of an integer argument from 1 to maxValue, defaultValue if it is absent or null. The value may
// be a string, because some models quote numbers.
func (a *arguments) integer(name string, defaultValue, maxValue int) int {
	value := a.get(name)
	if value.isAbsent() {
		return defaultValue
	}
	n, ok := value.number()
	if !ok || n != math.Trunc(n) || n < 1 || n > float64(maxValue) {
		a.fail("%s must be an integer from 1 to %d", name, maxValue)
		return defaultValue
	}
	return int(n)
}

// query returns the value of a required argument that is a question of at most maxChars characters. The search checks its
// text too, but its error names the parameter q, which a model does not know.
func (a *arguments) query(name string, maxChars int) string {
	text := a.text(name)
	switch {
	case isBlank(text):
		a.fail("%s is missing: pass a question or a few words, "+
			`for example {"%s":"how to install"}`,
			name, name)
	case utf8.RuneCountInString(text) > maxChars:
		a.fail("%s must have at most %d characters: "+
			"shorten it to its main words",
			name, maxChars)
	}
	return strings.Clone(text) // caches keep it, and it shares the memory of the whole message
}

// check returns the first problem found. An argument whose name is not among names is a problem too: ignoring it would
// not do what the model meant.
func (a *arguments) check(names ...string) error {
	var unknown []string
	for _, value := range a.values {
		if !slices.Contains(names, value.name) {
			unknown = append(unknown, value.name)
		}
	}
	if len(unknown) > 0 {
		a.fail("unknown argument %.60q: pass only %s", slices.Min(unknown), strings.Join(names, ", "))
	}
	return a.err
}

// toolError says why a tool cannot do as asked. Its message is for the model, and says what to do next.
type toolError struct {
	message string
	cause   error // the failure if it is the server's, nil if the model made a mistake
}

func toolErrorf(format string, args ...any) toolError {
	return toolError{message: fmt.Sprintf(format, args...)}
}

func (e toolError) Error() string { return e.message }

func (e toolError) problem() problem {
	return problem{
		status:  http.StatusBadRequest,
		code:    codeInvalidParams,
		message: e.message,
	}
}

// errorType returns the class of the error for the metrics.
func (e toolError) errorType() string {
	if e.cause != nil {
		return errorType(e.cause)
	}
	return "tool_error"
}
