package authz

import "sync"

// MaxAbandoned is how many admissions a Settler remembers that it closed as
// Unknown, the newest: some 12 MiB. The truth about an older one comes too late
// and is dropped, as that about one which was settled is.
const MaxAbandoned = 1 << 16

// abandoned are the ids of admissions that were closed as Unknown and for which
// nobody has told the truth since. The zero value is empty.
type abandoned struct {
	mu sync.Mutex
	// order has the ids as they came, those that were removed included; next is
	// the oldest once there are MaxAbandoned. Both maps and slices are guarded
	// by mu.
	known map[string]abandonedAs // by id
	order []string
	next  int
}

type abandonedAs struct {
	place   int // in order
	charged Charge
}

// add notes an id, and what it was charged. mu is held.
func (s *abandoned) add(id string, charged Charge) {
	if s.known == nil {
		s.known = map[string]abandonedAs{}
	}
	if _, ok := s.known[id]; ok {
		return
	}
	at := len(s.order)
	if at < MaxAbandoned {
		s.order = append(s.order, id)
	} else {
		at = s.next
		s.next = (s.next + 1) % MaxAbandoned
		if old, ok := s.known[s.order[at]]; ok && old.place == at {
			delete(s.known, s.order[at])
		}
		s.order[at] = id
	}
	s.known[id] = abandonedAs{at, charged}
}

// remove reports whether an id was there, and with what. mu is held.
func (s *abandoned) remove(id string) (charged Charge, ok bool) {
	is, ok := s.known[id]
	delete(s.known, id)
	return is.charged, ok
}
