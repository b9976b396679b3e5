package main

import (
	"bytes"
	"context"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestSettingsReportAllProblemsAtOnce(t *testing.T) {
	env := map[string]string{
		"ADDR": "nowhere", "DOCS_SYNC_INTERVAL": "1", "VECTOR_WEIGHT": "NaN", "ADMIN_TOKEN": "sec ret", "LOG_LEVEL": "loud",
		"ALLOWED_ORIGINS": "app.example.com", "TRUSTED_PROXIES": "10.0.0.1", "RATE_LIMIT": "-1", "DRAIN_DELAY": "-1s",
	}
	_, err := readSettings(env)
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for key, value := range env {
		if key == "ADMIN_TOKEN" {
			value = "(secret)"
		}
		if want := fmt.Sprintf("%s=%q: ", key, value); !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in:\n%v", want, err)
		}
		if want := "for example " + key + "="; !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "sec ret") {
		t.Error("the error shows the token")
	}
}

func TestExamplesAndStandardValuesAreValid(t *testing.T) {
	for _, v := range variables(new(settings)) {
		for _, value := range []string{v.standard, v.example} {
			if value != "" {
				if err := v.set(value); err != nil {
					t.Errorf("%s=%s: %v", v.name, value, err)
				}
			}
		}
	}
}

func TestManualNamesEverySetting(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, nil, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "Vitrine is a documentation search server") {
		t.Errorf("the manual begins with %.80q", out.String())
	}
	for _, v := range variables(new(settings)) {
		if !strings.Contains(out.String(), "\n  "+v.name+" ") {
			t.Errorf("the manual does not name %s", v.name)
		}
	}
}

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
		want = append(want, strings.Join([]string{v.name, v.standard, v.about}, "|"))
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

// TestImportsKeepTheWalls fails if a file imports what belongs in another room.
func TestImportsKeepTheWalls(t *testing.T) {
	rooms := map[string][]string{ // import: the files that may have it
		"database/sql":      {"postgres.go", "queries.go", "replicas.go"},
		"github.com/lib/pq": {"postgres.go", "queries.go", "replicas.go", "upkeep.go"},
		"os/signal":         {"main.go"},
		"net":               {"guard.go", "main.go", "observe.go", "postgres.go", "settings.go", "traces.go"},
		"io/fs":             {"folder.go", "memory.go"},
		"encoding/json":     {"answers.go", "bulk.go", "embed_remote.go", "jsonrpc.go", "mcp.go", "resources.go", "tools.go"},
		"math/rand/v2":      {"embed_remote.go", "record.go"},
		"runtime/debug":     {"main.go", "observe.go", "settings.go"},
		"runtime/pprof":     {"pprof.go"},
		"runtime/trace":     {"pprof.go"},
		"crypto/subtle":     {"guard.go"},
		"unsafe":            {},
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			allowed, walled := rooms[path]
			if strings.Contains(path, "prometheus") || strings.Contains(path, "opentelemetry") {
				allowed, walled = []string{"record.go", "handlers.go", "metrics.go", "traces.go"}, true
			}
			if walled && !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s, which belongs in %v", name, path, allowed)
			}
		}
	}
}

// program builds the program once for all tests that need it as a process.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "vitrine-test")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "vitrine")
	out, err := exec.Command("go", "build", "-o", name, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return name, nil
})

func TestMain(m *testing.M) {
	if os.Getenv("BARE_HANDLER") != "" { // BenchmarkMCPGetDocument has started this
		fmt.Fprintln(os.Stderr, serveBare(os.Getenv("ADDR")))
		os.Exit(1)
	}
	code := m.Run()
	if name, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(name))
	}
	os.Exit(code)
}

// process is the program running on a free loopback port.
type process struct {
	cmd  *exec.Cmd
	url  string
	logs *logBuffer
}

// start starts the program, or a command that ends in it, and waits until it is ready. It is killed when the test ends.
func start(t testing.TB, env []string, wrapper ...string) *process {
	t.Helper()
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	args := append(slices.Clone(wrapper), name)
	p := &process{cmd: exec.Command(args[0], args[1:]...), logs: new(logBuffer)}
	p.url = "http://" + freeAddr(t)
	p.cmd.Env = append(os.Environ(), append([]string{"ADDR=" + strings.TrimPrefix(p.url, "http://"), "ADMIN_TOKEN=" + testAdminToken, "RATE_LIMIT=0"}, env...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.logs, os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that a wrapper's child ends too
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		_ = p.cmd.Wait()
	})
	waitForOK(t, p.url+"/readyz")
	return p
}

