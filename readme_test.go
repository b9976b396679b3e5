package main

// README.md and RUNBOOK.md are held against the program: their tables, their curls, what they show.

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestReadmeSettingsTable fails unless README's table has a line for each variable, in the same order and words.
func TestReadmeSettingsTable(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| (?:`(.*?)`)? ?\\| (.*) \\|$").FindAllStringSubmatch(string(readme), -1) {
		got = append(got, strings.Join(row[1:], "|"))
	}
	var want []string
	for _, v := range variables(new(settings)) {
		want = append(want, strings.Join([]string{v.name, v.defaultValue, v.about}, "|"))
	}
	for i := range max(len(got), len(want)) {
		g, w := "", ""
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("README line %d:\n%s\nsettings:\n%s", i+1, g, w)
		}
	}
}

func TestEveryCurlOfTheReadmeRuns(t *testing.T) {
	runCurls(t, "README.md")
}

func TestEveryCurlOfTheRunbookRuns(t *testing.T) {
	runCurls(t, "RUNBOOK.md")
}

// runCurls runs the curl lines of a document in their order and compares the status that each promises: the number that
// its comment begins with, else 200.
func runCurls(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := start(t, []string{"DOCS_DIR=" + dir, "DOCS_SYNC_INTERVAL=1h", "ENABLE_PROFILING=true"})
	for _, own := range []string{"README.md", "RUNBOOK.md"} {
		text, err := os.ReadFile(own)
		if err != nil {
			t.Fatal(err)
		}
		if status := p.put(own, string(text)); status != 201 {
			t.Fatalf("PUT %s: %d", own, status)
		}
	}
	ran := 0
	for _, match := range regexp.MustCompile(`(?m)^(?:\$ )?(curl .*?)(?:\s+# (.*))?$`).FindAllStringSubmatch(string(text), -1) {
		want := "200"
		if number := regexp.MustCompile(`^\d{3}\b`).FindString(match[2]); number != "" {
			want = number
		}
		command := strings.NewReplacer("http://127.0.0.1:8080", p.url, "http://localhost:8080", p.url, "curl ", "curl -s -o /dev/null -w '%{http_code}' ").Replace(match[1])
		cmd := exec.Command("bash", "-c", command)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "ADMIN_TOKEN="+testAdminToken)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil || !strings.HasSuffix(string(out), want) {
			t.Errorf("%s: %v %s, want %s", match[1], err, out, want)
		}
		ran++
	}
	if ran == 0 {
		t.Errorf("%s has no curl line", name)
	}
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
	shown := regexp.MustCompile(`\{"query":"(.*?)",.*"document":"(.*?)",.*"heading":"(.*?)","line":(\d+),`).FindStringSubmatch(string(readme))
	hits, _, err := m.search(t.Context(), query{text: shown[1], limit: 1})
	if err != nil || len(hits) != 1 {
		t.Fatal(hits, err)
	}
	got := []string{shown[1], hits[0].Document, hits[0].Heading, strconv.Itoa(hits[0].Line)}
	if !slices.Equal(got, shown[1:]) {
		t.Errorf("README shows %q, the answer is %q", shown[1:], got)
	}
	if hits, _, err := m.search(t.Context(), query{text: "zxqvwk", limit: 1}); err != nil || len(hits) > 0 {
		t.Errorf("nonsense finds %v, %v", hits, err)
	}
}
