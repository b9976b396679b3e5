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
