package manage

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"tollgate/authz/catalog"
)

// administers refuses a caller who doesn't manage its workspace and the people in
// it: a member, and a key that is limited to some models, which manages these.
func (c *caller) administers() error {
	switch {
	case c.operator():
		return nil
	case c.member:
		return refuse(http.StatusForbidden, "Members don't manage the workspace; ask an admin of it")
	case c.rec.Models != nil:
		return refuse(http.StatusForbidden, "The presented key is limited to some models and manages these only; use one that is not")
	}
	return nil
}

// forOperator refuses fields that a tenant may not set.
func (f *WorkspaceFields) forOperator() error {
	for _, field := range []struct {
		name string
		said bool
	}{
		{"plan", f.Plan.Said},
		{"keyFormat", f.KeyFormat.Said},
		{"multiplier", f.Multiplier.Said},
		{"externalId", f.ExternalID.Said},
		{"resources", f.Resources.Said},
	} {
		if field.said {
			return refuse(http.StatusForbidden, "%s: this takes the operator's key", field.name)
		}
	}
	return nil
}

// apply makes the changes to w and notes that they are the API's. What is wrong
// with a value the catalog's own check finds.
func (f *WorkspaceFields) apply(w *catalog.WorkspaceSpec) error {
	if f.Resources.Said {
		return invalid("resources", "a new workspace has none yet; correct them once it is there")
	}
	for _, t := range []struct {
		name string
		Change[string]
		field *string
	}{
		{"plan", f.Plan, &w.Plan},
		{"keyFormat", f.KeyFormat, &w.KeyFormat},
		{"multiplier", f.Multiplier, &w.Multiplier},
		{"externalId", f.ExternalID, &w.ExternalID},
	} {
		t.apply(t.name, t.field, &w.Managed)
	}
	if f.KeyDefaults.Said {
		w.KeyDefaults = catalog.KeyDefaultsSpec{}
		if f.KeyDefaults.To != nil {
			w.KeyDefaults.Actions = slices.Clone(f.KeyDefaults.To.Actions)
		}
		if w.KeyDefaults.Actions != nil && len(w.KeyDefaults.Actions) == 0 {
			return invalid("keyDefaults.actions", "a key needs at least one of %s; null is infer", list(allActions))
		}
		set(&w.Managed, "keyDefaults")
	}
	return applyLabels(f.Labels, &w.Labels, &w.Managed)
}

// apply sets a plain text, where the request says something of it.
func (c Change[T]) apply(name string, field *T, managed *[]string) {
	if !c.Said {
		return
	}
	var value T
	if c.To != nil {
		value = *c.To
	}
	*field = value
	set(managed, name)
}

// applyLabels makes the changes to labels.
func applyLabels(change Change[map[string]*string], labels *map[string]string, managed *[]string) error {
	if !change.Said {
		return nil
	}
	set(managed, "labels")
	next := map[string]string{}
	if change.To != nil {
		maps.Copy(next, *labels)
		for name, value := range *change.To {
			switch {
			case value == nil:
				delete(next, name)
			case strings.TrimSpace(*value) == "":
				return invalid("labels."+printable(name, maxLabel), "is empty; null removes it")
			default:
				next[name] = *value
			}
		}
	}
	if *labels = next; len(next) == 0 {
		*labels = nil
	}
	return nil
}
