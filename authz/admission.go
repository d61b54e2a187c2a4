package authz

import (
	"time"

	"tollgate/authz/limit"
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
	RatesVersion   uint64

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
}

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
