package main

// What ships beside the program: the image and the manifests. Each is held against the program itself, so that neither
// can change alone.

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestBinaryIsReproducible builds as the Dockerfile does, in two folders, and tries the stamps.
func TestBinaryIsReproducible(t *testing.T) {
	t.Parallel()
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

// TestReleaseBuildsWhatItSays builds a release for this machine, which must be the version that CHANGELOG.md describes first
// and k8s.yaml runs.
func TestReleaseBuildsWhatItSays(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the program")
	}
	if out, err := exec.Command("git", "rev-parse", "HEAD").CombinedOutput(); err != nil {
		t.Skipf("not a repository: %s", out)
	}
	newest := regexp.MustCompile(`(?m)^## (.*)$`).FindStringSubmatch(readFile(t, "CHANGELOG.md"))[1]
	if newest != release || !strings.Contains(readFile(t, "k8s.yaml"), "image: vitrine:"+release+" ") {
		t.Errorf("build.go says %s, CHANGELOG.md %s", release, newest)
	}

	dir := filepath.Join(t.TempDir(), "dist")
	platform := runtime.GOOS + "/" + runtime.GOARCH
	build := func(env ...string) ([]byte, error) {
		cmd := exec.Command(".ci/release")
		cmd.Env = append(os.Environ(), append(env, "OUT="+dir, "PLATFORMS="+platform, "PATH="+withoutDocker(t))...)
		return cmd.CombinedOutput()
	}
	if out, err := build("GITHUB_REF_NAME=v0.0.1"); err == nil || !strings.Contains(string(out), "the tag is v0.0.1") {
		t.Errorf("a tag of another version: %v %s", err, out)
	}
	if out, err := build("GITHUB_REF_NAME=v" + release); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	binary := "vitrine_" + strings.ReplaceAll(platform, "/", "_")
	sums := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	sums.Dir = dir
	out, err := sums.CombinedOutput()
	if want := binary + ": OK\n" + binary + ".sbom.txt: OK\n"; err != nil || string(out) != want {
		t.Errorf("SHA256SUMS: %v %s", err, out)
	}
	if out, err := exec.Command(filepath.Join(dir, binary), "version").Output(); err != nil || string(out) != release+"\n" {
		t.Errorf("the binary's version: %v %s", err, out)
	}
	for name, want := range map[string]string{"NOTES.md": "The first release", binary + ".sbom.txt": "github.com/lib/pq"} {
		if text := readFile(t, filepath.Join(dir, name)); !strings.Contains(text, want) {
			t.Errorf("%s: no %s in\n%s", name, want, text)
		}
	}
}

