package main

// deploy/dashboard.json, deploy/alerts.yaml and RUNBOOK.md name metrics, alerts and headings: here they are held to what
// there is, by reading them, by promtool, and on a real Prometheus that scrapes a real loaded process.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// dashboardPanel is what the tests read of a panel.
type dashboardPanel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ H, W, X, Y int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct{ RefID, Expr, LegendFormat string }
}

type dashboardFile struct {
	UID           string
	ID            *int
	SchemaVersion int
	Editable      bool
	Templating    struct {
		List []struct {
			Name, Type, AllValue string
			Multi                bool
			Definition           string
		}
	}
	Annotations struct{ List []struct{ Name, Expr string } }
	Panels      []dashboardPanel
}

func readDashboard(t *testing.T) (d dashboardFile) {
	t.Helper()
	if err := json.Unmarshal([]byte(readFile(t, "deploy/dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) == 0 {
		t.Fatal("deploy/dashboard.json has no panels")
	}
	return d
}

// alertRule is a rule of deploy/alerts.yaml; record or alert is empty.
type alertRule struct{ record, alert, expr, text string }

// readRules reads deploy/alerts.yaml line by line, which suffices for how it is written; promtool checks that it is YAML.
func readRules(t *testing.T) (rules []alertRule) {
	t.Helper()
	name := regexp.MustCompile(`^ +- (record|alert): (\S+)$`)
	inBlock := false
	for line := range strings.Lines(readFile(t, "deploy/alerts.yaml")) {
		line = strings.TrimRight(line, "\n")
		if match := name.FindStringSubmatch(line); match != nil {
			rules = append(rules, alertRule{})
			if rule := &rules[len(rules)-1]; match[1] == "alert" {
				rule.alert = match[2]
			} else {
				rule.record = match[2]
			}
		}
		if len(rules) == 0 {
			continue
		}
		rule := &rules[len(rules)-1]
		rule.text += line + "\n"
		expr, begins := strings.CutPrefix(line, "        expr: ")
		switch {
		case begins && expr == "|":
			inBlock = true
		case begins:
			rule.expr, inBlock = expr, false
		case inBlock && strings.HasPrefix(line, "          "):
			rule.expr += strings.TrimSpace(line) + "\n"
		default:
			inBlock = false
		}
	}
	if len(rules) == 0 {
		t.Fatal("deploy/alerts.yaml has no rules")
	}
	for _, rule := range rules {
		if rule.expr == "" {
			t.Fatalf("%s%s has no expr that is understood", rule.alert, rule.record)
		}
	}
	return rules
}

// selectors returns the metrics that a PromQL expression selects, with their label matchers.
func selectors(expr string) (found []string) {
	expr = regexp.MustCompile(`\b(by|on|ignoring|without|group_left|group_right) *\([^)]*\)`).ReplaceAllString(expr, " ")
	expr = regexp.MustCompile(`\[(\d+[smhd](:\d+[smhd])?|\$__rate_interval)\]`).ReplaceAllString(expr, " ")
	for _, match := range regexp.MustCompile(`("[^"]*")|\b([a-zA-Z_:][\w:]*)( *\(|\{(?:[^}"]|"[^"]*")*\})?`).FindAllStringSubmatch(expr, -1) {
		name, rest := match[2], match[3]
		if name != "" && !strings.HasSuffix(rest, "(") && !slices.Contains([]string{"and", "or", "unless", "offset", "bool"}, name) {
			found = append(found, name+rest)
		}
	}
	return found
}

func TestSelectors(t *testing.T) {
	got := selectors(`sum by (le, x) (rate(a_b{c=~"d}|0[.]0",f="g"}[5m])) / on (job) h:i > 1e18 and time() - k{} or max_over_time((l - m)[2m:15s]) or vector(0)`)
	if want := []string{`a_b{c=~"d}|0[.]0",f="g"}`, "h:i", "k{}", "l", "m"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// madeByPrometheus are the metrics that no target has.
var madeByPrometheus = []string{"up", "ALERTS", "scrape_duration_seconds", "scrape_samples_scraped"}

// TestOpsEveryMetricExists fails if the dashboard, a rule or the runbook names a metric that a fresh server does not have.
func TestOpsEveryMetricExists(t *testing.T) {
	ts := newTestServer(t)
	ts.get("/livez")
	exists := make(map[string]bool)
	text := ts.get("/metrics").body
	for _, match := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(text, -1) {
		exists[match[1]] = match[2] != "histogram"
		if match[2] == "histogram" || match[2] == "summary" {
			exists[match[1]+"_sum"], exists[match[1]+"_count"] = true, true
			exists[match[1]+"_bucket"] = match[2] == "histogram"
		}
	}
	for _, name := range madeByPrometheus {
		exists[name] = true
	}
	check := func(where, expr string) {
		for _, selector := range selectors(expr) {
			if name, _, _ := strings.Cut(selector, "{"); !exists[name] {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
	}
	for _, rule := range readRules(t) {
		check("deploy/alerts.yaml: "+rule.alert+rule.record, rule.expr)
		exists[rule.record] = rule.record != ""
	}
	d := readDashboard(t)
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			check("deploy/dashboard.json: "+panel.Title, target.Expr)
		}
	}
	for _, annotation := range d.Annotations.List {
		check("deploy/dashboard.json: annotation "+annotation.Name, annotation.Expr)
	}
	for _, name := range regexp.MustCompile(`\b(vitrine[_:]|http_server_|mcp_server_|db_client_|gen_ai_client_|process_|go_gc_|go_memstats_)[\w:]+`).FindAllString(readFile(t, "RUNBOOK.md"), -1) {
		if _, isFamily := exists[name]; !isFamily && !strings.Contains(text, name+`="`) {
			t.Errorf("RUNBOOK.md: there is no metric %s", name)
		}
	}
}

// TestOpsEveryAlertHasItsHeading fails unless alerts and headings of the runbook are the same, and each alert says what it must.
func TestOpsEveryAlertHasItsHeading(t *testing.T) {
	headings := make(map[string]bool)
	for _, match := range regexp.MustCompile(`(?m)^#+ (Vitrine[A-Z]\w+)$`).FindAllStringSubmatch(readFile(t, "RUNBOOK.md"), -1) {
		headings[match[1]] = false
	}
	texts := make(map[string]string) // what an anchor stands for, by its name
	for _, rule := range readRules(t) {
		if rule.alert == "" {
			continue
		}
		if _, ok := headings[rule.alert]; !ok {
			t.Errorf("RUNBOOK.md has no heading %s", rule.alert)
		}
		headings[rule.alert] = true
		text := rule.text
		if anchor := regexp.MustCompile(`annotations: &(\w+)`).FindStringSubmatch(text); anchor != nil {
			texts[anchor[1]] = text
		} else if anchor := regexp.MustCompile(`annotations: \*(\w+)`).FindStringSubmatch(text); anchor != nil {
			text += texts[anchor[1]]
		}
		for _, want := range []string{`severity: (page|ticket)\b`, `(?m)^ +summary: .+`, `(?m)^ +description: .*Type: (curl|go tool pprof) `, `(?m)^ +runbook_url: RUNBOOK.md#` + strings.ToLower(rule.alert) + "$"} {
			if !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("%s has no %s", rule.alert, want)
			}
		}
	}
	for heading, ok := range headings {
		if !ok {
			t.Errorf("RUNBOOK.md has a heading for %s, which is no alert", heading)
		}
	}
}

// TestOpsEveryAlertIsSeenFiringAndNot fails unless deploy/alerts_test.yaml expects each alert at one time and not at another.
func TestOpsEveryAlertIsSeenFiringAndNot(t *testing.T) {
	fires, not := make(map[string]bool), make(map[string]bool)
	alert := ""
	name := regexp.MustCompile(`alertname(?:: |=")(\w+)`)
	for line := range strings.Lines(readFile(t, "deploy/alerts_test.yaml")) {
		text := strings.TrimSpace(line)
		switch match := name.FindStringSubmatch(text); {
		case match != nil && strings.HasPrefix(text, "- "): // not that of an expected sample
			if !strings.HasPrefix(text, "- {") {
				alert = match[1]
			}
		case text == "exp_samples: []", text == "exp_alerts: []":
			not[alert] = true
		case text == "exp_samples:", text == "exp_alerts:":
			fires[alert] = true
		}
	}
	for _, rule := range readRules(t) {
		if rule.alert != "" && (!fires[rule.alert] || !not[rule.alert]) {
			t.Errorf("deploy/alerts_test.yaml: %s fires: %v, does not: %v", rule.alert, fires[rule.alert], not[rule.alert])
		}
	}
}

func TestOpsEveryPanelIsComplete(t *testing.T) {
	d := readDashboard(t)
	if d.UID == "" || d.ID != nil || d.SchemaVersion != 42 || d.Editable {
		t.Errorf("uid %q, id %v, schema version %d, editable %v", d.UID, d.ID, d.SchemaVersion, d.Editable)
	}
	ids := make(map[int]bool)
	cells := make(map[[2]int]int)
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: the id is used twice or there is no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != 0 || x >= 24 {
					t.Fatalf("panel %d %q is over panel %d or beyond the edge", p.ID, p.Title, other)
				}
				cells[[2]int{x, y}] = p.ID
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: description %q, unit %q, %d targets", p.ID, p.Title, p.Description, p.FieldConfig.Defaults.Unit, len(p.Targets))
		}
		for _, target := range p.Targets {
			for _, window := range regexp.MustCompile(`\brate\(\w+(?:\{[^}]*\})?\[([^\]]*)\]`).FindAllStringSubmatch(target.Expr, -1) {
				if window[1] != "$__rate_interval" {
					t.Errorf("panel %d %q: rate over %s", p.ID, p.Title, window[1])
				}
			}
			if strings.Contains(target.Expr, "{") && !strings.Contains(target.Expr, "$service") && !strings.Contains(target.Expr, "ALERTS") {
				t.Errorf("panel %d %q is not limited to $service: %s", p.ID, p.Title, target.Expr)
			}
			if target.LegendFormat == "" && p.Type != "table" {
				t.Errorf("panel %d %q: no legend", p.ID, p.Title)
			}
		}
	}
}

// TestOpsCountersAreOnlySeenAsRates is what pint (promql/counter) and Grafana's dashboard-linter (target-counter-agg-rule) ask
// for: a counter means something only as a rate, and a sum over instances comes after the rate.
func TestOpsCountersAreOnlySeenAsRates(t *testing.T) {
	counter := regexp.MustCompile(`\b[a-z]\w*_(?:total|count|sum|bucket)\b(?:\{|\[|\b)`)
	family := regexp.MustCompile(`^(vitrine|http|mcp|db|gen_ai|process|go)_`)
	gauges := []string{"db_client_connection_count"} // OpenTelemetry's name
	check := func(where, expr string) {
		for _, at := range counter.FindAllStringIndex(expr, -1) {
			name := strings.TrimRight(expr[at[0]:at[1]], "{[")
			isCounter := family.MatchString(name) && !slices.Contains(gauges, name)
			isRate := regexp.MustCompile(`\b(rate|irate|increase)\($`).MatchString(expr[:at[0]])
			if isCounter && !isRate {
				t.Errorf("%s: %s is a counter outside rate() or increase(): %s", where, name, expr)
			}
		}
		if regexp.MustCompile(`\b(rate|increase)\(\s*(sum|avg|max|min)\b`).MatchString(expr) {
			t.Errorf("%s: a rate of a sum misses restarts: %s", where, expr)
		}
	}
	comparison := regexp.MustCompile(`[<>]|==|\babsent\(`)
	for _, rule := range readRules(t) {
		check("deploy/alerts.yaml: "+rule.alert+rule.record, rule.expr)
		if rule.alert != "" && !comparison.MatchString(rule.expr) {
			t.Errorf("%s compares nothing: it fires always or never", rule.alert)
		}
	}
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			check("deploy/dashboard.json: "+panel.Title, target.Expr)
		}
	}
}

