//go:build linux || darwin

package main

import "syscall"

// usualOpenFiles is the limit of most systems.
const usualOpenFiles = 1024

// maxOpenFiles returns how many files the process may have open, sockets included.
func maxOpenFiles() int {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	if err != nil {
		return usualOpenFiles
	}
	const enough = 1 << 20
	return int(min(limit.Cur, enough))
}
