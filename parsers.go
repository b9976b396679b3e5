package main

// Parsers for the values of settings. The error of a parser says which form the value does not have, such as "not a number
// from 1 to 100". readSettings adds the variable's name and an example.

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// variable is one environment variable: a row of the manual and of SETTINGS.md.
type variable struct {
	name         string
	defaultValue string // applies if the variable is unset or empty
	example      string // for error messages, if there is no default
	about        string
	secret       bool // the value is never shown
	set          func(value string) error
}

// isSwitch reports whether v is true or false.
func (v *variable) isSwitch() bool { return v.defaultValue == "false" }

// parseFunc turns the text of a value into the value.
type parseFunc[T any] func(text string) (T, error)

// setter returns a function that parses a value and stores it in field.
func setter[T any](field *T, parse parseFunc[T]) func(string) error {
	return func(value string) error {
		parsed, err := parse(value)
		if err != nil {
			return err
		}
		*field = parsed
		return nil
	}
}

// parseText accepts any text.
func parseText(value string) (string, error) { return value, nil }

// parseAddr checks HOST:PORT. An empty host stands for all addresses, port 0 for a free port.
func parseAddr(value string) (string, error) {
	_, port, err := net.SplitHostPort(value)
	switch {
	case strings.Count(value, ":") > 1 && !strings.Contains(value, "["):
		return "", errors.New("not an address HOST:PORT: " +
			"brackets are missing, as in [::1]:8080")
	case err != nil:
		return "", errors.New("not an address HOST:PORT")
	}
	_, err = strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", errors.New("not an address HOST:PORT")
	}
	return value, nil
}

// databaseParameters are the defaults of parameters in DATABASE_URL.
var databaseParameters = map[string]string{
	// Seconds. By default, lib/pq waits without a limit.
	"connect_timeout": "5",
	// A query then takes one round trip. It has no prepared statement, which would fail behind PgBouncer.
	"binary_parameters": "yes",
	// The name in pg_stat_activity.
	"application_name": "vitrine",
}

// noPasswordFile is the name of a file that cannot exist. lib/pq would read ~/.pgpass or PGPASSFILE at each new
// connection, and print a warning about its mode to the standard error, which is not a line of JSON.
const noPasswordFile = os.DevNull + "/none"