// needTool skips the test where a tool is missing, but in CI, where everything is there, it fails.
func needTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v: Debian's package prometheus or caddy has it", err)
		}
		t.Skipf("%v: Debian's package prometheus or caddy has it", err)
	}
}

func TestOpsRulesPassPromtool(t *testing.T) {
	needTool(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "deploy/alerts.yaml"}, {"test", "rules", "deploy/alerts_test.yaml"}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// realPrometheus scrapes a loaded process every second.
type realPrometheus struct {
	t   *testing.T
	url string
}

// ask decodes the data of an API answer into what into points to. An error of the API fails the test.
func (p realPrometheus) ask(path string, params url.Values, into any) {
	p.t.Helper()
	resp, err := http.PostForm(p.url+"/api/v1/"+path, params)
	if strings.HasPrefix(path, "label/") || path == "rules" {
		resp, err = http.Get(p.url + "/api/v1/" + path + "?" + params.Encode())
	}
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		p.t.Errorf("%s %v: %v %s", path, params, err, body)
		return
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		p.t.Errorf("%s: %v: %s", path, err, answer.Data)
	}
}

// promSeries is a series of a query's result.
type promSeries struct {
	Metric map[string]string
	Values [][2]any
}

// query runs a query over the last seconds and returns the series that have a number.
func (p realPrometheus) query(expr string) (found []promSeries) {
	p.t.Helper()
	var data struct{ Result []promSeries }
	now := time.Now().Unix()
	p.ask("query_range", url.Values{"query": {expr}, "start": {fmt.Sprint(now - 6)}, "end": {fmt.Sprint(now)}, "step": {"1"}}, &data)
	for _, series := range data.Result {
		if slices.ContainsFunc(series.Values, func(v [2]any) bool { return v[1] != "NaN" }) {
			found = append(found, series)
		}
	}
	return found
}

