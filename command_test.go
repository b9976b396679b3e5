package main

// The arguments, and names that are nearly those of settings.

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestArgumentsAreACommandOrAFolder(t *testing.T) {
	for _, test := range []struct {
		args string
		want command
	}{
		{"", command{}},
		{"help", command{name: "help"}},
		{"-h", command{name: "help"}},
		{"-help", command{name: "help"}},
		{"--help", command{name: "help"}},
		{"version", command{name: "version"}},
		{"-v", command{name: "version"}},
		{"-version", command{name: "version"}},
		{"--version", command{name: "version"}},
		{"health", command{name: "health"}},
		{"-health", command{name: "health"}},
		{"--health", command{name: "health"}},
		{"reindex", command{name: "reindex"}},
		{"-reindex", command{name: "reindex"}},
		{"--reindex", command{name: "reindex"}},
		{"testdata", command{folder: "testdata"}},
		{"./testdata/manual", command{folder: "./testdata/manual"}},
		{"./nothing", command{folder: "./nothing"}},
		{".", command{folder: "."}},
		{"..", command{folder: ".."}},
		{"/srv/docs", command{folder: "/srv/docs"}},
		{"./help", command{folder: "./help"}},
		{"README.md", command{folder: "README.md"}},
		{"api=./api,guide=./guide", command{folder: "api=./api,guide=./guide"}},
	} {
		got, err := parseCommand(strings.Fields(test.args))
		if err != nil || got != test.want {
			t.Errorf("vitrine %s: %+v, %v, want %+v", test.args, got, err, test.want)
		}
	}
}

func TestWrongArgumentsSayWhatToType(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"serve"}, `unknown argument "serve": neither a folder nor a command`},
		{[]string{"nothing"}, `unknown argument "nothing": neither`},
		{[]string{""}, `unknown argument "": neither`},
		{[]string{"--verbose"}, `unknown argument "--verbose": neither`},
		{[]string{"-x", "y"}, `unknown argument "y": one command or one folder`},
		{[]string{"./a", "./b"}, `unknown argument "./b": one command or one folder`},
		{[]string{"health", "./a"}, `unknown argument "./a": one command or one folder`},
		{[]string{"--addr", ":9000"}, "try ADDR=:9000 vitrine;"},
		{[]string{"--addr=:9000"}, "try ADDR=:9000 vitrine;"},
		{[]string{"-addr", ":9000"}, "try ADDR=:9000 vitrine;"},
		{[]string{"ADDR=:9000"}, "try ADDR=:9000 vitrine;"},
		{[]string{"--addr"}, "try ADDR=127.0.0.1:8080 vitrine;"},
		{[]string{"--address", ":9000"}, "try ADDR=:9000 vitrine;"},
		{[]string{"--port", "9000"}, "try ADDR=127.0.0.1:9000 vitrine;"},
		{[]string{"--docs-dir", "./docs"}, "try DOCS_DIR=./docs vitrine;"},
		{[]string{"--docs_dir=my docs"}, "try DOCS_DIR='my docs' vitrine;"},
		{[]string{"--docs", "it's"}, `try DOCS_DIR='it'\''s' vitrine;`},
		{[]string{"./docs", "--addr", ":9000"}, "try ADDR=:9000 vitrine ./docs;"},
		{[]string{"--addr", ":9000", "--log-level=debug", "./docs"}, "try ADDR=:9000 LOG_LEVEL=debug vitrine ./docs;"},
		{[]string{"--enable-profiling", "./docs"}, "try ENABLE_PROFILING=true vitrine ./docs;"},
		{[]string{"--docs-wait", "true"}, "try DOCS_WAIT=true vitrine;"},
		{[]string{"--docs-wait=false"}, "try DOCS_WAIT=false vitrine;"},
		{[]string{"--database-url", "postgres://u:SECRET@h/v"}, "try DATABASE_URL=… vitrine;"},
		{[]string{"--admin-token=SECRET"}, "try ADMIN_TOKEN=… vitrine;"},
		{[]string{"--rate-limt", "5"}, "try RATE_LIMIT=5 vitrine;"},
	} {
		_, err := parseCommand(test.args)
		if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, errUsage) {
			t.Errorf("vitrine %q: %v, want %s", test.args, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("vitrine %q shows the secret: %v", test.args, err)
		}
	}
}

func TestNamesNearASettingAreHinted(t *testing.T) {
	for _, test := range []struct{ env, want string }{ // want: the setting that is meant
		{"DOC_DIR=./docs", "DOCS_DIR"},
		{"DOCSDIR=./docs", "DOCS_DIR"},
		{"DOCS=./docs", "DOCS_DIR"},
		{"DOCS_DIRS=./docs", "DOCS_DIR"},
		{"DCOS_DIR=./docs", "DOCS_DIR"},
		{"docs_dir=./docs", "DOCS_DIR"},
		{"VITRINE_ADDR=:9000", "ADDR"},
		{"VITRINE_DOCS_DIR=./docs", "DOCS_DIR"},
		{"VITRINE_DOC_DIR=./docs", "DOCS_DIR"},
		{"VITRINE_PORT=9000", "ADDR"},
		{"PORT=9000", "ADDR"},
		{"ADDRESS=:9000", "ADDR"},
		{"LISTEN_ADDR=:9000", "ADDR"},
		{"LOGLEVEL=debug", "LOG_LEVEL"},
		{"LOG_LEVL=debug", "LOG_LEVEL"},
		{"DATABSE_URL=postgres://h/v", "DATABASE_URL"},
		{"POSTGRES_URL=postgres://h/v", "DATABASE_URL"},
		{"ADMIN_TOKN=secret", "ADMIN_TOKEN"},
		{"APITOKEN=secret", "API_TOKEN"},
		{"EMBEDDINGS_URL=http://h", "EMBEDDING_URL"},
		{"ALLOWED_HOST=h", "ALLOWED_HOSTS"},
		{"OTEL_TRACES_SAMPLE_RATE=1", "OTEL_TRACE_SAMPLE_RATE"},
	} {
		name, value, _ := strings.Cut(test.env, "=")
		want := name + " is not a setting: did you mean " + test.want + "?"
		if got := misnamedVariables(map[string]string{name: value}); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", test.env, got, want)
		}
	}
}

func TestVariablesOfOtherProgramsAreLeftAlone(t *testing.T) {
	env := environment([]string{
		"PATH=/bin", "HOME=/root", "HOST=h", "USER=u", "TERM=xterm", "LANG=C", "GOMEMLIMIT=1GiB", "POD_NAME=p", "CI=true",
		"ADDR=:8080", "PORT=8080", // the platform's, and ADDR is set
		"LOG_LEVEL=info", "LOGLEVEL=9",
		"VITRINE_SERVICE_HOST=10.0.0.1", "VITRINE_SERVICE_PORT_HTTP=80", "VITRINE_PORT=tcp://10.0.0.1:80", "VITRINE_PORT_80_TCP_ADDR=10.0.0.1",
		"VITRINE_TEST_DATABASE_URL=postgres://h/v",
	})
	if hints := misnamedVariables(env); len(hints) > 0 {
		t.Errorf("hints: %q", hints)
	}
	want := []string{"VITRINE_COLOUR is not a setting: vitrine -h lists them"}
	if got := misnamedVariables(map[string]string{"VITRINE_COLOUR": "red"}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
