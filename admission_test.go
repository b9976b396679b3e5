package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAdmissionRefusesBeyondItsQueue(t *testing.T) {
	t.Parallel()
	a := newAdmission(2)
	a.maxWait = time.Hour
	var leave []func()
	for range 2 {
		end, err := a.enter(t.Context(), anyClient)
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, end)
	}

	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := a.enter(ctx, anyClient)
			waited <- err
		}()
	}
	waitFor(t, "two that wait", haveQueued(a, 2))
	if _, err := a.enter(t.Context(), anyClient); !errors.Is(err, errBusy) {
		t.Errorf("with a full queue: %v, want errBusy", err)
	}

	leave[0]()
	if err := <-waited; err != nil {
		t.Errorf("after another operation has ended: %v", err)
	}
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("after its context has ended: %v, want context.Canceled", err)
	}
	a.maxWait = 0
	if _, err := a.enter(t.Context(), anyClient); !errors.Is(err, errBusy) {
		t.Errorf("after maxWait: %v, want errBusy", err)
	}
	if waiting, refused := a.stats(); waiting != 0 || refused != 2 {
		t.Errorf("%d wait, %d were refused", waiting, refused)
	}
}

// TestAdmissionSharesItselfAmongClients fills all places and the queue with operations of one client. Each other client still
// gets a place in the queue, and runs next.
func TestAdmissionSharesItselfAmongClients(t *testing.T) {
	t.Parallel()
	crowd := netip.MustParsePrefix("192.0.2.1/32")
	for name, others := range map[string][]string{
		"one other":    {"192.0.2.2/32"},
		"three others": {"192.0.2.2/32", "2001:db8::/64", "192.0.2.3/32"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAdmission(4)
			a.maxWait = time.Hour
			for range a.limit {
				if _, err := a.enter(t.Context(), crowd); err != nil {
					t.Fatal(err)
				}
			}
			crowdOutcomes := make(chan error, a.maxWaiting)
			for range a.maxWaiting {
				go func() {
					_, err := a.enter(t.Context(), crowd)
					crowdOutcomes <- err
				}()
			}
			waitFor(t, "a full queue", haveQueued(a, a.maxWaiting))

			admitted := make(chan error, len(others))
			for _, other := range others {
				go func() {
					_, err := a.enter(t.Context(), netip.MustParsePrefix(other))
					admitted <- err
				}()
				if err := <-crowdOutcomes; !errors.Is(err, errBusy) {
					t.Errorf("the newest of the crowd: %v", err)
				}
			}
			for range others {
				a.leave(crowd)
				if err := <-admitted; err != nil {
					t.Errorf("the other: %v", err)
				}
			}
			a.leave(crowd)
			if err := <-crowdOutcomes; err != nil {
				t.Errorf("the rest of the crowd: %v", err)
			}
		})
	}
}

// TestSearchesAreRefusedAtOnceUnderOverload holds all slots, so that it does not depend on the machine's speed.
func TestSearchesAreRefusedAtOnceUnderOverload(t *testing.T) {
	t.Parallel()
	s := newMCPServer(t, goldenDocuments, func(s *server) { s.admission.maxWait = time.Hour })
	a := s.admission
	leave := fill(t, a)
	var waiting sync.WaitGroup
	for range a.maxWaiting {
		waiting.Go(func() {
			if got := s.get("/search?q=install"); got.status != http.StatusOK {
				t.Errorf("a search that waited: %d %s", got.status, got.body)
			}
		})
	}
	waitFor(t, "a full queue", haveQueued(a, a.maxWaiting))

	for _, path := range []string{"/search?q=install", "/search?q=inst&partial=1", "/search?q=%22to+install%22"} {
		got := s.get(path)
		if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" {
			t.Errorf("%s: %d %v", path, got.status, got.header)
		}
	}
	tool := s.rpc("tools/call", map[string]any{"name": "search_docs", "arguments": map[string]string{"query": "install"}})
	if !strings.Contains(tool.body, `"isError":true`) || !strings.Contains(tool.body, "too many requests") {
		t.Error(tool.body)
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/documents", "/documents/guide/install.md"} {
		if got := s.get(path); got.status != http.StatusOK {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	metrics := s.get("/metrics").body
	for _, want := range []string{"vitrine_admission_refused_total 4\n", fmt.Sprintf("vitrine_admission_waiting %d\n", a.maxWaiting)} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}

	leave()
	waiting.Wait()
	if got := s.get("/search?q=install"); got.status != http.StatusOK {
		t.Errorf("after the overload: %d", got.status)
	}
}

// TestSharedAdmissionKeepsHalfForOthers lets one client run as many operations as it may. Another client need not wait.
func TestSharedAdmissionKeepsHalfForOthers(t *testing.T) {
	t.Parallel()
	crowd := netip.MustParsePrefix("192.0.2.1/32")
	other := netip.MustParsePrefix("2001:db8::/64")
	for n, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 9: 4} {
		a := newSharedAdmission(n)
		a.maxWait = 0
		admitted := 0
		for {
			if _, err := a.enter(t.Context(), crowd); err != nil {
				break
			}
			admitted++
		}
		if admitted != want {
			t.Errorf("of %d: one client has %d, want %d", n, admitted, want)
		}
		leave, err := a.enter(t.Context(), other)
		if err != nil {
			t.Errorf("of %d: the other: %v", n, err)
			continue
		}

		a.maxWait = time.Hour
		waited := make(chan error)
		go func() {
			_, err := a.enter(t.Context(), crowd)
			waited <- err
		}()
		waitFor(t, "one of the crowd waits", haveQueued(a, 1))
		leave()
		if waiting, _ := a.stats(); waiting != 1 {
			t.Errorf("of %d: the crowd got the place of the other", n)
		}
		a.leave(crowd)
		if err := <-waited; err != nil {
			t.Errorf("of %d: the crowd in its own place: %v", n, err)
		}
	}
}

