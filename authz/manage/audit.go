package manage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
)

// Audit is where the audit trail is kept. All methods may block on I/O until
// their context ends. Errors wrap ErrCursor or, where the store can't be asked,
// key.ErrUnavailable.
type Audit interface {
	// Append stores an entry, once however often it is called with it.
	Append(ctx context.Context, e *AuditEntry) error
	// Read returns at most q.Limit entries as they are stored (JSON), oldest
	// first. next is where to go on, 0 where there is no more now; there may be more
	// where it returns few, or none.
	Read(ctx context.Context, q AuditQuery) (entries [][]byte, next uint64, err error)
}

// AuditQuery says which entries to read.
type AuditQuery struct {
	After     uint64    // behind this place; 0: from the beginning
	From, To  time.Time // stored at From or later, and before To; zero: no bound
	Workspace string    // "": of all
	// Generation is of the Workspace: entries of another one of the same id are left
	// out. nil: they are not.
	Generation *string
	Limit      int
}

// AuditEntry is one management action, or an attempt at one. It has no secret and
// no digest of one.
type AuditEntry struct {
	ID     string      `json:"id"` // the request's, told in X-Request-Id
	Time   time.Time   `json:"time"`
	Actor  AuditActor  `json:"actor"`
	Action string      `json:"action"` // such as key.create
	Target AuditTarget `json:"target"`
	// Generation tells the workspace in whose trail it is from others of the same id.
	Generation string `json:"generation,omitzero"`
	// Before and After are what was changed, as the API tells it: of a change, the
	// members that differ; nil: it was not there, or nothing was changed.
	Before jsontext.Value `json:"before,omitzero"`
	After  jsontext.Value `json:"after,omitzero"`
	Remote string         `json:"remote"` // the address that the request came from
	Status int            `json:"status"` // of the answer
	// Suppressed is how many refused requests of this actor were not written down
	// since the last one that was.
	Suppressed int64 `json:"suppressed,omitzero"`
}

// AuditActor is who did it.
type AuditActor struct {
	Kind      string `json:"kind"` // operator, user (by a personal key), key (a workspace's), or anonymous
	User      string `json:"user,omitzero"`
	Key       string `json:"key,omitzero"`       // the key's id
	Workspace string `json:"workspace,omitzero"` // of the key
}

// AuditTarget is what it was done on.
type AuditTarget struct {
	Type      string `json:"type"`               // such as key
	ID        string `json:"id,omitzero"`        // "" where there is none, or the request named nothing that is there
	Workspace string `json:"workspace,omitzero"` // whose it is; "": the deployment's
}

// note is what an endpoint tells of what it changes.
type note struct {
	target        AuditTarget
	before, after any
	ids           []string // of what was changed, in order
	silent        bool
	unchanged     bool // the catalog was as it was asked to be
}

// was notes what something is before a change.
func (c *call) was(kind, id, workspace string, before any) {
	c.note.target, c.note.before = AuditTarget{kind, id, workspace}, before
}

// is notes what something is once a change of it is stored.
func (c *call) is(kind, id, workspace string, after any) {
	c.note.target, c.note.after = AuditTarget{kind, id, workspace}, after
	if n := len(c.note.ids); n == 0 || c.note.ids[n-1] != id {
		c.note.ids = append(c.note.ids, id)
	}
}

// many is what is noted of a change of several things at once.
type many struct {
	Count int      `json:"count"`
	IDs   []string `json:"ids"`
}

// Bounds of an entry.
const (
	maxAuditIDs   = 1000
	maxAuditValue = 64 << 10 // bytes, of Before and After each
	auditTimeout  = 6 * time.Second
)

