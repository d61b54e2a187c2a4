package main

import (
	"testing"

	"tollgate/authz/catalog"
)

func TestDemoWorkspace(t *testing.T) {
	byCommand := []string{catalog.Everything}
	for _, c := range []struct {
		want string
		of   []catalog.WorkspaceSpec
	}{
		{"", nil},
		{"acme", []catalog.WorkspaceSpec{{ID: "demo"}, {ID: "acme"}}},
		{"demo", []catalog.WorkspaceSpec{{ID: "demo"}, {ID: "acme", Managed: byCommand}}},
		{"demo", []catalog.WorkspaceSpec{{ID: "demo", Managed: []string{"plan"}}, {ID: "acme", Managed: byCommand}}},
		{"acme", []catalog.WorkspaceSpec{{ID: "demo", Suspended: true}, {ID: "acme", Managed: byCommand}}},
		{"demo", []catalog.WorkspaceSpec{{ID: "demo", Suspended: true}, {ID: "acme", Suspended: true, Managed: byCommand}}},
	} {
		spec := &catalog.Catalog{Plans: []catalog.PlanSpec{{ID: "lite"}}, Workspaces: c.of}
		for i := range spec.Workspaces {
			spec.Workspaces[i].Plan = "lite"
		}
		tables, err := catalog.Compile(spec, catalog.Source{})
		if err != nil {
			t.Fatal(err)
		}
		if got := demoWorkspace(tables); got != c.want {
			t.Errorf("of %+v it is %q, want %q", c.of, got, c.want)
		}
	}
}
