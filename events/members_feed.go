package events

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"
	"time"
)

// This is what the Feed tells Members, from Run's goroutine.

// run subscribes to what the others say, until stop.
func (m *Members) run() (stop func(), err error) {
	return m.changes.hear(appliedSubject+"*", func(message []byte) {
		c, err := decodeClaim(message)
		if err != nil {
			m.log.Warn("a replica can't be understood", "error", err)
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.roll.say(c)
		m.changedNow()
	})
}

// hear takes in what the feed read under h.<replica>. Where it is the newest of
// our own that is on its way, everything before it was applied, and confirmed is
// its revision. While the session is not whole, heartbeats wait for whole.
func (m *Members) hear(name string, e entry) (confirmed uint64) {
	replica, ok := replicaOf(name)
	if !ok {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ear.since.IsZero() {
		m.caught[name] = e
		return 0
	}
	now := time.Now()
	m.roll.hear(replica, e, now, m.ear.heard(now))
	m.tellStranger(replica)
	if replica == m.cfg.Replica {
		confirmed = m.own.returned(e)
		m.roll.prune(now)
	}
	m.changedNow()
	return confirmed
}

// whole says that everything has been read and is as it should be. confirmed is
// as in hear. It begins to write heartbeats, and to say what was applied, until
// stop; fail is called at most once, with what ends the session.
func (m *Members) whole(ctx context.Context, fail func(error)) (confirmed uint64, stop func()) {
	m.mu.Lock()
	now := time.Now()
	m.ear.open(now)
	m.roll.hearAll(m.caught, now, m.ear.heard(now))
	confirmed = m.own.returned(m.caught[heartbeatPrefix+m.cfg.Replica])
	clear(m.caught)
	m.changedNow()
	m.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	var both sync.WaitGroup
	both.Go(func() {
		if err := m.beat(ctx); err != nil {
			fail(err)
		}
	})
	both.Go(func() { m.announce(ctx) })
	return confirmed, func() {
		cancel()
		both.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ear.close(time.Now())
	}
}

// advance says up to where everything has been applied. tell: the others wait for
// it; what replicas write about themselves nobody waits for.
func (m *Members) advance(applied uint64, tell bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied = applied
	if tell {
		m.told = applied
	}
	m.changedNow()
}

// forget is for a store that is not the one it was: what was known counts no more,
// and our lease neither. Other replicas may not have noticed yet; their leases are
// from before.
func (m *Members) forget() {
	m.cfg.Lease.GiveUp()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.strange = time.Now().Add(m.roll.longest())
	m.roll = newRoll(m.cfg.Replica, m.cfg.Bound)
	m.own.forget()
	m.own.epoch = rand.Text()
	m.applied, m.told = 0, 0
	m.ear = ear{}
	clear(m.caught)
	m.changedNow()
}

// announce tells the others what was applied as soon as it is, at most once a
// millisecond.
func (m *Members) announce(ctx context.Context) {
	const pause = time.Millisecond
	subject := appliedSubject + m.cfg.Replica
	said := claim{}
	for {
		m.mu.Lock()
		now := claim{Version: claimVersion, Replica: m.cfg.Replica, Incarnation: m.own.incarnation, Epoch: m.own.epoch, Applied: m.told}
		changed := m.changed
		m.mu.Unlock()
		if now != said {
			said = now
			if message, err := json.Marshal(now); err == nil {
				_ = m.changes.say(subject, message) // the next heartbeat says it too
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// ear counts the time in which the feed was whole and heartbeats could be heard.
type ear struct {
	total time.Duration
	since time.Time // zero: deaf
}

func (e *ear) heard(now time.Time) time.Duration {
	if e.since.IsZero() {
		return e.total
	}
	return e.total + now.Sub(e.since)
}

func (e *ear) open(now time.Time) { e.since = now }

func (e *ear) close(now time.Time) { *e = ear{total: e.heard(now)} }
