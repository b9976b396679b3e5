package main

// The variables of the trace exporter, OTEL_EXPORTER_OTLP_*, and the resource attributes. OpenTelemetry's SDK reads them
// too, but if it does not understand a value, it prints the value and continues without it. So they are checked first.

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultOTLPEndpoint = "http://localhost:4318"

	// defaultOTLPTimeout is how long the collector may take to answer.
	defaultOTLPTimeout = 5 * time.Second
)

// otlpPrefixes begin the names of the exporter's variables: those for all signals, and those for traces, which win.
var otlpPrefixes = []string{
	"OTEL_EXPORTER_OTLP_",
	otlpTraces,
}

// otlpTraces begins the names of the variables for traces.
const otlpTraces = "OTEL_EXPORTER_OTLP_TRACES_"

// otlpSettings are the settings that the exporter does not read from its variables itself.
type otlpSettings struct {
	url     string      // where traces are sent
	tls     *tls.Config // nil: Go's defaults
	timeout time.Duration
}

// otlpCheck is one of the exporter's variables. The error of check completes the sentence "NAME is …". It never shows
// the value, which may be secret.
type otlpCheck struct {
	suffix  string
	example string
	check   func(value string) error
}

var otlpChecks = []otlpCheck{
	{"ENDPOINT", "http://127.0.0.1:4318", checkEndpoint},
	{"HEADERS", "Authorization=Bearer%20a-token", checkHeaders},
	{"CERTIFICATE", "/etc/ssl/collector.pem", checkCertificate},
	{"CLIENT_CERTIFICATE", "/etc/ssl/vitrine.pem", checkReadable},
	{"CLIENT_KEY", "/etc/ssl/vitrine.key", checkReadable},
	{"INSECURE", "true", checkInsecure},
	{"COMPRESSION", "gzip", checkCompression},
	{"TIMEOUT", "5000", checkMilliseconds},
}

// otlpValue returns the value that applies to traces and the name of its variable, or two empty strings.
func otlpValue(env map[string]string, suffix string) (name, value string) {
	for _, prefix := range otlpPrefixes {
		text := strings.TrimSpace(env[prefix+suffix])
		if text != "" {
			name = prefix + suffix
			value = text
		}
	}
	return name, value
}

// otlpNames returns the names of all variables that the trace exporter may use.
func otlpNames() []string {
	var names []string
	for _, prefix := range otlpPrefixes {
		names = append(names, prefix+"PROTOCOL")
		for _, c := range otlpChecks {
			names = append(names, prefix+c.suffix)
		}
	}
	return names
}

// isTraceExporterOption reports whether the trace exporter uses the variable. It speaks only the protocols over HTTP.
func isTraceExporterOption(name, value string) bool {
	isProtocol := strings.HasSuffix(name, "_PROTOCOL")
	if isProtocol && value != "http/protobuf" && value != "http/json" {
		return false
	}
	return slices.Contains(otlpNames(), name)
}

// hasEndpoint reports whether a collector is named.
func hasEndpoint(env map[string]string) bool {
	name, _ := otlpValue(env, "ENDPOINT")
	return name != ""
}

// readOTLP checks all variables of the exporter, and returns what the program itself needs of them.
func readOTLP(env map[string]string) (otlpSettings, []error) {
	var problems []error
	for _, c := range otlpChecks {
		for _, prefix := range otlpPrefixes {
			name := prefix + c.suffix
			value := strings.TrimSpace(env[name])
			if value == "" {
				continue
			}
			if err := c.check(value); err != nil {
				problem := fmt.Errorf(
					"%s is %w; for example %s=%s",
					name, err, name, c.example)
				problems = append(problems, problem)
			}
		}
	}
	if len(problems) > 0 {
		return otlpSettings{}, problems
	}

	cfg := otlpSettings{
		url:     tracesURL(env),
		timeout: defaultOTLPTimeout,
	}
	if _, text := otlpValue(env, "TIMEOUT"); text != "" {
		ms, _ := strconv.Atoi(text) // checkMilliseconds has accepted it
		cfg.timeout = time.Duration(ms) * time.Millisecond
	}
	return cfg, cfg.readTLS(env)
}

// tracesURL returns where traces are sent. The endpoint for all signals is a base URL, the one for traces is complete.
func tracesURL(env map[string]string) string {
	name, endpoint := otlpValue(env, "ENDPOINT")
	if name == otlpTraces+"ENDPOINT" {
		return endpoint
	}
	base := cmp.Or(endpoint, defaultOTLPEndpoint)
	u, err := url.Parse(base)
	if err != nil { // checkEndpoint has accepted it
		return base
	}
	return u.JoinPath("v1/traces").String()
}