// parseDatabaseURL checks a postgres URL and adds databaseParameters. It requires an sslmode, so that encryption does not
// depend on the default of lib/pq.
func parseDatabaseURL(value string) (string, error) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", errors.New("not a URL postgres://USER:PASSWORD@HOST/DATABASE?sslmode=MODE")
	}

	query := u.Query()
	if query.Get("sslmode") == "" {
		return "", errors.New("sslmode is missing: add ?sslmode=verify-full, " +
			"or ?sslmode=disable on a trusted network")
	}
	if query.Has("passfile") {
		return "", errors.New("passfile is not read: " +
			"put the password into the URL, postgres://USER:PASSWORD@…")
	}
	query.Set("passfile", noPasswordFile)
	for name, value := range databaseParameters {
		if !query.Has(name) {
			query.Set(name, value)
		}
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// parseURL checks an absolute http or https URL.
func parseURL(value string) (string, error) {
	u, err := url.Parse(value)
	if err != nil || !isWebURL(u) {
		return "", errors.New("not a URL http://HOST/… or https://HOST/…")
	}
	return value, nil
}

// isWebURL reports whether u is absolute, and of HTTP or HTTPS. url.Parse has made the scheme lower-case.
func isWebURL(u *url.URL) bool {
	isWeb := u.Scheme == "http" || u.Scheme == "https"
	return isWeb && u.Host != ""
}

// parseSite checks the URL of a site and returns it without a slash at its end. Paths are added to it, so a query or a
// fragment is refused.
func parseSite(value string) (*url.URL, error) {
	const maxSiteBytes = 500
	_, err := parseURL(value)
	if err != nil {
		return nil, err
	}
	site, err := url.Parse(strings.TrimRight(value, "/"))
	hasMore := strings.ContainsAny(value, "?#")
	if err != nil || site.User != nil || hasMore || len(value) > maxSiteBytes {
		return nil, errors.New("not a URL of a site, without user, query and fragment")
	}
	site.RawPath = "" // addresses appends to Path, which is then escaped anew
	return site, nil
}

// parseLine returns a parser that accepts a line of at most maxRunes characters.
func parseLine(maxRunes int) parseFunc[string] {
	return func(value string) (string, error) {
		value = strings.TrimSpace(value)
		isText := utf8.ValidString(value)
		hasControl := strings.ContainsFunc(value, unicode.IsControl)
		isLong := utf8.RuneCountInString(value) > maxRunes
		if !isText || hasControl || isLong {
			return "", fmt.Errorf("not one line of at most %d characters", maxRunes)
		}
		return value, nil
	}
}

// inRange returns a parser that accepts values from low to high, both included. It refuses NaN. what says the same in
// words.
func inRange[T cmp.Ordered](what string, low, high T, parse parseFunc[T]) parseFunc[T] {
	return func(text string) (T, error) {
		value, err := parse(text)
		isInside := low <= value && value <= high
		if err != nil || !isInside {
			return value, errors.New("not a " + what)
		}
		return value, nil
	}
}

// parseCount returns a parser of whole numbers from 1 to high.
func parseCount(high int) parseFunc[int] {
	what := fmt.Sprintf("number from 1 to %d", high)
	return inRange(what, 1, high, strconv.Atoi)
}

// parseNumber returns a parser of numbers from low to high.
func parseNumber(low, high float64) parseFunc[float64] {
	parse := func(value string) (float64, error) {
		return strconv.ParseFloat(value, 64)
	}
	what := fmt.Sprintf("number from %.f to %.f", low, high)
	return inRange(what, low, high, parse)
}

// parseDuration returns a parser of Go durations from low to a year.
func parseDuration(low time.Duration) parseFunc[time.Duration] {
	what := fmt.Sprintf("duration with a unit (ms, s, m or h), from %v to a year", low)
	return inRange(what, low, 365*24*time.Hour, time.ParseDuration)
}

// parseRate parses tokens per second. It refuses rates below 0.001 except 0: a client would wait more than 1,000 s for a
// token.
func parseRate(value string) (float64, error) {
	rate, err := parseNumber(0, 1e6)(value)
	if err != nil {
		return 0, err
	}
	if rate > 0 && rate < 0.001 {
		return 0, errors.New("less than 0.001 but not 0")
	}
	return rate, nil
}

// parseToken accepts printable ASCII without spaces, which a header can carry.
func parseToken(value string) (string, error) {
	isRefused := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case !strings.ContainsFunc(value, isRefused):
		return value, nil
	case !strings.ContainsFunc(strings.TrimSpace(value), isRefused):
		return "", errors.New("with a space or a line break at an end: leave it out")
	}
	return "", errors.New("not printable ASCII without spaces")
}

// parseList returns a parser of comma-separated lists. parse parses one item.
func parseList[T any](parse parseFunc[T]) parseFunc[[]T] {
	return func(value string) ([]T, error) {
		var items []T
		for _, text := range splitList(value) {
			item, err := parse(text)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		return items, nil
	}
}

// splitList splits a comma-separated list, trims its items and leaves out empty ones.
func splitList(list string) []string {
	var items []string
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item != "" {
			items = append(items, item)
		}
	}
	return items
}

// docsRoot is one folder of DOCS_DIR.
type docsRoot struct {
	prefix string // of the ids of its documents, such as "api/"; "" if it is the only folder
	dir    string
}

// namedFolder matches NAME=FOLDER. The name is a segment of ids, so a path with "=" in it is no match.
var namedFolder = regexp.MustCompile(`^([^/\\.=,][^/\\=,]{0,99})=(.+)$`)

