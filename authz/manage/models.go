package manage

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
)

// Model is a model as the API tells it: nothing of its credential.
type Model struct {
	ID       string `json:"id"`
	Deployed bool   `json:"deployed"`
	// Operator is what only the operator is told.
	*OperatorModel
}

// OperatorModel is where a model is and who sees it.
type OperatorModel struct {
	Workspaces    []string `json:"workspaces" doc:"Who sees it; null: all. For the operator only"`
	Upstreams     []string `json:"upstreams" doc:"Where it is served; for the operator only"`
	UpstreamModel string   `json:"upstreamModel" doc:"The name that the upstream knows; for the operator only"`
}

// ModelRequest names a model.
type ModelRequest struct {
	Model string `json:"model"`
}

func (a *api) modelRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/api/v1/models", who: managers, status: http.StatusOK,
		summary: "Lists the models that the key's workspace sees; for the operator all",
		query:   []param{{"cursor", "Where to go on, from the Link header"}, {"limit", "Models on a page, 1 to " + strconv.Itoa(maxPageSize)}},
	}, a.listModels)
	if a.Catalog == nil {
		return
	}
	for path, deployed := range map[string]bool{"/api/v1/models/deploy": true, "/api/v1/models/undeploy": false} {
		summary := "Deploys a model"
		if !deployed {
			summary = "Undeploys a model; requests that were let through go on to their end"
		}
		handle(a, route{
			method: http.MethodPost, path: path, who: managers, status: http.StatusOK, summary: summary,
		}, func(ctx context.Context, c *call, req ModelRequest) (Model, error) {
			return a.deploy(ctx, c, req.Model, deployed)
		})
	}
}

func (a *api) listModels(_ context.Context, c *call, _ none) ([]Model, error) {
	return page(c, "models", a.modelsOf(c.who), func(m *catalog.Model) (Model, string) { return viewModel(m, c.who), m.ID })
}

// modelsOf are the models that exist as far as a caller is concerned, by id.
func (a *api) modelsOf(who *caller) []*catalog.Model {
	tables := a.Tables()
	if who.operator() {
		return slices.SortedFunc(maps.Values(tables.Models), func(x, y *catalog.Model) int { return strings.Compare(x.ID, y.ID) })
	}
	workspace := tables.Workspaces[who.rec.Workspace]
	if workspace == nil { // deleted meanwhile
		return nil
	}
	plan := workspace.Plan
	var seen []*catalog.Model
	for _, m := range tables.ModelsFor(who.rec.Workspace) {
		if plan.Allows(m.ID) && who.rec.Opens(m.ID) {
			seen = append(seen, m)
		}
	}
	return seen
}

func viewModel(m *catalog.Model, who *caller) Model {
	v := Model{ID: m.ID, Deployed: m.Deployed}
	if !who.operator() {
		return v
	}
	v.OperatorModel = &OperatorModel{Workspaces: m.Workspaces, Upstreams: []string{}, UpstreamModel: m.UpstreamModel}
	for _, u := range m.Upstreams {
		v.Upstreams = append(v.Upstreams, u.URL)
	}
	return v
}

// deploy changes whether a model is deployed, in the stored catalog.
func (a *api) deploy(ctx context.Context, c *call, id string, deployed bool) (Model, error) {
	if id == "" {
		return Model{}, invalid("model", "is missing; send the model's id")
	}
	if err := a.mayDeploy(c.who, id); err != nil {
		return Model{}, err
	}
	err := a.changeCatalog(ctx, c, func(doc *catalog.Catalog) error {
		for i := range doc.Models {
			if doc.Models[i].ID == id && ownedBy(c.who, &doc.Models[i]) {
				c.was("model", id, c.who.home(), deployment{doc.Models[i].Deployed == nil || *doc.Models[i].Deployed})
				doc.Models[i].Deployed = &deployed
				return nil
			}
		}
		return errNoModel
	})
	if err != nil {
		return Model{}, err
	}
	m := a.Tables().Models[id]
	if m == nil { // somebody removed it meanwhile
		return Model{}, errNoModel
	}
	c.is("model", id, c.who.home(), deployment{m.Deployed})
	a.Logger.Info("model deployment changed", "model", id, "deployed", deployed, "by", c.who.name())
	return viewModel(m, c.who), nil
}

