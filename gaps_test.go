package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

// newGapServer returns a server with RECORD_GAPS and one document.
func newGapServer(t *testing.T, env ...string) *testServer {
	t.Helper()
	dir := datedFolder(t, map[string]string{"guide/install.md": "# Install\n\nDownload the binary of the installer.\n"})
	ts := openTestServer(t, dir, append([]string{"RECORD_GAPS=true"}, env...)...)
	ts.serve()
	return ts
}

// listGaps returns what GET /debug/gaps answers as JSON.
func (ts *testServer) listGaps() []gap {
	ts.t.Helper()
	a := ts.get("/debug/gaps?format=json")
	var found gapsAnswer
	if err := json.Unmarshal([]byte(a.body), &found); err != nil || a.status != 200 || found.Gaps == nil {
		ts.t.Fatalf("%d %v %s", a.status, err, a.body)
	}
	return found.Gaps
}

// callTool calls a tool in the initialize era and returns its text.
func (ts *testServer) callTool(name string, arguments map[string]any) (text string, isError bool) {
	ts.t.Helper()
	a := ts.rpc("tools/call", map[string]any{"name": name, "arguments": arguments})
	var got struct {
		Result struct {
			Content []struct{ Text string }
			IsError bool
		}
		Error rpcError
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		ts.t.Fatalf("%v: %s", err, a.body)
	}
	if len(got.Result.Content) == 0 {
		return got.Error.Message, true
	}
	return got.Result.Content[0].Text, got.Result.IsError
}

// TestGapsKeepQuestionsThatFoundNothing asks over HTTP and MCP, and expects one gap a question.
func TestGapsKeepQuestionsThatFoundNothing(t *testing.T) {
	ts := newGapServer(t)
	c := &mcpClient{testServer: ts, version: modernVersion}
	ts.get("/search?q=Rotate+%0A+KEYS?", "User-Agent: probe/1")
	ts.get("/search?q=rotate+keys&limit=3")
	c.call("search_docs", map[string]any{"query": "  rotate keys. "})
	ts.get("/search?q=binray")                            // found by a correction
	ts.get("/search?q=download+the+binary")               // found
	ts.get("/search?q=xylo&partial=1")                    // still being typed
	ts.get("/search?q=download&prefix=api/")              // found nothing below the prefix
	ts.get("/search?q=")                                  // refused
	last := ts.get("/search?q=%22exact+phrase%22").header // in quotes

	gaps := ts.listGaps()
	var got []string
	for _, g := range gaps {
		got = append(got, fmt.Sprintf("%d %s %s%s", g.Count, g.Problem, g.Prefix, g.Question))
		if time.Since(g.Last) > time.Hour || g.Last.Location() != time.UTC || g.Request != "/debug/requests/"+g.CorrelationID {
			t.Errorf("%+v", g)
		}
		if a := ts.get(g.Request); a.status != 200 {
			t.Errorf("%s: %d", g.Request, a.status)
		}
	}
	slices.Sort(got)
	want := []string{
		`1 corrected binray`,
		`1 nothing_found "exact phrase"`,
		`1 nothing_found api/download`,
		`3 nothing_found rotate keys`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if gaps[0].Client != "tester 1.2 from 127.0.0.1" || gaps[1].Client != "Go-http-client/1.1 from 127.0.0.1" {
		t.Errorf("client %q", gaps[0].Client)
	}

	text := ts.get("/debug/gaps")
	for _, want := range []string{
		"gaps: 4\n",
		"3× nothing_found: \"rotate keys\"\n",
		"1× nothing_found: \"download\" below \"api/\"\n",
		"request: /debug/requests/" + last.Get("X-Correlation-ID") + "\n",
		"test:    rotate keys\tPAGE.md\n",
	} {
		if !strings.Contains(text.body, want) {
			t.Errorf("no %q in\n%s", want, text.body)
		}
	}
	if json := ts.get("/debug/gaps", "Accept: application/json"); !strings.HasPrefix(json.body, `{"gaps":[`) || text.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Error(json.body, text.header)
	}
}

