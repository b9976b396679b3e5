//go:build !linux && !darwin

package main

import (
	"io/fs"
	"time"
)

// changeTime returns the zero time: this system does not tell it in a portable way.
func changeTime(fs.FileInfo) time.Time { return time.Time{} }

// deviceOf returns 0 for all: this system does not tell the file system in a portable way.
func deviceOf(fs.FileInfo) uint64 { return 0 }

// threadCPUTime returns 0: this system does not tell it in a portable way.
func threadCPUTime() time.Duration { return 0 }
