package main

// The tests that every store passes: the embedded one and PostgreSQL.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMemoryIsAStore(t *testing.T) {
	t.Parallel()
	testStore(t, func(t *testing.T) store {
		f := &folder{roots: []docsRoot{{dir: t.TempDir()}}, observe: quietObserver()}
		return newMemory(f, hashedEmbedder{}, 0.5, quietObserver())
	})
}

func TestPostgresIsAStore(t *testing.T) {
	t.Parallel()
	testStore(t, func(t *testing.T) store { return openPostgres(t, newDatabase(t)) })
}

// testStore runs the tests, each on an empty store that open returns.
func testStore(t *testing.T, open func(t *testing.T) store) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, st storeTest)
	}{
		{"a document that was put is returned as it is", testPut},
		{"preconditions hold or refuse", testPreconditions},
		{"a removed document is gone", testRemove},
		{"lists are paged in the order of ids", testList},
		{"a prefix is taken literally", testPrefix},
		{"the title ranks before the text", testRanking},
		{"title, heading and text rank in this order", testFieldRanking},
		{"case is folded and identifiers are split", testFolding},
		{"a prefix filter returns all hits", testPrefixFilter},
		{"a prefix filters before the legs are cut", testPrefixBeforeCut},
		{"words are found however they are written", testSpellings},
		{"the very identifier ranks first", testIdentifiers},
		{"a query that is a title finds its page", testTitles},
		{"a misspelt word is corrected", testCorrections},
		{"a partial word is completed", testPartial},
		{"a phrase in quotes is kept together", testPhrases},
		{"equal texts are one hit", testTwins},
		{"a hit has the slug of its heading", testSlugs},
		{"a hit says why", testWhy},
		{"nonsense finds nothing", testNonsense},
		{"nonsense finds nothing in a manual", testNonsenseInManual},
		{"equal scores are ordered by id", testTies},
		{"a limit cuts equal scores by id", testTiesAtLimit},
		{"a search after ANALYZE weighs rare words more", testRareWords},
		{"text of any script is kept and found", testUnicode},
		{"a large document is kept and found", testLargeDocument},
		{"a document of any time is kept and listed", testTimes},
		{"watchers are notified of each change", testWatch},
		{"a scan does not undo writes made since it began", testSync},
		{"searches during writes see whole documents", testConcurrency},
		{"one of several concurrent creations wins", testConcurrentCreation},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, storeTest{t, open(t)})
		})
	}
}

// storeTest is a store with methods that fail the test.
type storeTest struct {
	t *testing.T
	store
}

func (st storeTest) mustPut(id, text string) *document {
	st.t.Helper()
	d := st.newDocument(id, text)
	_, err := st.put(st.t.Context(), d, precondition{})
	if err != nil {
		st.t.Fatal(err)
	}
	return d
}

func (st storeTest) newDocument(id, text string) *document {
	st.t.Helper()
	d, err := newDocument(id, text, time.Now())
	if err != nil {
		st.t.Fatal(err)
	}
	return d
}

// wantSearch checks the ids that a search finds, in order.
func (st storeTest) wantSearch(q query, want ...string) []hit {
	st.t.Helper()
	q.limit = max(q.limit, 10)
	found, err := st.search(st.t.Context(), q)
	if err != nil {
		st.t.Fatal(err)
	}

	got := []string{}
	for _, h := range found.hits {
		got = append(got, h.Document)
	}
	if !slices.Equal(got, want) {
		st.t.Errorf("search %+v found %q, want %q", q, got, want)
	}
	return found.hits
}

func (st storeTest) wantList(prefix, after string, limit int, want ...string) {
	st.t.Helper()
	infos, err := st.list(st.t.Context(), prefix, after, limit)
	if err != nil {
		st.t.Fatal(err)
	}

	got := []string{}
	for _, d := range infos {
		got = append(got, d.ID)
	}
	if !slices.Equal(got, want) {
		st.t.Errorf("list %q after %q = %q, want %q", prefix, after, got, want)
	}
}

