package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"tollgate/authz/catalog"
	"tollgate/envoy"
)

// fleet brings catalogs to the connected Envoys. It implements proxies.
type fleet struct {
	*envoy.Fleet
	token    string // that Envoys show
	settings *settings
	started  time.Time

	mu        sync.Mutex      // held for as long as Prepare takes; guards the following
	latest    int             // counts Prepare and Finish, so that a late removal knows that it is overtaken
	published *catalog.Tables // what Envoys were sent last; nil: nothing yet
	removing  *catalog.Tables // what they are sent next, unless overtaken; nil: nothing
}

// newFleet makes a fleet of Envoys that show token, which is the same for all
// replicas.
func newFleet(s *settings, token string) *fleet {
	return &fleet{Fleet: envoy.NewFleet(token), token: token, settings: s, started: time.Now()}
}

const (
	// prepareTime bounds how long an Envoy may take to have what is new.
	prepareTime = 10 * time.Second
	// lastChecks is how long a check that was decided by the old catalog may
	// still be on its way to be routed: the longest Check timeout.
	lastChecks = envoy.DefaultLargeCheckTimeout
	// comeBack is how long after the start Envoys of the process before may take
	// to connect. Until then nobody knows how many there are to wait for.
	comeBack = 2 * envoy.ReconnectTime
)

// Prepare implements proxies. After an error Envoys are sent again what they had.
// Where no Envoy has to change for it, it doesn't wait for any.
func (f *fleet) Prepare(ctx context.Context, old, next *catalog.Tables) error {
	if err := f.settings.credentialsMayTravel(next); err != nil {
		return err
	}
	if sameRouting(old, next) {
		return nil // what was in force is
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := sleepUntil(ctx, f.started.Add(comeBack)); err != nil {
		return err
	}
	f.overtake()
	before := f.published
	if err := f.publish(union(old, next)); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, prepareTime)
	defer cancel()
	err := f.Wait(waiting)
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w after %v (does every upstream's name resolve?)", err, prepareTime)
	}
	return errors.Join(err, f.publish(before))
}

func sleepUntil(ctx context.Context, t time.Time) error {
	select {
	case <-time.After(time.Until(t)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Finish implements proxies. What is new in t, or all of it at the start, is
// there at once; what t does not have goes a little later.
func (f *fleet) Finish(t *catalog.Tables) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.removing != nil && sameRouting(f.removing, t) {
		return nil // or changes that are none to Envoys would put it off for ever
	}
	f.overtake()
	if f.published == nil {
		return f.publish(t)
	}
	if sameRouting(f.published, t) {
		return nil
	}
	if all := union(f.published, t); !sameRouting(f.published, all) {
		// Nobody prepared for it here: this replica was away, or was starting.
		if err := f.publish(all); err != nil {
			return err
		}
	}
	f.removing = t
	mine := f.latest
	time.AfterFunc(lastChecks, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.latest == mine {
			f.removing = nil
			_ = f.publish(t) // it was published before, with more beside it
		}
	})
	return nil
}

// overtake calls a removal off that waits. f.mu is held.
func (f *fleet) overtake() {
	f.latest++
	f.removing = nil
}

// publish makes t's routing what Envoys have. f.mu is held.
func (f *fleet) publish(t *catalog.Tables) error {
	r, err := f.settings.resources(t, f.token)
	if err != nil {
		return err
	}
	if err := f.Publish(r); err != nil {
		return err
	}
	f.published = t
	return nil
}

// sameRouting reports whether two catalogs make the same configuration of Envoys,
// their upstreams' credentials and certificates included.
func sameRouting(a, b *catalog.Tables) bool {
	return slices.Equal(a.Settings.TagHeaders, b.Settings.TagHeaders) && reflect.DeepEqual(routing(a), routing(b))
}

// union is what two catalogs have together, as far as routing goes: next's, and
// what only old has.
func union(old, next *catalog.Tables) *catalog.Tables {
	u := *next
	u.Models = maps.Clone(old.Models)
	for id, m := range next.Models {
		if was := old.Models[id]; was != nil && len(m.Upstreams) == 0 {
			m = was // whoever was admitted to our cluster finds it
		}
		u.Models[id] = m
	}
	u.Routes = slices.Clone(next.Routes)
	for _, r := range old.Routes {
		if !slices.ContainsFunc(next.Routes, func(n catalog.Route) bool { return n.Dialect == r.Dialect }) {
			u.Routes = append(u.Routes, r)
		}
	}
	return &u
}
