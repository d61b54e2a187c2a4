package journal

import (
	"fmt"
	"slices"
	"sync"
)

// group makes those that wait for the disk at the same time wait for one flush.
type group struct {
	mu     sync.Mutex
	next   *flushing // whom the next flush serves; nil: nobody waits
	failed error     // of the first flush that failed; it stays
	closed bool
	wake   chan struct{}
	done   chan struct{}
}

type flushing struct {
	done chan struct{}
	err  error // set before done is closed
}

func (g *group) init() {
	g.wake = make(chan struct{}, 1)
	g.done = make(chan struct{})
}

// wait returns when all that the caller has written to s is on disk, or ErrDisk.
func (g *group) wait(s *segment) error {
	s.dirty.Store(true)
	g.mu.Lock()
	switch {
	case g.failed != nil:
		defer g.mu.Unlock()
		return g.failed
	case g.closed: // and the caller was just in time with its record
		g.mu.Unlock()
		return s.flushDirty()
	}
	if g.next == nil {
		g.next = &flushing{done: make(chan struct{})}
		g.wake <- struct{}{} // has room: next was nil, so the last token was taken
	}
	f := g.next
	g.mu.Unlock()
	<-f.done
	return f.err
}

// run flushes until close. While one flush is under way the next group forms.
func (g *group) run(j *Journal) {
	defer close(g.done)
	for range g.wake {
		g.mu.Lock()
		f := g.next
		g.next = nil
		g.mu.Unlock()
		if f == nil {
			continue
		}
		j.mu.Lock()
		segs := slices.Clone(j.segs)
		j.mu.Unlock()
		for _, s := range segs {
			if err := s.flushDirty(); err != nil && f.err == nil {
				f.err = fmt.Errorf("%w: %w", ErrDisk, err)
				j.cfg.Log.Error("the journal admits nothing more", "error", f.err)
			}
		}
		if f.err != nil {
			g.mu.Lock()
			g.failed = f.err
			g.mu.Unlock()
		}
		close(f.done)
	}
}

// close serves who waits and ends run.
func (g *group) close() {
	g.mu.Lock()
	g.closed = true
	close(g.wake)
	g.mu.Unlock()
	<-g.done
}
