package main

// README.md and RUNBOOK.md are held against the program: their tables, their curls, what they show.

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestEveryCurlOfTheReadmeRuns(t *testing.T) {
	t.Parallel()
	runCurls(t, "README.md", map[string]func(*testing.T) string{
		"Quick start": withoutSettings,
	})
}

// withoutSettings returns the URL of a server of the program's own documents.
func withoutSettings(t *testing.T) string {
	t.Helper()
	return start(t, []string{"ADMIN_TOKEN="}).url
}

// TestEveryCurlOfTheRunbookRuns asks a healthy server, except under the headings of alerts whose output shows the trouble.
func TestEveryCurlOfTheRunbookRuns(t *testing.T) {
	t.Parallel()
	runCurls(t, "RUNBOOK.md", map[string]func(*testing.T) string{
		"VitrineNotReady":             withoutDatabase,
		"VitrineAvailabilityFastBurn": withFailures,
		"VitrineIndexStale":           withoutFolder,
	})
}

// TestLogCommandsOfTheRunbookFindTheirLines gives each jq line of the runbook the log of a server that has answered with each
// status they look for.
func TestLogCommandsOfTheRunbookFindTheirLines(t *testing.T) {
	t.Parallel()
	jq, err := exec.LookPath("jq")
	if err != nil {
		t.Skip("jq is not installed")
	}
	ts := newMCPServer(t, goldenDocuments, func(s *server) {
		s.store = storeStub{s.store, func(context.Context) error { return errUnavailable }}
		s.limits = newLimiter(1e-9, 4)
	})
	ts.get("/search?q=install", "X-Correlation-ID: ticket-4712")
	ts.do(http.MethodDelete, "/documents/none.md", "")
	ts.store = storeStub{ts.store, func(context.Context) error { return errDiskFull }}
	ts.get("/search?q=install")
	ts.get("/debug/requests", "Authorization: Bearer wrong")
	for range 3 {
		ts.get("/search?q=install", "X-Correlation-ID: last")
	}
	ts.lines.find(t, "request", "last")
	lines := "panic: a line that is not JSON\n" + ts.lines.String()

	wanted := map[string]string{ // a part of a command, and a pattern of what it prints
		`level == "error")'`:    `"level": "error"`,
		`{route, status,`:       `(?s)"route": "/search",\s+"status": 503,\s+"error": "unavailable",\s+"correlation_id": "ticket-4712"`,
		`"DELETE"`:              `"method": "DELETE"`,
		`"/mcp"`:                `^ +\d "127\.0\.0\.1"\n$`,
		`.status == 401 or`:     `^ +\d "127\.0\.0\.1"\n$`,
		`select(.status == 429`: `^ +\d "127\.0\.0\.1 too many requests: `,
		`507`:                   `"no space left where the documents are stored: `,
		`.correlation_id == "`:  `"correlation_id": "ticket-4712"`,
	}
	commands := regexp.MustCompile(`jq (-R '[^']*'[^`+"`"+`#\n]*)`).FindAllStringSubmatch(readFile(t, "RUNBOOK.md"), -1)
	for _, command := range commands {
		cmd := exec.Command("bash", "-o", "pipefail", "-c", jq+" "+command[1])
		cmd.Stdin = strings.NewReader(lines)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v %s", command[1], err, out)
		}
		known := false
		for part, pattern := range wanted {
			if strings.Contains(command[1], part) {
				known = true
				if !regexp.MustCompile(pattern).Match(out) {
					t.Errorf("jq %s\nprints no %s:\n%s", command[1], pattern, out)
				}
			}
		}
		if !known {
			t.Errorf("nothing is known of what this prints: jq %s", command[1])
		}
	}
	if len(commands) < len(wanted) {
		t.Errorf("RUNBOOK.md has %d jq commands", len(commands))
	}
}

// withoutDatabase returns the URL of a server whose database is away.
func withoutDatabase(t *testing.T) string {
	t.Helper()
	proxy, url := newProxy(t, newDatabase(t))
	ts := newTestServer(t, "DOCS_DIR=", "DATABASE_URL="+url)
	proxy.set(func() {
		proxy.down = true
		proxy.cut()
	})
	waitFor(t, "three failures in a row", func() bool {
		return strings.Contains(ts.get("/readyz").body, "does not answer")
	})
	return ts.url
}

// withFailures returns the URL of a server whose store was away for two searches.
func withFailures(t *testing.T) string {
	t.Helper()
	ts := newTestServer(t)
	ts.store = storeStub{ts.store, func(context.Context) error { return errUnavailable }}
	for range 2 {
		ts.get("/search?q=install")
	}
	return ts.url
}

