package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/authz"
	"tollgate/authz/key"
)

func TestPace(t *testing.T) {
	p, now := newPace(time.Second, 3), time.Now()
	for n, want := range []time.Duration{0, 0, 0, time.Second, time.Second} {
		if wait := p.take(now, "demo"); wait != want {
			t.Errorf("%d: wait for %v, want %v", n, wait, want)
		}
	}
	if wait := p.take(now, "other"); wait != 0 {
		t.Errorf("another workspace waits for %v", wait)
	}
	if wait := p.take(now.Add(-time.Second), "other"); wait != 0 {
		t.Errorf("by a clock that is behind it waits for %v", wait)
	}
	for n, want := range []time.Duration{0, time.Second} {
		if wait := p.take(now.Add(time.Second), "demo"); wait != want {
			t.Errorf("a second later, %d: wait for %v, want %v", n, wait, want)
		}
	}
	for n := range leastSweep {
		p.take(now.Add(time.Duration(n)*time.Minute), fmt.Sprint(n))
	}
	if len(p.rested) > leastSweep/2 {
		t.Errorf("%d are known, most of which have all their times again", len(p.rested))
	}
}

// Who asks for ids that nobody has, one after the other, comes to an end, and keeps
// nobody else from reading.
func TestObjectsAreLookedForAtAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := objects(t)
		defer c.Close()
		now := time.Now()
		s.bind(ours, now)
		if _, err := find(t, c, now, ours); err != nil {
			t.Fatal(err)
		}
		var many *authz.TooManyError
		for n := range 2 * readsAtOnce {
			unknown := authz.Object{Dialect: "minimax", Kind: "voice", ID: fmt.Sprint(n)}
			if _, err := c.Find(t.Context(), now, unknown, ours); errors.As(err, &many) {
				break
			}
		}
		if many == nil || many.Wait != readEach || s.reads != readsAtOnce {
			t.Fatalf("%v after %d reads, want %d", many, s.reads, readsAtOnce)
		}
		if b, err := find(t, c, now.Add(-1), ours); err != nil || b.Tenant != ours {
			t.Errorf("what is in memory: %+v, %v", b, err)
		}
		if _, err := c.Find(t.Context(), now, task, theirs); err != nil {
			t.Errorf("another workspace: %v", err)
		}
		// What is too old in memory may be another's by now: the bound must not open it.
		later := now.Add(freshFor)
		for range readsAtOnce {
			_, _ = c.Find(t.Context(), later, authz.Object{ID: "unknown"}, ours)
		}
		if _, err := c.Find(t.Context(), later, task, ours); !errors.As(err, &many) {
			t.Errorf("by memory that is too old: %v", err)
		}
		if _, err := c.Await(t.Context(), later, task, ours); !errors.As(err, &many) {
			t.Errorf("waiting: %v", err)
		}
	})
}

func TestObjectsAreMadeAtAPace(t *testing.T) {
	c, s := objects(t)
	now := time.Now()
	for n := range madeAtOnce {
		if err := c.Make(t.Context(), now, ours); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
	}
	var many *authz.TooManyError
	if err := c.Make(t.Context(), now, ours); !errors.As(err, &many) || many.Wait != madeEach {
		t.Errorf("one too many: %v", err)
	}
	if err := c.Make(t.Context(), now, theirs); err != nil {
		t.Errorf("another workspace: %v", err)
	}
	if err := c.Make(t.Context(), now.Add(madeEach), ours); err != nil {
		t.Errorf("later: %v", err)
	}
	s.full = true
	if err := c.Make(t.Context(), now, theirs); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("there is no room: %v", err)
	}
}

// Room implements ObjectStore.
func (s *shelf) Room(context.Context) error {
	if s.full {
		return errors.New("full")
	}
	return nil
}
