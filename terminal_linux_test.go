package main

// The program on a real terminal, a pseudo-terminal of the kernel (pty(7)): its greeting and its log for people.

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// openTerminal returns both ends of a new pseudo-terminal: ours, and the program's.
func openTerminal(t *testing.T) (ours, programs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() })

	var number, unlocked int32
	for _, call := range []struct {
		request uintptr
		arg     *int32
	}{
		{syscall.TIOCSPTLCK, &unlocked},
		{syscall.TIOCGPTN, &number},
	} {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, ours.Fd(), call.request, uintptr(unsafe.Pointer(call.arg)))
		if errno != 0 {
			t.Fatal(errno)
		}
	}

	programs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = programs.Close() })
	return ours, programs
}

// startOnTerminal starts the program on a terminal and returns what it shows there.
func startOnTerminal(t *testing.T, args []string, env ...string) (*exec.Cmd, *logBuffer) {
	t.Helper()
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	ours, programs := openTerminal(t)
	shown := new(logBuffer)
	go func() { _, _ = io.Copy(shown, ours) }()

	cmd := exec.Command(name, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.Stdout = programs
	cmd.Stderr = os.Stderr
	startCommand(t, cmd)
	return cmd, shown
}

// screenLines returns the lines that a terminal shows.
func screenLines(shown *logBuffer) []string {
	return strings.Split(strings.ReplaceAll(shown.String(), "\r\n", "\n"), "\n")
}

func TestTerminalIsGreetedInThreeLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 20)
	token := regexp.MustCompile(`/#token=\w{20,}`)
	for _, test := range []struct {
		name string
		args []string
		env  []string
		want []string // ADDR stands for the listener's address, PORT for its port, TOKEN for a token made for this run
	}{
		{"no settings", nil, nil, []string{
			"Vitrine v1.0.0 · its own manual (2 documents)",
			"Page http://ADDRTOKEN · Agents: claude mcp add --transport http docs http://ADDR/mcp",
		}},
		{"a folder", []string{"./testdata/manual"}, nil, []string{
			"Vitrine v1.0.0 · ./testdata/manual (40 documents)",
		}},
		{"two folders", nil, []string{"DOCS_DIR=api=./testdata/manual/api,cli=./testdata/manual/cli"}, []string{
			"Vitrine v1.0.0 · ./testdata/manual/api, ./testdata/manual/cli (7 documents)",
		}},
		{"tokens", nil, []string{"ADMIN_TOKEN=a" + long, "API_TOKEN=b" + long}, []string{
			"Vitrine v1.0.0 · its own manual (2 documents)",
			`Page http://ADDR · Agents: claude mcp add --transport http docs http://ADDR/mcp --header "Authorization: Bearer $API_TOKEN"`,
		}},
		{"all addresses", nil, []string{"ADDR=:PORT"}, []string{
			"Vitrine v1.0.0 · its own manual (2 documents)",
			"Page http://localhost:PORT · Agents: claude mcp add --transport http docs http://localhost:PORT/mcp",
		}},
		{"LOG_FORMAT=text", nil, []string{"LOG_FORMAT=text"}, []string{
			"Vitrine v1.0.0 · its own manual (2 documents)",
		}},
		{"only errors are logged", nil, []string{"LOG_LEVEL=error"}, []string{
			"Vitrine v1.0.0 · its own manual (2 documents)",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			addr := freeAddr(t)
			port := addr[strings.LastIndex(addr, ":")+1:]
			env := []string{"ADDR=" + addr}
			for _, pair := range test.env {
				env = append(env, strings.ReplaceAll(pair, "PORT", port))
			}
			_, shown := startOnTerminal(t, test.args, env...)
			waitFor(t, "the greeting", func() bool { return strings.Contains(shown.String(), "Ctrl-C stops\r\n") })

			lines := screenLines(shown)
			for i, want := range test.want {
				want = strings.NewReplacer("ADDR", addr, "PORT", port).Replace(want)
				got := token.ReplaceAllString(lines[i], "TOKEN")
				reading := regexp.MustCompile(`\(\d+ documents\)`).ReplaceAllString(want, "(reading, searches find what has been read)")
				isLate := got == reading && !strings.Contains(want, "manual (2") // a busy machine reads a folder slowly
				if got != want && !isLate {
					t.Errorf("line %d is\n%s\nwant\n%s", i+1, lines[i], want)
				}
			}
			if lines[2] != "Ctrl-C stops" {
				t.Errorf("line 3 is %s", lines[2])
			}
		})
	}
}

