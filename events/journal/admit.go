package journal

import "time"

// Admit records an admission and keeps room for its event. The payload is
// copied. It makes no system call and takes no lock, but when a segment is full
// and when room runs low; then it may wait up to 20 ms for the next segment,
// but doesn't when it is known that there will be none. With Config.Sync it
// waits for the disk.
//
// On nil the admission is in the journal until Settle. On an error (ErrFull,
// ErrTooLarge, ErrClosed, ErrDisk) it isn't and the request must not go on.
func (j *Journal) Admit(payload []byte) (Ref, error) {
	if len(payload) > MaxPayload {
		return Ref{}, ErrTooLarge
	}
	if err := j.takeRoom(); err != nil {
		return Ref{}, err
	}
	size := recordSize(len(payload))
	seg, off, err := j.reserve(size)
	if err != nil {
		j.open.Add(-1)
		return Ref{}, err
	}
	begin(seg.mem, off, len(payload))
	copy(seg.mem[off+recordHeader:], payload)
	commit(seg.mem, off, len(payload), seg.seed, admitted, 0, position{})
	seg.written(size)

	ref := Ref{seg, off}
	if j.cfg.Sync {
		if err := j.group.wait(seg); err != nil {
			_ = j.Release(ref) // the caller will not hear of it
			return Ref{}, err
		}
	}
	return ref, nil
}

// Settle ends an admission with its event, once: of several calls for the same
// ref, also at the same time, one returns nil and the others ErrSettled. The
// event is copied. On ErrFull (not for events within Config.EventRoom, unless
// larger ones or a full disk at start have taken the room) and ErrTooLarge the
// admission is open again.
func (j *Journal) Settle(ref Ref, ev Event) error {
	n := eventSize(&ev)
	if n > MaxEvent+eventHeader {
		return ErrTooLarge
	}
	ref, err := j.claim(ref)
	if err != nil {
		return err
	}
	size := recordSize(n)
	seg, off, err := j.reserve(size)
	if err != nil {
		ref.seg.setState(ref.off, stateOpen)
		return err
	}
	begin(seg.mem, off, n)
	encodeEvent(seg.mem[off+recordHeader:off+size], &ev)
	commit(seg.mem, off, n, seg.seed, settled, j.seq.Add(1), position{ref.seg.id, ref.off})
	seg.written(size)
	if j.cfg.Sync {
		// A failure was logged. The event is in memory and will be published,
		// and that is the best that can be made of it.
		_ = j.group.wait(seg)
	}
	// In this order: once the event is in the queue it may be acknowledged and
	// its segment deleted, and then only the state tells that there was one.
	ref.seg.setState(ref.off, stateDone)
	j.queue.push(Ref{seg, off})
	j.ended(ref)
	return nil
}

// ended counts an admission out.
func (j *Journal) ended(ref Ref) {
	j.open.Add(-1)
	j.released(ref.seg)
}

// released counts down what holds a segment.
func (j *Journal) released(s *segment) {
	if s.live.Add(-1) == 0 && s.complete() {
		j.wakeKeeper()
	}
}

// takeRoom counts an admission in if there is room for its event.
func (j *Journal) takeRoom() error {
	n := j.open.Add(1)
	if n > j.limit.Load() {
		return j.awaitRoom()
	}
	if n == j.lowWater.Load() {
		j.wakeKeeper()
	}
	return nil
}

// awaitRoom is takeRoom for when there is none yet: the caller is counted in
// already.
func (j *Journal) awaitRoom() error {
	var w waiter
	defer w.stop()
	for {
		j.mu.Lock()
		if j.open.Load() <= j.limit.Load() {
			j.mu.Unlock()
			return nil
		}
		if err := w.wait(j, !j.exhausted); err != nil { // unlocks
			j.open.Add(-1)
			return err
		}
	}
}

// reserve takes size bytes in the current segment, or in the next one.
func (j *Journal) reserve(size uint32) (*segment, uint32, error) {
	if seg := j.cur.Load(); seg != nil {
		if off, ok := seg.reserve(size); ok {
			return seg, off, nil
		}
	}
	return j.reserveNext(size)
}

// reserveNext is reserve for when the current segment is full.
func (j *Journal) reserveNext(size uint32) (*segment, uint32, error) {
	var w waiter
	defer w.stop()
	for {
		seg := j.cur.Load()
		if seg != nil {
			if off, ok := seg.reserve(size); ok {
				return seg, off, nil
			}
		}
		j.mu.Lock()
		if j.cur.Load() != seg {
			j.mu.Unlock()
			continue
		}
		if !j.closed.Load() && len(j.spares) > 0 {
			j.advance()
			j.mu.Unlock()
			j.wakeKeeper()
			continue
		}
		// Even if there will be no new disk, the keeper may be making room.
		if err := w.wait(j, true); err != nil { // unlocks
			return nil, 0, err
		}
	}
}

// advance makes the first spare the current segment. j.mu is held.
func (j *Journal) advance() {
	if cur := j.cur.Load(); cur != nil {
		cur.seal() // if it isn't full yet: a move may not have fitted
	}
	j.cur.Store(j.takeSpare())
}

// takeSpare puts the first spare to use. j.mu is held.
func (j *Journal) takeSpare() *segment {
	s := j.spares[0]
	j.spares = j.spares[1:]
	j.segs = append(j.segs, s)
	j.announce()
	return s
}

// announce works out the limits anew and wakes who waits for a change. j.mu is
// held.
//
// All spares but one must have room for the events of all open admissions. Then
// the spares have it also when an event has taken the first of them: from there
// on only events go in, a segment full of which ends as many admissions as that
// segment was for. So the room is there at any time, also after a kill, which
// makes the rest of the current segment useless.
func (j *Journal) announce() {
	n := max(0, int64(len(j.spares))-1) * j.segmentRoom / j.eventRoom
	j.limit.Store(n)
	j.lowWater.Store(n / 2)
	close(j.changed)
	j.changed = make(chan struct{})
}

// waiter waits for the keeper, at most waitForRoom in all. Its zero value is
// ready.
type waiter struct{ timer *time.Timer }

// wait returns when something changed, ErrFull if nothing does in time or there
// is no hope, or ErrClosed. j.mu is held before and not after.
func (w *waiter) wait(j *Journal, hope bool) error {
	changed := j.changed
	j.mu.Unlock()
	if j.closed.Load() {
		return ErrClosed
	}
	if !hope {
		j.full.Add(1)
		return ErrFull
	}
	if w.timer == nil {
		w.timer = time.NewTimer(waitForRoom)
	}
	j.wakeKeeper()
	select {
	case <-changed:
		return nil
	case <-w.timer.C:
		j.full.Add(1)
		return ErrFull
	}
}

func (w *waiter) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}