// withoutDocker returns a PATH whose docker does nothing but fail, because an image takes minutes.
func withoutDocker(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + ":" + os.Getenv("PATH")
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
		if taken && entry.IsDir() {
			if err := os.CopyFS(filepath.Join(dir, entry.Name()), os.DirFS(entry.Name())); err != nil {
				t.Fatal(err)
			}
		}
		if taken && !entry.IsDir() {
			if err := os.WriteFile(filepath.Join(dir, entry.Name()), []byte(readFile(t, entry.Name())), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
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
	_, data, _ := strings.Cut(readFile(t, "k8s.yaml"), "\nkind: ConfigMap\n")
	data, _, _ = strings.Cut(data, "\n---\n")
	for _, m := range regexp.MustCompile(`(?m)^  (?:# )?([A-Z_]+): (.*)$`).FindAllStringSubmatch(data, -1) {
		if _, isTwice := found["k8s.yaml"][m[1]]; isTwice {
			t.Errorf("k8s.yaml sets %s in the ConfigMap and in env, which wins silently", m[1])
		}
		found["k8s.yaml"][m[1]] = m[2]
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
	most := seconds(manifest, `DRAIN_DELAY: (\d+)s`) + drainTimeout + closing
	if grace := seconds(manifest, `terminationGracePeriodSeconds: (\d+)`); grace <= most+seconds(manifest, `sleep: \{seconds: (\d+)\}`) {
		t.Errorf("k8s.yaml gives %v for %v and the preStop pause", grace, most)
	}
	if grace := seconds(readFile(t, "compose.yaml"), `stop_grace_period: (\d+)s`); grace <= drainTimeout+closing {
		t.Errorf("compose.yaml gives %v for %v", grace, drainTimeout+closing)
	}
}

// TestVersionsArePinned fails for an image without an exact version or an action without a commit.
func TestVersionsArePinned(t *testing.T) {
	const checks, release = ".github/workflows/build-server.yml", ".github/workflows/release.yml"
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(readFile(t, "go.mod"))[1]
	for file, image := range map[string]string{"Dockerfile": "FROM --platform=$BUILDPLATFORM golang:", checks: "container: golang:", release: "container: golang:"} {
		m := regexp.MustCompile(regexp.QuoteMeta(image) + `(\d+\.\d+\.\d+)-bookworm\b`).FindStringSubmatch(readFile(t, file))
		if m == nil || !strings.HasPrefix(m[1], goVersion+".") {
			t.Errorf("%s builds with %v, go.mod says %s", file, m, goVersion)
		}
	}
	for _, file := range []string{checks, release} {
		actions := regexp.MustCompile(`uses: (\S+)`).FindAllStringSubmatch(readFile(t, file), -1)
		if len(actions) == 0 {
			t.Errorf("%s uses no action", file)
		}
		for _, m := range actions {
			if !regexp.MustCompile(`@[0-9a-f]{40}$`).MatchString(m[1]) {
				t.Errorf("%s: action %s is not pinned by its commit", file, m[1])
			}
		}
		if !strings.Contains(readFile(t, file), "\npermissions:\n  contents: read\n\n") {
			t.Errorf("%s may do more than read", file)
		}
	}
	workflow := readFile(t, checks)
	if strings.Contains(workflow, ": write") {
		t.Error("the workflow of every change may write")
	}
	exact := regexp.MustCompile(`^(vitrine:\$\{VERSION:-devel\}|[a-z/-]+:v?\d+\.\d+\.\d+(-pg\d+)?)$`)
	for _, file := range []string{"compose.yaml", "deploy/compose.small.yaml", "k8s.yaml", "deploy/k8s-postgres.yaml"} {
		images := regexp.MustCompile(`(?m)^ +image: (\S+)`).FindAllStringSubmatch(readFile(t, file), -1)
		if len(images) == 0 {
			t.Errorf("%s names no image", file)
		}
		for _, m := range images {
			if !exact.MatchString(m[1]) {
				t.Errorf("%s: image %s has no exact version", file, m[1])
			}
		}
	}
	if own := regexp.MustCompile(`image: (vitrine:\S+)`).FindStringSubmatch(readFile(t, "k8s.yaml"))[1]; !strings.Contains(workflow, "IMAGE: "+own+" ") {
		t.Errorf("the workflow does not build %s, which k8s.yaml runs", own)
	}
}

// TestBackupOfTheFolderRestores runs the runbook's own commands: a backup that is taken while documents are replaced has each
// of them whole, and a server over what is restored answers with the same.
func TestBackupOfTheFolderRestores(t *testing.T) {
	t.Parallel()
	dir, restored, work := t.TempDir(), filepath.Join(t.TempDir(), "restored"), t.TempDir()
	p := start(t, []string{"DOCS_DIR=" + dir})
	text := func(i, version int) string {
		return fmt.Sprintf("# Page %d\n\n", i) + strings.Repeat(fmt.Sprintf("version %d of page %d\n", version, i), 200)
	}
	const pages = 30
	for i := range pages {
		if status := p.put(fmt.Sprintf("guide/%d.md", i), text(i, 1)); status != http.StatusCreated {
			t.Fatalf("PUT: %d", status)
		}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	var replaced atomic.Int64
	go func() { // replaces the second half of the pages again and again
		defer close(ended)
		for n := 2; ; n++ {
			select {
			case <-done:
				return
			default:
				i := pages/2 + n%(pages/2)
				if p.put(fmt.Sprintf("guide/%d.md", i), text(i, n)) == http.StatusNoContent {
					replaced.Add(1)
				}
			}
		}
	}()
	waitFor(t, "the first replacements", func() bool { return replaced.Load() > pages })
	commands := regexp.MustCompile(`(?m)^\$ (tar .*|mkdir .*)$`).FindAllStringSubmatch(readFile(t, "RUNBOOK.md"), -1)
	if len(commands) != 2 {
		t.Fatalf("RUNBOOK.md has %d commands for backup and restore", len(commands))
	}
	for i, command := range commands {
		cmd := exec.Command("bash", "-c", command[1])
		cmd.Dir, cmd.Env = work, append(os.Environ(), "DOCS_DIR="+dir, "RESTORED="+restored)
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code > 1 || i > 0 && code != 0 {
			t.Errorf("%s: %v %s", command[1], err, out)
		}
	}
	close(done)
	<-ended
	again := start(t, []string{"DOCS_DIR=" + restored})
	for i := range pages {
		status, got := again.get(fmt.Sprintf("/documents/guide/%d.md", i))
		version := regexp.MustCompile(`version (\d+) of`).FindStringSubmatch(got)
		if status != http.StatusOK || version == nil || strings.Count(got, version[0]) != 200 || i < pages/2 && got != text(i, 1) {
			t.Errorf("page %d: %d %.200q", i, status, got)
		}
	}
	if _, listed := again.get("/documents?limit=1000"); strings.Count(listed, `"id":`) != pages {
		t.Errorf("restored: %s", listed)
	}
	if _, found := again.get("/search?q=version+of+page+7&limit=1"); !strings.Contains(found, `"document":"guide/7.md"`) {
		t.Errorf("found: %s", found)
	}
}

// TestBackupOfTheDatabaseRestores runs the runbook's commands with the tools of the tests' server, or skips where they are not
// at hand: a server over the restored database answers with the same.
func TestBackupOfTheDatabaseRestores(t *testing.T) {
	t.Parallel()
	from, to, work := newDatabase(t), newDatabase(t), t.TempDir()
	path := postgresTools(t, work)
	const site = "DOCS_URL=https://docs.example.com/" // the same for both
	p := start(t, []string{"DATABASE_URL=" + from, site})
	for i := range 20 {
		if status := p.put(fmt.Sprintf("guide/%d.md", i), fmt.Sprintf("# Page %d\n\nversion of page %d", i, i)); status != http.StatusCreated {
			t.Fatalf("PUT: %d", status)
		}
	}
	commands := regexp.MustCompile(`(?m)^    (pg_(?:dump|restore) .*)$`).FindAllStringSubmatch(readFile(t, "RUNBOOK.md"), -1)
	if len(commands) != 2 {
		t.Fatalf("RUNBOOK.md has %d commands for backup and restore", len(commands))
	}
	for _, command := range commands {
		cmd := exec.Command("bash", "-c", command[1])
		cmd.Dir, cmd.Env = work, append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"), "DATABASE_URL="+from, "RESTORED_URL="+to)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", command[1], err, out)
		}
	}
	again := start(t, []string{"DATABASE_URL=" + to, site})
	took := regexp.MustCompile(`"took_ms":[\d.]+`)
	for _, path := range []string{"/documents?limit=1000", "/documents/guide/7.md", "/search?q=version+of+page+7&limit=20"} {
		_, want := p.get(path)
		status, got := again.get(path)
		if want, got = took.ReplaceAllString(want, ""), took.ReplaceAllString(got, ""); status != http.StatusOK || got != want {
			t.Errorf("%s: %d %s\nbefore: %s", path, status, got, want)
		}
	}
}

// TestDatabaseCommandsOfTheRunbookRun runs each psql line of the runbook while a search waits for a lock, and serves with the
// role that one of them makes.
func TestDatabaseCommandsOfTheRunbookRun(t *testing.T) {
	t.Parallel()
	owner, work := newDatabase(t), t.TempDir()
	path := postgresTools(t, work)
	dropRoles := "DROP OWNED BY docs_2, vitrine; DROP ROLE docs_2, vitrine"
	execSQL(t, owner, "CREATE ROLE vitrine LOGIN PASSWORD 'OLD'", "GRANT ALL ON SCHEMA public TO vitrine", "CREATE EXTENSION IF NOT EXISTS vector")
	t.Cleanup(func() { execSQL(t, owner, dropRoles) })
	as := func(role, password string) string {
		u, err := url.Parse(owner)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(role, password)
		return u.String()
	}

	p := start(t, []string{"DATABASE_URL=" + as("vitrine", "OLD")})
	if status := p.put("a.md", "# Lantern"); status != http.StatusCreated {
		t.Fatalf("PUT: %d", status)
	}
	block := regexp.MustCompile(`(?m)^ {4,}((?:PGCONNECT_TIMEOUT=5 )?psql .*)$`)
	inline := regexp.MustCompile("`(psql \"\\$DATABASE_URL\" [^`]*)`")
	runbook := readFile(t, "RUNBOOK.md")
	commands := append(block.FindAllStringSubmatch(runbook, -1), inline.FindAllStringSubmatch(runbook, -1)...)
	if len(commands) != 7 {
		t.Fatalf("RUNBOOK.md has %d psql commands", len(commands))
	}
	shown := map[string]string{ // a part of a command, and a pattern of what it shows
		"timing":           `(?m)^Time: `,
		"AS blocked_by":    `\| Lock +\| relation +\| chunks +\| \{\d+\} +\| waits-4711 +\| +WITH narrow `,
		"SELECT unnest":    `\| idle in transaction +\|.*\| LOCK TABLE chunks`,
		"GROUP BY 1, 2, 3": `\| vitrine +\|`,
	}
	release := searchUnderLock(t, p, owner)
	for _, command := range commands {
		pattern := ""
		for part, wanted := range shown {
			if strings.Contains(command[1], part) {
				pattern = wanted
			}
		}
		waitFor(t, pattern+" in what this shows: "+command[1], func() bool {
			cmd := exec.Command("bash", "-c", command[1])
			cmd.Dir, cmd.Env = work, append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"), "DATABASE_URL="+owner, "OWNER_URL="+owner)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v %s", command[1], err, out)
			}
			return regexp.MustCompile(pattern).Match(out)
		})
	}
	release()

	again := start(t, []string{"DATABASE_URL=" + as("docs_2", "NEW")})
	if _, found := again.get("/search?q=lantern"); !strings.Contains(found, "a.md") {
		t.Errorf("with the new role: %s", found)
	}
	if status := again.put("b.md", "# Lamp"); status != http.StatusCreated {
		t.Errorf("PUT with the new role: %d", status)
	}
}

