package main

// SETTINGS.md and METRICS.md are made from the program's own tables: go test -count=1 -run Tables . -update writes them.

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const settingsIntro = `# Settings

All settings are environment variables. At start-up the server checks them and reports all wrong ones at once, each with an example. Then it
exits with code 2. ` + "`vitrine help`" + ` prints the same list. A variable that is empty has its default. This page is made from the program's own
table, settings.go.

| variable | default | for example | meaning |
|---|---|---|---|
`

const metricsIntro = `# Metrics

` + "`GET /metrics`" + ` answers in the Prometheus text format, in OpenMetrics with exemplars, or in protobuf, as the scraper asks. All families exist from
the start, with either store. Label values come from closed sets: there are fewer than 2,000 series, whatever clients send. Names follow
OpenTelemetry's semantic conventions where they have one. An answer may be a second old. This page is made from a scrape of the program. The collectors of Go (` + "`go_*`" + `) and
of the process (` + "`process_*`" + `) come on top.

| metric | type | labels | meaning |
|---|---|---|---|
`

// settingsTable returns what SETTINGS.md must be.
func settingsTable() string {
	var text strings.Builder
	text.WriteString(settingsIntro)
	for _, v := range variables(new(settings)) {
		fmt.Fprintf(&text, "| `%s` | %s | %s | %s |\n", v.name, code(v.defaultValue), code(v.example), v.about)
	}
	return text.String()
}

// code returns text as code in Markdown, or nothing.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// metricsTable returns what METRICS.md must be, from a server that has answered a request and called a tool.
func metricsTable(t *testing.T) string {
	t.Helper()
	ts := newTestServer(t)
	ts.search("q=install")
	ts.rpc("tools/call", map[string]any{"name": "list_documents"})
	waitFor(t, "the request to be counted", func() bool {
		return strings.Contains(ts.get("/metrics").body, `http_route="/search"`)
	})
	families, err := ts.observe.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}

	var text strings.Builder
	text.WriteString(metricsIntro)
	for _, family := range families {
		name := family.GetName()
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		var labels []string
		for _, label := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, code(label.GetName()))
		}
		slices.Sort(labels)
		kind := strings.ToLower(family.GetType().String())
		fmt.Fprintf(&text, "| `%s` | %s | %s | %s |\n", name, kind, strings.Join(labels, ", "), family.GetHelp())
	}
	return text.String()
}

func TestTablesAreTheProgramsOwn(t *testing.T) {
	for name, want := range map[string]string{
		"SETTINGS.md": settingsTable(),
		"METRICS.md":  metricsTable(t),
	} {
		if *update {
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got := readFile(t, name); got != want {
			t.Errorf("%s is not made from the program's table: go test -count=1 -run Tables . -update\n%s", name, firstDifference(got, want))
		}
	}
}

// firstDifference returns the first lines of two texts that differ.
func firstDifference(got, want string) string {
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(gotLines), len(wantLines)) {
		if gotLines[i] != wantLines[i] {
			return fmt.Sprintf("line %d:\n%s\nwant\n%s", i+1, gotLines[i], wantLines[i])
		}
	}
	return cmp.Or(strings.Join(gotLines[min(len(gotLines), len(wantLines)):], "\n"), "some lines are missing")
}
