package totals

import (
	"cmp"
	"crypto/sha256"
	"slices"

	"tollgate/events"
)

// seen tells a repetition of an event from a new one: by its position, after any
// time; where it has none (it is of an older version, or was restored without
// its headers), by its id among the newest maxIDs of those. The ids of
// adjustments are kept too: an adjustment that was made twice has two positions
// and one id.
type seen struct {
	epochs map[epoch]*epochSeen
	clock  uint64 // counts uses of epochs
	ids    map[eventID]struct{}
	ring   []eventID // of ids, the oldest at next once it is full
	next   int
}

type epoch struct {
	replica string
	number  uint64
}

type epochSeen struct {
	numbers
	used uint64 // seen.clock at the last use
}

type eventID [16]byte

const (
	// maxIDs bounds the ids that are kept: 2 to 4 MiB.
	maxIDs = 1 << 16
	// maxEpochs bounds the epochs, of which each start of a replica that had
	// events makes one: some 300 bytes each. Those that were not used for longest
	// are forgotten; a repetition from them would be counted again.
	maxEpochs = 1 << 16
)

func newSeen() seen {
	return seen{epochs: map[epoch]*epochSeen{}, ids: map[eventID]struct{}{}}
}

// first reports whether an event is new, and notes it.
func (s *seen) first(e *event, p events.Position) bool {
	byID := e.adjusts || !p.Known()
	var id eventID
	if byID || len(s.ids) > 0 {
		id = idOf(e)
		if _, again := s.ids[id]; again {
			if p.Known() {
				s.epoch(epoch{p.Replica, p.Epoch}).add(p.Seq) // tells it when the id is gone
			}
			return false
		}
	}
	if p.Known() && !s.epoch(epoch{p.Replica, p.Epoch}).add(p.Seq) {
		return false
	}
	if byID {
		s.addID(id)
	}
	return true
}

// idOf is a digest of what consumers tell events apart by.
func idOf(e *event) eventID {
	sum := sha256.Sum256([]byte(events.MsgID(e.source, e.id)))
	return eventID(sum[:len(eventID{})])
}

func (s *seen) addID(id eventID) {
	s.ids[id] = struct{}{}
	if len(s.ring) < maxIDs {
		s.ring = append(s.ring, id)
		return
	}
	delete(s.ids, s.ring[s.next])
	s.ring[s.next] = id
	s.next = (s.next + 1) % maxIDs
}

// epoch is the one of that name, made if need be.
func (s *seen) epoch(name epoch) *epochSeen {
	s.clock++
	e := s.epochs[name]
	if e == nil {
		if len(s.epochs) >= maxEpochs {
			s.forget()
		}
		e = &epochSeen{}
		s.epochs[name] = e
	}
	e.used = s.clock
	return e
}

// forget drops the sixteenth of the epochs that was not used for longest.
func (s *seen) forget() {
	used := make([]uint64, 0, len(s.epochs))
	for _, e := range s.epochs {
		used = append(used, e.used)
	}
	slices.Sort(used)
	before := used[max(1, len(used)/16)]
	for name, e := range s.epochs {
		if e.used < before {
			delete(s.epochs, name)
		}
	}
}

// sorted are the names of the epochs in a fixed order.
func (s *seen) sorted() []epoch {
	names := make([]epoch, 0, len(s.epochs))
	for name := range s.epochs {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b epoch) int {
		return cmp.Or(cmp.Compare(a.replica, b.replica), cmp.Compare(a.number, b.number))
	})
	return names
}
