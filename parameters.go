package main

// Parsing of what requests of the HTTP API carry in their query string and headers.

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// byteOrderMark begins the text of some encoders. RFC 8259 lets a parser of JSON ignore it.
const byteOrderMark = "\ufeff"

// parseParameters parses the query string of r and the limit in it. An absent limit is defaultLimit;
// one outside 1..maxLimit is an error, and so is a parameter that is neither limit nor among names.
func parseParameters(
	r *http.Request, defaultLimit, maxLimit int, names ...string,
) (values url.Values, limit int, err error) {
	values, err = parameters(r, append([]string{"limit"}, names...))
	if err != nil {
		return nil, 0, err
	}

	text := values.Get("limit")
	if text == "" {
		return values, defaultLimit, nil
	}
	limit, err = strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxLimit {
		return nil, 0, userError{
			http.StatusBadRequest,
			fmt.Sprintf("limit=%.20q is not a number from 1 to %d", text, maxLimit),
		}
	}
	return values, limit, nil
}

// parameters parses the query string of r. A parameter that is not among names is an error, and so is one that comes twice.
func parameters(r *http.Request, names []string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, userError{
			http.StatusBadRequest,
			"the query string is malformed: percent-encode its values, with curl -G --data-urlencode q='…'",
		}
	}

	known := "there are none here"
	if len(names) > 0 {
		known = "there are " + strings.Join(names, ", ")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case !slices.Contains(names, name):
			return nil, userErrorf(http.StatusBadRequest, "%.80q is not a parameter: %s", name, known)
		case len(values[name]) > 1:
			return nil, userErrorf(http.StatusBadRequest, "%s has %d values: give one", name, len(values[name]))
		}
	}
	return values, nil
}

// only returns a handler that refuses parameters that are not among names. Pages, probes and the protocols for agents take
// any, because links, load balancers and clients add some.
func only(next handlerFunc, names ...string) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.URL.RawQuery == "" {
			return next(w, r)
		}
		_, err := parameters(r, names)
		if err != nil {
			return err
		}
		return next(w, r)
	}
}

// parseSwitch parses a parameter that is 1 for on, and 0 or absent for off.
func parseSwitch(values url.Values, name string) (bool, error) {
	switch values.Get(name) {
	case "1", "true":
		return true, nil
	case "", "0", "false":
		return false, nil
	}
	return false, userErrorf(http.StatusBadRequest, "%s=%.20q is neither 1 nor 0", name, values.Get(name))
}

// wantsJSON reports whether the client asked for JSON instead of text. The parameter format wins over Accept.
func wantsJSON(r *http.Request) (bool, error) {
	switch format := r.URL.Query().Get("format"); format {
	case "":
		return strings.Contains(r.Header.Get("Accept"), "application/json"), nil
	case "json", "text":
		return format == "json", nil
	default:
		return false, userErrorf(http.StatusBadRequest, "format=%.20q is neither json nor text", format)
	}
}

// parseFor returns the duration in the parameter for, 0 if it is absent.
func parseFor(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("for")
	if text == "" {
		return 0, nil
	}
	duration, err := time.ParseDuration(text)
	if err != nil || duration <= 0 {
		return 0, userError{
			http.StatusBadRequest,
			fmt.Sprintf("for=%.20q is not a duration such as 10m", text),
		}
	}
	return duration, nil
}

// parseCursor returns the id that cursorAfter encoded, "" for an empty cursor.
func parseCursor(cursor string) (id string, err error) {
	decoded, err := base64.RawURLEncoding.DecodeString(cursor)
	id = string(decoded)
	if err != nil || id != "" && checkID(id) != nil {
		return "", userError{
			http.StatusBadRequest,
			"bad cursor: send the one of the page before as it is, or none for the first page",
		}
	}
	return id, nil
}

// checkPrefix returns an error with status 400 unless a document id can start with prefix.
func checkPrefix(prefix string) error {
	if utf8.RuneCountInString(prefix) > maxIDBytes || !isPlain(prefix) {
		return userError{
			http.StatusBadRequest,
			"prefix is not the beginning of a document id such as guide/",
		}
	}
	return nil
}

// isPlain reports whether s is UTF-8 without NUL.
func isPlain(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// requestPrecondition parses If-Match and If-None-Match. It splits them at commas, because our entity
// tags contain none.
func requestPrecondition(r *http.Request) precondition {
	return precondition{
		match:     entityTags(r, "If-Match"),
		noneMatch: entityTags(r, "If-None-Match"),
	}
}

// entityTags returns the entity tags in all headers of that name.
func entityTags(r *http.Request, header string) []string {
	return splitList(strings.Join(r.Header.Values(header), ","))
}
