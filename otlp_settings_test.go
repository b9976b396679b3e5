package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
)

// certificate writes a self-signed certificate and its key, and returns their files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	signed, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: signed}, key: {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestExporterVariablesThatAreWrongAreNamedNotShown starts the program with values that the SDK would print and ignore.
func TestExporterVariablesThatAreWrongAreNamedNotShown(t *testing.T) {
	t.Parallel()
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	const canary = "CANARY7f3a"
	cert, key := certificate(t)
	noCertificate := filepath.Join(t.TempDir(), canary)
	if err := os.WriteFile(noCertificate, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	const https = "OTEL_EXPORTER_OTLP_ENDPOINT=https://collector:4318"
	for _, test := range []struct {
		env   []string
		names string
	}{
		{[]string{"OTEL_EXPORTER_OTLP_HEADERS=Authorization: Bearer " + canary}, "OTEL_EXPORTER_OTLP_HEADERS"},
		{[]string{"OTEL_EXPORTER_OTLP_HEADERS=Authorization: Bearer " + canary + "=="}, "OTEL_EXPORTER_OTLP_HEADERS"},
		{[]string{"OTEL_EXPORTER_OTLP_HEADERS=a=b," + canary}, "OTEL_EXPORTER_OTLP_HEADERS"},
		{[]string{"OTEL_EXPORTER_OTLP_HEADERS=a=" + canary + "%zz"}, "OTEL_EXPORTER_OTLP_HEADERS"},
		{[]string{"OTEL_EXPORTER_OTLP_HEADERS=a=" + canary + "%0Ab: c"}, "OTEL_EXPORTER_OTLP_HEADERS"},
		{[]string{"OTEL_EXPORTER_OTLP_HEADERS=" + canary + " x=b"}, "OTEL_EXPORTER_OTLP_HEADERS"},
		{[]string{"OTEL_EXPORTER_OTLP_HEADERS=={" + canary + "}"}, "OTEL_EXPORTER_OTLP_HEADERS"},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_HEADERS=x-key:" + canary}, "OTEL_EXPORTER_OTLP_TRACES_HEADERS"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://u:" + canary + "@h:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + canary + ":4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://" + canary + ":4318:1/%zz"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"},
		{[]string{https, "OTEL_EXPORTER_OTLP_CERTIFICATE=/" + canary}, "OTEL_EXPORTER_OTLP_CERTIFICATE"},
		{[]string{https, "OTEL_EXPORTER_OTLP_CERTIFICATE=" + noCertificate}, "OTEL_EXPORTER_OTLP_CERTIFICATE"},
		{[]string{https, "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE=/" + canary}, "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"},
		{[]string{https, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=/" + canary, "OTEL_EXPORTER_OTLP_CLIENT_KEY=" + key}, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"},
		{[]string{https, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=" + cert, "OTEL_EXPORTER_OTLP_CLIENT_KEY=" + noCertificate}, "OTEL_EXPORTER_OTLP_CLIENT_KEY"},
		{[]string{https, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=" + cert}, "OTEL_EXPORTER_OTLP_CLIENT_KEY"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://h:4318", "OTEL_EXPORTER_OTLP_CERTIFICATE=" + cert}, "OTEL_EXPORTER_OTLP_CERTIFICATE"},
		{[]string{https, "OTEL_EXPORTER_OTLP_INSECURE=true", "OTEL_EXPORTER_OTLP_HEADERS=a=" + canary}, "OTEL_EXPORTER_OTLP_INSECURE"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=HTTPS://h:4318", "OTEL_EXPORTER_OTLP_INSECURE=TRUE"}, "OTEL_EXPORTER_OTLP_INSECURE"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://h:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://h:4318/v1/traces", "OTEL_EXPORTER_OTLP_TRACES_INSECURE=true"}, "OTEL_EXPORTER_OTLP_TRACES_INSECURE"},
		{[]string{"OTEL_EXPORTER_OTLP_INSECURE=" + canary}, "OTEL_EXPORTER_OTLP_INSECURE"},
		{[]string{"OTEL_EXPORTER_OTLP_TIMEOUT=" + canary}, "OTEL_EXPORTER_OTLP_TIMEOUT"},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=5s"}, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"},
		{[]string{"OTEL_EXPORTER_OTLP_COMPRESSION=" + canary}, "OTEL_EXPORTER_OTLP_COMPRESSION"},
		{[]string{"OTEL_RESOURCE_ATTRIBUTES=service.name"}, "OTEL_RESOURCE_ATTRIBUTES"},
		{[]string{"OTEL_RESOURCE_ATTRIBUTES=a=%zz"}, "OTEL_RESOURCE_ATTRIBUTES"},
	} {
		cmd := exec.Command(name)
		cmd.Env = append(os.Environ(), "ADDR=127.0.0.1:0")
		cmd.Env = append(cmd.Env, test.env...)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), test.names) {
			t.Errorf("%q: exit code %d, want 2 and the name: %s", test.env, cmd.ProcessState.ExitCode(), out)
		}
		if strings.Contains(string(out), canary) {
			t.Errorf("%q: the output has the value: %s", test.env, out)
		}
	}
}

func TestExporterVariablesThatAreRight(t *testing.T) {
	cert, key := certificate(t)
	for _, env := range [][]string{
		{"OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer secret"},
		{"OTEL_EXPORTER_OTLP_HEADERS=Authorization=Basic%20dTpw==, x-tenant = a%2Cb"},
		{"OTEL_EXPORTER_OTLP_TRACES_HEADERS=x-empty="},
		{"OTEL_EXPORTER_OTLP_ENDPOINT= http://collector:4318/prefix "},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=https://h:4318", "OTEL_EXPORTER_OTLP_INSECURE=false", "OTEL_EXPORTER_OTLP_CERTIFICATE=" + cert,
			"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=" + cert, "OTEL_EXPORTER_OTLP_CLIENT_KEY=" + key},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://h:4318", "OTEL_EXPORTER_OTLP_INSECURE=true", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip", "OTEL_EXPORTER_OTLP_TIMEOUT=10000"},
	} {
		if _, err := readSettings(environment(env)); err != nil {
			t.Errorf("%q: %v", env, err)
		}
	}
}

func TestTracesGoWhereTheVariablesSay(t *testing.T) {
	for _, test := range []struct {
		env  []string
		want string
	}{
		{nil, "http://localhost:4318/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://h:4318"}, "http://h:4318/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://h/otlp/"}, "https://h/otlp/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://h:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://t/in"}, "https://t/in"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://h:4318", "OTEL_EXPORTER_OTLP_INSECURE=false"}, "http://h:4318/v1/traces"},
	} {
		if got := testSettings(t, test.env...).otlp.url; got != test.want {
			t.Errorf("%q: %s, want %s", test.env, got, test.want)
		}
	}
}

