package main

// Signals that do not end the process.

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// ignoreHangups logs each SIGHUP, which would end the process, until ctx ends.
func (s *server) ignoreHangups(ctx context.Context) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			s.log.Warn("SIGHUP ignored: settings are read at start-up, restart to change them")
		}
	}
}
