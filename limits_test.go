package main

import (
	"net/netip"
	"testing"
	"time"
)

func TestLimiterIsBoundedAndRefills(t *testing.T) {
	l := newLimiter(10, 2)
	l.maxClients = 100
	now := time.Now()
	client := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	for i := range 1000 {
		if wait := l.take(client(i), now); wait != 0 {
			t.Fatalf("client %d waits %v", i, wait)
		}
	}
	if len(l.fullAt) > l.maxClients {
		t.Errorf("%d buckets, want at most %d", len(l.fullAt), l.maxClients)
	}
	l.take(client(1), now)
	l.take(client(1), now)
	if wait := l.take(client(1), now); wait <= 0 || wait > 100*time.Millisecond {
		t.Errorf("an empty bucket waits %v, want up to 100ms", wait)
	}
	if wait := l.take(client(1), now.Add(100*time.Millisecond)); wait != 0 {
		t.Errorf("a refilled bucket waits %v", wait)
	}
}
