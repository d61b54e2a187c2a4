package manage

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"tollgate/authz/catalog"
)

// Catalog stores the catalog. All methods may block on I/O until their context
// ends; errors wrap the sentinels of package key.
type Catalog interface {
	// Load returns the stored catalog, for the caller to change, and its
	// revision: 0 and an empty one where nothing is stored yet.
	Load(ctx context.Context) (*catalog.Catalog, uint64, error)
	// Check says what keeps a catalog from coming into force here, such as a
	// missing environment variable, in words for the operator.
	Check(*catalog.Catalog) error
	// Store stores a catalog if the revision in the store is still expect, and
	// returns the new revision once the catalog is in force at this replica.
	Store(ctx context.Context, c *catalog.Catalog, expect uint64) (uint64, error)
	// Refresh reads again what the stored catalog only names, such as a file with
	// a credential, and returns once that is in force.
	Refresh(ctx context.Context) error
}

// Applied is the answer to an apply.
type Applied struct {
	DryRun  bool            `json:"dryRun"`
	Changes []CatalogChange `json:"changes"`
	Notes   []string        `json:"notes" doc:"What was written and not done, and what would do it"`
}

func (a *api) catalogRoutes() {
	const path = "/api/v1/catalog"
	handle(a, route{
		method: http.MethodGet, path: path, who: operatorOnly, status: http.StatusOK,
		summary: "The stored catalog, as JSON", media: "application/json",
	}, func(ctx context.Context, c *call, _ none) (raw, error) {
		doc, revision, err := a.Catalog.Load(ctx)
		if err != nil {
			return nil, err
		}
		c.header.Set("X-Tollgate-Revision", strconv.FormatUint(revision, 10))
		return catalog.Encode(doc)
	})
	handle(a, route{
		method: http.MethodPut, path: path, who: operatorOnly, status: http.StatusOK, body: catalog.MaxSize,
		summary: "Applies a catalog, in YAML or JSON, to the stored one",
		query: []param{
			{"dryRun", "true: tell what would change, and change nothing"},
			{"prune", "true: remove what the given catalog does not have"},
			{"name", "What the text is called in messages, such as its file's name"},
		},
	}, a.applyCatalog)
}

func (a *api) applyCatalog(ctx context.Context, c *call, text raw) (Applied, error) {
	dryRun, err := c.flag("dryRun")
	if err != nil {
		return Applied{}, err
	}
	prune, err := c.flag("prune")
	if err != nil {
		return Applied{}, err
	}
	if len(text) == 0 {
		return Applied{}, refuse(http.StatusBadRequest, "The body is empty; send a catalog in YAML or JSON")
	}
	name := c.query.Get("name")
	if name == "" {
		name = "catalog"
	}
	written, err := catalog.Parse(printable(name, maxText), text)
	if err != nil {
		return Applied{}, refuse(http.StatusBadRequest, "%s", strings.TrimSpace(err.Error()))
	}
	var done *merged
	check := func(stored *catalog.Catalog) error {
		done = merge(stored, written, prune)
		if err := a.Catalog.Check(&done.Catalog); err != nil {
			if e, ok := errors.AsType[*Error](err); ok {
				return e
			}
			return refuse(http.StatusBadRequest, "%s", strings.TrimSpace(err.Error()))
		}
		before, after := done.values(stored)
		c.was("catalog", "", "", before)
		c.is("catalog", "", "", after)
		*stored = done.Catalog
		return nil
	}
	stored, _, err := a.Catalog.Load(ctx)
	if err != nil {
		return Applied{}, err
	}
	if err := check(stored); err != nil {
		return Applied{}, err
	}
	switch {
	case dryRun:
		c.note.silent = true
	case len(done.changes) == 0:
		err = a.Catalog.Refresh(ctx)
	default:
		if err = a.changeCatalog(ctx, c, check); err == nil {
			a.Logger.Info("catalog applied", "changes", len(done.changes), "by", c.who.name())
		}
	}
	if err != nil {
		return Applied{}, err
	}
	out := Applied{DryRun: dryRun, Changes: done.changes, Notes: done.notes}
	if out.Changes == nil {
		out.Changes = []CatalogChange{}
	}
	if out.Notes == nil {
		out.Notes = []string{}
	}
	return out, nil
}

// flag reads true or false from the query.
func (c *call) flag(name string) (bool, error) {
	switch c.query.Get(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, invalid(name, "must be true or false")
}
