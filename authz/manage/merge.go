package manage

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"tollgate/authz/catalog"
)

// CatalogChange is one difference that an apply makes.
type CatalogChange struct {
	Action string   `json:"action" enum:"add,change,remove"`
	Kind   string   `json:"kind" enum:"workspace,user,plan,model,route,settings"`
	ID     string   `json:"id"`
	Fields []string `json:"fields,omitzero" doc:"Of a change: which fields differ"`
}

// merged is a catalog after an apply, and what the apply changed.
type merged struct {
	catalog.Catalog
	changes []CatalogChange
	notes   []string
	prune   bool
}

// ApplyChanges reports whether an apply of what was written, without prune, would
// change what is stored.
func ApplyChanges(stored, written *catalog.Catalog) bool {
	return len(merge(stored, written, false).changes) > 0
}

// merge puts what was written over what is stored. What isn't written stays,
// unless prune, and so does what the API made or set (see keep). Whether a model
// that is stored is deployed stays in any case: that is the business of deploy and
// undeploy.
func merge(stored, written *catalog.Catalog, prune bool) *merged {
	m := &merged{prune: prune}
	models := slices.Clone(written.Models)
	for i := range models {
		m.keepDeployed(stored, &models[i])
	}
	m.Plans = mergeList(m, "plan", stored.Plans, written.Plans, func(s *catalog.PlanSpec) string { return s.ID })
	workspaces := keep(m, "workspace", stored.Workspaces, withCredit(stored.Workspaces, written.Workspaces), workspaceName, ofWorkspace)
	users := keep(m, "user", stored.Users, written.Users, userName, ofUser)
	m.Workspaces = mergeList(m, "workspace", stored.Workspaces, workspaces, workspaceName)
	m.Users = mergeList(m, "user", stored.Users, users, userName)
	m.Models = mergeList(m, "model", stored.Models, models, func(s *catalog.ModelSpec) string { return s.ID })
	m.Routes = mergeList(m, "route", stored.Routes, written.Routes, routeName)
	m.Settings = stored.Settings
	if unsaid := len(differences(catalog.SettingsSpec{}, written.Settings)) == 0; !unsaid || prune {
		if fields := differences(stored.Settings, written.Settings); len(fields) > 0 {
			m.changes = append(m.changes, CatalogChange{"change", "settings", "", fields})
		}
		m.Settings = written.Settings
	}
	return m
}

// keepDeployed gives a model the state that its stored one has.
func (m *merged) keepDeployed(stored *catalog.Catalog, spec *catalog.ModelSpec) {
	for i := range stored.Models {
		old := &stored.Models[i]
		if old.ID != spec.ID {
			continue
		}
		is := old.Deployed == nil || *old.Deployed
		if spec.Deployed != nil && *spec.Deployed != is {
			verb := "deploy"
			if is {
				verb = "undeploy"
			}
			m.notes = append(m.notes, fmt.Sprintf("model %s: deployed stays %t; use tollgate model %s %s", spec.ID, is, verb, spec.ID))
		}
		spec.Deployed = old.Deployed
	}
}

// routeName tells routes of one dialect apart by their hosts, of which a catalog's
// routes of a dialect have none in common.
func routeName(s *catalog.RouteSpec) string {
	if len(s.Hosts) == 0 {
		return s.Dialect
	}
	hosts := make([]string, len(s.Hosts))
	for i, h := range s.Hosts {
		hosts[i] = strings.ToLower(h)
	}
	slices.Sort(hosts)
	return s.Dialect + " for " + strings.Join(hosts, ", ")
}

// mergeList merges what has an id each, keeps the stored order and appends what
// is new.
func mergeList[T any](m *merged, kind string, stored, written []T, id func(*T) string) []T {
	at := make(map[string]int, len(written))
	for i := range written {
		at[id(&written[i])] = i
	}
	var out []T
	known := make(map[string]bool, len(stored))
	for i := range stored {
		name := id(&stored[i])
		known[name] = true
		j, ok := at[name]
		switch {
		case ok:
			if fields := differences(stored[i], written[j]); len(fields) > 0 {
				m.changes = append(m.changes, CatalogChange{"change", kind, name, fields})
			}
			out = append(out, written[j])
		case m.prune:
			m.changes = append(m.changes, CatalogChange{"remove", kind, name, nil})
		default:
			out = append(out, stored[i])
		}
	}
	for i := range written {
		if name := id(&written[i]); !known[name] {
			m.changes = append(m.changes, CatalogChange{"add", kind, name, nil})
			out = append(out, written[i])
		}
	}
	return out
}

// differences are the JSON names of the fields in which two structs differ.
func differences[T any](a, b T) (fields []string) {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			name, _, _ := strings.Cut(x.Type().Field(i).Tag.Get("json"), ",")
			fields = append(fields, name)
		}
	}
	return fields
}
