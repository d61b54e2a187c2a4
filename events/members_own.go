package events

import "time"

// own is what this replica wrote under its own name. It does no I/O and asks no
// clock.
type own struct {
	incarnation, epoch string
	expect             uint64 // what the next write is compared with
	wrote              bool   // this process was seen to be the one that has the name
	confirmed          uint64 // the revision of the newest heartbeat that came back
	nonce              string // of that
	flying             []flight
	// before is until when a process may have a lease that had the name.
	before time.Time
	rival  rival
}

// flight is a heartbeat that was sent and has not come back.
type flight struct {
	nonce string
	grant func()
}

// maxFlying bounds how many are remembered; an older one would grant next to
// nothing.
const maxFlying = 32

// send notes a heartbeat that is about to be sent.
func (o *own) send(f flight) {
	if len(o.flying) == maxFlying {
		o.flying = o.flying[1:]
	}
	o.flying = append(o.flying, f)
}

// flies reports whether a nonce is of one that may still come back.
func (o *own) flies(nonce string) bool {
	for _, f := range o.flying {
		if f.nonce == nonce {
			return true
		}
	}
	return false
}

// returned takes in what was read under our own name. Where that is a heartbeat on
// its way, it grants the lease, those sent before it are forgotten, and the result
// is its revision; else 0.
func (o *own) returned(e entry) (confirmed uint64) {
	beat, err := decodeHeartbeat(e.value)
	if err != nil || e.deleted || beat.Incarnation != o.incarnation {
		return 0
	}
	for i, f := range o.flying {
		if f.nonce == beat.Nonce {
			o.flying = o.flying[i+1:]
			o.confirmed, o.nonce = e.revision, beat.Nonce
			o.wrote = true
			f.grant()
			return e.revision
		}
	}
	return 0
}

// forget is for another store, in which nothing of ours can come back.
func (o *own) forget() {
	o.confirmed, o.nonce, o.flying = 0, "", nil
}

// footing is what our own name says of the store.
type footing int

const (
	// sameStore has what we wrote, or what we sent.
	sameStore footing = iota
	// firstTime is where this process has written nothing yet: whatever is there
	// gives way.
	firstTime
	// otherStore has not got what we wrote.
	otherStore
	// rivalStore has something of another process in its place: it is another
	// store, or somebody else writes under our name.
	rivalStore
)

// judge looks at what stands under our name when a session begins; found is false
// where nothing does.
func (o *own) judge(e entry, found bool) footing {
	beat, err := decodeHeartbeat(e.value)
	ours := found && err == nil && !e.deleted && beat.Incarnation == o.incarnation
	switch {
	case ours && beat.Nonce == o.nonce && e.revision == o.confirmed:
		return sameStore
	case ours && o.flies(beat.Nonce):
		o.wrote = true
		return sameStore
	case !o.wrote:
		return firstTime
	case !found || e.deleted || ours:
		return otherStore
	}
	return rivalStore
}

// takeOver makes what was found the predecessor of our next heartbeat. since is
// when it was known to stand there, and bound how long a lease is taken to be where
// it does not say.
func (o *own) takeOver(e entry, found bool, since time.Time, bound time.Duration) {
	o.expect = e.revision
	beat, err := decodeHeartbeat(e.value)
	switch {
	case !found || e.deleted:
		return // whatever was there: its process is not asked for, and was not ours to know
	case err != nil:
		beat.BoundMs = bound.Milliseconds()
	case beat.Incarnation == o.incarnation:
		return
	}
	if until := since.Add(beat.leased()); o.before.Before(until) {
		o.before = until
	}
}

// rival is another process whose heartbeat stands under our name.
type rival struct {
	there    bool
	revision uint64    // of its newest heartbeat
	since    time.Time // when that was new
	alive    bool      // it wrote another one since
}

// see takes in what stands under our name, and reports whether the rival can be
// replaced: it has left, or wrote nothing for as long as silence.
func (r *rival) see(e entry, now time.Time, silence time.Duration) (gone bool) {
	if !r.there {
		*r = rival{there: true, revision: e.revision, since: now}
	}
	if e.revision != r.revision {
		r.revision, r.since, r.alive = e.revision, now, true
	}
	beat, err := decodeHeartbeat(e.value)
	return e.deleted || err == nil && beat.Left || now.Sub(r.since) >= silence
}
