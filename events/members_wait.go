package events

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Propagation says how far a change has come.
type Propagation struct {
	Revision uint64
	// Applied are the replicas that go by the change, or by newer ones.
	Applied []string
	// Away are those that have not said so. UnknownReplicas among them means that
	// it could not be learned who there is.
	Away []string
	// CertainAt is when none of Away goes by what was before either, whatever
	// became of it. Zero where nobody is away.
	CertainAt time.Time
}

// UnknownReplicas stands in Propagation.Away for those that could not be learned
// of, because NATS did not say.
const UnknownReplicas = "?"

// Wait waits until every replica goes by a change that was stored at revision
// before the call, or can't go by what was before; or until ctx ends. It takes the
// longest bound of any replica at most, and a round trip where all are there.
//
// Why nobody goes by what was before when it says so. Call the change R.
//
//   - A replica passes a check only with a valid lease. The lease comes from a
//     heartbeat that its own feed brought back. If that heartbeat stands behind R,
//     the feed has applied R. So only a lease from a heartbeat before R matters.
//   - Whoever has such a heartbeat stands in the list that is read here: names stay,
//     and the list is of no earlier than R. What this replica's own feed has seen
//     does not suffice: it misses a heartbeat that was overwritten before it got
//     there. A replica that starts later has no heartbeat before R.
//   - Each of them says that it has applied R, for the store that the heartbeat
//     stands in; or has left, which it does after it gave its lease up; or is waited
//     for. The heartbeat before R was sent before it was stored, which was before
//     this call, and before it was heard of here. From the earlier of these, by our
//     clock, we wait for its bound. If our clock stands still meanwhile, as in a
//     machine that sleeps, we wait for longer. No clocks are compared.
//   - A process that takes a name over says from whom, and that one is waited for
//     by itself: it may be alive, and has not said anything.
//   - After the store turned out to be another one, replicas may go by the one
//     before without standing in the list. Their leases began before it was
//     noticed here, and are waited for.
//   - Before that was noticed: the change is in a store that has no heartbeat of
//     ours, or none as new as one that came back, and what anybody said of its
//     predecessor counts for nothing. Then all are waited for.
//   - This replica is one like others. While its own feed stands still it is away.
func (m *Members) Wait(ctx context.Context, revision uint64) Propagation {
	w := waiting{revision: revision, began: time.Now()}
	m.mu.Lock()
	latest, confirmed := w.began.Add(m.roll.longest()), m.own.confirmed
	m.mu.Unlock()
	listing, cancel := context.WithDeadline(ctx, latest)
	defer cancel()
	newest, listed := m.list(listing, max(revision, confirmed))
	another := listed && newest[heartbeatPrefix+m.cfg.Replica].revision < confirmed // another store
	w.unlisted = !listed || another
	w.doubled = another || m.doubled(newest)
	for {
		m.mu.Lock()
		now := time.Now()
		p, next := w.propagation(m, now)
		changed := m.changed
		m.mu.Unlock()
		if len(p.Away) == 0 {
			return p
		}
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return p
		}
		timer.Stop()
	}
}

// waiting is one call of Wait.
type waiting struct {
	revision uint64
	began    time.Time
	unlisted bool // it could not be learned who there is, or of another store than ours
	doubled  bool // another process has our name, or what we applied is of another store
}

// propagation is how far the change has come now, and when the next lease is over
// that is waited for. m.mu is held.
func (w *waiting) propagation(m *Members, now time.Time) (p Propagation, next time.Time) {
	p = Propagation{Revision: w.revision}
	p.Applied, p.Away, p.CertainAt, next = m.roll.standing(w.revision, w.began, now)
	wait := func(who string, over time.Time) {
		if !now.Before(over) {
			return
		}
		p.Away = append(p.Away, who)
		if p.CertainAt.Before(over) {
			p.CertainAt = over
		}
		if next.IsZero() || over.Before(next) {
			next = over
		}
	}
	p.Applied = append(p.Applied, m.cfg.Replica)
	if m.applied < w.revision || w.doubled {
		wait(m.cfg.Replica, w.began.Add(m.cfg.Bound))
	}
	if w.unlisted {
		wait(UnknownReplicas, w.began.Add(m.roll.longest()))
	}
	wait(UnknownReplicas, m.strange)
	slices.Sort(p.Away)
	p.Away = slices.Compact(p.Away)
	// Away wins: of a name that was taken over, one process has and one may not.
	p.Applied = slices.DeleteFunc(p.Applied, func(who string) bool { return slices.Contains(p.Away, who) })
	slices.Sort(p.Applied)
	p.CertainAt = p.CertainAt.Round(0) // without the monotonic clock's reading: it is for others
	return p, next
}

// doubled reports whether our name is another process's. It may say that it has
// applied something, and so may we, and nobody knows of whom that is true.
func (m *Members) doubled(newest map[string]entry) bool {
	e, ok := newest[heartbeatPrefix+m.cfg.Replica]
	beat, err := decodeHeartbeat(e.value)
	return ok && !e.deleted && (err != nil || beat.Incarnation != m.cfg.Incarnation && !beat.Left)
}

// list reads the newest heartbeats, from a copy of the stream that has the
// revision; not ok: it can't be learned.
func (m *Members) list(ctx context.Context, revision uint64) (_ map[string]entry, ok bool) {
	// A question that went to a server which is cut off is lost, and the next may
	// go to another; one that went to a server which is behind comes back at once.
	const soonest, latest = time.Millisecond, 100 * time.Millisecond
	const shortest, longest = 50 * time.Millisecond, time.Second
	patience := shortest
	for pause := soonest; ; pause = min(2*pause, latest) {
		asking, cancel := context.WithTimeout(ctx, patience)
		newest, upTo, err := m.lister.heartbeats(asking)
		cancel()
		if err == nil && upTo >= revision {
			m.mu.Lock()
			defer m.mu.Unlock()
			now := time.Now()
			m.roll.hearAll(newest, now, m.ear.heard(now))
			return newest, true
		}
		if errors.Is(asking.Err(), context.DeadlineExceeded) {
			patience = min(2*patience, longest)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			m.log.Warn("it can't be learned which replicas there are: waiting until the lease of any would be over",
				"revision", revision, "up to", upTo, "error", err)
			return nil, false
		}
	}
}
