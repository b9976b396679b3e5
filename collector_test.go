package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// spanSink is a collector that counts how often it has taken each span.
type spanSink struct {
	t        *testing.T
	mu       sync.Mutex
	taken    map[string]int
	requests int
	// answer may answer a request itself, which then takes no span. It may be nil.
	answer func(w http.ResponseWriter, request int) (isAnswered bool)
}

func newSpanSink(t *testing.T) *spanSink {
	return &spanSink{t: t, taken: make(map[string]int)}
}

func (s *spanSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		var unpacked *gzip.Reader
		if unpacked, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(unpacked)
		}
	}
	if err != nil {
		s.t.Errorf("the body: %v", err)
		return
	}
	s.requests++
	if s.answer != nil && s.answer(w, s.requests) {
		return
	}
	for _, id := range spanIDs(body) {
		s.taken[id]++
	}
}

// spanIDs returns the ids in an ExportTraceServiceRequest: resource_spans 1, scope_spans 2, spans 2, span_id 2.
func spanIDs(message []byte) (ids []string) {
	path := []uint64{1, 2, 2, 2}
	var walk func(message []byte, depth int)
	walk = func(message []byte, depth int) {
		for field := range protobufFields(message) {
			switch {
			case field.number != path[depth]:
			case depth == len(path)-1:
				ids = append(ids, hex.EncodeToString(field.bytes))
			default:
				walk(field.bytes, depth+1)
			}
		}
	}
	walk(message, 0)
	return ids
}

// counts returns how many spans were taken, how many of them more than once, and how many requests came.
func (s *spanSink) counts() (taken, twice, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.taken {
		if n > 1 {
			twice++
		}
	}
	return len(s.taken), twice, s.requests
}

// partialSuccess returns an ExportTraceServiceResponse.
func partialSuccess(rejected int, message string) []byte {
	var inner []byte
	if rejected > 0 {
		inner = binary.AppendUvarint([]byte{1 << 3}, uint64(rejected))
	}
	inner = append(binary.AppendUvarint(append(inner, 2<<3|2), uint64(len(message))), message...)
	return append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(inner))), inner...)
}

