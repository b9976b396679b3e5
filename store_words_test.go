package main

// The part of testStore that is about words.

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// testSpellings has documents of one line, and for each the queries that must find it alone.
func testSpellings(_ *testing.T, st storeTest) {
	for id, test := range map[string]struct {
		text    string
		queries []string
	}{
		"github.md":   {"# Sign in\n\nUse your GitHub account.", []string{"github", "GitHub", "GITHUB", "git hub"}},
		"pg.md":       {"# Store\n\nBuilt on PostgreSQL.", []string{"postgresql", "PostgreSQL", "POSTGRESQL"}},
		"conns.md":    {"# Limits\n\nSet maxConns.", []string{"conns", "maxconns", "max_conns", "MaxConns"}},
		"http.md":     {"# Wire\n\nSpeaks HTTP/3.", []string{"http3", "HTTP3"}},
		"oauth.md":    {"# Login\n\nWith OAuth2.", []string{"oauth", "oauth2", "OAuth"}},
		"mail.md":     {"# Post\n\nSend an e-mail.", []string{"email", "e-mail"}},
		"umlaut.md":   {"# Pru\u0308fung\n\nNoten.", []string{"Prüfung", "prufung"}},
		"cafe.md":     {"# Café Crème\n\nHeiß, auf der Straße.", []string{"cafe creme", "strasse"}},
		"wide.md":     {"# ＣＯＲＳ\n\nx", []string{"cors"}},
		"kana.md":     {"# ｶﾞｲﾄﾞ\n\nx", []string{"ガイド"}},
		"soft.md":     {"# Tipp\n\nDonau\u00addampf\u200bschiff.", []string{"donaudampfschiff"}},
		"flag.md":     {"# Ship\n\nPass `--dry-run`.", []string{"--dry-run", "dry run flag"}},
		"sharp.md":    {"# Languages\n\nWritten in C#.", []string{"C#", "c#"}},
		"plus.md":     {"# More\n\nWritten in C++.", []string{"C++"}},
		"version.md":  {"# News\n\nSince 3.12 it flies.", []string{"3.12"}},
		"if.md":       {"# if\n\nBranches.", []string{"if"}},
		"from.md":     {"# From and Into\n\nConversions.", []string{"from into"}},
		"code.md":     {"# Loops\n\nWrite `for` there.", []string{"for"}},
		"INC-4711.md": {"---\ntitle: Outage\n---\nNobody got through.", []string{"INC-4711", "inc4711"}},
	} {
		st.mustPut(id, test.text)
		defer func() {
			for _, text := range test.queries {
				st.wantSearch(query{text: text}, id)
			}
		}()
	}
}

func testIdentifiers(_ *testing.T, st storeTest) {
	st.mustPut("each.md", "# Each\n\nfor each and each and each")
	st.mustPut("very.md", "# Loops\n\nThere is for_each, among many other words that stand here.")
	st.mustPut("cache.md", "Use --cache. The cache is a cache.")
	st.mustPut("nocache.md", "Use --no-cache to skip it.")
	st.mustPut("sql.md", "# From raw SQL\n\nraw sql from raw sql")
	st.mustPut("raw.md", "# Queries\n\nCall FromSqlRaw to send them.")

	for text, want := range map[string]string{
		"for_each":   "very.md",
		"foreach":    "very.md",
		"forEach":    "very.md",
		"--no-cache": "nocache.md",
		"FromSqlRaw": "raw.md",
		"fromsqlraw": "raw.md",
	} {
		found, err := st.search(st.t.Context(), query{text: text, limit: 10})
		if err != nil || len(found.hits) == 0 || found.hits[0].Document != want {
			st.t.Errorf("%q finds %+v, %v; want %s first", text, found.hits, err, want)
		}
	}
}

func testTitles(_ *testing.T, st storeTest) {
	st.mustPut("state.md", "# Managing state\n\nOne of many pages.")
	st.mustPut("other.md", "# State\n\nmanaging state, managing state, state managing, managing")
	st.mustPut("and.md", "# State and managing\n\nstate managing state")

	for _, text := range []string{"managing state", "Managing State", "managing-state?"} {
		found, err := st.search(st.t.Context(), query{text: text, limit: 10})
		if err != nil || len(found.hits) != 3 || found.hits[0].Document != "state.md" {
			st.t.Errorf("%q finds %+v, %v", text, found.hits, err)
		}
	}
}

func testCorrections(_ *testing.T, st storeTest) {
	st.mustPut("tls.md", "# Certificate\n\nRenew the certificate of the server.")
	st.mustPut("form.md", "# Forms\n\nA kubernetes cluster.")
	st.mustPut("lang.md", "# Multilingual sites\n\nThe path parameter. Pfad-Parameter. A value.")

	for text, want := range map[string]string{
		"certifcate":         "certificate",
		"renew certifciate!": "renew certificate!",
		"kuberneets cluster": "kubernetes cluster",
		"certificate":        "",
		"renew":              "",
		"zebrafinch":         "",
		"multi lingual site": "multilingual site",
		"Multi Lingual":      "multilingual",
		"pathparameter":      "path parameter",
		"the Pfadparameter?": "the pfad parameter?",
		"paramter":           "parameter",
		"vlaue":              "value",
		"vlue":               "value",
		"vamue":              "value",
		"vame":               "",
		"multi":              "",
		"multi zebra":        "",
		"pathological":       "",
	} {
		found, err := st.search(st.t.Context(), query{text: text, limit: 10})
		if err != nil || found.corrected != want {
			st.t.Errorf("%q is corrected to %q, %v; want %q", text, found.corrected, err, want)
		}
		if want != "" && len(found.hits) != 1 {
			st.t.Errorf("%q finds %+v", text, found.hits)
		}
	}

	if err := st.remove(st.t.Context(), "tls.md", precondition{}); err != nil {
		st.t.Fatal(err)
	}
	st.wantSearch(query{text: "certifcate"})
}

