package manage

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"tollgate/authz/catalog"
)

// A consumer of one workspace's events goes with the workspace: else it would get
// those of another one that is given the same id later.

func workspaceIDs(doc *catalog.Catalog) []string {
	ids := make([]string, len(doc.Workspaces))
	for i := range doc.Workspaces {
		ids[i] = doc.Workspaces[i].ID
	}
	return ids
}

// without are the ids that are not among others.
func without(ids, others []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(others, id) })
}

// dropConsumers deletes the consumers of workspaces. It says which are left where it
// can't.
func (a *api) dropConsumers(ctx context.Context, workspaces []string) error {
	if a.Consumers == nil || len(workspaces) == 0 {
		return nil
	}
	all, err := a.Consumers.List(ctx)
	if err != nil {
		a.Logger.Error("the consumers of a deleted workspace could not be looked at", "workspaces", workspaces, "error", err)
		return refuse(http.StatusServiceUnavailable,
			"The consumers of a workspace that is deleted can't be looked at, so they are not deleted with it: look for them (tollgate consumer list)")
	}
	var left []string
	for _, c := range all {
		if c.Workspace == nil || !slices.Contains(workspaces, *c.Workspace) {
			continue
		}
		if one := a.Consumers.Delete(ctx, c.Name); one != nil && !errors.Is(one, ErrNoConsumer) {
			left, err = append(left, c.Name), one
			continue
		}
		a.Logger.Info("consumer deleted with its workspace", "consumer", c.Name, "workspace", *c.Workspace)
	}
	if len(left) == 0 {
		return nil
	}
	a.Logger.Error("consumers of a deleted workspace could not be deleted", "consumers", left, "error", err)
	return refuse(http.StatusServiceUnavailable, "Consumers of a workspace that is deleted could not be deleted with it: %s. Delete them: tollgate consumer delete NAME",
		strings.Join(left, ", "))
}
