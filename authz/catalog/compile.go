package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/money"
)

// What holds where a catalog says nothing.
const (
	DefaultModelHeader          = "x-tollgate-model"
	DefaultMaxDuration          = time.Hour
	DefaultMaxWebSocketDuration = 15 * time.Minute
	DefaultMaxBody              = 16 << 20
	DefaultMaxMultipart         = 32 << 20
	DefaultHealthInterval       = 5 * time.Second
	DefaultHealthTimeout        = 2 * time.Second
)

// Source is where Compile finds what a catalog only names. A nil field finds
// nothing.
type Source struct {
	// Env looks an environment variable up.
	Env func(name string) (string, bool)
	// File reads a file.
	File func(path string) ([]byte, error)
}

// Compile makes Tables of a catalog; Version is left for the caller to set. The
// error is an *Error for a catalog that Parse would have refused, else it says
// which variable or file is missing or holds something useless; it never says
// what a credential is.
func Compile(c *Catalog, from Source) (*Tables, error) {
	if err := Validate(c); err != nil {
		return nil, err
	}
	t := &Tables{
		Workspaces: make(map[string]*Workspace, len(c.Workspaces)),
		Plans:      make(map[string]*Plan, len(c.Plans)),
		Models:     make(map[string]*Model, len(c.Models)),
		Settings:   settings(&c.Settings),
	}
	for i := range c.Plans {
		p, err := compilePlan(&c.Plans[i])
		if err != nil {
			return nil, fmt.Errorf("plan %q: %w", c.Plans[i].ID, err)
		}
		t.Plans[p.ID] = p
	}
	for i := range c.Workspaces {
		w, err := compileWorkspace(&c.Workspaces[i], t.Plans)
		if err != nil {
			return nil, fmt.Errorf("workspace %q: %w", c.Workspaces[i].ID, err)
		}
		t.Workspaces[w.ID] = w
	}
	for i := range c.Users {
		u := &c.Users[i]
		t.Workspaces[u.Workspace].Users[u.ID] = &User{
			ID: u.ID, Role: cmp.Or(u.Role, Member), Suspended: u.Suspended, ExternalID: u.ExternalID, Labels: u.Labels,
			Generation: u.Generation, Spec: u,
		}
	}
	for i := range c.Models {
		m, err := compileModel(&c.Models[i], from)
		if err != nil {
			return nil, fmt.Errorf("model %q: %w", c.Models[i].ID, err)
		}
		t.add(m)
	}
	for i := range c.Routes {
		r, err := compileRoute(&c.Routes[i], from)
		if err != nil {
			return nil, fmt.Errorf("route of dialect %q: %w", c.Routes[i].Dialect, err)
		}
		if c.Routes[i].Mode == Observe {
			r.Observe = t.unidentified(c.Routes[i].Observe.Workspace)
		}
		t.Routes = append(t.Routes, r)
	}
	return t, nil
}

// unidentified is what stands in for a key that a request doesn't have. workspace
// "" is the only one.
func (t *Tables) unidentified(workspace string) *key.Record {
	for id := range t.Workspaces {
		if len(t.Workspaces) == 1 {
			workspace = id
		}
	}
	return &key.Record{
		Version: key.RecordVersion, Workspace: workspace, Kind: key.Workspace, Status: key.Active,
		// What changes something is never done without a key.
		Actions:    []key.Action{key.Infer, key.Wake},
		Generation: t.Workspaces[workspace].Generation,
	}
}

// add puts a model where it is looked up.
func (t *Tables) add(m *Model) {
	t.Models[m.ID] = m
	if m.Workspaces == nil {
		t.shared = append(t.shared, m)
	}
	for _, id := range m.Workspaces {
		w := t.Workspaces[id]
		w.own = append(w.own, m)
	}
}

func settings(s *SettingsSpec) Settings {
	out := Settings{
		ModelHeader: strings.ToLower(cmp.Or(s.ModelHeader, DefaultModelHeader)),
		Billing: Billing{
			ChargeUnsettled: s.Billing.Unsettled == ChargeEstimate,
			FreeEstimated:   s.Billing.Estimated == ChargeZero,
			FreeErrors:      s.Billing.UpstreamError == ChargeZero,
		},
	}
	for _, h := range s.TagHeaders {
		out.TagHeaders = append(out.TagHeaders, strings.ToLower(h))
	}
	return out
}

func compilePlan(s *PlanSpec) (*Plan, error) {
	p := &Plan{
		ID: s.ID, PerKey: s.Limits.PerKey, PerUser: s.Limits.PerUser, PerWorkspace: s.Limits.PerWorkspace,
		Models: slices.Clone(s.Models), Resources: s.Resources,
		perModel: make(map[string]key.Limits),
	}
	for pattern, l := range s.Limits.PerModel {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			p.prefixes = append(p.prefixes, modelLimits{prefix, pattern, l})
		} else {
			p.perModel[pattern] = l
		}
	}
	slices.SortFunc(p.prefixes, func(a, b modelLimits) int {
		return cmp.Or(len(b.prefix)-len(a.prefix), strings.Compare(a.prefix, b.prefix))
	})
	var err error
	if p.Multiplier, err = money.Parse(cmp.Or(s.Multiplier, "1")); err != nil {
		return nil, err
	}
	if s.Budget != nil {
		amount, err := money.Parse(s.Budget.Amount)
		if err != nil {
			return nil, err
		}
		p.Budget = &Budget{Period: s.Budget.Period, Amount: amount}
	}
	return p, nil
}

