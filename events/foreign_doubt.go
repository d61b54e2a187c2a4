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
// admitted.
type doubt struct {
	standing Standing
	gone     time.Duration

	mu         sync.Mutex
	generation uint64            // guarded by mu, as the following
	looked     time.Time         // when this replica last looked at itself
	sure       map[string]uint64 // events that wait, by message id: the generation of their admission
}

// look looks at itself and returns the generation of now.
func (d *doubt) look(now time.Time) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if elapsed(d.looked, now) > d.gone/4 || !d.standing.Fresh(d.gone/2) {
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
	d.sure[msgID] = generation
}

// stored forgets an event.
func (d *doubt) stored(msgID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sure, msgID)
}

// contested reports whether somebody else may have published an event. All are
// that this process did not note: of a process before, of other replicas, and
// adjustments.
func (d *doubt) contested(msgID string, generation uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	of, ours := d.sure[msgID]
	return !ours || of != generation
}
