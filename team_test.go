package main

// What README says under "For your team": the settings, the proxy, the service and the clients' file.

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// readmeBlock returns the first code block of the README, fenced or indented, that begins with a line.
func readmeBlock(t *testing.T, first string) string {
	t.Helper()
	_, rest, ok := strings.Cut(readFile(t, "README.md"), "\n"+first)
	block, _, isClosed := strings.Cut(rest, "\n```\n")
	if !ok || !isClosed {
		t.Fatalf("README.md has no block that begins with %s", first)
	}
	return first + block + "\n"
}

// teamSettings returns the settings of /etc/vitrine.env, with a folder that is there.
func teamSettings(t *testing.T) []string {
	t.Helper()
	text := strings.Replace(readmeBlock(t, "DOCS_DIR=/srv/docs"), "/srv/docs", "./testdata/manual", 1)
	return strings.Split(strings.TrimSpace(text), "\n")
}

func TestSettingsForATeamAreValid(t *testing.T) {
	cfg := testSettings(t, teamSettings(t)...)
	if err := cfg.checkFolders(); err != nil || len(cfg.shortTokens()) > 0 || cfg.apiToken == "" || cfg.adminToken == "" {
		t.Errorf("%v, short tokens %v", err, cfg.shortTokens())
	}
}

func TestClientsFileForATeamIsJSON(t *testing.T) {
	var file struct {
		MCPServers map[string]struct {
			Type, URL string
			Headers   map[string]string
		}
	}
	text := readmeBlock(t, `{"mcpServers"`)
	if err := json.Unmarshal([]byte(text), &file); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	docs := file.MCPServers["docs"]
	if docs.Type != "http" || docs.URL != "https://docs.example.com/mcp" || docs.Headers["Authorization"] != "Bearer ${DOCS_TOKEN}" {
		t.Errorf("%+v", docs)
	}
}

// TestCaddyfileServesTheTeam runs Caddy with README's Caddyfile before the program with README's settings.
func TestCaddyfileServesTheTeam(t *testing.T) {
	t.Parallel()
	needTool(t, "caddy")
	p := start(t, teamSettings(t))
	addr := freeAddr(t)
	port := addr[strings.LastIndex(addr, ":"):]
	file := strings.NewReplacer(
		"docs.example.com", "http://docs.example.com"+port, // without a certificate
		"127.0.0.1:8080", strings.TrimPrefix(p.url, "http://"),
	).Replace(readmeBlock(t, "docs.example.com {"))
	dir := t.TempDir()
	name := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(name, []byte("{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}\n"+file), 0o600); err != nil {
		t.Fatal(err)
	}
	caddy := exec.Command("caddy", "run", "--config", name)
	caddy.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	startCommand(t, caddy)
	waitForOK(t, "http://"+addr)

	ask := func(path, token string, header ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "docs.example.com" + port
		r.Header.Set("X-Correlation-ID", "through-caddy")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		for _, pair := range header {
			key, value, _ := strings.Cut(pair, ": ")
			r.Header.Set(key, value)
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	cfg := testSettings(t, teamSettings(t)...)
	for token, want := range map[string]int{cfg.apiToken: 200, cfg.adminToken: 200, "": 401, "other": 401} {
		if resp := ask("/search?q=install", token); resp.StatusCode != want {
			t.Errorf("%q: %s, want %d", token, resp.Status, want)
		}
	}
	line := p.logs.find(t, "request", "through-caddy")
	if _, isCaddy := line["client_port"]; isCaddy || line["client"] != "127.0.0.1" { // X-Forwarded-For has no port
		t.Errorf("the client is not taken from X-Forwarded-For: %v", line)
	}

	// An event stream comes through at once, and not compressed.
	stream := ask("/sse", cfg.apiToken, "Accept-Encoding: gzip")
	first, err := bufio.NewReader(stream.Body).ReadString('\n')
	if err != nil || first != "event: endpoint\n" || stream.Header.Get("Content-Encoding") != "" {
		t.Errorf("the stream begins with %q, %v, %v", first, err, stream.Header)
	}
}

// TestServiceIsSafe lets systemd read the unit, with the program where it is.
func TestServiceIsSafe(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd is not installed")
	}
	program, err := program()
	if err != nil {
		t.Fatal(err)
	}
	unit := readFile(t, "deploy/vitrine.service")
	for _, want := range []string{"DynamicUser=yes", "ProtectSystem=strict", "EnvironmentFile=/etc/vitrine.env"} {
		if !strings.Contains(unit, "\n"+want+"\n") {
			t.Errorf("deploy/vitrine.service has no line %s", want)
		}
	}
	name := filepath.Join(t.TempDir(), "vitrine.service")
	unit = strings.Replace(unit, "ExecStart=/usr/local/bin/vitrine", "ExecStart="+program, 1)
	if err := os.WriteFile(name, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", name).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}

	out, err := exec.Command(analyze, "security", "--offline=true", name).CombinedOutput()
	level := regexp.MustCompile(`exposure level for \S+: ([\d.]+)`).FindSubmatch(out)
	if err != nil || level == nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, out)
	}
	if exposure, err := strconv.ParseFloat(string(level[1]), 64); err != nil || exposure > 1.5 {
		t.Errorf("the service is exposed: %s of 10", level[1])
	}
}