// newTestExport returns an export of the real OTLP exporter to url.
func newTestExport(t *testing.T, url string, logs io.Writer) *traceExport {
	t.Helper()
	cfg := testSettings(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+url)
	exporter, err := newExporter(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return startTraceExport(exporter, cfg, newLogger(logs, newLogLevel(0), cfg))
}

// newFinishedRecord returns a record of three spans.
func newFinishedRecord() *record {
	policy := new(recordPolicy)
	policy.byCaller = newLimiter(1, 1)
	rec := policy.newRecord(nil)
	ctx := rec.newScope(context.Background(), -1)
	for range 2 {
		_, end := stage(ctx, stageFile)
		end(nil)
	}
	rec.took = time.Millisecond
	return rec
}

// TestCollectorsAnswerDecides sends four records, twelve spans, to collectors that answer otherwise than with success.
func TestCollectorsAnswerDecides(t *testing.T) {
	t.Parallel()
	const spans = 12
	status := func(status int, header ...string) func(w http.ResponseWriter, request int) bool {
		return func(w http.ResponseWriter, request int) bool {
			if request > 1 { // it takes what it gets again
				return false
			}
			if len(header) > 0 {
				w.Header().Set("Retry-After", header[0])
			}
			w.WriteHeader(status)
			return true
		}
	}
	partial := func(contentType string, body []byte) func(w http.ResponseWriter, _ int) bool {
		return func(w http.ResponseWriter, _ int) bool {
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(body)
			return true
		}
	}
	for _, test := range []struct {
		name                              string
		answer                            func(w http.ResponseWriter, request int) bool
		exported, failed, taken, requests int
		logged                            string
	}{
		{"success", nil, spans, 0, spans, 1, ""},
		{"204", status(204), spans, 0, 0, 1, ""},
		{"partial success", partial("application/x-protobuf", partialSuccess(5, "too old")), spans - 5, 5, 0, 1, "too old"},
		{"partial success in JSON", partial("application/json", []byte(`{"partialSuccess":{"rejectedSpans":"5","errorMessage":"too old"}}`)), spans - 5, 5, 0, 1, "too old"},
		{"fewer than none rejected", partial("application/json", []byte(`{"partialSuccess":{"rejectedSpans":"-5"}}`)), spans, 0, 0, 1, ""},
		{"all rejected", partial("application/x-protobuf", partialSuccess(spans, "no room")), 0, spans, 0, 1, "no room"},
		{"more rejected than sent", partial("application/x-protobuf", partialSuccess(1000, "no room")), 0, spans, 0, 1, "no room"},
		{"a warning", partial("application/x-protobuf", partialSuccess(0, "old protocol")), spans, 0, 0, 1, "old protocol"},
		{"success that cannot be read", partial("application/x-protobuf", []byte{0xff, 0xff, 0xff}), spans, 0, 0, 1, ""},
		{"307", status(307), 0, spans, 0, 1, "307"},
		{"400", status(400), 0, spans, 0, 1, "400"},
		{"401", status(401), 0, spans, 0, 1, "401"},
		{"403", status(403, "1"), 0, spans, 0, 1, "403"},
		{"404", status(404), 0, spans, 0, 1, "404"},
		{"413", status(413), 0, spans, 0, 1, "413"},
		{"500", status(500), 0, spans, 0, 1, "500"},
		{"429", status(429), spans, 0, spans, 2, ""},
		{"429 with Retry-After", status(429, "1"), spans, 0, spans, 2, ""},
		{"502", status(502), spans, 0, spans, 2, ""},
		{"503 with a date", status(503, time.Now().UTC().Format(http.TimeFormat)), spans, 0, spans, 2, ""},
		{"504", status(504), spans, 0, spans, 2, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			sink := newSpanSink(t)
			sink.answer = test.answer
			collector := httptest.NewServer(sink)
			defer collector.Close()
			logs := new(logBuffer)
			e := newTestExport(t, collector.URL, logs)
			for range spans / 3 {
				e.add(newFinishedRecord())
			}
			e.close(time.Minute)
			taken, twice, requests := sink.counts()
			if taken != test.taken || twice != 0 || requests != test.requests {
				t.Errorf("the collector has taken %d spans, %d twice, in %d requests; want %d, 0 and %d", taken, twice, requests, test.taken, test.requests)
			}
			if exported, failed := e.exported.Load(), e.failed.Load(); int(exported) != test.exported || int(failed) != test.failed || e.dropped.Load() != 0 {
				t.Errorf("exported %d, failed %d, dropped %d; want %d and %d", exported, failed, e.dropped.Load(), test.exported, test.failed)
			}
			if text := logs.String(); strings.Count(text, "\n") > 1 || !strings.Contains(text, test.logged) || (test.logged == "") != (text == "") {
				t.Errorf("the log has %q, want one line with %q", text, test.logged)
			}
		})
	}
}

// TestRetryAfterIsHonoured compares when the requests come.
func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		sink := newSpanSink(t)
		var came []time.Time
		sink.answer = func(w http.ResponseWriter, request int) bool {
			came = append(came, time.Now())
			if request > 1 {
				return false
			}
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(status)
			return true
		}
		collector := httptest.NewServer(sink)
		e := newTestExport(t, collector.URL, io.Discard)
		e.add(newFinishedRecord())
		e.close(time.Minute)
		collector.Close()
		if taken, twice, requests := sink.counts(); taken != 3 || twice != 0 || requests != 2 || came[1].Sub(came[0]) < 2*time.Second {
			t.Errorf("%d: %d spans taken, %d twice, %v", status, taken, twice, came)
		}
	}
}

