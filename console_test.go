package main

// The log for people, line by line.

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

func TestConsoleLines(t *testing.T) {
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	request := []slog.Attr{
		slog.String("correlation_id", "my-1"),
		slog.String("trace_id", "t"),
		slog.String("method", "GET"),
		slog.String("route", "/search"),
		slog.Int("status", 200),
		slog.String("client", "127.0.0.1"),
		slog.String("user_agent", "curl"),
		slog.Float64("took_ms", 1.26),
	}
	for _, test := range []struct {
		level   slog.Level
		message string
		attrs   []slog.Attr
		want    string
	}{
		{slog.LevelInfo, "request", append(request[:8:8], slog.Int("hits", 3)), "03:04:05  GET /search  200  1.3 ms  hits=3  my-1"},
		{slog.LevelWarn, "request", request, "03:04:05  warn  GET /search  200  1.3 ms  my-1"},
		{slog.LevelDebug, "request", append(request[:8:8], slog.String("query", "two words")), `03:04:05  debug  GET /search  200  1.3 ms  query="two words"  my-1`},
		{slog.LevelInfo, "request", append(request[:8:8], slog.String("path", "/a\x1b[31m")), `03:04:05  GET /a\u001b[31m  200  1.3 ms  my-1`},
		{slog.LevelError, "request", append(request[:8:8], slog.String("error", "line\nbreak")), `03:04:05  error  GET /search  200  1.3 ms  error=line\u000abreak  my-1`},
		{slog.LevelInfo, "job", []slog.Attr{slog.String("job", "folder_scan"), slog.Float64("took_ms", 12), slog.Int("files", 40)}, "03:04:05  folder_scan  12.0 ms  files=40"},
		{slog.LevelInfo, "settings", []slog.Attr{slog.Group("settings", "ADDR", ":9000", "DOCS_DIR", "my docs")}, `03:04:05  settings  ADDR=:9000  DOCS_DIR="my docs"`},
		{slog.LevelWarn, "files skipped", []slog.Attr{slog.Any("files", []string{"a.md: large"}), slog.String("empty", "")}, `03:04:05  warn  files skipped  files="[a.md: large]"`},
	} {
		if got := consoleLine(when, test.level, test.message, test.attrs); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestProgressStaysOnOneLineOfATerminal(t *testing.T) {
	for _, test := range []struct {
		isTerminal bool
		want       string
	}{
		{true, "TIME  reading folder  1 of 2 files" + eraseLine + "TIME  reading folder  2 of 2 files" + eraseLine + "TIME  indexed\nTIME  stopped\n"},
		{false, "TIME  reading folder  1 of 2 files\nTIME  reading folder  2 of 2 files\nTIME  indexed\nTIME  stopped\n"},
	} {
		var out bytes.Buffer
		log := slog.New(newConsoleHandler(&out, slog.LevelInfo, test.isTerminal))
		log.Info(progressMessage, "done", 1, "total", 2)
		log.Info(progressMessage, "done", 2, "total", 2)
		log.Debug("not shown")
		log.Info("indexed")
		log.Info("stopped")
		got := unvarying(out.String(), []rule{{`\d\d:\d\d:\d\d`, "TIME"}}) + "\n"
		if got != test.want {
			t.Errorf("terminal %v: %q, want %q", test.isTerminal, got, test.want)
		}
	}
}

func TestLogFormatIsChosen(t *testing.T) {
	for _, test := range []struct {
		format     string
		onTerminal bool
		isText     bool
		greets     bool
	}{
		{"auto", true, true, true},
		{"auto", false, false, false},
		{"text", true, true, true},
		{"text", false, true, false},
		{"json", true, false, false},
		{"json", false, false, false},
	} {
		cfg := testSettings(t, "LOG_FORMAT="+test.format)
		cfg.onTerminal = test.onTerminal
		var out bytes.Buffer
		newLogger(&out, slog.LevelInfo, cfg).InfoContext(context.Background(), "hello")
		isText := !strings.HasPrefix(out.String(), "{")
		if isText != test.isText || cfg.greets() != test.greets {
			t.Errorf("%+v: %s greets %v", test, &out, cfg.greets())
		}
	}
}

func TestOnlyTerminalsAreTerminals(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if isTerminal(null) || isTerminal(file) || isTerminal(w) || isTerminal(new(bytes.Buffer)) {
		t.Error("a device, a file, a pipe or a buffer is taken for a terminal")
	}
}

// TestHeldLinesComeAfterTheGreeting also closes a writer that was never released.
func TestHeldLinesComeAfterTheGreeting(t *testing.T) {
	for _, isReleased := range []bool{true, false} {
		out := new(logBuffer)
		l := newLogWriter(out, slog.New(slog.DiscardHandler))
		l.hold()
		_, _ = l.Write([]byte("line\n"))
		want := "line\n"
		if isReleased {
			l.release("greeting\n")
			want = "greeting\nline\n"
		}
		l.close(5 * time.Second)
		if out.String() != want {
			t.Errorf("released %v: %q, want %q", isReleased, out, want)
		}
	}
}