// startPrometheus starts Prometheus on a free loopback port, with deploy/alerts.yaml evaluated every second.
func startPrometheus(t *testing.T, target string) realPrometheus {
	t.Helper()
	dir := t.TempDir()
	rules := strings.ReplaceAll(readFile(t, "deploy/alerts.yaml"), "interval: 1m", "interval: 1s")
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yaml]\n"+
		"scrape_configs: [{job_name: vitrine, static_configs: [{targets: [%q]}]}]\n", strings.TrimPrefix(target, "http://"))
	for name, text := range map[string]string{"alerts.yaml": rules, "prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr := freeAddr(t)
	cmd := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--enable-feature=exemplar-storage", "--log.level=warn")
	cmd.Stderr = os.Stderr
	startCommand(t, cmd)
	p := realPrometheus{t, "http://" + addr}
	waitForOK(t, p.url+"/-/ready")
	return p
}

// load asks for everything that the panels show, again and again until done is closed.
func (p *process) load(done <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		case <-time.After(10 * time.Millisecond):
		}
		p.put(fmt.Sprintf("load/%d.md", n%20), fmt.Sprintf("# Load %d\n\nhow to install part %d", n%20, n))
		for _, path := range []string{"/search?q=install", "/search?q=zxqvwk", "/search", "/documents", "/documents/load/1.md", "/documents/none.md", "/nowhere"} {
			p.get(path)
		}
		p.call(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
		for _, call := range []string{`"search_docs","arguments":{"query":"install"}`, `"list_documents","arguments":{}`, `"get_document","arguments":{"id":"load/1.md"}`} {
			p.call(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":` + call + `}}`)
		}
	}
}

