package main

import (
	"errors"
	"strings"
	"sync"
	"testing"
)

func TestSchemaIsCreatedOnceByReplicasThatStartTogether(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	var wg sync.WaitGroup
	for range 4 {
		p := unopenedPostgres(t, url)
		wg.Go(func() {
			if err := p.open(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := count(t, url, "SELECT count(*) FROM settings"); n != 1 {
		t.Errorf("%d rows of settings", n)
	}
}

func TestStartSaysWhatToRun(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		sql  []string
		user string
		env  string
		want string
	}{
		{"another analyzer", []string{"UPDATE settings SET analyzer = 0"}, "", "", "vitrine -reindex"},
		{"another model", []string{"UPDATE settings SET model = 'bge'"}, "", "", "vitrine -reindex"},
		{"other dimensions", []string{"UPDATE settings SET dimensions = 7"}, "", "", "vitrine -reindex"},
		{"a newer schema", []string{"UPDATE settings SET schema = 99"}, "", "", "upgrade this program"},
		{"no rights", []string{"DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "DROP ROLE IF EXISTS vitrine_poor", "CREATE ROLE vitrine_poor LOGIN"}, "vitrine_poor", "", "CREATE EXTENSION IF NOT EXISTS vector; GRANT"},
		{"an unknown user", nil, "vitrine_nobody", "", "check user and password"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := newDatabase(t)
			openPostgres(t, url)
			execSQL(t, url, test.sql...)
			if test.user != "" {
				url = strings.Replace(url, "postgres@", test.user+"@", 1)
			}
			err := unopenedPostgres(t, url).open(t.Context())
			if err == nil || errors.Is(err, errUnavailable) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that says %q", err, test.want)
			}
		})
	}
	err := unopenedPostgres(t, strings.Replace(newDatabase(t), "vitrine_test", "no_such_database", 1)).open(t.Context())
	if err == nil || !strings.Contains(err.Error(), "createdb") {
		t.Errorf("without database: %v", err)
	}
}