// parseDocsDir parses the path of one folder, or NAME=FOLDER once or more, separated by commas.
func parseDocsDir(value string) ([]docsRoot, error) {
	if !namedFolder.MatchString(value) {
		return []docsRoot{{dir: value}}, nil
	}

	var roots []docsRoot
	for _, item := range splitList(value) {
		match := namedFolder.FindStringSubmatch(item)
		if match == nil {
			return nil, fmt.Errorf("%q has no name: "+
				"write NAME=FOLDER for each of several folders", item)
		}
		root := docsRoot{prefix: match[1] + "/", dir: match[2]}
		isSame := func(other docsRoot) bool { return other.prefix == root.prefix }
		if slices.ContainsFunc(roots, isSame) {
			return nil, fmt.Errorf("two folders have the name %q", match[1])
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// parsePattern checks a pattern of path.Match. A slash at its end is left out.
func parsePattern(value string) (string, error) {
	_, err := path.Match(value, "")
	if err != nil {
		return "", fmt.Errorf("%q is not a pattern such as drafts/* "+
			"(a bracket is not closed)", value)
	}
	return strings.TrimSuffix(value, "/"), nil
}

// parseHost checks a host name or an IP address without brackets.
func parseHost(value string) (string, error) {
	host := strings.ToLower(value)
	if host != hostname(host) {
		return "", fmt.Errorf("%q is not a host name without a port", host)
	}
	return host, nil
}

// parseOrigin parses an origin in the form of the header Origin, or * for all origins.
func parseOrigin(value string) (string, error) {
	origin := strings.ToLower(value)
	if origin == "*" {
		return origin, nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin {
		return "", fmt.Errorf("%q is not an origin SCHEME://HOST[:PORT]", origin)
	}
	return origin, nil
}

var (
	parseBool = oneOf("true or false", map[string]bool{
		"true":  true,
		"false": false,
	})

	parseOnOff = oneOf("on or off", map[string]bool{
		"on":  true,
		"off": false,
	})

	parseExporter = oneOf("otlp, console or none", map[string]string{
		"otlp":    "otlp",
		"console": "console",
		"none":    "none",
	})

	parseLogFormat = oneOf("auto, json or text", map[string]string{
		"auto": "auto",
		"json": "json",
		"text": "text",
	})

	parseLevel = oneOf("debug, info, warn or error", map[string]slog.Level{
		"debug": slog.LevelDebug,
		"info":  slog.LevelInfo,
		"warn":  slog.LevelWarn,
		"error": slog.LevelError,
	})
)

// oneOf returns a parser that accepts the keys of values, in any case. words lists them for the error.
func oneOf[T any](words string, values map[string]T) parseFunc[T] {
	return func(text string) (T, error) {
		value, ok := values[strings.ToLower(text)]
		if !ok {
			return value, errors.New("not " + words)
		}
		return value, nil
	}
}

// isLoopback reports whether the host in addr, HOST:PORT, is a loopback address or localhost.
func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// overlap reports whether a process cannot listen on both addresses HOST:PORT. Port 0 stands for a new port each time.
func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	areLoopback := isLoopback(a) && isLoopback(b)
	return hostA == hostB || areLoopback ||
		isEveryHost(hostA) || isEveryHost(hostB)
}

// isEveryHost reports whether a host of an address HOST:PORT stands for all addresses of the machine.
func isEveryHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// hostname returns the host of HOST or HOST:PORT in lower case, without brackets and without a final dot.
func hostname(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil { // there is no port
		name = host
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	return strings.TrimSuffix(name, ".")
}

// shellQuote quotes text that a shell would not take as one word.
func shellQuote(text string) string {
	if regexp.MustCompile(`^[\w@%+=:,./-]+$`).MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// These match what may be secret in a text with URLs, valid or not. A password may contain any character, so everything up
// to the last @ counts as user and password. A query or a fragment may be a key.
var (
	urlUser  = regexp.MustCompile(`(?s)(\w+://).*@|[^\s"/]+:[^\s"]*@`)
	urlQuery = regexp.MustCompile(`(\w+://)([^\s"?#]*)[?#][^\s"]*`)
)

// redact removes users, passwords, queries and fragments of URLs from a text. It returns a text without them unchanged.
func redact(text string) string {
	text = urlUser.ReplaceAllString(text, "${1}(redacted)@")
	return urlQuery.ReplaceAllStringFunc(text, func(address string) string {
		parts := urlQuery.FindStringSubmatch(address)
		if strings.HasPrefix(parts[2], "(redacted)@") {
			return parts[1] + parts[2]
		}
		return parts[1] + "(redacted)@" + parts[2]
	})
}

// maxDimensions is the limit of pgvector's HNSW index for half-precision vectors.
const maxDimensions = 4000
