package main

// Names that are nearly those of settings: environment variables that nobody reads, and flags. A name is compared with
// the settings, then with otherNames, and last with one wrong letter. The first match is what was meant.

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// otherNames are names that other programs use for a setting, as plainName writes them. A name with one wrong letter in
// the setting's own name needs no line here.
var otherNames = map[string]string{ //nolint:gosec // names of tokens, no tokens
	"PORT":          "ADDR",
	"HTTPPORT":      "ADDR",
	"SERVERPORT":    "ADDR",
	"LISTEN":        "ADDR",
	"LISTENADDR":    "ADDR",
	"LISTENADDRESS": "ADDR",
	"HOST":          "ADDR",
	"BIND":          "ADDR",
	"BINDADDR":      "ADDR",
	"BINDADDRESS":   "ADDR",
	"HTTPADDR":      "ADDR",
	"ADDRESS":       "ADDR",

	"ADMINADDRESS": "ADMIN_ADDR",
	"ADMINPORT":    "ADMIN_ADDR",
	"ADMINLISTEN":  "ADMIN_ADDR",
	"METRICSADDR":  "ADMIN_ADDR",
	"METRICSPORT":  "ADMIN_ADDR",

	"DBURL":         "DATABASE_URL",
	"DBDSN":         "DATABASE_URL",
	"DATABASEDSN":   "DATABASE_URL",
	"PGURL":         "DATABASE_URL",
	"POSTGRESDSN":   "DATABASE_URL",
	"POSTGRESURI":   "DATABASE_URL",
	"POSTGRESURL":   "DATABASE_URL",
	"POSTGRESQLURL": "DATABASE_URL",

	"DBMAXCONNECTIONS": "DB_MAX_CONNS",

	"DOCS":          "DOCS_DIR",
	"DOCSDIRECTORY": "DOCS_DIR",
	"DOCSFOLDER":    "DOCS_DIR",
	"DOCSFOLDERS":   "DOCS_DIR",
	"DOCSPATH":      "DOCS_DIR",
	"DOCSROOT":      "DOCS_DIR",
	"DOCUMENTDIR":   "DOCS_DIR",
	"DOCUMENTSDIR":  "DOCS_DIR",

	"DOCSINTERVAL": "DOCS_SYNC_INTERVAL",
	"SYNCINTERVAL": "DOCS_SYNC_INTERVAL",

	"EMBEDURL": "EMBEDDING_URL",

	"EMBEDMODEL": "EMBEDDING_MODEL",

	"EMBEDDINGKEY":   "EMBEDDING_API_KEY",
	"EMBEDDINGTOKEN": "EMBEDDING_API_KEY",

	"ADMINPASSWORD": "ADMIN_TOKEN",

	"CORSORIGINS":        "ALLOWED_ORIGINS",
	"CORSALLOWEDORIGINS": "ALLOWED_ORIGINS",

	"TRUSTEDPROXY": "TRUSTED_PROXIES",

	"RATELIMITRPS": "RATE_LIMIT",

	"PROFILING":   "ENABLE_PROFILING",
	"PPROF":       "ENABLE_PROFILING",
	"ENABLEPPROF": "ENABLE_PROFILING",

	"SAMPLERATE":      "OTEL_TRACE_SAMPLE_RATE",
	"TRACESAMPLERATE": "OTEL_TRACE_SAMPLE_RATE",
	"OTELSAMPLERATE":  "OTEL_TRACE_SAMPLE_RATE",

	"OTELENDPOINT": "OTEL_EXPORTER_OTLP_ENDPOINT",
	"OTLPENDPOINT": "OTEL_EXPORTER_OTLP_ENDPOINT",

	"LOGFMT": "LOG_FORMAT",

	"LOGLVL":       "LOG_LEVEL",
	"LOGGINGLEVEL": "LOG_LEVEL",

	"SLOWREQUESTTHRESHOLD": "SLOW_REQUEST",
}

// minFuzzyLength is the length from which a name with one wrong letter is taken for a setting. A shorter name is one edit
// away from too much.
const minFuzzyLength = 4

// misnamedVariables returns a hint for each variable in env that looks like a setting but is none, sorted by name. If
// the setting itself is set too, the variable belongs to another program.
func misnamedVariables(env map[string]string) []string {
	known := settingNames()
	var hints []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if slices.Contains(known, name) || isForeign(name, env[name]) {
			continue
		}

		meant := settingNamed(known, name)
		isOurs := strings.HasPrefix(name, "VITRINE_")
		switch {
		case meant != "" && (isOurs || env[meant] == ""):
			hints = append(hints, fmt.Sprintf(
				"%s is not a setting: did you mean %s?", name, meant))
		case meant == "" && isOurs:
			hints = append(hints, fmt.Sprintf(
				"%s is not a setting: vitrine -h lists them", name))
		}
	}
	return hints
}

// isForeign reports whether a variable comes from somewhere else: the addresses that Kubernetes sets for a Service named
// vitrine, the databases of the tests, and HOST, where shells and Conda keep other names.
func isForeign(name, value string) bool {
	_, notIP := netip.ParseAddr(value)
	isAddress := notIP == nil || value == "localhost"
	return name == "HOST" && !isAddress ||
		strings.HasPrefix(name, "VITRINE_SERVICE_") ||
		strings.HasPrefix(name, "VITRINE_PORT_") ||
		strings.HasPrefix(name, "VITRINE_TEST_") ||
		strings.HasPrefix(value, "tcp://")
}

// settingNamed returns the setting among known that name stands for: one with the same letters, one that other programs
// call so, or one that differs in a letter. It returns "" if there is none.
func settingNamed(known []string, name string) string {
	plain := plainName(name)
	for _, setting := range known {
		if plainName(setting) == plain {
			return setting
		}
	}

	if other := otherNames[plain]; other != "" {
		return other
	}

	for _, setting := range known {
		isLong := len(plain) >= minFuzzyLength
		if isLong && isOneEditAway(plain, plainName(setting)) {
			return setting
		}
	}
	return ""
}

// settingNames returns the names of all settings, and of the trace exporter's variables.
func settingNames() []string {
	var names []string
	for _, v := range variables(new(settings)) {
		names = append(names, v.name)
	}
	return append(names, otlpNames()...)
}

// findVariable returns the setting with exactly this name, or nil.
func findVariable(name string) *variable {
	for _, v := range variables(new(settings)) {
		if v.name == name {
			return &v
		}
	}
	return nil
}

var nameSeparators = strings.NewReplacer("_", "", "-", "", ".", "")

// plainName returns a name in capital letters, without separators and without the program's name in front.
func plainName(name string) string {
	name = strings.ToUpper(name)
	name = nameSeparators.Replace(name)
	return strings.TrimPrefix(name, "VITRINE")
}

// isOneEditAway reports whether a becomes b if one letter is added, removed or replaced, or if two neighbours are
// swapped. Equal texts are not one edit away. For the words of documents, see speller.
func isOneEditAway(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}

	same := 0
	for same < len(a) && a[same] == b[same] {
		same++
	}
	restA, restB := a[same:], b[same:]
	switch {
	case len(b) == len(a)+1:
		return restA == restB[1:]
	case len(b) != len(a) || restA == "":
		return false
	case restA[1:] == restB[1:]:
		return true
	}
	isSwap := len(restA) > 1 && restA[0] == restB[1] && restA[1] == restB[0]
	return isSwap && restA[2:] == restB[2:]
}
