package k8s

// The rules of Grafana's dashboard-linter that make sense for one dashboard, over PromQL as Prometheus itself parses it. The
// linter and pint cannot be had from the Go module proxy. ops_test.go checks titles, descriptions, units and legends.

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

type datasource struct{ Type, UID string }

type panel struct {
	Title, Type string
	Datasource  datasource
	Targets     []struct {
		Expr, LegendFormat string
		Datasource         datasource
	}
}

type dashboard struct {
	Templating struct {
		List []struct {
			Name, Label, Type, AllValue string
			Query                       any
			Multi, IncludeAll           bool
			Refresh                     int
			Datasource                  datasource
		}
	}
	Panels []panel
}

// rateInterval stands for Grafana's variables of time, which PromQL does not know.
const rateInterval = "5m"

// parse parses an expression of the dashboard.
func parse(expr string) (parser.Expr, error) {
	expr = strings.ReplaceAll(expr, "$__rate_interval", rateInterval)
	return parser.ParseExpr(expr)
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal(read(t, "deploy/dashboard.json"), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) == 0 || len(d.Templating.List) == 0 {
		t.Fatal("deploy/dashboard.json has no panels or no variables")
	}
	return d
}

// TestDashboardPassesTheLintersRules checks the variables and each target.
func TestDashboardPassesTheLintersRules(t *testing.T) {
	d := readDashboard(t)
	variables := make(map[string]bool)
	for i, v := range d.Templating.List {
		variables[v.Name] = true
		switch {
		case i == 0 && (v.Type != "datasource" || v.Name != "datasource" || v.Label != "Data source"):
			t.Errorf("the first variable is %q of type %q: template-datasource-rule", v.Name, v.Type)
		case i > 0 && v.Datasource.UID != "${datasource}":
			t.Errorf("variable %s asks %q", v.Name, v.Datasource.UID)
		case i > 0 && (v.IncludeAll && v.AllValue != ".+" || v.Refresh != 2 || v.Label == ""):
			t.Errorf("variable %s: all %q, refresh %d, label %q: template-instance-rule", v.Name, v.AllValue, v.Refresh, v.Label)
		case v.Name == "instance" && (!v.Multi || !v.IncludeAll):
			t.Errorf("variable instance: multi %v, all %v: template-instance-rule", v.Multi, v.IncludeAll)
		}
	}
	used := regexp.MustCompile(`\$\{?(\w+)`)
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" {
			t.Errorf("%s: data source %q: panel-datasource-rule", p.Title, p.Datasource.UID)
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%s: data source %q of a target", p.Title, target.Datasource.UID)
			}
			for _, problem := range lintTarget(target.Expr, target.LegendFormat) {
				t.Errorf("%s: %s: %s", p.Title, problem, target.Expr)
			}
			for _, match := range used.FindAllStringSubmatch(target.Expr, -1) {
				if !variables[match[1]] && match[1] != "__rate_interval" {
					t.Errorf("%s: there is no variable %s", p.Title, match[1])
				}
			}
		}
	}
}

