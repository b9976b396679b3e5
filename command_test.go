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
		{"-V", command{name: "version"}},
		{"help check", command{name: "help"}},
		{"check --help", command{name: "help"}},
		{"serve ./testdata/manual -h", command{name: "help"}},
		{"--addr :9000 --help", command{name: "help"}},
		{"serve", command{}},
		{"serve ./testdata/manual", command{folder: "./testdata/manual"}},
		{"check ./testdata/manual", command{name: "check", folder: "./testdata/manual"}},
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
		{[]string{"run"}, `unknown argument "run": neither a folder nor a command`},
		{[]string{"nothing"}, `unknown argument "nothing": neither`},
		{[]string{""}, `unknown argument "": neither`},
		{[]string{"versoin"}, `unknown argument "versoin": did you mean vitrine version?`},
		{[]string{"helth"}, `unknown argument "helth": did you mean vitrine health?`},
		{[]string{"Check"}, `unknown argument "Check": did you mean vitrine check?`},
		{[]string{"server"}, `unknown argument "server": did you mean vitrine serve?`},
		{[]string{"re-index"}, `unknown argument "re-index": did you mean vitrine reindex?`},
		{[]string{"--verbose"}, `unknown flag "--verbose": settings are environment variables`},
		{[]string{"-x", "y"}, `unknown flag "-x": settings are environment variables`},
		{[]string{"-p", "8080"}, `unknown flag "-p": settings are environment variables`},
		{[]string{"--folder", "./docs"}, `a folder needs no flag; for example ADDR=127.0.0.1:9000 vitrine ./docs;`},
		{[]string{"./docs", "--open"}, `unknown flag "--open"`},
		{[]string{"--"}, `unknown flag "--"`},
		{[]string{"./testdata", "./deploy"}, "for several folders vitrine testdata=./testdata,deploy=./deploy;"},
		{[]string{"testdata/manual", "./deploy", "page"}, "for several folders vitrine manual=testdata/manual,deploy=./deploy,page=page;"},
		{[]string{"./page", "./page"}, "for several folders vitrine api=./api,guide=./guide;"},
		{[]string{"testdata", ".github"}, "for several folders vitrine api=./api,guide=./guide;"},
		{[]string{"./a", "./b"}, `unknown argument "./b": one command or one folder`},
		{[]string{"health", "./a"}, `unknown argument "./a": one command or one folder`},
		{[]string{"--addr", ":9000"}, "try ADDR=:9000 vitrine;"},
		{[]string{"--addr=:9000"}, "try ADDR=:9000 vitrine;"},
		{[]string{"-addr", ":9000"}, "try ADDR=:9000 vitrine;"},
		{[]string{"ADDR=:9000"}, "try ADDR=:9000 vitrine;"},
		{[]string{"--addr"}, "try ADDR=127.0.0.1:8080 vitrine;"},
		{[]string{"--address", ":9000"}, "try ADDR=:9000 vitrine;"},
		{[]string{"--port", "9000"}, "try ADDR=127.0.0.1:9000 vitrine;"},
		{[]string{"--host", "0.0.0.0"}, "try ADDR=0.0.0.0:8080 vitrine;"},
		{[]string{"--host=::1"}, "try ADDR='[::1]:8080' vitrine;"},
		{[]string{"--bind", "localhost"}, "try ADDR=localhost:8080 vitrine;"},
		{[]string{"--bind", "localhost:9000"}, "try ADDR=localhost:9000 vitrine;"},
		{[]string{"--listen", "9000"}, "try ADDR=127.0.0.1:9000 vitrine;"},
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
		{"OTEL_EXPORTER_OTLP_ENDPONT=http://h:4318", "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPIONT=http://h:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"},
		{"OTEL_EXPORTER_OTLP_HEADER=a=b", "OTEL_EXPORTER_OTLP_HEADERS"},
		{"OTEL_ENDPOINT=http://h:4318", "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{"LISTEN=:9000", "ADDR"},
		{"BIND=0.0.0.0:9000", "ADDR"},
		{"HOST=0.0.0.0", "ADDR"},
		{"HOST=localhost", "ADDR"},
		{"ADRR=:9000", "ADDR"},
		{"METRICS_ADDR=:9090", "ADMIN_ADDR"},
		{"DATABASE_URI=postgres://h/v", "DATABASE_URL"},
		{"DOCS_FOLDERS=./docs", "DOCS_DIR"},
		{"EMBEDDING_KEY=k", "EMBEDDING_API_KEY"},
		{"TRUSTED_PROXY=10.0.0.0/8", "TRUSTED_PROXIES"},
		{"LOG_LVL=debug", "LOG_LEVEL"},
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
		"PATH=/bin", "HOME=/root", "HOST=x86_64-conda-linux-gnu", "USER=u", "TERM=xterm", "LANG=C", "GOMEMLIMIT=1GiB", "POD_NAME=p", "CI=true",
		"ADDR=:8080", "PORT=8080", // the platform's, and ADDR is set
		"LOG_LEVEL=info", "LOGLEVEL=9",
		"VITRINE_SERVICE_HOST=10.0.0.1", "VITRINE_SERVICE_PORT_HTTP=80", "VITRINE_PORT=tcp://10.0.0.1:80", "VITRINE_PORT_80_TCP_ADDR=10.0.0.1",
		"VITRINE_TEST_DATABASE_URL=postgres://h/v",
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=1000",
	})
	if hints := misnamedVariables(env); len(hints) > 0 {
		t.Errorf("hints: %q", hints)
	}
	want := []string{"VITRINE_COLOUR is not a setting: vitrine -h lists them"}
	if got := misnamedVariables(map[string]string{"VITRINE_COLOUR": "red"}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
