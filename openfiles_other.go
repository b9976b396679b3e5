//go:build !linux && !darwin

package main

// maxOpenFiles returns a number that most systems allow.
func maxOpenFiles() int { return 1024 }
