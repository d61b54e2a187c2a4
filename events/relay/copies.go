package relay

import (
	"time"

	"tollgate/events"
)

// copies are the admissions that owners handed over here. They are no more than
// what keeps slots and reservations while the owner is away, and a reminder to
// close what nobody settles if it stays away. It is not safe for concurrent use.
type copies struct {
	owners map[string]*adopted
	count  int
}

// adopted are the copies of one owner.
type adopted struct {
	copies map[string]*copied // by the admission's id
	look   time.Time          // when to look into the stream for them again
}

type copied struct {
	*events.Foreign
	since time.Time // when it came here, or this process began
}

func (c *copies) has(replica, id string) bool {
	o := c.owners[replica]
	return o != nil && o.copies[id] != nil
}

// add takes a copy; false: it is there already.
func (c *copies) add(now time.Time, f *events.Foreign) bool {
	o := c.owners[f.Admission.Replica]
	if o == nil {
		o = &adopted{copies: map[string]*copied{}}
		c.owners[f.Admission.Replica] = o
	}
	if o.copies[f.Admission.ID] != nil {
		return false
	}
	o.copies[f.Admission.ID] = &copied{f, now}
	c.count++
	return true
}

// take removes a copy and returns it; nil: it is not there. Whoever has taken it
// gives back what the limits hold for it.
func (c *copies) take(replica, id string) *events.Foreign {
	o := c.owners[replica]
	if o == nil || o.copies[id] == nil {
		return nil
	}
	f := o.copies[id].Foreign
	delete(o.copies, id)
	c.count--
	if len(o.copies) == 0 {
		delete(c.owners, replica)
	}
	return f
}

// returned removes and returns the copies of an owner that is there again, as
// another incarnation than the one that they came from.
func (c *copies) returned(owner, incarnation string) (all []*events.Foreign) {
	o := c.owners[owner]
	if o == nil || incarnation == "" {
		return nil
	}
	for id, f := range o.copies {
		if f.Incarnation != incarnation {
			all = append(all, c.take(owner, id))
		}
	}
	return all
}

// settledElsewhere are the copies of an owner that is gone, which somebody may
// have closed meanwhile: it is time to look. nil: it is not.
func (c *copies) settledElsewhere(now time.Time, owner string, every time.Duration) (all []*events.Foreign) {
	o := c.owners[owner]
	if o == nil || now.Before(o.look) {
		return nil
	}
	o.look = now.Add(every)
	for _, f := range o.copies {
		all = append(all, f.Foreign)
	}
	return all
}

// lapsed removes and returns the copies of an owner that is gone which nobody has
// settled by their deadline and d longer, and that have been here for d.
func (c *copies) lapsed(now time.Time, owner string, d time.Duration) (all []*events.Foreign) {
	o := c.owners[owner]
	if o == nil {
		return nil
	}
	for id, f := range o.copies {
		if now.Sub(f.since) >= d && now.Sub(f.Admission.Deadline) >= d {
			all = append(all, c.take(owner, id))
		}
	}
	return all
}
