// Package catalog is what the operator writes down: workspaces, users, plans,
// models, routes and settings.
//
// A Catalog is that text as values: Parse reads it (YAML or JSON) and says what
// is wrong with it and where, Encode writes its stored form. Compile turns it
// into Tables, which never change and are what a decision looks things up in.
// docs/catalog.md describes every field for people, Schema for editors.
package catalog

import (
	"encoding/json"
	"fmt"

	"tollgate/authz/key"
)

// Version is the version of the form that Encode writes. Parse reads this one;
// there is none before it.
const Version = 1

// Catalog is all that an operator declares. Zero values stand for what was not
// written; Compile puts the defaults in. So what is stored says only what the
// operator said.
type Catalog struct {
	// Version is the form's; 0: the newest.
	Version    int64           `json:"v,omitzero"`
	Workspaces []WorkspaceSpec `json:"workspaces,omitzero"`
	Users      []UserSpec      `json:"users,omitzero"`
	Plans      []PlanSpec      `json:"plans,omitzero"`
	Models     []ModelSpec     `json:"models,omitzero"`
	Routes     []RouteSpec     `json:"routes,omitzero"`
	Settings   SettingsSpec    `json:"settings,omitzero"`
}

// WorkspaceSpec declares a tenant.
type WorkspaceSpec struct {
	ID          string          `json:"id"`
	Plan        string          `json:"plan"`
	Suspended   bool            `json:"suspended,omitzero"`
	KeyDefaults KeyDefaultsSpec `json:"keyDefaults,omitzero"`
	// KeyFormat is a pattern of key.ParseFormat; "": key.DefaultFormat.
	KeyFormat string `json:"keyFormat,omitzero"`
	// Multiplier is a decimal; "": the plan's.
	Multiplier string            `json:"multiplier,omitzero"`
	ExternalID string            `json:"externalId,omitzero"`
	Labels     map[string]string `json:"labels,omitzero"`
	// Managed and Generation are of the stored form, see generation.go; so is
	// Credit, see credit.go. nil: the workspace is not prepaid.
	Managed    []string    `json:"managed,omitzero"`
	Generation string      `json:"generation,omitzero"`
	Credit     *CreditSpec `json:"credit,omitzero"`
}

// KeyDefaultsSpec is what a key of the workspace has unless it is made with
// something else.
type KeyDefaultsSpec struct {
	// Actions; nil: infer.
	Actions []key.Action `json:"actions,omitzero"`
}

// UserSpec declares a person in a workspace.
type UserSpec struct {
	ID         string            `json:"id"`
	Workspace  string            `json:"workspace"`
	Role       Role              `json:"role,omitzero"` // "": Member
	Suspended  bool              `json:"suspended,omitzero"`
	ExternalID string            `json:"externalId,omitzero"`
	Labels     map[string]string `json:"labels,omitzero"`
	// Managed and Generation are of the stored form, see generation.go.
	Managed    []string `json:"managed,omitzero"`
	Generation string   `json:"generation,omitzero"`
	// SuspendedByAdmin is too: an admin of the workspace did, who may take it back;
	// else the operator did.
	SuspendedByAdmin bool `json:"suspendedByAdmin,omitzero"`
}

// Role is what a user may do beside using models.
type Role string

// The roles.
const (
	Admin  Role = "admin"  // manages all keys of the workspace
	Member Role = "member" // manages the personal keys of their own
)

// PlanSpec declares what a workspace may use, and how much.
type PlanSpec struct {
	ID     string      `json:"id"`
	Limits LimitsSpec  `json:"limits,omitzero"`
	Budget *BudgetSpec `json:"budget,omitzero"` // of the workspace; nil: none
	// Multiplier of the list price, a decimal; "": 1.
	Multiplier string `json:"multiplier,omitzero"`
	// Models are exact ids, prefix/* or *; nil: all.
	Models []string `json:"models,omitzero"`
	// Resources are caps of counted resources: missing: none; 0: closed.
	Resources map[string]int64 `json:"resources,omitzero"`
}

// LimitsSpec are a plan's limits; every one that applies binds. In the text it
// may be written flat, as a key.Limits, which means PerKey.
type LimitsSpec struct {
	PerKey       key.Limits `json:"perKey,omitzero"`
	PerUser      key.Limits `json:"perUser,omitzero"`
	PerWorkspace key.Limits `json:"perWorkspace,omitzero"`
	// PerModel are limits of the workspace for a model, by its id, prefix/* or *.
	PerModel map[string]key.Limits `json:"perModel,omitzero"`
}

// Period is a stretch of time in UTC that a budget is for.
type Period string

// The periods.
const (
	Day   Period = "day"
	Month Period = "month"
	Total Period = "total"
)

// BudgetSpec declares what a workspace may spend.
type BudgetSpec struct {
	Period Period `json:"period"`
	Amount string `json:"amount"` // USD, a decimal
}

