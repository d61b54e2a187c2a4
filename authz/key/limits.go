package key

import "cmp"

// Limits are limits per minute, a key's own or what a plan gives each key. Zero
// means no limit of that kind.
type Limits struct {
	RequestsPerMinute  int64 `json:"requestsPerMinute,omitempty" yaml:"requestsPerMinute,omitempty"`
	TokensPerMinute    int64 `json:"tokensPerMinute,omitempty" yaml:"tokensPerMinute,omitempty"`
	ConcurrentRequests int64 `json:"concurrentRequests,omitempty" yaml:"concurrentRequests,omitempty"`
}

// Bound is what binds the key by itself where plan is what its workspace's plan gives
// each key: of each kind the lower one of its own and the plan's. Only one that was
// above the plan's when it was set, which the operator alone may do, stands in the
// place of that. So a workspace that comes to a smaller plan has its limits whatever
// its keys say, and a key that the operator raised keeps what it was given.
func (r *Record) Bound(plan Limits) Limits {
	return Limits{
		RequestsPerMinute:  bound(r.Limits.RequestsPerMinute, r.Raised.RequestsPerMinute, plan.RequestsPerMinute),
		TokensPerMinute:    bound(r.Limits.TokensPerMinute, r.Raised.TokensPerMinute, plan.TokensPerMinute),
		ConcurrentRequests: bound(r.Limits.ConcurrentRequests, r.Raised.ConcurrentRequests, plan.ConcurrentRequests),
	}
}

func bound(own, raised, plan int64) int64 {
	switch {
	case raised != 0:
		return raised
	case own == 0 || plan == 0:
		return cmp.Or(own, plan)
	}
	return min(own, plan)
}

// Above is the Raised of a limit that is set now.
func Above(own, plan int64) int64 {
	if plan != 0 && own > plan {
		return own
	}
	return 0
}
