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

func TestNewConnectionIsClosedIfAllServe(t *testing.T) {
	t.Parallel()
	c := newConnections(2)
	var ends []net.Conn
	for range 3 {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		c.changed(ours, http.StateNew)
		c.changed(ours, http.StateActive)
		c.serve(withConnection(t.Context(), ours))
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

// TestOneClientLeavesConnectionsToOthers lets one client open many connections that are not idle. Another client is served
// beside each kind of them, and so is the same client beside those without a request.
func TestOneClientLeavesConnectionsToOthers(t *testing.T) {
	t.Parallel()
	head := " HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + testAdminToken + "\r\n"
	const local = "127.0.0.1"
	for name, test := range map[string]struct{ sends, from string }{
		"nothing":              {"", "127.0.0.2"},
		"a part of a line":     {"GET /li", "127.0.0.2"},
		"a part of a header":   {"GET /livez HTTP/1.1\r\nHost: ", "127.0.0.2"},
		"a slow document":      {"PUT /documents/a.md" + head + "Content-Length: 1000\r\n\r\n# A", "127.0.0.2"},
		"a slow bulk load":     {"POST /documents" + head + "Content-Length: 1000\r\n\r\n{", "127.0.0.2"},
		"a slow message":       {"POST /mcp" + head + "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", "127.0.0.2"},
		"streams":              {"GET /sse" + head + "Accept: text/event-stream\r\n\r\n", "127.0.0.2"},
		"nothing, itself":      {"", local},
		"half a line, itself":  {"GET /li", local},
		"answers, itself":      {"GET /livez" + head + "\r\n", local},
		"TLS, itself":          {"\x16\x03\x01\x02\x00\x01\x00", local},
		"half a preface of h2": {"PRI * HTTP/2.0\r\n", "127.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, []string{"DOCS_DIR=" + t.TempDir(), "MAX_CONNECTIONS=8"})
			from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(test.from)}}
			for range 20 {
				conn, err := from.DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
				if err != nil {
					t.Skip(err) // only Linux has more than one loopback address by default
				}
				defer conn.Close()
				fmt.Fprint(conn, test.sends)
				time.Sleep(time.Millisecond) // so that the server reads one after the other
			}
			for i := range 10 {
				if !dial(t, p.url).ask(t) {
					t.Fatalf("connection %d of the other is not served", i)
				}
			}
		})
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
