package manage

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/reason"
)

// access says who may use an endpoint. What they may do there, and with whose
// keys, is the endpoint's to say.
type access uint8

const (
	anybody      access = iota // no key is looked at
	anyKey                     // every valid key
	managers                   // the operator, and keys with the action manage
	exporters                  // the operator, and keys with the action metrics
	operatorOnly               // the operator
)

// caller is who presented a key.
type caller struct {
	rec    *key.Record // nil for the operator
	member bool        // it is a personal key, of a user who is no admin
	// generation is that of the key's workspace, when it was authenticated.
	generation string
	// bounds is rec or, where a secret in its grace period was presented, rec as
	// if it ended with it: what is given on to other keys must not outlive the
	// secret that gave it.
	bounds *key.Record
}

func (c *caller) operator() bool { return c.rec == nil }

// name is the caller's in a record's createdBy and in the log.
func (c *caller) name() string {
	switch {
	case c.operator():
		return "operator"
	case c.rec.Kind == key.Personal:
		return "user:" + c.rec.User
	}
	return "key:" + c.rec.ID
}

// check refuses a caller who may not use an endpoint at all, and says which
// kind of key it takes.
func (a *api) check(who access, c *caller) error {
	switch {
	case c.operator() || who == anyKey:
		return nil
	case who == operatorOnly:
		return refuse(http.StatusForbidden, "This takes the operator's key; the presented one is %s", describeKey(c.rec))
	}
	needs := key.Manage
	if who == exporters {
		needs = key.Metrics
	}
	if c.rec.May(needs) {
		return nil
	}
	takes := "the operator's key or a key"
	if a.OperatorKey == (key.Digest{}) { // on the gateway it opens nothing
		takes = "a key"
	}
	return refuse(http.StatusForbidden, "This takes %s with the action %s; the presented one is %s", takes, needs, describeKey(c.rec))
}

// describeKey says which kind of key a record is.
func describeKey(rec *key.Record) string {
	if len(rec.Actions) == 1 && rec.May(key.Infer) {
		return "an inference key (actions: infer)"
	}
	if !rec.May(key.Infer) {
		return "an account token (actions: " + list(rec.Actions) + ")"
	}
	return "a " + string(rec.Kind) + " key (actions: " + list(rec.Actions) + ")"
}

// authenticate finds out who presented a secret.
func (a *api) authenticate(ctx context.Context, secret string) (*caller, error) {
	digest := key.DigestOf(secret)
	if a.OperatorKey != (key.Digest{}) && subtle.ConstantTimeCompare(digest[:], a.OperatorKey[:]) == 1 {
		return &caller{}, nil
	}
	rec, err := a.Identify(ctx, secret)
	switch {
	case errors.Is(err, key.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, err
	case err != nil || !rec.Valid(digest, a.Now()):
		return nil, errUnauthorized
	}
	a.Used(rec.ID, rec.Secrets[rec.Secret(digest)].Number, a.Now())
	ws, user, exists := a.Tables().Owner(rec)
	switch {
	case !exists:
		return nil, errUnauthorized
	case ws.Suspended:
		return nil, because(reason.WorkspaceSuspended, "The workspace is suspended; ask who runs this service")
	case rec.Kind != key.Personal:
		return &caller{rec: rec, generation: ws.Generation, bounds: bounds(rec, digest)}, nil
	}
	if user.Suspended {
		return nil, because(reason.UserSuspended, "The user is suspended; ask an admin of the workspace")
	}
	return &caller{rec: rec, member: user.Role != catalog.Admin, generation: ws.Generation, bounds: bounds(rec, digest)}, nil
}

func bounds(rec *key.Record, presented key.Digest) *key.Record {
	i := rec.Secret(presented)
	if i < 0 || !later(rec.ExpiresAt, rec.Secrets[i].ExpiresAt) {
		return rec
	}
	b := rec.Clone()
	b.ExpiresAt = rec.Secrets[i].ExpiresAt
	return b
}

// credential takes the presented key out of a request, by the rules that hold
// at the gate.
func credential(r *http.Request) (string, error) {
	var req dialect.Request
	for _, name := range dialect.KeyHeaders() {
		for _, value := range r.Header.Values(name) {
			req.Headers = append(req.Headers, dialect.Header{Name: name, Value: value})
		}
	}
	secret, why, detail := dialect.Credential(&req)
	switch {
	case why == reason.None:
		return secret, nil
	case why != reason.KeyAmbiguous:
		return "", errUnauthorized
	case detail == "":
		detail = "Two different keys were presented; send one"
	}
	return "", refuse(http.StatusBadRequest, "%s", detail)
}

// sees reports whether a key exists as far as the caller is concerned. A member
// sees the keys of its own user; a key that is limited to some models, keys that
// open none beside these. Otherwise a key that may manage sees all keys of its
// workspace and may revoke them, also those that may do more than itself: taking
// away is safe. What would give it more (a change, a rotation, which shows a
// secret) is refused by exceeds.
func (c *caller) sees(rec *key.Record) bool { return rec.Status == key.Active && c.reaches(rec) }

// reaches is sees, of revoked keys too.
func (c *caller) reaches(rec *key.Record) bool {
	return c.reachesOwner(rec.Owner()) && (!c.selective() || coversAll(c.rec.Models, rec.Models))
}

// reachesOwner reports whether the caller sees keys of an owner's, if not selective
// all.
func (c *caller) reachesOwner(o key.Owner) bool {
	switch {
	case c.operator():
		return true
	case o.Workspace != c.rec.Workspace:
		return false
	}
	return !c.member || o.Kind == key.Personal && o.User == c.rec.User
}

// selective reports whether the caller is limited to some models.
func (c *caller) selective() bool { return !c.operator() && c.rec.Models != nil }

// workspace is the one that a request is about: the key's own; for the operator
// the one that is named or, where there is only one, that.
func (a *api) workspace(c *caller, named string) (*catalog.Workspace, error) {
	tables := a.Tables()
	if !c.operator() {
		if named != "" && named != c.rec.Workspace {
			return nil, invalid("workspace", "the presented key belongs to another workspace; leave this out")
		}
		named = c.rec.Workspace
	}
	if named == "" {
		switch len(tables.Workspaces) {
		case 0:
			return nil, invalid("workspace", "there is none yet; add one to the catalog and apply it")
		case 1:
			for _, ws := range tables.Workspaces {
				return ws, nil
			}
		}
		return nil, invalid("workspace", "there are several; name one, by ?workspace= or --workspace")
	}
	if ws := tables.Workspaces[named]; ws != nil {
		return ws, nil
	}
	return nil, invalid("workspace", "there is no workspace %q; add it to the catalog or correct the name", printable(named, 63))
}
