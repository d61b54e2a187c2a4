package catalog

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestUpstreamFields(t *testing.T) {
	const https = "models: [{id: m, upstreams: [{url: 'https://h'}], "
	for text, want := range map[string]string{
		"models: [{id: m, caFile: /ca}]":                                          "models[0].caFile: is for https upstreams, of which this model has none",
		"models: [{id: m, upstreams: [{url: 'http://h'}], caFile: /ca}]":          "models[0].caFile: is for https upstreams, of which this model has none",
		https + "caFile: ''}]":                                                    "models[0].caFile: is empty: write a value or leave the field out",
		https + "caFile: 'file:/ca'}]":                                            "models[0].caFile: want the path of a file, without file: or env: before it",
		"models: [{id: m, healthCheck: {path: /}}]":                               "models[0].healthCheck: is for upstreams, of which this model has none",
		https + "healthCheck: {}}]":                                               "models[0].healthCheck.path: is missing: it has no default",
		https + "healthCheck: {path: health}}]":                                   "models[0].healthCheck.path: want a path such as /health, without a query or escapes",
		https + "healthCheck: {path: '/h?a'}}]":                                   "models[0].healthCheck.path: want a path such as /health, without a query or escapes",
		https + "healthCheck: {path: /h, interval: 10ms}}]":                       "models[0].healthCheck.interval: want a duration from 1s to 5m, such as 10s",
		https + "healthCheck: {path: /h, timeout: 6s}}]":                          "models[0].healthCheck.timeout: want a duration from 100ms to 5s, such as 500ms",
		https + "healthCheck: {path: /h, url: x}}]":                               `models[0].healthCheck: unknown field "url"`,
		https + "caFile: /ca, healthCheck: {path: /h}}]":                          "",
		"models: [{id: m, upstreams: [{url: 'env:UPSTREAM_URL'}], caFile: '/c'}]": "",
	} {
		_, err := Parse("c", []byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}

	h := mustCompile(t, https+"healthCheck: {path: /h}}]").Models["m"].HealthCheck
	if *h != (HealthCheck{"/h", DefaultHealthInterval, DefaultHealthTimeout}) {
		t.Errorf("defaults: %+v", h)
	}
	h = mustCompile(t, https+"healthCheck: {path: /, interval: 1m, timeout: 250ms}}]").Models["m"].HealthCheck
	if *h != (HealthCheck{"/", time.Minute, 250 * time.Millisecond}) {
		t.Errorf("as written: %+v", h)
	}
}

func TestCAFile(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, public, private)
	if err != nil {
		t.Fatal(err)
	}
	good := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for content, want := range map[string]string{
		string(good):                         "",
		string(good) + string(good):          "",
		"":                                   "caFile: /ca has no certificate in PEM (-----BEGIN CERTIFICATE-----)",
		"who knows":                          "caFile: /ca has no certificate in PEM (-----BEGIN CERTIFICATE-----)",
		string(good) + broken("CERTIFICATE"): "caFile: /ca: certificate 2: ",
		broken("PRIVATE KEY"):                "caFile: /ca has a private key, which doesn't belong there",
	} {
		tables, err := Compile(mustParse(t, "models: [{id: m, upstreams: [{url: 'https://h'}], caFile: /ca}]"), Source{
			File: func(string) ([]byte, error) { return []byte(content), nil },
		})
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", content, err, want)
		case want == "" && (err != nil || string(tables.Models["m"].CA) != content):
			t.Errorf("%q: %v", content, err)
		}
	}
	if _, err := Compile(mustParse(t, "models: [{id: m, upstreams: [{url: 'https://h'}], caFile: /ca}]"), Source{
		File: func(string) ([]byte, error) { return nil, fs.ErrNotExist },
	}); err == nil || !strings.Contains(err.Error(), `model "m": caFile: the file can't be read`) {
		t.Errorf("a file that isn't there: %v", err)
	}
}

func broken(kind string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("nothing")}))
}

// Who gets a credential from Envoy itself doesn't get it from a check.
func TestCheckCredential(t *testing.T) {
	for place, want := range map[string]bool{"upstreams: [{url: 'http://h'}]": false, "cluster: mine": true, "deployed: true": true} {
		m := mustCompile(t, "models: [{id: m, credential: 'env:UPSTREAM_KEY', "+place+"}]").Models["m"]
		if got := m.CheckCredential() != nil; got != want || m.Credential.Env() != "UPSTREAM_KEY" || m.Credential.File() != "" {
			t.Errorf("%s: %v, %+v", place, got, m.Credential)
		}
	}
}
