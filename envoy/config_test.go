package envoy

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func good() (Options, Spec) {
	return Options{Listen: "127.0.0.1:8080", Servers: []string{"127.0.0.1:9000"}}, Spec{
		Clusters: []Cluster{{Name: "model:a", Endpoints: []Endpoint{{Host: "127.0.0.1", Port: 80}}}},
		Routes:   []Route{{Prefix: "/v1"}},
	}
}

// Every wrong value is refused before Envoy sees it, by a message that names it.
func TestBuildRefuses(t *testing.T) {
	for want, change := range map[string]func(*Options, *Spec){
		`gateway address "example.com:80"`: func(o *Options, _ *Spec) { o.Listen = "example.com:80" },
		`gateway address "127.0.0.1"`:      func(o *Options, _ *Spec) { o.Listen = "127.0.0.1" },
		`gateway address ":0"`:             func(o *Options, _ *Spec) { o.Listen = ":0" },
		`gRPC address ""`:                  func(o *Options, _ *Spec) { o.Servers = []string{""} },
		`gRPC address "unix:"`:             func(o *Options, _ *Spec) { o.Servers = []string{"unix:"} },
		`gRPC address "a/b:1"`:             func(o *Options, _ *Spec) { o.Servers = []string{"a/b:1"} },
		`gRPC address is missing`:          func(o *Options, _ *Spec) { o.Servers = nil },
		`gRPC address "a:1": it is there`:  func(o *Options, _ *Spec) { o.Servers = []string{"a:1", "b:1", "a:1"} },
		`"unix:/s": a socket can't be one`: func(o *Options, _ *Spec) { o.Servers = []string{"unix:/s", "b:1"} },
		"revocation bound 5s must be":      func(o *Options, _ *Spec) { o.RevocationBound = 5 * time.Second },
		"revocation bound 15s must be":     func(o *Options, _ *Spec) { o.CheckTimeout = 15 * time.Second },
		"RevocationBound: -1":              func(o *Options, _ *Spec) { o.RevocationBound = -1 },
		"CheckTimeout":                     func(o *Options, _ *Spec) { o.CheckTimeout = -1 },
		"IdleTimeout":                      func(o *Options, _ *Spec) { o.IdleTimeout = time.Microsecond },
		"MaxConnections":                   func(o *Options, _ *Spec) { o.MaxConnections = -1 },
		`cluster "tollgate.x"`:             func(_ *Options, s *Spec) { s.Clusters[0].Name = "tollgate.x" },
		`cluster ""`:                       func(_ *Options, s *Spec) { s.Clusters[0].Name = "" },
		`no endpoints`:                     func(_ *Options, s *Spec) { s.Clusters[0].Endpoints = nil },
		`endpoint 127.0.0.1:0`:             func(_ *Options, s *Spec) { s.Clusters[0].Endpoints[0].Port = 0 },
		`endpoint a b:80`:                  func(_ *Options, s *Spec) { s.Clusters[0].Endpoints[0].Host = "a b" },
		`path "/x/"`:                       func(_ *Options, s *Spec) { s.Clusters[0].Path = "/x/" },
		`path "/\" .. os.exit() .. \""`:    func(_ *Options, s *Spec) { s.Clusters[0].Path = `/" .. os.exit() .. "` },
		`cluster "model:a": there are two`: func(_ *Options, s *Spec) { s.Clusters = append(s.Clusters, s.Clusters[0]) },
		`route "v1"`:                       func(_ *Options, s *Spec) { s.Routes[0].Prefix = "v1" },
		`route "/v1/"`:                     func(_ *Options, s *Spec) { s.Routes[0].Prefix = "/v1/" },
		`route "/%2f"`:                     func(_ *Options, s *Spec) { s.Routes[0].Prefix = "/%2f" },
		`rewrite "x"`:                      func(_ *Options, s *Spec) { s.Routes[0].Rewrite = "x" },
		`route "/": everything`:            func(_ *Options, s *Spec) { s.Routes[0] = Route{Prefix: "/", Rewrite: "/v1"} },
		`MaxDuration`:                      func(_ *Options, s *Spec) { s.Routes[0].MaxDuration = -1 },
		`2 GiB`:                            func(_ *Options, s *Spec) { s.Routes[0].MaxBody = 1 << 31 },
		`route "/v1": there are two`:       func(_ *Options, s *Spec) { s.Routes = append(s.Routes, s.Routes[0]) },
		`host "Api.example.com"`:           func(_ *Options, s *Spec) { s.Routes[0].Hosts = []string{"Api.example.com"} },
		`host "a:80"`:                      func(_ *Options, s *Spec) { s.Routes[0].Hosts = []string{"a:80"} },
		`host "a": it is there twice`:      func(_ *Options, s *Spec) { s.Routes[0].Hosts = []string{"a", "a"} },
		`header "X-A"`:                     func(_ *Options, s *Spec) { s.Routes[0].Header = "X-A" },
		`CORS: it needs`:                   func(_ *Options, s *Spec) { s.Routes[0].CORS = &CORS{Origins: []string{"https://a"}} },
		`"/a": host "*"`:                   func(_ *Options, s *Spec) { s.Managed = []Managed{{Path: "/a", Hosts: []string{"*"}}} },
		`there is no dialect "x"`:          func(_ *Options, s *Spec) { s.Routes[0].Dialect = "x" },
		`"/a": there is no dialect "y"`:    func(_ *Options, s *Spec) { s.Managed = []Managed{{Path: "/a", Dialect: "y"}} },
		`managed path "/a/"`:               func(_ *Options, s *Spec) { s.Managed = []Managed{{Path: "/a/"}} },
		`managed path "/{id}"`:             func(_ *Options, s *Spec) { s.Managed = []Managed{{Path: "/{id}"}} },
		`managed path "/{id}/a"`:           func(_ *Options, s *Spec) { s.Managed = []Managed{{Path: "/{id}/a"}} },
		`managed path "/a": it is there`:   func(_ *Options, s *Spec) { s.Managed = []Managed{{Path: "/a"}, {Path: "/a"}} },
	} {
		o, s := good()
		change(&o, &s)
		if _, err := Build(o, s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	o, s := good()
	if _, err := Build(o, s); err != nil {
		t.Error(err)
	}
}

// An Envoy that gets its configuration later isn't given a bootstrap either with
// which a check could take longer than a revocation.
func TestBootstrapRefuses(t *testing.T) {
	o, _ := good()
	o.RevocationBound = o.withDefaults().LargeCheckTimeout
	if _, err := Bootstrap(o); err == nil || !strings.Contains(err.Error(), "revocation bound") {
		t.Error(err)
	}
	o.RevocationBound++
	if _, err := Bootstrap(o); err != nil {
		t.Error(err)
	}
}

// The same input gives the same file, without anything that only this machine
// has.
func TestStaticBootstrapIsStable(t *testing.T) {
	o, s := good()
	var first string
	for range 3 {
		r, err := Build(o, s)
		if err != nil {
			t.Fatal(err)
		}
		b, err := StaticBootstrap(o, r)
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(b)
		}
		if string(b) != first {
			t.Fatal("two calls differ")
		}
	}
	if !strings.Contains(first, "inline_string: |") || strings.Contains(first, `function envoy_on_response(h)\n`) {
		t.Error("the Lua code isn't in a form that people can read")
	}
}

// A reply's body is a format string for Envoy, which holds the request's id at most, and
// JSON for its readers, whatever the dialect.
func TestReplies(t *testing.T) {
	all := localReplies(otherDialects()).GetMappers()[1:]
	if want := len(replies()) * (len(otherDialects()) + 1); len(all) != want {
		t.Fatalf("%d mappers for %d replies", len(all), want)
	}
	for _, m := range all {
		format := m.GetBodyFormatOverride().GetTextFormatSource().GetInlineString()
		body := strings.Replace(format, requestIDFormat, "id", 1)
		if strings.Contains(body, "%") || !json.Valid([]byte(body)) {
			t.Errorf("%s", format)
		}
	}
}

func TestJudge(t *testing.T) {
	const form = "\n/x/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/%s/Clean/RELEASE/BoringSSL\n"
	for version, want := range map[string]struct{ err, warning bool }{
		"1.40.0": {}, "1.40.7": {}, "1.39.9": {err: true}, "0.99.0": {err: true}, "1.41.0": {warning: true}, "2.0.0": {warning: true}, "x": {err: true},
	} {
		b, err := judge("/x/envoy", strings.ReplaceAll(form, "%s", version))
		if (err != nil) != want.err || (b.Warning != "") != want.warning || err == nil && b.Version != version {
			t.Errorf("%s: %+v, %v", version, b, err)
		}
	}
	if _, err := judge("/bin/ls", "ls (GNU coreutils) 9.1"); err == nil {
		t.Error("ls is taken for an Envoy")
	}
}
