package manage

import "tollgate/authz/key"

// owned reports whether the workspace and user that a key was made for are still
// there. Else it does not exist for anybody, also if there are others of the same
// ids now: they are other people's.
func (a *api) owned(rec *key.Record) bool {
	return a.exists(rec.Owner())
}

func (a *api) exists(o key.Owner) bool {
	_, _, exists := a.Tables().Owner(&key.Record{Workspace: o.Workspace, Kind: o.Kind, User: o.User, Generation: o.Generation})
	return exists
}

// mayKnow reports whether a caller may be told that there is or was a key: it sees it,
// or would if it were not revoked.
func (a *api) mayKnow(who *caller, rec *key.Record) bool { return a.owned(rec) && who.reaches(rec) }

// generation is what a new key's must be. It makes sure that a caller whose own
// workspace or user was deleted meanwhile makes none for another of the same id.
func (a *api) generation(who *caller, rec *key.Record) (string, error) {
	tables := a.Tables()
	if !who.operator() {
		if _, _, exists := tables.Owner(who.rec); !exists {
			return "", errUnauthorized
		}
	}
	return tables.GenerationFor(rec), nil
}
