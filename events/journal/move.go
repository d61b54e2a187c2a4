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
// those admissions together. Without it a single stream of an
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
	to := j.destination(bytes)
	if to == nil {
		return false
	}
	for _, r := range open {
		if !j.move(s, r, to) {
			return false
		}
	}
	return true
}

// move copies an open admission to another segment. The copy names the original; a
// restart that finds it takes the original for done, as it does with one that
// an event names. It returns false if there is no room.
func (j *Journal) move(s *segment, r record, to *segment) bool {
	s.moves.mu.Lock()
	defer s.moves.mu.Unlock()
	if !s.changeState(r.offset, stateOpen, stateClaimed) {
		return true // it was settled meanwhile
	}
	size := recordSize(len(r.body))
	off, ok := to.reserve(size)
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

// destination returns a segment to move that many bytes to, nil if there is
// none. It prefers one apart from the current segment, so that what is
// short-lived and what isn't part ways. Where that would take room that is kept
// for events it uses the current segment, or else dips into that room: the
// segment that is moved gives more than that back at once.
func (j *Journal) destination(bytes int64) *segment {
	if j.attic != nil && j.attic.free() >= bytes {
		return j.attic
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	n := int64(len(j.spares))
	if n > 0 && (n-1)*j.segmentRoom >= j.open.Load()*j.eventRoom {
		if j.attic != nil {
			j.attic.seal()
		}
		j.attic = j.takeSpare()
		return j.attic
	}
	if cur := j.cur.Load(); cur != nil && cur.free() >= bytes {
		return cur
	}
	if n == 0 {
		return nil
	}
	j.advance()
	return j.cur.Load()
}
