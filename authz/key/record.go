// Package key is what an API key is: how its secret is made, written and
// recognised (Format), and what is stored of it (Record). It does no I/O.
//
// A secret is in one answer, once. Everything here but Format's generator works
// on the secret's SHA-256.
package key

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Digest is the SHA-256 of a whole presented secret.
type Digest [sha256.Size]byte

// DigestOf hashes a secret. It does not allocate.
func DigestOf(secret string) Digest { return sha256.Sum256([]byte(secret)) }

// String is the digest in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes the digest as String does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("a SHA-256 is %d hexadecimal digits, not %d characters", hex.EncodedLen(len(d)), len(text))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// Kind says whom a key belongs to.
type Kind string

// The kinds of key.
const (
	Personal  Kind = "personal"  // belongs to a user and has that user's permissions
	Workspace Kind = "workspace" // shared
	Operator  Kind = "operator"  // runs Tollgate; never stored
)

// Action is what a request does, and what a key may do.
type Action string

// The actions. A key with Infer only is an inference key; one without it is an
// account token.
const (
	Infer   Action = "infer"
	Wake    Action = "wake"
	Manage  Action = "manage"
	Metrics Action = "metrics"
)

// Status is where a key is in its life. There is no way back from Revoked.
type Status string

// The states of a key.
const (
	Active  Status = "active"
	Revoked Status = "revoked"
)

// Secret is one secret of a key. A key has one, and two once it was rotated.
type Secret struct {
	// Number tells the secrets of a key apart; the first one is 1. A record that
	// was stored before there was rotation says 0 of its only one.
	Number    int        `json:"n,omitzero"`
	Digest    Digest     `json:"digest"`
	Prefix    string     `json:"prefix"` // the part that may be shown; "": nothing may, of an imported one
	CreatedAt time.Time  `json:"createdAt"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty"` // end of the grace period; nil: lives as long as the key
	RevokedAt *time.Time `json:"revokedAt,omitempty"`
}

// Budget is the most that a key may cost in a period of UTC, in USD. It binds
// beside its workspace's.
type Budget struct {
	Period string `json:"period"` // day, month or total
	Amount string `json:"amount"` // an exact decimal, not negative
}

// RecordVersion is the version of the stored form that this code writes. It
// reads this one and the one before it.
const RecordVersion = 1

// Record is what is stored of a key, and what the cache holds: one record per
// key id, changed only by compare-and-set. A Record that was handed out by a
// store or a cache is shared and must not be changed; use Clone.
type Record struct {
	Version     int               `json:"v"`
	ID          string            `json:"id"` // a UUID
	Workspace   string            `json:"workspace"`
	Kind        Kind              `json:"kind"`
	User        string            `json:"user,omitempty"` // of a personal key
	Name        string            `json:"name,omitempty"`
	Status      Status            `json:"status"`
	Secrets     []Secret          `json:"secrets"` // newest first
	Actions     []Action          `json:"actions"`
	Models      []string          `json:"models,omitzero"`      // exact ids or prefix/*; nil: all; empty: none
	Limits      Limits            `json:"limits,omitzero"`      // its own; see Bound
	Raised      Limits            `json:"raised,omitzero"`      // those of Limits that were set above the plan's
	Budget      *Budget           `json:"budget,omitempty"`     // not changed in place; nil: none
	Generation  string            `json:"generation,omitempty"` // of the workspace or user it was made for, see catalog.Tables.Owner
	Environment string            `json:"environment,omitempty"`
	ExternalID  string            `json:"externalId,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	CreatedAt   time.Time         `json:"createdAt"`
	CreatedBy   string            `json:"createdBy,omitempty"`
	ExpiresAt   *time.Time        `json:"expiresAt,omitempty"`
	RevokedAt   *time.Time        `json:"revokedAt,omitempty"`

	// Revision is the store's, of the change that this record is the result of.
	// It is not part of the stored form.
	Revision uint64 `json:"-"`
}

// Owner is who a key belongs to, which never changes. Whoever may see one key of an
// owner's may see all that open the same models.
type Owner struct {
	Workspace  string
	Kind       Kind
	User       string // of personal keys
	Generation string // see Record
}

// Owner returns who the key belongs to.
func (r *Record) Owner() Owner { return Owner{r.Workspace, r.Kind, r.User, r.Generation} }

// Secret returns the index of the secret with this digest, or -1.
func (r *Record) Secret(d Digest) int {
	for i := range r.Secrets {
		if r.Secrets[i].Digest == d {
			return i
		}
	}
	return -1
}

// Valid reports whether the key opens anything at now when presented as the
// secret with digest d.
func (r *Record) Valid(d Digest, now time.Time) bool {
	i := r.Secret(d)
	return i >= 0 && r.Status == Active && !past(r.ExpiresAt, now) && r.Secrets[i].live(now)
}

func past(t *time.Time, now time.Time) bool { return t != nil && !now.Before(*t) }

// May reports whether the key has the action.
func (r *Record) May(a Action) bool { return slices.Contains(r.Actions, a) }

// Opens reports whether the key's own list of models has the model.
func (r *Record) Opens(model string) bool { return r.Models == nil || MatchModel(r.Models, model) }

// MatchModel reports whether a list of exact ids, prefix/* patterns or * has
// the model.
func MatchModel(patterns []string, model string) bool {
	for _, p := range patterns {
		if p == model || p == "*" {
			return true
		}
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasSuffix(prefix, "/") && strings.HasPrefix(model, prefix) {
			return true
		}
	}
	return false
}

// Clone returns a copy that may be changed.
func (r *Record) Clone() *Record {
	c := *r
	c.Secrets = slices.Clone(r.Secrets)
	c.Actions = slices.Clone(r.Actions)
	c.Models = slices.Clone(r.Models)
	if r.Labels != nil {
		c.Labels = make(map[string]string, len(r.Labels))
		maps.Copy(c.Labels, r.Labels)
	}
	return &c
}