func (st storeTest) wantSize(documents, chunks int) {
	st.t.Helper()
	if p, isPostgres := st.store.(*postgres); isPostgres {
		p.checkHealth(st.t.Context())
	}
	got := st.status()
	if got.documents != documents || got.chunks != chunks || got.problem != "" {
		st.t.Errorf("status = %+v, want %d documents and %d chunks", got, documents, chunks)
	}
}

// settle updates the statistics that PostgreSQL updates in the background.
func (st storeTest) settle() {
	st.t.Helper()
	p, isPostgres := st.store.(*postgres)
	if !isPostgres {
		return
	}
	if err := p.analyze(st.t.Context()); err != nil {
		st.t.Fatal(err)
	}
}

func wantStatus(t *testing.T, what string, err error, status int) {
	t.Helper()
	user, isUsers := errors.AsType[userError](err)
	if !isUsers || user.status != status {
		t.Errorf("%s: %v, want status %d", what, err, status)
	}
}

func testPut(t *testing.T, st storeTest) {
	for _, step := range []struct {
		text    string
		created bool
	}{
		{"# Install\n\nRun the installer.\n\n## Docker\n\nPull the image.\n", true},
		{"# Install\n\nRun the installer.\n\n## Docker\n\nPull the image.\n", false},
		{"# Set up\n\nUnpack it.", false},
		{"", false},
	} {
		d := st.newDocument("guide/install.md", step.text)
		created, err := st.put(t.Context(), d, precondition{})
		if err != nil || created != step.created {
			t.Errorf("put = %v, %v, want created %v", created, err, step.created)
		}

		got, err := st.document(t.Context(), d.id)
		if err != nil {
			t.Fatal(err)
		}
		if got.text != d.text || got.title != d.title || got.etag != d.etag {
			t.Errorf("got %q with title %q and tag %s, want %q, %q, %s",
				got.text, got.title, got.etag, d.text, d.title, d.etag)
		}

		infos, err := st.list(t.Context(), "", "", 10)
		if err != nil || len(infos) != 1 {
			t.Fatalf("list = %+v, %v", infos, err)
		}
		updated := infos[0].Updated
		if time.Since(updated) > time.Minute {
			t.Errorf("updated %v", updated)
		}
		want := documentInfo{
			ID:      d.id,
			Title:   d.title,
			Bytes:   len(d.text),
			Chunks:  len(d.chunks),
			Updated: updated,
		}
		if infos[0] != want {
			t.Errorf("list has %+v, want %+v", infos[0], want)
		}
		st.wantSize(1, len(d.chunks))
	}

	_, err := st.document(t.Context(), "guide/other.md")
	wantStatus(t, "unknown document", err, http.StatusNotFound)
}

func testPreconditions(t *testing.T, st storeTest) {
	const id = "a.md"
	match := func(tags ...string) precondition { return precondition{match: tags} }
	create := precondition{noneMatch: []string{"*"}}
	first := st.newDocument(id, "# One")
	second := st.newDocument(id, "# Two")

	_, err := st.put(t.Context(), first, match("*"))
	wantStatus(t, "If-Match: * without document", err, http.StatusPreconditionFailed)

	created, err := st.put(t.Context(), first, create)
	if err != nil || !created {
		t.Errorf("If-None-Match: * without document: %v, %v", created, err)
	}
	_, err = st.put(t.Context(), second, create)
	wantStatus(t, "If-None-Match: * with document", err, http.StatusPreconditionFailed)
	_, err = st.put(t.Context(), first, create)
	wantStatus(t, "If-None-Match: * with the same document", err, http.StatusPreconditionFailed)

	_, err = st.put(t.Context(), second, match(second.etag))
	wantStatus(t, "If-Match with another tag", err, http.StatusPreconditionFailed)
	created, err = st.put(t.Context(), second, match(`"x"`, first.etag))
	if err != nil || created {
		t.Errorf("If-Match with the tag: %v, %v", created, err)
	}

	err = st.remove(t.Context(), id, match(first.etag))
	wantStatus(t, "remove with an old tag", err, http.StatusPreconditionFailed)
	err = st.remove(t.Context(), id, match(second.etag))
	if err != nil {
		t.Error(err)
	}
}