// call sends an MCP message.
func (p *process) call(message string) {
	r, err := http.NewRequest("POST", p.url+"/mcp", strings.NewReader(message))
	if err != nil {
		return
	}
	r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {"2025-06-18"}}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
}

// TestOpsOnARealPrometheus loads a real process that a real Prometheus scrapes, and runs every query there is: none may fail,
// and none may find nothing but those that need what the process does not have.
func TestOpsOnARealPrometheus(t *testing.T) {
	t.Parallel()
	needTool(t, "prometheus")
	failures := []string{`5..`, `-32603`, `error_type!~"|canceled`} // parts of queries
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		checkOps(t, append(failures, `result="hit"`, `gen_ai_client_token_usage`, `vitrine_embedding_batch_size`))
	})
	t.Run("postgres and an embedding API", func(t *testing.T) {
		t.Parallel()
		env := newFakeEmbedder(t, 64).env("DATABASE_URL=" + newDatabase(t))
		checkOps(t, failures, env...)
	})
}

func checkOps(t *testing.T, mayFindNothing []string, env ...string) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	p := start(t, append(env, "DOCS_DIR="+folderOf(t, "docs.md", "# Documents\n\nhow to install"), "DOCS_SYNC_INTERVAL=1s", "OTEL_TRACE_SAMPLE_RATE=1",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "GOMEMLIMIT=1GiB"))
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.load(done)
	}()
	defer func() {
		close(done)
		<-ended
	}()
	prom := startPrometheus(t, p.url)
	waitFor(t, "twelve scrapes", func() bool { return len(prom.query(`count_over_time(up{job="vitrine"}[1m]) >= 12`)) > 0 })

	isListed := func(expr string) bool {
		return slices.ContainsFunc(mayFindNothing, func(part string) bool { return strings.Contains(expr, part) })
	}
	for _, rule := range readRules(t) {
		if rule.record != "" && len(prom.query(rule.record)) == 0 {
			t.Errorf("%s has no values", rule.record)
		}
		for _, selector := range selectors(rule.expr) {
			if !isListed(selector) && len(prom.query(selector)) == 0 {
				t.Errorf("%s%s: %s finds nothing", rule.alert, rule.record, selector)
			}
		}
	}
	prom.checkRules()
	prom.checkDashboard(isListed)
	var exemplars []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	now := time.Now().Unix()
	prom.ask("query_exemplars", url.Values{"query": {"http_server_request_duration_seconds_bucket"}, "start": {fmt.Sprint(now - 60)}, "end": {fmt.Sprint(now)}}, &exemplars)
	if len(exemplars) == 0 || len(exemplars[0].Exemplars) == 0 || len(exemplars[0].Exemplars[0].Labels["trace_id"]) != 32 {
		t.Errorf("no exemplar has a trace id: %v", exemplars)
	}
}

