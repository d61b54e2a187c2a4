package manage

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
)

// Bounds of a page of keys.
const (
	pageSize    = 100
	maxPageSize = 1000
)

const keysPath = "/api/v1/api-keys"

func (a *api) keyRoutes() {
	const one = keysPath + "/{id}"
	workspace := param{"workspace", "For the operator; where there is one workspace it is the default"}
	handle(a, route{
		method: http.MethodGet, path: mePath, who: anyKey, status: http.StatusOK,
		summary: "The user whose key is presented",
	}, a.me)
	handle(a, route{
		method: http.MethodGet, path: keysPath, who: managers, status: http.StatusOK,
		summary: "Lists keys, oldest first",
		query: []param{workspace, {"cursor", "Where to go on, from the Link header"},
			{"limit", "Keys on a page, 1 to " + strconv.Itoa(maxPageSize)}},
	}, a.listKeys)
	handle(a, route{
		method: http.MethodPost, path: keysPath, who: managers, status: http.StatusCreated,
		summary: "Makes a key, or imports one by its SHA-256", query: []param{workspace}, once: true,
		example: map[string]any{"name": "prod", "actions": []string{"infer"}, "limits": map[string]int{"requestsPerMinute": 60}},
	}, a.createKey)
	handle(a, route{
		method: http.MethodGet, path: one, who: managers, status: http.StatusOK,
		summary: "Shows a key", query: []param{workspace},
	}, a.showKey)
	handle(a, route{
		method: http.MethodPatch, path: one, who: managers, status: http.StatusOK,
		summary: "Changes a key: what isn't named stays, null removes", query: []param{workspace}, matches: true,
		example: map[string]any{"limits": map[string]int{"tokensPerMinute": 20000}, "expiresAt": nil},
	}, a.updateKey)
	handle(a, route{
		method: http.MethodDelete, path: one, who: managers, status: http.StatusNoContent,
		summary: "Revokes a key, at once and for good", query: []param{workspace}, matches: true,
	}, a.revokeKey)
	handle(a, route{
		method: http.MethodPost, path: one + "/rotate", who: managers, status: http.StatusOK,
		summary: "Gives a key another secret; the one before it lives on for the grace period, older ones end at once",
		query:   []param{workspace}, matches: true, example: map[string]string{"gracePeriod": "24h"},
	}, a.rotateKey)
	handle(a, route{
		method: http.MethodDelete, path: one + "/secrets/{number}", who: managers, status: http.StatusNoContent,
		summary: "Revokes one secret of a key, which lives on with the other", query: []param{workspace}, matches: true,
	}, a.revokeSecret)
	if a.Digests != nil {
		handle(a, route{
			method: http.MethodPost, path: keysPath + "/import", who: managers, status: http.StatusOK, body: maxImportBody,
			summary: "Imports keys by their SHA-256: all of them, or none where one can't be. Keys that were imported before are left as they are",
			query:   []param{workspace, {"dryRun", "true: only says what would be done"}},
			example: map[string]any{"keys": []any{map[string]string{"name": "old", "sha256": key.DigestOf("a secret that callers have").String()}}},
		}, a.importKeys)
	}
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
	after := c.query.Get("cursor")
	if after != "" && !isID(after) {
		return nil, errCursor
	}
	page, next, err := a.page(ctx, c.who, ws.ID, after, limit)
	if next != "" {
		c.linkNext("cursor", next)
	}
	return page, err
}

func (a *api) createKey(ctx context.Context, c *call, req KeyRequest) (CreatedKey, error) {
	rec, err := a.draft(c, &req)
	if err != nil {
		return CreatedKey{}, err
	}
	var replay bool
	if rec.ID, replay, err = a.once(ctx, c, "key in "+a.workspaceEver(rec.Workspace), rec.ID); err != nil {
		return CreatedKey{}, err
	}
	if replay { // it may have got no further than its Idempotency-Key
		if err := a.keyMadeAlready(ctx, c.who, rec); !isNotFound(err) {
			return CreatedKey{}, err
		}
	}
	var secret string
	if req.SHA256 != nil {
		if err := a.claimOne(ctx, c.who, rec); err != nil {
			return CreatedKey{}, err
		}
	} else if secret, err = a.newSecret(rec); err != nil {
		return CreatedKey{}, err
	}
	err = a.put(ctx, c, rec, 0)
	if isConflict(err) {
		err = a.keyMadeAlready(ctx, c.who, rec)
	}
	return CreatedKey{a.view(rec), secret}, err
}

// workspaceEver tells a workspace from others of the same id, before and after it.
func (a *api) workspaceEver(id string) string {
	if ws := a.Tables().Workspaces[id]; ws != nil && ws.Generation != "" {
		return id + "/" + ws.Generation
	}
	return id
}

// keyMadeAlready is the answer to the creation of a key that is there; to a caller
// who doesn't see it, without its id. Where it is not there, key.ErrNotFound.
func (a *api) keyMadeAlready(ctx context.Context, who *caller, rec *key.Record) error {
	is, err := a.Keys.Get(ctx, rec.Workspace, rec.ID)
	if err != nil {
		return err
	}
	if !a.mayKnow(who, is) {
		return refuse(http.StatusConflict, "This request came before, and the presented key does not see what it made; make another one with a new Idempotency-Key")
	}
	return madeAlready(keysPath, is.ID, "This request came before and made the key whose id is told here. Its secret is not kept: rotate it, or revoke it and make another")
}

// newSecret gives a record a secret of its workspace's form, and returns it.
func (a *api) newSecret(rec *key.Record) (string, error) {
	secret, s, err := a.generate(rec.Workspace, rec.CreatedAt)
	rec.Secrets = []key.Secret{s}
	return secret, err
}

func (a *api) generate(workspace string, now time.Time) (string, key.Secret, error) {
	ws := a.Tables().Workspaces[workspace]
	if ws == nil { // somebody removed it meanwhile
		return "", key.Secret{}, errNoKey
	}
	secret, prefix, err := ws.Format.Generate(a.Rand)
	return secret, key.Secret{Number: 1, Digest: key.DigestOf(secret), Prefix: prefix, CreatedAt: now}, err
}

// draft makes the record that a request asks for: without a secret, unless the
// request brings one's digest.
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
		Actions: defaultActions(ws, c.who), CreatedAt: now, CreatedBy: c.who.name(),
	}
	if !c.who.operator() {
		inherit(rec, c.who.bounds)
	}
	if err := a.owner(rec, c.who, req); err != nil {
		return nil, err
	}
	if rec.Generation, err = a.generation(c.who, rec); err != nil {
		return nil, err
	}
	if err := req.apply(rec, now, ws.Plan.PerKey); err != nil {
		return nil, err
	}
	if err := a.imported(rec, c.who, req); err != nil {
		return nil, err
	}
	if !c.who.operator() {
		return rec, exceeds(rec, c.who.bounds, ws.Plan.PerKey)
	}
	return rec, nil
}

// defaultActions are what a key may do when nothing is said: the workspace's
// defaults, of them what the maker may do.
func defaultActions(ws *catalog.Workspace, who *caller) []key.Action {
	actions := slices.Clone(ws.KeyDefaults.Actions)
	if len(actions) == 0 {
		actions = []key.Action{key.Infer}
	}
	if who.operator() {
		return actions
	}
	has := slices.DeleteFunc(slices.Clone(actions), func(a key.Action) bool { return !who.rec.May(a) })
	if len(has) == 0 {
		return actions // which is refused, with a reason
	}
	return has
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
	c.header.Set("ETag", etag(rec.Revision))
	return a.view(rec), nil
}
