//go:build race

package main

// underRace: the race detector multiplies time and memory, so tests that measure them are skipped.
const underRace = true
