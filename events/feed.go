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
	// Documents takes in what is stored by PutDocument. Nil: nobody does. To be
	// set before Run, like Members.
	Documents Documents
	// Members are the other replicas. Nil: there are none.
	Members *Members

	changes    changes
	log        *slog.Logger
	applied    atomic.Uint64
	unreadable atomic.Uint64

	// What follows belongs to Run's goroutine.
	created  time.Time // of the stream that position counts in
	position uint64    // of the newest change that was read, in this stream
	trail    trail     // of what was read, where there are Members
	held     held
}

// NewFeed makes a feed of a store's changes. Nothing happens before Run.
func NewFeed(keys *Keys) *Feed { return newFeed(keys.bucket, keys.log) }

func newFeed(c changes, log *slog.Logger) *Feed { return &Feed{changes: c, log: log, held: held{}} }

// Applied is the revision up to which everything has been applied. Revisions of
// other records than keys' count too.
func (f *Feed) Applied() uint64 { return f.applied.Load() }

// Unreadable is how many changes could not be read since the start.
func (f *Feed) Unreadable() uint64 { return f.unreadable.Load() }

// Run feeds sink until ctx ends or the connection is closed for good, and then
// says which. It is to be called once. When NATS is away it waits for it to come
// back and goes on after the last applied revision; it notices a stream that was
// made anew or is shorter than before, and starts over with Sink.Reset.
//
// With Members it also notices a stream that was restored from an older copy of
// itself, or lost its end, and was written to beyond the feed's revision since.
// Without, restart the only replica after restoring a backup.
func (f *Feed) Run(ctx context.Context, sink Sink) error {
	if f.Members != nil {
		stop, err := f.Members.run()
		if err != nil {
			return fmt.Errorf("the feed of keys: %w", err)
		}
		defer stop()
	}
	const shortest, longest = 20 * time.Millisecond, time.Second
	wait := shortest
	for {
		before := f.position
		err := f.session(ctx, sink)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case f.changes.closed():
			return fmt.Errorf("the feed of keys: %w", nats.ErrConnectionClosed)
		case f.position != before:
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
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	from, last, err := f.resume(ctx, sink)
	if err != nil {
		return err
	}
	src, err := f.changes.follow(ctx, from)
	if err != nil {
		return err
	}
	defer src.stop()
	stop := func() {}
	defer func() { stop() }()
	read := from - 1
	for whole := false; ; {
		// Either will do: the newest of the beginning may be gone by now, and
		// the end may never be reached while others write.
		if !whole && (src.waiting() == 0 || read >= last) {
			if stop, err = f.whole(ctx, sink, fail); err != nil {
				return err
			}
			whole = true
		}
		name, e, err := src.next()
		if err != nil {
			return err
		}
		read = e.revision
		if f.Members != nil && !whole {
			if err := f.trail.again(name, e, f.position); err != nil {
				f.startOver(sink)
				return err
			}
		}
		if e.revision <= f.position {
			continue // read before: it only had to be there
		}
		if err := f.apply(sink, name, e, whole); err != nil {
			return err
		}
	}
}

// resume finds out where to read from in the stream that is there now, and its
// last revision.
func (f *Feed) resume(ctx context.Context, sink Sink) (from, last uint64, err error) {
	created, last, err := f.changes.identity(ctx)
	if err != nil {
		return 0, 0, err
	}
	standing := sameStore
	if f.Members != nil {
		if standing, err = f.Members.check(ctx); err != nil {
			return 0, 0, err
		}
	}
	if f.replaced(created, last) || standing == otherStore || standing == rivalStore {
		f.log.Error("the store of keys is not the one it was: reading it anew",
			"created", created, "last", last, "applied", f.applied.Load(), "heartbeat of another process", standing == rivalStore)
		f.startOver(sink)
	}
	f.created = created
	if f.Members == nil {
		return f.position + 1, last, nil
	}
	if f.trail.at == 0 && f.position > 0 {
		f.log.Warn("the feed of keys was interrupted before a heartbeat proved what it had read: reading anew")
		f.startOver(sink)
	}
	return f.trail.begin(), last, nil
}

// startOver forgets everything that was read.
func (f *Feed) startOver(sink Sink) {
	sink.Reset()
	if f.Members != nil {
		f.Members.forget()
	}
	f.applied.Store(0)
	f.position, f.created, f.trail, f.held = 0, time.Time{}, trail{}, held{}
}

// whole is what happens once a session has read all that was there.
func (f *Feed) whole(ctx context.Context, sink Sink, fail func(error)) (stop func(), err error) {
	none := func() {}
	if f.Members != nil {
		if err := f.trail.complete(ctx, f.changes); errors.Is(err, errOtherStore) {
			f.startOver(sink)
			return none, err
		} else if err != nil {
			return none, err
		}
	}
	if err := f.held.release(f.Documents); err != nil {
		return none, err
	}
	sink.SetReady(true)
	f.applied.Store(f.position)
	if f.Members == nil {
		return none, nil
	}
	f.Members.advance(f.position, true)
	confirmed, stop := f.Members.whole(ctx, fail)
	if confirmed > 0 {
		f.trail.confirm(confirmed)
	}
	return stop, nil
}

// apply takes in one change that is new.
func (f *Feed) apply(sink Sink, name string, e entry, whole bool) error {
	var confirmed uint64
	_, beat := replicaOf(name)
	document, isDocument := documentName(name)
	change, isKey := f.change(name, e)
	switch {
	case isKey:
		sink.Apply(change)
	case isDocument && !whole:
		f.held[document] = e
	case isDocument:
		if err := giveDocument(f.Documents, document, e); err != nil {
			return err
		}
	case beat && f.Members != nil:
		confirmed = f.Members.hear(name, e)
	}
	f.position = e.revision
	f.trail.follow(name, e)
	if confirmed > 0 {
		f.trail.confirm(confirmed)
	}
	if len(f.held) > 0 || !whole {
		return nil
	}
	f.applied.Store(f.position)
	if f.Members != nil {
		f.Members.advance(f.position, !beat) // for heartbeats nobody waits
	}
	return nil
}

// replaced reports whether the stream is another one, or shorter, than the one
// that was read so far. It is enough to ask when a session begins: whatever
// replaces a stream takes the reader's consumer with it, which ends the session.
func (f *Feed) replaced(created time.Time, last uint64) bool {
	return last < f.position || !f.created.IsZero() && !created.Equal(f.created)
}

// change reads one message; ok is false where it is not about a key.
func (f *Feed) change(name string, e entry) (_ key.Change, ok bool) {
	workspace, id, ok := splitKeyName(name)
	if !ok {
		return key.Change{}, false
	}
	c := key.Change{Workspace: workspace, ID: id, Revision: e.revision}
	rec, err := decodeRecord(e.value, workspace, id)
	if e.deleted {
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
