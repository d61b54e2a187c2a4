package relay

import (
	"time"

	"tollgate/events"
)

const (
	// A flight is what goes to an owner in one request.
	maxFlight      = 256       // settlements
	maxFlightBytes = 192 << 10 // of their written forms; a third more as tokens
	// While an owner records nothing, tries are so far apart, doubling.
	minRetry, maxRetry = 100 * time.Millisecond, 5 * time.Second
)

// custody is the settlements that this replica holds for others. It decides what
// goes out when, and does nothing by itself. It is not safe for concurrent use.
type custody struct {
	owners map[string]*owner
	count  int
}

// owner is a replica that settlements are held for. One flight is under way to it
// at a time, so an owner that does not answer holds up nobody else's.
type owner struct {
	held    map[string]*held // by the admission's id
	waiting []*held          // for a flight, in order; those that are done are skipped
	flying  bool
	retry   time.Duration // 0: the last flight succeeded
	next    time.Time     // no flight before
}

type held struct {
	*events.Foreign
	size   int
	since  time.Time // when it was told here, or this process began
	flying bool
	done   bool
}

// add takes a settlement; false: there is one of that admission already.
func (c *custody) add(now time.Time, f *events.Foreign, size int) bool {
	o := c.owners[f.Admission.Replica]
	if o == nil {
		o = &owner{held: map[string]*held{}}
		c.owners[f.Admission.Replica] = o
	}
	if o.held[f.Admission.ID] != nil {
		return false
	}
	h := &held{Foreign: f, size: size, since: now}
	o.held[f.Admission.ID] = h
	o.waiting = append(o.waiting, h)
	c.count++
	return true
}

// has reports whether a settlement of an admission is held.
func (c *custody) has(replica, id string) bool {
	o := c.owners[replica]
	return o != nil && o.held[id] != nil
}

// done lets a settlement go.
func (c *custody) done(h *held) {
	o := c.owners[h.Admission.Replica]
	h.done = true
	delete(o.held, h.Admission.ID)
	c.count--
	if len(o.held) == 0 && !o.flying {
		delete(c.owners, h.Admission.Replica)
	}
}

// depart returns a flight that is due and to whom; nil: none is. It must land.
func (c *custody) depart(now time.Time) (to string, flight []*held) {
	for to, o := range c.owners {
		if o.flying || o.next.After(now) {
			continue
		}
		bytes, n := 0, 0
		for _, h := range o.waiting {
			if len(flight) == maxFlight || len(flight) > 0 && bytes+h.size > maxFlightBytes {
				break
			}
			n++
			if h.done {
				continue
			}
			flight, bytes = append(flight, h), bytes+h.size
			h.flying = true
		}
		o.waiting = o.waiting[n:]
		if len(flight) > 0 {
			o.flying = true
			return to, flight
		}
	}
	return "", nil
}

// land ends a flight: answers has one for each settlement in it, or is nil where
// the owner did not answer. It returns those that the owner has recorded.
func (c *custody) land(now time.Time, to string, flight []*held, answers []answer) (recorded []*held) {
	o := c.owners[to]
	o.flying = false
	for i, h := range flight {
		h.flying = false
		if answers != nil && answers[i] == answerRecorded {
			recorded = append(recorded, h)
		} else {
			o.waiting = append(o.waiting, h)
		}
	}
	if len(recorded) > 0 {
		o.retry, o.next = 0, now
	} else {
		o.retry = min(max(2*o.retry, minRetry), maxRetry)
		o.next = now.Add(o.retry)
	}
	for _, h := range recorded {
		c.done(h)
	}
	return recorded
}

// due is when the next flight is, the zero time if there is nothing to wait for.
func (c *custody) due() (at time.Time) {
	for _, o := range c.owners {
		if !o.flying && len(o.waiting) > 0 && (at.IsZero() || o.next.Before(at)) {
			at = o.next
		}
	}
	return at
}

// overdue are the settlements for an owner that have been held for d or longer
// and are not under way to it.
func (c *custody) overdue(now time.Time, of string, d time.Duration) (all []*held) {
	o := c.owners[of]
	if o == nil {
		return nil
	}
	for _, h := range o.held {
		if !h.flying && now.Sub(h.since) >= d {
			all = append(all, h)
		}
	}
	return all
}
