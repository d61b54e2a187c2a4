package totals

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// Peers are the other replicas, whose totals may reach back further than the stream does.
type Peers interface {
	// Snapshot returns a snapshot of the replica that has counted most requests, if
	// those are more than a number; nil: no other one has, or none answered. One
	// that misses nothing comes before others; with whole only such count. It waits
	// for seconds at most, and for as long as the snapshot comes in.
	Snapshot(ctx context.Context, moreThan int64, whole bool) (b []byte, partial bool, err error)
}

// gapTries is how often others are asked, which may be starting at the same time,
// before this replica goes on without them: that takes some 6 s.
const gapTries = 5

var errNobody = errors.New("no other replica has counted more")

// fillGap takes the totals of another replica where the stream has dropped events that
// this one did not count: it is new, its data directory was lost, or it was away for
// longer than events are kept. One that has counted nothing asks in any case: others
// may have counted what was in a stream before this one. Where nobody has more it goes
// on with what there is, and asks again later (askAgain). An error means to try again.
func (f *Folder) fillGap(ctx context.Context, created time.Time, first uint64) error {
	at := f.at()
	f.mu.RLock()
	knows := len(f.state.series) > 0
	f.mu.RUnlock()
	gap := first > at.seq+1
	switch {
	case at.seq == 0 && knows: // a stream in place of the one before
		return nil
	case !gap && (at.seq > 0 || f.gapAsked):
		return nil
	}
	err := errNobody
	if f.cfg.Peers != nil {
		if err = f.takeOver(ctx, created, first); err == nil {
			return nil
		}
		f.gapTried++
		if f.gapTried < gapTries && (gap || !errors.Is(err, errNobody)) {
			return err
		}
	}
	f.gapTried, f.gapAsked = 0, true
	if !gap {
		if !errors.Is(err, errNobody) {
			f.cfg.Log.Warn("what other replicas counted before this one was there can't be had: totals, and what is spent of budgets and credit, may be too low by it", "error", err)
		}
		return nil
	}
	f.cfg.Log.Warn("the stream of events has dropped some that were never counted here: totals, and what is spent of budgets and credit, are too low by these",
		"from", at.seq+1, "to", first-1, "error", err)
	f.miss()
	return nil
}

// takeOver makes the totals of another replica this one's. first is the place of the
// first event that the stream still has.
func (f *Folder) takeOver(ctx context.Context, created time.Time, first uint64) error {
	c, err := f.ask(ctx, created, first, false)
	if err != nil {
		return err
	}
	f.adopt(c)
	f.gapTried = 0
	switch {
	case c.partial:
		f.miss()
	case f.missing.Load(): // of a gap before
		f.filled()
	}
	return nil
}

// counted is what another replica has counted.
type counted struct {
	state   *state
	place   place
	partial bool // it misses something itself
}

// ask gets what the replica has that has counted most, and more than this one.
func (f *Folder) ask(ctx context.Context, created time.Time, first uint64, whole bool) (*counted, error) {
	f.mu.RLock()
	own := f.state.requests()
	f.mu.RUnlock()
	b, partial, err := f.cfg.Peers.Snapshot(ctx, own, whole)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, errNobody
	}
	s, at, err := readSnapshot(b)
	if err != nil {
		return nil, fmt.Errorf("the snapshot of another replica: %w", err)
	}
	if at.created != created.UnixNano() || first > at.seq+1 {
		return nil, fmt.Errorf("the snapshot of another replica ends with %v, which leaves a gap, too", at)
	}
	return &counted{s, at, partial}, nil
}

// adopt puts what another replica has counted in place of what this one has. Nothing
// may be folded before the stream is read from there.
func (f *Folder) adopt(c *counted) {
	f.writing.Lock()
	defer f.writing.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.place = c.state, c.place
	f.asOf = c.place.asOf()
	f.spending.forget()
	f.changes++
	f.wake()
	f.cfg.Log.Info("the totals of another replica were taken over", "as of", c.place.String())
}

// Offer is what this replica could give to one that has a gap: how many requests it
// has counted, and whether it misses some itself. Not current: it is behind.
func (f *Folder) Offer() (counted int64, partial, current bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.state.requests(), f.missing.Load(), f.asOf.Current
}

// Snapshot is the written form of the totals, for another replica. Counting waits for
// it, queries don't.
func (f *Folder) Snapshot() ([]byte, error) {
	f.writing.Lock()
	defer f.writing.Unlock()
	var b bytes.Buffer
	if err := f.state.writeSnapshot(&b, f.at()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// requests are all that were ever counted.
func (s *state) requests() (n int64) {
	for i := range s.series {
		sum := s.series[i].sum()
		n += sum.Requests
	}
	return n
}
