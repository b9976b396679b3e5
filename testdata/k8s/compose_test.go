package k8s

// compose.yaml, read by the library that Docker Compose itself reads it with.

import (
	"context"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// project loads a file, which fails on an unknown field, on what is referred to but not there, and without env.
func project(t *testing.T, file string, env ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{root + file}, cli.WithEnv(env), cli.WithResolvedPaths(true), cli.WithInterpolation(true))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(context.Background())
}

func stack(t *testing.T) *types.Project {
	t.Helper()
	p, err := project(t, "compose.yaml", "ADMIN_TOKEN=admin", "POSTGRES_PASSWORD=secret")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeInsistsOnSecrets(t *testing.T) {
	for _, env := range [][]string{nil, {"ADMIN_TOKEN=admin"}, {"POSTGRES_PASSWORD=secret"}} {
		if _, err := project(t, "compose.yaml", env...); err == nil || !strings.Contains(err.Error(), "openssl rand -hex 24") {
			t.Errorf("with %v: %v", env, err)
		}
	}
}

func TestComposeServicesAreSound(t *testing.T) {
	p := stack(t)
	for name, s := range p.Services {
		problem := func(bad bool, format string, args ...any) {
			t.Helper()
			if bad {
				t.Errorf(name+": "+format, args...)
			}
		}
		_, tag, _ := strings.Cut(s.Image, ":")
		problem(s.Build == nil && !strings.Contains(tag, "."), "image %s has no exact version", s.Image)
		problem(s.HealthCheck == nil && s.Build == nil, "no healthcheck: up --wait would not wait for it") // the Dockerfile has that of ours
		problem(s.Restart != types.RestartPolicyUnlessStopped, "restart: %q", s.Restart)
		problem(s.Privileged || s.NetworkMode != "" || s.Pid != "" || len(s.CapAdd) > 0, "has more rights than it needs")
		for _, port := range s.Ports {
			address, err := netip.ParseAddr(port.HostIP)
			problem(err != nil || !address.IsLoopback(), "port %s is open to other machines", port.Published)
		}
		for on, d := range s.DependsOn {
			problem(d.Condition != types.ServiceConditionHealthy || p.Services[on].HealthCheck == nil, "waits for %s, but not until it is healthy", on)
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				_, err := os.Stat(v.Source)
				problem(err != nil || !v.ReadOnly, "%s: %v; it must be there and be mounted read-only", v.Source, err)
			} else if _, named := p.Volumes[v.Source]; !named {
				t.Errorf("%s: volume %q has no name: its data is lost with the container", name, v.Source)
			}
		}
	}
	for name, c := range p.Configs {
		if _, err := os.Stat(c.File); c.Content == "" && err != nil {
			t.Errorf("config %s: %v", name, err)
		}
		if !slices.ContainsFunc(p.ServiceNames(), func(s string) bool {
			return slices.ContainsFunc(p.Services[s].Configs, func(f types.ServiceConfigObjConfig) bool { return f.Source == name })
		}) {
			t.Errorf("config %s is used by no service", name)
		}
	}
	if s := p.Services["vitrine"]; !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.MemLimit == 0 || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
		t.Error("vitrine is not as locked in as in k8s.yaml")
	}
}

// folderOf returns the folder that Vitrine serves.
func folderOf(t *testing.T, p *types.Project) string {
	t.Helper()
	for _, v := range p.Services["vitrine"].Volumes {
		if v.Target == "/docs" && v.ReadOnly {
			return v.Source
		}
	}
	t.Fatal("nothing is mounted at /docs, or not read-only")
	return ""
}

// TestComposeServesTheFolderInDocsDir also tries the default.
func TestComposeServesTheFolderInDocsDir(t *testing.T) {
	folder := t.TempDir()
	secrets := []string{"ADMIN_TOKEN=admin", "API_TOKEN=api", "POSTGRES_PASSWORD=secret", "SITE=docs.example.com"}
	for _, file := range []string{"compose.yaml", "deploy/compose.small.yaml"} {
		p, err := project(t, file, append(secrets, "DOCS_DIR="+folder)...)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if got := folderOf(t, p); got != folder {
			t.Errorf("%s with DOCS_DIR=%s serves %s", file, folder, got)
		}
		p, err = project(t, file, secrets...)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if _, err := os.Stat(folderOf(t, p) + "/guide/install.md"); err != nil {
			t.Errorf("%s without DOCS_DIR: %v", file, err)
		}
	}
}

