package manage

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
)

const workspacesPath = "/api/v1/workspaces"

// Workspace is a tenant as the API tells it.
type Workspace struct {
	ID          string            `json:"id"`
	Plan        string            `json:"plan"`
	Suspended   bool              `json:"suspended"`
	KeyDefaults KeyDefaults       `json:"keyDefaults"`
	KeyFormat   string            `json:"keyFormat" doc:"How new keys look"`
	Multiplier  *string           `json:"multiplier" doc:"Of the list price; null: the plan's"`
	ExternalID  *string           `json:"externalId"`
	Labels      map[string]string `json:"labels"`
	Budget      *BudgetState      `json:"budget" doc:"Of the workspace, by its plan; null: none"`
	Credit      *Credit           `json:"credit" doc:"Null: the workspace is not prepaid"`
	// Resources are by name; a list of workspaces leaves them out, because each takes a
	// question to the store.
	Resources map[string]ResourceCount `json:"resources,omitzero" doc:"Of what plans count; not in lists"`
	Managed   []string                 `json:"managed" doc:"The fields that commands set, which an apply leaves alone; *: the workspace was made by one"`
}

// KeyDefaults is what a key has unless it is made with something else.
type KeyDefaults struct {
	Actions []key.Action `json:"actions"`
}

// WorkspaceRequest is the body of the creation of a workspace.
type WorkspaceRequest struct {
	ID string `json:"id" doc:"1 to 63 of a-z, 0-9 and -"`
	WorkspaceFields
}

// WorkspaceFields are the fields of a workspace that a request may set. In a
// change, what isn't there stays, and null removes.
type WorkspaceFields struct {
	Plan        Change[string]             `json:"plan,omitzero" doc:"A plan of the catalog. For the operator"`
	KeyDefaults Change[KeyDefaults]        `json:"keyDefaults,omitzero" doc:"What a key may do unless it is made with something else"`
	KeyFormat   Change[string]             `json:"keyFormat,omitzero" doc:"How new keys look. For the operator"`
	Multiplier  Change[string]             `json:"multiplier,omitzero" doc:"Of the list price, a decimal. For the operator"`
	ExternalID  Change[string]             `json:"externalId,omitzero" doc:"Yours: the subject of each usage event. For the operator"`
	Labels      Change[map[string]*string] `json:"labels,omitzero" doc:"Copied into each usage event. A label that isn't there stays, null removes one"`
	Resources   Change[map[string]int64]   `json:"resources,omitzero" doc:"Corrects how many there are of what plans count; what isn't named stays. In a change only, for the operator"`
}

var errNoWorkspace = refuse(http.StatusNotFound, "There is no such workspace")

func (a *api) workspaceRoutes() {
	const one = workspacesPath + "/{id}"
	handle(a, route{
		method: http.MethodGet, path: workspacesPath, who: managers, status: http.StatusOK,
		summary: "Lists the workspaces that the key sees: its own; for the operator all",
		query:   []param{{"cursor", "Where to go on, from the Link header"}, {"limit", "Workspaces on a page, 1 to " + strconv.Itoa(maxPageSize)}},
	}, a.listWorkspaces)
	handle(a, route{
		method: http.MethodGet, path: one, who: managers, status: http.StatusOK, summary: "Shows a workspace",
	}, a.showWorkspace)
	if a.Catalog == nil {
		return
	}
	handle(a, route{
		method: http.MethodPost, path: workspacesPath, who: operatorOnly, status: http.StatusCreated, summary: "Makes a workspace",
		example: map[string]string{"id": "acme", "plan": "lite"},
	}, a.createWorkspace)
	handle(a, route{
		method: http.MethodPatch, path: one, who: managers, status: http.StatusOK, matches: true,
		summary: "Changes a workspace: what isn't named stays, null removes. Its admins change labels and keyDefaults, the operator everything",
		example: map[string]any{"labels": map[string]string{"team": "search"}},
	}, a.updateWorkspace)
	handle(a, route{
		method: http.MethodDelete, path: one, who: operatorOnly, status: http.StatusNoContent, matches: true,
		summary: "Deletes a workspace with its users. Its keys open nothing any more, also if one of the same id is made later",
	}, a.deleteWorkspace)
	if a.Budgets != nil {
		a.creditRoutes()
	}
	for verb, suspend := range map[string]bool{"suspend": true, "resume": false} {
		summary := "Refuses everything that is done with a key of the workspace, from now on"
		if !suspend {
			summary = "Takes a suspension back"
		}
		handle(a, route{
			method: http.MethodPost, path: one + "/" + verb, who: operatorOnly, status: http.StatusOK, summary: summary, matches: true,
		}, func(ctx context.Context, c *call, _ none) (Workspace, error) {
			return a.changeWorkspace(ctx, c, func(w *catalog.WorkspaceSpec) error {
				w.Suspended = suspend
				set(&w.Managed, suspended)
				return nil
			})
		})
	}
}

