package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestCheckID(t *testing.T) {
	long := strings.Repeat("a", 197) + ".md"
	for id, want := range map[string]string{
		"a.md":                         "",
		"guide/install.md":             "",
		"führung/日本語 v2.md":            "",
		long:                           "",
		long + "/" + long + "/" + long: "longer than 512",
		"a" + long:                     "segment longer than 200",
		"a.MD":                         "",
		"a.Markdown":                   "",
		"guide/a.v2.mdx":               "",
		"NOTES.TXT":                    "",
		"a":                            "does not end in .md, .markdown, .mdx or .txt",
		"a.rst":                        "does not end in .md",
		"a.mdown":                      "does not end in .md",
		"a.md.bak":                     "does not end in .md",
		"md":                           "does not end in .md",
		"a.md/":                        "does not end in .md",
		"":                             "does not end in .md",
		".md":                          "starts with a dot",
		"../a.md":                      "starts with a dot",
		"a/../b.md":                    "starts with a dot",
		"a/.git/b.md":                  "starts with a dot",
		"/a.md":                        "empty segment",
		"a//b.md":                      "empty segment",
		`a\b.md`:                       "backslash",
		"a\nb.md":                      "control character",
		"a\x00.md":                     "control character",
		"a\u0085.md":                   "control character",
		"a\xff.md":                     "not UTF-8",
	} {
		err := checkID(id)
		if want == "" {
			if err != nil {
				t.Errorf("checkID(%.30q) = %v, want no error", id, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("checkID(%.30q) = %v, want %q", id, err, want)
		}
	}
}

func FuzzCheckID(f *testing.F) {
	for _, id := range []string{"a.md", "../a.md", "a/./b.md", "a//.md", "C:\\a.md", "a.md/", "NUL.md"} {
		f.Add(id)
	}

	f.Fuzz(func(t *testing.T, id string) {
		if checkID(id) != nil {
			return
		}
		isPlain := filepath.IsLocal(id) && filepath.Clean(id) == id
		if !isPlain || !utf8.ValidString(id) || len(id) > 512 {
			t.Errorf("%q passes but is no plain relative path", id)
		}
	})
}

func TestEveryQueryHasASeriesFromTheStart(t *testing.T) {
	metrics := newTestServer(t).get("/metrics").body
	for summary, operation := range map[string]string{
		"search":   "SELECT",
		"document": "SELECT",
		"list":     "SELECT",
		"size":     "SELECT",
		"known":    "SELECT",
		"put":      "INSERT",
		"sync":     "INSERT",
		"remove":   "DELETE",
		"notify":   "NOTIFY",
		"embed":    "UPDATE",
		"maintain": "UPDATE",
	} {
		want := fmt.Sprintf(`db_client_operation_duration_seconds_count{db_operation_name=%q,db_query_summary=%q,db_system_name="vitrine",error_type=""}`, operation, summary)
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
}

// TestEverySuffixIsServedWithItsType writes one file of each suffix into the folder and one through the API.
func TestEverySuffixIsServedWithItsType(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	for id, want := range map[string]string{
		"a.md":         "text/markdown",
		"B.MD":         "text/markdown",
		"c.markdown":   "text/markdown",
		"d.Mdx":        "text/markdown",
		"e.txt":        "text/plain",
		"sub/NOTE.TXT": "text/plain",
	} {
		ts.put("api/"+id, "a lantern")
		ts.writeFile(id, "a lantern")
		for _, path := range []string{id, "api/" + id} {
			waitFor(t, path, func() bool { return ts.get("/documents/"+path).status == http.StatusOK })
			if got := ts.get("/documents/" + path).header.Get("Content-Type"); got != want+"; charset=utf-8" {
				t.Errorf("%s has the type %s, want %s", path, got, want)
			}
			found := ts.search("q=lantern&limit=20&prefix=" + path)
			if len(found) != 1 {
				t.Errorf("the search finds %v, want %s", found, path)
			}

			resource := ts.rpc("resources/read", map[string]any{"uri": documentURI(path)})
			if !strings.Contains(resource.body, `"mimeType":"`+want+`"`) {
				t.Errorf("%s", resource.body)
			}
		}
	}
	if list := ts.rpc("resources/list", nil).body; strings.Count(list, `"mimeType":"text/plain"`) != 4 {
		t.Errorf("%s", list)
	}
	if a := ts.put("a.rst", "x"); a.status != http.StatusBadRequest || !strings.Contains(a.body, ".markdown, .mdx or .txt") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// testTimes stores documents of times that files may have: a file system keeps 64 bits, JSON and PostgreSQL less.
func testTimes(t *testing.T, st storeTest) {
	want := 0
	for _, seconds := range []int64{
		0, -1, math.MinInt32, math.MaxInt32, math.MaxUint32, 1 << 45, -1 << 45, 1 << 55, -1 << 55,
		-62135596800, -62135596801, 253402300799, 253402300800, 9224318015999, 999999999999,
	} {
		for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 14*60*60), time.FixedZone("", -12*60*60)} {
			want++
			d, err := newDocument(fmt.Sprintf("time%d.md", want), "# Time", time.Unix(seconds, 0).In(zone))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.put(t.Context(), d, precondition{}); err != nil {
				t.Errorf("%d s in %v: %v", seconds, zone, err)
				continue
			}
			if _, err := st.document(t.Context(), d.id); err != nil {
				t.Errorf("%d s in %v: %v", seconds, zone, err)
			}
		}
	}

	infos, err := st.list(t.Context(), "", "", want)
	if err != nil || len(infos) != want {
		t.Fatalf("%d are listed: %v", len(infos), err)
	}
	for _, info := range infos {
		if _, err := json.Marshal(info); err != nil {
			t.Errorf("%s: %v", info.ID, err)
		}
	}
}
