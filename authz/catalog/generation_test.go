package catalog

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tollgate/authz/key"
)

// TestKeysLiveAsLongAsTheirOwner: over any sequence of changes, a key opens
// something exactly as long as the workspace, and the user, that it was made for
// were never away.
func TestKeysLiveAsLongAsTheirOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &Catalog{Plans: []PlanSpec{{ID: "p"}}}
		names := []string{"a", "b"}
		fresh := 0
		type made struct {
			rec  *key.Record
			dead bool
		}
		var keys []*made
		for range rapid.IntRange(1, 40).Draw(t, "changes") {
			before := c.Generations()
			workspace, user := rapid.SampledFrom(names).Draw(t, "workspace"), rapid.SampledFrom(names).Draw(t, "user")
			at := slices.IndexFunc(c.Workspaces, func(w WorkspaceSpec) bool { return w.ID == workspace })
			of := func(u UserSpec) bool { return u.Workspace == workspace && u.ID == user }
			switch rapid.SampledFrom([]string{"workspace", "user", "rewrite"}).Draw(t, "what") {
			case "workspace":
				if at < 0 {
					c.Workspaces = append(c.Workspaces, WorkspaceSpec{ID: workspace, Plan: "p", Generation: rapid.SampledFrom([]string{"", "g1", "g2"}).Draw(t, "claims")})
					break
				}
				c.Workspaces = slices.Delete(c.Workspaces, at, at+1)
				c.Users = slices.DeleteFunc(c.Users, func(u UserSpec) bool { return u.Workspace == workspace })
				for _, k := range keys {
					k.dead = k.dead || k.rec.Workspace == workspace
				}
			case "user":
				switch {
				case at < 0:
				case slices.ContainsFunc(c.Users, of):
					c.Users = slices.DeleteFunc(c.Users, of)
					for _, k := range keys {
						k.dead = k.dead || k.rec.Workspace == workspace && k.rec.User == user
					}
				default:
					c.Users = append(c.Users, UserSpec{ID: user, Workspace: workspace, Generation: "g1"})
				}
			case "rewrite": // as an apply does, which knows no generations
				for i := range c.Workspaces {
					c.Workspaces[i].Generation = ""
				}
				slices.Reverse(c.Users)
			}
			c.Stamp(before, func() string { fresh++; return fmt.Sprintf("g%d", fresh) })
			tables, err := Compile(c, Source{})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range c.Workspaces {
				keys = append(keys, &made{rec: &key.Record{Workspace: w.ID, Kind: key.Workspace}})
			}
			for _, u := range c.Users {
				keys = append(keys, &made{rec: &key.Record{Workspace: u.Workspace, Kind: key.Personal, User: u.ID}})
			}
			for _, k := range keys[len(keys)-len(c.Workspaces)-len(c.Users):] {
				k.rec.Generation = tables.GenerationFor(k.rec)
			}
			for _, k := range keys {
				w, u, alive := tables.Owner(k.rec)
				if alive == k.dead {
					t.Fatalf("a key of %s/%s, generation %q: alive %v, want %v", k.rec.Workspace, k.rec.User, k.rec.Generation, alive, !k.dead)
				}
				if alive && (w.ID != k.rec.Workspace || (u != nil) != (k.rec.Kind == key.Personal)) {
					t.Fatalf("a key of %s/%s has the owners %v, %v", k.rec.Workspace, k.rec.User, w, u)
				}
			}
		}
	})
}
