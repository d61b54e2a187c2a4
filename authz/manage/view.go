package manage

import (
	"time"

	"tollgate/authz/key"
)

// Key is a key as the API tells it. Its secret is not among it.
type Key struct {
	ID          string            `json:"id"`
	Name        *string           `json:"name"`
	Prefix      string            `json:"prefix" doc:"The part of the key that may be shown"`
	CreatedAt   Time              `json:"createdAt"`
	LastUsedAt  *Time             `json:"lastUsedAt" doc:"Of whichever secret"`
	Requests    *int64            `json:"requests" doc:"That were let through; null: not known"`
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
	Secrets     []KeySecret       `json:"secrets" doc:"Newest first: one, and two once the key was rotated"`
}

// KeySecret is what may be told of one secret of a key.
type KeySecret struct {
	Number     int    `json:"number" doc:"Names the secret among those of its key; the first one is 1"`
	Prefix     string `json:"prefix"`
	CreatedAt  Time   `json:"createdAt"`
	ExpiresAt  *Time  `json:"expiresAt" doc:"The end of its grace period; null: it lives as long as the key"`
	RevokedAt  *Time  `json:"revokedAt"`
	LastUsedAt *Time  `json:"lastUsedAt"`
}

// CreatedKey is the answer to a creation and to a rotation: the one place where a
// secret stands. An imported key has none.
type CreatedKey struct {
	Key
	Secret string `json:"key,omitzero" doc:"The key itself. It is in this answer only, and not there for a key that was imported"`
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
	k.LastUsedAt = a.lastUsed(rec.Workspace, rec.ID, 0)
	if n, ok := a.Requests(rec.Workspace, rec.ID); ok {
		k.Requests = &n
	}
	k.Secrets = make([]KeySecret, len(rec.Secrets))
	for i := range rec.Secrets {
		s := &rec.Secrets[i]
		number := max(1, s.Number)
		k.Secrets[i] = KeySecret{
			Number: number, Prefix: s.Prefix, CreatedAt: Time(s.CreatedAt), ExpiresAt: (*Time)(s.ExpiresAt),
			RevokedAt: (*Time)(s.RevokedAt), LastUsedAt: a.lastUsed(rec.Workspace, rec.ID, number),
		}
		// Of a secret that nothing is known of, another's last use may be told.
		if used := k.Secrets[i].LastUsedAt; used != nil && time.Time(*used).Before(s.CreatedAt) {
			k.Secrets[i].LastUsedAt = nil
		}
	}
	return k
}

func (a *api) lastUsed(workspace, keyID string, secret int) *Time {
	if used, ok := a.LastUsed(workspace, keyID, secret); ok {
		return (*Time)(&used)
	}
	return nil
}

// orNull is null for a zero value.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
