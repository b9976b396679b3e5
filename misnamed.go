package main

// Names that are nearly those of settings: environment variables that nobody reads, and flags.

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// otherNames are names that other programs use for a setting, as plainName writes them.
var otherNames = map[string]string{
	"PORT":                 "ADDR",
	"HTTPPORT":             "ADDR",
	"SERVERPORT":           "ADDR",
	"LISTEN":               "ADDR",
	"LISTENADDR":           "ADDR",
	"LISTENADDRESS":        "ADDR",
	"BINDADDR":             "ADDR",
	"BINDADDRESS":          "ADDR",
	"HTTPADDR":             "ADDR",
	"ADDRESS":              "ADDR",
	"ADMINADDRESS":         "ADMIN_ADDR",
	"ADMINPORT":            "ADMIN_ADDR",
	"DBURL":                "DATABASE_URL",
	"DATABASEDSN":          "DATABASE_URL",
	"POSTGRESURL":          "DATABASE_URL",
	"POSTGRESQLURL":        "DATABASE_URL",
	"DBMAXCONNECTIONS":     "DB_MAX_CONNS",
	"DOCS":                 "DOCS_DIR",
	"DOCSFOLDER":           "DOCS_DIR",
	"DOCSPATH":             "DOCS_DIR",
	"DOCSROOT":             "DOCS_DIR",
	"DOCUMENTDIR":          "DOCS_DIR",
	"DOCUMENTSDIR":         "DOCS_DIR",
	"DOCSINTERVAL":         "DOCS_SYNC_INTERVAL",
	"SYNCINTERVAL":         "DOCS_SYNC_INTERVAL",
	"ADMINPASSWORD":        "ADMIN_TOKEN",
	"CORSORIGINS":          "ALLOWED_ORIGINS",
	"CORSALLOWEDORIGINS":   "ALLOWED_ORIGINS",
	"RATELIMITRPS":         "RATE_LIMIT",
	"PROFILING":            "ENABLE_PROFILING",
	"PPROF":                "ENABLE_PROFILING",
	"ENABLEPPROF":          "ENABLE_PROFILING",
	"SAMPLERATE":           "OTEL_TRACE_SAMPLE_RATE",
	"TRACESAMPLERATE":      "OTEL_TRACE_SAMPLE_RATE",
	"LOGFMT":               "LOG_FORMAT",
	"SLOWREQUESTTHRESHOLD": "SLOW_REQUEST",
}

// minFuzzyLength is the length from which a name with one wrong letter is taken for a setting.
const minFuzzyLength = 6

// misnamedVariables returns a hint for each variable in env that looks like a setting but is none, sorted by name. If
// the setting itself is set too, the variable belongs to another program.
func misnamedVariables(env map[string]string) []string {
	var hints []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if findVariable(name) != nil || isForeign(name, env[name]) {
			continue
		}

		meant := settingNamed(name)
		isOurs := strings.HasPrefix(name, "VITRINE_")
		switch {
		case meant != "" && (isOurs || env[meant] == ""):
			hints = append(hints, fmt.Sprintf("%s is not a setting: did you mean %s?", name, meant))
		case meant == "" && isOurs:
			hints = append(hints, fmt.Sprintf("%s is not a setting: vitrine -h lists them", name))
		}
	}
	return hints
}

// isForeign reports whether a variable comes from somewhere else: the addresses that Kubernetes sets for a Service named
// vitrine, and the databases of the tests.
func isForeign(name, value string) bool {
	return strings.HasPrefix(name, "VITRINE_SERVICE_") ||
		strings.HasPrefix(name, "VITRINE_PORT_") ||
		strings.HasPrefix(name, "VITRINE_TEST_") ||
		strings.HasPrefix(value, "tcp://")
}

// settingNamed returns the setting that name stands for: the same letters, another program's word for it, or one letter
// wrong. It returns "" if there is none.
func settingNamed(name string) string {
	plain := plainName(name)
	for _, v := range variables(new(settings)) {
		if plainName(v.name) == plain {
			return v.name
		}
	}
	if other := otherNames[plain]; other != "" {
		return other
	}

	for _, v := range variables(new(settings)) {
		if len(plain) >= minFuzzyLength && isOneEditAway(plain, plainName(v.name)) {
			return v.name
		}
	}
	return ""
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

// plainName returns a name in capital letters, without separators and without the program's name in front.
func plainName(name string) string {
	name = strings.ToUpper(name)
	name = strings.NewReplacer("_", "", "-", "", ".", "").Replace(name)
	return strings.TrimPrefix(name, "VITRINE")
}

// isOneEditAway reports whether a becomes b if one letter is added, removed or replaced, or if two neighbours are
// swapped.
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
