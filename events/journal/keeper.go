package journal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// keep prepares segments before they are needed and deletes those that nobody
// needs any more, in one goroutine, until Close.
func (j *Journal) keep() {
	defer close(j.keeper.done)
	// A full disk is asked again each second, as is anything whose wake-up fell
	// between two looks.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := "" // error, so that one that lasts is logged once
	for {
		err := errors.Join(j.deleteQuiet(), j.prepare(), j.dropUnused())
		j.compact()
		if now := fmt.Sprint(err); err != nil && now != last {
			j.cfg.Log.Error("the journal can't keep its segments", "dir", j.dir, "error", err)
			last = now
		} else if err == nil {
			last = ""
		}
		select {
		case <-j.keeper.stop:
			return
		case <-j.keeper.wake:
		case <-tick.C:
		}
	}
}

func (j *Journal) wakeKeeper() {
	select {
	case j.keeper.wake <- struct{}{}:
	default:
	}
}

// wanted is how many spares there should be: room for the events of twice as
// many admissions as are open, the one that announce doesn't count, and two more
// so that the next is there when one is taken.
func (j *Journal) wanted() int {
	room := 2 * j.open.Load() * j.eventRoom
	return int((room+j.segmentRoom-1)/j.segmentRoom) + 3
}

// prepare makes spares until there are as many as wanted, from the unused files
// first. Reaching Config.MaxBytes is no error; a disk that has no room is. Only
// one goroutine at a time may call it.
func (j *Journal) prepare() error {
	for {
		j.mu.Lock()
		have, files := len(j.spares), j.bytes+j.cfg.SegmentBytes
		j.mu.Unlock()
		if have >= j.wanted() {
			j.setExhausted(false)
			return nil
		}
		if files > j.cfg.MaxBytes {
			j.setExhausted(true)
			return nil
		}
		from := ""
		if len(j.unused) > 0 {
			from, j.unused = j.unused[0], j.unused[1:]
		}
		s, err := createSegment(j.dir, header{id: j.lastID + 1, epoch: j.epoch, size: uint64(j.cfg.SegmentBytes)}, from, j.cfg.preallocate)
		if err == nil && j.cfg.Sync {
			// The first waiter should not have to wait for a segment of zeros.
			s.dirty.Store(true)
			if err = s.flushDirty(); err != nil {
				s.unmap()
				_ = os.Remove(s.path) // the next start finds it empty
			}
		}
		if err != nil {
			j.setExhausted(true)
			return err
		}
		j.mu.Lock()
		j.lastID++
		j.spares = append(j.spares, s)
		j.bytes += int64(s.size)
		j.announce()
		j.mu.Unlock()
	}
}

func (j *Journal) setExhausted(v bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.exhausted != v {
		j.exhausted = v
		j.announce()
	}
}

// deleteQuiet lets go of the segments that nobody needs, oldest first.
//
// That must not bring an admission back to life: if S has the event or a copy of
// an admission in R, and R is still there after a crash of the machine, then R
// must say that the admission is done. If R stays, it is flushed here before S
// goes; if it went before, syncDir saw to it that it doesn't come back. And it
// must not lose one: the copy of what was moved out of S is flushed too. R and
// the copies are in S, in older segments, or in linked ones. After a crash of
// the process alone all of that is so anyway.
func (j *Journal) deleteQuiet() error {
	j.mu.Lock()
	segs := slices.Clone(j.segs)
	j.mu.Unlock()
	for _, s := range segs {
		if !s.quiet() {
			continue
		}
		for _, o := range segs {
			if o == s || o.id > s.id && !s.linked && !o.linked {
				continue
			}
			if err := o.flushDirty(); err != nil {
				return err
			}
		}
		s.unmap()
		if err := j.letGo(s); err != nil {
			return fmt.Errorf("deleting journal segment: %w", err)
		}
		j.mu.Lock()
		j.segs = slices.DeleteFunc(j.segs, func(o *segment) bool { return o == s })
		j.bytes -= int64(s.size)
		j.mu.Unlock()
	}
	return nil
}

// letGo sets a damaged segment's file aside and leaves any other, under a name
// that Open doesn't read, for prepare.
func (j *Journal) letGo(s *segment) error {
	base := strings.TrimSuffix(s.path, suffix)
	to := base + asideSuf
	if s.damaged.Load() == 0 {
		to = s.path + tmpSuffix
	}
	err := os.Rename(s.path, to)
	if errors.Is(err, os.ErrNotExist) { // done by an earlier try that failed after it
		err = nil
	}
	if err := errors.Join(err, syncDir(j.dir)); err != nil {
		return err
	}
	if s.damaged.Load() == 0 {
		j.unused = append(j.unused, to)
	}
	return nil
}

// dropUnused deletes what prepare had no use for.
func (j *Journal) dropUnused() error {
	var err error
	for _, path := range j.unused {
		err = errors.Join(err, os.Remove(path))
	}
	j.unused = nil
	return err
}
