package catalog

import (
	"fmt"

	"tollgate/authz/dialect"
)

// lists checks that what lists objects at an upstream is not asked with a credential
// of the operator's: the upstream knows nobody else then, and lists what all
// workspaces have in that account.
func (s *source) lists(c *Catalog) {
	withCredential := make(map[string]bool, len(c.Models))
	for i := range c.Models {
		withCredential[c.Models[i].ID] = c.Models[i].Credential != nil
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		d, ok := dialect.Lookup(r.Dialect)
		if !ok || !withCredential[r.Model] {
			continue
		}
		if list := d.ListsObjects(); list != nil {
			s.invalidf(fmt.Sprintf("routes[%d].model", i), "%s has a credential, with which %s would answer every caller with what all workspaces have in that account; "+
				"use upstream, or a model without a credential, and let what is there list what belongs to x-tollgate-workspace", quote(r.Model), list.Name())
		}
	}
}
