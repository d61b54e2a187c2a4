package key

import (
	"errors"
	"time"
)

// What can be wrong with a change of a key's secrets.
var (
	// ErrNoSecret: the key has no secret of that number, or had it.
	ErrNoSecret = errors.New("the key has no such secret")
	// ErrLastSecret: without this one nothing would open the key.
	ErrLastSecret = errors.New("the key's only secret that is valid")
)

// live reports whether the secret opens its key at now, as far as the key does.
func (s *Secret) live(now time.Time) bool { return s.RevokedAt == nil && !past(s.ExpiresAt, now) }

// Rotate gives the key another secret; its Number is set. Of the secrets that it
// had, the newest one that is valid lives on until now + grace, or until the end
// of an earlier grace period if that comes first; all older ones are forgotten,
// so they open nothing any more. With grace 0 the last one is revoked rather than
// expired, because clocks of replicas differ.
//
// A secret that is no longer valid stays in the record until the next rotation:
// when it was used last is how one learns that nobody missed it.
func (r *Record) Rotate(s Secret, grace time.Duration, now time.Time) {
	s.Number = 1
	kept := -1
	for i := range r.Secrets {
		s.Number = max(s.Number, max(1, r.Secrets[i].Number)+1)
		if kept < 0 || !r.Secrets[kept].live(now) && r.Secrets[i].live(now) {
			kept = i
		}
	}
	if kept < 0 {
		r.Secrets = []Secret{s}
		return
	}
	old := r.Secrets[kept]
	old.Number = max(1, old.Number)
	end := now.Add(grace)
	switch {
	case !old.live(now):
	case grace <= 0:
		old.RevokedAt = &now
	case old.ExpiresAt == nil || end.Before(*old.ExpiresAt):
		old.ExpiresAt = &end
	}
	r.Secrets = []Secret{s, old}
}

// RevokeSecret ends one secret of the key, which lives on with the other.
// ErrNoSecret, ErrLastSecret: nothing was changed.
func (r *Record) RevokeSecret(number int, now time.Time) error {
	at, others := -1, 0
	for i := range r.Secrets {
		switch s := &r.Secrets[i]; {
		case max(1, s.Number) == number:
			at = i
		case s.live(now):
			others++
		}
	}
	switch {
	case at < 0:
		return ErrNoSecret
	case !r.Secrets[at].live(now):
		return ErrNoSecret
	case others == 0:
		return ErrLastSecret
	}
	r.Secrets[at].RevokedAt = &now
	return nil
}
