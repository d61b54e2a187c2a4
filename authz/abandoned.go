package authz

import "sync"

// MaxAbandoned is how many admissions a Settler remembers that it closed as
// Unknown, the newest: some 8 MiB. The truth about an older one comes too late
// and is dropped, as that about one which was settled is.
const MaxAbandoned = 1 << 16

// abandoned are the ids of admissions that were closed as Unknown and for which
// nobody has told the truth since. The zero value is empty.
type abandoned struct {
	mu sync.Mutex
	// order has the ids as they came, those that were removed included; next is
	// the oldest once there are MaxAbandoned. Both maps and slices are guarded
	// by mu.
	known map[string]int // id → its place in order
	order []string
	next  int
}

// add notes an id. mu is held.
func (s *abandoned) add(id string) {
	if s.known == nil {
		s.known = map[string]int{}
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
		if old := s.order[at]; s.known[old] == at {
			delete(s.known, old)
		}
		s.order[at] = id
	}
	s.known[id] = at
}

// remove reports whether an id was there. mu is held.
func (s *abandoned) remove(id string) bool {
	_, ok := s.known[id]
	delete(s.known, id)
	return ok
}
