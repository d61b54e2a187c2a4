package events

import (
	"time"

	"tollgate/authz/key"
)

// What a restore does with a key whose record the store has already: nothing, but
// that what either knows to be revoked is revoked in the end. There is no telling
// which of two records is the newer one, and a key that was rotated or narrowed
// must not get back what it lost; but a revocation is never taken back, so the one
// that has it is right.

// withRevocations is there with the revocations that saved has besides, and
// whether there are any. It changes neither.
func withRevocations(there, saved *key.Record) (*key.Record, bool) {
	merged, changed := there.Clone(), false
	if saved.Status == key.Revoked && there.Status != key.Revoked {
		merged.Status, changed = key.Revoked, true
		merged.RevokedAt = revokedAt(saved.RevokedAt, there.CreatedAt)
	}
	for i := range saved.Secrets {
		s := &saved.Secrets[i]
		if s.RevokedAt == nil {
			continue
		}
		if at := merged.Secret(s.Digest); at >= 0 && merged.Secrets[at].RevokedAt == nil {
			merged.Secrets[at].RevokedAt, changed = s.RevokedAt, true
		}
	}
	return merged, changed
}

// revokedAt is when, as far as it is known.
func revokedAt(at *time.Time, otherwise time.Time) *time.Time {
	if at != nil {
		return at
	}
	return &otherwise
}

// digests are whose the secrets in a store are. A secret that was revoked with one
// key must not come back with another one.
type digests map[key.Digest]string // the name of the key's record

func (d digests) add(name string, rec *key.Record) {
	for i := range rec.Secrets {
		d[rec.Secrets[i].Digest] = name
	}
}

// taken reports whether a record has a secret that another key has.
func (d digests) taken(name string, rec *key.Record) bool {
	for i := range rec.Secrets {
		if owner, ok := d[rec.Secrets[i].Digest]; ok && owner != name {
			return true
		}
	}
	return false
}