// checkRules fails if a rule could not be evaluated, or if an alert fires for a healthy process.
func (p realPrometheus) checkRules() {
	p.t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	p.ask("rules", nil, &data)
	rules := 0
	for _, group := range data.Groups {
		for _, rule := range group.Rules {
			rules++
			if rule.Health != "ok" || rule.State == "firing" {
				p.t.Errorf("rule %s: %s %s %s", rule.Name, rule.Health, rule.LastError, rule.State)
			}
		}
	}
	if want := len(readRules(p.t)); rules != want {
		p.t.Errorf("Prometheus has %d rules, deploy/alerts.yaml %d", rules, want)
	}
}

// checkDashboard runs the query of every variable and panel as Grafana would.
func (p realPrometheus) checkDashboard(isListed func(string) bool) {
	p.t.Helper()
	d := readDashboard(p.t)
	values := map[string]string{"__rate_interval": "5s"}
	fill := func(text string) string {
		return os.Expand(text, func(name string) string {
			value, ok := values[name]
			if !ok {
				p.t.Errorf("there is no variable %s: %s", name, text)
			}
			return value
		})
	}
	for _, variable := range d.Templating.List {
		if variable.Type != "query" {
			continue
		}
		match := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(variable.Definition)
		if match == nil {
			p.t.Fatalf("variable %s: %s", variable.Name, variable.Definition)
		}
		var found []string
		p.ask("label/"+match[2]+"/values", url.Values{"match[]": {fill(match[1])}}, &found)
		if len(found) == 0 {
			p.t.Fatalf("variable %s has no values: %s", variable.Name, variable.Definition)
		}
		values[variable.Name] = found[0]
		if variable.AllValue != "" {
			values[variable.Name] = variable.AllValue
		}
	}
	queries, seriesSeen := 0, 0
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			expr := fill(target.Expr)
			found := p.query(expr)
			queries++
			seriesSeen += len(found)
			if len(found) == 0 && !isListed(expr) {
				p.t.Errorf("panel %d %q finds nothing: %s", panel.ID, panel.Title, expr)
			}
			for _, legend := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				has := func(s promSeries) bool { _, ok := s.Metric[legend[1]]; return ok }
				if len(found) > 0 && !slices.ContainsFunc(found, has) && !strings.Contains(expr, "ALERTS") {
					p.t.Errorf("panel %d %q: no series has the label %s of its legend, but %v", panel.ID, panel.Title, legend[1], slices.Sorted(maps.Keys(found[0].Metric)))
				}
			}
		}
	}
	for _, annotation := range d.Annotations.List {
		p.query(fill(annotation.Expr))
	}
	p.t.Logf("%d panels, %d queries, %d series", len(d.Panels), queries, seriesSeen)
}

