package main

// The garbage collector's settings for the memory of the container.

import (
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
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

// Bounds of the growth that delayCollections sets.
const (
	minHeapGrowth = 16 << 20 // bytes between two collections
	maxGCPercent  = 400      // at this percentage the runtime's own least growth is minHeapGrowth, too
)

// delayCollections lets the heap grow by at least minHeapGrowth between collections, unless GOGC is set.
//
// By default it grows by as much as is live. The live data of a small store has about 4 MB, so the collector runs a
// hundred times a second under load and takes a twentieth of the CPU. The runtime has no setting for the growth in
// bytes. Therefore the percentage is computed from what is live, now and after each collection.
func delayCollections(env map[string]string) {
	if env["GOGC"] == "" {
		setGCPercent(0)
	}
}

// setGCPercent sets the percentage for what is live, and does so again after the next collection. current is what it
// set last.
func setGCPercent(current int) {
	live := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	runtimemetrics.Read(live)
	percent := gcPercent(live[0].Value.Uint64())
	if percent != current { // setting it stops the world
		debug.SetGCPercent(percent)
	}

	// The object is unreachable at once, so the next collection runs the cleanup. The runtime may put objects without
	// pointers together and keep them all, so it has one.
	runtime.AddCleanup(&struct{ *int }{}, setGCPercent, percent)
}

// gcPercent returns the percentage of live that is minHeapGrowth, within its bounds.
func gcPercent(live uint64) int {
	const step = 50 // small changes of live do not change it
	percent := minHeapGrowth * 100 / max(live, 1)
	return int(min(max(percent/step*step, 100), maxGCPercent))
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
