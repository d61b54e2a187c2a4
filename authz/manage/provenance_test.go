package manage_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestApplyTouchesOnlyWhatItMade: what commands made and set stays over an apply;
// a prune puts the file in its place, but for suspensions.
func TestApplyTouchesOnlyWhatItMade(t *testing.T) {
	s := serve(t)
	s.must(201, "POST", "/api/v1/workspaces", operator, `{"id":"acme","plan":"lite"}`)
	s.must(201, "POST", "/api/v1/users", operator, `{"id":"eve","workspace":"demo","role":"admin"}`)
	s.must(200, "PATCH", "/api/v1/workspaces/demo", operator, `{"externalId":"cus_1"}`)
	s.must(200, "PATCH", "/api/v1/users/max?workspace=demo", operator, `{"role":"admin"}`)
	s.must(200, "POST", "/api/v1/workspaces/other/suspend", operator, "")
	s.must(200, "POST", "/api/v1/workspaces/frozen/resume", operator, "")

	file := strings.Replace(plainCatalog, "{id: other, plan: lite,", "{id: other, plan: lite, multiplier: \"2\",", 1)
	file = strings.Replace(file, "users:\n", "  - {id: acme, plan: lite, multiplier: \"3\"}\nusers:\n", 1)
	for _, query := range []string{"?dryRun=true", "", ""} {
		a := s.apply(query, file)
		want := "[{change workspace other [multiplier]}]"
		if query == "" && s.store.Tables().Workspaces["other"].Multiplier.String() == "2" && len(a.Changes) == 0 {
			want = "[]" // the second time
		}
		if fmt.Sprint(a.Changes) != want {
			t.Errorf("%q changes %v", query, a.Changes)
		}
		notes := strings.Join(a.Notes, "\n")
		for _, says := range []string{
			"workspace acme: it was made by a command, so its multiplier stays; --prune", "workspace demo: externalId stays as a command set it; --prune",
			"user demo/max: role stays", "workspace other: suspended stays as a command set it; use tollgate workspace suspend or resume",
			"workspace frozen: suspended stays",
		} {
			if !strings.Contains(notes, says) {
				t.Errorf("%q does not say %q:\n%s", query, says, notes)
			}
		}
	}
	tables := s.store.Tables()
	if tables.Workspaces["acme"].Spec.Multiplier != "" || tables.User("demo", "eve") == nil || tables.Workspaces["demo"].ExternalID != "cus_1" ||
		tables.User("demo", "max").Role != "admin" || !tables.Workspaces["other"].Suspended || tables.Workspaces["frozen"].Suspended {
		t.Error("an apply touched what commands made")
	}

	dry := s.apply("?dryRun=true&prune=true", plainCatalog)
	done := s.apply("?prune=true", plainCatalog)
	const want = "[{change workspace demo [externalId managed]} {change workspace other [multiplier]} {remove workspace acme []} " +
		"{change user demo/max [role managed]} {remove user demo/eve []}]"
	if fmt.Sprint(dry.Changes) != want || fmt.Sprint(done.Changes) != want {
		t.Errorf("a prune changes\n%v, dry\n%v, want\n%s", done.Changes, dry.Changes, want)
	}
	if !strings.Contains(strings.Join(done.Notes, "\n"), "workspace other: suspended stays") {
		t.Errorf("notes %v", done.Notes)
	}
	tables = s.store.Tables()
	if tables.Workspaces["acme"] != nil || !tables.Workspaces["other"].Suspended || tables.Workspaces["frozen"].Suspended || tables.User("demo", "max").Role != "member" {
		t.Error("a prune left what it removes, or lifted a suspension")
	}
	if a := s.apply("?prune=true", plainCatalog); len(a.Changes) != 0 {
		t.Errorf("again, a prune changes %v", a.Changes)
	}
	// A file without managed things says and changes nothing.
	s.must(200, "POST", "/api/v1/workspaces/other/resume", operator, "")
	if a := s.apply("", plainCatalog); len(a.Changes)+len(a.Notes) != 1 { // frozen stays resumed
		t.Errorf("%+v", a)
	}
}
