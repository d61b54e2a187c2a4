package manage

import (
	"context"
	"maps"
	"slices"
	"strings"

	"tollgate/authz"
	"tollgate/authz/catalog"
)

// Resources tells how many there are of what plans count, and corrects it. Both may
// block on I/O until their context ends; errors wrap key.ErrUnavailable.
type Resources interface {
	Tally(ctx context.Context, r authz.Resource) (authz.Tally, error)
	// Correct makes the count another one. What requests under way hold stays.
	Correct(ctx context.Context, r authz.Resource, count int64) error
}

// ResourceCount is how many a workspace has of what its plan counts.
type ResourceCount struct {
	Count int64  `json:"count"`
	Held  int64  `json:"held" doc:"Places that requests under way hold"`
	Cap   *int64 `json:"cap" doc:"The plan's; null: none, 0: closed"`
}

// maxResourceCount bounds a correction.
const maxResourceCount = 1 << 40

// resourceNames are what the plan of a workspace has a cap of and what the routes'
// dialects count, sorted.
func resourceNames(t *catalog.Tables, w *catalog.Workspace) []string {
	names := map[string]bool{}
	for name := range w.Plan.Resources {
		names[name] = true
	}
	for i := range t.Routes {
		for _, p := range t.Routes[i].Dialect.Paths {
			if p.Counts != nil {
				names[p.Counts.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func resourceOf(w *catalog.Workspace, name string) authz.Resource {
	return authz.Resource{Tenant: authz.Tenant{Workspace: w.ID, Generation: w.Generation}, Name: name}
}

// withResources puts in what is counted.
func (a *api) withResources(ctx context.Context, v Workspace, w *catalog.Workspace) (Workspace, error) {
	if a.Resources == nil {
		return v, nil
	}
	v.Resources = map[string]ResourceCount{}
	for _, name := range resourceNames(a.Tables(), w) {
		tally, err := a.Resources.Tally(ctx, resourceOf(w, name))
		if err != nil {
			return Workspace{}, err
		}
		one := ResourceCount{Count: tally.Count, Held: tally.Taken(a.Now()) - tally.Count}
		if most, capped := w.Plan.Resources[name]; capped {
			one.Cap = &most
		}
		v.Resources[name] = one
	}
	return v, nil
}

// correctResources is a change of a workspace that says how many there are of
// something. What else it says is changed before that.
func (a *api) correctResources(ctx context.Context, c *call, fields WorkspaceFields) (Workspace, error) {
	id := c.r.PathValue("id")
	w := a.Tables().Workspaces[id]
	switch {
	case w == nil || !c.who.operator():
		return Workspace{}, errNoWorkspace
	case a.Resources == nil || fields.Resources.To == nil:
		return Workspace{}, invalid("resources", `say how many there are of each, such as {"minds": 2}`)
	}
	known := resourceNames(a.Tables(), w)
	for name, count := range *fields.Resources.To {
		if !slices.Contains(known, name) {
			return Workspace{}, invalid("resources."+printable(name, maxLabel), "is nothing that is counted here: %s", orNothing(strings.Join(known, ", ")))
		}
		if count < 0 || count > maxResourceCount {
			return Workspace{}, invalid("resources."+name, "is a count: 0 or more")
		}
	}
	was, err := a.withResources(ctx, viewWorkspace(w), w)
	if err != nil {
		return Workspace{}, err
	}
	counts := *fields.Resources.To
	if fields.Resources = (Change[map[string]int64]{}); fields != (WorkspaceFields{}) {
		if _, err := a.updateWorkspace(ctx, c, fields); err != nil {
			return Workspace{}, err
		}
	}
	c.was("workspace", id, id, was)
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if err := a.Resources.Correct(ctx, resourceOf(w, name), counts[name]); err != nil {
			return Workspace{}, err
		}
	}
	if w = a.Tables().Workspaces[id]; w == nil { // somebody removed it meanwhile
		return Workspace{}, errNoWorkspace
	}
	is, err := a.withResources(ctx, viewWorkspace(w), w)
	if err != nil {
		return Workspace{}, err
	}
	c.is("workspace", id, id, is)
	a.Logger.Info("counted resources corrected", "workspace", id, "counts", counts, "by", c.who.name())
	return a.fillIn(is, w), nil
}

func orNothing(names string) string {
	if names == "" {
		return "nothing is"
	}
	return names
}