func testPartial(_ *testing.T, st storeTest) {
	st.mustPut("a.md", "# Onboarding\n\nHow to begin.")
	st.mustPut("b.md", "# Configuration\n\nAll settings. Configure them.")

	st.wantSearch(query{text: "onboardi", partial: true}, "a.md")
	st.wantSearch(query{text: "settings confi", partial: true}, "b.md")
	st.wantSearch(query{text: "on", partial: true}, "a.md")
	st.wantSearch(query{text: "confi"})
	st.wantSearch(query{text: "o", partial: true})
}

func testPhrases(_ *testing.T, st storeTest) {
	st.mustPut("yes.md", "# Errors\n\nThe message is: Connection pool exhausted.")
	st.mustPut("no.md", "# Pool\n\nThe pool is exhausted, the connection is not. connection pool, pool exhausted")

	st.wantSearch(query{text: `"connection pool exhausted"`}, "yes.md")
	st.wantSearch(query{text: "“connection pool exhausted” message"}, "yes.md")
	st.wantSearch(query{text: `"exhausted connection"`})
	st.wantSearch(query{text: `"The message is"`}, "yes.md")
}

func testTwins(t *testing.T, st storeTest) {
	for _, id := range []string{"v1.10/page.md", "v1/page.md", "v2/page.md"} {
		st.mustPut(id, "# Quokka\n\nA small animal.")
	}
	st.mustPut("other.md", "# Animals\n\nThe quokka is one.")

	hits := st.wantSearch(query{text: "quokka"}, "v1/page.md", "other.md")
	if want := []string{"v2/page.md", "v1.10/page.md"}; len(hits) > 0 && !slices.Equal(hits[0].Also, want) {
		t.Errorf("also %q, want %q", hits[0].Also, want)
	}
	st.wantSearch(query{text: "quokka", prefix: "v2/"}, "v2/page.md")

	if err := st.remove(t.Context(), "v1/page.md", precondition{}); err != nil {
		t.Fatal(err)
	}
	st.mustPut("v2/page.md", "# Wombat\n\nA larger animal.")
	hits = st.wantSearch(query{text: "quokka"}, "v1.10/page.md", "other.md")
	if len(hits) > 0 && len(hits[0].Also) > 0 {
		t.Errorf("also %q", hits[0].Also)
	}

	for i := range maxAlso + 5 {
		st.mustPut(fmt.Sprintf("copy%02d.md", i), "# Numbat\n\nIt has stripes.")
	}
	hits = st.wantSearch(query{text: "numbat"}, "copy00.md")
	if len(hits) > 0 && len(hits[0].Also) != maxAlso {
		t.Errorf("%d other ids, want %d", len(hits[0].Also), maxAlso)
	}
}

func testSlugs(t *testing.T, st storeTest) {
	st.mustPut("a.md", "lantern before\n\n# Guide\n\nintro\n\n## Größe & Maß 📏\n\nladder\n\n## Note\n\nx\n\n## Note\n\nfeather\n")
	for _, test := range []struct{ query, slug string }{
		{"lantern", ""},
		{"intro", "guide"},
		{"ladder", "größe--maß-"},
		{"feather", "note-1"},
		{`"feather"`, "note-1"},
	} {
		hits := st.wantSearch(query{text: test.query}, "a.md")
		if len(hits) == 1 && hits[0].slug != test.slug {
			t.Errorf("%s: slug %q, want %q", test.query, hits[0].slug, test.slug)
		}
	}
}

func testWhy(t *testing.T, st storeTest) {
	st.mustPut("a.md", "# Quokka\n\nA small animal in GitHub.")
	st.mustPut("b.md", "# Wombat\n\nNot a quokka.")

	found, err := st.search(t.Context(), query{text: "quokka", limit: 10, explain: true})
	if err != nil || len(found.hits) != 2 {
		t.Fatalf("found %+v, %v", found, err)
	}
	for _, h := range found.hits {
		sum := h.Why.Lexical + h.Why.Vector + h.Why.Title
		if math.Abs(sum-h.Score) > 1e-9 {
			t.Errorf("%s: the shares %+v do not add up to %v", h.Document, h.Why, h.Score)
		}
		if len(h.Why.Words) != 1 || h.Why.Words[0].Word != "quokka" || h.Why.Words[0].Weight <= 0 {
			t.Errorf("%s: words %+v", h.Document, h.Why.Words)
		}
		if isTitle := h.Document == "a.md"; (h.Why.Title > 0) != isTitle {
			t.Errorf("%s: title %v", h.Document, h.Why.Title)
		}
	}

	found, err = st.search(t.Context(), query{text: "quokka", limit: 10})
	if err != nil || found.hits[0].Why != nil {
		t.Errorf("not asked for, but %+v, %v", found.hits[0].Why, err)
	}
}
