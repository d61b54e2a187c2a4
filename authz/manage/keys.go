package manage

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"tollgate/authz/key"
)

// Bounds of a page of keys.
const (
	pageSize    = 100
	maxPageSize = 1000
)

// tries is how often a change of a key starts anew because somebody else
// changed the key at the same time.
const tries = 8

// writeTimeout bounds a write that goes on when its client has gone.
const writeTimeout = 20 * time.Second

func (a *api) keyRoutes() {
	const keys, one = "/api/v1/api-keys", "/api/v1/api-keys/{id}"
	workspace := param{"workspace", "For the operator; where there is one workspace it is the default"}
	handle(a, route{
		method: http.MethodGet, path: "/api/v1/auth/me", who: anyKey, status: http.StatusOK,
		summary: "The user whose key is presented",
	}, a.me)
	handle(a, route{
		method: http.MethodGet, path: keys, who: managers, status: http.StatusOK,
		summary: "Lists keys",
		query: []param{workspace, {"cursor", "Where to go on, from the Link header"},
			{"limit", "Keys on a page, 1 to " + strconv.Itoa(maxPageSize)}},
	}, a.listKeys)
	handle(a, route{
		method: http.MethodPost, path: keys, who: managers, status: http.StatusCreated,
		summary: "Makes a key", query: []param{workspace},
	}, a.createKey)
	handle(a, route{
		method: http.MethodGet, path: one, who: managers, status: http.StatusOK,
		summary: "Shows a key", query: []param{workspace},
	}, a.showKey)
	handle(a, route{
		method: http.MethodPatch, path: one, who: managers, status: http.StatusOK,
		summary: "Changes a key", query: []param{workspace},
	}, a.updateKey)
	handle(a, route{
		method: http.MethodDelete, path: one, who: managers, status: http.StatusNoContent,
		summary: "Revokes a key", query: []param{workspace},
	}, a.revokeKey)
}

func (a *api) me(_ context.Context, c *call, _ none) (Me, error) {
	if c.who.operator() || c.who.rec.Kind != key.Personal {
		return Me{}, refuse(http.StatusNotFound, "The presented key belongs to no user")
	}
	return Me{c.who.rec.User}, nil
}

func (a *api) listKeys(ctx context.Context, c *call, _ none) ([]Key, error) {
	ws, err := a.workspace(c.who, c.query.Get("workspace"))
	if err != nil {
		return nil, err
	}
	limit, err := c.number("limit", pageSize, 1, maxPageSize)
	if err != nil {
		return nil, err
	}
	records, err := a.Keys.List(ctx, ws.ID)
	if err != nil {
		return nil, err
	}
	if after := c.query.Get("cursor"); after != "" {
		// The key may have been revoked since, but its record is still there.
		i := slices.IndexFunc(records, func(rec *key.Record) bool { return rec.ID == after })
		if i < 0 {
			return nil, invalid("cursor", "is not from a Link header of this list; start without it")
		}
		records = records[i+1:]
	}
	page := []Key{}
	for _, rec := range records {
		if !c.who.sees(rec) {
			continue
		}
		if len(page) == limit {
			c.linkNext("cursor", page[limit-1].ID)
			break
		}
		page = append(page, a.view(rec))
	}
	return page, nil
}

func (a *api) createKey(ctx context.Context, c *call, req KeyRequest) (CreatedKey, error) {
	rec, err := a.draft(c, &req)
	if err != nil {
		return CreatedKey{}, err
	}
	format := a.Tables().Workspaces[rec.Workspace].Format
	secret, prefix, err := format.Generate(a.Rand)
	if err != nil {
		return CreatedKey{}, err
	}
	rec.Secrets = []key.Secret{{Digest: key.DigestOf(secret), Prefix: prefix, CreatedAt: rec.CreatedAt}}
	if err := a.put(ctx, c, rec, 0); err != nil {
		return CreatedKey{}, err
	}
	return CreatedKey{a.view(rec), secret}, nil
}

// draft makes the record that a request asks for, without a secret.
func (a *api) draft(c *call, req *KeyRequest) (*key.Record, error) {
	named := c.query.Get("workspace")
	if req.Workspace != nil {
		if named != "" && named != *req.Workspace {
			return nil, invalid("workspace", "the query and the body name different ones")
		}
		named = *req.Workspace
	}
	ws, err := a.workspace(c.who, named)
	if err != nil {
		return nil, err
	}
	now := a.Now().UTC().Truncate(time.Millisecond)
	rec := &key.Record{
		Version: key.RecordVersion, ID: newID(now), Workspace: ws.ID, Status: key.Active,
		Actions: slices.Clone(ws.KeyDefaults.Actions), CreatedAt: now, CreatedBy: c.who.name(),
	}
	if len(rec.Actions) == 0 {
		rec.Actions = []key.Action{key.Infer}
	}
	if !c.who.operator() {
		inherit(rec, c.who.rec)
	}
	if err := a.owner(rec, c.who, req); err != nil {
		return nil, err
	}
	if err := req.apply(rec, now); err != nil {
		return nil, err
	}
	if !c.who.operator() {
		return rec, exceeds(rec, c.who.rec, ws.Plan.PerKey)
	}
	return rec, nil
}

