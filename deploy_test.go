package main

// What ships beside the program: the page, the image, the manifests. Each is held against the program itself, so that neither
// can change alone.

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io/fs"
	"net"
	"net/http"
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

const browserAccept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"

func TestPageIsServedToBrowsersOnEveryListener(t *testing.T) {
	ts := newTestServer(t, "ADMIN_ADDR=127.0.0.1:0")
	for _, test := range []struct{ path, serves string }{{"/", "search"}, {"admin:/", "admin"}} {
		a := ts.do("GET", test.path, "", browserAccept)
		if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || !strings.Contains(a.body, `<html lang="en" data-serves="`+test.serves+`">`) {
			t.Errorf("%s: %d %v %.100q", test.path, a.status, a.header, a.body)
		}
		if a := ts.do("GET", test.path, "", "Accept: */*"); !strings.HasPrefix(a.body, "vitrine ") || a.header.Get("Vary") != "Accept" {
			t.Errorf("%s for curl: %v %.100q", test.path, a.header, a.body)
		}
	}
	if a := newTestServer(t).do("GET", "/", "", browserAccept); !strings.Contains(a.body, `data-serves="search admin"`) {
		t.Error("a single listener does not say that it serves both")
	}
}

// TestPagePolicyAllowsThePageAlone computes the hashes as a browser does: of what stands between the tags of the body.
func TestPagePolicyAllowsThePageAlone(t *testing.T) {
	a := newTestServer(t).do("GET", "/", "", browserAccept)
	policy := a.header.Get("Content-Security-Policy")
	for _, directive := range []string{"default-src 'none'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !slices.Contains(strings.Split(policy, "; "), directive) {
			t.Errorf("no %s in %s", directive, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("the policy has holes: %s", policy)
	}
	for tag, directive := range map[string]string{"style": "style-src", "script": "script-src"} {
		found := regexp.MustCompile(`(?s)<`+tag+`[^>]*>(.*?)</`+tag+`>`).FindAllStringSubmatch(a.body, -1)
		if len(found) != 1 {
			t.Fatalf("%d elements %s: the policy has the hash of one", len(found), tag)
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		if want := directive + " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"; !strings.Contains(policy, want) {
			t.Errorf("no %s in %s", want, policy)
		}
	}
}

func TestPageAsksNobodyElseAndParsesNothing(t *testing.T) {
	for _, bad := range []string{`\bsrc=`, `<[a-z][^>]*\son[a-z]+=`, `<[a-z][^>]*\sstyle=`, `@import`, `url\(`, `innerHTML`, `outerHTML`, `insertAdjacentHTML`, `document\.write`, `\beval\(`, `localStorage`, `sessionStorage`, `document\.cookie`} {
		if at := regexp.MustCompile(bad).FindStringIndex(page); at != nil {
			t.Errorf("index.html has %q", page[at[0]:min(at[1]+40, len(page))])
		}
	}
	for _, link := range regexp.MustCompile(`https?://[^'"\s/]+`).FindAllString(page, -1) {
		if link != "http://www.w3.org" && link != "http://x" { // a namespace; a base to resolve links with
			t.Errorf("index.html names %s", link)
		}
	}
}

func TestHealthAsksTheServerOfItsSettings(t *testing.T) {
	ts := newTestServer(t, "ALLOWED_HOSTS=docs.example.com")
	u, err := url.Parse(ts.url)
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	free.Close()
	health := func(env ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), []string{"-health"}, append(env, "ALLOWED_HOSTS=docs.example.com"), &out)
		return out.String(), err
	}
	for _, addr := range []string{u.Host, ":" + u.Port(), "0.0.0.0:" + u.Port()} {
		if out, err := health("ADDR=" + addr); err != nil || !strings.HasPrefix(out, "serving ok\n") {
			t.Errorf("ADDR=%s: %q, %v", addr, out, err)
		}
	}
	if _, err := health("ADDR=" + nobody); err == nil || !strings.Contains(err.Error(), "not ready: ") {
		t.Errorf("nobody is there: %v", err)
	}
	ts.ready.Store(false)
	if _, err := health("ADDR=" + u.Host); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "serving not ready") {
		t.Errorf("not ready: %v", err)
	}
}

