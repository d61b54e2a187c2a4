package totals

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"tollgate/events"
)

// errReplaced ends a session that found another event where the last one was.
var errReplaced = errors.New("the stream of events is not the one it was")

// Run reads the stream and writes snapshots until ctx ends, writes a last one,
// and returns ctx's error. A stream that can't be read is tried again. Only one
// Run may be under way.
func (f *Folder) Run(ctx context.Context) error {
	f.trim(time.Now()) // before an old stream is read by the minute
	var keeping sync.WaitGroup
	keeping.Go(func() { f.keep(ctx) })
	defer keeping.Wait()
	retry := minRetry
	for {
		counted := f.AsOf().Seq
		err := f.session(ctx)
		f.mu.Lock()
		f.asOf.Current = false
		f.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errReplaced), errors.Is(err, errFilled):
			continue
		case f.AsOf().Seq != counted:
			retry = minRetry
		}
		f.cfg.Log.Warn("totals of usage are behind: the stream can't be read", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry/2 + rand.N(retry)):
		}
		retry = min(2*retry, maxRetry)
	}
}

// session reads the stream from where the last one ended, until it can't.
//
// Where the stream was replaced, or restored from an older copy, it is read from
// its beginning: what was counted is recognised. To notice a copy that was written
// beyond our place since, the last event that was counted is read once more: it
// has to have been stored at the same time.
func (f *Folder) session(ctx context.Context) error {
	is, err := f.cfg.Stream.Extent(ctx)
	if err != nil {
		return err
	}
	if at := f.at(); at.seq > 0 && (at.created != is.Created.UnixNano() || is.Last < at.seq) {
		f.restart("made", is.Created, "last", is.Last)
	}
	f.mu.Lock()
	f.place.created = is.Created.UnixNano()
	f.mu.Unlock()
	if err := f.fillGap(ctx, is.Created, is.First); err != nil {
		return err
	}
	follow, stop := context.WithCancel(ctx)
	defer stop()
	var asking sync.WaitGroup
	var found *counted
	if f.missing.Load() && f.cfg.Peers != nil {
		asking.Go(func() {
			if found = f.askAgain(follow, is.Created); found != nil {
				stop()
			}
		})
	}
	err = f.cfg.Stream.Follow(follow, f.at().seq, func(pending uint64) {
		if pending == 0 {
			f.reached(is.Last)
		}
	}, f.fold)
	stop()
	asking.Wait()
	if found == nil || errors.Is(err, errReplaced) {
		return err
	}
	f.adopt(found)
	f.filled()
	return errFilled
}

func (f *Folder) at() place {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.place
}

// restart goes back to the beginning of the stream.
func (f *Folder) restart(why ...any) {
	f.cfg.Log.Warn(errReplaced.Error()+": reading it from its beginning; what was counted stays counted once", why...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.place = place{created: f.place.created}
	f.asOf = AsOf{}
}

// fold counts a message.
func (f *Folder) fold(m events.Followed) error {
	if at := f.at(); m.Seq == at.seq {
		if m.Stored.UnixNano() != at.stored {
			f.restart("place", m.Seq, "stored", m.Stored)
			return errReplaced
		}
		if m.Pending == 0 {
			f.reached(m.Seq)
		}
		return nil
	}
	e, err := parseEvent(m.Payload)
	if err != nil && f.unreadable.Add(1) == 1 {
		f.cfg.Log.Error("a stored message is not a usage event that this version knows; it counts nothing", "place", m.Seq, "error", err)
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	f.changes++
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.count(&e, m.Position)
	}
	f.place.seq, f.place.stored = m.Seq, m.Stored.UnixNano()
	f.asOf = AsOf{Seq: m.Seq, Stored: m.Stored, Pending: m.Pending, Current: f.asOf.Current || m.Pending == 0}
	f.wake()
	return nil
}

// count counts an event once. f.mu is held.
func (f *Folder) count(e *event, p events.Position) {
	f.cfg.Folding(e.id)
	defer f.cfg.Folded(e.id)
	if !f.state.Fold(e, p) {
		f.repeated.Add(1)
		return
	}
	f.spending.add(e)
}

// reached says that everything up to a place is counted, and all that is stored.
func (f *Folder) reached(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asOf.Seq = max(f.asOf.Seq, seq) // the last events may be gone
	f.asOf.Pending, f.asOf.Current = 0, true
	f.wake()
}

// wake lets go of those whose place is reached. f.mu is held.
func (f *Folder) wake() {
	left := f.waiters[:0]
	for _, w := range f.waiters {
		if w.seq <= f.asOf.Seq {
			close(w.done)
		} else {
			left = append(left, w)
		}
	}
	f.waiters = left
}

// keep trims and writes snapshots until ctx ends, and then once more.
func (f *Folder) keep(ctx context.Context) {
	next := time.NewTimer(snapshotEvery)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			f.snapshot()
			return
		case now := <-next.C:
			f.trim(now)
			next.Reset(max(snapshotEvery, 20*f.snapshot()))
		}
	}
}

func (f *Folder) trim(now time.Time) {
	f.writing.Lock()
	defer f.writing.Unlock()
	f.state.Trim(now, f.mu.Lock, f.mu.Unlock)
}

// snapshot writes a snapshot where something changed, and returns how long that
// took. Counting waits for it, queries don't.
func (f *Folder) snapshot() time.Duration {
	f.writing.Lock()
	defer f.writing.Unlock()
	if f.written == f.changes {
		return 0
	}
	began := time.Now()
	if err := save(f.cfg.Path, f.state, f.at()); err != nil {
		if f.failed.Add(1) == 1 {
			f.cfg.Log.Error("the snapshot of totals can't be written: a restart will read more of the stream", "file", f.cfg.Path, "error", err)
		}
		return time.Since(began)
	}
	f.written = f.changes
	return time.Since(began)
}
