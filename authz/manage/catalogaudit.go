package manage

import (
	"encoding/json" // as the stored form is written

	"tollgate/authz/catalog"
)

// appliedValues are what the audit trail says of an apply: by kind and id, such as
// "plan lite", the fields that it changes, before and after; of what it adds or
// removes all fields. Where an upstream's secret comes from is not shown.
type appliedValues map[string]map[string]json.RawMessage

// values compares a catalog with what an apply makes of it.
func (m *merged) values(stored *catalog.Catalog) (before, after appliedValues) {
	was, is := entries(stored), entries(&m.Catalog)
	before, after = appliedValues{}, appliedValues{}
	for _, c := range m.changes {
		name := c.Kind
		if c.ID != "" {
			name += " " + c.ID
		}
		before.add(name, was[name], c.Fields)
		after.add(name, is[name], c.Fields)
	}
	return before, after
}

// add notes the named fields of an entry, or all where none is named.
func (v appliedValues) add(name string, entry any, fields []string) {
	if entry == nil {
		return
	}
	text, err := json.Marshal(entry)
	if err != nil {
		return // a catalog that is stored can be written
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return
	}
	if all["credential"] != nil {
		all["credential"] = json.RawMessage(`"not shown"`)
	}
	if len(fields) > 0 {
		some := make(map[string]json.RawMessage, len(fields))
		for _, f := range fields {
			if all[f] == nil { // left out: the default
				all[f] = json.RawMessage("null")
			}
			some[f] = all[f]
		}
		all = some
	}
	v[name] = all
}

// entries are what a catalog declares, by kind and id as a CatalogChange has them.
func entries(c *catalog.Catalog) map[string]any {
	all := map[string]any{"settings": &c.Settings}
	for i := range c.Workspaces {
		all["workspace "+c.Workspaces[i].ID] = &c.Workspaces[i]
	}
	for i := range c.Users {
		all["user "+userName(&c.Users[i])] = &c.Users[i]
	}
	for i := range c.Plans {
		all["plan "+c.Plans[i].ID] = &c.Plans[i]
	}
	for i := range c.Models {
		all["model "+c.Models[i].ID] = &c.Models[i]
	}
	for i := range c.Routes {
		all["route "+routeName(&c.Routes[i])] = &c.Routes[i]
	}
	return all
}
