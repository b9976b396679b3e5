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
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// errUsage is wrapped by errors in the settings or arguments. The program then exits with code 2.
var errUsage = errors.New("vitrine -h prints the manual")

// readSettings parses the environment. Its error wraps errUsage and lists all problems, one per line.
func readSettings(env map[string]string) (*settings, error) {
	var cfg settings
	problems := cfg.parse(env)
	problems = append(problems, cfg.conflicts()...)
	if cfg.databaseURL != "" && env["PQGO_DEBUG"] == "1" {
		problems = append(problems, errors.New("PQGO_DEBUG=1 makes the database driver "+
			"print passwords and documents; unset it"))
	}
	otlp, otlpProblems := readOTLP(env)
	cfg.otlp = otlp
	problems = append(problems, otlpProblems...)

	if len(problems) > 0 {
		// A misspelt setting may be the cause.
		for _, hint := range misnamedVariables(env) {
			problems = append(problems, errors.New(hint))
		}
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

		err := errQuoted
		if !isQuoted(value) {
			err = v.set(value)
		}
		if err != nil {
			problems = append(problems, v.problem(value, err))
		}
	}
	return problems
}

var errQuoted = errors.New("in quotes, which are part of the value here: leave them out")

// isQuoted reports whether a value is in quotes. Docker's --env-file, for example, keeps them.
func isQuoted(value string) bool {
	last := len(value) - 1
	if last < 1 {
		return false
	}
	isQuote := value[0] == '"' || value[0] == '\''
	return isQuote && value[last] == value[0]
}

// problem returns the error for an invalid value. The error shows an example, and the value unless it is secret. Parsers of
// secrets never quote the value. Other parsers may, so their errors are redacted too: people put credentials everywhere.
func (v variable) problem(value string, err error) error {
	shown := "(secret)"
	reason := err.Error()
	if !v.secret {
		shown = redact(value)
		reason = redact(reason)
	}

	example := cmp.Or(v.example, v.defaultValue)
	if v.isSwitch() {
		example = "true" // the default is false
	}
	return fmt.Errorf("%s=%q: %s; for example %s=%s",
		v.name, shown, reason, v.name, example)
}

// conflicts returns an error for each setting without the one that it needs.
func (c *settings) conflicts() []error {
	var problems []error
	add := func(problem string) {
		problems = append(problems, errors.New(problem))
	}

	if (c.embeddingURL == "") != (c.embeddingModel == "") {
		add("EMBEDDING_URL and EMBEDDING_MODEL must be set together; " +
			"for example EMBEDDING_MODEL=nomic-embed-text")
	}
	if c.apiToken != "" && c.apiToken == c.adminToken {
		add("API_TOKEN and ADMIN_TOKEN are the same, so whoever may search may also write; " +
			"for example ADMIN_TOKEN=$(openssl rand -hex 24)")
	}
	if overlap(c.addr, c.adminAddr) {
		add(fmt.Sprintf("ADMIN_ADDR=%s and ADDR=%s have the same port; "+
			"for example ADMIN_ADDR=127.0.0.1:9090",
			c.adminAddr, c.addr))
	}
	if c.profiling && c.adminToken == "" {
		add("ENABLE_PROFILING=true needs ADMIN_TOKEN; " +
			"for example ADMIN_TOKEN=a-long-random-text")
	}
	return problems
}