// TestOneClientHasATenthOfTheDatabase checks the places of one client, which gets all of them without RATE_LIMIT.
func TestOneClientHasATenthOfTheDatabase(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		conns int
		rate  float64
		want  int
	}{
		{1, 50, 1}, {2, 50, 2}, {19, 50, 2}, {20, 50, 2}, {200, 1, 20}, {20, 0, 20},
	} {
		a := newDatabaseAdmission(&settings{dbMaxConns: test.conns, rateLimit: test.rate})
		if a.limit != test.conns || a.perClient != test.want {
			t.Errorf("%d connections, rate %v: %d, one client %d", test.conns, test.rate, a.limit, a.perClient)
		}
	}
}

// TestPagesAreAdmitted holds all slots, so that it does not depend on the machine's speed.
func TestPagesAreAdmitted(t *testing.T) {
	t.Parallel()
	large := map[string]string{
		"large.md":         "# Large\n\n" + strings.Repeat("*many* words\n\n", largePage/14),
		"guide/install.md": "# Install\n\nText.\n",
	}
	s := newMCPServer(t, large, func(s *server) {
		s.work.maxWait = 0
		s.largePages.maxWait = 0
	})
	const html = "Accept: text/html"
	tool := func() answer {
		return s.rpc("tools/call", map[string]any{"name": "get_document", "arguments": map[string]string{"id": "large.md"}})
	}
	check := func(load, path string, want int, headers ...string) {
		t.Helper()
		got := s.do("GET", path, "", headers...)
		if got.status != want {
			t.Errorf("%s: %s: %d, want %d", load, path, got.status, want)
		}
		if got.status == http.StatusServiceUnavailable && got.header.Get("Retry-After") != "1" {
			t.Errorf("%s: %s: %v", load, path, got.header)
		}
	}

	leave := fill(t, s.largePages)
	check("large pages are sent", "/read/large.md", http.StatusServiceUnavailable, html)
	check("large pages are sent", "/read/guide/install.md", http.StatusOK, html)
	leave()
	check("all has ended", "/read/large.md", http.StatusOK, html)

	leave = fill(t, s.work)
	for _, path := range []string{"/read/large.md", "/read/guide/install.md", "/read/guide/", "/read/?list", "/read/nothing"} {
		check("pages are made", path, http.StatusServiceUnavailable, html)
	}
	for _, path := range []string{"/read/large.md", "/documents/large.md", "/documents", "/search?q=many", "/livez", "/readyz", "/"} {
		check("pages are made", path, http.StatusOK)
	}
	if got := tool(); !strings.Contains(got.body, `"isError":true`) || !strings.Contains(got.body, "too many requests") {
		t.Error(got.body)
	}
	if metrics := s.get("/metrics").body; !strings.Contains(metrics, "vitrine_admission_refused_total 7\n") {
		t.Error("the refusals are not counted")
	}
	leave()
	if got := tool(); strings.Contains(got.body, `"isError":true`) {
		t.Error(got.body)
	}
}

// TestLargeTextsAreEncodedInTurns holds all turns, so that a response with a large text waits before it encodes the text.
func TestLargeTextsAreEncodedInTurns(t *testing.T) {
	t.Parallel()
	text := "# Large\n\n" + strings.Repeat("*many* words\n\n", minSharedBytes/10)
	s := newMCPServer(t, map[string]string{"large.md": text, "small.md": "# Small\n"}, nil)
	leave := fill(t, s.encoding)

	if got := s.rpc("resources/read", map[string]any{"uri": "docs:///small.md"}); !strings.Contains(got.body, "# Small") {
		t.Error(got.body)
	}
	answered := make(chan answer, 1)
	go func() { answered <- s.rpc("resources/read", map[string]any{"uri": "docs:///large.md"}) }()
	waitFor(t, "a text that waits", haveQueued(s.encoding, 1))
	leave()
	if got := <-answered; !strings.Contains(got.body, mustJSON(text)) {
		t.Errorf("%d, %d bytes", got.status, len(got.body))
	}
}

// TestAdmissionIsResized takes places away while operations run, and adds places while others wait.
func TestAdmissionIsResized(t *testing.T) {
	t.Parallel()
	a := newAdmission(4)
	a.maxWait = time.Hour
	for range 4 {
		if _, err := a.enter(t.Context(), anyClient); err != nil {
			t.Fatal(err)
		}
	}
	a.resize(2)
	admitted := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := a.enter(t.Context(), anyClient)
			admitted <- err
		}()
	}
	waitFor(t, "three that wait", haveQueued(a, 3))
	a.leave(anyClient)
	a.leave(anyClient)
	if !haveQueued(a, 3)() {
		t.Error("one began although there is no room")
	}
	a.leave(anyClient)
	if err := <-admitted; err != nil || !haveQueued(a, 2)() {
		t.Errorf("with room for one: %v", err)
	}
	a.resize(4)
	for range 2 {
		if err := <-admitted; err != nil {
			t.Errorf("with more room: %v", err)
		}
	}
}

// fill takes all places, each for another client. leave gives them back.
func fill(t *testing.T, a *admission) (leave func()) {
	t.Helper()
	var clients []netip.Prefix
	for i := range a.limit {
		client := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)
		if _, err := a.enter(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, client)
	}
	return func() {
		for _, client := range clients {
			a.leave(client)
		}
	}
}

// haveQueued returns a condition that n operations wait.
func haveQueued(a *admission, n int) func() bool {
	return func() bool {
		waiting, _ := a.stats()
		return waiting == int64(n)
	}
}
