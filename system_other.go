//go:build !linux && !darwin

package main

import (
	"io/fs"
	"time"
)

// changeTime returns the zero time: this system does not tell it in a portable way.
func changeTime(fs.FileInfo) time.Time { return time.Time{} }

// threadCPUTime returns 0: this system does not tell it in a portable way.
func threadCPUTime() time.Duration { return 0 }