// checkFolders returns an error for each folder of DOCS_DIR that cannot be served. With DOCS_WAIT it may come later.
func (c *settings) checkFolders() error {
	var problems []error
	for _, root := range c.docsDirs {
		info, err := os.Stat(root.dir)
		var problem string
		switch {
		case err == nil && !info.IsDir():
			parent := shellQuote(filepath.Dir(root.dir))
			problem = "not a folder; for example DOCS_DIR=" + parent
		case err == nil || c.docsWait:
			continue
		case errors.Is(err, os.ErrNotExist):
			problem = "no such folder; " + missingFolderAdvice(root.dir)
		default:
			problem = err.Error()
		}
		problems = append(problems, fmt.Errorf("DOCS_DIR=%q: %s", root.dir, problem))
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w\n%w", errors.Join(problems...), errUsage)
}

// missingFolderAdvice says what to do about a folder that does not exist.
func missingFolderAdvice(dir string) string {
	_, err := os.Stat(strings.TrimSpace(dir))
	switch {
	case err == nil:
		return "leave out the spaces around it"
	case strings.HasPrefix(dir, "~") || strings.Contains(dir, "$"):
		return "write the whole path: only a shell replaces ~ and $NAME"
	case strings.Contains(dir, "://"):
		return "name a folder of this machine, for example a clone of that repository"
	case strings.Contains(dir, ","):
		return "several folders need names, for example DOCS_DIR=api=./api,guide=./guide"
	}
	return "create it, or set DOCS_WAIT=true to wait for it"
}

// title returns what people call the documents, for the page and for messages.
func (c *settings) title() string { return cmp.Or(c.docsTitle, "Vitrine") }

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
	if c.maxConnections == 0 {
		c.maxConnections = defaultMaxConnections()
	}

	// Load balancers send requests until they have noticed that /readyz fails.
	if !isLoopback(c.addr) && env["DRAIN_DELAY"] == "" {
		c.drainDelay = time.Second
	}

	// On a loopback address, only loopback names are allowed, because an attacker's page can rebind its own name to that
	// address. On other addresses all names are allowed, because the server does not know its names.
	if len(c.allowedHosts) == 0 {
		c.allowedHosts = []string{"*"}
		if isLoopback(c.addr) {
			c.allowedHosts = []string{
				"localhost",
				"127.0.0.1",
				"::1",
				hostname(c.addr),
			}
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
		log.Warn("searching and reading are open to whoever reaches this address: "+
			"set API_TOKEN to close them",
			"addr", cfg.addr)
	}
	for _, name := range cfg.shortTokens() {
		log.Warn("a token is short enough to be guessed: make one with openssl rand -hex 24",
			"setting", name)
	}
	if !cfg.observability {
		log.Warn("OBSERVABILITY is off: requests are neither logged nor measured nor traced")
	}
	for _, hint := range misnamedVariables(env) {
		log.Warn("unknown setting", "hint", hint)
	}
	ignored := ignoredVariables(env)
	if len(ignored) > 0 {
		log.Warn("these variables are not honoured", "variables", ignored)
	}
}

// minTokenLength is the length below which a token is easy to guess.
const minTokenLength = 16

// shortTokens returns the settings whose tokens are short, if other machines can reach the server and try to guess them.
func (c *settings) shortTokens() []string {
	isAdminLocal := c.adminAddr == "" || isLoopback(c.adminAddr)
	if isLoopback(c.addr) && isAdminLocal {
		return nil
	}

	var short []string
	if c.apiToken != "" && len(c.apiToken) < minTokenLength {
		short = append(short, "API_TOKEN")
	}
	if c.adminToken != "" && len(c.adminToken) < minTokenLength {
		short = append(short, "ADMIN_TOKEN")
	}
	return short
}

// logsText reports whether the log is for people.
func (c *settings) logsText() bool {
	return c.logFormat == "text" || c.greets()
}

// greets reports whether the program greets people on a terminal.
func (c *settings) greets() bool {
	return c.onTerminal && c.logFormat != "json"
}

// ignoredVariables returns the OTEL_ variables in env that have no effect, sorted.
func ignoredVariables(env map[string]string) []string {
	var ignored []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, "OTEL_") {
			continue
		}
		isUsed := findVariable(name) != nil ||
			isTraceExporterOption(name, env[name])
		if !isUsed {
			ignored = append(ignored, name)
		}
	}
	return ignored
}

// changedSettings returns, for the log, the variables whose values differ from the default. Secrets and credentials in URLs
// are redacted.
func changedSettings(env map[string]string) []slog.Attr {
	var attrs []slog.Attr
	for _, v := range variables(new(settings)) {
		value := redact(env[v.name])
		if value == "" || value == v.defaultValue {
			continue
		}
		if v.secret {
			value = "(set)"
		}
		attrs = append(attrs, slog.String(v.name, value))
	}
	return attrs
}

// databaseSystem returns what the semantic conventions call the store's system.
func (c *settings) databaseSystem() string {
	if c.databaseURL == "" {
		return "vitrine"
	}
	return "postgresql"
}

// embeddingProvider returns what the semantic conventions call the embedder's provider: the one whose API it speaks.
func (c *settings) embeddingProvider() string {
	if c.embeddingURL == "" {
		return "vitrine"
	}
	return "openai"
}
