package main

// The garbage collector's settings: its memory limit, from the container's, and how often it runs.

import (
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"strconv"
	"strings"
)

// limitMemory sets the garbage collector's memory limit to 90 % of the container's limit, unless GOMEMLIMIT is set or the
// container has no limit. The rest is for memory that the Go runtime does not count.
func limitMemory(log *slog.Logger, env map[string]string) {
	memory := containerMemory()
	if memory == 0 || env["GOMEMLIMIT"] != "" {
		return
	}

	limit := memory / 10 * 9
	debug.SetMemoryLimit(limit)
	log.Info("memory limit set from the cgroup", "bytes", limit)
}

const (
	// minHeapGrowth is how many bytes the heap may grow between two collections, however small it is.
	minHeapGrowth = 16 << 20

	// maxGCPercent suffices for an empty heap: the runtime never collects below 4 MiB times GOGC/100, here minHeapGrowth.
	maxGCPercent = 400
)

// delayCollections lets a small heap grow by minHeapGrowth between collections, unless GOGC is set.
//
// By default (GOGC=100), the heap grows by the size of the live data. A small store has about 4 MB of it, so the collector
// would run a hundred times a second under load and take a twentieth of the CPU. The runtime has no setting for the growth
// in bytes, so the percentage is computed from the size of the live data, now and after each collection.
func delayCollections(env map[string]string) {
	if env["GOGC"] == "" {
		setGCPercent(0)
	}
}

// setGCPercent sets GOGC for the current size of the live data, and again after each collection. current is the percentage
// that is in force, 0 if it is not known.
func setGCPercent(current int) {
	live := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	runtimemetrics.Read(live)
	percent := gcPercent(live[0].Value.Uint64())
	if percent != current { // setting it stops the world
		debug.SetGCPercent(percent)
	}

	// The next collection finds sentinel unreachable, so the cleanup runs after it. The runtime may never run the cleanup of
	// a tiny object without pointers, hence the field.
	sentinel := &struct{ *int }{}
	runtime.AddCleanup(sentinel, setGCPercent, percent)
}

// gcPercent returns the percentage of live, in bytes, that is minHeapGrowth: at least 100 and at most maxGCPercent.
func gcPercent(live uint64) int {
	const step = 50 // rounds up, so that small changes of live do not change the percentage
	percent := minHeapGrowth * 100 / max(live, 1)
	percent = (percent + step - 1) / step * step
	return int(min(max(percent, 100), maxGCPercent))
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