// lintTarget returns what is wrong with an expression, whose series legend names.
func lintTarget(expr, legend string) (problems []string) {
	parsed, err := parse(expr)
	if err != nil {
		return []string{fmt.Sprintf("target-promql-rule: %v", err)}
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			problems = append(problems, lintSelector(n)...)
		case *parser.MatrixSelector:
			if n.Range != 5*time.Minute && n.Range < time.Hour { // an hour or more is asked for as such
				problems = append(problems, fmt.Sprintf("target-rate-interval-rule: a range of %v", n.Range))
			}
		case *parser.Call:
			problems = append(problems, lintCall(n)...)
		}
		return nil
	})
	if !isAggregated(parsed) {
		return problems
	}
	for _, match := range regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`).FindAllStringSubmatch(legend, -1) {
		if !strings.Contains(expr, match[1]) {
			problems = append(problems, "the legend names "+match[1]+", which no series has")
		}
	}
	return problems
}

func selectorOf(m *parser.MatrixSelector) *parser.VectorSelector {
	s, _ := m.VectorSelector.(*parser.VectorSelector)
	return s
}

// isAggregated reports whether an aggregation is outermost, so that series have only the labels that it names.
func isAggregated(e parser.Expr) bool {
	_, is := e.(*parser.AggregateExpr)
	return is
}

// lintSelector checks the labels of a selector. A metric of an instance is chosen by the variable instance or joined with
// target_info.
func lintSelector(s *parser.VectorSelector) (problems []string) {
	chosen := strings.HasPrefix(s.Name, "vitrine:") || s.Name == "ALERTS"
	for _, m := range s.LabelMatchers {
		switch {
		case m.Name == "job" && !strings.Contains(m.Value, "$"):
			problems = append(problems, "target-job-rule: a job of its own "+m.Value)
		case strings.Contains(m.Value, "$") && m.Type != labels.MatchRegexp:
			problems = append(problems, "a variable of several values needs =~: "+m.String())
		case m.Name == "instance" && m.Value == "$instance", s.Name == "target_info" && m.Value == "$service":
			chosen = true
		}
	}
	if !chosen {
		problems = append(problems, "target-instance-rule: "+s.Name+" is of all instances")
	}
	return problems
}

// lintCall checks that rates are of counters, and that only rates are.
func lintCall(c *parser.Call) (problems []string) {
	if !slices.Contains([]string{"rate", "irate", "increase"}, c.Func.Name) {
		return nil
	}
	matrix, ok := c.Args[0].(*parser.MatrixSelector)
	if !ok {
		return []string{"target-counter-agg-rule: a rate of what is no counter"}
	}
	name := selectorOf(matrix).Name
	isCounter := regexp.MustCompile(`_(total|count|sum|bucket)$`).MatchString(name)
	if !isCounter {
		problems = append(problems, "target-rate-counter-rule: a rate of the gauge "+name)
	}
	return problems
}

// TestLinterFindsWhatIsWrong holds the rules against faults.
func TestLinterFindsWhatIsWrong(t *testing.T) {
	for expr, want := range map[string]string{
		`sum(rate(a_total{instance=~"$instance"}[$__rate_interval]))`: "",
		`vitrine:slo_errors:ratio_rate1h{slo="latency"}`:              "",
		`sum(rate(a_total{instance=~"$instance"}[1m]))`:               "target-rate-interval-rule",
		`sum(rate(a_total[$__rate_interval]))`:                        "target-instance-rule",
		`sum(rate(a_total{instance="$instance"}[$__rate_interval]))`:  "a variable of several values",
		`rate(a{instance=~"$instance"}[$__rate_interval])`:            "target-rate-counter-rule",
		`sum(a{job="vitrine",instance=~"$instance"})`:                 "target-job-rule",
		`sum(a{instance=~"$instance"}`:                                "target-promql-rule",
		`rate(sum(a_total{instance=~"$instance"})[5m:1m])`:            "target-counter-agg-rule",
	} {
		got := strings.Join(lintTarget(expr, ""), "; ")
		if got != "" && want == "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
	if got := lintTarget(`sum by (a) (b{instance=~"$instance"})`, "{{missing}}"); len(got) != 1 {
		t.Errorf("a legend without its label: %q", got)
	}
}

// TestRulesAreWellFormed parses deploy/alerts.yaml as PromQL and looks for what pint looks for: rates of gauges, ranges that
// miss scrapes, series of other jobs.
func TestRulesAreWellFormed(t *testing.T) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct{ Alert, Record, Expr string }
		}
	}
	if err := yaml.Unmarshal(read(t, "deploy/alerts.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			n++
			parsed, err := parser.ParseExpr(rule.Expr)
			if err != nil {
				t.Errorf("%s%s: %v", rule.Alert, rule.Record, err)
				continue
			}
			for _, problem := range lintRule(parsed) {
				t.Errorf("%s%s: %s", rule.Alert, rule.Record, problem)
			}
		}
	}
	if n < 30 {
		t.Errorf("%d rules", n)
	}
}

func lintRule(e parser.Expr) (problems []string) {
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			ofJob := func(m *labels.Matcher) bool { return m.Name == "job" && m.Value == "vitrine" }
			if !strings.HasPrefix(n.Name, "vitrine:") && !slices.ContainsFunc(n.LabelMatchers, ofJob) {
				problems = append(problems, n.Name+" is of all jobs")
			}
		case *parser.MatrixSelector:
			if n.Range < 2*time.Minute {
				problems = append(problems, fmt.Sprintf("a range of %v misses scrapes", n.Range))
			}
		case *parser.Call:
			problems = append(problems, lintCall(n)...)
		}
		return nil
	})
	return problems
}