// checkEncryption refuses settings that ask for encryption, but would send the headers in plain text, and with them a
// token. It also refuses half of a client certificate.
func (c *otlpSettings) checkEncryption(env map[string]string) []error {
	insecureName, insecure := otlpValue(env, "INSECURE")
	rootsName, _ := otlpValue(env, "CERTIFICATE")
	certName, _ := otlpValue(env, "CLIENT_CERTIFICATE")
	keyName, _ := otlpValue(env, "CLIENT_KEY")

	endpoint := strings.ToLower(c.url)
	isPlaintext := strings.HasPrefix(endpoint, "http:")

	var problems []error
	add := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(format, args...))
	}
	if strings.EqualFold(insecure, "true") && !isPlaintext {
		add("%s=true would send spans and headers "+
			"to an https endpoint in plain text; "+
			"leave it out, or name an http endpoint",
			insecureName)
	}
	encrypted := cmp.Or(rootsName, certName, keyName)
	if encrypted != "" && isPlaintext {
		add("%s needs an https endpoint; for example "+
			"OTEL_EXPORTER_OTLP_ENDPOINT=https://collector:4318",
			encrypted)
	}
	if (certName == "") != (keyName == "") {
		add("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and " +
			"OTEL_EXPORTER_OTLP_CLIENT_KEY must be set together")
	}
	return problems
}

// readTLS checks the settings of the encryption, and reads the certificates.
func (c *otlpSettings) readTLS(env map[string]string) []error {
	rootsName, roots := otlpValue(env, "CERTIFICATE")
	certName, cert := otlpValue(env, "CLIENT_CERTIFICATE")
	keyName, key := otlpValue(env, "CLIENT_KEY")

	problems := c.checkEncryption(env)
	if len(problems) > 0 || roots == "" && cert == "" {
		return problems
	}

	c.tls = new(tls.Config)
	if roots != "" {
		pool, err := readCertificates(roots)
		if err != nil {
			problems = append(problems,
				fmt.Errorf("%s is %w", rootsName, err))
		}
		c.tls.RootCAs = pool
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			problem := fmt.Errorf(
				"%s and %s are not a certificate "+
					"and its private key in PEM",
				certName, keyName)
			problems = append(problems, problem)
		}
		c.tls.Certificates = []tls.Certificate{pair}
	}
	return problems
}

// checkEndpoint refuses a user in the URL, because the exporter drops it silently.
func checkEndpoint(value string) error {
	u, err := url.Parse(value)
	if err != nil || !isWebURL(u) {
		return errors.New("not a URL http://HOST:PORT " +
			"or https://HOST:PORT")
	}
	if u.User != nil {
		return errors.New("a URL with a user: " +
			"the exporter would not send it, " +
			"so use OTEL_EXPORTER_OTLP_HEADERS")
	}
	return nil
}

// checkHeaders checks a list KEY=VALUE,KEY=VALUE with percent-encoded values.
func checkHeaders(value string) error {
	for pair := range strings.SplitSeq(value, ",") {
		if !isHeaderPair(pair) {
			return errors.New("not a list of headers KEY=VALUE " +
				"with commas between them " +
				"and percent-encoded values")
		}
	}
	return nil
}

// isHeaderPair reports whether pair is KEY=VALUE, with characters that a header can carry.
func isHeaderPair(pair string) bool {
	name, encoded, found := strings.Cut(pair, "=")
	if !found || !isHeaderName(strings.TrimSpace(name)) {
		return false
	}
	value, err := url.PathUnescape(encoded)
	return err == nil && !strings.ContainsFunc(value, isControl)
}

// isHeaderName reports whether s is a token of RFC 9110, 5.6.2.
func isHeaderName(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyz" +
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ" +
		"0123456789!#$%&'*+-.^_`|~"
	isForbidden := func(r rune) bool {
		return !strings.ContainsRune(allowed, r)
	}
	return s != "" && !strings.ContainsFunc(s, isForbidden)
}

// isControl reports whether r is a control character, which a header cannot carry.
func isControl(r rune) bool {
	return r < ' ' && r != '\t' || r == 0x7f
}

// checkReadable checks one file of a pair. readTLS reads the pair.
func checkReadable(value string) error {
	_, err := os.ReadFile(value) //nolint:gosec // the operator names the file
	if err != nil {
		return errors.New("not a file that can be read")
	}
	return nil
}

// checkCertificate reads the file, so that a missing certificate stops the start and not the first export.
func checkCertificate(value string) error {
	_, err := readCertificates(value)
	return err
}

// readCertificates reads a file of certificates in PEM.
func readCertificates(name string) (*x509.CertPool, error) {
	text, err := os.ReadFile(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, errors.New("not a file that can be read")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("not a file with a certificate in PEM")
	}
	return pool, nil
}

// checkInsecure ignores case, as the exporter does. The exporter would take any other word for false.
func checkInsecure(value string) error {
	_, err := parseBool(value)
	return err
}

func checkCompression(value string) error {
	if value != "gzip" && value != "none" {
		return errors.New("not gzip or none")
	}
	return nil
}

func checkMilliseconds(value string) error {
	ms, err := strconv.Atoi(value)
	if err != nil || ms < 1 || ms > 60_000 {
		return errors.New("not a number of milliseconds from 1 to 60000")
	}
	return nil
}

// parseAttributes parses OTEL_RESOURCE_ATTRIBUTES: a list KEY=VALUE,KEY=VALUE with percent-encoded values. If a key is
// repeated, its last value counts.
func parseAttributes(value string) (map[string]string, error) {
	attributes := make(map[string]string)
	for _, pair := range splitList(value) {
		name, text, found := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		text, err := url.PathUnescape(strings.TrimSpace(text))
		if !found || err != nil || name == "" {
			return nil, errors.New("not a list KEY=VALUE " +
				"with commas between the pairs " +
				"and percent-encoded values")
		}
		attributes[name] = text
	}
	return attributes, nil
}
