// Package totals adds usage events up: per workspace, key, user and model, by
// minute, hour and day, and when each key was last used. Each replica does that
// for itself, from the stream of events and a snapshot in its data directory;
// nobody leads, and nothing is written per request.
//
// What is promised: totals are the sum of the distinct events that this replica
// has read from the stream, adjustments included, after any redelivery, restart
// or kill.
//
//   - An event with a position (events.Position) counts once, however late and
//     often it is stored again, and whatever becomes of the stream. One without
//     counts once among the newest 65,536 such events.
//   - The sum is over what was ever read, so it stays when the stream's retention
//     drops events. A replica that has no readable snapshot, or was away for longer
//     than events are kept, takes the totals of another one (Peers); while there is
//     none, it has what the stream still has, and asks again.
//   - Bounds: see state (state.go) for memory, and the constants beside them for the
//     positions and ids that are remembered.
package totals

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/events"
)

// Stream is the stream of usage events. events.Usage is one.
type Stream interface {
	// Extent tells which stream it is, and the places of its first and last events.
	Extent(ctx context.Context) (events.Extent, error)
	// Follow calls begun once with how many events there are from the place from
	// on, then each for every one, in order and without gaps, until ctx ends,
	// each fails or something may have been lost; it returns why.
	Follow(ctx context.Context, from uint64, begun func(pending uint64), each func(events.Followed) error) error
}

// Config is how totals are kept. Stream and Path must be set.
type Config struct {
	Stream Stream
	// Path is the file of the snapshot; its neighbours begin with its name.
	Path string
	// Peers are asked where nothing was counted yet, and where the stream has dropped
	// what was not. nil: there are none.
	Peers Peers
	// Folding and Folded are called with the id of each event that was read, counted
	// before or not: just before Spent has it, and just after. They must be quick and
	// must not ask the Folder anything, which waits for them. nil: nobody is told.
	Folding, Folded func(id string)
	// Log gets what a person should look into. nil: slog.Default().
	Log *slog.Logger
}

// Folder keeps totals up to date. All methods are safe for concurrent use.
type Folder struct {
	cfg Config

	// writing is held by who changes the state, and while a snapshot is written:
	// reading goes on then. mu is held around each change.
	writing sync.Mutex
	mu      sync.RWMutex
	state   *state
	place   place
	asOf    AsOf
	waiters []waiter
	written uint64 // changes that the snapshot has; guarded by writing
	changes uint64 // guarded by writing

	gapTried int  // Run's alone, as the following
	gapAsked bool // others were, and did not have more

	missing atomic.Bool // something was never counted here, see missingSuffix

	spending *spending

	repeated, unreadable, failed atomic.Int64
}

// AsOf is how far totals have come.
type AsOf struct {
	// Seq is the place in the stream up to which every event is counted.
	Seq uint64
	// Stored is when the last one was stored; zero: there was none.
	Stored time.Time
	// Pending is how many were stored behind it, when that was last known.
	Pending uint64
	// Current: all that is stored is counted, or will be in a moment. Not so
	// before the stream was read to its end, and while it can't be read.
	Current bool
}

type waiter struct {
	seq  uint64
	done chan struct{}
}

const (
	// snapshotEvery is how often a snapshot is written where something has
	// changed, or the twentieth part of the time if it takes longer than a
	// twentieth of this.
	snapshotEvery      = 30 * time.Second
	minRetry, maxRetry = 100 * time.Millisecond, 5 * time.Second
)

// Open reads the snapshot, which takes about a second per million combinations of
// key and model; queries are answered from it at once. Run has to be called.
func Open(cfg Config) (*Folder, error) {
	if cfg.Stream == nil || cfg.Path == "" {
		return nil, errors.New("totals: Stream and Path must be set")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	for _, f := range []*func(string){&cfg.Folding, &cfg.Folded} {
		if *f == nil {
			*f = func(string) {}
		}
	}
	state, at, err := load(cfg.Path, cfg.Log)
	if err != nil {
		return nil, err
	}
	f := &Folder{cfg: cfg, state: state, place: at, asOf: at.asOf(), spending: newSpending()}
	f.missing.Store(isMissing(cfg.Path))
	return f, nil
}

// Totals answers a query. The error wraps ErrQuery or is ErrTooLarge. It holds
// nothing up: the sums are made without a lock.
func (f *Folder) Totals(q Query) (Answer, AsOf, error) {
	f.mu.RLock()
	sum, err := f.state.prepare(&q)
	asOf := f.asOf
	f.mu.RUnlock()
	if err != nil {
		return Answer{}, asOf, err
	}
	a, err := sum()
	return a, asOf, err
}

// OfKey is what a key used; zero for one that is not known.
func (f *Folder) OfKey(workspace, key string) KeyTotals {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.state.OfKey(workspace, key)
}

// AsOf tells how far totals have come.
func (f *Folder) AsOf() AsOf {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.asOf
}

// Wait waits until every event up to a place of the stream is counted, or ctx
// ends, and returns ctx's error then.
func (f *Folder) Wait(ctx context.Context, seq uint64) error {
	f.mu.Lock()
	if f.asOf.Seq >= seq {
		f.mu.Unlock()
		return nil
	}
	w := waiter{seq, make(chan struct{})}
	f.waiters = append(f.waiters, w)
	f.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.waiters {
		if f.waiters[i].done == w.done {
			f.waiters = append(f.waiters[:i], f.waiters[i+1:]...)
			break
		}
	}
	return ctx.Err()
}

// Refresh waits until every event is counted that is stored now, or ctx ends.
// Events that still wait in a replica's journal are not stored.
func (f *Folder) Refresh(ctx context.Context) error {
	is, err := f.cfg.Stream.Extent(ctx)
	if err != nil {
		return err
	}
	return f.Wait(ctx, is.Last)
}

// Stats are figures for metrics.
type Stats struct {
	Keys, Series, Epochs int
	Repeated             int64 // events that were counted before, since Open
	Unreadable           int64 // stored messages that are not events of a known form, since Open
	FailedSnapshots      int64 // since Open
}

// Stats returns the current figures.
func (f *Folder) Stats() Stats {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return Stats{
		Keys: len(f.state.keys), Series: len(f.state.series), Epochs: len(f.state.seen.epochs),
		Repeated: f.repeated.Load(), Unreadable: f.unreadable.Load(), FailedSnapshots: f.failed.Load(),
	}
}
