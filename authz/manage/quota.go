package manage

import (
	"encoding/json" // as the stored form is written
	"net/http"
	"slices"

	"tollgate/authz/catalog"
)

// The catalog is one document of bounded size. So what tenants put into it by
// themselves is bounded, each by itself and all together, and a part of the room is
// for the operator alone: nobody must go on because there is no room to write down
// that they are suspended.
const (
	// maxTenantUsers is how many users a workspace has at most that its own keys
	// make; the operator may make more.
	maxTenantUsers = 500
	// maxTenantBytes bounds in the same way the bytes of the workspace and its users
	// in the stored form: labels, above all.
	maxTenantBytes = 128 << 10
	// tenantsPart is how much of the room tenants may use: 7/8.
	tenantsPart, ofParts = 7, 8
	// suspensionBytes is the most that one suspension adds to the stored form. Room
	// for that of everybody is left.
	suspensionBytes = 80
)

// share is what a workspace has of the stored catalog. Suspensions don't count:
// they may always be made.
type share struct{ users, bytes int }

func shareOf(doc *catalog.Catalog, workspace string) share {
	var s share
	add := func(entry any) {
		if text, err := json.Marshal(entry); err == nil { // what was stored can be written
			s.bytes += len(text)
		}
	}
	for _, w := range doc.Workspaces {
		if w.ID == workspace {
			w.Suspended, w.Managed = false, withoutSuspension(w.Managed)
			add(w)
		}
	}
	for _, u := range doc.Users {
		if u.Workspace == workspace {
			u.Suspended, u.SuspendedByAdmin, u.Managed = false, false, withoutSuspension(u.Managed)
			s.users++
			add(u)
		}
	}
	return s
}

func withoutSuspension(managed []string) []string {
	rest := slices.DeleteFunc(slices.Clone(managed), func(field string) bool { return field == suspended })
	if len(rest) == 0 {
		return nil // which is not written
	}
	return rest
}

// withinQuota refuses a tenant a change of the catalog that takes more room than it
// may. was is the tenant's share before, size the stored form's after the change.
func (a *api) withinQuota(who *caller, was share, doc *catalog.Catalog, size int) error {
	if who.operator() {
		return nil
	}
	is := shareOf(doc, who.home())
	switch {
	case is.users <= was.users && is.bytes <= was.bytes:
		return nil
	case is.users > max(was.users, maxTenantUsers):
		return refuse(http.StatusConflict,
			"The workspace has %d users, which is the most that its own keys may make; delete some, or ask who runs this service", was.users)
	case is.bytes > max(was.bytes, maxTenantBytes):
		return refuse(http.StatusRequestEntityTooLarge,
			"The workspace and its users would have %d bytes, and its own keys may use %d; remove labels or users, or ask who runs this service", is.bytes, maxTenantBytes)
	case a.CatalogRoom > 0 && size+suspensionBytes*(len(doc.Workspaces)+len(doc.Users)) > a.CatalogRoom/ofParts*tenantsPart:
		return refuse(http.StatusRequestEntityTooLarge,
			"This deployment's catalog has no more room for what tenants add; remove labels or users, or ask who runs this service")
	}
	return nil
}
