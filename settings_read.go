package main

// How the environment becomes settings: readSettings, what it warns of, and the parsers of values.
// A parser's error says what the value is not. readSettings adds the variable's name and an example.

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// otlpEndpoints are variables that the OpenTelemetry SDK reads. If one is set, traces are exported by default.
var otlpEndpoints = []string{
	"OTEL_EXPORTER_OTLP_ENDPOINT",
	"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
}

// errUsage is wrapped by errors that other settings or arguments would avoid. The program then exits with 2.
var errUsage = errors.New("vitrine -h prints the manual")

// readSettings parses the environment. Its error wraps errUsage and lists all problems, one a line.
func readSettings(env map[string]string) (*settings, error) {
	var cfg settings
	problems := cfg.parse(env)
	problems = append(problems, cfg.conflicts(env)...)
	if len(problems) > 0 {
		return nil, fmt.Errorf("%w\n%w", errors.Join(problems...), errUsage)
	}

	cfg.setDependentDefaults(env)
	return &cfg, nil
}

// parse sets each field from its variable or default. It returns an error for each value that is refused.
func (c *settings) parse(env map[string]string) []error {
	var problems []error
	for _, v := range variables(c) {
		value := cmp.Or(env[v.name], v.defaultValue)
		if value == "" {
			continue
		}
		err := v.set(value)
		if err != nil {
			problems = append(problems, v.problem(value, err))
		}
	}
	return problems
}

// problem returns the error for a refused value. It shows the value unless it is secret, and an example.
func (v variable) problem(value string, err error) error {
	shown := redact(value)
	if v.secret {
		shown = "(secret)"
	}
	example := cmp.Or(v.example, v.defaultValue)
	return fmt.Errorf("%s=%q: %w; for example %s=%s", v.name, shown, err, v.name, example)
}

// conflicts returns an error for each setting that lacks its companion, and for each OTLP endpoint that is not a URL.
func (c *settings) conflicts(env map[string]string) []error {
	var problems []error
	add := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(format, args...))
	}

	if (c.embeddingURL == "") != (c.embeddingModel == "") {
		add("EMBEDDING_URL and EMBEDDING_MODEL must be set together; " +
			"for example EMBEDDING_MODEL=nomic-embed-text")
	}
	if c.profiling && c.adminToken == "" {
		add("ENABLE_PROFILING=true needs ADMIN_TOKEN; for example ADMIN_TOKEN=a-long-random-text")
	}
	for _, name := range otlpEndpoints {
		_, err := parseURL(env[name])
		if err != nil && env[name] != "" {
			add("%s is not a URL; for example %s=http://127.0.0.1:4318", name, name)
		}
	}
	return problems
}

// setDependentDefaults sets defaults that depend on other settings.
func (c *settings) setDependentDefaults(env map[string]string) {
	if c.embeddingURL != "" && env["VECTOR_WEIGHT"] == "" {
		c.vectorWeight = 1
	}

	if c.tracesExporter == "" {
		c.tracesExporter = "none"
		for _, name := range otlpEndpoints {
			if env[name] != "" {
				c.tracesExporter = "otlp"
			}
		}
	}

	// A page that has rebound its own name to a loopback address must not reach a server there. Names of a server on
	// other addresses are not known.
	if len(c.allowedHosts) == 0 {
		c.allowedHosts = []string{"*"}
		if isLoopback(c.addr) {
			c.allowedHosts = []string{"localhost", "127.0.0.1", "::1", hostname(c.addr)}
		}
	}
}

// warnAboutSettings logs valid settings that may not be what the operator meant.
func warnAboutSettings(log *slog.Logger, cfg *settings, env map[string]string) {
	if cfg.apiToken == "" && !isLoopback(cfg.addr) {
		log.Warn("searching and reading are open to whoever reaches this address: set API_TOKEN to close them",
			"addr", cfg.addr)
	}
	if !cfg.observability {
		log.Warn("OBSERVABILITY is off: requests are neither logged nor measured nor traced")
	}
	ignored := ignoredVariables(env)
	if len(ignored) > 0 {
		log.Warn("these variables are not honoured", "variables", ignored)
	}
}

// ignoredVariables returns the variables of OpenTelemetry in env that have no effect, sorted.
func ignoredVariables(env map[string]string) []string {
	hasEffect := make(map[string]bool)
	for _, v := range variables(new(settings)) {
		hasEffect[v.name] = true
	}

	var ignored []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.HasPrefix(name, "OTEL_") && !hasEffect[name] && !isTraceExporterOption(name) {
			ignored = append(ignored, name)
		}
	}
	return ignored
}

