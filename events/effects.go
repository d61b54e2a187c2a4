package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"tollgate/authz"
)

// What a settlement changes beside usage (whose an object is, how many of a counted
// resource there are) stands in its event, and whoever publishes the event sees to
// the change first. The event stays in the journal until both have happened, so a
// kill at any point loses neither; and each change is such that its repetition
// changes nothing, so none happens twice. Which replica closes the admission does
// not matter, nor whether the event is published at all in the end because another
// replica has published one.

// ObjectData is an object in the upstream's account, which an event says was made
// or removed.
type ObjectData struct {
	Kind string `json:"kind"` // such as task, file, voice
	ID   string `json:"id"`
	// Until is when it is no longer remembered whose it is; zero of one that was
	// removed.
	Until time.Time `json:"until,omitzero"`
	// Generation tells the workspace from others of the same id.
	Generation string `json:"generation,omitempty"`
}

// ResourceData is a counted resource of the workspace's plan.
type ResourceData struct {
	Name string `json:"name"`
	// Delta is how many more there are: 1, -1, or 0 where the request did not
	// succeed.
	Delta int64 `json:"delta"`
	// Generation tells the workspace from others of the same id.
	Generation string `json:"generation,omitempty"`
}

// addEffects puts into the event what a usage changes.
func (d *UsageData) addEffects(u *authz.Usage) {
	a := u.Admission
	if o, keep, ok := u.Created(); ok {
		until := a.Start.Add(keep).UTC().Truncate(time.Microsecond)
		d.Created = &ObjectData{Kind: o.Kind, ID: o.ID, Until: until, Generation: a.Generation}
	}
	if o, ok := u.Removed(); ok {
		d.Removed = &ObjectData{Kind: o.Kind, ID: o.ID, Generation: a.Generation}
	}
	if r, delta, ok := u.Counted(); ok {
		d.Resource = &ResourceData{Name: r.Name, Delta: delta, Generation: r.Generation}
	}
}

func (d *UsageData) writeEffects(w *writer) {
	w.object("created", d.Created)
	w.object("removed", d.Removed)
	if r := d.Resource; r != nil {
		w.name("resource")
		w.b = append(w.b, '{')
		w.text("name", r.Name)
		w.number("delta", r.Delta)
		w.optional("generation", r.Generation)
		w.b = append(w.b, '}')
	}
}

func (w *writer) object(name string, o *ObjectData) {
	if o == nil {
		return
	}
	w.name(name)
	w.b = append(w.b, '{')
	w.text("kind", o.Kind)
	w.text("id", o.ID)
	if !o.Until.IsZero() {
		w.time("until", o.Until)
	}
	w.optional("generation", o.Generation)
	w.b = append(w.b, '}')
}

// hasEffects reports whether an event of ours may change anything, without reading
// all of it: the texts are members that have an object as their value, and in no
// string is there a quote that isn't escaped.
func hasEffects(payload []byte) bool {
	for _, member := range [...]string{`"created":{`, `"removed":{`, `"resource":{`} {
		if bytes.Contains(payload, []byte(member)) {
			return true
		}
	}
	return false
}

// effects brings about what events change.
type effects struct {
	store *Objects
	log   *slog.Logger
}

// Affect makes the ledger bring about what its events change, each before it is
// published. It is called once, before Run. Without it nothing is changed.
func (l *Ledger) Affect(store *Objects, log *slog.Logger) { l.effects = &effects{store, log} }

// effectsAtOnce is how many events of a batch are seen to at once: each waits for
// some acknowledgements.
const effectsAtOnce = 16

// publishAfter hands to publish what needs no change, or whose change has happened,
// and tells of each event whether it is published.
func (e *effects) publishAfter(ctx context.Context, batch []Outgoing, publish func(context.Context, []Outgoing) []error) []error {
	if e == nil {
		return publish(ctx, batch)
	}
	errs := make([]error, len(batch))
	var group errgroup.Group
	group.SetLimit(effectsAtOnce)
	// Where the store is away, one event has waited for it and the others of the
	// batch need not. A record that can't be read, or one more object where there is
	// no room, keeps nothing but its own event.
	ectx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for i := range batch {
		if hasEffects(batch[i].Payload) {
			group.Go(func() error {
				errs[i] = e.apply(ectx, batch[i].Payload)
				if errs[i] != nil && !errors.Is(errs[i], errUnreadable) && !errors.Is(errs[i], errFull) {
					cancel(errs[i])
				}
				return nil
			})
		}
	}
	_ = group.Wait() // each has its own error
	ready, which := make([]Outgoing, 0, len(batch)), make([]int, 0, len(batch))
	for i, err := range errs {
		if err == nil {
			ready, which = append(ready, batch[i]), append(which, i)
		}
	}
	if len(ready) == 0 {
		return errs
	}
	for n, err := range publish(ctx, ready) {
		errs[which[n]] = err
	}
	return errs
}

// apply brings about what one event changes. The order matters: a repetition after
// a kill in between must find what is left to do.
func (e *effects) apply(ctx context.Context, payload []byte) error {
	var event Event
	if err := json.Unmarshal(payload, &event); err != nil {
		e.log.Error("an event of ours can't be read, so it changes nothing", "error", err)
		return nil
	}
	d, at := &event.Data, event.Time
	id := event.ID
	if d.Adjusts != "" {
		id = d.Adjusts // the admission's, which holds the place
	}
	if o := d.Created; o != nil {
		if err := e.bind(ctx, d, at); err != nil {
			return err
		}
	}
	if d.Removed != nil {
		return e.remove(ctx, d, at)
	}
	if d.Resource == nil {
		return nil
	}
	return e.store.settle(ctx, d.resource(), id, d.Resource.Delta)
}

func (e *effects) bind(ctx context.Context, d *UsageData, at time.Time) error {
	o := d.object(d.Created)
	bound, err := e.store.Bind(ctx, o, authz.Binding{
		Tenant: d.tenant(d.Created.Generation), Model: d.Model, Key: d.Key, User: d.User, From: at, Until: d.Created.Until,
	})
	if err == nil && !bound {
		e.log.Error("an upstream made an object of which another workspace has one of the same id: it stays that one's",
			"workspace", d.Workspace, "dialect", o.Dialect, "kind", o.Kind, "id", o.ID)
	}
	return err
}

// remove takes an object away from the workspace and counts one less, once for an
// object however many requests removed it at the same time.
func (e *effects) remove(ctx context.Context, d *UsageData, at time.Time) error {
	o, t := d.object(d.Removed), d.tenant(d.Removed.Generation)
	there, err := e.store.Binding(ctx, o)
	if err != nil || !had(&there, t, at) {
		return err
	}
	if d.Resource != nil && d.Resource.Delta < 0 {
		name := objectName(o) + "@" + strconv.FormatInt(there.From.UnixMicro(), 10)
		if err := e.store.settle(ctx, d.resource(), name, d.Resource.Delta); err != nil {
			return err
		}
	}
	return e.store.Remove(ctx, o, t, at)
}

func (d *UsageData) tenant(generation string) authz.Tenant {
	return authz.Tenant{Workspace: d.Workspace, Generation: generation}
}

func (d *UsageData) object(o *ObjectData) authz.Object {
	return authz.Object{Dialect: d.Dialect, Kind: o.Kind, ID: o.ID}
}

func (d *UsageData) resource() authz.Resource {
	return authz.Resource{Tenant: d.tenant(d.Resource.Generation), Name: d.Resource.Name}
}
