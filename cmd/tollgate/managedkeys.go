package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tollgate/authz/key"
	"tollgate/authz/manage"
	"tollgate/events"
)

// lookup finds whose secret a digest is: cache.Keys does.
type lookup interface {
	Lookup(ctx context.Context, d key.Digest) (*key.Record, error)
}

// digests implements manage.Digests: a secret that was imported is claimed in the
// store, all others are in the index of all keys.
//
// Why that is enough: that nobody claimed an imported secret twice is the
// store's compare-and-set. A secret that Tollgate made is known outside only when
// its key is stored, so whoever imports it comes later: its claim has a higher
// revision, and an index that has all changes up to the claim's has that key.
type digests struct {
	keys  *events.Keys
	index lookup
	// applied is the revision up to which the index has all changes. nil: this is
	// the only replica, whose index has its own changes at once.
	applied func() uint64
}

// caughtUp waits until the index has all changes up to a revision.
func (d digests) caughtUp(ctx context.Context, revision uint64) error {
	const most = 5 * time.Second
	if d.applied == nil {
		return nil
	}
	err := poll(ctx, most, "the changes of keys were not read", func() bool { return d.applied() >= revision })
	if err != nil {
		return fmt.Errorf("%w: %w", key.ErrUnavailable, err)
	}
	return nil
}

// Owner returns which key has a secret.
func (d digests) Owner(ctx context.Context, digest key.Digest) (manage.KeyRef, error) {
	rec, err := d.index.Lookup(ctx, digest)
	if err != nil {
		return manage.KeyRef{}, err
	}
	return manage.KeyRef{Workspace: rec.Workspace, ID: rec.ID}, nil
}

// Claim makes a secret a key's, or says whose it is.
func (d digests) Claim(ctx context.Context, digest key.Digest, by manage.KeyRef) (manage.KeyRef, error) {
	claim, err := d.keys.ClaimDigest(ctx, digest, by.Workspace, by.ID, time.Now())
	if err != nil {
		return manage.KeyRef{}, err
	}
	owner := manage.KeyRef{Workspace: claim.Workspace, ID: claim.Key}
	if err := d.caughtUp(ctx, claim.Revision); err != nil {
		return manage.KeyRef{}, err
	}
	switch known, err := d.Owner(ctx, digest); {
	case err == nil:
		return known, nil
	case !errors.Is(err, key.ErrNotFound):
		return manage.KeyRef{}, err
	}
	return owner, nil
}

// onceOnly implements manage.Idempotency.
type onceOnly struct{ made *events.Idempotency }

// Claim notes what a name stands for, or returns what was noted before.
func (o onceOnly) Claim(ctx context.Context, name string, made manage.Made) (manage.Made, error) {
	id, fingerprint, err := o.made.Claim(ctx, name, made.ID, made.Fingerprint)
	if err != nil {
		return manage.Made{}, asKeyError(err)
	}
	return manage.Made{ID: id, Fingerprint: fingerprint}, nil
}