// withoutFolder returns the URL of a server whose DOCS_DIR is gone.
func withoutFolder(t *testing.T) string {
	t.Helper()
	ts := newTestServer(t)
	if err := os.Remove(ts.dir); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a failed scan", func() bool { return strings.Contains(ts.get("/readyz?verbose").body, "last scan failed") })
	return ts.url
}

// TestLinksOfTheGuidesLeadSomewhere follows the links and pictures of all pages to a file, and to a heading in it.
func TestLinksOfTheGuidesLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		for _, match := range regexp.MustCompile(`\]\(([^()\s]+)\)`).FindAllStringSubmatch(readFile(t, page), -1) {
			name, anchor, hasAnchor := strings.Cut(match[1], "#")
			if strings.Contains(name, "://") {
				continue
			}
			name = cmp.Or(name, page)
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if hasAnchor && !slices.Contains(anchors(readFile(t, name)), anchor) {
				t.Errorf("%s: %s has no heading #%s", page, name, anchor)
			}
		}
	}
}

// anchors returns the headings of a page as GitHub makes anchors of them.
func anchors(text string) []string {
	var found []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		slug := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		found = append(found, strings.ReplaceAll(slug, " ", "-"))
	}
	return found
}

// example is a curl line of a document, and the lines that follow it there up to the next command.
type example struct {
	heading string
	command string
	comment string // behind the command; may begin with the status
	shown   string
}

// examples returns the curl lines in the code blocks of a document.
func examples(text string) (found []example) {
	curl := regexp.MustCompile(`^\$ (curl .*?)(?:\s+# (.*))?$`)
	heading := ""
	inBlock, inExample := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		name, isHeading := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		match := curl.FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(line, "```"):
			inBlock, inExample = !inBlock, false
		case !inBlock && strings.HasPrefix(line, "#") && isHeading:
			heading = name
		case match != nil:
			found = append(found, example{heading: heading, command: match[1], comment: match[2]})
			inExample = true
		case strings.HasPrefix(line, "$ "):
			inExample = false
		case inExample:
			found[len(found)-1].shown += line + "\n"
		}
	}
	return found
}

// rule replaces a part of an output, so that what is shown can be compared with what is answered.
type rule struct{ pattern, with string }

// varying are the parts that differ from run to run.
var varying = []rule{
	{`\d{4}-\d\d-\d\dT[\d:.]+Z|\b\d\d:\d\d:\d\d\.\d{3}\b`, "TIME"},
	{`\b[0-9a-f]{32}\b`, "ID"},
	{`("took_ms":|;dur=)[\d.]+`, "${1}DURATION"},
	{` +\d+\.\d{3}\b`, " DURATION"}, // of /debug/requests, which aligns them
	{`\|[ =]+\|`, "|BAR|"},
	{`kept: \w+`, "kept: CHANCE"},               // the sampling of traces
	{`open /\S+: no such`, "open DIR: no such"}, // DOCS_DIR
	{`(?m)^# (?:HELP|TYPE) .*\n`, ""},           // of /metrics
	{`(?m)^.* folder_scan .*\n`, ""},            // one begins after each change of a file
	{`in flight: \d+`, "in flight: COUNT"},
}

// ofAnotherServer are the parts that differ because RUNBOOK.md shows a server with more documents and traffic.
var ofAnotherServer = []rule{
	{`store ok: \d+ documents, \d+ chunks`, "store ok: N documents, N chunks"},
	{`index ok: (?:\d+ documents|\d+/\d+ files read)`, "index ok: N documents"},
	{`(?m)^gaps: \d+|^\d+×|by \S.* from [\d.]+$`, "GAP"},
	{`(?m)^slowest: \d+|hits = \d+$|failed \d+ times`, "COUNT"},
	{`(?m)^([a-z_]+(?:\{.*\})?) [-+.\de]+$`, "$1 N"}, // a metric's value
}

// unvarying replaces what the rules say and trims the end.
func unvarying(output string, rules []rule) string {
	for _, r := range rules {
		output = regexp.MustCompile(r.pattern).ReplaceAllString(output, r.with)
	}
	return strings.TrimRight(output, "\n")
}

// isShownBy compares an output with what a document shows: "…" stands for a part of a line, or for lines if it is alone on one.
func isShownBy(output, shown string) bool {
	pattern := regexp.QuoteMeta(shown)
	pattern = regexp.MustCompile(`(?m)^…(\n|$)`).ReplaceAllString(pattern, `(?:.*(?:\n|$$))*`)
	pattern = strings.ReplaceAll(pattern, "…", ".*")
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(output)
}

