package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
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
	t.Parallel()
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
	t.Parallel()
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
	for worker := range 8 {
		waitFor(t, "some answers for each client", func() bool {
			status, _ := p.get(fmt.Sprintf("/documents/%d/5.md", worker))
			return status == http.StatusOK
		})
	}
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
	t.Parallel()
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
	t.Parallel()
	dir := t.TempDir()
	const writers = 4
	acknowledged := make([]int, writers) // the last round that was acknowledged, by writer
	text := func(worker, round int) string {
		return fmt.Sprintf("# Writer %d\n\nround %d\n%s", worker, round, strings.Repeat(fmt.Sprintf("%d ", round), 2000))
	}
	var writes atomic.Int64
	for kills := range 50 {
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
					writes.Add(1)
				}
			})
		}
		waitFor(t, "the next writes", func() bool { return writes.Load() > int64(writers*kills) })
		time.Sleep(time.Duration(rand.IntN(25)) * time.Millisecond) // a moment like any other
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
	t.Parallel()
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