// TestBinaryIsReproducible builds as the Dockerfile does, in two folders, and tries the stamps.
func TestBinaryIsReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program twice")
	}
	dockerfile := readFile(t, "Dockerfile")
	line := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*) -o /vitrine \.$`).FindStringSubmatch(dockerfile)
	if line == nil {
		t.Fatal("the Dockerfile has no line RUN CGO_ENABLED=0 go build … -o /vitrine .")
	}
	var sums [2][32]byte
	for i := range sums {
		dir := filepath.Join(t.TempDir(), strings.Repeat("deeper/", i)+"src")
		copySources(t, dir)
		build := exec.Command("sh", "-c", line[1]+" -o vitrine .")
		build.Dir, build.Env = dir, append(os.Environ(), "VERSION=1.2.3", "REVISION=0123abcd", "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		binary, err := os.ReadFile(filepath.Join(dir, "vitrine"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(binary)
		if !bytes.Contains(binary, []byte("0123abcd")) {
			t.Error("the revision is not stamped")
		}
		if out, err := exec.Command(filepath.Join(dir, "vitrine"), "-version").Output(); err != nil || string(out) != "1.2.3\n" {
			t.Errorf("-version prints %q, %v", out, err)
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds, two binaries: %x and %x", sums[0], sums[1])
	}
}

// copySources copies what .dockerignore lets through.
func copySources(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(readFile(t, ".dockerignore"), "\n")
	entries, err := fs.ReadDir(os.DirFS("."), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		taken := false
		for _, pattern := range lines {
			keep := strings.HasPrefix(pattern, "!")
			if match, _ := filepath.Match(strings.TrimPrefix(pattern, "!"), entry.Name()); match {
				taken = keep
			}
		}
		if taken && !entry.IsDir() {
			if err := os.WriteFile(filepath.Join(dir, entry.Name()), []byte(readFile(t, entry.Name())), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// deployedVariables returns the variables that a file sets for the program: their values, or "" where they come from a Secret.
func deployedVariables(t *testing.T) map[string]map[string]string {
	t.Helper()
	_, service, _ := strings.Cut(readFile(t, "compose.yaml"), "\n  vitrine:\n")
	service, _, _ = strings.Cut(service, "\n  postgres:\n")
	_, environment, _ := strings.Cut(service, "\n    environment:\n")
	environment, _, _ = strings.Cut(environment, "\n    volumes:\n")
	found := make(map[string]map[string]string)
	for file, in := range map[string]struct{ text, pattern string }{
		"Dockerfile":   {readFile(t, "Dockerfile"), `(?m)^ENV ([A-Z_]+)=(.*)$`},
		"compose.yaml": {environment, `(?m)^ {6}([A-Z_]+): ("[^"]*"|\S+)`},
		"k8s.yaml":     {readFile(t, "k8s.yaml"), `(?m)^ +- (?:\{name: |name: )([A-Z_]+)(?:, value: ([^}]*)\}|, valueFrom|\n +value: (.*))`},
	} {
		found[file] = make(map[string]string)
		for _, m := range regexp.MustCompile(in.pattern).FindAllStringSubmatch(in.text, -1) {
			found[file][m[1]] = strings.Trim(strings.Join(m[2:], ""), `"`)
		}
		if len(found[file]) == 0 {
			t.Fatalf("%s sets nothing", file)
		}
	}
	return found
}

func TestDeployedVariablesAreSettings(t *testing.T) {
	manifest, table := readFile(t, "k8s.yaml"), variables(new(settings))
	for file, set := range deployedVariables(t) {
		for name, value := range set {
			i := slices.IndexFunc(table, func(v variable) bool { return v.name == name })
			switch {
			case i < 0 && file == "k8s.yaml" && strings.Contains(manifest, "$("+name+")"): // goes into another one
			case i < 0 && !strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_"):
				t.Errorf("%s sets %s, which is no setting", file, name)
			case i >= 0 && value != "" && !strings.Contains(value, "$"):
				if err := table[i].set(value); err != nil {
					t.Errorf("%s: %s=%s: %v", file, name, value, err)
				}
			}
		}
	}
	for _, v := range table {
		if line := "{name: " + v.name + ", valueFrom: {secretKeyRef: {name: vitrine, key: " + v.name + ", optional: true}}}"; v.secret && !strings.Contains(manifest, line) {
			t.Errorf("k8s.yaml does not take %s from the Secret", v.name)
		}
	}
	compose := readFile(t, "compose.yaml")
	for _, name := range []string{"ADMIN_TOKEN", "POSTGRES_PASSWORD"} {
		if !strings.Contains(compose, name+": ${"+name+":?") {
			t.Errorf("compose.yaml does not insist on a %s from outside", name)
		}
	}
}

