package main

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"tollgate/authz/catalog"
	"tollgate/envoy"
)

// fleet brings catalogs to the connected Envoys. It implements proxies.
type fleet struct {
	*envoy.Fleet
	settings *settings

	mu     sync.Mutex
	latest int // counts Prepare and Finish, so that a late removal knows that it is overtaken; guarded by mu
}

func newFleet(s *settings) *fleet { return &fleet{Fleet: envoy.NewFleet(), settings: s} }

const (
	// prepareTime bounds how long an Envoy may take to have what is new.
	prepareTime = 10 * time.Second
	// lastChecks is how long a check that was decided by the old catalog may
	// still be on its way to be routed: the longest Check timeout.
	lastChecks = envoy.DefaultLargeCheckTimeout
)

// Prepare implements proxies.
func (f *fleet) Prepare(ctx context.Context, old, next *catalog.Tables) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latest++
	if err := f.publish(union(old, next)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, prepareTime)
	defer cancel()
	return f.Wait(ctx)
}

// Finish implements proxies. What is new in t, or all of it at the start, is
// there at once; what t does not have goes a little later.
func (f *fleet) Finish(t *catalog.Tables) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latest++
	if f.latest == 1 {
		return f.publish(t)
	}
	mine := f.latest
	time.AfterFunc(lastChecks, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.latest == mine {
			_ = f.publish(t) // it was published before, with more beside it
		}
	})
	return nil
}

func (f *fleet) publish(t *catalog.Tables) error {
	r, err := f.settings.resources(t)
	if err != nil {
		return err
	}
	return f.Publish(r)
}

// union is what two catalogs have together, as far as routing goes: next's, and
// what only old has.
func union(old, next *catalog.Tables) *catalog.Tables {
	u := *next
	u.Models = maps.Clone(old.Models)
	maps.Copy(u.Models, next.Models)
	u.Routes = slices.Clone(next.Routes)
	for _, r := range old.Routes {
		if !slices.ContainsFunc(next.Routes, func(n catalog.Route) bool { return n.Dialect == r.Dialect }) {
			u.Routes = append(u.Routes, r)
		}
	}
	return &u
}
