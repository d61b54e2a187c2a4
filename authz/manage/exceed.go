package manage

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"tollgate/authz/key"
	"tollgate/authz/money"
)

// inherit gives a new key the bounds of the key that makes it, from which the
// request's fields then start.
func inherit(rec, maker *key.Record) {
	rec.Models = slices.Clone(maker.Models)
	rec.ExpiresAt = maker.ExpiresAt
	rec.Budget = maker.Budget
	rec.Limits, rec.Raised = maker.Limits, maker.Raised
}

// exceeds returns an *Error when rec could do more than maker, the key that is
// presented to make or change it: then nothing may be stored. plan is what the
// workspace's plan gives each key that has no limit of its own; only the operator
// may give a key more.
func exceeds(rec, maker *key.Record, plan key.Limits) error {
	for _, a := range rec.Actions {
		if !maker.May(a) {
			return more("actions", "%s is not among the presented key's actions (%s)", a, list(maker.Actions))
		}
	}
	if maker.Models != nil {
		if rec.Models == nil {
			return more("models", "the presented key opens only %s", printable(list(maker.Models), maxText))
		}
		for _, m := range rec.Models {
			if !covers(maker.Models, m) {
				return more("models", "%s is not open to the presented key", printable(m, maxText))
			}
		}
	}
	if later(rec.ExpiresAt, maker.ExpiresAt) {
		return more("expiresAt", "the presented key ends at %s", maker.ExpiresAt.UTC().Format(timeFormat))
	}
	// What binds each; 0: nothing.
	have, most := rec.Bound(plan), maker.Bound(plan)
	for _, l := range []struct {
		name       string
		have, most int64
	}{
		{"limits.requestsPerMinute", have.RequestsPerMinute, most.RequestsPerMinute},
		{"limits.tokensPerMinute", have.TokensPerMinute, most.TokensPerMinute},
		{"limits.concurrentRequests", have.ConcurrentRequests, most.ConcurrentRequests},
	} {
		if l.most != 0 && (l.have == 0 || l.have > l.most) {
			return more(l.name, "the presented key has %d", l.most)
		}
	}
	if b := maker.Budget; b != nil && !within(rec.Budget, b) {
		return more("budget", "the presented key has %s/%s", b.Amount, b.Period)
	}
	return nil
}

// planLimits are what the plan of a workspace gives each key; none where the
// workspace is gone.
func (a *api) planLimits(workspace string) key.Limits {
	if w := a.Tables().Workspaces[workspace]; w != nil {
		return w.Plan.PerKey
	}
	return key.Limits{}
}

func more(field, format string, args ...any) error {
	e := invalid(field, format, args...)
	return refuse(http.StatusForbidden, "%s. A key can't give more than it has; use one that has it", e.Message)
}

// coversAll reports whether a list of models (nil: all) opens every model that
// another one opens.
func coversAll(patterns, others []string) bool {
	if patterns == nil {
		return true
	}
	if others == nil {
		return covers(patterns, "*")
	}
	for _, m := range others {
		if !covers(patterns, m) {
			return false
		}
	}
	return true
}

// covers reports whether every model that pattern opens is opened by patterns.
func covers(patterns []string, pattern string) bool {
	for _, p := range patterns {
		if p == "*" || p == pattern {
			return true
		}
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(pattern, prefix) {
			return true
		}
	}
	return false
}

// later reports whether t is after most; nil is never.
func later(t, most *time.Time) bool {
	return most != nil && (t == nil || t.After(*most))
}

// within reports whether a budget allows no more than most does. Budgets of
// different periods are not compared.
func within(b, most *key.Budget) bool {
	if b == nil || b.Period != most.Period {
		return false
	}
	have, err1 := money.Parse(b.Amount)
	bound, err2 := money.Parse(most.Amount)
	return err1 == nil && err2 == nil && have.Cmp(bound) <= 0
}
