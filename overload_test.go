package main

// The figures of an overloaded server: how long answers and refusals take, and what one client takes from another. They
// mean something on a machine that does nothing else, so they are printed and not asserted, and only on demand:
//
//	VITRINE_SLOW_TEST=1m go test -count=1 -run Overload -v .

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	overloadDocuments = 2000
	overloadTime      = 4 * time.Second // of each measurement
)

func TestOverloadFigures(t *testing.T) {
	if os.Getenv("VITRINE_SLOW_TEST") == "" {
		t.Skip("set VITRINE_SLOW_TEST to measure")
	}
	dir := t.TempDir()
	for i, d := range syntheticDocuments(overloadDocuments) {
		text := d.text + "\n" + string([]rune(ideographs(4000))[i%1000:][:200]) + "\n"
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.md", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, []string{"DOCS_DIR=" + dir, "DATABASE_URL=", "LOG_LEVEL=warn"})
	capacity := p.saturation(t)
	t.Logf("saturated at %.0f searches a second", capacity)

	for _, times := range []float64{1, 2, 4} {
		done := p.probe(t, fmt.Sprintf("/livez at %v × saturation", times), "/livez", "127.0.0.1")
		l := &arrivals{url: p.url, from: "127.0.0.2", query: shortQuestion}
		l.run(t, times*capacity)
		l.report(t, fmt.Sprintf("%v × saturation", times))
		done()
	}

	limited := start(t, []string{"DOCS_DIR=" + dir, "DATABASE_URL=", "LOG_LEVEL=warn", "RATE_LIMIT=50"})
	done := limited.probe(t, "a second client", "/search?q=install+lantern", "127.0.0.3")
	l := &arrivals{url: limited.url, from: "127.0.0.2", query: chineseQuestion}
	l.run(t, 50)
	l.report(t, "50 Chinese questions of 999 bytes a second")
	done()
}

// shortQuestion returns two words that documents have.
func shortQuestion(n uint64) string {
	n %= 5000
	return syntheticWord(n) + " " + syntheticWord(n*7%5000)
}

// chineseQuestion returns a question of 999 bytes.
func chineseQuestion(n uint64) string {
	var question strings.Builder
	random := rand.New(rand.NewPCG(n, n))
	for range 333 {
		question.WriteRune('一' + random.Int32N(4000))
	}
	return question.String()
}

// clientFrom returns a client whose connections come from a loopback address, which makes it a client of its own.
func clientFrom(address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         dialer.DialContext,
			MaxIdleConnsPerHost: 1000,
		},
		Timeout: time.Minute,
	}
}

// saturation returns how many searches a second the program answers to a few clients that ask again at once.
func (p *process) saturation(t *testing.T) float64 {
	t.Helper()
	l := &arrivals{url: p.url, query: shortQuestion}
	client := clientFrom("127.0.0.1")
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), overloadTime)
	defer cancel()
	var running sync.WaitGroup
	for worker := range 4 {
		running.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.ask(client, uint64(worker)<<32|uint64(i))
			}
		})
	}
	running.Wait()
	return float64(len(l.answered)) / overloadTime.Seconds()
}

// arrivals sends searches at a fixed rate, whether they are answered or not, as many independent users do.
type arrivals struct {
	url   string
	from  string // an address of the loopback
	query func(n uint64) string

	mu       sync.Mutex
	answered []time.Duration
	refused  []time.Duration
	failed   int
	failure  string
}

// run sends searches for overloadTime and waits for the last answer.
func (l *arrivals) run(t *testing.T, perSecond float64) {
	t.Helper()
	client := clientFrom(l.from)
	defer client.CloseIdleConnections()
	var running sync.WaitGroup
	began := time.Now()
	for n := 0; ; n++ {
		next := began.Add(time.Duration(float64(n) / perSecond * float64(time.Second)))
		if next.Sub(began) > overloadTime {
			break
		}
		time.Sleep(time.Until(next))
		running.Go(func() { l.ask(client, uint64(n)) })
	}
	running.Wait()
}

// ask sends a search and counts its outcome.
func (l *arrivals) ask(client *http.Client, n uint64) {
	began := time.Now()
	resp, err := client.Get(l.url + "/search?q=" + url.QueryEscape(l.query(n)))
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed++
		l.failure = err.Error()
		return
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		l.answered = append(l.answered, took)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		l.refused = append(l.refused, took)
	default:
		l.failed++
		l.failure = resp.Status
	}
}

func (l *arrivals) report(t *testing.T, name string) {
	t.Helper()
	t.Logf("%s: answered %s; refused %s", name, quantiles(l.answered), quantiles(l.refused))
	if l.failed > 0 {
		t.Errorf("%s: %d failed, such as %s", name, l.failed, l.failure)
	}
}

// probe asks for a path every 20 ms until done is called, which prints the times.
func (p *process) probe(t *testing.T, name, path, from string) (done func()) {
	t.Helper()
	client := clientFrom(from)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var times []time.Duration
	refused := 0
	running.Go(func() {
		for pause(ctx, 20*time.Millisecond) {
			began := time.Now()
			resp, err := client.Get(p.url + path)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return
			}
			resp.Body.Close()
			times = append(times, time.Since(began))
			if resp.StatusCode != http.StatusOK {
				refused++
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
		client.CloseIdleConnections()
		t.Logf("%s: %s; %d refused", name, quantiles(times), refused)
	}
}

// quantiles describes times, which it sorts.
func quantiles(times []time.Duration) string {
	if len(times) == 0 {
		return "0"
	}
	slices.Sort(times)
	at := func(q float64) time.Duration {
		return times[int(q*float64(len(times)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%d (p50 %v, p99 %v, most %v)", len(times), at(.5), at(.99), at(1))
}
