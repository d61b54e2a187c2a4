package journal

import (
	"sync"
	"time"
)

// lookAgain is how long the keeper leaves a segment alone that it has looked
// at: reading one takes some milliseconds.
const lookAgain = time.Second

// moves is where admissions of a segment have gone. It outlives the mapping,
// for whoever still has an old Ref.
type moves struct {
	mu     sync.Mutex // held while a record is being moved
	to     map[uint32]Ref
	looked time.Time // by the keeper, which alone reads and writes it
}

// claim makes the caller the one that settles ref, and returns where it is now.
func (j *Journal) claim(ref Ref) (Ref, error) {
	for ref.seg != nil {
		if j.closed.Load() {
			return Ref{}, ErrClosed
		}
		ok, next := ref.seg.claim(ref.off)
		if ok {
			return ref, nil
		}
		ref = next
	}
	return Ref{}, ErrSettled
}

// claim claims the admission at off or returns where it went, the zero Ref if
// it is settled.
func (s *segment) claim(off uint32) (bool, Ref) {
	if s.changeState(off, stateOpen, stateClaimed) {
		return true, Ref{}
	}
	s.moves.mu.Lock()
	defer s.moves.mu.Unlock()
	if next, ok := s.moves.to[off]; ok {
		return false, next
	}
	// Perhaps a move was under way that had to be given up.
	return s.changeState(off, stateOpen, stateClaimed), Ref{}
}

// compact frees old segments that only a few long requests hold, by moving
// those admissions to the attic. Without it a single stream of an
// hour in each segment would fill the journal. It does nothing while there is
// disk for more segments and the journal less than half of what it may be. The keeper calls it.
func (j *Journal) compact() {
	j.mu.Lock()
	segs := append([]*segment(nil), j.segs...)
	crowded := j.exhausted || 2*j.bytes > j.cfg.MaxBytes
	j.mu.Unlock()
	if !crowded {
		return
	}
	for _, s := range segs {
		if s.complete() && s.live.Load() > 0 && time.Since(s.moves.looked) > lookAgain {
			s.moves.looked = time.Now()
			if !j.evacuate(s) {
				return
			}
		}
	}
}

// evacuate moves the open admissions of a full segment if that gains anything.
// It returns false if there is no room to move to.
func (j *Journal) evacuate(s *segment) bool {
	var open []record
	var bytes, events int64
	scan(s.mem, s.seed, func(r record) {
		switch {
		case r.state == stateDone:
		case r.kind == settled:
			events++ // goes when it is acknowledged
		default:
			open = append(open, r)
			bytes += int64(recordSize(len(r.body)))
		}
	})
	if events > 0 || bytes > int64(s.size)/2 {
		return true
	}
	for _, r := range open {
		if !j.move(s, r) {
			return false
		}
	}
	return true
}

// move copies an open admission to the attic. The copy names the original; a
// restart that finds it takes the original for done, as it does with one that
// an event names. It returns false if there is no room.
func (j *Journal) move(s *segment, r record) bool {
	s.moves.mu.Lock()
	defer s.moves.mu.Unlock()
	if !s.changeState(r.offset, stateOpen, stateClaimed) {
		return true // it was settled meanwhile
	}
	size := recordSize(len(r.body))
	to, off, ok := j.reserveAttic(size)
	if !ok {
		s.setState(r.offset, stateOpen)
		return false
	}
	begin(to.mem, off, len(r.body))
	copy(to.mem[off+recordHeader:], r.body)
	commit(to.mem, off, len(r.body), to.seed, admitted, 0, position{s.id, r.offset})
	to.dirty.Store(true) // s goes only when the copy is on disk
	s.linked, to.linked = true, true
	to.written(size)
	if s.moves.to == nil {
		s.moves.to = make(map[uint32]Ref)
	}
	s.moves.to[r.offset] = Ref{to, off}
	s.setState(r.offset, stateDone)
	j.released(s)
	return true
}

// reserveAttic takes size bytes in a segment apart from the current one, so that
// what is short-lived and what isn't part ways, and new admissions can't take
// the room that moving needs. It may use what is kept for events: a segment is
// only moved if that gives back more than it takes.
func (j *Journal) reserveAttic(size uint32) (*segment, uint32, bool) {
	if j.attic != nil {
		if off, ok := j.attic.reserve(size); ok {
			return j.attic, off, true
		}
	}
	j.mu.Lock()
	if len(j.spares) > 0 {
		j.attic = j.takeSpare()
	} else {
		j.attic = j.cur.Load()
	}
	j.mu.Unlock()
	if j.attic == nil {
		return nil, 0, false
	}
	off, ok := j.attic.reserve(size)
	return j.attic, off, ok
}