// TestReportGap reports each problem, and expects it in the list, in the metrics and in one line of the log.
func TestReportGap(t *testing.T) {
	ts := newGapServer(t)
	const question = "How do I rotate KEYS?"
	for i, problem := range reportProblems {
		if metric := ts.get("/metrics").body; !strings.Contains(metric, fmt.Sprintf("vitrine_gaps_total{problem=%q} 0\n", problem)) {
			t.Errorf("%s is not at 0", problem)
		}
		for range i + 1 {
			text, isError := ts.callTool("report_gap", map[string]any{"question": question, "problem": problem, "document": "guide/install.md"})
			if isError {
				t.Fatal(text)
			}
		}
		metric := ts.get("/metrics").body
		if !strings.Contains(metric, fmt.Sprintf("vitrine_gaps_total{problem=%q} %d\n", problem, i+1)) {
			t.Errorf("%s: not counted", problem)
		}
	}
	ts.callTool("report_gap", map[string]any{"question": question, "problem": "missing"})

	gaps := ts.listGaps()
	if len(gaps) != 5 || gaps[0].Problem != "unclear" || gaps[0].Count != 4 || gaps[0].Question != "how do i rotate keys" ||
		gaps[0].Test != "how do i rotate keys\tguide/install.md" || gaps[3].Test != "how do i rotate keys\tPAGE.md" {
		t.Errorf("%+v", gaps)
	}
	line := ts.lines.find(t, "gap reported", gaps[0].CorrelationID)
	if line["problem"] != "unclear" || line["document"] != "guide/install.md" || line["level"] != "info" {
		t.Error(line)
	}
	if n := strings.Count(ts.lines.String(), `"message":"gap reported"`); n != 11 {
		t.Errorf("%d lines for 11 reports", n)
	}
}

// TestReportGapRefusesWrongArguments expects a hint for the model, and nothing in the list.
func TestReportGapRefusesWrongArguments(t *testing.T) {
	ts := newGapServer(t)
	for _, test := range []struct {
		arguments map[string]any
		want      string
	}{
		{map[string]any{"problem": "wrong"}, "question is missing"},
		{map[string]any{"question": " \n", "problem": "wrong"}, "question is missing"},
		{map[string]any{"question": "\u200b\u202e\ufeff\u00a0", "problem": "wrong"}, "question is missing"},
		{map[string]any{"question": strings.Repeat("ä", 501), "problem": "wrong"}, "at most 500 characters"},
		{map[string]any{"question": "q"}, "problem must be one of missing, wrong, outdated, unclear"},
		{map[string]any{"question": "q", "problem": "Wrong"}, "problem must be one of"},
		{map[string]any{"question": "q", "problem": "praise"}, "problem must be one of"},
		{map[string]any{"question": "q", "problem": 5}, "problem must be a string"},
		{map[string]any{"question": "q", "problem": "wrong", "document": strings.Repeat("a", 513)}, "at most 512 characters"},
		{map[string]any{"question": "q", "problem": "wrong", "document": "guide/install"}, "did you mean guide/install.md?"},
		{map[string]any{"question": "q", "problem": "wrong", "document": "install.md"}, "did you mean guide/install.md?"},
		{map[string]any{"question": "q", "problem": "wrong", "document": "zzz.md"}, `no document "zzz.md": look for it with search_docs`},
		{map[string]any{"question": "q", "problem": "wrong", "praise": "much"}, "unknown argument"},
	} {
		if text, isError := ts.callTool("report_gap", test.arguments); !isError || !strings.Contains(text, test.want) {
			t.Errorf("%v: %s", test.arguments, text)
		}
	}
	if gaps := ts.listGaps(); len(gaps) != 0 {
		t.Error(gaps)
	}
	if text, isError := ts.callTool("report_gap", map[string]any{"question": strings.Repeat("ä", 500), "problem": "wrong"}); isError {
		t.Error(text)
	}
}

// TestReportsHaveTheirOwnLimit sends more reports than a client may, while its searches go on.
func TestReportsHaveTheirOwnLimit(t *testing.T) {
	ts := newGapServer(t)
	refused := 0
	for i := range reportBurst + 5 {
		text, isError := ts.callTool("report_gap", map[string]any{"question": fmt.Sprint("question ", i), "problem": "missing"})
		if isError && strings.Contains(text, "too many reports") {
			refused++
		}
	}
	if refused < 4 || len(ts.listGaps()) != reportBurst+5-refused {
		t.Errorf("%d refused, %d kept", refused, len(ts.listGaps()))
	}
	if text, isError := ts.callTool("search_docs", map[string]any{"query": "binary"}); isError {
		t.Error(text)
	}
}

// TestGapsAreBounded asks more questions than are kept.
func TestGapsAreBounded(t *testing.T) {
	ts := newGapServer(t)
	ts.callTool("report_gap", map[string]any{"question": "reported once", "problem": "missing"})
	ts.get("/search?q=zzzoften")
	ts.get("/search?q=zzzoften")
	for i := range maxGaps + 20 {
		ts.get(fmt.Sprintf("/search?q=zzz%dq", i))
	}
	gaps := ts.listGaps()
	questions := make(map[string]bool)
	for _, g := range gaps {
		questions[g.Question] = true
	}
	if len(gaps) != maxGaps || !questions["reported once"] || !questions["zzzoften"] || !questions[fmt.Sprintf("zzz%dq", maxGaps+19)] {
		t.Errorf("%d gaps: %v", len(gaps), questions)
	}
}

