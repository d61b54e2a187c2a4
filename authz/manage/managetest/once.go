package managetest

import (
	"context"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

type digests Store

func (d *digests) Owner(_ context.Context, digest key.Digest) (manage.KeyRef, error) {
	s := (*Store)(d)
	if err := s.before("owner"); err != nil {
		return manage.KeyRef{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner(digest)
}

// owner is whose a digest is; s.mu is held.
func (s *Store) owner(digest key.Digest) (manage.KeyRef, error) {
	for _, rec := range s.keys {
		if rec.Secret(digest) >= 0 {
			return manage.KeyRef{Workspace: rec.Workspace, ID: rec.ID}, nil
		}
	}
	return manage.KeyRef{}, key.ErrNotFound
}

func (d *digests) Claim(_ context.Context, digest key.Digest, by manage.KeyRef) (manage.KeyRef, error) {
	s := (*Store)(d)
	if err := s.before("claim"); err != nil {
		return manage.KeyRef{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if is, err := s.owner(digest); err == nil {
		return is, nil
	}
	switch is, ok := s.claims[digest]; {
	case !ok:
		s.claims[digest] = by
	case is.Workspace != by.Workspace:
		return manage.KeyRef{}, key.ErrConflict
	}
	return s.claims[digest], nil
}

type idempotency Store

func (i *idempotency) Claim(_ context.Context, name string, made manage.Made) (manage.Made, error) {
	s := (*Store)(i)
	if err := s.before("once"); err != nil {
		return manage.Made{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.made[name]; !ok {
		s.made[name] = made
	}
	return s.made[name], nil
}
