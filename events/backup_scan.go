package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// scanStream calls f for each message of a stream that comes behind the place after, in
// their order and without gaps, until there was a moment at which there was no
// further one. So what is then known of the stream is what it held at that
// moment, however much was written meanwhile; of a name in a bucket, whose older
// messages are dropped, the last one read counts.
//
// At a sign that something may have been lost, such as a second of silence, it goes on
// behind the last message that it had, and fails when that happens three times
// without a message in between; and it fails with f's error. f may take up to a minute.
func scanStream(ctx context.Context, js jetstream.JetStream, stream string, after uint64, headersOnly bool, f func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	const tries = 3
	began, err := lookAt(ctx, js, stream)
	if err != nil {
		return err
	}
	var refused error // by f
	for try := 1; ; try++ {
		err := scanOnce(ctx, js, stream, after, headersOnly, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
			refused = f(m, meta)
			after, try = meta.Sequence.Stream, 1
			return refused
		})
		if err == nil || refused != nil || ctx.Err() != nil || try == tries {
			return err
		}
		if there := holds(ctx, js, stream, began, after); there != nil {
			return errors.Join(err, there)
		}
	}
}

// holds says that a stream is the one that it was, and has come as far as a place: else
// what was read of the one before must not be taken for the beginning of this.
func holds(ctx context.Context, js jetstream.JetStream, stream string, was *jetstream.StreamInfo, place uint64) error {
	is, err := lookAt(ctx, js, stream)
	if err != nil {
		return err
	}
	if last := is.State.LastSeq; last < place {
		return fmt.Errorf("the stream %s ends at %d now, and had come to %d: it was replaced meanwhile", stream, last, place)
	}
	if !is.Created.Equal(was.Created) {
		return fmt.Errorf("the stream %s was made at %s, and the one that was read before at %s: it was replaced meanwhile",
			stream, is.Created.Format(time.RFC3339Nano), was.Created.Format(time.RFC3339Nano))
	}
	return nil
}

func lookAt(ctx context.Context, js jetstream.JetStream, stream string) (*jetstream.StreamInfo, error) {
	s, err := inTries(ctx, 2*askTimeout, func(ctx context.Context) (jetstream.Stream, error) { return js.Stream(ctx, stream) })
	if err != nil {
		return nil, fmt.Errorf("reading the stream %s: %w", stream, err)
	}
	return s.CachedInfo(), nil
}

// scanOnce is scanStream without patience.
func scanOnce(ctx context.Context, js jetstream.JetStream, stream string, after uint64, headersOnly bool, f func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	of, cfg := streamNamed{js, stream}, readFrom(after, time.Time{}, "")
	cfg.HeadersOnly, cfg.InactiveThreshold = headersOnly, time.Minute // as long as f may take
	consumer, err := consume(ctx, of, cfg)
	if err != nil {
		return fmt.Errorf("reading the stream %s: %w", stream, err)
	}
	defer forget(ctx, of, consumer)
	pending := consumer.CachedInfo().NumPending
	if pending == 0 {
		return nil
	}
	iter, err := consumer.Messages(jetstream.PullHeartbeat(heartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return fmt.Errorf("reading the stream %s: %w", stream, err)
	}
	defer iter.Stop()
	for number := uint64(1); pending > 0; number++ {
		meta, err := scanNext(ctx, iter, f, number)
		if err != nil {
			return fmt.Errorf("reading the stream %s: %w", stream, err)
		}
		pending = meta.NumPending
	}
	return nil
}

// scanNext hands the next message to f; number is the one that it must have.
func scanNext(ctx context.Context, iter jetstream.MessagesContext, f func(jetstream.Msg, *jetstream.MsgMetadata) error, number uint64) (*jetstream.MsgMetadata, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no message came within %v, and some are missing", askTimeout))
	defer cancel()
	msg, err := iter.Next(jetstream.NextContext(ctx))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return nil, err
	}
	if meta.Sequence.Consumer != number {
		return nil, fmt.Errorf("a message was lost on the way: number %d came instead of %d", meta.Sequence.Consumer, number)
	}
	return meta, f(msg, meta)
}
