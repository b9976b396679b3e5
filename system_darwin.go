package main

// What only the operating system can tell of a file or a thread. There is one such file for each system.

import (
	"io/fs"
	"syscall"
	"time"
)

// changeTime returns when the file's inode last changed. No program can set it back.
func changeTime(info fs.FileInfo) time.Time {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return time.Time{}
	}
	return time.Unix(stat.Ctimespec.Unix())
}

// deviceOf returns the number of the file system that the file is on.
func deviceOf(info fs.FileInfo) uint64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return uint64(stat.Dev)
}

// threadCPUTime returns 0: this system tells only the time of the whole process.
func threadCPUTime() time.Duration { return 0 }