func TestUnheardProtocolIsWarnedOf(t *testing.T) {
	env := environment([]string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://h:1"})
	if got := fmt.Sprint(ignoredVariables(env)); got != "[OTEL_EXPORTER_OTLP_METRICS_ENDPOINT OTEL_EXPORTER_OTLP_PROTOCOL]" {
		t.Errorf("ignored: %s", got)
	}
}

// TestServiceIsNamedAsOpenTelemetrySays compares what logs, metrics and traces call the service.
func TestServiceIsNamedAsOpenTelemetrySays(t *testing.T) {
	const attributes = "OTEL_RESOURCE_ATTRIBUTES=service.name=docs%20search,deployment.environment.name=production,service.version=7.1,k8s.pod.name=docs-1"
	for _, test := range []struct {
		name                   string
		env                    []string
		service, env1, version string
	}{
		{"nothing", nil, "vitrine", "development", version()},
		{"attributes", []string{attributes}, "docs search", "production", "7.1"},
		{"their own variables win", []string{attributes, "OTEL_SERVICE_NAME=mine", "ENVIRONMENT=staging"}, "mine", "staging", "7.1"},
		{"even if they name the default", []string{attributes, "OTEL_SERVICE_NAME=vitrine", "ENVIRONMENT=development"}, "vitrine", "development", "7.1"},
		{"empty ones do not count", []string{"OTEL_RESOURCE_ATTRIBUTES=service.name=,service.version=", "OTEL_SERVICE_NAME="}, "vitrine", "development", version()},
		{"the last of two", []string{"OTEL_RESOURCE_ATTRIBUTES=service.name=a, service.name=b"}, "b", "development", version()},
	} {
		ts := newTestServer(t, test.env...)
		resource := newResource(ts.cfg).String()
		for _, want := range []string{"service.name=" + test.service, "deployment.environment.name=" + test.env1, "service.version=" + test.version} {
			if !strings.Contains(resource, want) {
				t.Errorf("%s: the resource %s has no %s", test.name, resource, want)
			}
		}
		want := fmt.Sprintf(`target_info{deployment_environment_name=%q,service_name=%q,service_version=%q} 1`, test.env1, test.service, test.version)
		if !strings.Contains(ts.get("/metrics").body, want) {
			t.Errorf("%s: no %s", test.name, want)
		}
		ts.log.Warn("hello")
		line := ts.lines.find(t, "hello", "")
		if line["service_name"] != test.service || line["environment"] != test.env1 || line["version"] != test.version {
			t.Errorf("%s: %v", test.name, line)
		}
		if strings.Contains(strings.Join(test.env, ""), "k8s.pod") && !strings.Contains(resource, "k8s.pod.name=docs-1") {
			t.Errorf("%s: %s", test.name, resource)
		}
	}
}

// TestLibrariesLogJSON lets net/http and OpenTelemetry log as they do.
func TestLibrariesLogJSON(t *testing.T) {
	logs := new(logBuffer)
	s := newServerOf(t, nil, logs)
	defer s.close()
	takeOverLogs(s.log)
	log.Printf("http: multiple response.WriteHeader calls")
	otel.Handle(fmt.Errorf("exporter trouble"))
	if line := logs.find(t, "http: multiple response.WriteHeader calls", ""); line["level"] != "warn" {
		t.Errorf("log line: %v", line)
	}
	if line := logs.find(t, "OpenTelemetry", ""); line["error"] != "exporter trouble" {
		t.Errorf("log line: %v", line)
	}
}
