package cache

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"tollgate/authz"
	"tollgate/authz/key"
)

// ObjectStore reads whose an object is, zero where it is nobody's. It must answer
// with what was acknowledged last.
type ObjectStore interface {
	Binding(ctx context.Context, o authz.Object) (authz.Binding, error)
	// Room returns an error where the store may have no room for new objects.
	Room(ctx context.Context) error
}

// Objects implements authz.Objects: it remembers bindings of whoever asked for them,
// and waits for those that are about to come.
//
// Memory is gone by only for the tenant that an object belongs to, and only for
// freshFor. The id of an object that was removed becomes nobody else's for longer
// than that, so memory never opens what is another tenant's. While the store can't
// be asked, older memory does: known keys pass then for the revocation bound, and
// so does what is known to be theirs.
//
// All methods are safe for concurrent use.
type Objects struct {
	store  ObjectStore
	memory *ristretto.Cache[string, read]
	// Of the store all workspaces have a share.
	reads, made *pace

	mu      sync.Mutex
	waiting map[string]int // by workspace, those that wait; guarded by mu, as all
	all     int
}

// read is a binding and when the store said so.
type read struct {
	object  authz.Object // a hash that collides is another's
	binding authz.Binding
	at      time.Time
}

const (
	freshFor = authz.ObjectRest / 2
	// rememberFor bounds memory that is gone by only while the store is away.
	rememberFor = time.Hour
	// maxObjects is how many bindings are in memory: some 50 MB.
	maxObjects = 100_000
	// A workspace's reads of the store, and the objects that it makes; by each
	// replica. The latter bounds what is stored for one: of tasks, which are known
	// for 30 days, 1.3 million by a replica, two thirds of the store.
	readsAtOnce = 2000
	readEach    = 5 * time.Millisecond
	madeAtOnce  = 10_000
	madeEach    = 2 * time.Second
)

// NewObjects makes an Objects with nothing in memory.
func NewObjects(store ObjectStore) (*Objects, error) {
	memory, err := ristretto.NewCache(&ristretto.Config[string, read]{
		NumCounters: 10 * maxObjects, MaxCost: maxObjects, BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("the cache of objects: %w", err)
	}
	return &Objects{
		store: store, memory: memory, reads: newPace(readEach, readsAtOnce), made: newPace(madeEach, madeAtOnce), waiting: map[string]int{},
	}, nil
}

// Close stops ristretto's goroutines. The cache must not be used after it.
func (c *Objects) Close() { c.memory.Close() }

func nameOf(o authz.Object) string { return o.Dialect + "\x00" + o.Kind + "\x00" + o.ID }

// Find implements authz.Objects. The error wraps key.ErrUnavailable, or is an
// *authz.TooManyError.
func (c *Objects) Find(ctx context.Context, now time.Time, o authz.Object, t authz.Tenant) (authz.Binding, error) {
	known, ok := c.memory.Get(nameOf(o))
	if ok = ok && known.object == o && known.binding.Of(t, now); ok && now.Sub(known.at) < freshFor {
		return known.binding, nil
	}
	if wait := c.reads.take(now, t.Workspace); wait > 0 {
		return authz.Binding{}, &authz.TooManyError{Wait: wait} // memory that is too old is for a store that is away
	}
	b, err := c.store.Binding(ctx, o)
	switch {
	case err == nil:
	case ok:
		return known.binding, nil
	default:
		return authz.Binding{}, fmt.Errorf("%w: %w", key.ErrUnavailable, err)
	}
	if b.Of(t, now) {
		c.memory.SetWithTTL(nameOf(o), read{o, b, now}, 1, rememberFor)
	}
	return b, nil
}

// Make implements authz.Objects. The error is as Find's.
func (c *Objects) Make(ctx context.Context, now time.Time, t authz.Tenant) error {
	if err := c.store.Room(ctx); err != nil {
		return fmt.Errorf("%w: %w", key.ErrUnavailable, err)
	}
	if wait := c.made.take(now, t.Workspace); wait > 0 {
		return &authz.TooManyError{Wait: wait}
	}
	return nil
}

// How Await waits. It ends before Envoy gives up on the check, which is after a
// second for a small request.
const (
	awaitMost  = 700 * time.Millisecond
	awaitFirst = 5 * time.Millisecond
	awaitEach  = 80 * time.Millisecond
	// Who asks for what isn't there keeps others of the workspace from waiting, and
	// everybody only in the end.
	maxWaiting    = 32
	maxAllWaiting = 2048
)

// Await implements authz.Objects. Where too many wait already it is Find.
func (c *Objects) Await(ctx context.Context, now time.Time, o authz.Object, t authz.Tenant) (authz.Binding, error) {
	b, err := c.Find(ctx, now, o, t)
	if err != nil || b.Of(t, now) || !c.enter(t.Workspace) {
		return b, err
	}
	defer c.leave(t.Workspace)
	most := awaitMost
	if deadline, ok := ctx.Deadline(); ok { // to answer in time
		most = min(most, time.Until(deadline)*3/4)
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for pause := awaitFirst; ; pause = min(2*pause, awaitEach) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return b, nil
		case <-timer.C:
		}
		next, err := c.Find(ctx, now, o, t)
		if err != nil && ctx.Err() != nil {
			return b, nil // it was asked before, and what was said then is as good
		}
		if err != nil || next.Of(t, now) {
			return next, err
		}
		b = next
	}
}

func (c *Objects) enter(workspace string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[workspace] >= maxWaiting || c.all >= maxAllWaiting {
		return false
	}
	c.waiting[workspace]++
	c.all++
	return true
}

func (c *Objects) leave(workspace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.waiting[workspace]--; c.waiting[workspace] == 0 {
		delete(c.waiting, workspace)
	}
}
