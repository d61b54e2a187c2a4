package authz

import (
	"context"
	"errors"
	"net/http"
	"time"

	"tollgate/authz/dialect"
	"tollgate/authz/reason"
)

// Object names something in an upstream's account that outlives the request which
// made it. Tenants share such accounts, so it has to be known whose each one is.
type Object struct{ Dialect, Kind, ID string }

// Binding says whose an object is. The zero value: nobody's.
type Binding struct {
	Tenant

	Model     string // whose upstream has it; "": the route's
	Key, User string // who made it; ids, User only of a personal key
	// From is the start of the admission that made it, Until when it ceases to be
	// the tenant's; microseconds, UTC.
	From, Until time.Time
}

// ObjectRest is for how long the id of an object that was removed, or is too old to
// be remembered, is nobody else's. A replica may go by what it has read for less
// than that.
const ObjectRest = time.Minute

// Of reports whether the object is a tenant's.
func (b *Binding) Of(t Tenant, now time.Time) bool {
	return b.Tenant == t && now.Before(b.Until)
}

// Taken reports whether the object is, or was a moment ago, another tenant's.
func (b *Binding) Taken(t Tenant, now time.Time) bool {
	return b.Workspace != "" && b.Tenant != t && now.Before(b.Until.Add(ObjectRest))
}

// TooManyError says that a tenant has to wait, so that others have their share of
// the store of objects.
type TooManyError struct{ Wait time.Duration }

func (e *TooManyError) Error() string { return "too many, wait for " + e.Wait.String() }

// Objects tell whose objects are. The methods may wait for a store as long as ctx
// allows. An error means that it can't be told, a *TooManyError when it can be.
type Objects interface {
	// Find returns whose an object is, zero where it is nobody's. For the tenant
	// that it belongs to the answer may be older, but less than ObjectRest.
	Find(ctx context.Context, now time.Time, o Object, t Tenant) (Binding, error)
	// Await is Find that waits, where the object isn't the tenant's, less than a
	// second for it to become so: whoever was just told of an object asks for it
	// before the settlement has said whose it is.
	Await(ctx context.Context, now time.Time, o Object, t Tenant) (Binding, error)
	// Make counts that a tenant is about to make an object. It returns an error
	// where there would be no room to remember whose it is, or where the tenant
	// made too many of late.
	Make(ctx context.Context, now time.Time, t Tenant) error
}

// Succeeded reports whether the upstream did what was asked for, by its own word
// and its status.
func (u *Usage) Succeeded() bool {
	return u.Status/100 == 2 && !u.Refused && u.Outcome != NotSent
}

// untold reports whether somebody came back and could not tell what the upstream
// answered, as on a route that nobody settles: then one was made, for a cap to hold.
func (u *Usage) untold() bool { return u.Outcome == Unknown && u.Measurement != None }

// Created returns the object that the request made and for how long it is to be
// remembered whose it is. It returns false where it made none.
func (u *Usage) Created() (Object, time.Duration, bool) {
	p := u.path()
	if p == nil || p.Creates == nil || !u.Succeeded() {
		return Object{}, 0, false
	}
	id := u.Object
	if p.Creates.Member == "" {
		id = u.Admission.Creating
	}
	return Object{Dialect: u.Admission.Dialect, Kind: p.Creates.Kind, ID: id}, p.Creates.Keep, id != ""
}

// Removed returns the object that the request removed. It returns false where it
// removed none.
func (u *Usage) Removed() (Object, bool) {
	p, id := u.path(), u.Admission.Creating
	if p == nil || !removes(p) || id == "" || !u.Succeeded() {
		return Object{}, false
	}
	return Object{Dialect: u.Admission.Dialect, Kind: p.Mentions[0].Kind, ID: id}, true
}

// Counted returns the counted resource that the request could change and by how
// many it did, which may be 0. It returns false where the path counts nothing.
func (u *Usage) Counted() (r Resource, delta int64, ok bool) {
	a, p := u.Admission, u.path()
	if a.Counting == "" {
		return Resource{}, 0, false
	}
	if p != nil && p.Counts != nil && (u.Succeeded() || p.Counts.Delta > 0 && u.untold()) {
		delta = p.Counts.Delta
	}
	return Resource{Tenant{a.Workspace, a.Generation}, a.Counting}, delta, true
}

func (u *Usage) path() *dialect.Path {
	if u.Admission.Path == "" {
		return nil
	}
	return dialect.PathOf(u.Admission.Dialect, u.Admission.Path)
}

