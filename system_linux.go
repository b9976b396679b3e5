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
	return time.Unix(stat.Ctim.Unix())
}

// deviceOf returns the number of the file system that the file is on.
func deviceOf(info fs.FileInfo) uint64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return stat.Dev
}

// threadCPUTime returns the CPU time that the calling thread has used.
func threadCPUTime() time.Duration {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_THREAD, &usage)
	if err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