func viewWorkspace(w *catalog.Workspace) Workspace {
	return Workspace{
		ID: w.ID, Plan: w.Plan.ID, Suspended: w.Suspended, KeyDefaults: KeyDefaults{w.KeyDefaults.Actions},
		KeyFormat: w.Format.String(), Multiplier: orNull(w.Spec.Multiplier), ExternalID: orNull(w.ExternalID), Labels: w.Labels,
		Budget: staticBudget(w), Credit: staticCredit(w), Managed: listed(w.Spec.Managed),
	}
}

// listed is a list that is never null.
func listed(words []string) []string {
	if words == nil {
		return []string{}
	}
	return words
}

func (a *api) listWorkspaces(_ context.Context, c *call, _ none) ([]Workspace, error) {
	tables := a.Tables()
	ids := slices.Sorted(maps.Keys(tables.Workspaces))
	if !c.who.operator() {
		ids = slices.DeleteFunc(ids, func(id string) bool { return id != c.who.home() })
	}
	return page(c, "workspaces", ids, func(id string) (Workspace, string) {
		w := tables.Workspaces[id]
		return a.fillIn(viewWorkspace(w), w), id
	})
}

// page cuts a list of a kind, in the order of its names, to what the query asks for.
func page[T, V any](c *call, list string, all []T, view func(T) (v V, name string)) ([]V, error) {
	limit, err := c.number("limit", pageSize, 1, maxPageSize)
	if err != nil {
		return nil, err
	}
	after, err := c.behind(list)
	if err != nil {
		return nil, err
	}
	last, out := "", []V{}
	for _, item := range all {
		v, name := view(item)
		if name <= after {
			continue
		}
		if len(out) == limit {
			c.linkNext("cursor", cursorBehind(list, last))
			break
		}
		out, last = append(out, v), name
	}
	return out, nil
}

// home is the workspace of a caller's key, "" for the operator.
func (c *caller) home() string {
	if c.operator() {
		return ""
	}
	return c.rec.Workspace
}

func (a *api) showWorkspace(ctx context.Context, c *call, _ none) (Workspace, error) {
	tables := a.Tables()
	w := tables.Workspaces[c.r.PathValue("id")]
	if w == nil || !c.who.operator() && w.ID != c.who.home() {
		return Workspace{}, errNoWorkspace
	}
	c.header.Set("ETag", etag(tables.Version))
	return a.withResources(ctx, a.fillIn(viewWorkspace(w), w), w)
}

func (a *api) createWorkspace(ctx context.Context, c *call, req WorkspaceRequest) (Workspace, error) {
	if req.ID == "" {
		return Workspace{}, invalid("id", "is missing; choose one of 1 to 63 of a-z, 0-9 and -")
	}
	err := a.changeCatalog(ctx, c, func(doc *catalog.Catalog) error {
		if findWorkspace(doc, req.ID) >= 0 {
			return &Error{Status: http.StatusConflict, StatusMessage: http.StatusText(http.StatusConflict), ID: req.ID,
				Message: "id: there is a workspace of that id; change it or choose another"}
		}
		w := catalog.WorkspaceSpec{ID: req.ID, Managed: []string{catalog.Everything}}
		if err := req.apply(&w); err != nil {
			return err
		}
		doc.Workspaces = append(doc.Workspaces, w)
		return a.checked(doc, "workspaces", len(doc.Workspaces)-1)
	})
	if err != nil {
		return Workspace{}, err
	}
	return a.workspaceNow(c, req.ID)
}

// workspaceNow tells a workspace after a change.
func (a *api) workspaceNow(c *call, id string) (Workspace, error) {
	w := a.Tables().Workspaces[id]
	if w == nil { // somebody removed it meanwhile
		return Workspace{}, errNoWorkspace
	}
	v := viewWorkspace(w)
	c.is("workspace", id, id, v)
	v = a.fillIn(v, w)
	if all, err := a.withResources(c.r.Context(), v, w); err == nil {
		return all, nil
	}
	return v, nil // the change is made
}

