package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestSettingsReportAllProblemsAtOnce(t *testing.T) {
	env := map[string]string{
		"ADDR": "nowhere", "DOCS_SYNC_INTERVAL": "1", "VECTOR_WEIGHT": "NaN", "ADMIN_TOKEN": "sec ret", "LOG_LEVEL": "loud",
		"ALLOWED_ORIGINS": "app.example.com", "TRUSTED_PROXIES": "10.0.0.1", "RATE_LIMIT": "-1", "DRAIN_DELAY": "-1s",
	}
	_, err := readSettings(env)
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for key, value := range env {
		if key == "ADMIN_TOKEN" {
			value = "(secret)"
		}
		if want := fmt.Sprintf("%s=%q: ", key, value); !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in:\n%v", want, err)
		}
		if want := "for example " + key + "="; !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "sec ret") {
		t.Error("the error shows the token")
	}
}

func TestExamplesAndStandardValuesAreValid(t *testing.T) {
	for _, v := range variables(new(settings)) {
		for _, value := range []string{v.standard, v.example} {
			if value != "" {
				if err := v.set(value); err != nil {
					t.Errorf("%s=%s: %v", v.name, value, err)
				}
			}
		}
	}
}

func TestCredentialsInURLsAreRedacted(t *testing.T) {
	for value, want := range map[string]string{
		"http://u:SECRET@h/v1": "http://(redacted)@h/v1", "https://h/v1?key=SECRET": "https://(redacted)@h/v1", "http://h/v1": "http://h/v1", "./docs": "./docs",
	} {
		if got := redact(value); got != want {
			t.Errorf("redact(%q) = %q, want %q", value, got, want)
		}
	}
}