// removes reports whether a success at a path removes the object that the request
// mentions first.
func removes(p *dialect.Path) bool {
	return p.Counts != nil && p.Counts.Delta < 0 && len(p.Mentions) > 0
}

func (c *check) tenant() Tenant { return Tenant{c.workspace.ID, c.workspace.Generation} }

// findObjects sees to it that all objects which the request names are the
// workspace's own, and takes from them the model of a request that names none. An
// object of another workspace is refused with the bytes, and after the time, of one
// that doesn't exist. An explanation names no objects.
func (c *check) findObjects(ctx context.Context) bool {
	if len(c.call.Mentioned) == 0 && c.call.Creating == "" || c.question != nil {
		return true
	}
	if c.Objects == nil {
		return c.refuse(reason.Unavailable)
	}
	for i := range c.call.Mentioned {
		if !c.findObject(ctx, &c.call.Mentioned[i]) {
			return false
		}
	}
	// This took a while, and who asks must be who it was still.
	return c.checkCreating(ctx) && c.identify(ctx)
}

func (c *check) findObject(ctx context.Context, m *dialect.Mentioned) bool {
	find := c.Objects.Await
	if m.Open {
		find = c.Objects.Find
	}
	b, err := find(ctx, c.now, Object{c.call.Dialect.Name, m.Kind, m.ID}, c.tenant())
	switch {
	case err != nil:
		return c.refuseByStore(err, "looked for too many objects that it doesn't have")
	case b.Of(c.tenant(), c.now) && c.within(b.Model):
		if c.call.Model == "" { // the request names none
			c.call.Model = b.Model
		}
		return true
	case m.Open && !b.Taken(c.tenant(), c.now):
		return true // the service's own, or nobody's
	}
	c.why = dialect.Refusal{Param: m.Field, Detail: "What the path names does not exist."}
	if m.Field != "" {
		c.why.Detail = "What the request names as `" + m.Field + "` does not exist."
	}
	return c.refuse(reason.ModelUnknown)
}

// within reports whether the request goes where an object of this model is. At
// another upstream, or in another account, its id may be that of somebody else's.
func (c *check) within(model string) bool {
	if model == "" || c.call.Model == "" || c.call.Model == model {
		return true
	}
	named, made := c.tables.Model(c.call.Model, c.workspace.ID), c.tables.Models[model]
	return named == nil || made != nil && named.SharesAccount(made) // one that is unknown is refused as such
}

// checkCreating refuses a request that gives what it makes an id which another
// workspace has, or had a moment ago: some upstreams would replace that.
func (c *check) checkCreating(ctx context.Context) bool {
	if c.call.Creating == "" || c.call.Path.Creates == nil {
		return true
	}
	b, err := c.Objects.Find(ctx, c.now, Object{c.call.Dialect.Name, c.call.Path.Creates.Kind, c.call.Creating}, c.tenant())
	if err != nil {
		return c.refuseByStore(err, "chose too many ids")
	}
	if !b.Taken(c.tenant(), c.now) {
		return true
	}
	c.why = dialect.Refusal{Param: c.call.Path.Creates.Field, Detail: "The id that the request chooses can't be used. Choose another one."}
	return c.refuse(reason.BodyInvalid)
}

// countObject counts what the request makes. A poll makes nothing: what it tells of
// was counted as its task. Without Objects, and where nobody settles, nothing is
// remembered.
func (c *check) countObject(ctx context.Context) bool {
	if c.Objects == nil || c.call.Path.Creates == nil || c.call.Path.Method == http.MethodGet || c.route.Unsettled {
		return true
	}
	if err := c.Objects.Make(ctx, c.now, c.tenant()); err != nil {
		return c.refuseByStore(err, "made too many objects of late")
	}
	return true
}

// refuseByStore refuses for an error of Objects; what is done too often.
func (c *check) refuseByStore(err error, what string) bool {
	var many *TooManyError
	if !errors.As(err, &many) {
		return c.refuse(reason.Unavailable)
	}
	c.why.RetryAfter = many.Wait
	c.why.Detail = "This workspace " + what + ". Try again in " + many.Wait.Round(time.Millisecond).String() + "."
	return c.refuse(reason.RateLimitExceeded)
}

// noteEffects notes in an admission what its success changes beside usage.
func (c *check) noteEffects(a *Admission) {
	p := c.call.Path
	if p.Creates == nil && p.Counts == nil {
		return
	}
	a.Generation, a.Creating = c.workspace.Generation, c.call.Creating
	if p.Counts != nil {
		a.Counting = p.Counts.Name
	}
	if removes(p) && len(c.call.Mentioned) > 0 {
		a.Creating = c.call.Mentioned[0].ID
	}
}