// workspaceWas is userWas of a workspace.
func (a *api) workspaceWas(c *call, doc *catalog.Catalog, id string) (int, error) {
	i := findWorkspace(doc, id)
	if i < 0 {
		return 0, errNoWorkspace
	}
	if was := a.Tables().Workspaces[id]; was != nil {
		c.was("workspace", id, id, viewWorkspace(was))
	}
	return i, nil
}

func findWorkspace(doc *catalog.Catalog, id string) int {
	return slices.IndexFunc(doc.Workspaces, func(w catalog.WorkspaceSpec) bool { return w.ID == id })
}

func (a *api) updateWorkspace(ctx context.Context, c *call, fields WorkspaceFields) (Workspace, error) {
	if !c.who.operator() && c.r.PathValue("id") == c.who.home() {
		if err := c.who.administers(); err != nil {
			return Workspace{}, err
		}
		if err := fields.forOperator(); err != nil {
			return Workspace{}, err
		}
	}
	if fields.Resources.Said {
		return a.correctResources(ctx, c, fields)
	}
	return a.changeWorkspace(ctx, c, func(w *catalog.WorkspaceSpec) error {
		if fields.Plan.Said && fields.Plan.To == nil {
			return invalid("plan", "a workspace has a plan; name one")
		}
		return fields.apply(w)
	})
}

// changeWorkspace edits the workspace that the path names, if the caller sees it.
func (a *api) changeWorkspace(ctx context.Context, c *call, edit func(*catalog.WorkspaceSpec) error) (Workspace, error) {
	id := c.r.PathValue("id")
	if !c.who.operator() && id != c.who.home() {
		return Workspace{}, errNoWorkspace
	}
	err := a.changeCatalog(ctx, c, func(doc *catalog.Catalog) error {
		i, err := a.workspaceWas(c, doc, id)
		if err != nil {
			return err
		}
		if err := edit(&doc.Workspaces[i]); err != nil {
			return err
		}
		return a.checked(doc, "workspaces", i)
	})
	if err != nil {
		return Workspace{}, err
	}
	a.Logger.Info("workspace changed", "workspace", id, "by", c.who.name())
	return a.workspaceNow(c, id)
}

func (a *api) deleteWorkspace(ctx context.Context, c *call, _ none) (none, error) {
	id := c.r.PathValue("id")
	err := a.changeCatalog(ctx, c, func(doc *catalog.Catalog) error {
		i, err := a.workspaceWas(c, doc, id)
		if err != nil {
			return err
		}
		doc.Workspaces = slices.Delete(doc.Workspaces, i, i+1)
		doc.Users = slices.DeleteFunc(doc.Users, func(u catalog.UserSpec) bool { return u.Workspace == id })
		for i := range doc.Models {
			m := &doc.Models[i]
			if slices.Contains(m.Workspaces, id) {
				// Not nil, which would be all: nobody else sees it because of this.
				m.Workspaces = slices.DeleteFunc(slices.Clone(m.Workspaces), func(w string) bool { return w == id })
			}
		}
		for i := range doc.Routes {
			if r := &doc.Routes[i]; r.Observe.Workspace == id {
				return refuse(http.StatusConflict, "It owns what the route of dialect %s observes; name another workspace there first", r.Dialect)
			}
		}
		return a.checked(doc, "", 0)
	})
	if err == nil {
		a.Logger.Info("workspace deleted", "workspace", id, "by", c.who.name())
	}
	return none{}, err
}

// checked says what is wrong with a changed catalog, of entry i of a list in the
// words of the request's fields.
func (a *api) checked(doc *catalog.Catalog, list string, i int) error {
	err := a.Catalog.Check(doc)
	if e, ok := errors.AsType[*catalog.Error](err); ok && len(e.Problems) > 0 {
		p := e.Problems[0]
		if field, ours := strings.CutPrefix(p.Path, list+"["+strconv.Itoa(i)+"]."); ours {
			return invalid(field, "%s", p.Message)
		}
		return refuse(http.StatusConflict, "The catalog can't be changed so: %s", p)
	}
	if _, ok := errors.AsType[*Error](err); err == nil || ok {
		return err
	}
	return refuse(http.StatusConflict, "The catalog can't come into force: %s", strings.TrimSpace(err.Error()))
}
