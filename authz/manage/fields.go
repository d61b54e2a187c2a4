package manage

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
)

// Bounds of what a key's fields may hold.
const (
	maxName   = 100 // characters
	maxText   = 256 // bytes: a model's id, an external id, a label's value
	maxLabel  = 64  // bytes: a label's name, an environment
	maxLabels = 32
	maxModels = 256
	maxLimit  = 1_000_000_000_000
	maxPrefix = 16 // characters of an imported key that may be shown
)

// KeyRequest is the body of the creation of a key. Everything is optional.
type KeyRequest struct {
	Kind      *key.Kind `json:"kind,omitzero" enum:"personal,workspace" doc:"Without it, a user makes it a personal key"`
	Workspace *string   `json:"workspace,omitzero" doc:"For the operator; where there is one workspace it is the default"`
	User      *string   `json:"user,omitzero" doc:"Whose personal key it is"`
	// SHA256 and Prefix are of a key that is imported.
	SHA256 *key.Digest `json:"sha256,omitzero" doc:"Imports a key that callers have already: the SHA-256 of the whole of it, 64 hexadecimal digits"`
	Prefix *string     `json:"prefix,omitzero" doc:"Of an imported key: the part of it that may be shown, its first 1 to 16 characters"`
	KeyFields

	// IdempotencyKey is the header of that name, not part of the body.
	IdempotencyKey string `json:"-"`
}

// KeyFields are the fields of a key that a request may set. In a change, what
// isn't there stays, and null removes.
type KeyFields struct {
	Name        Change[string]             `json:"name,omitzero" doc:"1 to 100 characters once trimmed; blank is null"`
	Actions     Change[[]key.Action]       `json:"actions,omitzero" doc:"What the key may do: infer, wake, manage, metrics"`
	Models      Change[[]string]           `json:"models,omitzero" doc:"Exact ids or prefix/*; null is all"`
	ExpiresAt   Change[Time]               `json:"expiresAt,omitzero"`
	Limits      Change[LimitFields]        `json:"limits,omitzero" doc:"Bind beside the plan's; a limit that isn't there stays"`
	Budget      Change[key.Budget]         `json:"budget,omitzero" doc:"Most that the key may cost in a day, a month or in total, in USD"`
	Environment Change[string]             `json:"environment,omitzero"`
	ExternalID  Change[string]             `json:"externalId,omitzero" doc:"Yours; copied into each usage event"`
	Labels      Change[map[string]*string] `json:"labels,omitzero" doc:"Yours; copied into each usage event. A label that isn't there stays, null removes one"`
}

// LimitFields are changes to a key's own limits.
type LimitFields struct {
	RequestsPerMinute  Change[int64] `json:"requestsPerMinute,omitzero"`
	TokensPerMinute    Change[int64] `json:"tokensPerMinute,omitzero"`
	ConcurrentRequests Change[int64] `json:"concurrentRequests,omitzero"`
}

// apply makes the changes to rec, or returns an *Error that names the field.
// rec is then of no use. plan is what the workspace's plan gives each key.
func (f *KeyFields) apply(rec *key.Record, now time.Time, plan key.Limits) error {
	for _, step := range []func(*key.Record) error{
		f.name, f.actions, f.models, f.budget, f.texts, f.labels,
		func(rec *key.Record) error { return f.limits(rec, plan) },
		func(rec *key.Record) error { return f.expiry(rec, now) },
	} {
		if err := step(rec); err != nil {
			return err
		}
	}
	return nil
}

func (f *KeyFields) name(rec *key.Record) error {
	if !f.Name.Said {
		return nil
	}
	rec.Name = ""
	if f.Name.To == nil {
		return nil
	}
	name := strings.TrimSpace(*f.Name.To)
	if n := utf8.RuneCountInString(name); n > maxName {
		return invalid("name", "has %d characters; use at most %d", n, maxName)
	}
	rec.Name = name
	return plainText("name", name)
}

// plainText refuses text that a terminal would act on, or that a consumer of events
// can't store, such as NUL.
func plainText(field, s string) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return invalid(field, "has control characters; leave them out")
	}
	return nil
}

var allActions = []key.Action{key.Infer, key.Wake, key.Manage, key.Metrics}

func (f *KeyFields) actions(rec *key.Record) error {
	if !f.Actions.Said {
		return nil
	}
	if f.Actions.To == nil || len(*f.Actions.To) == 0 {
		return invalid("actions", "a key needs at least one of %s", list(allActions))
	}
	rec.Actions = nil
	for _, a := range *f.Actions.To {
		if !slices.Contains(allActions, a) {
			return invalid("actions", "there is no action %q; use %s", printable(string(a), maxLabel), list(allActions))
		}
		if !slices.Contains(rec.Actions, a) {
			rec.Actions = append(rec.Actions, a)
		}
	}
	return nil
}

