package events

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tollgate/authz/key"
)

// errName ends a session: our name does not hold what we wrote, and the next
// session looks why.
var errName = errors.New("this replica's heartbeat was overwritten")

// check looks at our name before a session reads, and says what that means for
// what was read so far. After otherStore and rivalStore, forget is to be called
// before anything is read.
func (m *Members) check(ctx context.Context) (footing, error) {
	e, found, err := m.look(ctx)
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	v := m.own.judge(e, found)
	switch v {
	case sameStore:
		m.own.expect = e.revision
	case firstTime, otherStore:
		m.own.rival = rival{}
		m.takeOver(e, found, now)
	case rivalStore:
		m.own.rival = rival{}
		m.own.rival.see(e, now, 0)
	}
	return v, nil
}

// look reads what stands under our name.
func (m *Members) look(ctx context.Context) (e entry, found bool, err error) {
	e, err = m.changes.last(ctx, heartbeatPrefix+m.cfg.Replica)
	if errors.Is(err, key.ErrNotFound) {
		return entry{}, false, nil
	}
	return e, err == nil, err
}

// beat writes a heartbeat every second until ctx ends. The error is errName.
func (m *Members) beat(ctx context.Context) error {
	tick := time.NewTicker(m.cfg.Every)
	defer tick.Stop()
	for {
		ready, err := m.displaceRival(ctx)
		if err == nil && ready {
			_, err = m.write(ctx, false)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errName):
			return err
		case err != nil:
			m.log.Warn("a heartbeat could not be written; without any the lease of this replica runs out", "error", err,
				"lease age", m.cfg.Lease.Age())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// silences is how many heartbeats of another process under our name may fail to
// come before it counts as gone.
const silences = 3

// displaceRival reports whether our name is ours to write: there is no other
// process that has it, or it is silent. Where it lives, this process stays without
// a lease: two that took the name from each other would both be refusing half of
// the time.
func (m *Members) displaceRival(ctx context.Context) (ready bool, err error) {
	m.mu.Lock()
	there := m.own.rival.there
	m.mu.Unlock()
	if !there {
		return true, nil
	}
	e, found, err := m.look(ctx)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	r := &m.own.rival
	known := r.alive
	gone := !found || r.see(e, now, silences*m.cfg.Every)
	if r.alive && !known {
		m.log.Error("another process runs with a copy of this data directory, under the same name: stop one of them. This one answers 503 as long as the other runs")
	}
	if gone {
		m.takeOver(e, found, r.since)
		m.own.rival = rival{}
	}
	return gone, nil
}

// takeOver takes our name from another process, for whose lease everybody waits.
// m.mu is held.
func (m *Members) takeOver(e entry, found bool, since time.Time) {
	m.own.takeOver(e, found, since, m.cfg.Bound)
	m.roll.precede(m.cfg.Replica, m.own.before)
}

// write writes one heartbeat, and reports whether it is known to be written. An
// error that is not errName leaves that open.
func (m *Members) write(ctx context.Context, leave bool) (written bool, err error) {
	select {
	case m.writing <- struct{}{}:
		defer func() { <-m.writing }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	m.mu.Lock()
	if m.left && !leave {
		m.mu.Unlock()
		return false, nil
	}
	beat := m.next(leave)
	expect := m.own.expect
	m.mu.Unlock()
	value, err := json.Marshal(beat)
	if err != nil {
		return false, err
	}
	revision, err := m.changes.swap(ctx, heartbeatPrefix+m.cfg.Replica, value, expect)
	if errors.Is(err, key.ErrConflict) {
		// It may be one with ourselves: with a heartbeat whose acknowledgement
		// was lost, or with this one, which the client library sent twice.
		return m.found(ctx, beat.Nonce)
	}
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own.expect, m.own.wrote = revision, true
	return true, nil
}

// next is the heartbeat to be sent now. m.mu is held.
func (m *Members) next(leave bool) pulse {
	beat := pulse{
		Version: heartbeatVersion, Nonce: rand.Text(), Incarnation: m.own.incarnation, Epoch: m.own.epoch,
		Applied: m.applied, BoundMs: m.cfg.Bound.Milliseconds(), Program: m.cfg.Version, Deployment: m.cfg.Deployment, Left: leave,
	}
	if left := time.Until(m.own.before); left > 0 {
		beat.AfterMs = left.Milliseconds() + 1 // not less than it is
	}
	grant := func() {} // after Leave there is no lease
	if !leave {
		grant = m.cfg.Lease.Begin()
	}
	m.own.send(flight{beat.Nonce, grant})
	return beat
}

// found looks at our name after a conflict, and reports whether it has this very
// heartbeat. Where it has another one of ours, the next goes on from there.
func (m *Members) found(ctx context.Context, nonce string) (written bool, err error) {
	e, found, err := m.look(ctx)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.own.judge(e, found) != sameStore {
		return false, errName
	}
	m.own.expect = e.revision
	beat, err := decodeHeartbeat(e.value)
	return err == nil && beat.Nonce == nonce, err
}

// Leave gives the lease up, for good, and tells the others, which need not wait
// for this replica any more. Where the error is not nil they don't know, and wait
// until the lease would have run out.
func (m *Members) Leave(ctx context.Context) error {
	m.mu.Lock()
	m.left = true // before the lease is given up: no heartbeat begins after it
	nothing := !m.own.wrote || m.own.rival.there
	m.mu.Unlock()
	m.cfg.Lease.GiveUp()
	if nothing {
		return nil
	}
	for ctx.Err() == nil {
		written, err := m.write(ctx, true)
		if written {
			return nil
		}
		if err != nil {
			return fmt.Errorf("telling the other replicas that this one leaves: %w", err)
		}
	}
	return ctx.Err()
}