// audited is deferred around an endpoint: it writes into the trail what changes
// something, whatever became of it, and what was refused, before it is answered.
//
// A change that can't be written down is made all the same: it is stored already,
// and nobody must be kept from revoking a key because a trail is full. The whole
// entry is then in the log, and counted.
func (a *api) audited(c *call, rt route, err *error) {
	p := recover()
	status := rt.status
	switch {
	case p != nil:
		status = http.StatusInternalServerError
	case *err != nil:
		status = errorFor(*err).Status
	}
	if a.Audit != nil && !c.note.silent && rt.audits(status) {
		a.audit(c, rt, status)
	}
	if p != nil {
		panic(p)
	}
}

// audits reports whether an answer of the endpoint goes into the trail.
func (rt *route) audits(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return rt.who != anybody
	}
	return rt.changes() || rt.path == backupPath
}

func (a *api) audit(c *call, rt route, status int) {
	e := a.entry(c, rt, status)
	switch {
	case status >= http.StatusBadRequest:
		var write bool
		if write, e.Suppressed = a.refusals.admit(a.Now(), e.Actor.Key+e.Actor.Kind); !write {
			a.Unaudited("suppressed")
			return
		}
	case c.who.operator():
	case c.note.unchanged && a.allowances.spent(a.Now(), c.who.home()) > 0:
		a.Unaudited("suppressed") // what takes away is not refused, and this took nothing
		return
	default:
		if short := e.shortened(); !a.allowances.take(a.Now(), c.who.home(), e.size(), short.size()) {
			a.Unaudited("shortened")
			e = short
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), auditTimeout)
	defer cancel()
	if err := a.Audit.Append(ctx, e); err != nil {
		a.Unaudited("unstored")
		text, _ := json.Marshal(e) // it has no values that can't be JSON
		a.Logger.Error("an audit entry could not be stored: this line is all there is of it", "entry", string(text), "error", err)
	}
}

// entry is what the trail says of a request that was answered by status.
func (a *api) entry(c *call, rt route, status int) *AuditEntry {
	e := &AuditEntry{
		ID: c.header.Get("X-Request-Id"), Time: a.Now().UTC(), Actor: c.who.actor(), Action: rt.action(), Target: c.note.target,
		Remote: c.r.RemoteAddr, Status: status,
	}
	if e.Target.Type == "" {
		e.Target = a.target(c, rt)
	}
	e.Generation = a.generationOf(c, cmp.Or(e.Target.Workspace, e.Actor.Workspace))
	if status >= http.StatusBadRequest {
		return e
	}
	after := c.note.after
	if n := len(c.note.ids); n > 1 {
		e.Target.ID, after = "", many{n, c.note.ids[:min(n, maxAuditIDs)]}
		e.After = bounded(auditValue(after))
		return e
	}
	e.Before, e.After = auditValues(c.note.before, after)
	return e
}

// generationOf is that of a workspace in whose trail an entry is: as it was when the
// request began, so that nobody reads of what was done in another one of the same id.
func (a *api) generationOf(c *call, workspace string) string {
	if c.who != nil && !c.who.operator() && workspace == c.who.home() {
		return c.who.generation
	}
	for _, tables := range []*catalog.Tables{c.began, a.Tables()} {
		if ws := tables.Workspaces[workspace]; ws != nil {
			return ws.Generation
		}
	}
	return ""
}

func (c *caller) actor() AuditActor {
	switch {
	case c == nil:
		return AuditActor{Kind: "anonymous"}
	case c.operator():
		return AuditActor{Kind: "operator"}
	case c.rec.Kind == key.Personal:
		return AuditActor{Kind: "user", User: c.rec.User, Key: c.rec.ID, Workspace: c.rec.Workspace}
	}
	return AuditActor{Kind: "key", Key: c.rec.ID, Workspace: c.rec.Workspace}
}

// target is what a request that came to nothing was about. Of what it names only
// the form of a key's id is written down: anything else may be a secret that
// somebody put there.
func (a *api) target(c *call, rt route) AuditTarget {
	kind, _, _ := strings.Cut(rt.action(), ".")
	t := AuditTarget{Type: kind}
	if id := c.r.PathValue("id"); isID(id) {
		t.ID = id
	}
	switch {
	case c.who == nil:
	case !c.who.operator():
		t.Workspace = c.who.home()
	default:
		if ws := a.Tables().Workspaces[c.query.Get("workspace")]; ws != nil {
			t.Workspace = ws.ID
		}
	}
	return t
}

