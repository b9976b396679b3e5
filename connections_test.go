package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// keptConnection is a client that has asked once and keeps its connection.
type keptConnection struct {
	net.Conn
	answers *bufio.Reader
}

func dial(t *testing.T, url string) keptConnection {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return keptConnection{conn, bufio.NewReader(conn)}
}

// ask reports whether the connection still answers.
func (c keptConnection) ask(t *testing.T) bool {
	t.Helper()
	fmt.Fprintf(c, "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	resp, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return false
	}
	_, err = bufio.NewReader(resp.Body).ReadString('\n')
	return err == nil && resp.StatusCode == http.StatusOK
}

// TestOldestIdleConnectionMakesRoom opens more connections than there may be.
func TestOldestIdleConnectionMakesRoom(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"DOCS_DIR=" + t.TempDir(), "MAX_CONNECTIONS=8"})
	busy := dial(t, p.url) // is sending its request for the whole time
	fmt.Fprintf(busy, "PUT /documents/a.md HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Length: 4\r\n\r\n# ", testAdminToken)

	var idle []keptConnection
	for i := range 30 {
		c := dial(t, p.url)
		if !c.ask(t) {
			t.Fatalf("connection %d is not served", i)
		}
		idle = append(idle, c)
	}
	if idle[0].ask(t) {
		t.Error("the oldest idle connection is still open")
	}
	if !idle[29].ask(t) {
		t.Error("the newest connection was closed")
	}
	fmt.Fprint(busy, "A\n")
	resp, err := http.ReadResponse(busy.answers, nil)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Errorf("the busy connection: %v %v", resp, err)
	}
	if _, metrics := p.get("/metrics"); !strings.Contains(metrics, `vitrine_http_connections{state="limit"} 8`) {
		t.Error("the limit is not among the metrics")
	}
	if line := p.logs.find(t, "starting", ""); line["max_connections"] != 8.0 {
		t.Errorf("the limit is not in the log: %v", line)
	}
}

func TestNewConnectionIsClosedIfNoneIsIdle(t *testing.T) {
	t.Parallel()
	c := newConnections(2)
	var ends []net.Conn
	for range 3 {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		c.changed(ours, http.StateNew)
		c.changed(ours, http.StateActive)
		ends = append(ends, ours)
	}
	isClosed := func(conn net.Conn) bool { return conn.SetReadDeadline(time.Time{}) != nil }
	if isClosed(ends[0]) || isClosed(ends[1]) || !isClosed(ends[2]) {
		t.Error("the wrong connection was closed")
	}
	for _, conn := range ends {
		c.changed(conn, http.StateClosed)
	}
	if c.count() != 0 {
		t.Errorf("%d are open", c.count())
	}
}

// TestSlowClientsDoNotFailTheStop stops the program while one client sends slowly and one does not read.
func TestSlowClientsDoNotFailTheStop(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"DOCS_DIR=" + t.TempDir()})
	p.put("large.md", strings.Repeat("A line of text.\n", 400_000))
	sending, reading := dial(t, p.url), dial(t, p.url)
	fmt.Fprintf(sending, "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	fmt.Fprintf(reading, "GET /documents/large.md HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	if _, err := reading.answers.Peek(1); err != nil {
		t.Fatal(err)
	}

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: %v\n%s", err, p.logs)
	}
	line := p.logs.find(t, "connections closed: their clients neither ended nor read in time", "")
	if line["count"].(float64) < 1 || !strings.Contains(fmt.Sprint(line["clients"]), "127.0.0.1:") {
		t.Errorf("%v", line)
	}
	p.logs.find(t, "stopped", "")
}

func TestHangupIsIgnored(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"DOCS_DIR=" + t.TempDir()})
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.logs.find(t, "SIGHUP ignored: settings are read at start-up, restart to change them", "")
	if status, _ := p.get("/livez"); status != http.StatusOK {
		t.Errorf("after SIGHUP: %d", status)
	}
}

// TestLogWithoutAReaderLosesLines runs the program in a pipe whose reader has ended.
func TestLogWithoutAReaderLosesLines(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"DOCS_DIR=" + t.TempDir()}, "sh", "-c", `"$0" | true`)
	waitFor(t, "lost lines that are counted", func() bool {
		status, metrics := p.get("/metrics")
		lost := strings.Contains(metrics, "\nvitrine_log_lines_dropped_total ") && !strings.Contains(metrics, "\nvitrine_log_lines_dropped_total 0\n")
		p.get("/search?q=a")
		return status == http.StatusOK && lost
	})
}

func TestDrainDelayDependsOnTheAddress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env  []string
		want string
	}{
		{nil, "0s"},
		{[]string{"ADDR=127.0.0.1:80"}, "0s"},
		{[]string{"ADDR=[::1]:80"}, "0s"},
		{[]string{"ADDR=:8080"}, "1s"},
		{[]string{"ADDR=10.0.0.1:80"}, "1s"},
		{[]string{"ADDR=:8080", "DRAIN_DELAY=0s"}, "0s"},
		{[]string{"ADDR=:8080", "DRAIN_DELAY=5s"}, "5s"},
	} {
		if got := testSettings(t, test.env...).drainDelay.String(); got != test.want {
			t.Errorf("%v: %s, want %s", test.env, got, test.want)
		}
	}
	if n := testSettings(t).maxConnections; n < minConnections {
		t.Errorf("%d connections", n)
	}
}
