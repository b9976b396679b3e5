package main

// The settings: what is refused, what is shown, and that the table's own values pass.

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestSettingsReportAllProblemsAtOnce(t *testing.T) {
	env := map[string]string{
		"ADDR":               "nowhere",
		"DOCS_SYNC_INTERVAL": "1",
		"VECTOR_WEIGHT":      "NaN",
		"ADMIN_TOKEN":        "sec ret",
		"LOG_LEVEL":          "loud",
		"ALLOWED_ORIGINS":    "app.example.com",
		"TRUSTED_PROXIES":    "10.0.0.1",
		"RATE_LIMIT":         "-1",
		"DRAIN_DELAY":        "-1s",
	}
	_, err := readSettings(env)
	if err == nil {
		t.Fatal("nothing is wrong")
	}

	for name, value := range env {
		if name == "ADMIN_TOKEN" {
			value = "(secret)"
		}
		for _, want := range []string{
			fmt.Sprintf("%s=%q: ", name, value),
			"for example " + name + "=",
		} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("no %s in:\n%v", want, err)
			}
		}
	}
	if strings.Contains(err.Error(), "sec ret") {
		t.Error("the error shows the token")
	}
}

func TestExamplesAndDefaultsAreValid(t *testing.T) {
	for _, v := range variables(new(settings)) {
		for _, value := range []string{v.defaultValue, v.example} {
			if value == "" {
				continue
			}
			if err := v.set(value); err != nil {
				t.Errorf("%s=%s: %v", v.name, value, err)
			}
		}
	}
}

// TestEverySettingHasADefaultOrAnExample fails for a row whose error message would end in "for example NAME=".
func TestEverySettingHasADefaultOrAnExample(t *testing.T) {
	for _, v := range variables(new(settings)) {
		if (v.defaultValue == "") == (v.example == "") {
			t.Errorf("%s: default %q, example %q: want one of them", v.name, v.defaultValue, v.example)
		}
	}
}

