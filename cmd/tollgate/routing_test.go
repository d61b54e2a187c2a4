package main

import (
	"slices"
	"strings"
	"testing"

	"tollgate/authz/catalog"
	"tollgate/envoy"
)

// The route of a dialect whose paths are managed leads them to Tollgate itself, and
// the rest below its root to a Check, which refuses it in that dialect.
func TestRoutingOfManagedPaths(t *testing.T) {
	c, err := catalog.Parse("c", []byte("routes: [{dialect: openai}, {dialect: minds}]"))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := compile(c)
	if err != nil {
		t.Fatal(err)
	}
	spec := routing(tables)
	var managed []string
	for _, m := range spec.Managed {
		managed = append(managed, m.Path)
	}
	if want := []string{"/api/v1/auth/me", "/api/v1/api-keys", "/api/v1/api-keys/{id}"}; !slices.Equal(managed, want) {
		t.Errorf("managed: %q, want %q", managed, want)
	}
	if !slices.ContainsFunc(spec.Routes, func(r envoy.Route) bool { return r.Prefix == "/api/v1" }) {
		t.Errorf("nothing answers what is unknown: %+v", spec.Routes)
	}
	without, err := catalog.Parse("c", []byte("routes: [{dialect: openai}]"))
	if err != nil {
		t.Fatal(err)
	}
	old, err := compile(without)
	if err != nil {
		t.Fatal(err)
	}
	if sameRouting(old, tables) || len(routing(old).Managed) != 0 {
		t.Error("a route that comes is no change to Envoys, or managed paths are there without one")
	}
}

// What a catalog says of hosts, headers and pages is what Envoy is told, and a change
// of it is one.
func TestRoutingOfHosts(t *testing.T) {
	tablesOf := func(text string) *catalog.Tables {
		c, err := catalog.Parse("c", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		tables, err := compile(c)
		if err != nil {
			t.Fatal(err)
		}
		return tables
	}
	const text = "routes: [{dialect: openai}, {dialect: anthropic, cors: {origins: ['https://a.b']}}, " +
		"{dialect: minds, hosts: [minds.example.com], upstream: 'http://127.0.0.1:1'}, {dialect: minds, hosts: [Other.example.com], upstream: 'http://127.0.0.1:1'}]"
	spec := routing(tablesOf(text))
	var models []string // headers that routes to the lists of models ask for
	clusters := map[string]bool{}
	for _, c := range spec.Clusters {
		clusters[c.Name] = true
	}
	for _, r := range spec.Routes {
		if r.Prefix == "/v1/models" {
			models = append(models, r.Header)
		}
		if r.Prefix == "/v1/messages" && (r.CORS == nil || !slices.Equal(r.CORS.Methods, []string{"GET", "POST"})) {
			t.Errorf("%+v", r.CORS)
		}
		if r.Prefix == "/v1/chat/completions" && r.CORS != nil {
			t.Errorf("%s is open to other origins", r.Prefix)
		}
	}
	if !slices.Equal(models, []string{"", "anthropic-version"}) || len(clusters) != 2 {
		t.Errorf("models by %q, clusters %v", models, clusters)
	}
	hosts := map[string]int{}
	for _, m := range spec.Managed {
		hosts[m.Hosts[0]]++
	}
	if len(hosts) != 2 || hosts["other.example.com"] != hosts["minds.example.com"] {
		t.Errorf("managed at %v", hosts)
	}
	for _, changed := range []string{strings.Replace(text, "minds.example.com", "m.example.com", 1), strings.Replace(text, "https://a.b", "https://a.c", 1)} {
		if sameRouting(tablesOf(text), tablesOf(changed)) {
			t.Errorf("no change to Envoys: %s", changed)
		}
	}
}
