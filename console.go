package main

// The log for people: one readable line for each request, with LOG_FORMAT=text or on a terminal.

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// progressMessage is the message of the lines that replace each other on a terminal.
const progressMessage = "reading folder"

// eraseLine moves to the beginning of the terminal's line and clears it (ECMA-48, EL).
const eraseLine = "\r\x1b[K"

// isTerminal reports whether w is a terminal. os.DevNull is a character device too.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// consoleHandler writes the log for people.
type consoleHandler struct {
	level  slog.Leveler
	attrs  []slog.Attr // of WithAttrs
	screen *screen     // all handlers of a logger share it
}

// screen is where a consoleHandler writes.
type screen struct {
	to         io.Writer
	isTerminal bool

	mu         sync.Mutex
	isProgress bool // the last line is progress, and the next one replaces it
}

func newConsoleHandler(to io.Writer, level slog.Leveler, isTerminal bool) consoleHandler {
	return consoleHandler{
		level:  level,
		screen: &screen{to: to, isTerminal: isTerminal},
	}
}

// Enabled implements slog.Handler.
func (h consoleHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// WithAttrs implements slog.Handler.
func (h consoleHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return h
}

// WithGroup implements slog.Handler. Nothing here uses groups of lines.
func (h consoleHandler) WithGroup(string) slog.Handler { return h }

// Handle implements slog.Handler.
func (h consoleHandler) Handle(_ context.Context, line slog.Record) error {
	attrs := append([]slog.Attr(nil), h.attrs...)
	line.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	text := consoleLine(line.Time, line.Level, line.Message, attrs)
	return h.screen.write(text, line.Message == progressMessage)
}

// write writes one line. On a terminal, progress stays on one line until another line replaces it.
func (s *screen) write(text string, isProgress bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	isProgress = isProgress && s.isTerminal
	if s.isProgress {
		text = eraseLine + text
	}
	if !isProgress {
		text += "\n"
	}

	s.isProgress = isProgress
	_, err := io.WriteString(s.to, text)
	return err
}

// consoleLine returns a line: the local time, the level unless it is info, what happened, and the attributes. The
// correlation id is last, because it is long. It leads to everything else.
func consoleLine(when time.Time, level slog.Level, message string, attrs []slog.Attr) string {
	fields := make(map[string]slog.Value, len(attrs))
	for _, a := range attrs {
		fields[a.Key] = a.Value
	}

	parts := []string{when.Local().Format(time.TimeOnly)}
	if level < slog.LevelInfo || level >= slog.LevelWarn {
		parts = append(parts, levelName(level))
	}
	parts = append(parts, subject(message, fields))
	if message == progressMessage { // short, because a wrapped line cannot be replaced
		return fmt.Sprintf("%s  %v of %v files", strings.Join(parts, "  "), fields["done"], fields["total"])
	}
	if took, ok := fields["took_ms"]; ok {
		parts = append(parts, fmt.Sprintf("%.1f ms", took.Float64()))
	}
	for _, a := range attrs {
		parts = appendAttr(parts, a)
	}
	if id, ok := fields["correlation_id"]; ok {
		parts = append(parts, wholeDisplayable(id.String()))
	}
	return strings.Join(parts, "  ")
}

// subject returns what a line is about: the request with its status, the job, or the message.
func subject(message string, fields map[string]slog.Value) string {
	switch message {
	case "request":
		path, ok := fields["path"]
		if !ok {
			path = fields["route"]
		}
		return fmt.Sprintf("%v %s  %v", fields["method"], wholeDisplayable(path.String()), fields["status"])
	case "job":
		return wholeDisplayable(fields["job"].String())
	}
	return wholeDisplayable(message)
}

// shownElsewhere are the attributes that a line shows in another place, or that the request's waterfall shows.
var shownElsewhere = map[string]bool{
	"bytes":          true,
	"client":         true,
	"client_port":    true,
	"correlation_id": true,
	"db_ms":          true,
	"embed_ms":       true,
	"job":            true,
	"kept":           true,
	"method":         true,
	"path":           true,
	"route":          true,
	"span_id":        true,
	"stages_summed":  true,
	"status":         true,
	"took_ms":        true,
	"trace_id":       true,
	"user_agent":     true,
}

// appendAttr appends KEY=VALUE, and for a group that of each member.
func appendAttr(parts []string, a slog.Attr) []string {
	value := a.Value.Resolve()
	switch {
	case shownElsewhere[a.Key]:
		return parts
	case value.Kind() == slog.KindGroup:
		for _, member := range value.Group() {
			parts = appendAttr(parts, member)
		}
		return parts
	}

	text := wholeDisplayable(value.String())
	if text == "" {
		return parts
	}
	if strings.ContainsAny(text, " =") && text[0] != '"' {
		text = strconv.Quote(text)
	}
	return append(parts, a.Key+"="+text)
}

// levelName returns the name of a level as in LOG_LEVEL. A level between two of them has the name of the lower one.
func levelName(level slog.Level) string {
	switch {
	case level < slog.LevelInfo:
		return "debug"
	case level < slog.LevelWarn:
		return "info"
	case level < slog.LevelError:
		return "warn"
	}
	return "error"
}