func TestDefaultsThatDependOnOtherSettings(t *testing.T) {
	for _, test := range []struct {
		name string
		env  []string
		want string // vector weight, traces exporter, allowed hosts
	}{
		{"nothing set", nil, "0.5 none [localhost 127.0.0.1 ::1 127.0.0.1]"},
		{"beyond loopback", []string{"ADDR=:8080"}, "0.5 none [*]"},
		{"an embedding API", []string{"EMBEDDING_URL=http://h/v1", "EMBEDDING_MODEL=m"}, "1 none [localhost 127.0.0.1 ::1 127.0.0.1]"},
		{"a collector", []string{"ADDR=:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://h:4318"}, "0.5 otlp [*]"},
		{"all explicit", []string{
			"EMBEDDING_URL=http://h/v1",
			"EMBEDDING_MODEL=m",
			"VECTOR_WEIGHT=0.2",
			"OTEL_EXPORTER_OTLP_ENDPOINT=http://h:4318",
			"OTEL_TRACES_EXPORTER=console",
			"ALLOWED_HOSTS=Docs.example.com, b",
		}, "0.2 console [docs.example.com b]"},
	} {
		cfg := testSettings(t, test.env...)
		got := fmt.Sprint(cfg.vectorWeight, " ", cfg.tracesExporter, " ", cfg.allowedHosts)
		if got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

func TestCredentialsInURLsAreRedacted(t *testing.T) {
	for value, want := range map[string]string{
		"http://u:SECRET@h/v1":    "http://(redacted)@h/v1",
		"https://h/v1?key=SECRET": "https://(redacted)@h/v1",
		"https://h/v1#SECRET":     "https://(redacted)@h/v1",
		"http://h/v1":             "http://h/v1",
		"./docs":                  "./docs",
		"/srv/docs@2":             "/srv/docs@2",
		"guide=/srv/a,api=/b":     "guide=/srv/a,api=/b",
		"draft?.md":               "draft?.md",
		"ask me@example.com":      "ask me@example.com",

		"http://u:SECRET@h:port/v1":             "http://(redacted)@h:port/v1",
		"http://u:p%SECRET@h/v1":                "http://(redacted)@h/v1",
		"http://u:p/SECRET@h/v1":                "http://(redacted)@h/v1",
		"http://u:p#SECRET@h/v1?key=SECRET":     "http://(redacted)@h/v1",
		"http://u:p?SECRET@h/v1":                "http://(redacted)@h/v1",
		"http://u:p@SECRET@h/v1":                "http://(redacted)@h/v1",
		"http://u:two SECRET@h/v1":              "http://(redacted)@h/v1",
		"http://u:two\nSECRET@h/v1":             "http://(redacted)@h/v1",
		"u:SECRET@h:8080":                       "(redacted)@h:8080",
		`"http://u:SECRET@h" is not an origin`:  `"http://(redacted)@h" is not an origin`,
		"http://a,http://u:SECRET@b":            "http://(redacted)@b",
		"http://127.0.0.1:1/v1?a=SECRET%&b=%zz": "http://(redacted)@127.0.0.1:1/v1",
	} {
		if got := redact(value); got != want {
			t.Errorf("redact(%q) = %q, want %q", value, got, want)
		}
	}
}

// TestSecretsAreInNoStartUpError puts a secret where people put it by mistake, or breaks its URL. The settings are refused, or
// logged without it.
func TestSecretsAreInNoStartUpError(t *testing.T) {
	t.Parallel()
	const secret = "CANARY7f3a"
	for _, env := range []string{
		"DATABASE_URL=host=h port=1 user=u password=SECRET dbname=v sslmode=disable",
		"DATABASE_URL=postgres://u:p%SECRET@h/v?sslmode=disable",
		"DATABASE_URL=postgres://u:p#SECRET@h/v?sslmode=disable",
		"DATABASE_URL=postgres://u:p/SECRET@h/v?sslmode=disable",
		"DATABASE_URL=postgres://u:p?SECRET@h/v?sslmode=disable",
		"DATABASE_URL=postgres://u:two SECRET@h/v?sslmode=disable",
		"DATABASE_URL=postgres://u:SECRET@h:port/v?sslmode=disable",
		"DATABASE_URL=postgres://h/v?sslmode=disable&user=u&password=SECRET",
		"DATABASE_URL=postgres://u:SECRET@h/v",
		"DATABASE_URL=mysql://u:SECRET@h/v?sslmode=disable",
		"EMBEDDING_URL=http://u:SECRET@h/v1",
		"EMBEDDING_URL=http://u:p%SECRET@h/v1",
		"EMBEDDING_URL=http://u:p#SECRET@h/v1",
		"EMBEDDING_URL=http://u:p/SECRET@h/v1",
		"EMBEDDING_URL=http://u:two SECRET@h/v1",
		"EMBEDDING_URL=http://u:SECRET@h:port/v1",
		"EMBEDDING_URL=u:SECRET@h/v1",
		"EMBEDDING_URL=ftp://u:SECRET@h/v1",
		"EMBEDDING_URL=http://h/v1?key=SECRET",
		"EMBEDDING_URL=http://h/v1#SECRET",
		"EMBEDDING_API_KEY=two SECRET",
		"API_TOKEN=two SECRET",
		"OTEL_EXPORTER_OTLP_HEADERS=Authorization: Bearer SECRET",
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer SECRET%zz",
		"OTEL_EXPORTER_OTLP_HEADERS=two words=SECRET",
		"OTEL_EXPORTER_OTLP_HEADERS=a=b,SECRET",
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS=a=b%0d%0aSECRET",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://u:SECRET@h",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://u:p%SECRET@h",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://u:SECRET@h:port",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://u:two SECRET@h",
		"DOCS_URL=http://u:SECRET@h/",
		"DOCS_URL=http://u:p/SECRET@h/",
		"ALLOWED_ORIGINS=http://u:SECRET@h",
		"ALLOWED_ORIGINS=https://a.example.com,http://u:p%SECRET@h",
		"ALLOWED_HOSTS=u:SECRET@h",
		"TRUSTED_PROXIES=http://u:SECRET@h",
		"ADDR=u:SECRET@127.0.0.1:8080",
		"ADDR=http://u:SECRET@127.0.0.1:8080",
	} {
		name, value, _ := strings.Cut(strings.ReplaceAll(env, "SECRET", secret), "=")
		vars := map[string]string{name: value, "EMBEDDING_MODEL": "m"}
		shown := fmt.Sprint(changedSettings(vars))
		_, err := readSettings(vars)
		if err != nil {
			shown += err.Error()
		}
		if strings.Contains(strings.ToLower(shown), strings.ToLower(secret)) {
			t.Errorf("%s: %s", env, shown)
		}
	}
}

func TestDriverThatPrintsPasswordsIsRefused(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"PQGO_DEBUG": "1"}
	if _, err := readSettings(vars); err != nil {
		t.Errorf("without a database: %v", err)
	}
	vars["DATABASE_URL"] = "postgres://u@h/v?sslmode=disable"
	if _, err := readSettings(vars); err == nil || !strings.Contains(err.Error(), "PQGO_DEBUG=1 makes") {
		t.Errorf("with a database: %v", err)
	}
}

func TestPasswordFileIsRefused(t *testing.T) {
	t.Parallel()
	for _, parameter := range []string{"passfile=/etc/pgpass", "passfile=", "passfile"} {
		_, err := parseDatabaseURL("postgres://u@h/v?sslmode=disable&" + parameter)
		if err == nil || !strings.Contains(err.Error(), "put the password into the URL") {
			t.Errorf("%s: %v", parameter, err)
		}
	}
}

func TestSeveralFoldersAreNamed(t *testing.T) {
	for value, want := range map[string]string{
		"./docs":            "[{ ./docs}]",
		"/srv/a=b,c":        "[{ /srv/a=b,c}]",
		"./a=b":             "[{ ./a=b}]",
		"api=/x":            "[{api/ /x}]",
		"api=/x,guide=./y":  "[{api/ /x} {guide/ ./y}]",
		"api=/x, guide=y=z": "[{api/ /x} {guide/ y=z}]",
		"api=/x,/y":         "has no name",
		"api=/x,a/b=/y":     "has no name",
		"api=/x,.b=/y":      "has no name",
		"api=/x,api=/y":     "two folders have the name",
	} {
		roots, err := parseDocsDir(value)
		if got := fmt.Sprint(roots, err); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
	if _, err := readSettings(map[string]string{"DOCS_EXCLUDE": "ok,[a-"}); err == nil || !strings.Contains(err.Error(), "[a-") {
		t.Errorf("a bad pattern: %v", err)
	}
}

func TestSettingsThatContradictEachOtherAreRefused(t *testing.T) {
	for _, test := range []struct {
		env  string
		want string // empty: they are fine together
	}{
		{"API_TOKEN=one-and-the-same ADMIN_TOKEN=one-and-the-same", "API_TOKEN and ADMIN_TOKEN are the same"},
		{"API_TOKEN=one ADMIN_TOKEN=another", ""},
		{"ADDR=:8080 ADMIN_ADDR=:8080", "ADMIN_ADDR=:8080 and ADDR=:8080 have the same port"},
		{"ADDR=:8080 ADMIN_ADDR=127.0.0.1:8080", "have the same port"},
		{"ADDR=127.0.0.1:8080 ADMIN_ADDR=[::]:8080", "have the same port"},
		{"ADDR=0.0.0.0:8080 ADMIN_ADDR=10.0.0.1:8080", "have the same port"},
		{"ADDR=127.0.0.1:8080 ADMIN_ADDR=localhost:8080", "have the same port"},
		{"ADDR=10.0.0.1:8080 ADMIN_ADDR=127.0.0.1:8080", ""},
		{"ADDR=:8080 ADMIN_ADDR=127.0.0.1:9090", ""},
		{"ADDR=127.0.0.1:0 ADMIN_ADDR=127.0.0.1:0", ""},
		{"ENABLE_PROFILING=true", "ENABLE_PROFILING=true needs ADMIN_TOKEN"},
		{"ENABLE_PROFILING=true ADMIN_TOKN=secret", "ADMIN_TOKN is not a setting: did you mean ADMIN_TOKEN?"},
		{"EMBEDDING_URL=http://h", "must be set together"},
		{"LOG_FORMAT=xml", `LOG_FORMAT="xml": not auto, json or text`},
	} {
		_, err := readSettings(environment(strings.Fields(test.env)))
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.env, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %s", test.env, err, test.want)
		case err != nil && strings.Contains(err.Error(), "one-and-the-same"):
			t.Errorf("%s: the error shows the token: %v", test.env, err)
		}
	}
}

// TestWrongValuesAreExplained has one wrong value a row, so its error is the only problem.
func TestWrongValuesAreExplained(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"ADDR", "8080", `ADDR="8080": not an address HOST:PORT; for example ADDR=127.0.0.1:8080`},
		{"ADDR", "::1:8080", `brackets are missing, as in [::1]:8080`},
		{"ADDR", "http://127.0.0.1:8080", "not an address HOST:PORT"},
		{"ADDR", ":99999", "not an address HOST:PORT"},
		{"ADDR", " ", "not an address HOST:PORT"},
		{"ADDR", `"127.0.0.1:8080"`, "in quotes, which are part of the value here: leave them out"},
		{"DOCS_DIR", "'./docs'", "in quotes"},
		{"API_TOKEN", `"0123456789abcdef"`, `API_TOKEN="(secret)": in quotes`},
		{"API_TOKEN", "0123456789abcdef\n", `API_TOKEN="(secret)": with a space or a line break at an end: leave it out`},
		{"ADMIN_TOKEN", "Bearer 0123456789abcdef", "not printable ASCII without spaces"},
		{"RATE_LIMIT", "fast", "not a number from 0 to 1000000; for example RATE_LIMIT=50"},
		{"CHECK_MIN", "80%", "not a number from 0 to 1;"},
		{"MAX_STREAMS", "0", "not a number from 1 to 2147483647"},
		{"DRAIN_DELAY", "5", "not a duration with a unit (ms, s, m or h), from 0s to a year"},
		{"ENABLE_PROFILING", "yes", "not true or false; for example ENABLE_PROFILING=true"},
		{"OBSERVABILITY", "false", "not on or off"},
		{"LOG_FORMAT", "pretty", "not auto, json or text"},
	} {
		_, err := readSettings(map[string]string{test.name: test.value})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s=%s: %v, want %s", test.name, test.value, err, test.want)
			continue
		}
		if n := strings.Count(err.Error(), "\n"); n != 1 {
			t.Errorf("%s=%s: one problem has %d lines: %v", test.name, test.value, n, err)
		}
		if strings.Contains(err.Error(), "0123456789abcdef") {
			t.Errorf("%s: the error shows the token: %v", test.name, err)
		}
	}
}

