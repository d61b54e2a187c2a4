package manage_test

import (
	"testing"

	"tollgate/authz/catalog"
	"tollgate/authz/manage"
)

// TestApplyChanges: who is told at a start that an apply would bring the file into force
// must not find that it changes nothing. What commands did since is no reason.
func TestApplyChanges(t *testing.T) {
	const file = `
plans: [{id: lite}]
workspaces: [{id: demo, plan: lite}]
models: [{id: m, deployed: false, upstreams: [{url: "http://127.0.0.1:1"}]}]
routes: [{dialect: openai}]
`
	parse := func(text string) *catalog.Catalog {
		t.Helper()
		c, err := catalog.Parse("catalog.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	stored := parse(file)
	stored.Models[0].Deployed = new(true)
	stored.Workspaces[0].Managed, stored.Workspaces[0].Suspended = []string{"suspended"}, true
	stored.Workspaces = append(stored.Workspaces, catalog.WorkspaceSpec{ID: "acme", Plan: "lite", Managed: []string{catalog.Everything}})
	if manage.ApplyChanges(stored, parse(file)) {
		t.Error("an apply of the file that was applied would change something")
	}
	if !manage.ApplyChanges(stored, parse(file+"settings: {modelHeader: x-other}\n")) {
		t.Error("another setting in the file is nothing to apply")
	}
}
