package main

// The garbage collector's settings for the memory of the container.

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitMemory sets the garbage collector's memory limit to 90 % of the container's memory, unless GOMEMLIMIT is set. The
// rest is for memory that the Go runtime does not count.
func limitMemory(log *slog.Logger, env map[string]string) {
	memory := containerMemory()
	if memory == 0 || env["GOMEMLIMIT"] != "" {
		return
	}

	limit := memory / 10 * 9
	debug.SetMemoryLimit(limit)
	log.Info("memory limit set from the cgroup", "bytes", limit)
}

// raiseGCPercent lets the heap grow to three times its live data between collections, unless GOGC is set.
//
// At the default of 100, the collector runs after each 4 MB that a small heap allocates, a hundred times a second under
// load. At 200 it runs after each 8 MB, and a request to a small store takes 5 to 10 % less CPU. With 1,000 documents the
// gain is too small to measure. The cost is memory. So the percentage is raised only if there is a memory limit of at
// least minLimit. The collector runs more often near the limit, and keeps the heap below it if the live data fits.
func raiseGCPercent(env map[string]string) {
	const minLimit = 256 << 20 / 10 * 9 // what limitMemory sets in a container of 256 MiB

	limit := debug.SetMemoryLimit(-1) // -1 reads the limit and does not change it
	isKnown := limit < math.MaxInt64
	if isKnown && limit >= minLimit && env["GOGC"] == "" {
		debug.SetGCPercent(200)
	}
}

// containerMemory returns the memory limit of the cgroup in bytes, or 0 if there is none. The Go runtime does not read
// it (go.dev/issue/75164).
func containerMemory() int64 {
	text, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		text, _ = os.ReadFile("/sys/fs/cgroup/memory/memory.limit_in_bytes") // cgroup version 1
	}

	limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || limit > 1<<50 { // no limit: "max" in version 2, a huge number in version 1
		return 0
	}
	return limit
}
