package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"tollgate/authz/key"
)

// Sink takes in what a Feed reads. Its methods are called by one goroutine, one
// at a time; while one blocks, the feed stands still.
type Sink interface {
	// Apply takes in a change. A change may come twice; a key's changes come in
	// their order. Its Record is nil where it can't be read or was deleted by
	// hand, which must close the key.
	Apply(key.Change)
	// SetReady(true) says that all keys have been applied which the store had
	// when the reading began.
	SetReady(bool)
	// Reset forgets everything and is no longer ready: the store turned out to
	// be another one, or to have lost revisions. All keys follow.
	Reset()
}

// Feed tells a Sink of every key there is, then of every change.
type Feed struct {
	keys       *Keys
	log        *slog.Logger
	applied    atomic.Uint64
	unreadable atomic.Uint64

	created time.Time // of the stream that applied counts in; Run's goroutine owns it
}

// NewFeed makes a feed of a store's changes. Nothing happens before Run.
func NewFeed(keys *Keys) *Feed { return &Feed{keys: keys, log: keys.log} }

// Applied is the revision up to which everything has been applied. Revisions of
// records other than keys' count too.
func (f *Feed) Applied() uint64 { return f.applied.Load() }

// Unreadable is how many changes could not be read since the start.
func (f *Feed) Unreadable() uint64 { return f.unreadable.Load() }

// Run feeds sink until ctx ends or the connection is closed for good, and then
// says which. It is to be called once. When NATS is away it waits for it to come
// back and goes on after the last applied revision; it notices a stream that was
// made anew or is shorter than before, and starts over with Sink.Reset.
//
// What it can't notice: a stream restored from an older copy of itself while the
// feed was cut off, and written to beyond the feed's revision before it was back.
// After restoring a backup, restart the replicas.
func (f *Feed) Run(ctx context.Context, sink Sink) error {
	const shortest, longest = 20 * time.Millisecond, time.Second
	wait := shortest
	for {
		before := f.applied.Load()
		err := f.session(ctx, sink)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case f.keys.bucket.nc.IsClosed():
			return fmt.Errorf("the feed of keys: %w", nats.ErrConnectionClosed)
		case f.applied.Load() != before:
			wait = shortest
		}
		f.log.Warn("the feed of keys was interrupted", "error", err, "applied", f.applied.Load(), "again in", wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, longest)
	}
}

// session reads until something breaks.
func (f *Feed) session(ctx context.Context, sink Sink) error {
	b := f.keys.bucket
	created, last, err := b.identity(ctx)
	if err != nil {
		return err
	}
	if f.replaced(created, last) {
		f.log.Error("the store of keys is not the one it was: reading it anew",
			"created", created, "last", last, "applied", f.applied.Load())
		sink.Reset()
		f.applied.Store(0)
	}
	f.created = created

	r, err := b.read(ctx, b.subject(">"), f.applied.Load()+1)
	if err != nil {
		return err
	}
	defer r.stop()
	ready := r.pending == 0
	if ready {
		sink.SetReady(true)
	}
	for {
		name, e, deleted, err := r.next()
		if err != nil {
			return err
		}
		if change, ok := f.change(name, e, deleted); ok {
			sink.Apply(change)
		}
		f.applied.Store(e.revision)
		// Either will do: the newest of the beginning may be gone by now, and
		// the end may never be reached while others write.
		if !ready && (e.revision >= last || r.pending == 0) {
			ready = true
			sink.SetReady(true)
		}
	}
}

// replaced reports whether the stream is another one, or shorter, than the one
// that was read so far. It is enough to ask when a session begins: whatever
// replaces a stream takes the reader's consumer with it, which ends the session.
func (f *Feed) replaced(created time.Time, last uint64) bool {
	return last < f.applied.Load() || !f.created.IsZero() && !created.Equal(f.created)
}

// identity tells which stream it is and its last revision.
func (b *bucket) identity(ctx context.Context) (created time.Time, last uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stream, err := b.js.Stream(ctx, b.stream())
	if err != nil {
		return time.Time{}, 0, err
	}
	info := stream.CachedInfo()
	return info.Created, info.State.LastSeq, nil
}

// change reads one message; ok is false where it is not about a key.
func (f *Feed) change(name string, e entry, deleted bool) (_ key.Change, ok bool) {
	workspace, id, ok := splitKeyName(name)
	if !ok {
		return key.Change{}, false
	}
	c := key.Change{Workspace: workspace, ID: id, Revision: e.revision}
	rec, err := decodeRecord(e.value, workspace, id)
	if deleted {
		err = errors.New("the record was deleted by hand")
	}
	if err != nil {
		f.unreadable.Add(1)
		f.log.Error("a key's record can't be read: the key is closed", "workspace", workspace, "key", id, "error", err)
		return c, true
	}
	rec.Revision = e.revision
	c.Record = rec
	return c, true
}
