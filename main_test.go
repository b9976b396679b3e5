package main

// The commands, and the program from start to stop. Most tests here run it as a process.

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
		{"run", "", `unknown argument "run"`},
		{"", "RATE_LIMIT=many", `RATE_LIMIT="many": not a number`},
	} {
		cmd := exec.Command(name, strings.Fields(test.arg)...)
		cmd.Env = append(os.Environ(), test.env)
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 2 {
			t.Errorf("%v: exit code %d: %v", test, code, err)
		}
		for _, want := range []string{test.want, "vitrine -h"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%v: no %s in %s", test, want, out)
			}
		}
	}
}

func TestBusyPortExitsWith1(t *testing.T) {
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()

	cmd := exec.Command(name)
	cmd.Env = append(os.Environ(), "ADDR="+occupied.Addr().String())
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("got %v %s", err, out)
	}
	for _, want := range []string{"ADDR=" + occupied.Addr().String(), "address already in use", "stop it, or choose another port"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
}

func TestListenErrorsSayWhatToDo(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{syscall.EACCES, "ports below 1024 need a right"},
		{syscall.EADDRINUSE, "another program listens there"},
		{syscall.EADDRNOTAVAIL, "does not have that address"},
		{&net.DNSError{Err: "no such host", Name: "nowhere.example"}, "choose an address of this machine"},
	} {
		err := &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", test.err)}
		if got := listenAdvice(err); !strings.Contains(got, test.want) {
			t.Errorf("%v: %s, want %s", test.err, got, test.want)
		}
	}

	ts := newServerOf(t, map[string]string{"ADDR": "127.0.0.1:0", "ADMIN_ADDR": "192.0.2.1:9090"}, io.Discard)
	defer ts.close()
	_, err := listen(ts.httpServers())
	if err == nil || !strings.Contains(err.Error(), "ADMIN_ADDR=192.0.2.1:9090: ") || !strings.Contains(err.Error(), "does not have that address") {
		t.Errorf("an address of another machine: %v", err)
	}
}

// TestPortBelow1024NeedsARight runs the program as a user without rights.
func TestPortBelow1024NeedsARight(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || strings.TrimSpace(string(text)) != "1024" || os.Getuid() != 0 {
		t.Skipf("needs root and ports that need a right: %s%v", text, err)
	}
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(openFolder(t), "vitrine")
	binary, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, binary, 0o755); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(copied)
	cmd.Env = []string{"ADDR=127.0.0.1:81"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "ports below 1024 need a right: choose a port from 1024 on") {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), out)
	}
}

// openFolder returns a temporary folder that every user may enter.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vitrine-open")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStartLogsTheSettingsWithoutSecrets(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	line := p.logs.find(t, "starting", "")
	text := fmt.Sprint(line["settings"])
	for _, want := range []string{"ADMIN_TOKEN:(set)", "RATE_LIMIT:0"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if strings.Contains(p.logs.String(), testAdminToken) {
		t.Error("the log shows the token")
	}
}

func TestDoubtfulSettingsAreWarnedOf(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	logs := new(logBuffer)
	env := []string{"ADDR=:0", "OTEL_TRACES_SAMPLER=always_on"}
	if err := run(ctx, nil, env, logs); err != nil {
		t.Fatal(err)
	}

	line := logs.find(t, "these variables are not honoured", "")
	if fmt.Sprint(line["variables"]) != "[OTEL_TRACES_SAMPLER]" {
		t.Errorf("log line: %v", line)
	}
	line = logs.find(t, "searching and reading are open to whoever reaches this address: set API_TOKEN to close them", "")
	if line["level"] != "warn" {
		t.Errorf("log line: %v", line)
	}
}

// TestHeapGrowsBetweenCollections reads from /metrics what delayCollections has set.
func TestHeapGrowsBetweenCollections(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		env      string
		document int // MiB of text
		want     string
	}{
		{"a small store", "GOGC=", 0, "go_gc_gogc_percent 400\n"},
		{"more than the least growth is live", "GOGC=", 7, "go_gc_gogc_percent 100\n"},
		{"GOGC is set", "GOGC=50", 7, "go_gc_gogc_percent 50\n"},
	} {
		ts := &testServer{t: t, dir: t.TempDir()}
		for i := range 4 {
			ts.writeFile(fmt.Sprintf("%d.md", i), strings.Repeat(". ", test.document<<20/2))
		}
		p := start(t, []string{"DOCS_DIR=" + ts.dir, test.env})
		waitFor(t, test.name+": "+test.want, func() bool {
			_, metrics := p.get("/metrics")
			return strings.Contains(metrics, test.want)
		})
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
			n, err := p.putUntilStopped(fmt.Sprint(worker), stop)
			answered.Add(n)
			if err != nil {
				lost.Add(1)
				t.Errorf("lost: %v", err)
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

// putUntilStopped puts documents into a folder over one kept connection, and returns how many were answered. It ends
// without an error when stop is closed, when the server closes the connection after an answer, or when it refuses
// connections.
func (p *process) putUntilStopped(folder string, stop <-chan struct{}) (answered int64, err error) {
	client := &http.Client{Transport: new(http.Transport)}
	for {
		select {
		case <-stop:
			return answered, nil
		default:
		}

		url := fmt.Sprintf("%s/documents/%s/%d.md", p.url, folder, answered)
		r, err := http.NewRequest("PUT", url, strings.NewReader("# Text"))
		if err != nil {
			return answered, err
		}
		r.Header.Set("Authorization", "Bearer "+testAdminToken)
		resp, err := client.Do(r)
		if err != nil && strings.Contains(err.Error(), "connection refused") {
			return answered, nil
		}
		if err != nil {
			return answered, err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			return answered, fmt.Errorf("%s: %s", url, resp.Status)
		}
		answered++
		if resp.Close {
			return answered, nil
		}
	}
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
	for _, want := range []string{`"status":503`, "stopping after 1 documents"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

// TestStopsAtRandomMomentsFailNoRequest stops the program again and again under a mixed load. With VITRINE_SLOW_TEST it has
// 50 rounds with each store.
func TestStopsAtRandomMomentsFailNoRequest(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"embedded", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &mixedLoad{token: testAdminToken}
			env := storeEnv(t, name, "DRAIN_DELAY=1s") // a client that the machine delays must still hear of the drain
			for range slowRounds(2, 50) {
				p := start(t, env)
				l.url = p.url
				var load sync.WaitGroup
				load.Go(func() { l.run(t.Context(), loadClients) })
				time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond) // a moment like any other

				if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				if err := p.cmd.Wait(); err != nil {
					t.Errorf("exit: %v\n%s", err, p.logs)
				}
				load.Wait()
			}
			l.report(t)
		})
	}
}

