package events

import (
	"sync"
	"time"
)

// Standing is what a replica knows of itself.
type Standing interface {
	// Fresh reports whether the replica has sent a heartbeat within the last d
	// that is known to be stored. It does not block.
	Fresh(d time.Duration) bool
}

// doubt says which admissions of this replica nobody else can have closed.
//
// Another replica closes them only when for Gone it has heard nothing of this one
// (Gone), has had the settlement or the copy, and has itself been in touch, within
// Gone/8. So whoever closed admission X at time t knew X since t - Gone or longer,
// and no heartbeat of ours was stored from t - Gone to t - Gone/8.
//
// This replica looks at itself again and again. It is in doubt when its last look
// was more than Gone/4 ago (it was stopped, or asleep) or it has no heartbeat of
// the last Gone/2. Had it never been in doubt since X was admitted, then its last
// look until t - Gone/8 was later than t - Gone/8 - Gone/4, and found a heartbeat
// that was stored after t - Gone·7/8: a contradiction. So whatever was admitted
// before the latest doubt is contested, and nothing else.
//
// Each doubt begins a generation. An admission is of the one in which it was
// admitted. A replica that is alone is never in doubt: only what a process before
// it left is of another generation.
//
// And it says for how long this replica need not doubt itself: the stream knows a
// repetition for a while only. So an event that was first tried more than repeat
// ago, and of which it was not told that it is stored, is contested too.
type doubt struct {
	standing Standing // nil: it is alone
	gone     time.Duration
	repeat   time.Duration

	mu         sync.Mutex
	generation uint64           // of now, from 1; guarded by mu, as the following
	looked     time.Time        // when this replica last looked at itself
	sure       map[string]waits // events that wait, by message id
}

// waits is an event of this process that is not known to be stored.
type waits struct {
	generation uint64    // of its admission
	tried      time.Time // when it first was; zero: never
}

// look looks at itself and returns the generation of now.
func (d *doubt) look(now time.Time) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.standing != nil && (elapsed(d.looked, now) > d.gone/4 || !d.standing.Fresh(d.gone/2)) {
		d.generation++
	}
	d.looked = now
	return d.generation
}

// elapsed is the time from one moment to another by the monotonic clock or the
// wall clock, whichever says more: the first stops while a machine sleeps.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}

func (d *doubt) current() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.generation
}

// closing notes an event of an admission of this replica, before it is written.
func (d *doubt) closing(msgID string, generation uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sure[msgID] = waits{generation: generation}
}

// stored forgets an event.
func (d *doubt) stored(msgID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sure, msgID)
}

// awaits reports whether an event of this process is noted and not known to be
// stored.
func (d *doubt) awaits(msgID string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, noted := d.sure[msgID]
	return noted
}

// contested reports whether the stream may have an event already that it would not
// recognise, somebody else's or ours; if not, the event is about to be tried. All
// are that this process did not note: of a process before, of other replicas, and
// adjustments.
func (d *doubt) contested(msgID string, generation uint64, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ours := d.sure[msgID]
	if !ours || e.generation != generation {
		return true
	}
	if !e.tried.IsZero() {
		return elapsed(e.tried, now) > d.repeat
	}
	e.tried = now
	d.sure[msgID] = e
	return false
}