func testRemove(t *testing.T, st storeTest) {
	st.mustPut("a.md", "# Alpha\n\nabout lanterns")
	d := st.mustPut("b.md", "# Beta\n\nabout lanterns")
	if err := st.remove(t.Context(), "a.md", precondition{}); err != nil {
		t.Fatal(err)
	}

	_, err := st.document(t.Context(), "a.md")
	wantStatus(t, "removed document", err, http.StatusNotFound)
	err = st.remove(t.Context(), "a.md", precondition{})
	wantStatus(t, "second removal", err, http.StatusNotFound)
	st.wantSearch(query{text: "lanterns"}, "b.md")
	st.wantSize(1, len(d.chunks))
}

func testList(_ *testing.T, st storeTest) {
	st.wantList("", "", 10)
	// Byte order: upper case before lower case, "-" before "/", "é" after all ASCII.
	ids := []string{"B.md", "a-b.md", "a/b.md", "a/c.md", "ab.md", "b.md", "é.md"}
	for _, id := range slices.Backward(ids) {
		st.mustPut(id, "# "+id)
	}

	st.wantList("", "", 100, ids...)
	st.wantList("", "", 3, ids[:3]...)
	st.wantList("", "a/b.md", 3, ids[3:6]...)
	st.wantList("", "a/bb.md", 3, ids[3:6]...)
	st.wantList("", "é.md", 3)

	st.wantList("a/", "", 10, "a/b.md", "a/c.md")
	st.wantList("a/", "a/b.md", 10, "a/c.md")
	st.wantList("a/", "b.md", 10)
	st.wantList("zz", "", 10)
}

