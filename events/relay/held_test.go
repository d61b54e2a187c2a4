package relay

import (
	"fmt"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/events"
)

func ofOwner(owner string, n int) *events.Foreign {
	return &events.Foreign{Admission: &authz.Admission{ID: fmt.Sprint(owner, n), Replica: owner}, Seen: &authz.Observation{}}
}

func recordedAll(n int) []answer {
	all := make([]answer, n)
	for i := range all {
		all[i] = answerRecorded
	}
	return all
}

// An owner that doesn't answer is tried less and less often, and holds up nobody
// else; what it records at last leaves nothing behind.
func TestOwnersDontWaitForEachOther(t *testing.T) {
	now := time.Unix(1_764_000_000, 0)
	c := custody{owners: map[string]*owner{}}
	c.add(now, ofOwner("away", 0), 100)
	var gaps []time.Duration
	last, delivered := now, 0
	for n := range 600 { // a minute
		now = now.Add(100 * time.Millisecond)
		c.add(now, ofOwner("there", n), 100)
		for {
			to, flight := c.depart(now)
			if flight == nil {
				break
			}
			if to == "away" {
				gaps = append(gaps, now.Sub(last))
				last = now
				c.land(now, to, flight, nil)
				continue
			}
			delivered += len(c.land(now, to, flight, recordedAll(len(flight))))
		}
	}
	if delivered != 600 {
		t.Errorf("%d of 600 were delivered to the owner that is there", delivered)
	}
	if len(gaps) < 12 || len(gaps) > 20 || gaps[len(gaps)-1] < maxRetry {
		t.Errorf("the other one was tried after %v", gaps)
	}
	if due := c.due(); due.IsZero() || due.Sub(now) > maxRetry {
		t.Errorf("the next try is at %v", due)
	}
	now = now.Add(maxRetry)
	to, flight := c.depart(now)
	if to2, more := c.depart(now); more != nil {
		t.Errorf("two flights to %s and %s at once", to, to2)
	}
	if c.land(now, to, flight, recordedAll(1)); c.count != 0 || len(c.owners) != 0 || !c.due().IsZero() {
		t.Errorf("left: %+v", c)
	}
}

// A flight is bounded in number and bytes; what is refused or can't be written
// down goes again.
func TestFlights(t *testing.T) {
	now := time.Unix(1_764_000_000, 0)
	c := custody{owners: map[string]*owner{}}
	for n := range 3 * maxFlight {
		if !c.add(now, ofOwner("o", n), 100) || c.add(now, ofOwner("o", n), 100) {
			t.Fatal("a settlement is held not once")
		}
	}
	for n := range 3 {
		c.add(now, ofOwner("large", n), maxFlightBytes/2+1)
	}
	seen := map[string]int{}
	for c.count > 0 {
		to, flight := c.depart(now)
		if flight == nil {
			now = c.due()
			continue
		}
		bytes := 0
		answers := recordedAll(len(flight))
		for i, h := range flight {
			bytes += h.size
			if seen[h.Admission.ID]++; seen[h.Admission.ID] == 1 {
				answers[i] = []answer{answerAgain, answerRefused, answerRecorded}[i%3]
			}
		}
		if len(flight) > maxFlight || len(flight) > 1 && bytes > maxFlightBytes {
			t.Fatalf("%d settlements of %d bytes at once", len(flight), bytes)
		}
		if len(c.overdue(now.Add(time.Hour), to, 0)) != len(c.owners[to].held)-len(flight) {
			t.Fatal("what is under way is closed in its owner's place")
		}
		c.land(now, to, flight, answers)
	}
	if len(seen) != 3*maxFlight+3 {
		t.Errorf("%d went out", len(seen))
	}
}
