package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Stored is an event as it is stored.
type Stored struct {
	Seq     uint64 // its place in the stream
	Payload []byte // the event's JSON form
}

// ErrCursor says that the place to read on from is beyond the end of the stream,
// so it comes from another one.
var ErrCursor = errors.New("the cursor is not one of this stream of events: start again without it")

// MaxRead is the most events that one Read returns.
const MaxRead = 1000

// Read returns up to limit events (at most MaxRead) that come behind the place
// after; with 0, those that were stored at or after since, or all from the oldest
// where that is zero too. next is the place to read on from.
//
// Where there is none yet it waits for the first, at most for wait, and returns
// no event if none comes. The error is ErrCursor, ctx's, or wraps ErrUnavailable.
func (u *Usage) Read(ctx context.Context, after uint64, since time.Time, limit int, wait time.Duration) (items []Stored, next uint64, err error) {
	limit = min(max(limit, 1), MaxRead)
	items, err = readStream(ctx, u.stream, readFrom(after, since, ""), after, limit, wait)
	if err != nil {
		return nil, after, readError(ctx, err)
	}
	next = after
	if len(items) > 0 {
		next = items[len(items)-1].Seq
	}
	return items, next, nil
}

// readFrom is a consumer that begins behind a place or, with 0, at a time.
func readFrom(after uint64, since time.Time, filter string) jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		FilterSubject:     filter,
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: 10 * time.Second, // it deletes itself if we can't
	}
	switch {
	case after > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	case !since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	return cfg
}

// readError gives what a read failed of the words of this package.
func readError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrCursor):
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// readStream reads what a consumer gets, see Usage.Read. In a cluster, servers may
// not have heard yet of a consumer that another one has just made: then it asks
// again.
func readStream(ctx context.Context, stream jetstream.Stream, cfg jetstream.ConsumerConfig, after uint64, limit int, wait time.Duration) ([]Stored, error) {
	const tries, pause = 6, 20 * time.Millisecond
	for try := 0; ; try++ {
		items, err := readOnce(ctx, stream, cfg, after, limit, wait)
		if !errors.Is(err, nats.ErrNoResponders) || try+1 == tries {
			return items, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause << try):
		}
	}
}

func readOnce(ctx context.Context, stream jetstream.Stream, cfg jetstream.ConsumerConfig, after uint64, limit int, wait time.Duration) ([]Stored, error) {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	info, err := stream.Info(ask)
	if err != nil {
		return nil, err
	}
	if after > info.State.LastSeq {
		return nil, ErrCursor
	}
	consumer, err := stream.CreateConsumer(ask, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = stream.DeleteConsumer(ctx, consumer.CachedInfo().Name)
	}()
	var items []Stored
	if consumer.CachedInfo().NumPending == 0 {
		if wait <= 0 {
			return nil, nil
		}
		// One alone, so that it is not held back until the others are there.
		first, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		batch, err := consumer.Fetch(1, jetstream.FetchContext(first))
		if err != nil {
			return nil, err
		}
		if items, err = collect(items, batch); len(items) == 0 {
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				err = nil // nothing came within wait
			}
			return nil, err
		}
		limit--
	}
	if limit == 0 {
		return items, nil
	}
	batch, err := consumer.FetchNoWait(limit)
	if err != nil {
		return nil, err
	}
	return collect(items, batch)
}

func collect(items []Stored, batch jetstream.MessageBatch) ([]Stored, error) {
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil {
			return nil, err
		}
		items = append(items, Stored{meta.Sequence.Stream, msg.Data()})
	}
	return items, batch.Error()
}
