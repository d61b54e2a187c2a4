package events

import (
	"maps"
	"slices"
	"time"
)

// roll is what a replica knows of the others from their heartbeats. It does no
// I/O, asks no clock and takes no lock.
type roll struct {
	self    string
	bound   time.Duration // of a lease that we can't read of
	members map[string]*member
	// former is until when a process may have a lease that another one took the
	// replica's name from.
	former map[string]time.Time
	newest time.Time // when the newest heartbeat of anybody was stored, by NATS's clock
}

type member struct {
	beat     pulse
	legible  bool // false: beat could not be read, and is zero
	revision uint64
	stored   time.Time     // by NATS's clock
	heard    time.Time     // by ours
	listened time.Duration // the same in time that we listened
	said     claim         // the newest
	again    bool          // it is not the first that was heard of its process
	told     bool          // of a stranger, see tellStranger
}

func newRoll(self string, bound time.Duration) *roll {
	return &roll{self: self, bound: bound, members: map[string]*member{}, former: map[string]time.Time{}}
}

func (r *roll) boundOf(m *member) time.Duration {
	if !m.legible {
		return r.bound
	}
	return m.beat.bound()
}

// hear takes in a heartbeat, or what stands in its place. Those of one replica may
// come again and in any order.
func (r *roll) hear(replica string, e entry, now time.Time, listened time.Duration) {
	if e.stored.After(r.newest) {
		r.newest = e.stored
	}
	if replica == r.self || e.deleted {
		// Of one that was deleted by hand its last heartbeat counts until its
		// lease is over.
		return
	}
	old := r.members[replica]
	if old != nil && e.revision <= old.revision {
		return
	}
	beat, err := decodeHeartbeat(e.value)
	m := &member{beat: beat, legible: err == nil, revision: e.revision, stored: e.stored, heard: now, listened: listened}
	r.members[replica] = m
	if old != nil {
		m.said, m.told = old.said, old.told
		m.again = m.legible && old.legible && old.beat.Incarnation == beat.Incarnation
	}
	if beat.AfterMs > 0 {
		r.precede(replica, now.Add(beat.after()))
	}
}

// precede notes until when a process may have a lease that had a replica's name.
func (r *roll) precede(replica string, until time.Time) {
	if r.former[replica].Before(until) {
		r.former[replica] = until
	}
}

// say takes in what a replica says of itself. Of one whose heartbeat was not heard
// yet nothing is kept: it says the same in its next one.
func (r *roll) say(c claim) {
	m := r.members[c.Replica]
	if m == nil {
		return
	}
	current := m.isOf(m.said)
	switch {
	case current && !m.isOf(c): // of a process, or a store, of before; or of one whose heartbeat is still to come
	case !current, m.said.Applied < c.Applied:
		m.said = c
	}
}

// isOf reports whether a claim is of the process and the store of the heartbeat.
func (m *member) isOf(c claim) bool {
	return c.Incarnation == m.beat.Incarnation && c.Epoch == m.beat.Epoch
}

// hasApplied reports whether a replica has said so, in the store that its
// heartbeat stands in.
func (m *member) hasApplied(revision uint64) bool {
	if !m.legible {
		return false
	}
	// A heartbeat that says to know what came after itself speaks of another store.
	return m.beat.Applied >= revision && m.beat.Applied < m.revision ||
		m.said.Applied >= revision && m.isOf(m.said)
}

// standing divides the others, for a change that was stored before began, into
// those that have applied it and those that may not have. until is when the last
// one of these has no lease that began before the change, and next when the first
// one has none; both are zero where nobody is away.
func (r *roll) standing(revision uint64, began, now time.Time) (applied, away []string, until, next time.Time) {
	wait := func(replica string, over time.Time) {
		if !now.Before(over) {
			return
		}
		if !slices.Contains(away, replica) {
			away = append(away, replica)
		}
		if until.Before(over) {
			until = over
		}
		if next.IsZero() || over.Before(next) {
			next = over
		}
	}
	for replica, m := range r.members {
		switch {
		case m.beat.Left:
		case m.hasApplied(revision):
			applied = append(applied, replica)
		default:
			// A lease from before the change was sent before it was stored,
			// which was before began; and before its heartbeat came here.
			sent := m.heard
			if began.Before(sent) {
				sent = began
			}
			wait(replica, sent.Add(r.boundOf(m)))
		}
	}
	for replica, over := range r.former {
		wait(replica, over)
	}
	return applied, away, until, next
}

// longest is the longest bound of anybody.
func (r *roll) longest() time.Duration {
	most := r.bound
	for _, m := range r.members {
		most = max(most, r.boundOf(m))
	}
	return most
}

// gone is for how long nothing was heard of a replica, in time that we listened;
// 0 while its lease may hold.
func (r *roll) gone(replica string, listened time.Duration) time.Duration {
	m := r.members[replica]
	switch {
	case replica == r.self:
		return 0
	case m == nil:
		return listened
	}
	silent := listened - m.listened
	if !m.beat.Left && silent < r.boundOf(m) {
		return 0
	}
	return max(silent, 1) // it left this moment
}

// alive are the replicas that are not gone, this one among them, by name.
func (r *roll) alive(listened time.Duration) []string {
	alive := []string{r.self}
	for replica := range r.members {
		if r.gone(replica, listened) == 0 {
			alive = append(alive, replica)
		}
	}
	slices.Sort(alive)
	return alive
}

// hearAll takes in the newest heartbeat of everybody at once, and leaves those of
// long ago alone: a replica that crashed last week must not be waited for.
func (r *roll) hearAll(newest map[string]entry, now time.Time, listened time.Duration) {
	for _, e := range newest {
		if e.stored.After(r.newest) {
			r.newest = e.stored
		}
	}
	for name, e := range newest {
		bound := r.bound
		if beat, err := decodeHeartbeat(e.value); err == nil {
			bound = beat.bound()
		}
		if replica, ok := replicaOf(name); ok && r.newest.Sub(e.stored) <= bound+clockSlack {
			r.hear(replica, e, now, listened)
		}
	}
	r.prune(now)
}

// clockSlack is how much the clocks of NATS's servers may differ. It decides only
// when a heartbeat from before our time is of no more interest.
const clockSlack = time.Hour

// prune forgets the replicas whose lease was over long before the newest
// heartbeat, and the former ones whose lease is over now.
func (r *roll) prune(now time.Time) {
	maps.DeleteFunc(r.members, func(_ string, m *member) bool {
		return r.newest.Sub(m.stored) > r.boundOf(m)+clockSlack
	})
	maps.DeleteFunc(r.former, func(_ string, until time.Time) bool { return !now.Before(until) })
}
