package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
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

// TestBulkLineIsDecodedOnce counts what decoding a line allocates. Its text needs up to twice its own size: once without
// its escapes, once as a string.
func TestBulkLineIsDecodedOnce(t *testing.T) {
	const size = 6 << 20
	for name, value := range map[string]string{
		"plain":              strings.Repeat("word ", size/5),
		"backslashes":        strings.Repeat(`\\`, size/2),
		"quotes":             strings.Repeat(`\"`, size/2),
		"letters":            strings.Repeat(`\u0041`, size/6),
		"surrogate pairs":    strings.Repeat(`\ud83d\ude00`, size/12),
		"backslash and u":    strings.Repeat(`\\ud800`, size/7),
		"a surrogate at end": strings.Repeat(`\n`, size/2) + `\ud800`,
		"high surrogates":    strings.Repeat(`\ud83d`, size/6),
	} {
		t.Run(name, func(t *testing.T) {
			line := []byte(`{"id":"a.md","text":"` + value + `"}`)
			var want struct{ Text string }
			if err := json.Unmarshal(line, &want); err != nil {
				t.Fatal(err)
			}
			isLone := strings.HasSuffix(value, `\ud800`) && name != "backslash and u" || name == "high surrogates"

			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, text, ok := parseBulkLine(line)
			runtime.ReadMemStats(&after)
			if ok == isLone || ok && text != want.Text {
				t.Errorf("ok %v, %d bytes, want %d", ok, len(text), len(want.Text))
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > uint64(2*len(line)+1<<20) {
				t.Errorf("decoding %d bytes allocated %d", len(line), used)
			}
		})
	}

	line := []byte("{" + strings.Repeat(`"a":null,`, size/9) + `"id":"a.md","text":"a"}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, ok := parseBulkLine(line)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; ok || used > 1<<20 {
		t.Errorf("many members: %v, allocated %d", ok, used)
	}
}

func TestBulkRefusesWhatIsNotOneDocument(t *testing.T) {
	ts := newTestServer(t)
	for line, want := range map[string]int{
		`{"id":"a.md","text":"x"}}`:                 http.StatusBadRequest,
		`{"id":"a.md","text":"x"}]`:                 http.StatusBadRequest,
		`{"id":"a.md","text":"\ud800"}`:             http.StatusBadRequest,
		`{"id":"a.md","text":"\uDC00\uD800"}`:       http.StatusBadRequest,
		`{"id":"a.md","text":"\ud83d\n\ude00"}`:     http.StatusBadRequest,
		`{"id":"a.md","text":"\ud83d\ud83d\ude00"}`: http.StatusBadRequest,
		`{"id":"a.md","text":"\\\udead"}`:           http.StatusBadRequest,
		`{"id":"a.md","text":"\u12`:                 http.StatusBadRequest,
		`{"id":"a.md","text":"\`:                    http.StatusBadRequest,
		`{"id":"a.md","text":"\uzzzz"}`:             http.StatusBadRequest,
		`{"id":"a.md","text":"x","more":1}`:         http.StatusBadRequest,
		`{"id":"a.md","text":null}`:                 http.StatusBadRequest,
		`{"id":"a.md"}`:                             http.StatusBadRequest,
		`{"id":1,"text":"x"}`:                       http.StatusBadRequest,
		`["a.md","x"]`:                              http.StatusBadRequest,
		`null`:                                      http.StatusBadRequest,
		`{"id":"a.md","id":"b.md","text":"x"}`:      http.StatusBadRequest,
		`{"id":"a.md","text":"x","text":"x"}`:       http.StatusBadRequest,
		`{"id":"a.md","text":"x","t\u0065xt":"y"}`:  http.StatusBadRequest,
		`{"id":null,"id":"a.md","text":"x"}`:        http.StatusBadRequest,
		`{"text":"x","id":"a.md","text":null}`:      http.StatusBadRequest,
		`{"id":"a.md","text":"x","Text":"x"}`:       http.StatusBadRequest,
		"\ufeff\ufeff" + `{"id":"a.md","text":"x"}`: http.StatusBadRequest,
		"\ufeff" + `{"id":"mark.md","text":"x"}`:    http.StatusCreated,
		`{"text":"\"\\","\u0069d":"esc.md"}`:        http.StatusCreated,
		` {"id":"q.md","text":"\"\\\\\"\"\u0022"} `: http.StatusCreated,
		`{"id":"pair.md","text":"\ud83d\ude00"}`:    http.StatusCreated,
		`{"id":"slash.md","text":"a\\ud800 b"}`:     http.StatusCreated,
		"{\"id\":\"real.md\",\"text\":\"\ufffd\"}":  http.StatusCreated,
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