// TestTokenOfTheGreetingOpensTheAdminRoutes uses the link, reads the log for people, and stops the program as Ctrl-C does.
func TestTokenOfTheGreetingOpensTheAdminRoutes(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	cmd, shown := startOnTerminal(t, nil, "ADDR="+addr, "DOC_DIR=./docs")
	waitFor(t, "the greeting", func() bool { return strings.Contains(shown.String(), "Ctrl-C stops") })
	token := regexp.MustCompile(`#token=(\w+)`).FindStringSubmatch(shown.String())
	if token == nil {
		t.Fatalf("no token in %s", shown)
	}
	for header, want := range map[string]int{"Bearer " + token[1]: 200, "": 401, "Bearer other": 401} {
		r, err := http.NewRequest("GET", "http://"+addr+"/debug/requests", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", header)
		r.Header.Set("X-Correlation-ID", "my-1")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%q: %s, want %d", header, resp.Status, want)
		}
	}

	line := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d  GET /debug/requests  200  \d+\.\d ms  my-1\r$`)
	waitFor(t, "the request's line", func() bool { return line.MatchString(shown.String()) })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	waitFor(t, "the last line", func() bool { return strings.HasSuffix(shown.String(), "  stopped\r\n") })
	text := shown.String()
	for _, want := range []string{"  settings  ADDR=" + addr + "\r\n", "DOC_DIR is not a setting: did you mean DOCS_DIR?"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "{") || strings.Contains(text, "RATE_LIMIT") {
		t.Errorf("JSON or defaults:\n%s", text)
	}
}

func TestTokenIsMadeOnlyForALoopbackTerminal(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	_, shown := startOnTerminal(t, nil, "ADDR="+addr, "LOG_FORMAT=json")
	waitFor(t, "the log", func() bool { return strings.Contains(shown.String(), `"message":"serving"`) })
	if strings.Contains(shown.String(), "token=") || strings.Contains(shown.String(), "Ctrl-C") {
		t.Errorf("JSON with a greeting: %s", shown)
	}
	p := start(t, []string{"ADMIN_TOKEN="})
	for _, url := range []string{"http://" + addr, p.url} {
		waitForOK(t, url+"/readyz")
		resp, err := http.Get(url + "/debug/requests")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("without a terminal: %s", resp.Status)
		}
	}
	if strings.Contains(p.logs.String(), "token=") {
		t.Errorf("a token in the log: %s", p.logs)
	}
}

// TestGreetingOverAdminAddr has the token in the link to the listener that shows requests.
func TestGreetingOverAdminAddr(t *testing.T) {
	t.Parallel()
	addr, admin := freeAddr(t), freeAddr(t)
	_, shown := startOnTerminal(t, nil, "ADDR="+addr, "ADMIN_ADDR="+admin)
	waitFor(t, "the greeting", func() bool { return strings.Contains(shown.String(), "Ctrl-C stops") })
	for _, want := range []string{"Page http://" + addr + " · Admin http://" + admin + "/#token="} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("no %s in\n%s", want, shown)
		}
	}
}

func TestTerminalIsRecognized(t *testing.T) {
	_, programs := openTerminal(t)
	if !isTerminal(programs) {
		t.Error("a terminal is not recognized")
	}
}