func testPrefix(_ *testing.T, st storeTest) {
	for _, id := range []string{"50%/a.md", "50x/a.md", "a_b/c.md", "axb/c.md", "q'q/c.md"} {
		st.mustPut(id, "# Copper\n\ncopper wire")
	}

	for prefix, want := range map[string]string{"50%": "50%/a.md", "a_b": "a_b/c.md", "q'": "q'q/c.md"} {
		st.wantList(prefix, "", 10, want)
		st.wantSearch(query{text: "copper", prefix: prefix}, want)
	}
	st.wantList(`a\`, "", 10)
	st.wantSearch(query{text: "copper", prefix: `a\`})
}

func testRanking(t *testing.T, st storeTest) {
	st.mustPut("b/backup.md", "# Backup\n\nHow to keep copies.\n\n## Restore\n\nPut the copies back into place.\n")
	st.mustPut("c/other.md", "# Operations\n\nA backup is taken each night; the weather does not matter.\n")
	st.mustPut("d/none.md", "# Cooking\n\nPeel the potatoes.\n")

	hits := st.wantSearch(query{text: "backup"}, "b/backup.md", "c/other.md")
	if len(hits) == 2 && (hits[0].Score < hits[1].Score || hits[0].Title != "Backup") {
		t.Errorf("hits are %+v", hits)
	}

	hits = st.wantSearch(query{text: "restoring copies"}, "b/backup.md")
	if len(hits) == 1 {
		h := hits[0]
		if h.Heading != "Restore" || h.Line != 7 || h.Text != "Put the copies back into place." {
			t.Errorf("best chunk is %+v", h)
		}
	}

	found, err := st.search(t.Context(), query{text: "backup", limit: 1})
	if err != nil || len(found.hits) != 1 {
		t.Errorf("limit 1 gives %d found.hits, %v", len(found.hits), err)
	}
}

func testFieldRanking(_ *testing.T, st storeTest) {
	st.mustPut("body.md", "# Something\n\nThe retention of snapshots, among other words that stand here.")
	st.mustPut("heading.md", "# Other\n\n## Retention\n\nHow long snapshots stay, among other words that stand here.")
	st.mustPut("title.md", "# Retention of snapshots\n\nHow long they stay, among other words that stand here.")
	st.mustPut("none.md", "# Nothing\n\nOf the kind.")

	st.wantSearch(query{text: "retention snapshots"}, "title.md", "heading.md", "body.md")
}

func testFolding(_ *testing.T, st storeTest) {
	st.mustPut("go.md", "The field maxIdleConns of sql.DB.")
	st.mustPut("gr.md", "ΣΊΣΥΦΟΣ rolls a stone.")
	st.mustPut("ja.md", "# 索引\n\n文書を検索するサーバーです。")
	st.mustPut("th.md", "การค้นหาเอกสาร")

	for text, want := range map[string]string{
		"idle conns":     "go.md",
		"MAX_IDLE_CONNS": "go.md",
		"σίσυφος":        "gr.md",
		"検索":             "ja.md",
		"サーバー":           "ja.md",
		"ค้นหา":          "th.md",
	} {
		st.wantSearch(query{text: text}, want)
	}
}

func testPrefixFilter(t *testing.T, st storeTest) {
	var want []string
	for i := range 60 {
		st.mustPut(fmt.Sprintf("many/%02d.md", i), "# Lantern\n\nlantern and lantern and lantern")
		if i%3 == 0 {
			id := fmt.Sprintf("few/%02d.md", i)
			want = append(want, id)
			st.mustPut(id, fmt.Sprintf("# Page %d\n\nA long text that mentions the lantern but once "+
				"among many other words, %d of them.", i, i))
		}
	}

	got := st.searchSet(query{text: "lantern", prefix: "few/", limit: 100})
	if !slices.Equal(got, want) {
		t.Errorf("with a prefix %d of %d documents are found: %q", len(got), len(want), got)
	}
}

// testPrefixBeforeCut has more documents that match than a leg has candidates. Those with the
// prefix rank last.
func testPrefixBeforeCut(t *testing.T, st storeTest) {
	var documents []*document
	var want []string
	for i := range legSize + 50 {
		text := fmt.Sprintf("# Page %d\n\nThe common subject, and number%d.", i, i)
		documents = append(documents, st.newDocument(fmt.Sprintf("before/%03d.md", i), text))
	}
	for i := range legSize / 2 {
		id := fmt.Sprintf("last/%03d.md", i)
		want = append(want, id)
		text := fmt.Sprintf("# Page %d\n\nThe common subject is one of many words here, and number%d.", i, i)
		documents = append(documents, st.newDocument(id, text))
	}
	if err := st.sync(t.Context(), time.Now(), documents, nil); err != nil {
		t.Fatal(err)
	}

	got := st.searchSet(query{text: "common subject", prefix: "last/", limit: legSize})
	if !slices.Equal(got, want) {
		t.Errorf("with a prefix %d of %d documents are found: %q", len(got), len(want), got)
	}
}

// searchSet returns the ids that a search finds, sorted.
func (st storeTest) searchSet(q query) []string {
	st.t.Helper()
	found, err := st.search(st.t.Context(), q)
	if err != nil {
		st.t.Fatal(err)
	}

	var ids []string
	for _, h := range found.hits {
		ids = append(ids, h.Document)
	}
	slices.Sort(ids)
	return ids
}

func testNonsense(_ *testing.T, st storeTest) {
	st.wantSearch(query{text: "anything"})
	st.mustPut("a.md", "# Install\n\nRun the installer and wait.")
	st.mustPut("empty.md", "")
	for _, text := range []string{"zqxjkvbw", "???", "the of and", "' OR 1=1 --", `\`} {
		st.wantSearch(query{text: text})
	}
}

// testNonsenseInManual searches a set with enough words for chance matches of hashes.
func testNonsenseInManual(t *testing.T, st storeTest) {
	if err := st.sync(t.Context(), time.Now(), manualSet(t).documents, nil); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"zxqvwk", "qqqq wwww", "???", "ξψζ"} {
		st.wantSearch(query{text: text})
	}
}

func testTies(_ *testing.T, st storeTest) {
	var want []string
	for _, i := range []int{3, 0, 4, 1, 2} {
		// Stop words make the texts different, but not their scores.
		st.mustPut(fmt.Sprintf("%d.md", i), "# Lantern\n\nlight"+strings.Repeat(" the", i))
		want = append(want, fmt.Sprintf("%d.md", len(want)))
	}

	for range 5 { // a map's order may be right by chance
		st.wantSearch(query{text: "lantern"}, want...)
	}
}

// testTiesAtLimit also checks the score: with equal scores, each leg gives its full weight, 1 and
// 0.5.
func testTiesAtLimit(t *testing.T, st storeTest) {
	for i, id := range []string{"c.md", "a.md", "b.md"} {
		st.mustPut(id, "same words"+strings.Repeat(" the", i))
	}

	found, err := st.search(t.Context(), query{text: "same words", limit: 2})
	if err != nil || len(found.hits) != 2 {
		t.Fatalf("found %+v, %v", found.hits, err)
	}
	if found.hits[0].Document != "a.md" || found.hits[1].Document != "b.md" || found.hits[0].Score != 1.5 {
		t.Errorf("found %+v", found.hits)
	}
}

func testRareWords(t *testing.T, st storeTest) {
	for i := range 30 {
		id := fmt.Sprintf("common/%02d.md", i)
		st.mustPut(id, fmt.Sprintf("# Server %d\n\nThe server serves. Server.", i))
	}
	st.mustPut("rare.md", "# Quokka\n\nIt has a pouch, in spite of its many other qualities, "+
		"and is seen beside a server at times.")
	st.settle()

	found, err := st.search(t.Context(), query{text: "server quokka", limit: 1})
	if err != nil || len(found.hits) != 1 || found.hits[0].Document != "rare.md" {
		t.Errorf("first is %+v, %v", found.hits, err)
	}
}

func testUnicode(t *testing.T, st storeTest) {
	texts := map[string]string{
		"日本/案内.md":  "# インストール\n\n東京都の天気予報を検索する。",
		"ru.md":     "# Установка\r\n\r\nЗапустите программу.",
		"de/für.md": "# Größe\n\nStraße",
		"emoji.md": "# 🚀 Launch\n\nfamily 👨‍👩‍👧 and ﷽ and e\u0301\ttabs \u2028 " +
			"\"quotes\" {braces} \\backslash\\ $1 NULL",
	}
	for id, text := range texts {
		st.mustPut(id, text)
	}
	for id, text := range texts {
		d, err := st.document(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if d.text != text {
			t.Errorf("%s: got %q, want %q", id, d.text, text)
		}
	}

	st.wantSearch(query{text: "天気"}, "日本/案内.md")
	st.wantSearch(query{text: "УСТАНОВКА"}, "ru.md")
	st.wantSearch(query{text: "größe"}, "de/für.md")
	st.wantSearch(query{text: "backslash", prefix: "emoji"}, "emoji.md")
}

func testLargeDocument(t *testing.T, st storeTest) {
	var text strings.Builder
	text.WriteString("# Large\n")
	for i := 0; text.Len() < 1<<20; i++ {
		fmt.Fprintf(&text, "\n## Section %d\n\nThis section explains part number%d of the whole, and %s.\n",
			i, i, syntheticWord(uint64(i)))
	}

	d := st.mustPut("large.md", text.String())
	got, err := st.document(t.Context(), "large.md")
	if err != nil || got.text != d.text {
		t.Errorf("not the document that was put: %v", err)
	}
	st.wantSize(1, len(d.chunks))

	hits := st.wantSearch(query{text: "number7777"}, "large.md")
	if len(hits) == 1 && hits[0].Heading != "Section 7777" {
		t.Errorf("best chunk is %q", hits[0].Heading)
	}

	dense := st.mustPut("dense.md", "# Dense\n\n"+hangul(300<<10)+"\n\n## End\n\nomega") // few chunks of many terms
	st.wantSize(2, len(d.chunks)+len(dense.chunks))
	st.wantSearch(query{text: "omega"}, "dense.md")
}

func testWatch(t *testing.T, st storeTest) {
	notified := make(chan string, 10)
	stop := st.watch(func(ids []string) { notified <- strings.Join(ids, ",") })
	want := func(want string) {
		t.Helper()
		select {
		case got := <-notified:
			if got != want {
				t.Errorf("notified of %q, want %q", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("not notified of %q", want)
		}
	}

	st.mustPut("a.md", "# A")
	want("a.md")
	st.mustPut("a.md", "# B")
	want("a.md")
	if err := st.remove(t.Context(), "a.md", precondition{}); err != nil {
		t.Fatal(err)
	}
	want("a.md")

	stop()
	st.mustPut("c.md", "# C")
	select {
	case got := <-notified:
		t.Errorf("notified of %q after stop", got)
	case <-time.After(50 * time.Millisecond):
	}
}

func testSync(t *testing.T, st storeTest) {
	ctx := t.Context()
	wantTitle := func(id, title string) {
		t.Helper()
		d, err := st.document(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if d.title != title {
			t.Errorf("%s has the title %q, want %q", id, d.title, title)
		}
	}
	scan := func(began time.Time, changed []*document, gone ...string) {
		t.Helper()
		if _, err := st.folderIDs(ctx); err != nil {
			t.Fatal(err)
		}
		if err := st.sync(ctx, began, changed, gone); err != nil {
			t.Fatal(err)
		}
		if err := st.sync(ctx, began, nil, nil); err != nil {
			t.Fatal(err)
		}
	}

	scan(time.Now(), []*document{st.newDocument("a.md", "# A"), st.newDocument("b.md", "# B")})
	scan(time.Now(), []*document{st.newDocument("b.md", "# B, new")}, "a.md", "never.md")
	wantTitle("b.md", "B, new")

	began := time.Now()
	st.mustPut("api.md", "# By the API")
	scan(began, []*document{st.newDocument("api.md", "# As it was before")}, "api.md")
	wantTitle("api.md", "By the API")

	st.wantList("", "", 10, "api.md", "b.md")
	ids, err := st.folderIDs(ctx)
	if err != nil || !slices.Contains(ids, "b.md") {
		t.Errorf("folderIDs = %q, %v", ids, err)
	}
	st.wantSize(2, 2)
}

// testConcurrency searches while a document is replaced whose title and chunks carry the same word. No
// hit may combine the old title with the new text, or the reverse.
func testConcurrency(t *testing.T, st storeTest) {
	text := func(word string) string {
		return fmt.Sprintf("# Common %s\n\n## One\n\n%s\n\n## Two\n\n%s\n", word, word, word)
	}
	st.mustPut("a.md", text("red"))

	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				d, _ := newDocument("a.md", text([]string{"red", "green"}[i%2]), time.Now())
				_, err := st.put(context.WithoutCancel(ctx), d, precondition{})
				// On a busy machine, a writer may wait for the lock of the other one longer than lock_timeout.
				if err != nil && !errors.Is(err, errUnavailable) {
					t.Error(err)
					return
				}
			}
		})
	}

	for range 200 {
		found, err := st.search(ctx, query{text: "common", limit: 10})
		if err != nil || len(found.hits) != 1 {
			t.Errorf("found %+v, %v", found.hits, err)
			break
		}
		color := strings.TrimPrefix(found.hits[0].Title, "Common ")
		if found.hits[0].Text != color {
			t.Errorf("title %q with text %q", found.hits[0].Title, found.hits[0].Text)
		}
	}

	cancel()
	writers.Wait()
}

func testConcurrentCreation(t *testing.T, st storeTest) {
	var writers sync.WaitGroup
	var mu sync.Mutex // guards won
	won := 0
	for i := range 8 {
		d := st.newDocument("a.md", fmt.Sprintf("# %d", i))
		writers.Go(func() {
			create := func() (bool, error) { return st.put(t.Context(), d, precondition{noneMatch: []string{"*"}}) }
			created, err := create()
			for errors.Is(err, errUnavailable) { // as in testConcurrency
				created, err = create()
			}
			mu.Lock()
			defer mu.Unlock()
			if created {
				won++
			} else {
				wantStatus(t, "loser", err, http.StatusPreconditionFailed)
			}
		})
	}
	writers.Wait()

	if won != 1 {
		t.Errorf("%d of 8 created the document", won)
	}
}
