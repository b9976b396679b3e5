package main

// What a scan of DOCS_DIR does now. A file system that does not answer, such as one of a server that is away, may block a
// scan for ever. Nothing can end such a system call, but /readyz names the file.

import (
	"sync"
	"time"
)

// stuckAfter is how long a step of a scan takes before /readyz names it.
const stuckAfter = time.Minute

// scanSteps are the steps of the running scan. The zero value is ready to use.
type scanSteps struct {
	clock func() time.Time // nil: time.Now

	mu      sync.Mutex
	last    int
	running map[int]scanStep
}

// scanStep is one step: the listing of a folder, or the reading or storing of a file.
type scanStep struct {
	began time.Time
	file  string // its id, or the path of the folder
}

func (s *scanSteps) now() time.Time {
	if s.clock == nil {
		return time.Now()
	}
	return s.clock()
}

// begin records that a step begins. The caller calls end when it has ended.
func (s *scanSteps) begin(file string) (end func()) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.running = make(map[int]scanStep)
	}
	s.last++
	step := s.last
	s.running[step] = scanStep{began: now, file: file}

	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, step)
	}
}

// stuck returns the oldest step if it takes longer than stuckAfter, else nil.
func (s *scanSteps) stuck() *scanStep {
	limit := s.now().Add(-stuckAfter)
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest *scanStep
	for _, step := range s.running {
		isOlder := oldest == nil || step.began.Before(oldest.began)
		if isOlder && !step.began.After(limit) {
			oldest = &step
		}
	}
	return oldest
}
