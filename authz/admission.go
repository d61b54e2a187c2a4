package authz

import (
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/limit"
	"tollgate/authz/money"
	"tollgate/authz/reason"
)

// Admission is what a check allowed and reserved: all that its settlement, on
// any replica and after any restart, needs to know. It is written down before
// the request goes on (Journal) and travels with it (Token).
type Admission struct {
	ID        string // a UUIDv7; the event's id and requestId
	Replica   string // the owner, which alone may close it
	Workspace string
	Key       string // the key's id; "" where Observed says why there is none
	User      string // of a personal key

	ExternalID string
	Labels     []Label // of workspace, user and key, joined
	Tags       []Label // caller's headers, by settings.tagHeaders

	Model           string
	Dialect         string
	ClientRequestID string
	// ProxyRequestID is the request's id at the proxy. Admissions that share one
	// are of the same request: its check was repeated, and all but one of them
	// will not be settled.
	ProxyRequestID string
	TraceParent    string
	Stream         bool
	Capped         bool // the request names a maximum of output tokens
	// Path is the dialect's path that the request took, as dialect.Path.Name has
	// it; "" in one of version 1. dialect.PathOf finds it again.
	Path string
	// Choices is how many answers the request wants.
	Choices int64

	// What it will be billed by, as it was when the request began: the list prices
	// of its model (from the tables of RatesVersion, in force since RatesFrom; zero:
	// ever), what they are multiplied by for this workspace, and what is billed
	// where the usage isn't known for sure. Rates must not be changed.
	Rates        []Rate
	RatesVersion uint64
	RatesFrom    time.Time
	Multiplier   money.Amount
	Billing      catalog.Billing

	Start    time.Time // microseconds, UTC
	Deadline time.Time // when the sweep may close it: the route's maxDuration + 2 min

	// Observed is why the request would have been refused, had its route not been
	// in observe mode: KeyMissing or KeyInvalid. None: it presented a valid key.
	Observed reason.Reason

	// Reserved is what the limits hold for it.
	Reserved limit.Grant
	// InputEstimate and OutputEstimate are what was reserved for prompt and
	// answer, in tokens.
	InputEstimate, OutputEstimate int64
	// PromptBytes is how much text the prompt had, to learn from.
	PromptBytes int64
	// ModelLimit is the pattern of the plan's perModel limit that was counted,
	// "" if none.
	ModelLimit string
	// Held is the cost that budgets and credit hold for it.
	Held money.Amount
	// Creating is the id of the object that the request names and that a success
	// makes, or removes where its path counts one less; "": none, or the answer
	// says it.
	Creating string
	// Counting is the plan's counted resource that a success changes; "": none.
	Counting string
	// Generation tells the workspace from others of the same id, for what a success
	// binds to it or counts; "" where it does neither.
	Generation string
}

// Rate is the list price of one unit.
type Rate = catalog.Rate

// demands names the counters that the admission holds, without their limits, in
// the order of their scopes. It appends to d.
func (a *Admission) demands(d []limit.Demand) []limit.Demand {
	return demands(d, a.Reserved.Counted, a.Key, a.User, a.Workspace, a.ModelLimit)
}

// demands is the one place that says which counter a scope has.
func demands(d []limit.Demand, scopes limit.Set, keyID, user, workspace, model string) []limit.Demand {
	for s := range limit.Scopes {
		if !scopes.Has(s) {
			continue
		}
		switch s {
		case limit.Key:
			d = append(d, limit.Demand{Scope: s, Tenant: keyID})
		case limit.User:
			d = append(d, limit.Demand{Scope: s, Tenant: workspace, Name: user})
		case limit.Workspace:
			d = append(d, limit.Demand{Scope: s, Tenant: workspace})
		case limit.Model:
			d = append(d, limit.Demand{Scope: s, Tenant: workspace, Name: model})
		}
	}
	return d
}

// Label is a name and its value.
type Label struct{ Name, Value string }
