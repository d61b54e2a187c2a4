package key_test

import (
	"testing"

	"tollgate/authz/key"
)

// TestBound: a key's own limit narrows what its plan gives each key; only one that was
// raised above the plan's stands in its place, also when the plan changes.
func TestBound(t *testing.T) {
	for _, c := range []struct {
		name                   string
		own, planThen, planNow int64
		want                   int64
	}{
		{"none", 0, 0, 0, 0},
		{"the plan's", 0, 60, 60, 60},
		{"its own, below the plan's", 10, 60, 60, 10},
		{"its own, on a plan without", 10, 0, 0, 10},
		{"raised above the plan's", 100, 60, 60, 100},
		{"raised, and the plan gets smaller", 100, 60, 5, 100},
		{"as much as the plan gave, and the plan gets smaller", 60, 60, 5, 5},
		{"set where the plan gave any number, and the plan gets one", 1000, 0, 5, 5},
		{"below what the plan gave, and the plan gets larger", 10, 60, 600, 10},
		{"raised, and the plan gets larger", 100, 60, 600, 100},
	} {
		r := key.Record{
			Limits: key.Limits{TokensPerMinute: c.own},
			Raised: key.Limits{TokensPerMinute: key.Above(c.own, c.planThen)},
		}
		if got := r.Bound(key.Limits{RequestsPerMinute: 7, TokensPerMinute: c.planNow}); got != (key.Limits{RequestsPerMinute: 7, TokensPerMinute: c.want}) {
			t.Errorf("%s: %+v, want %d", c.name, got, c.want)
		}
	}
}