// kinds are what the paths of the API are about.
var kinds = map[string]string{
	"api-keys": "key", "workspaces": "workspace", "users": "user", "models": "model", "consumers": "consumer",
}

// action names what the endpoint does: what it is about and a verb, such as
// key.create, key.delete-secret, model.deploy or catalog.apply.
func (rt *route) action() string {
	words := strings.Split(strings.TrimPrefix(strings.TrimPrefix(rt.path, "/api/v1"), "/"), "/")
	kind := kinds[words[0]]
	if kind == "" {
		kind = words[0]
	}
	last := words[len(words)-1]
	verb := map[string]string{
		http.MethodGet: "read", http.MethodPost: "create", http.MethodPatch: "update", http.MethodPut: "apply", http.MethodDelete: "delete",
	}[rt.method]
	switch {
	case rt.method == http.MethodGet || len(words) == 1:
	case !strings.HasPrefix(last, "{"):
		verb = last
	case len(words) > 2:
		verb += "-" + strings.TrimSuffix(words[len(words)-2], "s")
	}
	return kind + "." + verb
}

func (a *api) auditRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/api/v1/audit", who: managers, status: http.StatusOK,
		summary: "Reads the audit trail, oldest first, as a CloudEvents batch: of the key's workspace, for its admins; for the operator of all",
		media:   "application/cloudevents-batch+json",
		query: []param{
			{"workspace", "For the operator: only this one's"},
			{"from", "A time of RFC 3339 or a duration before now such as 24h or 7d; without it from the beginning"},
			{"to", "The same; without it until now"},
			{"cursor", "Where to go on, from the Link header"},
			{"limit", "Entries on a page, 1 to " + strconv.Itoa(maxEventPage)},
		},
	}, a.readAudit)
}

func (a *api) readAudit(ctx context.Context, c *call, _ none) (raw, error) {
	if err := c.who.administers(); err != nil {
		return nil, err
	}
	q := AuditQuery{Workspace: c.query.Get("workspace")}
	if !c.who.operator() || q.Workspace != "" && a.Tables().Workspaces[q.Workspace] != nil {
		ws, err := a.workspace(c.who, q.Workspace)
		if err != nil {
			return nil, err
		}
		q.Workspace = ws.ID
	} else if q.Workspace != "" && !consumerName.MatchString(q.Workspace) {
		// One that was deleted has a trail all the same.
		return nil, invalid("workspace", "must be 1 to 63 of a-z, 0-9 and -")
	}
	if !c.who.operator() {
		q.Generation = &c.who.generation
	}
	var err error
	if q.Limit, err = c.number("limit", eventPage, 1, maxEventPage); err != nil {
		return nil, err
	}
	for _, bound := range []struct {
		name string
		at   *time.Time
	}{{"from", &q.From}, {"to", &q.To}} {
		s := c.query.Get(bound.name)
		if s == "" {
			continue
		}
		if *bound.at, err = parseSince(s, a.Now()); err != nil {
			return nil, invalid(bound.name, "%v", err)
		}
	}
	if s := c.query.Get("cursor"); s != "" {
		if q.After, err = strconv.ParseUint(s, 10, 64); err != nil {
			return nil, errCursor
		}
	}
	entries, next, err := a.Audit.Read(ctx, q)
	if errors.Is(err, ErrCursor) {
		return nil, invalid("cursor", "%v; start without it", err)
	}
	if err != nil {
		return nil, err
	}
	if next > 0 {
		if !q.To.IsZero() { // a duration must not end at a later now
			c.query.Set("to", q.To.UTC().Format(time.RFC3339Nano))
		}
		c.linkNext("cursor", strconv.FormatUint(next, 10))
	}
	return raw("[" + string(bytes.Join(entries, []byte(","))) + "]"), nil
}
