package relay

import (
	"context"
	"slices"
	"time"

	"tollgate/authz"
	"tollgate/events"
)

// every is how often owners are looked after.
const every = time.Second

// watch looks after this replica's standing, and after owners that are gone or
// back, until ctx ends.
func (r *Relay) watch(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	// A look into the stream may take long, and must hold up nothing else.
	looking := make(chan struct{}, 1)
	for {
		now := time.Now()
		r.cfg.Ledger.Watch(now)
		select {
		case looking <- struct{}{}:
			go func() {
				r.lookAround(ctx)
				<-looking
			}()
		default:
		}
		select {
		case <-ctx.Done():
			looking <- struct{}{} // its end
			return
		case <-tick.C:
		}
	}
}

// lookAround does what is due.
func (r *Relay) lookAround(ctx context.Context) {
	if err := r.Reconcile(ctx); err != nil {
		r.cfg.Log.Debug("what others closed is not known yet", "error", err)
	}
	for _, of := range r.others() {
		now := time.Now()
		if r.cfg.Peers.Gone(of) == 0 {
			r.welcome(now, of)
			continue
		}
		if r.isGone(of) {
			r.closeHeld(now, of)
			r.closeCopies(ctx, now, of)
		}
	}
}

// Reconcile ends what others closed in this replica's place while it was not
// there. On an error that is not known: nothing should be closed for want of a
// settlement. It is cheap where there is nothing to find out.
func (r *Relay) Reconcile(ctx context.Context) error {
	return r.cfg.Ledger.Reconcile(ctx, func(u *authz.Usage) error {
		return r.cfg.Settler.Elsewhere(time.Now(), u, r.cfg.Ledger.Release)
	})
}

// others are the replicas that something is kept for.
func (r *Relay) others() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for of := range r.custody.owners {
		all = append(all, of)
	}
	for of := range r.copies.owners {
		if !slices.Contains(all, of) {
			all = append(all, of)
		}
	}
	return all
}

// isGone reports whether an owner's admissions may be closed in its place. It
// proves what events.Ledger's doubt relies on: that no heartbeat of the owner was
// stored for Gone, until Gone/8 ago. Both answers must be of about the same time,
// or the owner was only silent while this process stood still.
func (r *Relay) isGone(owner string) bool {
	gone, begin := r.cfg.Gone, time.Now()
	if r.cfg.Peers.Gone(owner) <= gone || !r.cfg.Peers.Fresh(gone/8) {
		return false
	}
	// By both clocks: the monotonic one stops while a machine sleeps.
	now := time.Now()
	return max(now.Sub(begin), now.Round(0).Sub(begin.Round(0))) < gone/16
}

// welcome drops the copies of an owner that is back.
func (r *Relay) welcome(now time.Time, owner string) {
	incarnation := r.cfg.Peers.Incarnation(owner)
	r.mu.Lock()
	back := r.copies.returned(owner, incarnation)
	r.mu.Unlock()
	for _, f := range back {
		r.giveUp(now, f)
	}
}

// closeHeld closes what was told here of a gone owner's admissions.
func (r *Relay) closeHeld(now time.Time, owner string) {
	r.mu.Lock()
	overdue := r.custody.overdue(now, owner, r.cfg.Gone)
	for _, h := range overdue {
		r.custody.done(h)
	}
	r.mu.Unlock()
	for _, h := range overdue {
		u := authz.Measure(h.Admission, *h.Seen, r.cfg.Settler.Estimator)
		if !r.close(h.Foreign, u) {
			r.mu.Lock()
			r.custody.add(now, h.Foreign, h.size)
			r.mu.Unlock()
		}
	}
	r.mu.Lock()
	r.tellEmpty()
	r.mu.Unlock()
}

// close ends an admission in its owner's place.
func (r *Relay) close(f *events.Foreign, u *authz.Usage) bool {
	if err := r.cfg.Ledger.CloseForeign(f, u); err != nil {
		r.cfg.Log.Warn("an admission could not be closed in place of its owner", "id", f.Admission.ID, "error", err)
		return false
	}
	r.inPlace.Add(1)
	return true
}

// closeCopies gives back what copies hold that somebody closed, and closes those
// that nobody settled in time.
func (r *Relay) closeCopies(ctx context.Context, now time.Time, owner string) {
	r.mu.Lock()
	perhaps := r.copies.settledElsewhere(now, owner, r.cfg.Gone)
	r.mu.Unlock()
	if len(perhaps) > 0 {
		r.dropSettled(ctx, now, perhaps)
	}
	r.mu.Lock()
	lapsed := r.copies.lapsed(now, owner, r.cfg.Gone)
	r.mu.Unlock()
	for _, f := range lapsed {
		u := authz.Unsettled(f.Admission)
		if r.close(f, u) {
			r.cfg.Settler.GiveBack(now, u)
			continue
		}
		r.mu.Lock()
		r.copies.add(now, f)
		r.mu.Unlock()
	}
}

// dropSettled drops the copies of which the stream has an event.
func (r *Relay) dropSettled(ctx context.Context, now time.Time, all []*events.Foreign) {
	sought := make([]events.Sought, len(all))
	for i, f := range all {
		sought[i] = r.cfg.Ledger.Sought(f.Admission)
	}
	found, err := r.cfg.Ledger.Look(ctx, sought)
	if err != nil {
		r.cfg.Log.Debug("what others closed of a gone replica's admissions is not known", "error", err)
		return
	}
	for i, f := range all {
		u := found[i].Of(f.Admission)
		if u == nil {
			continue
		}
		r.mu.Lock()
		copied := r.copies.take(f.Admission.Replica, f.Admission.ID)
		r.mu.Unlock()
		if copied != nil {
			r.drop(copied)
			r.cfg.Settler.GiveBack(now, u)
		}
	}
}
