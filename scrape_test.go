package main

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// countGathers returns the number of times that the metrics of s have been collected.
func countGathers(s *server) *atomic.Int64 {
	gathers := new(atomic.Int64)
	s.observe.metrics.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "test_gathers", Help: "Counts."},
		func() float64 { return float64(gathers.Add(1)) }))
	return gathers
}

// TestScrapesWithinALifetimeShareACollection counts how often the metrics are collected.
func TestScrapesWithinALifetimeShareACollection(t *testing.T) {
	ts := newTestServer(t)
	gathers := countGathers(ts.server)
	ts.scrapes.lifetime = time.Hour

	formats := [][]string{
		nil,
		{"Accept: application/openmetrics-text"},
		{"Accept-Encoding: gzip"},
		{"Accept: application/openmetrics-text", "Accept-Encoding: gzip"},
		{"Accept: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"},
	}
	for i := range 20 { // more than are kept
		formats = append(formats, []string{fmt.Sprintf("Accept: text/plain;q=0.%d", i)})
	}
	var crowd sync.WaitGroup
	for range 4 {
		for _, headers := range formats {
			crowd.Go(func() {
				for _, path := range []string{"/metrics", "/metrics?name[]=test_gathers"} {
					if a := ts.get(path, headers...); a.status != 200 || len(a.body) == 0 {
						t.Errorf("%s %q: %d with %d bytes", path, headers, a.status, len(a.body))
					}
				}
			})
		}
	}
	crowd.Wait()
	if n := gathers.Load(); n != 1 {
		t.Errorf("%d collections for one lifetime", n)
	}
	if n := len(ts.scrapes.last.answers); n != maxScrapeAnswers {
		t.Errorf("%d answers are kept, want %d", n, maxScrapeAnswers)
	}

	for _, test := range []struct {
		lifetime time.Duration
		want     int64
	}{{0, 4}, {time.Nanosecond, 4}, {time.Hour, 1}} {
		ts.scrapes.lifetime = test.lifetime
		ts.scrapes.last = nil
		gathers.Store(0)
		for range 4 {
			ts.get("/metrics")
		}
		if n := gathers.Load(); n != test.want {
			t.Errorf("lifetime %v: 4 scrapes made %d collections, want %d", test.lifetime, n, test.want)
		}
	}
}

// TestScrapesAnswerAsAsked compares the formats and the filters of one collection.
func TestScrapesAnswerAsAsked(t *testing.T) {
	ts := newTestServer(t)
	ts.scrapes.lifetime = time.Hour
	for range 2 { // the second answers are kept ones
		for _, test := range []struct {
			query, accept, contentType, has, hasNot string
		}{
			{"", "", "text/plain; version=0.0.4", "go_goroutines ", "# EOF"},
			{"", "application/openmetrics-text", "application/openmetrics-text", "# EOF", "<"},
			{"?name[]=vitrine_documents", "", "text/plain", "vitrine_documents 0", "go_goroutines"},
			{"?name[]=go_goroutines&name[]=vitrine_chunks", "", "text/plain", "vitrine_chunks 0", "vitrine_documents"},
			{"?name[]=go_goroutines,vitrine_chunks", "", "text/plain", "", "vitrine_chunks"},
			{"?name[]=vitrine_chunks", "application/openmetrics-text", "application/openmetrics-text", "# EOF", "go_"},
		} {
			a := ts.get("/metrics"+test.query, "Accept: "+test.accept)
			isAsAsked := a.status == 200 && strings.HasPrefix(a.header.Get("Content-Type"), test.contentType) &&
				strings.Contains(a.body, test.has) && !strings.Contains(a.body, test.hasNot)
			if !isAsAsked {
				t.Errorf("%s, Accept: %s: %d %s\n%.300s", test.query, test.accept, a.status, a.header.Get("Content-Type"), a.body)
			}
		}
	}
}

// TestSlowScrapersDoNotShutOthersOut has connections that send scrape after scrape and read nothing.
func TestSlowScrapersDoNotShutOthersOut(t *testing.T) {
	for _, lifetime := range []time.Duration{0, scrapeLifetime} {
		ts := newTestServer(t)
		ts.scrapes.lifetime = lifetime
		ts.serve()
		address := strings.TrimPrefix(ts.url, "http://")
		for range 40 {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.(*net.TCPConn).SetReadBuffer(1)
			fmt.Fprint(conn, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 50))
		}

		var crowd sync.WaitGroup
		for range 40 {
			crowd.Go(func() {
				if a := ts.get("/metrics"); a.status != 200 || !strings.Contains(a.body, "vitrine_documents 0\n") {
					t.Errorf("lifetime %v: %d %.100s", lifetime, a.status, a.body)
				}
			})
		}
		crowd.Wait()
	}
}
