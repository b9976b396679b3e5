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
	var replicas sync.WaitGroup
	for range 4 {
		p := unopenedPostgres(t, url)
		replicas.Go(func() {
			if err := p.open(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	replicas.Wait()

	if n := count(t, url, "SELECT count(*) FROM settings"); n != 1 {
		t.Errorf("%d rows of settings", n)
	}
}

func TestStartSaysWhatToRun(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		sql  []string // run before the store is opened again
		user string   // who opens it; empty: the owner
		want string
	}{
		{
			name: "another analyzer",
			sql:  []string{"UPDATE settings SET analyzer = 0"},
			want: "vitrine reindex",
		},
		{
			name: "another model",
			sql:  []string{"UPDATE settings SET model = 'bge'"},
			want: "vitrine reindex",
		},
		{
			name: "other dimensions",
			sql:  []string{"UPDATE settings SET dimensions = 7"},
			want: "vitrine reindex",
		},
		{
			name: "a newer schema",
			sql:  []string{"UPDATE settings SET schema = 99"},
			want: "upgrade this program",
		},
		{
			name: "no rights",
			sql: []string{
				"DROP SCHEMA public CASCADE",
				"CREATE SCHEMA public",
				"DROP ROLE IF EXISTS vitrine_poor",
				"CREATE ROLE vitrine_poor LOGIN",
			},
			user: "vitrine_poor",
			want: "CREATE EXTENSION IF NOT EXISTS vector; GRANT",
		},
		{
			name: "an unknown user",
			user: "vitrine_nobody",
			want: "check user and password",
		},
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

	url := strings.Replace(newDatabase(t), "vitrine_test", "no_such_database", 1)
	err := unopenedPostgres(t, url).open(t.Context())
	if err == nil || !strings.Contains(err.Error(), "createdb") {
		t.Errorf("without database: %v", err)
	}
}