func compileWorkspace(s *WorkspaceSpec, plans map[string]*Plan) (*Workspace, error) {
	w := &Workspace{
		ID: s.ID, Plan: plans[s.Plan], Suspended: s.Suspended,
		KeyDefaults: KeyDefaults{Actions: slices.Clone(s.KeyDefaults.Actions)},
		Users:       make(map[string]*User),
		ExternalID:  s.ExternalID, Labels: s.Labels,
		Generation: s.Generation, Spec: s,
	}
	if s.KeyDefaults.Actions == nil {
		w.KeyDefaults.Actions = []key.Action{key.Infer}
	}
	var err error
	if w.Format, err = key.ParseFormat(cmp.Or(s.KeyFormat, key.DefaultFormat)); err != nil {
		return nil, err
	}
	w.Multiplier = w.Plan.Multiplier
	if s.Multiplier != "" {
		if w.Multiplier, err = money.Parse(s.Multiplier); err != nil {
			return nil, err
		}
	}
	w.Credit, err = compileCredit(s.Credit)
	return w, err
}

func compileModel(s *ModelSpec, from Source) (*Model, error) {
	m := &Model{
		ID: s.ID, Deployed: s.Deployed == nil || *s.Deployed, Cluster: s.Cluster,
		UpstreamModel: cmp.Or(s.UpstreamModel, s.ID),
	}
	if s.Workspaces != nil {
		m.Workspaces = append([]string{}, s.Workspaces...)
		slices.Sort(m.Workspaces)
	}
	for _, spec := range s.Upstreams {
		u, err := from.upstream(spec.URL)
		if err != nil {
			return nil, err
		}
		u.Weight = uint32(max(spec.Weight, 1))
		m.Upstreams = append(m.Upstreams, *u)
	}
	if len(m.Upstreams) > 0 {
		m.Cluster = ModelCluster(m.ID)
		for _, u := range m.Upstreams[1:] {
			if first := m.Upstreams[0]; u.Scheme != first.Scheme || u.Path != first.Path {
				return nil, fmt.Errorf("upstreams %s and %s differ in scheme or path: they must serve the same API", first.URL, u.URL)
			}
		}
	}
	var err error
	if m.Rates, err = compileRates(s.Rates); err != nil {
		return nil, err
	}
	if m.HealthCheck, err = compileHealthCheck(s.HealthCheck); err != nil {
		return nil, err
	}
	if m.CA, err = from.certificates(s.CAFile); err != nil {
		return nil, err
	}
	m.Credential, err = from.credential(s.Credential)
	return m, err
}

func compileHealthCheck(s *HealthCheckSpec) (*HealthCheck, error) {
	if s == nil {
		return nil, nil
	}
	h := &HealthCheck{Path: s.Path, Interval: DefaultHealthInterval, Timeout: DefaultHealthTimeout}
	var err error
	if s.Interval != "" {
		if h.Interval, err = healthInterval.parse(s.Interval); err != nil {
			return nil, err
		}
	}
	if s.Timeout != "" {
		h.Timeout, err = healthTimeout.parse(s.Timeout)
	}
	return h, err
}

func compileRoute(s *RouteSpec, from Source) (r Route, err error) {
	r = Route{
		MaxDuration: DefaultMaxDuration, MaxWebSocketDuration: DefaultMaxWebSocketDuration,
		MaxBody: DefaultMaxBody, MaxMultipart: DefaultMaxMultipart,
		Model: s.Model, Unsettled: s.Settlement == Unsettled,
	}
	r.Dialect, _ = dialect.Lookup(s.Dialect)
	r.Hosts = compileHosts(s.Hosts)
	if r.CORS, err = compileCORS(s.CORS); err != nil {
		return r, err
	}
	if s.MaxDuration != "" {
		if r.MaxDuration, err = maxDuration.parse(s.MaxDuration); err != nil {
			return r, err
		}
	}
	if s.MaxWebSocketDuration != "" {
		if r.MaxWebSocketDuration, err = maxDuration.parse(s.MaxWebSocketDuration); err != nil {
			return r, err
		}
	}
	if s.MaxBody != "" {
		if r.MaxBody, err = parseSize(s.MaxBody); err != nil {
			return r, err
		}
		r.MaxMultipart = r.MaxBody
	}
	if s.Upstream != "" {
		if r.Upstream, err = from.upstream(s.Upstream); err != nil {
			return r, err
		}
		r.Upstream.Weight = 1
		r.Cluster = RouteCluster(s.Dialect, r.Hosts...)
	}
	return r, nil
}