// TestAvailabilityCountsAllFailuresOfOurs holds the recording rule against the outcomes that the program knows.
func TestAvailabilityCountsAllFailuresOfOurs(t *testing.T) {
	found := regexp.MustCompile(`mcp_server_operation_duration_seconds_count\{job="vitrine",error_type=~"([^"]+)"`).FindStringSubmatch(readFile(t, "deploy/alerts.yaml"))
	if found == nil {
		t.Fatal("no rule counts the failures of MCP messages")
	}
	matches := regexp.MustCompile("^(?:" + found[1] + ")$").MatchString // Prometheus anchors both ends
	for _, own := range ownOutcomes {
		if want := own != "canceled"; matches(own) != want {
			t.Errorf("the rule counts %s: %v, want %v", own, !want, want)
		}
	}
	for _, refusal := range []string{"", "other", "tool_error", "-32700", "-32600", "-32601", "-32602", "-32002", "-32020", "-32022", "400", "404", "429"} {
		if matches(refusal) {
			t.Errorf("the rule counts %q, a mistake of the caller", refusal)
		}
	}
}

// TestBrokenToolCountsAgainstAvailability: the answer's status is 200, so that only error_type tells it from a model's mistake.
func TestBrokenToolCountsAgainstAvailability(t *testing.T) {
	ts := newTestServer(t)
	rpc := func(arguments string) {
		ts.do("POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_docs","arguments":`+arguments+`}}`,
			"Content-Type: application/json", "Accept: application/json, text/event-stream", "Mcp-Protocol-Version: 2025-06-18")
	}
	rpc(`{}`)
	ts.store = storeStub{ts.store, func(context.Context) error { return errUnavailable }}
	rpc(`{"query":"install"}`)
	text := ts.get("/metrics").body
	for _, kind := range []string{"tool_error", "unavailable"} {
		if want := `mcp_server_operation_duration_seconds_count{error_type="` + kind + `",gen_ai_tool_name="search_docs",mcp_method_name="tools/call",rpc_response_status_code=""} 1`; !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}