// searchUnderLock locks the table chunks in the database at url, and searches with p until release: each search waits for the lock.
func searchUnderLock(t *testing.T, p *process, url string) (release func()) {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	lock, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec("LOCK TABLE chunks"); err != nil {
		t.Fatal(err)
	}

	var searches sync.WaitGroup
	var released atomic.Bool
	searches.Go(func() {
		for !released.Load() {
			p.get("/search?q=lantern", "X-Correlation-ID: waits-4711")
		}
	})
	return func() {
		released.Store(true)
		_ = lock.Rollback()
		searches.Wait()
	}
}

// postgresTools returns a folder in dir with pg_dump and pg_restore as new as the tests' server: those that
// testdata/postgres-up.sh unpacked, with the loader and libraries they came with.
func postgresTools(t *testing.T, dir string) string {
	t.Helper()
	cache := os.Getenv("CACHE")
	if cache == "" {
		if cache = os.Getenv("XDG_CACHE_HOME"); cache == "" {
			cache = "/var/tmp"
		}
		cache += "/vitrine-postgres"
	}
	libraries := cache + "/root/usr/lib/x86_64-linux-gnu"
	for _, tool := range []string{"pg_dump", "pg_restore", "psql.elf"} {
		program := cache + "/root/usr/lib/postgresql/17/bin/" + tool
		if _, err := os.Stat(program); err != nil {
			t.Skipf("no %s of the server's version: %v", tool, err)
		}
		script := fmt.Sprintf("#!/bin/sh\nexec %s/ld-linux-x86-64.so.2 --library-path %s --argv0 \"$0\" %s \"$@\"\n", libraries, libraries, program)
		if err := os.WriteFile(filepath.Join(dir, strings.TrimSuffix(tool, ".elf")), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