func TestWordsOfSettingsHaveAnyCase(t *testing.T) {
	cfg := testSettings(t, "LOG_FORMAT=JSON", "LOG_LEVEL=Warn", "RECORD_GAPS=True", "OBSERVABILITY=OFF", "OTEL_TRACES_EXPORTER=None")
	got := fmt.Sprint(cfg.logFormat, " ", cfg.logLevel, " ", cfg.recordGaps, " ", cfg.observability, " ", cfg.tracesExporter)
	if want := "json WARN true false none"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFoldersThatCannotBeServedAreExplained(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("docs", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("docs/a.md", []byte("# A\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ dir, want string }{ // want: empty if it is served
		{"docs", ""},
		{"./docs/", ""},
		{"a=docs, b=./docs", ""},
		{"nothing", "no such folder; create it, or set DOCS_WAIT=true"},
		{"a=docs,b=nothing", `DOCS_DIR="nothing": no such folder`},
		{"docs/a.md", "not a folder; for example DOCS_DIR=docs"},
		{"docs/a.md/b", "not a directory"},
		{" docs", "leave out the spaces"},
		{"docs ", "leave out the spaces"},
		{"~/docs", "only a shell replaces ~"},
		{"$HOME/docs", "only a shell replaces ~ and $NAME"},
		{"https://git.example.com/docs.git", "a clone of that repository"},
		{"./docs,./guide", "several folders need names"},
	} {
		err := testSettings(t, "DOCS_DIR="+test.dir).checkFolders()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%q: %v", test.dir, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: %v, want %s", test.dir, err, test.want)
		}
	}
	if err := testSettings(t, "DOCS_DIR=nothing", "DOCS_WAIT=true").checkFolders(); err != nil {
		t.Errorf("with DOCS_WAIT: %v", err)
	}
}

func TestShortTokensBeyondLoopbackAreWarnedOf(t *testing.T) {
	const fifteen, sixteen = "123456789012345", "1234567890123456"
	for _, test := range []struct{ env, want string }{
		{"ADDR=:8080 API_TOKEN=" + fifteen, "[API_TOKEN]"},
		{"ADDR=0.0.0.0:8080 ADMIN_TOKEN=" + fifteen, "[ADMIN_TOKEN]"},
		{"ADDR=192.0.2.1:8080 API_TOKEN=a ADMIN_TOKEN=b", "[API_TOKEN ADMIN_TOKEN]"},
		{"ADMIN_ADDR=:9090 ADMIN_TOKEN=b", "[ADMIN_TOKEN]"},
		{"ADDR=:8080 API_TOKEN=" + sixteen, "[]"},
		{"ADDR=:8080", "[]"},
		{"ADDR=127.0.0.1:8080 API_TOKEN=a ADMIN_TOKEN=b", "[]"},
		{"ADDR=[::1]:8080 ADMIN_ADDR=localhost:9090 ADMIN_TOKEN=b", "[]"},
	} {
		cfg := testSettings(t, strings.Fields(test.env)...)
		if got := fmt.Sprint(cfg.shortTokens()); got != test.want {
			t.Errorf("%s: %s, want %s", test.env, got, test.want)
		}
	}

	logs := new(logBuffer)
	cfg := testSettings(t, "ADDR=:8080", "API_TOKEN=short")
	warnAboutSettings(newLogger(logs, newLogLevel(0), cfg), cfg, nil)
	line := logs.find(t, "a token is short enough to be guessed: make one with openssl rand -hex 24", "")
	if line["setting"] != "API_TOKEN" || line["level"] != "warn" || strings.Contains(logs.String(), "short\"") {
		t.Errorf("the log: %s", logs)
	}
}

func TestOnlyChangedSettingsAreShown(t *testing.T) {
	env := environment([]string{
		"ADDR=:9000", "DB_MAX_CONNS=20", "LOG_LEVEL=", "RATE_LIMIT=5", "API_TOKEN=SECRET", "EMBEDDING_URL=http://u:SECRET@h/v1", "HOME=/root",
	})
	want := "[ADDR=:9000 EMBEDDING_URL=http://(redacted)@h/v1 API_TOKEN=(set) RATE_LIMIT=5]"
	if got := fmt.Sprint(changedSettings(env)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := changedSettings(nil); got != nil {
		t.Errorf("without settings: %v", got)
	}
}