// owner sets whom a new key belongs to. What a personal key makes is, unless
// the request says otherwise, a key of the same user.
func (a *api) owner(rec *key.Record, who *caller, req *KeyRequest) error {
	var user string
	if req.User != nil {
		user = *req.User
	}
	switch {
	case req.Kind != nil:
		rec.Kind = *req.Kind
	case user != "" || !who.operator() && who.rec.Kind == key.Personal:
		rec.Kind = key.Personal
	default:
		rec.Kind = key.Workspace
	}
	switch rec.Kind {
	case key.Workspace:
		if user != "" {
			return invalid("user", "a workspace key belongs to nobody; leave it out or make the kind personal")
		}
		if who.member {
			return refuse(http.StatusForbidden, "kind: members make personal keys only; ask an admin of the workspace")
		}
		return nil
	case key.Personal:
	default:
		return invalid("kind", "must be personal or workspace")
	}
	if user == "" && !who.operator() {
		user = who.rec.User
	}
	if user == "" {
		return invalid("user", "a personal key belongs to a user; name one")
	}
	if who.member && user != who.rec.User {
		return refuse(http.StatusForbidden, "user: members make keys for themselves only; ask an admin of the workspace")
	}
	if a.Tables().User(rec.Workspace, user) == nil {
		return invalid("user", "there is no user %q in workspace %s; add it to the catalog first", printable(user, maxText), rec.Workspace)
	}
	rec.User = user
	return nil
}

func (a *api) showKey(ctx context.Context, c *call, _ none) (Key, error) {
	rec, err := a.find(ctx, c)
	if err != nil {
		return Key{}, err
	}
	return a.view(rec), nil
}

func (a *api) updateKey(ctx context.Context, c *call, fields KeyFields) (Key, error) {
	rec, err := a.change(ctx, c, func(rec *key.Record, now time.Time) error {
		if err := fields.apply(rec, now); err != nil {
			return err
		}
		if !c.who.operator() {
			return exceeds(rec, c.who.rec, a.planLimits(rec.Workspace))
		}
		return nil
	})
	if err != nil {
		return Key{}, err
	}
	return a.view(rec), nil
}

func (a *api) revokeKey(ctx context.Context, c *call, _ none) (none, error) {
	_, err := a.change(ctx, c, func(rec *key.Record, now time.Time) error {
		rec.Status, rec.RevokedAt = key.Revoked, &now
		return nil
	})
	return none{}, err
}

// find returns the key that the path names, if the caller sees it.
func (a *api) find(ctx context.Context, c *call) (*key.Record, error) {
	ws, err := a.workspace(c.who, c.query.Get("workspace"))
	if err != nil {
		return nil, err
	}
	id := c.r.PathValue("id")
	if !isID(id) {
		return nil, errNoKey
	}
	rec, err := a.Keys.Get(ctx, ws.ID, id)
	if err != nil {
		return nil, err
	}
	if !c.who.sees(rec) {
		return nil, errNoKey
	}
	return rec, nil
}

// change reads, edits and stores the key that the path names, anew whenever
// somebody else was faster.
func (a *api) change(ctx context.Context, c *call, edit func(*key.Record, time.Time) error) (*key.Record, error) {
	for try := 1; ; try++ {
		old, err := a.find(ctx, c)
		if err != nil {
			return nil, err
		}
		rec := old.Clone()
		rec.Version = key.RecordVersion
		if err := edit(rec, a.Now().UTC().Truncate(time.Millisecond)); err != nil {
			return nil, err
		}
		err = a.put(ctx, c, rec, old.Revision)
		if err == nil || try == tries || !errors.Is(err, key.ErrConflict) {
			return rec, err
		}
	}
}

// put stores a record and waits until no replica goes by the old one. It goes
// on when the client hangs up: a revocation that was begun is finished.
func (a *api) put(ctx context.Context, c *call, rec *key.Record, expect uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	revision, err := a.Keys.Put(ctx, rec, expect)
	if err != nil {
		return err
	}
	rec.Revision = revision
	a.Applied(ctx, rec)
	c.header.Set("X-Tollgate-Revision", strconv.FormatUint(revision, 10))
	c.header.Set("X-Tollgate-Replicas", "1")
	a.Logger.Info("key stored", "workspace", rec.Workspace, "key", rec.ID, "status", string(rec.Status),
		"revision", revision, "by", c.who.name())
	return nil
}