// runCurls runs the curl lines of a document in their order. It compares the status with the number that the command's
// comment begins with, else 200, and the output with the one that is shown, if one is. They ask a server of a copy of
// testdata/manual, or the one that elsewhere starts for their heading.
func runCurls(t *testing.T, name string, elsewhere map[string]func(*testing.T) string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "docs"), os.DirFS("testdata/manual")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte(readFile(t, "README.md")), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{
		"DOCS_DIR=" + filepath.Join(dir, "docs"),
		"DOCS_SYNC_INTERVAL=1h",
		"ENABLE_PROFILING=true",
		"RECORD_GAPS=true",
		"LOG_LEVEL=debug", // for waitForScans
	})
	waitForScans(t, p.logs)
	waitFor(t, "the documents are counted", func() bool {
		_, checks := p.get("/readyz?verbose")
		return strings.Contains(checks, "40 documents")
	})
	rules := varying
	if name == "RUNBOOK.md" {
		rules = slices.Concat(varying, ofAnotherServer)
	}
	p.get("/search?q=install") // for /debug/requests
	p.get("/search?q=zxqvwk")  // for /debug/gaps
	p.get("/search?q=zxqvwkj")
	text := readFile(t, name)
	found := examples(text)
	if n := strings.Count(text, "\n$ curl "); len(found) == 0 || len(found) != n {
		t.Fatalf("%d curl lines are understood of %d", len(found), n)
	}
	for _, e := range found {
		serve, isElsewhere := elsewhere[e.heading]
		if !isElsewhere {
			e.run(t, p.url, dir, rules)
			continue
		}
		delete(elsewhere, e.heading)
		t.Run(e.heading, func(t *testing.T) { e.run(t, serve(t), dir, rules) })
	}
	if len(elsewhere) > 0 {
		t.Errorf("there is no curl line under the headings %v", slices.Sorted(maps.Keys(elsewhere)))
	}
}

// run runs the command in dir against the server at url, and compares.
func (e example) run(t *testing.T, url, dir string, rules []rule) {
	t.Helper()
	want := cmp.Or(regexp.MustCompile(`^\d{3}\b`).FindString(e.comment), "200")
	status, output, err := runCurl(e.command, url, dir)
	if err != nil || status != want {
		t.Errorf("%s: %v %s, want %s\n%s", e.command, err, status, want, output)
	}
	if e.shown == "" {
		return
	}
	got := unvarying(output, rules)
	shown := unvarying(e.shown, rules)
	if !isShownBy(got, shown) {
		t.Errorf("under %q:\n$ %s\n%s\n-- compared as\n%s\n-- but shown is\n%s", e.heading, e.command, output, got, shown)
	}
}

// runCurl runs a command of a document in dir against the server at url, and returns status and output.
func runCurl(command, url, dir string) (status, output string, err error) {
	const documented = "http://127.0.0.1:8080"
	command = strings.Replace(command, "curl ", `curl -s -w '\n%{http_code}' `, 1)
	cmd := exec.Command("bash", "-c", strings.ReplaceAll(command, documented, url))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "ADMIN_TOKEN="+testAdminToken)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	end := max(0, bytes.LastIndexByte(out, '\n'))
	output = strings.ReplaceAll(string(out[:end]), "\r\n", "\n")
	return strings.TrimSpace(string(out[end:])), strings.ReplaceAll(output, url, documented), err
}

// TestReadmeShowsWhatItsFirstSearchAnswers asks the program's own documents, as README does.
func TestReadmeShowsWhatItsFirstSearchAnswers(t *testing.T) {
	m := newMemory(nil, hashedEmbedder{}, 0.5, quietObserver())
	if err := loadOwnDocuments(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`\{"query":"(.*?)",.*"document":"(.*?)",.*"heading":"(.*?)",`).FindStringSubmatch(string(readme))
	found, err := m.search(t.Context(), query{text: shown[1], limit: 1})
	if err != nil || len(found.hits) != 1 {
		t.Fatal(found.hits, err)
	}
	got := []string{shown[1], found.hits[0].Document, found.hits[0].Heading}
	if !slices.Equal(got, shown[1:]) {
		t.Errorf("README shows %q, the answer is %q", shown[1:], got)
	}
	if found, err := m.search(t.Context(), query{text: "zxqvwk", limit: 1}); err != nil || len(found.hits) > 0 {
		t.Errorf("nonsense finds %v, %v", found.hits, err)
	}
}
