package main

// The program as a process of its own, for tests of signals, exit codes, durability and CPU time.

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// program builds the program once for all tests that need it as a process.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "vitrine-test")
	if err != nil {
		return "", err
	}
	programDir = dir
	name := filepath.Join(dir, "vitrine")
	out, err := exec.Command("go", "build", "-o", name, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return name, nil
})

// programDir is where program has built the program; empty if no test needed it.
var programDir string

func TestMain(m *testing.M) {
	if os.Getenv("BARE_HANDLER") != "" { // BenchmarkMCPGetDocument has started this
		fmt.Fprintln(os.Stderr, serveBare(os.Getenv("ADDR")))
		os.Exit(1)
	}

	runMoreAtOnce()
	code := m.Run()
	if programDir != "" {
		_ = os.RemoveAll(programDir)
	}
	os.Exit(code)
}

// process is the program running on a free loopback port.
type process struct {
	cmd  *exec.Cmd
	url  string
	logs *logBuffer
}

// start starts the program and waits until it is ready. wrapper is a command that the program's name is appended to, as
// strace. The process is killed when the test ends.
func start(t testing.TB, env []string, wrapper ...string) *process {
	t.Helper()
	p := launch(t, env, wrapper...)
	waitForOK(t, p.url+"/readyz")
	return p
}

// launch is start without the wait.
func launch(t testing.TB, env []string, wrapper ...string) *process {
	t.Helper()
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	args := append(slices.Clone(wrapper), name)
	addr := freeAddr(t)
	p := &process{
		cmd:  exec.Command(args[0], args[1:]...),
		url:  "http://" + addr,
		logs: new(logBuffer),
	}
	p.cmd.Env = append(os.Environ(), "ADDR="+addr, "ADMIN_TOKEN="+testAdminToken, "RATE_LIMIT=0")
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout = p.logs
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // to kill a wrapper's child too
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		_ = p.cmd.Wait()
	})
	return p
}

// cpuTime returns the CPU time that the process has used so far. It sums schedstat of its threads (proc(5)), which is in
// nanoseconds.
func (p *process) cpuTime(t testing.TB) (sum time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || threads == nil {
		t.Fatal("no schedstat: ", err)
	}
	for _, thread := range threads {
		var running time.Duration
		text, _ := os.ReadFile(thread) // empty if the thread has ended
		_, _ = fmt.Sscan(string(text), &running)
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

// freeAddr returns a loopback address that nobody listens on. Its port is below those that the kernel hands out to
// listeners and connections, so that no other test gets it before the caller listens.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := 12_000 + (uint32(os.Getpid())*131+lastPort.Add(1))%20_000
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		listener, err := net.Listen("tcp", addr)
		if err == nil {
			listener.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

var lastPort atomic.Uint32

// put stores a document and returns the status, or 0 if there was no answer.
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

// get returns the status and the body, or 0 and the error if there was no answer. headers are lines like "Accept: text/html".
func (p *process) get(path string, headers ...string) (int, string) {
	r, err := http.NewRequest(http.MethodGet, p.url+path, http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	for _, header := range headers {
		key, value, _ := strings.Cut(header, ": ")
		r.Header.Set(key, value)
	}
	resp, err := http.DefaultClient.Do(r)
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

// terminate asks the process to end, which it must do with 0.
func (p *process) terminate(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("exit: %v\n%s", err, p.logs)
		}
	case <-time.After(time.Minute):
		t.Errorf("it goes on:\n%s", p.logs)
	}
}

// kill ends the process at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// forgetPeak makes peakMemory count from now on, and returns the memory of the process now.
func (p *process) forgetPeak(t testing.TB) int64 {
	t.Helper()
	name := fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid)
	if err := os.WriteFile(name, []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return p.status(t, "VmRSS:")
}

// peakMemory returns the most memory that the process has had.
func (p *process) peakMemory(t testing.TB) int64 { return p.status(t, "VmHWM:") }

// status returns a field of proc(5) in bytes.
func (p *process) status(t testing.TB, field string) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), field)
	var kilobytes int64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// startCommand starts a program, which is killed when the test ends.
func startCommand(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}
