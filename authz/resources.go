package authz

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"tollgate/authz/reason"
)

// Tenant is a workspace, told from others of the same id before and after it.
type Tenant struct{ Workspace, Generation string }

// Resource is something of a tenant's that its plan counts.
type Resource struct {
	Tenant

	Name string // as in the plan's resources
}

// Resources keep how many of each resource tenants have, the same for all replicas:
// they change by what settlements say, and what is under way holds its place before
// that. The methods may wait for a store as long as ctx allows; an error means that
// it is not known what happened there.
type Resources interface {
	// Reserve holds a place for an admission, and reports whether there was one
	// left of most. It is held until the admission is settled, at the latest until
	// the given time. A repetition changes nothing.
	Reserve(ctx context.Context, now time.Time, r Resource, most int64, admission string, until time.Time) (bool, error)
	// Free gives the place of an admission back, if it holds one.
	Free(ctx context.Context, r Resource, admission string) error
	// Tally returns what there is, zero of what was never counted.
	Tally(ctx context.Context, r Resource) (Tally, error)
}

// Bounds of a Tally, so that a stored one stays small.
const (
	// maxHeld is how many requests that make one of the resource may be under way.
	maxHeld = 1024
	// maxDone is how many changes are remembered. A change is repeated by a replica
	// that was killed just after it, so it is among the last ones.
	maxDone = 256
)

// Tally is how many a tenant has of a resource. The zero value is none. It decides
// and does no I/O; it is for one goroutine.
type Tally struct {
	Count int64
	// Held are the places of admissions that are not settled, each with the time
	// at which it is free again if nobody settles.
	Held map[string]time.Time
	// Done are the changes that were counted last, oldest first, each by a name
	// that only its repetition has.
	Done []string
}

// Taken is the number of places that are not free.
func (t *Tally) Taken(now time.Time) int64 {
	taken := t.Count
	for _, until := range t.Held {
		if now.Before(until) {
			taken++
		}
	}
	return taken
}

// Reserve holds a place for an admission, unless most are taken. It reports whether
// the admission has one now, and forgets places whose time is over.
func (t *Tally) Reserve(now time.Time, most int64, admission string, until time.Time) bool {
	maps.DeleteFunc(t.Held, func(_ string, until time.Time) bool { return !now.Before(until) })
	if _, has := t.Held[admission]; has {
		return true
	}
	if t.Taken(now) >= most || len(t.Held) >= maxHeld {
		return false
	}
	if t.Held == nil {
		t.Held = map[string]time.Time{}
	}
	t.Held[admission] = until
	return true
}

// Free gives the place of an admission back. It reports whether it had one.
func (t *Tally) Free(admission string) bool {
	_, had := t.Held[admission]
	delete(t.Held, admission)
	return had
}

// Change counts delta more, never below 0, unless the change of this name was
// counted before. It reports whether it counted.
func (t *Tally) Change(name string, delta int64) bool {
	if slices.Contains(t.Done, name) {
		return false
	}
	t.Count = max(0, t.Count+delta)
	t.Done = append(t.Done, name)
	t.Done = t.Done[max(0, len(t.Done)-maxDone):]
	return true
}

// heldLonger is how long after its deadline an admission holds its place: until
// then its settlement has come about, unless NATS or the replica that has it was
// away for as long.
const heldLonger = time.Hour

// reserveResource holds a place for what the request makes where the plan has a cap
// of it. It is the last of what is reserved, because it alone asks a store. An
// explanation only looks.
func (c *check) reserveResource(ctx context.Context, a *Admission) bool {
	counts := c.call.Path.Counts
	if counts == nil || counts.Delta <= 0 {
		return true
	}
	most, capped := c.workspace.Plan.Resources[counts.Name]
	if !capped {
		return true
	}
	free, err := most > 0, error(nil)
	r := Resource{c.tenant(), counts.Name}
	switch {
	case !free:
		c.why.Detail = fmt.Sprintf("The plan of this workspace has no %s. Change the plan to make one.", counts.Name)
	case c.Resources == nil:
		return c.refuse(reason.Unavailable)
	case c.question != nil:
		var t Tally
		t, err = c.Resources.Tally(ctx, r)
		free = t.Taken(c.now) < most
	default:
		free, err = c.Resources.Reserve(ctx, c.now, r, most, a.ID, a.Deadline.Add(heldLonger))
		c.holds = free || err != nil // else it isn't known
	}
	if err != nil {
		return c.refuse(reason.Unavailable)
	}
	if free {
		return true
	}
	if c.why.Detail == "" {
		c.why.Detail = fmt.Sprintf("The plan's cap of %d %s is reached. Delete one, or change the plan.", most, counts.Name)
		if most == 1 { // resources are named in the plural
			c.why.Detail = fmt.Sprintf("The plan's cap of 1 for %s is reached. Delete the one there is, or change the plan.", counts.Name)
		}
	}
	return c.refuse(reason.ResourceLimitExceeded)
}

// stillIdentified looks again who asks where the store was asked in between, which
// takes a while.
func (c *check) stillIdentified(ctx context.Context) bool { return !c.holds || c.identify(ctx) }

// freeResource gives back what reserveResource took, for a request that is refused
// after it. Should that fail, the place is held until its time is over.
func (c *check) freeResource(ctx context.Context, a *Admission) {
	if c.holds {
		_ = c.Resources.Free(context.WithoutCancel(ctx), Resource{Tenant{a.Workspace, a.Generation}, a.Counting}, a.ID)
	}
}
