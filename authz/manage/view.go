package manage

import "tollgate/authz/key"

// Key is a key as the API tells it. Its secret is not among it.
type Key struct {
	ID          string            `json:"id"`
	Name        *string           `json:"name"`
	Prefix      string            `json:"prefix" doc:"The part of the key that may be shown"`
	CreatedAt   Time              `json:"createdAt"`
	LastUsedAt  *Time             `json:"lastUsedAt"`
	ExpiresAt   *Time             `json:"expiresAt"`
	Kind        key.Kind          `json:"kind"`
	Workspace   string            `json:"workspace"`
	User        *string           `json:"user"`
	Actions     []key.Action      `json:"actions"`
	Models      []string          `json:"models" doc:"null: all"`
	Limits      KeyLimits         `json:"limits"`
	Budget      *key.Budget       `json:"budget"`
	Environment *string           `json:"environment"`
	ExternalID  *string           `json:"externalId"`
	Labels      map[string]string `json:"labels"`
	CreatedBy   *string           `json:"createdBy"`
}

// CreatedKey is the answer to a creation: the one place where a secret stands.
type CreatedKey struct {
	Key
	Secret string `json:"key" doc:"The key itself. It is in this answer only"`
}

// KeyLimits are a key's own limits; nil: none.
type KeyLimits struct {
	RequestsPerMinute  *int64 `json:"requestsPerMinute"`
	TokensPerMinute    *int64 `json:"tokensPerMinute"`
	ConcurrentRequests *int64 `json:"concurrentRequests"`
}

// Me is who a personal key belongs to.
type Me struct {
	ID string `json:"id"`
}

// view is what the API tells of a record.
func (a *api) view(rec *key.Record) Key {
	k := Key{
		ID: rec.ID, Name: orNull(rec.Name), CreatedAt: Time(rec.CreatedAt), ExpiresAt: (*Time)(rec.ExpiresAt),
		Kind: rec.Kind, Workspace: rec.Workspace, User: orNull(rec.User), Actions: rec.Actions, Models: rec.Models,
		Limits: KeyLimits{
			RequestsPerMinute:  orNull(rec.Limits.RequestsPerMinute),
			TokensPerMinute:    orNull(rec.Limits.TokensPerMinute),
			ConcurrentRequests: orNull(rec.Limits.ConcurrentRequests),
		},
		Budget: rec.Budget, Environment: orNull(rec.Environment), ExternalID: orNull(rec.ExternalID),
		Labels: rec.Labels, CreatedBy: orNull(rec.CreatedBy),
	}
	if len(rec.Secrets) > 0 {
		k.Prefix = rec.Secrets[0].Prefix
	}
	if used, ok := a.LastUsed(rec.ID); ok {
		k.LastUsedAt = (*Time)(&used)
	}
	return k
}

// orNull is null for a zero value.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
