package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tollgate/authz"
)

const (
	resourcePrefix  = "r."
	resourceVersion = 1
	// firstGeneration stands in a name where the generation is "".
	firstGeneration = "_"
)

// storedTally is the written form of a tally.
type storedTally struct {
	Version int                  `json:"v"`
	Count   int64                `json:"count"`
	Held    map[string]time.Time `json:"held,omitempty"` // by admission; UTC
	Done    []string             `json:"done,omitempty"` // oldest first
}

// resourceName is where a resource is counted. Its parts are of the catalog, which
// has no others than fit into a subject.
func resourceName(r authz.Resource) string {
	generation := r.Generation
	if generation == "" {
		generation = firstGeneration
	}
	return resourcePrefix + r.Workspace + "." + generation + "." + r.Name
}

func encodeTally(t *authz.Tally) ([]byte, error) {
	return json.Marshal(storedTally{resourceVersion, t.Count, t.Held, t.Done})
}

func decodeTally(name string, value []byte) (authz.Tally, error) {
	var s storedTally
	if err := json.Unmarshal(value, &s); err != nil {
		return authz.Tally{}, fmt.Errorf("%s: %w", name, err)
	}
	if s.Version != resourceVersion || s.Count < 0 {
		return authz.Tally{}, fmt.Errorf("%s has version %d and a count of %d: this Tollgate reads version %d, and counts from 0", name, s.Version, s.Count, resourceVersion)
	}
	return authz.Tally{Count: s.Count, Held: s.Held, Done: s.Done}, nil
}

// Reserve implements authz.Resources.
func (s *Objects) Reserve(ctx context.Context, now time.Time, r authz.Resource, most int64, admission string, until time.Time) (reserved bool, err error) {
	err = s.change(ctx, r, func(t *authz.Tally) bool {
		_, had := t.Held[admission]
		reserved = t.Reserve(now, most, admission, until.UTC().Truncate(time.Microsecond))
		return reserved && !had
	})
	return reserved && err == nil, err
}

// Free implements authz.Resources.
func (s *Objects) Free(ctx context.Context, r authz.Resource, admission string) error {
	return s.change(ctx, r, func(t *authz.Tally) bool { return t.Free(admission) })
}

// Tally implements authz.Resources.
func (s *Objects) Tally(ctx context.Context, r authz.Resource) (authz.Tally, error) {
	t, _, err := s.tally(ctx, resourceName(r))
	return t, err
}

// Correct makes the count of a resource another one. What is under way goes on: it
// holds its place, and counts when it has succeeded.
func (s *Objects) Correct(ctx context.Context, r authz.Resource, count int64) error {
	return s.change(ctx, r, func(t *authz.Tally) bool {
		changed := t.Count != count
		t.Count = count
		return changed
	})
}

func (s *Objects) tally(ctx context.Context, name string) (authz.Tally, uint64, error) {
	e, err := s.bucket.last(ctx, name)
	switch {
	case errors.Is(err, ErrNotFound):
		return authz.Tally{}, 0, nil
	case err != nil:
		return authz.Tally{}, 0, err
	case e.deleted:
		return authz.Tally{}, e.revision, nil
	}
	t, err := decodeTally(name, e.value)
	if err != nil {
		return authz.Tally{}, 0, fmt.Errorf("%w: %w: %w", ErrUnavailable, errUnreadable, err)
	}
	return t, e.revision, nil
}

// change writes what f makes of a tally, again where somebody else was faster. f
// reports whether it changed anything.
func (s *Objects) change(ctx context.Context, r authz.Resource, f func(*authz.Tally) bool) error {
	name := resourceName(r)
	return s.again(ctx, func() error {
		t, revision, err := s.tally(ctx, name)
		if err != nil || !f(&t) {
			return err
		}
		value, err := encodeTally(&t)
		if err != nil {
			return err
		}
		_, err = s.bucket.put(ctx, name, value, revision)
		return err
	})
}

// settle frees the place of an admission and counts what it changed; name tells the
// change from others, and is the admission's id where it holds a place.
func (s *Objects) settle(ctx context.Context, r authz.Resource, name string, delta int64) error {
	return s.change(ctx, r, func(t *authz.Tally) bool {
		freed := t.Free(name)
		return delta != 0 && t.Change(name, delta) || freed
	})
}
