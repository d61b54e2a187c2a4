package catalog

import (
	"slices"
	"strings"
	"time"

	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/money"
)

// Tables is a catalog as decisions use it: looked up by id, references
// followed, defaults in, secrets read. Tables and all that hangs on them are
// never changed once they are in use, so they need no lock.
type Tables struct {
	// Version is whoever's who made the Tables: rates are quoted by it.
	Version    uint64
	Workspaces map[string]*Workspace
	Plans      map[string]*Plan
	Models     map[string]*Model // of all workspaces; Model is what a request may see
	Routes     []Route
	Settings   Settings

	shared []*Model // models that every workspace sees, by id
}

// Workspace is a tenant.
type Workspace struct {
	ID          string
	Plan        *Plan
	Suspended   bool
	Format      key.Format
	KeyDefaults KeyDefaults
	Multiplier  money.Amount // of the list price: its own or its plan's
	Users       map[string]*User
	ExternalID  string
	Labels      map[string]string
	Generation  string
	Credit      *Credit        // nil: it is not prepaid
	Spec        *WorkspaceSpec // as it was declared

	own []*Model // models that not every workspace sees, by id
}

// KeyDefaults is what a key has unless it is made with something else.
type KeyDefaults struct{ Actions []key.Action }

// User is a person in a workspace.
type User struct {
	ID         string
	Role       Role
	Suspended  bool
	ExternalID string
	Labels     map[string]string
	Generation string
	Spec       *UserSpec // as it was declared
}

// Plan is what a workspace may use. A limit of 0 is none.
type Plan struct {
	ID           string
	PerKey       key.Limits
	PerUser      key.Limits
	PerWorkspace key.Limits
	Budget       *Budget // nil: none
	Multiplier   money.Amount
	Models       []string // as key.MatchModel; nil: all
	Resources    map[string]int64

	perModel map[string]key.Limits // by exact id
	prefixes []modelLimits         // longest first
}

type modelLimits struct {
	prefix, pattern string
	limits          key.Limits
}

// Model is a model and where it is served.
type Model struct {
	ID         string
	Deployed   bool
	Workspaces []string // sorted; nil: all
	// Cluster is the Envoy cluster to route to: ModelCluster of the id where
	// there are Upstreams, else the operator's; "": the mesh routes.
	Cluster       string
	Upstreams     []Upstream
	CA            []byte       // PEM certificates for https Upstreams; nil: the system's
	HealthCheck   *HealthCheck // nil: none
	UpstreamModel string       // the name that the upstream knows
	Credential    *Credential  // nil: none
	Rates         []RateCard   // list prices, by the time from which they hold: see RatesAt
}

// Upstream is a place to send requests to.
type Upstream struct {
	URL    string // as Scheme, Host, Port and Path say
	Scheme string // http or https
	Host   string // a name or an address, without brackets
	Port   uint16
	Path   string // goes before the request's; "" or /… without a / at its end
	Weight uint32 // at least 1
}

// HealthCheck finds out which of a model's upstreams can serve.
type HealthCheck struct {
	Path              string // /… of a GET that answers 200
	Interval, Timeout time.Duration
}

// Route opens the paths of a dialect.
type Route struct {
	Dialect  *dialect.Dialect
	Hosts    []string  // in lower case; nil: all. See Serves
	CORS     *CORS     // nil: no other origin may call it from a browser
	Upstream *Upstream // for paths that name no model; nil: none
	Cluster  string    // RouteCluster where there is an Upstream
	// Model is the id of the model that a request counts as which names none; "": none.
	Model string
	// MaxDuration is the longest that a request may take, its answer included.
	MaxDuration time.Duration
	// MaxWebSocketDuration is the same for a path that is a WebSocket.
	MaxWebSocketDuration time.Duration
	// MaxBody and MaxMultipart are the most bytes that a request's body may
	// have: of multipart/form-data the latter.
	MaxBody, MaxMultipart int64
	// Observe stands in for a request's key where there is no valid one, in mode
	// Observe: a key without an id that may infer and wake. nil: such a request is
	// refused.
	Observe *key.Record
	// Unsettled says that nobody will tell what became of a request.
	Unsettled bool
}

// Duration is the longest that a request to a path of the route may take.
func (r *Route) Duration(p *dialect.Path) time.Duration {
	if p.WebSocket {
		return r.MaxWebSocketDuration
	}
	return r.MaxDuration
}

// Settings is what holds for all.
type Settings struct {
	ModelHeader string   // in lower case
	TagHeaders  []string // in lower case
	Billing     Billing
}

// Billing says what is billed where the plain case doesn't hold. The zero value is
// what holds where a catalog doesn't say.
type Billing struct {
	ChargeUnsettled bool // the estimate of what nobody told; else nothing
	FreeEstimated   bool // nothing of tokens that were estimated; else the estimate
	FreeErrors      bool // nothing where the upstream failed; else what it stated
}

// ModelCluster is the name of the Envoy cluster with a model's upstreams.
func ModelCluster(model string) string { return "model:" + model }

// RouteCluster is the name of the Envoy cluster with the upstream of a dialect's
// route, of which there may be several for different hosts.
func RouteCluster(dialect string, hosts ...string) string {
	name := "route:" + dialect
	if len(hosts) > 0 {
		name += "@" + hosts[0]
	}
	return name
}

// User returns a user of a workspace, or nil.
func (t *Tables) User(workspace, id string) *User {
	if w := t.Workspaces[workspace]; w != nil {
		return w.Users[id]
	}
	return nil
}

// Model returns a model as a workspace sees it. One outside the workspace is
// nil, as one that doesn't exist.
func (t *Tables) Model(id, workspace string) *Model {
	if m := t.Models[id]; m != nil && m.In(workspace) {
		return m
	}
	return nil
}

// ModelsFor returns the models that a workspace sees, by id, deployed or not.
// The plan may open fewer: see Plan.Allows.
func (t *Tables) ModelsFor(workspace string) []*Model {
	w := t.Workspaces[workspace]
	if w == nil {
		return nil
	}
	all := slices.Concat(t.shared, w.own)
	slices.SortFunc(all, compareModels)
	return all
}

func compareModels(a, b *Model) int { return strings.Compare(a.ID, b.ID) }

// In reports whether a workspace sees the model.
func (m *Model) In(workspace string) bool {
	if m.Workspaces == nil {
		return true
	}
	_, found := slices.BinarySearch(m.Workspaces, workspace)
	return found
}

// CheckCredential is the credential that the answer of a check has to bring
// along: none where the cluster is Tollgate's own, which adds it by itself.
func (m *Model) CheckCredential() *Credential {
	if len(m.Upstreams) > 0 {
		return nil
	}
	return m.Credential
}

// Allows reports whether the plan opens the model.
func (p *Plan) Allows(model string) bool {
	return p.Models == nil || key.MatchModel(p.Models, model)
}

// ModelLimits returns the limits that a workspace of this plan has for a model,
// and the pattern that they are set for, which is what they are counted by: the
// model's own id, else the longest prefix/*, else *. "": there are none.
func (p *Plan) ModelLimits(model string) (pattern string, l key.Limits) {
	if l, ok := p.perModel[model]; ok {
		return model, l
	}
	for i := range p.prefixes {
		if m := &p.prefixes[i]; strings.HasPrefix(model, m.prefix) {
			return m.pattern, m.limits
		}
	}
	return "", key.Limits{}
}