var errNoModel = refuse(http.StatusNotFound, "model: there is no such model; GET /api/v1/models lists them")

// deployment is what the audit trail says of a model.
type deployment struct {
	Deployed bool `json:"deployed"`
}

// ownedBy reports whether a caller may change a model as it is stored: since
// mayDeploy looked, somebody may have given it to others.
func ownedBy(who *caller, m *catalog.ModelSpec) bool {
	return who.operator() || len(m.Workspaces) == 1 && m.Workspaces[0] == who.rec.Workspace
}

// mayDeploy refuses a tenant everything but a model of its own. One that it
// doesn't see and one that isn't there are the same answer.
func (a *api) mayDeploy(who *caller, id string) error {
	if who.operator() {
		return nil
	}
	for _, m := range a.modelsOf(who) {
		switch {
		case m.ID != id:
		case len(m.Workspaces) != 1:
			return refuse(http.StatusForbidden, "model: its workspaces in the catalog don't name this one alone; this takes the operator's key")
		case who.member:
			return refuse(http.StatusForbidden, "model: members don't deploy models; ask an admin of the workspace")
		default:
			return nil
		}
	}
	return errNoModel
}

// changeCatalog reads, edits and stores the catalog, anew whenever somebody
// else was faster, and waits until no replica goes by an older one. What changes
// nothing is not stored; the answer says all the same who goes by it. It goes on
// when the client hangs up.
func (a *api) changeCatalog(ctx context.Context, c *call, edit func(*catalog.Catalog) error) error {
	caller := ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	for try := 1; ; try++ {
		doc, revision, err := a.Catalog.Load(ctx)
		if err != nil {
			return err
		}
		if err := c.mustMatch(revision); err != nil {
			return err
		}
		revision, err = a.editCatalog(ctx, c, doc, revision, edit)
		if err == nil {
			c.header.Set("ETag", etag(revision))
			a.reach(caller, c, revision)
			return nil
		}
		if try == tries || !errors.Is(err, key.ErrConflict) {
			return err
		}
		// This replica may not have come as far as the store.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(try) * 5 * time.Millisecond):
		}
	}
}

// editCatalog edits a catalog that was loaded at a revision, and stores it if
// that changed anything and the caller may have so much of it.
func (a *api) editCatalog(ctx context.Context, c *call, doc *catalog.Catalog, revision uint64, edit func(*catalog.Catalog) error) (uint64, error) {
	before, err := catalog.Encode(doc)
	if err != nil {
		return 0, err
	}
	generations, workspaces, was := doc.Generations(), workspaceIDs(doc), shareOf(doc, c.who.home())
	if err := edit(doc); err != nil {
		return 0, err
	}
	doc.Stamp(generations, newGeneration)
	after, err := catalog.Encode(doc)
	if err != nil {
		return 0, err
	}
	if c.note.unchanged = bytes.Equal(before, after); c.note.unchanged {
		return revision, nil
	}
	if err := a.withinQuota(c.who, was, doc, len(after)); err != nil {
		return 0, err
	}
	// Some may be left of one that was deleted while the store was away.
	if err := a.dropConsumers(ctx, without(workspaceIDs(doc), workspaces)); err != nil {
		return 0, err
	}
	if revision, err = a.Catalog.Store(ctx, doc, revision); err != nil {
		return 0, err
	}
	return revision, a.dropConsumers(ctx, without(workspaces, workspaceIDs(doc)))
}

// newGeneration is 65 random bits, of which no two are the same.
func newGeneration() string { return rand.Text()[:13] }
