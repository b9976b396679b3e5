package main

// What observability costs, measured while it runs: the metric vitrine_observability_cpu_seconds_total.

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// measuredShare is the sampling rate of requests: one in measuredShare is measured on its own path.
	measuredShare = 64

	// maxSection is the longest plausible time of a measured section of a request's path. A section that took longer was
	// interrupted by other work.
	maxSection = 100 * time.Microsecond
)

// cpuMeter adds up the CPU time of some work. The zero value is ready for use.
type cpuMeter struct{ total atomic.Int64 }

// run does work and adds its CPU time. It is for batches, because it asks the operating system twice. The goroutine keeps
// its thread meanwhile, so that the time is that of work alone.
func (m *cpuMeter) run(work func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadCPUTime()
	work()
	m.total.Add(int64(threadCPUTime() - began))
}

// section adds the time since began, for all requests that one measured request stands for. It is for the path of a
// request, where asking the operating system for the CPU time would take longer than the section.
func (m *cpuMeter) section(began time.Time) {
	took := min(time.Since(began), maxSection)
	m.total.Add(int64(measuredShare * took))
}

// elapsed returns the sum so far.
func (m *cpuMeter) elapsed() time.Duration { return time.Duration(m.total.Load()) }

// isMeasured reports whether a request is the one of measuredShare that is measured.
func isMeasured() bool { return rand.Uint32N(measuredShare) == 0 }