func (f *KeyFields) models(rec *key.Record) error {
	if !f.Models.Said {
		return nil
	}
	rec.Models = nil
	if f.Models.To == nil {
		return nil
	}
	switch n := len(*f.Models.To); {
	case n == 0:
		return invalid("models", "an empty list would open nothing; leave it out, or send null, for all models")
	case n > maxModels:
		return invalid("models", "has %d entries; use at most %d, or patterns such as prefix/*", n, maxModels)
	}
	for i, m := range *f.Models.To {
		if !validPattern(m) {
			return invalid(fmt.Sprintf("models[%d]", i), "must be a model's id, a pattern such as prefix/*, or *")
		}
		if !slices.Contains(rec.Models, m) {
			rec.Models = append(rec.Models, m)
		}
	}
	return nil
}

// validPattern reports whether m is an exact id, prefix/* or *.
func validPattern(m string) bool {
	if m == "*" {
		return true
	}
	id, _ := strings.CutSuffix(m, "/*")
	return id != "" && len(m) <= maxText && !strings.ContainsFunc(id, func(r rune) bool {
		return r <= ' ' || r == '*' || r == 0x7f
	})
}

func (f *KeyFields) expiry(rec *key.Record, now time.Time) error {
	if !f.ExpiresAt.Said {
		return nil
	}
	rec.ExpiresAt = nil
	if f.ExpiresAt.To == nil {
		return nil
	}
	at := time.Time(*f.ExpiresAt.To)
	if !at.After(now) {
		return invalid("expiresAt", "must be in the future; it is %s now", now.UTC().Format(timeFormat))
	}
	rec.ExpiresAt = &at
	return nil
}

func (f *KeyFields) limits(rec *key.Record, plan key.Limits) error {
	if !f.Limits.Said {
		return nil
	}
	if f.Limits.To == nil {
		rec.Limits, rec.Raised = key.Limits{}, key.Limits{}
		return nil
	}
	own, raised, to := &rec.Limits, &rec.Raised, f.Limits.To
	for _, l := range []struct {
		name string
		Change[int64]
		field, raised *int64
		plan          int64
	}{
		{"limits.requestsPerMinute", to.RequestsPerMinute, &own.RequestsPerMinute, &raised.RequestsPerMinute, plan.RequestsPerMinute},
		{"limits.tokensPerMinute", to.TokensPerMinute, &own.TokensPerMinute, &raised.TokensPerMinute, plan.TokensPerMinute},
		{"limits.concurrentRequests", to.ConcurrentRequests, &own.ConcurrentRequests, &raised.ConcurrentRequests, plan.ConcurrentRequests},
	} {
		switch {
		case !l.Said:
		case l.To == nil:
			*l.field, *l.raised = 0, 0
		case *l.To < 1 || *l.To > maxLimit:
			return invalid(l.name, "must be from 1 to %d; leave it out, or send null, for no limit", int64(maxLimit))
		default:
			*l.field, *l.raised = *l.To, key.Above(*l.To, l.plan)
		}
	}
	return nil
}

func (f *KeyFields) budget(rec *key.Record) error {
	if !f.Budget.Said {
		return nil
	}
	rec.Budget = f.Budget.To
	if rec.Budget == nil {
		return nil
	}
	if p := rec.Budget.Period; p != "day" && p != "month" && p != "total" {
		return invalid("budget.period", "must be day, month or total")
	}
	if err := catalog.CheckAmount(rec.Budget.Amount); err != nil {
		return invalid("budget.amount", `must be an amount in USD as a string, such as "10.00", of 18 digits at most`)
	}
	return nil
}

// texts applies the fields that are plain strings.
func (f *KeyFields) texts(rec *key.Record) error {
	for _, t := range []struct {
		name string
		most int
		Change[string]
		field *string
	}{
		{"environment", maxLabel, f.Environment, &rec.Environment},
		{"externalId", maxText, f.ExternalID, &rec.ExternalID},
	} {
		if !t.Said {
			continue
		}
		*t.field = ""
		if t.To == nil {
			continue
		}
		*t.field = strings.TrimSpace(*t.To)
		if len(*t.field) > t.most {
			return invalid(t.name, "is longer than %d bytes", t.most)
		}
		if err := plainText(t.name, *t.field); err != nil {
			return err
		}
	}
	return nil
}

func (f *KeyFields) labels(rec *key.Record) error {
	if !f.Labels.Said {
		return nil
	}
	if f.Labels.To == nil {
		rec.Labels = nil
		return nil
	}
	if rec.Labels == nil {
		rec.Labels = make(map[string]string, len(*f.Labels.To))
	}
	for name, value := range *f.Labels.To {
		switch {
		case value == nil && len(name) <= maxLabel:
			delete(rec.Labels, name)
		case name == "" || len(name) > maxLabel || plainText("", name) != nil:
			return invalid("labels", "a label's name has 1 to %d bytes and no control characters", maxLabel)
		case len(*value) > maxText:
			return invalid("labels."+printable(name, maxLabel), "is longer than %d bytes", maxText)
		default:
			if err := plainText("labels."+printable(name, maxLabel), *value); err != nil {
				return err
			}
			rec.Labels[name] = *value
		}
	}
	if len(rec.Labels) > maxLabels {
		return invalid("labels", "there would be %d; use at most %d", len(rec.Labels), maxLabels)
	}
	return nil
}

// list writes words as "a, b, c".
func list[S ~string](words []S) string {
	s := make([]string, len(words))
	for i, w := range words {
		s[i] = string(w)
	}
	return strings.Join(s, ", ")
}