// cpuTime returns the CPU time that the process has taken so far (proc(5), schedstat: nanoseconds by thread).
func (p *process) cpuTime(t testing.TB) (sum time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || threads == nil {
		t.Fatal("no schedstat: ", err)
	}
	for _, thread := range threads {
		var running time.Duration
		if text, err := os.ReadFile(thread); err == nil { // else it has ended
			_, _ = fmt.Sscan(string(text), &running)
		}
		sum += running
	}
	return sum
}

// waitForOK waits until url answers 200.
func waitForOK(t testing.TB, url string) {
	t.Helper()
	waitFor(t, url, func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func freeAddr(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// put stores a document and returns the status, 0 if there was no answer.
func (p *process) put(id, text string) int {
	r, err := http.NewRequest("PUT", p.url+"/documents/"+id, strings.NewReader(text))
	if err != nil {
		return 0
	}
	r.Header.Set("Authorization", "Bearer "+testAdminToken)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (p *process) get(path string) (int, string) {
	resp, err := http.Get(p.url + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

func TestBadArgumentsAndSettingsExitWith2(t *testing.T) {
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ arg, env, want string }{
		{"serve", "", `unknown argument "serve"`},
		{"", "RATE_LIMIT=many", `RATE_LIMIT="many": not a number`},
	} {
		cmd := exec.Command(name, strings.Fields(test.arg)...)
		cmd.Env = append(os.Environ(), test.env)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), test.want) || !strings.Contains(string(out), "vitrine -h") {
			t.Errorf("%v: %v %s", test, err, out)
		}
	}
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	cmd := exec.Command(name)
	cmd.Env = append(os.Environ(), "ADDR="+occupied.Addr().String())
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "address already in use") {
		t.Errorf("a busy port: %v %s", err, out)
	}
}

func TestStartLogsTheSettingsWithoutSecrets(t *testing.T) {
	p := start(t, nil)
	line := p.logs.find(t, "starting", "")
	if text := fmt.Sprint(line["settings"]); !strings.Contains(text, "ADMIN_TOKEN:(set)") || !strings.Contains(text, "RATE_LIMIT:0") {
		t.Errorf("settings: %s", text)
	}
	if strings.Contains(p.logs.String(), testAdminToken) {
		t.Error("the log shows the token")
	}
}

func TestListeningBeyondLoopbackWithoutTokenIsWarnedOf(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	logs := new(logBuffer)
	if err := run(ctx, nil, []string{"ADDR=:0", "OTEL_TRACES_SAMPLER=always_on"}, logs); err != nil {
		t.Fatal(err)
	}
	if line := logs.find(t, "these variables are not honoured", ""); fmt.Sprint(line["variables"]) != "[OTEL_TRACES_SAMPLER]" {
		t.Errorf("log line: %v", line)
	}
	if line := logs.find(t, "searching and reading are open to whoever reaches this address: set API_TOKEN to close them", ""); line["level"] != "warn" {
		t.Errorf("log line: %v", line)
	}
}

func TestStopUnderLoadAnswersEverythingInFlight(t *testing.T) {
	p := start(t, []string{"DOCS_DIR=" + t.TempDir(), "DRAIN_DELAY=300ms"})
	var answered, lost atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for worker := range 8 {
		clients.Go(func() {
			client := &http.Client{Transport: new(http.Transport)}
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				r, err := http.NewRequest("PUT", fmt.Sprintf("%s/documents/%d/%d.md", p.url, worker, i), strings.NewReader("# Text"))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Authorization", "Bearer "+testAdminToken)
				resp, err := client.Do(r)
				switch {
				case err == nil && resp.StatusCode == http.StatusCreated:
					answered.Add(1)
					resp.Body.Close()
					if resp.Close { // the server asks its clients to go elsewhere
						return
					}
				case err != nil && strings.Contains(err.Error(), "connection refused"): // closed: nothing was taken on
					return
				default:
					lost.Add(1)
					t.Errorf("lost: %v %v", resp, err)
					return
				}
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "readiness off", func() bool { status, _ := p.get("/readyz"); return status != http.StatusOK })
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: %v\n%s", err, p.logs)
	}
	close(stop)
	clients.Wait()
	if answered.Load() == 0 || lost.Load() > 0 {
		t.Errorf("%d answered, %d lost", answered.Load(), lost.Load())
	}
	p.logs.find(t, "stopped", "")
}

func TestStopEndsABulkLoadThatSendsNothing(t *testing.T) {
	p := start(t, []string{"DOCS_DIR=" + t.TempDir()})
	body, send := io.Pipe()
	defer send.Close()
	r, err := http.NewRequest("POST", p.url+"/documents", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+testAdminToken)
	go func() { _, _ = io.WriteString(send, `{"id":"a.md","text":"a"}`+"\n") }()
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(resp.Body)
	if !strings.Contains(string(got), `"status":503`) || !strings.Contains(string(got), "stopping after 1 documents") {
		t.Errorf("got %s", got)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

// TestKillLosesNothingAcknowledged kills the program in the midst of writes, 50 times.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	const writers = 4
	acknowledged := make([]int, writers) // the last round that was acknowledged, by writer
	text := func(worker, round int) string {
		return fmt.Sprintf("# Writer %d\n\nround %d\n%s", worker, round, strings.Repeat(fmt.Sprintf("%d ", round), 2000))
	}
	for range 50 {
		p := start(t, []string{"DOCS_DIR=" + dir, "DOCS_SYNC_INTERVAL=1h"})
		for worker, round := range acknowledged {
			if round == 0 {
				continue
			}
			_, got := p.get(fmt.Sprintf("/documents/%d/doc.md", worker))
			if got != text(worker, round) && got != text(worker, round+1) { // the next one may have been written, not answered
				t.Fatalf("writer %d: round %d was acknowledged, the store has %.60q", worker, round, got)
			}
		}
		var writing sync.WaitGroup
		for worker := range writers {
			writing.Go(func() {
				for round := acknowledged[worker] + 1; ; round++ {
					if status := p.put(fmt.Sprintf("%d/doc.md", worker), text(worker, round)); status != 201 && status != 204 {
						return
					}
					acknowledged[worker] = round
				}
			})
		}
		time.Sleep(time.Duration(5+rand.IntN(25)) * time.Millisecond)
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		writing.Wait()
	}
	if slices.Min(acknowledged) < 10 {
		t.Errorf("acknowledged rounds: %v: the writers hardly wrote", acknowledged)
	}
}

// TestPutIsDurableBeforeItIsAnswered reads from strace in which order a PUT asks the kernel.
func TestPutIsDurableBeforeItIsAnswered(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("strace is missing: apt-get install strace")
		}
		t.Skip("strace is not installed")
	}
	dir, trace := t.TempDir(), filepath.Join(t.TempDir(), "trace")
	p := start(t, []string{"DOCS_DIR=" + dir, "DOCS_SYNC_INTERVAL=1h"}, strace, "-f", "-y", "-s", "64", "-o", trace, "-e", "trace=fsync,renameat,renameat2,write", "--")
	if status := p.put("sub/a.md", "# Alpha\n"); status != 201 {
		t.Fatalf("PUT: %d", status)
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	_ = p.cmd.Wait()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, step := range []string{
		`fsync\(\d+<` + regexp.QuoteMeta(dir) + `>`,                       // the new folder's parent
		`write\(\d+<\S*/sub/\.vitrine-\S+\.tmp>, "# Alpha`,                // the text
		`fsync\(\d+<\S*/sub/\.vitrine-\S+\.tmp>`,                          // on disk
		`rename\S*\(\d+<\S*/sub>, "\.vitrine-\S+", \d+<\S*/sub>, "a\.md"`, // under its name
		`fsync\(\d+<\S*/sub>`,                                             // the name on disk
		`write\(\d+<\S*socket\S*>, "HTTP/1\.1 201`,                        // only now the answer
	} {
		found := regexp.MustCompile(step).FindIndex(text[at:])
		if found == nil {
			t.Fatalf("no %s after byte %d of\n%s", step, at, text)
		}
		at += found[1]
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
