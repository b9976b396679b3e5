package main

// Reading the settings from the environment. readSettings checks all values and reports all problems at once.
// warnAboutSettings logs valid values that may be a mistake.

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
)

// errUsage is wrapped by errors in the settings or arguments. The program then exits with code 2.
var errUsage = errors.New("vitrine -h prints the manual")

// readSettings parses the environment. Its error wraps errUsage and lists all problems, one per line.
func readSettings(env map[string]string) (*settings, error) {
	var cfg settings
	problems := cfg.parse(env)
	problems = append(problems, cfg.conflicts()...)
	otlp, otlpProblems := readOTLP(env)
	cfg.otlp = otlp
	problems = append(problems, otlpProblems...)
	if len(problems) > 0 {
		return nil, fmt.Errorf("%w\n%w", errors.Join(problems...), errUsage)
	}

	cfg.setDependentDefaults(env)
	return &cfg, nil
}

// parse sets each field from its variable or default. It returns an error for each invalid value.
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

// problem returns the error for an invalid value. The error shows an example, and the value unless it is secret.
func (v variable) problem(value string, err error) error {
	shown := redact(value)
	if v.secret {
		shown = "(secret)"
	}
	example := cmp.Or(v.example, v.defaultValue)
	return fmt.Errorf("%s=%q: %w; for example %s=%s", v.name, shown, err, v.name, example)
}

// conflicts returns an error for each setting without the one that it needs.
func (c *settings) conflicts() []error {
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
	return problems
}

// checkFolders returns an error for each folder of DOCS_DIR that is missing, unless DOCS_WAIT is set.
func (c *settings) checkFolders() error {
	var problems []error
	for _, root := range c.docsDirs {
		info, err := os.Stat(root.dir)
		switch {
		case errors.Is(err, os.ErrNotExist) && !c.docsWait:
			problems = append(problems, fmt.Errorf("DOCS_DIR=%q: no such folder; "+
				"create it, or set DOCS_WAIT=true to wait for it", root.dir))
		case err == nil && !info.IsDir():
			problems = append(problems, fmt.Errorf("DOCS_DIR=%q: not a folder", root.dir))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w\n%w", errors.Join(problems...), errUsage)
}

// setDependentDefaults sets defaults that depend on other settings.
func (c *settings) setDependentDefaults(env map[string]string) {
	if c.embeddingURL != "" && env["VECTOR_WEIGHT"] == "" {
		c.vectorWeight = 1
	}

	if c.tracesExporter == "" {
		c.tracesExporter = "none"
		if hasEndpoint(env) {
			c.tracesExporter = "otlp"
		}
	}
	c.setResource(env)

	// On a loopback address, only loopback names are allowed, because an attacker's page can rebind its own name to that
	// address. On other addresses all names are allowed, because the server does not know its names.
	if len(c.allowedHosts) == 0 {
		c.allowedHosts = []string{"*"}
		if isLoopback(c.addr) {
			c.allowedHosts = []string{"localhost", "127.0.0.1", "::1", hostname(c.addr)}
		}
	}
}

// setResource names the service as OpenTelemetry does: a variable of its own comes first, then
// OTEL_RESOURCE_ATTRIBUTES, then the default.
func (c *settings) setResource(env map[string]string) {
	c.serviceVersion = cmp.Or(c.resource["service.version"], version())
	if env["OTEL_SERVICE_NAME"] == "" {
		c.serviceName = cmp.Or(c.resource["service.name"], c.serviceName)
	}
	if env["ENVIRONMENT"] == "" {
		c.environment = cmp.Or(c.resource["deployment.environment.name"], c.environment)
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

// ignoredVariables returns the OTEL_ variables in env that have no effect, sorted.
func ignoredVariables(env map[string]string) []string {
	hasEffect := make(map[string]bool)
	for _, v := range variables(new(settings)) {
		hasEffect[v.name] = true
	}

	var ignored []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.HasPrefix(name, "OTEL_") && !hasEffect[name] && !isTraceExporterOption(name, env[name]) {
			ignored = append(ignored, name)
		}
	}
	return ignored
}

// effectiveSettings returns each variable's value or default for the log. Secrets and credentials in URLs are redacted.
func effectiveSettings(env map[string]string) slog.Value {
	var attrs []slog.Attr
	for _, v := range variables(new(settings)) {
		value := redact(cmp.Or(env[v.name], v.defaultValue))
		if v.secret && value != "" {
			value = "(set)"
		}
		attrs = append(attrs, slog.String(v.name, value))
	}
	return slog.GroupValue(attrs...)
}
