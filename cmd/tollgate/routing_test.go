package main

import (
	"slices"
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
	if want := []string{"/api/v1/auth/me", "/api/v1/api-keys", "/api/v1/api-keys/{id}"}; !slices.Equal(spec.Managed, want) {
		t.Errorf("managed: %q, want %q", spec.Managed, want)
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
