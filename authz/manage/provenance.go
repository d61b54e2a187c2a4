package manage

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"tollgate/authz/catalog"
)

// An apply touches only what an apply made: what the API made, and what it set of
// something that an apply made, stays as it is. With prune the file's takes its
// place, all but whether somebody is suspended: that is lifted by a command only,
// or a file from before would let back in whom the operator has shut out.

// suspended is the one field that not even a prune takes from the API.
const suspended = "suspended"

// set notes that the API set a field of a workspace or a user.
func set(managed *[]string, field string) {
	whole := slices.Contains(*managed, catalog.Everything) && field != suspended
	if !whole && !slices.Contains(*managed, field) {
		*managed = append(*managed, field)
		slices.Sort(*managed)
	}
}

// provenance is where a workspace or a user comes from, see package catalog.
type provenance struct {
	managed    *[]string
	generation *string
	byAdmin    *bool // a tenant suspended it
}

func ofWorkspace(s *catalog.WorkspaceSpec) provenance {
	return provenance{&s.Managed, &s.Generation, new(false)}
}

func ofUser(s *catalog.UserSpec) provenance {
	return provenance{&s.Managed, &s.Generation, &s.SuspendedByAdmin}
}

func workspaceName(s *catalog.WorkspaceSpec) string { return s.ID }

func userName(s *catalog.UserSpec) string { return s.Workspace + "/" + s.ID }

// keep is what of a written list an apply may put over the stored one.
func keep[T any](m *merged, kind string, stored, written []T, name func(*T) string, of func(*T) provenance) []T {
	was := make(map[string]*T, len(stored))
	for i := range stored {
		was[name(&stored[i])] = &stored[i]
	}
	out := slices.Clone(written)
	for i := range out {
		next := of(&out[i])
		*next.managed, *next.generation, *next.byAdmin = nil, "", false // a text says nothing of them
		old := was[name(&out[i])]
		if old == nil {
			continue
		}
		*next.managed, *next.generation = slices.Clone(*of(old).managed), *of(old).generation
		if m.prune {
			*next.managed = slices.DeleteFunc(*next.managed, func(field string) bool { return field != suspended })
			if len(*next.managed) == 0 {
				*next.managed = nil
			}
		}
		*next.byAdmin = *of(old).byAdmin && slices.Contains(*next.managed, suspended)
		m.keepFields(kind, name(old), reflect.ValueOf(old).Elem(), reflect.ValueOf(&out[i]).Elem(), *next.managed)
	}
	return out
}

// keepFields gives next the values that old has of the fields that the API set.
func (m *merged) keepFields(kind, name string, old, next reflect.Value, managed []string) {
	all := slices.Contains(managed, catalog.Everything)
	var differ []string
	for i := range old.NumField() {
		field, _, _ := strings.Cut(old.Type().Field(i).Tag.Get("json"), ",")
		if !all && !slices.Contains(managed, field) || reflect.DeepEqual(old.Field(i).Interface(), next.Field(i).Interface()) {
			continue
		}
		differ = append(differ, field)
		next.Field(i).Set(old.Field(i))
	}
	for _, field := range differ {
		switch {
		case field == suspended && slices.Contains(managed, suspended):
			m.notes = append(m.notes, fmt.Sprintf("%s %s: suspended stays as a command set it; use tollgate %s suspend or resume", kind, name, kind))
		case all:
			m.notes = append(m.notes, fmt.Sprintf("%s %s: it was made by a command, so its %s stays; --prune puts the file's in its place", kind, name, field))
		default:
			m.notes = append(m.notes, fmt.Sprintf("%s %s: %s stays as a command set it; --prune puts the file's in its place", kind, name, field))
		}
	}
}