// isTraceExporterOption reports whether the OpenTelemetry SDK reads the variable to export traces. It does not read the
// protocol, which is always HTTP with protobuf.
func isTraceExporterOption(name string) bool {
	return strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_") &&
		!strings.Contains(name, "_METRICS_") &&
		!strings.Contains(name, "_LOGS_") &&
		!strings.HasSuffix(name, "_PROTOCOL")
}

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
	if err != nil {
		return "", errors.New("not an address HOST:PORT")
	}
	_, err = strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", errors.New("not an address HOST:PORT")
	}
	return value, nil
}

// databaseParameters are added to DATABASE_URL unless it has them.
var databaseParameters = map[string]string{
	// Seconds. By default, lib/pq waits without a limit.
	"connect_timeout": "5",
	// A query takes one round trip and no prepared statement, which PgBouncer would lose.
	"binary_parameters": "yes",
	// The name in pg_stat_activity.
	"application_name": "vitrine",
}

// parseDatabaseURL checks a postgres URL and adds databaseParameters. It insists on an sslmode, so encryption does not
// depend on the default of lib/pq.
func parseDatabaseURL(value string) (string, error) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", errors.New("not a URL postgres://USER:PASSWORD@HOST/DATABASE?sslmode=MODE")
	}

	query := u.Query()
	if query.Get("sslmode") == "" {
		return "", errors.New("sslmode is missing: add ?sslmode=verify-full, or ?sslmode=disable on a trusted network")
	}
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
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("not a URL http://HOST/… or https://HOST/…")
	}
	return value, nil
}

// inRange returns a parser that refuses values outside low to high, both included. It refuses NaN as well.
func inRange[T cmp.Ordered](kind string, low, high T, parse parseFunc[T]) parseFunc[T] {
	return func(text string) (T, error) {
		value, err := parse(text)
		isInside := low <= value && value <= high
		if err != nil || !isInside {
			return value, fmt.Errorf("not a %s from %v to %v", kind, low, high)
		}
		return value, nil
	}
}

// parseCount returns a parser of whole numbers from 1 to high.
func parseCount(high int) parseFunc[int] {
	return inRange("number", 1, high, strconv.Atoi)
}

// parseNumber returns a parser of numbers from low to high.
func parseNumber(low, high float64) parseFunc[float64] {
	parse := func(value string) (float64, error) { return strconv.ParseFloat(value, 64) }
	return inRange("number", low, high, parse)
}

// parseDuration returns a parser of Go durations from low to a year.
func parseDuration(low time.Duration) parseFunc[time.Duration] {
	return inRange("duration", low, 365*24*time.Hour, time.ParseDuration)
}

// parseRate parses tokens per second. It refuses rates at which a client would wait longer than 1,000 s for a token.
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

// parseToken refuses characters that a header cannot carry.
func parseToken(value string) (string, error) {
	isRefused := func(r rune) bool { return r <= ' ' || r > '~' }
	if strings.ContainsFunc(value, isRefused) {
		return "", errors.New("not printable ASCII without spaces")
	}
	return value, nil
}

// parseList returns a parser of comma-separated lists whose items parse reads.
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
	parseBool = oneOf("true or false", map[string]bool{"true": true, "false": false})

	parseOnOff = oneOf("on or off", map[string]bool{"on": true, "off": false})

	parseExporter = oneOf("otlp, console or none", map[string]string{
		"otlp":    "otlp",
		"console": "console",
		"none":    "none",
	})

	parseLowerLevel = oneOf("debug, info, warn or error", map[string]slog.Level{
		"debug": slog.LevelDebug,
		"info":  slog.LevelInfo,
		"warn":  slog.LevelWarn,
		"error": slog.LevelError,
	})
)

// oneOf returns a parser that accepts the keys of values. words lists them for the error.
func oneOf[T any](words string, values map[string]T) parseFunc[T] {
	return func(text string) (T, error) {
		value, ok := values[text]
		if !ok {
			return value, errors.New("not " + words)
		}
		return value, nil
	}
}

// parseLevel parses the name of a log level in any case.
func parseLevel(value string) (slog.Level, error) { return parseLowerLevel(strings.ToLower(value)) }

// isLoopback reports whether the host of addr, HOST:PORT, is a loopback address or localhost.
func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
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