// TestGapsShowNoControlCharacters records hostile text and expects an answer that a terminal does not obey.
func TestGapsShowNoControlCharacters(t *testing.T) {
	ts := newGapServer(t)
	hostile := "zq\x1b[31mred\x07\u202egnirts\u200b\u0085\u009b2J\u2066\u2028x\U000e0041\ufeff\u00ad\r\nlast: forged\tx\x7f"
	ts.callTool("report_gap", map[string]any{"question": hostile, "problem": "wrong"})
	if text, isError := ts.callTool("report_gap", map[string]any{"question": hostile, "problem": "wrong", "document": hostile}); !isError {
		t.Error("a document of that name does not exist:", text)
	}
	ts.rpc("tools/call", map[string]any{"name": "search_docs", "arguments": map[string]any{"query": hostile, "prefix": hostile}})
	ts.do("GET", "/search?q=%1B%5B2J%E2%80%AEzq", "", "User-Agent: evil\u202e\u009b")
	if gaps := ts.listGaps(); len(gaps) != 3 {
		t.Fatalf("%+v", gaps)
	}
	for _, path := range []string{"/debug/gaps", "/debug/gaps?format=json"} {
		body := ts.get(path).body
		for _, r := range body {
			if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)) {
				t.Errorf("%s has %U:\n%q", path, r, body)
			}
		}
		if strings.Contains(body, "\nlast: forged") || !strings.Contains(body, "zq [31mred gnirts") {
			t.Errorf("%s:\n%s", path, body)
		}
	}
}

// TestLinesOfGapsAreQuestions reads the line of each gap as the check does.
func TestLinesOfGapsAreQuestions(t *testing.T) {
	for question, want := range map[string]string{
		"How to install?":      "how to install",
		"#general: who is in?": "general: who is in",
		"## Steps ##":          "steps ##",
		"# # tab\there":        "tab here",
		"\ufeff#bom":           "bom",
		`"#1 reason"`:          `"#1 reason"`,
		"C# and F#":            "c# and f#",
	} {
		line := gapKey{Question: normalizeQuestion(question), Problem: "missing"}.testLine()
		name := filepath.Join(t.TempDir(), "questions.tsv")
		if err := os.WriteFile(name, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := parseQuestions(name)
		if err != nil || len(got) != 1 || got[0].text != want || got[0].ids[0] != "PAGE.md" {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
}

// TestGapsAreOffUnlessAskedFor expects no tool, no list, and the name of the setting.
func TestGapsAreOffUnlessAskedFor(t *testing.T) {
	ts := newMCPServer(t, goldenDocuments, nil)
	ts.get("/search?q=zxqvwk")
	if a := ts.get("/debug/gaps"); a.status != 404 || !strings.Contains(a.body, "RECORD_GAPS=true") {
		t.Error(a.status, a.body)
	}
	if a := ts.rpc("tools/list", nil); strings.Contains(a.body, "report_gap") {
		t.Error(a.body)
	}
	if text, isError := ts.callTool("report_gap", map[string]any{"question": "q", "problem": "wrong"}); !isError || !strings.Contains(text, "no tool") {
		t.Error(text)
	}
	if metrics := ts.get("/metrics").body; !strings.Contains(metrics, `vitrine_gaps_total{problem="missing"} 0`) {
		t.Error("the metric does not exist")
	}
}

// TestReportGapIsListedAsAWrite expects the tool among the others, and who may read the list.
func TestReportGapIsListedAsAWrite(t *testing.T) {
	ts := newGapServer(t, "API_TOKEN=api-token")
	list := ts.rpc("tools/list", nil).body
	_, entry, found := strings.Cut(list, `"name":"report_gap"`)
	if !found || !strings.Contains(entry, `"readOnlyHint":false`) || strings.Contains(entry, `"readOnlyHint":true`) {
		t.Error(list)
	}
	for header, want := range map[string]int{
		"Authorization: Bearer api-token":         403,
		"Authorization: Bearer wrong":             401,
		"Authorization: Bearer " + testAdminToken: 200,
	} {
		if a := ts.get("/debug/gaps", header); a.status != want {
			t.Errorf("%s: %d, want %d", header, a.status, want)
		}
	}
	if a := ts.do("POST", "/debug/gaps", ""); a.status != 405 {
		t.Error(a.status)
	}
}
