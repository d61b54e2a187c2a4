package events

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Followed is a stored event as Follow hands it over.
type Followed struct {
	Seq      uint64    // its place in the stream
	Stored   time.Time // when the stream took it
	Position Position  // zero: not known
	Payload  []byte    // the event's JSON form; the callee's to keep
	Pending  uint64    // how many are stored behind it
}

// followHeartbeat is how often the server says that it is there; twice that in
// silence is a failure.
const followHeartbeat = 500 * time.Millisecond

// Extent is which stream it is and what is in it.
type Extent struct {
	// Created is when the stream was made. One that was made anew has another time;
	// one that was restored may have the same.
	Created time.Time
	// First is the place of the first event that is still there; of a stream without
	// events that of the next one. Last is the place of the last.
	First, Last uint64
}

// Extent tells which stream it is and what is in it now.
func (u *Usage) Extent(ctx context.Context) (Extent, error) {
	info, err := asked(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return u.stream.Info(ctx) })
	if err != nil {
		return Extent{}, fmt.Errorf("%w: the stream of events: %w", ErrUnavailable, lost(err, UsageStream,
			"make it again (tollgate nats setup), or restore it; new events wait in the journal"))
	}
	e := Extent{Created: info.Created, First: info.State.FirstSeq, Last: info.State.LastSeq}
	if info.State.Msgs == 0 {
		e.First = e.Last + 1
	}
	return e, nil
}

// Follow calls each for every event from the place from on, in order and without
// gaps, and for those that come, until ctx ends, each fails, or something may
// have been lost; it returns why. begun is called first, with how many events are
// there to read. All calls are made by the caller's goroutine.
//
// It has one life, for the reasons of reader: who goes on has to look first
// whether the stream is still the same.
func (u *Usage) Follow(ctx context.Context, from uint64, begun func(pending uint64), each func(Followed) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled)
	nc := u.js.Conn()
	// Before the consumer is made: what breaks from here on is noticed.
	statuses := nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(statuses)
	go func() {
		if _, ok := <-statuses; ok {
			cancel(nats.ErrDisconnected)
		}
	}()
	if !nc.IsConnected() {
		return nats.ErrDisconnected
	}
	consumer, err := consume(ctx, u.stream, readFrom(max(1, from)-1, time.Time{}, ""))
	if err != nil {
		return err
	}
	defer func() {
		if nc.IsConnected() {
			forget(ctx, u.stream, consumer)
		}
	}()
	iter, err := consumer.Messages(jetstream.PullHeartbeat(followHeartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return err
	}
	defer iter.Stop()
	begun(consumer.CachedInfo().NumPending)
	for number := uint64(1); ; number++ {
		msg, err := iter.Next(jetstream.NextContext(ctx))
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return err
		}
		f, at, err := followed(msg)
		switch {
		case err != nil:
			return err
		case at != number:
			return fmt.Errorf("an event was lost on the way: number %d came after %d", at, number-1)
		}
		if err := each(f); err != nil {
			return err
		}
	}
}

// followed reads a message and its number among those of its consumer.
func followed(msg jetstream.Msg) (f Followed, number uint64, err error) {
	meta, err := msg.Metadata()
	if err != nil {
		return f, 0, err
	}
	f = Followed{Seq: meta.Sequence.Stream, Stored: meta.Timestamp, Payload: msg.Data(), Pending: meta.NumPending}
	if at := msg.Headers()[PositionHeader]; len(at) == 1 {
		f.Position, _ = ParsePosition(at[0])
	}
	return f, meta.Sequence.Consumer, nil
}