func TestDeployedPortsAgree(t *testing.T) {
	set := deployedVariables(t)
	_, port, _ := net.SplitHostPort(set["Dockerfile"]["ADDR"])
	_, adminPort, _ := net.SplitHostPort(set["k8s.yaml"]["ADMIN_ADDR"])
	if set["k8s.yaml"]["ADDR"] != ":"+port || port == "" || adminPort == "" || port == adminPort {
		t.Fatalf("ADDR is %v, ADMIN_ADDR %v", set["k8s.yaml"]["ADDR"], set["k8s.yaml"]["ADMIN_ADDR"])
	}
	for file, lines := range map[string][]string{
		"Dockerfile":   {"\nEXPOSE " + port + "\n"},
		"k8s.yaml":     {"{name: http, containerPort: " + port + "}", "{name: admin, containerPort: " + adminPort + "}", "{name: admin, port: " + adminPort + ", targetPort: admin}"},
		"compose.yaml": {`ports: ["127.0.0.1:` + port + ":" + port + `"]`, `targets: ["vitrine:` + port + `"]`},
	} {
		for _, line := range lines {
			if !strings.Contains(readFile(t, file), line) {
				t.Errorf("%s lacks %s", file, line)
			}
		}
	}
}

// TestGracePeriodIsLongEnough adds up what lies between the decision to stop a Pod and the end of the process.
func TestGracePeriodIsLongEnough(t *testing.T) {
	manifest := readFile(t, "k8s.yaml")
	seconds := func(text, pattern string) time.Duration {
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no %s", pattern)
		}
		d, err := time.ParseDuration(m[1] + "s")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	const closing = 7 * time.Second // server.close: traces and logs
	most := seconds(manifest, `DRAIN_DELAY, value: (\d+)s\}`) + drainTimeout + closing
	if grace := seconds(manifest, `terminationGracePeriodSeconds: (\d+)`); grace <= most+seconds(manifest, `sleep: \{seconds: (\d+)\}`) {
		t.Errorf("k8s.yaml gives %v for %v and the preStop pause", grace, most)
	}
	if grace := seconds(readFile(t, "compose.yaml"), `stop_grace_period: (\d+)s`); grace <= drainTimeout+closing {
		t.Errorf("compose.yaml gives %v for %v", grace, drainTimeout+closing)
	}
}

// TestVersionsArePinned fails for an image without an exact version or an action without a commit.
func TestVersionsArePinned(t *testing.T) {
	workflow := readFile(t, ".github/workflows/build-server.yml")
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(readFile(t, "go.mod"))[1]
	for file, image := range map[string]string{"Dockerfile": "FROM golang:", ".github/workflows/build-server.yml": "container: golang:"} {
		m := regexp.MustCompile(regexp.QuoteMeta(image) + `(\d+\.\d+\.\d+)-bookworm\b`).FindStringSubmatch(readFile(t, file))
		if m == nil || !strings.HasPrefix(m[1], goVersion+".") {
			t.Errorf("%s builds with %v, go.mod says %s", file, m, goVersion)
		}
	}
	for _, m := range regexp.MustCompile(`uses: (\S+)`).FindAllStringSubmatch(workflow, -1) {
		if !regexp.MustCompile(`@[0-9a-f]{40}$`).MatchString(m[1]) {
			t.Errorf("action %s is not pinned by its commit", m[1])
		}
	}
	if !strings.Contains(workflow, "\npermissions:\n  contents: read\n\n") || strings.Contains(workflow, ": write") {
		t.Error("the workflow may do more than read")
	}
	exact := regexp.MustCompile(`^(vitrine:\$\{VERSION:-devel\}|[a-z/-]+:v?\d+\.\d+\.\d+(-pg\d+)?)$`)
	for _, file := range []string{"compose.yaml", "k8s.yaml", "k8s-postgres.yaml"} {
		for _, m := range regexp.MustCompile(`(?m)^ +image: (\S+)`).FindAllStringSubmatch(readFile(t, file), -1) {
			if !exact.MatchString(m[1]) {
				t.Errorf("%s: image %s has no exact version", file, m[1])
			}
		}
	}
	if own := regexp.MustCompile(`image: (vitrine:\S+)`).FindStringSubmatch(readFile(t, "k8s.yaml"))[1]; !strings.Contains(workflow, "IMAGE: "+own+" ") {
		t.Errorf("the workflow does not build %s, which k8s.yaml runs", own)
	}
}
