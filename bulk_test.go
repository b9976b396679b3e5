package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestBulkAnswersEachLineWhileItReads(t *testing.T) {
	ts := newTestServer(t)
	body, sender := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", ts.url+"/documents", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+testAdminToken)

	answers := make(chan string)
	go func() {
		defer close(answers)
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
			answers <- scanner.Text()
		}
	}()

	for _, test := range []struct{ line, want string }{
		{`{"id":"a.md","text":"# A\n\nalpha"}`, `{"id":"a.md","status":201}`},
		{`{"id":"a.md","text":"# A\n\nother"}`, `{"id":"a.md","status":204}`},
		{`{"id":"a","text":""}`, `"status":400`},
		{`{"id":"b.md"}`, `"status":400`},
		{`{"id":"b.md","text":"` + "\xff" + `"}`, `"status":400`},
		{`nonsense`, `"status":400`},
		{`{"id":"b.md","text":"x"} {"id":"c.md","text":"x"}`, `"status":400`},
		{"\n" + `{"id":"b.md","text":"beta"}`, `{"id":"b.md","status":201}`},
	} {
		if _, err := io.WriteString(sender, test.line+"\n"); err != nil {
			t.Fatal(err)
		}
		got := <-answers // before the next line is sent
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: answered %s, want %s", test.line, got, test.want)
		}
	}

	_, _ = io.WriteString(sender, `{"id":"last.md","text":"no newline"}`)
	sender.Close()
	if got := <-answers; !strings.Contains(got, `{"id":"last.md","status":201}`) {
		t.Errorf("the last line: %s", got)
	}
	if line, more := <-answers; more {
		t.Errorf("one line too many: %s", line)
	}
	if a := ts.get("/documents/a.md"); a.body != "# A\n\nother" {
		t.Errorf("a.md = %q", a.body)
	}
}

func TestBulkTakesTheLongestDocumentAndRefusesALongerLine(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	longest := strings.Repeat("word ", maxDocumentBytes/5)
	tooLong := strings.Repeat("a", maxBulkLineBytes)
	a := ts.do("POST", "/documents", strings.Join([]string{
		`{"id":"a.md","text":"` + longest + `"}`,
		`{"id":"b.md","text":"` + longest + `too much"}`,
		`{"id":"c.md","text":"` + tooLong + `"}`,
		`{"id":"d.md","text":"d"}`,
	}, "\n"))

	var statuses []int
	for line := range strings.Lines(a.body) {
		var result bulkResult
		if err := json.Unmarshal([]byte(line), &result); err != nil {
			t.Fatal(err)
		}
		statuses = append(statuses, result.Status)
	}
	if fmt.Sprint(statuses) != "[201 413 413 201]" {
		t.Errorf("statuses %v: %.300s", statuses, a.body)
	}
}

func TestBulkThatIsCutOffEndsWithAnErrorLine(t *testing.T) {
	ts := newTestServer(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(ts.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	fmt.Fprint(conn, "POST /documents HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n")
	fmt.Fprintf(conn, "Authorization: Bearer %s\r\n\r\n", testAdminToken)
	line := `{"id":"a.md","text":"a"}` + "\n"
	fmt.Fprintf(conn, "%x\r\n%s\r\n", len(line), line)
	fmt.Fprint(conn, "5\r\n{\"i") // two bytes of a chunk of five
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}

	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"id":"a.md","status":201}`, "cut off after 1 documents"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

func TestBulkRefusesWhatIsNotOneDocument(t *testing.T) {
	ts := newTestServer(t)
	for line, want := range map[string]int{
		`{"id":"a.md","text":"x"}}`:                http.StatusBadRequest,
		`{"id":"a.md","text":"x"}]`:                http.StatusBadRequest,
		`{"id":"a.md","text":"\ud800"}`:            http.StatusBadRequest,
		`{"id":"a.md","text":"\uDC00\uD800"}`:      http.StatusBadRequest,
		`{"id":"pair.md","text":"\ud83d\ude00"}`:   http.StatusCreated,
		`{"id":"slash.md","text":"a\\ud800 b"}`:    http.StatusCreated,
		"{\"id\":\"real.md\",\"text\":\"\ufffd\"}": http.StatusCreated,
	} {
		a := ts.do("POST", "/documents", line)
		if !strings.Contains(a.body, fmt.Sprintf(`"status":%d`, want)) {
			t.Errorf("%s: %s, want %d", line, a.body, want)
		}
	}
	if a := ts.get("/documents/pair.md"); a.body != "😀" {
		t.Errorf("got %q", a.body)
	}
}