// ModelSpec declares a model: with Upstreams, with a Cluster, or with neither,
// where the mesh routes on the model header.
type ModelSpec struct {
	ID string `json:"id"`
	// Deployed; nil: yes, unless it was undeployed by command.
	Deployed *bool `json:"deployed,omitzero"`
	// Workspaces that see the model; nil: all.
	Workspaces []string       `json:"workspaces,omitzero"`
	Upstreams  []UpstreamSpec `json:"upstreams,omitzero"`
	// CAFile has the certificates, in PEM, that https upstreams' are checked
	// against; "": the system's.
	CAFile      string           `json:"caFile,omitzero"`
	HealthCheck *HealthCheckSpec `json:"healthCheck,omitzero"` // nil: upstreams that fail are left out for a while
	// Cluster is the name of an Envoy cluster of the operator's.
	Cluster string `json:"cluster,omitzero"`
	// UpstreamModel is the name that the upstream knows; "": ID.
	UpstreamModel string          `json:"upstreamModel,omitzero"`
	Credential    *CredentialSpec `json:"credential,omitzero"` // nil: none
	Rates         RatesSpec       `json:"rates,omitzero"`      // nil: free
}

// UpstreamSpec is one place that serves a model. Those of a model share
// scheme, path, credential and the name they know it by.
type UpstreamSpec struct {
	URL    string `json:"url"`             // http, https, or env:NAME
	Weight int64  `json:"weight,omitzero"` // 0: 1
}

// HealthCheckSpec says how to find out which of a model's upstreams can serve.
type HealthCheckSpec struct {
	Path     string `json:"path"`              // of a GET that answers 200, as the upstream knows it
	Interval string `json:"interval,omitzero"` // 1s to 5m; "": DefaultHealthInterval
	Timeout  string `json:"timeout,omitzero"`  // 100ms to 5s; "": DefaultHealthTimeout
}

// CredentialSpec says where the secret for an upstream is found. In the text it
// may be written as From alone.
type CredentialSpec struct {
	From   string `json:"from"`            // env:NAME or file:PATH
	Header string `json:"header,omitzero"` // "": authorization
	// Scheme goes before the secret; nil: Bearer in the header authorization,
	// nothing in others.
	Scheme *string `json:"scheme,omitzero"`
}

// Mode is what a route does with a request that has no valid key.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce" // refuse it
	Observe Mode = "observe" // let it through and record the reason
)

// RouteSpec opens the paths of a dialect.
type RouteSpec struct {
	Dialect string `json:"dialect"`
	// Hosts are those that the route is for, such as api.example.com or
	// *.example.com; nil: all.
	Hosts []string  `json:"hosts,omitzero"`
	CORS  *CORSSpec `json:"cors,omitzero"` // nil: browsers may not call it from other origins
	// Upstream is where paths go that name no model, as UpstreamSpec.URL; "":
	// nowhere.
	Upstream string `json:"upstream,omitzero"`
	// Model is what a request counts as, and where it goes, that names no model, nor an
	// object that one made; "": none.
	Model       string `json:"model,omitzero"`
	MaxDuration string `json:"maxDuration,omitzero"` // such as 90s or 2h; "": DefaultMaxDuration
	// MaxWebSocketDuration is MaxDuration for WebSockets; "": DefaultMaxWebSocketDuration.
	MaxWebSocketDuration string `json:"maxWebSocketDuration,omitzero"`
	// MaxBody is such as 512KiB or 16MiB; "": DefaultMaxBody, and
	// DefaultMaxMultipart for multipart/form-data.
	MaxBody string `json:"maxBody,omitzero"`
	Mode    Mode   `json:"mode,omitzero"` // "": Enforce
	// Observe is for Mode Observe.
	Observe ObserveSpec `json:"observe,omitzero"`
	// Settlement says who tells what became of a request; "": SettledByEnvoy.
	Settlement Settlement `json:"settlement,omitzero"`
}

// ObserveSpec says what becomes of requests that a route in mode Observe lets
// through.
type ObserveSpec struct {
	// Workspace owns them: its models, plan and usage; "": the only one.
	Workspace string `json:"workspace,omitzero"`
}

// Settlement is how a route's admissions are settled.
type Settlement string

// The settlements.
const (
	SettledByEnvoy Settlement = "envoy" // by Envoy, when the stream is done
	Unsettled      Settlement = "none"  // by nobody: at once, with what was reserved
)

// SettingsSpec is what holds for all.
type SettingsSpec struct {
	// ModelHeader tells the upstream and the mesh the model; "": DefaultModelHeader.
	ModelHeader string `json:"modelHeader,omitzero"`
	// TagHeaders are headers of the caller's that go into the event.
	TagHeaders []string    `json:"tagHeaders,omitzero"`
	Billing    BillingSpec `json:"billing,omitzero"`
}

// Charge is a policy of what is billed.
type Charge string

// The policies.
const (
	ChargeZero     Charge = "zero"     // nothing
	ChargeEstimate Charge = "charge"   // what was estimated
	ChargeReported Charge = "reported" // what the upstream stated, if it did
)

// BillingSpec says what is billed where the plain case doesn't hold.
type BillingSpec struct {
	Unsettled     Charge `json:"unsettled,omitzero"`     // nobody told the usage: zero (""), charge
	Estimated     Charge `json:"estimated,omitzero"`     // from what passed: charge (""), zero
	UpstreamError Charge `json:"upstreamError,omitzero"` // the upstream failed: reported (""), zero
}

// Encode returns the stored form of a catalog: JSON, the same bytes for equal
// catalogs, which Parse reads.
func Encode(c *Catalog) ([]byte, error) {
	stored := *c
	stored.Version = Version
	b, err := json.Marshal(&stored)
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	return b, nil
}