// TestCollectorMayRestart lets the collector be away for six seconds under traffic: no span is lost, none comes twice.
func TestCollectorMayRestart(t *testing.T) {
	t.Parallel()
	sink := newSpanSink(t)
	addr := freeAddr(t)
	serve := func() *http.Server {
		hs := &http.Server{Addr: addr, Handler: sink}
		go func() { _ = hs.ListenAndServe() }()
		return hs
	}
	hs := serve()
	logs := new(logBuffer)
	e := newTestExport(t, "http://"+addr, logs)
	sent := 0
	add := func(records int) {
		for range records {
			e.add(newFinishedRecord())
			sent += 3
		}
	}
	add(5)
	waitFor(t, "the first spans", func() bool { return e.exported.Load() == int64(sent) })
	if err := hs.Close(); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		add(50)
		time.Sleep(time.Second)
	}
	line := logs.find(t, "spans could not be exported", "")
	if told, _ := line["error"].(string); !strings.Contains(told, "refused") || line["spans_failed_total"] != 0.0 {
		t.Errorf("while nothing is lost yet: %v", line)
	}
	defer serve().Close()
	waitFor(t, "all spans", func() bool { return e.exported.Load() == int64(sent) })
	e.close(time.Second)
	if taken, twice, _ := sink.counts(); taken != sent || twice != 0 || e.failed.Load() != 0 || e.dropped.Load() != 0 {
		t.Errorf("%d of %d spans were taken, %d twice; failed %d, dropped %d", taken, sent, twice, e.failed.Load(), e.dropped.Load())
	}
}

// TestFullQueueEndsTheRetries counts every span while nobody listens and more records come than the queue has room for.
func TestFullQueueEndsTheRetries(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"refused": nil,
		"asked to wait for an hour": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := "http://127.0.0.1:1" // below the range of free ports: no other test listens there
			if answer != nil {
				collector := httptest.NewServer(answer)
				defer collector.Close()
				url = collector.URL
			}
			logs := new(logBuffer)
			e := newTestExport(t, url, logs)
			records := int64(0)
			add := func(n int) {
				for range n {
					e.add(newFinishedRecord())
				}
				records += int64(n)
			}
			add(1)
			waitFor(t, "the first batch", func() bool { return len(e.queue) == 0 })
			time.Sleep(exportPause)
			add(traceQueueRecords + 1000)
			waitFor(t, "a batch is given up", func() bool {
				add(1) // the queue may have been full before the first batch had to wait
				return e.failed.Load() > 0
			})
			e.close(time.Second)
			failed, dropped := e.failed.Load(), e.dropped.Load()
			if e.exported.Load() != 0 || failed+dropped != 3*records {
				t.Errorf("exported %d, failed %d, dropped %d of %d", e.exported.Load(), failed, dropped, 3*records)
			}
			if n := strings.Count(logs.String(), "spans could not be exported"); n != 1 {
				t.Errorf("%d log lines", n)
			}
		})
	}
}

// TestCloseDoesNotWaitForAHangingCollector counts the spans of the attempt that it cuts off.
func TestCloseDoesNotWaitForAHangingCollector(t *testing.T) {
	t.Parallel()
	var asked atomic.Bool
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked.Store(true)
		<-r.Context().Done()
	}))
	defer collector.Close()
	defer collector.CloseClientConnections()
	e := newTestExport(t, collector.URL, io.Discard)
	e.add(newFinishedRecord())
	waitFor(t, "the request", asked.Load)
	for range 1000 {
		e.add(newFinishedRecord())
	}
	e.close(100 * time.Millisecond)
	waitFor(t, "all spans are counted", func() bool {
		return e.failed.Load()+e.exported.Load()+e.dropped.Load() >= 3003
	})
	if failed := e.failed.Load(); failed != 3003 {
		t.Errorf("%d failed, %d exported, %d dropped, want 3003 failed", failed, e.exported.Load(), e.dropped.Load())
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"7":                             7 * time.Second,
		"-1":                            0,
		"1.5":                           0,
		"99999999999999999999":          0,
		"Fri, 27 Nov 2026 09:01:00 GMT": time.Minute,
		"Fri, 27 Nov 2026 08:01:00 GMT": 0,
		"soon":                          0,
		"86400":                         time.Minute,
		"2147483647":                    time.Minute,
		"Fri, 31 Dec 9999 23:59:59 GMT": time.Minute,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("Retry-After %q: %v, want %v", value, got, want)
		}
	}
}

func FuzzCollectorReply(f *testing.F) {
	f.Add(partialSuccess(3, "why"))
	f.Add([]byte{1<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, body []byte) {
		var c collectorReply
		c.readProtobuf(body)
		if c.rejected < 0 {
			t.Error(fmt.Sprint(c.rejected))
		}
	})
}