// TestSmallComposeIsSound: only Caddy is open to others, and Vitrine trusts what comes from Caddy's network.
func TestSmallComposeIsSound(t *testing.T) {
	const file = "deploy/compose.small.yaml"
	all := []string{"ADMIN_TOKEN=admin", "API_TOKEN=api", "SITE=docs.example.com"}
	for i := range all {
		if _, err := project(t, file, slices.Delete(slices.Clone(all), i, i+1)...); err == nil || !strings.Contains(err.Error(), "export ") {
			t.Errorf("without %s: %v", all[i], err)
		}
	}
	p, err := project(t, file, all...)
	if err != nil {
		t.Fatal(err)
	}
	vitrine, caddy := p.Services["vitrine"], p.Services["caddy"]
	if len(vitrine.Ports) > 0 || vitrine.Build == nil || caddy.HealthCheck == nil {
		t.Error("Vitrine has ports of its own, or a service is not waited for")
	}
	for _, s := range []types.ServiceConfig{vitrine, caddy} {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.MemLimit == 0 || s.Restart != types.RestartPolicyUnlessStopped {
			t.Errorf("%s is not locked in", s.Name)
		}
	}
	if got := caddy.DependsOn["vitrine"].Condition; got != types.ServiceConditionHealthy {
		t.Errorf("Caddy waits for Vitrine to be %q", got)
	}
	subnet := p.Networks["inside"].Ipam.Config[0].Subnet
	if got := *vitrine.Environment["TRUSTED_PROXIES"]; got != subnet {
		t.Errorf("Vitrine trusts %s, Caddy is in %s", got, subnet)
	}
	if got := *vitrine.Environment["ALLOWED_HOSTS"]; got != "docs.example.com" {
		t.Errorf("Vitrine serves the host %s", got)
	}
	table := string(read(t, "SETTINGS.md"))
	for name := range vitrine.Environment {
		if !strings.Contains(table, "\n| `"+name+"` |") {
			t.Errorf("%s is no setting", name)
		}
	}
	want := "{$SITE} {\n\tencode zstd gzip\n\treverse_proxy vitrine:8080\n}\n"
	if got := p.Configs["caddyfile"].Content; got != want {
		t.Errorf("the Caddyfile is %q, want %q", got, want)
	}
}

// TestComposeNamesWhatIsThere follows host:port in settings and configurations to a service, and each setting to SETTINGS.md.
func TestComposeNamesWhatIsThere(t *testing.T) {
	p := stack(t)
	table := string(read(t, "SETTINGS.md"))
	text := ""
	for name, value := range p.Services["vitrine"].Environment {
		if !strings.Contains(table, "\n| `"+name+"` |") && !strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_") {
			t.Errorf("%s is no setting", name)
		}
		text += *value + "\n"
	}
	for _, c := range p.Configs {
		text += c.Content
	}
	found := regexp.MustCompile(`([a-z]+):\d{4,5}\b`).FindAllStringSubmatch(text, -1)
	if len(found) < 5 {
		t.Errorf("only %v", found)
	}
	for _, m := range found {
		if _, ok := p.Services[m[1]]; !ok {
			t.Errorf("%s leads to no service", m[0])
		}
	}
	for _, m := range regexp.MustCompile(`/etc/prometheus/[\w.]+|/etc/grafana/dashboards\b`).FindAllString(text+strings.Join(p.Services["prometheus"].Command, " "), -1) {
		service := strings.Split(m, "/")[2]
		if !slices.ContainsFunc(p.Services[service].Configs, func(c types.ServiceConfigObjConfig) bool { return strings.HasPrefix(c.Target, m) }) {
			t.Errorf("%s has no file %s", service, m)
		}
	}
}