// TestKillLosesNothingAcknowledged kills the program in the midst of writes, with each store. With VITRINE_SLOW_TEST it
// does so 200 times.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		store string
		kills int
	}{{"embedded", 50}, {"postgres", 10}} {
		t.Run(test.store, func(t *testing.T) {
			t.Parallel()
			testKills(t, storeEnv(t, test.store, "DOCS_SYNC_INTERVAL=1h"), slowRounds(test.kills, 200))
		})
	}
}

func testKills(t *testing.T, env []string, rounds int) {
	t.Helper()
	const writers = 4
	acknowledged := make([]int, writers) // the last round that was acknowledged, by writer
	text := func(writer, round int) string {
		body := strings.Repeat(fmt.Sprintf("%d ", round), 2000)
		return fmt.Sprintf("# Writer %d\n\nround %d\n%s", writer, round, body)
	}
	var writes atomic.Int64

	for kills := range rounds {
		p := start(t, env)
		for writer, round := range acknowledged {
			if round == 0 {
				continue
			}
			_, got := p.get(fmt.Sprintf("/documents/%d/doc.md", writer))
			if got != text(writer, round) && got != text(writer, round+1) { // the next one may have been written, not answered
				t.Fatalf("writer %d: round %d was acknowledged, the store has %.60q", writer, round, got)
			}
		}

		var tasks sync.WaitGroup
		for writer := range writers {
			tasks.Go(func() {
				for round := acknowledged[writer] + 1; ; round++ {
					status := p.put(fmt.Sprintf("%d/doc.md", writer), text(writer, round))
					if status != http.StatusCreated && status != http.StatusNoContent {
						return
					}
					acknowledged[writer] = round
					writes.Add(1)
				}
			})
		}
		waitFor(t, "the next writes", func() bool { return writes.Load() > int64(writers*kills) })
		time.Sleep(time.Duration(rand.IntN(25)) * time.Millisecond) // a moment like any other
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		tasks.Wait()
	}
	if slices.Min(acknowledged) < rounds/5 {
		t.Errorf("acknowledged rounds: %v: the writers hardly wrote", acknowledged)
	}
	t.Logf("%d acknowledged in %d rounds", writes.Load(), rounds)
}

// TestPutIsDurableBeforeItIsAnswered reads the order of a PUT's system calls from strace.
func TestPutIsDurableBeforeItIsAnswered(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("strace is missing: apt-get install strace")
		}
		t.Skip("strace is not installed")
	}
	dir := t.TempDir()
	trace := filepath.Join(t.TempDir(), "trace")
	p := start(t, []string{"DOCS_DIR=" + dir, "DOCS_SYNC_INTERVAL=1h"},
		strace, "-f", "-y", "-s", "64", "-o", trace, "-e", "trace=fsync,renameat,renameat2,write", "--")
	if status := p.put("sub/a.md", "# Alpha\n"); status != http.StatusCreated {
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
	health := func(addr string) (string, error) {
		var out bytes.Buffer
		env := []string{"ADDR=" + addr, "ALLOWED_HOSTS=docs.example.com"}
		err := run(t.Context(), []string{"-health"}, env, &out)
		return out.String(), err
	}

	for _, addr := range []string{u.Host, ":" + u.Port(), "0.0.0.0:" + u.Port()} {
		out, err := health(addr)
		if err != nil || !strings.HasPrefix(out, "serving ok\n") {
			t.Errorf("ADDR=%s: %q, %v", addr, out, err)
		}
	}
	_, err = health(freeAddr(t))
	if err == nil || !strings.Contains(err.Error(), "not ready: ") {
		t.Errorf("nobody is there: %v", err)
	}

	ts.ready.Store(false)
	_, err = health(u.Host)
	if err == nil {
		t.Fatal("not ready: no error")
	}
	for _, want := range []string{"503", "serving not ready"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not ready: no %s in %v", want, err)
		}
	}
}
