package cache

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/authz"
	"tollgate/authz/key"
)

// shelf is an ObjectStore in memory that counts reads.
type shelf struct {
	mu    sync.Mutex
	bound map[authz.Object]authz.Binding
	away  bool
	full  bool
	reads int
}

func (s *shelf) Binding(_ context.Context, o authz.Object) (authz.Binding, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.away {
		return authz.Binding{}, errors.New("no responders")
	}
	return s.bound[o], nil
}

func (s *shelf) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

var (
	task   = authz.Object{Dialect: "minimax", Kind: "task", ID: "1"}
	ours   = authz.Tenant{Workspace: "demo"}
	theirs = authz.Tenant{Workspace: "other"}
)

func objects(t *testing.T) (*Objects, *shelf) {
	t.Helper()
	s := &shelf{bound: map[authz.Object]authz.Binding{}}
	c, err := NewObjects(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, s
}

func (s *shelf) bind(t authz.Tenant, from time.Time) {
	s.set(func() { s.bound[task] = authz.Binding{Tenant: t, From: from, Until: from.Add(24 * time.Hour)} })
}

func find(t *testing.T, c *Objects, now time.Time, by authz.Tenant) (authz.Binding, error) {
	t.Helper()
	b, err := c.Find(t.Context(), now, task, by)
	c.memory.Wait()
	return b, err
}

func TestObjectsAreRemembered(t *testing.T) {
	c, s := objects(t)
	now := time.Now()
	s.bind(ours, now)
	for range 3 {
		if b, err := find(t, c, now, ours); err != nil || b.Tenant != ours {
			t.Fatalf("%+v, %v", b, err)
		}
	}
	if s.reads != 1 {
		t.Errorf("%d reads for one object", s.reads)
	}
	// Others are not told from memory, and are not remembered.
	for range 2 {
		if b, err := find(t, c, now, theirs); err != nil || b.Tenant != ours {
			t.Fatalf("%+v, %v", b, err)
		}
	}
	if s.reads != 3 {
		t.Errorf("%d reads, want one more for each of two strangers", s.reads)
	}

	// It was removed, and is another's later: memory is too old by then.
	s.bind(theirs, now.Add(authz.ObjectRest))
	if b, err := find(t, c, now.Add(authz.ObjectRest), ours); err != nil || b.Tenant != theirs {
		t.Errorf("as it was a minute ago: %+v, %v", b, err)
	}
}

func TestObjectsWhileTheStoreIsAway(t *testing.T) {
	c, s := objects(t)
	now := time.Now()
	s.bind(ours, now)
	if _, err := find(t, c, now, ours); err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.away = true })
	if b, err := find(t, c, now.Add(50*time.Minute), ours); err != nil || b.Tenant != ours {
		t.Errorf("what is known: %+v, %v", b, err)
	}
	if _, err := find(t, c, now, theirs); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("what isn't: %v", err)
	}
	if _, err := c.Await(t.Context(), now.Add(25*time.Hour), task, ours); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("what is over: %v", err)
	}
}

// await asks for the task in a bubble in which time is not real, and returns how
// long it took.
func await(ctx context.Context, t *testing.T, c *Objects) (authz.Binding, time.Duration) {
	t.Helper()
	began := time.Now()
	b, err := c.Await(ctx, began, task, ours)
	if err != nil {
		t.Error(err)
	}
	return b, time.Since(began)
}

func TestObjectsAreAwaited(t *testing.T) {
	for what, test := range map[string]func(t *testing.T, c *Objects, s *shelf){
		"that come": func(t *testing.T, c *Objects, s *shelf) {
			now := time.Now()
			time.AfterFunc(100*time.Millisecond, func() { s.bind(ours, now) })
			if b, took := await(t.Context(), t, c); b.Tenant != ours || took > 100*time.Millisecond+awaitEach {
				t.Errorf("%+v after %v", b, took)
			}
		},
		"that never come": func(t *testing.T, c *Objects, s *shelf) {
			if b, took := await(t.Context(), t, c); b != (authz.Binding{}) || took != awaitMost {
				t.Errorf("%+v after %v", b, took)
			}
			if s.reads > 20 {
				t.Errorf("%d reads", s.reads)
			}
		},
		"that are another's, as long as what never comes": func(t *testing.T, c *Objects, s *shelf) {
			s.bind(theirs, time.Now())
			if b, took := await(t.Context(), t, c); b.Tenant != theirs || took != awaitMost {
				t.Errorf("%+v after %v", b, took)
			}
		},
		"for less than the caller has": func(t *testing.T, c *Objects, _ *shelf) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if _, took := await(ctx, t, c); took != 150*time.Millisecond {
				t.Errorf("%v", took)
			}
		},
		"by a few at a time": func(t *testing.T, c *Objects, _ *shelf) {
			var all sync.WaitGroup
			for range maxWaiting {
				all.Go(func() { await(t.Context(), t, c) })
			}
			synctest.Wait()
			if _, took := await(t.Context(), t, c); took != 0 {
				t.Errorf("one too many waited for %v", took)
			}
			other := authz.Tenant{Workspace: "another"}
			began := time.Now()
			if _, err := c.Await(t.Context(), began, task, other); err != nil || time.Since(began) != awaitMost {
				t.Errorf("another workspace: %v after %v", err, time.Since(began))
			}
			all.Wait()
			if len(c.waiting) != 0 || c.all != 0 {
				t.Errorf("still waiting: %v, %d", c.waiting, c.all)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := objects(t)
				test(t, c, s)
				c.Close()
			})
		})
	}
}
