package main

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEachRequestHasOneLogLine(t *testing.T) {
	ts := newTestServer(t)
	ts.put("a.md", "# Alpha\n\nbeta\n")
	id := ts.get("/search?q=secretquestion+beta", "User-Agent: tester").header.Get("X-Correlation-ID")
	line := ts.lines.find(t, "request", id)
	for key, want := range map[string]any{
		"level":        "info",
		"service_name": "vitrine",
		"environment":  "development",
		"trace_id":     id,
		"method":       "GET",
		"route":        "/search",
		"status":       200.0,
		"hits":         1.0,
		"user_agent":   "tester",
		"client":       "127.0.0.1",
	} {
		if line[key] != want {
			t.Errorf("%s = %v, want %v", key, line[key], want)
		}
	}
	for _, key := range []string{
		"timestamp", "version", "span_id", "took_ms", "db_ms", "embed_ms", "bytes", "client_port",
	} {
		if line[key] == nil {
			t.Errorf("no %s in %v", key, line)
		}
	}
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(line["timestamp"]))
	if err != nil || at.Location() != time.UTC {
		t.Errorf("timestamp %v is not RFC 3339 in UTC: %v", line["timestamp"], err)
	}

	ts.get("/livez")
	ts.lines.find(t, "request", ts.get("/search?q=other").header.Get("X-Correlation-ID")) // whatever came before is written
	if n := strings.Count(ts.lines.String(), id); n != 2 {                                // correlation and trace id of one line
		t.Errorf("%d mentions of %s, want one line", n, id)
	}
	for _, secret := range []string{"secretquestion", testAdminToken, "beta"} {
		if strings.Contains(ts.lines.String(), secret) {
			t.Errorf("the log contains %q", secret)
		}
	}
	if strings.Contains(ts.lines.String(), "/livez") {
		t.Error("a probe is logged at info")
	}
}

func TestLogLevelChangesForAWhile(t *testing.T) {
	ts := newTestServer(t)
	ts.do("PUT", "/debug/loglevel?for=1h", "debug")
	ts.lines.find(t, "request", ts.get("/livez").header.Get("X-Correlation-ID"))
	ts.do("PUT", "/debug/loglevel?for=20ms", "error")
	waitFor(t, "the level to go back", func() bool { return ts.get("/debug/loglevel").body == "info\n" })
}

// TestLastLogLevelWins changes the level at the moment at which an earlier change ends. Which comes first differs from try
// to try.
func TestLastLogLevelWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			l := newLogLevel(slog.LevelInfo)
			l.change(slog.LevelDebug, time.Minute)
			time.Sleep(time.Minute)
			l.change(slog.LevelError, 0)
			synctest.Wait()
			if level := l.Level(); level != slog.LevelError {
				t.Fatalf("the level is %v", level)
			}
		}
	})
}

// blockedWriter blocks until it is released.
type blockedWriter struct {
	released chan struct{}
	logBuffer
}

func (w *blockedWriter) Write(p []byte) (int, error) {
	<-w.released
	return w.logBuffer.Write(p)
}

func TestBlockedLogDropsAndCountsLines(t *testing.T) {
	w := &blockedWriter{released: make(chan struct{})}
	cfg := &settings{serviceName: "docs"}
	l := newLogWriter(w, newLogger(w, newLogLevel(0), cfg))
	log := newLogger(l, newLogLevel(0), cfg)
	const lines = 20_000
	for i := range lines {
		log.Info("line", "number", i, "padding", strings.Repeat("x", 100))
	}

	dropped := l.dropped.Load()
	if dropped == 0 || len(l.waiting) > maxLogBytes {
		t.Errorf("%d lines dropped, %d bytes waiting", dropped, len(l.waiting))
	}

	close(w.released)
	waitFor(t, "the report", func() bool { return strings.Contains(w.String(), "log lines dropped") })
	l.close(5 * time.Second)
	written := int64(strings.Count(w.String(), `"message":"line"`))
	if written+dropped != lines {
		t.Errorf("%d written + %d dropped, want %d", written, dropped, lines)
	}
	report := w.find(t, "log lines dropped", "")
	if report["count"] != float64(dropped) || report["service_name"] != "docs" {
		t.Errorf("the report is %v, want the number %d", report, dropped)
	}
}

func TestLossesAreReportedAtEveryLogLevel(t *testing.T) {
	w := &blockedWriter{released: make(chan struct{})}
	s := newServerOf(t, map[string]string{"LOG_LEVEL": "error"}, w)
	for s.logs.dropped.Load() == 0 {
		s.log.Error("line", "padding", strings.Repeat("x", 1000))
	}
	close(w.released)
	w.find(t, "log lines dropped", "")
	s.close()
}
