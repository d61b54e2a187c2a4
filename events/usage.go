package events

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// UsageStream is the stream that holds usage events.
const UsageStream = "TOLLGATE_USAGE"

// UsageConfig is what the stream of usage events needs.
type UsageConfig struct {
	// Replicas is how many servers of a cluster hold each event. Zero: 1.
	Replicas int
	// MaxAge is how long an event is kept, read or not. Zero: 90 days.
	MaxAge time.Duration
	// MaxBytes bounds the stream. When it is full, new events are refused and
	// wait with their publisher until old ones have passed MaxAge. It should be
	// less than the server's whole store, so that keys can always be written.
	// Zero: 8 GiB.
	MaxBytes int64
	// Hold says why no event should be stored now, as natsd's Server.Health does
	// when a disk's last room is for keys; events then wait with their
	// publisher. It must not block. Nil: never.
	Hold func() error
}

// Usage is the stream of usage events. All methods are safe for concurrent use.
type Usage struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	hold   func() error
}

// duplicateWindow is how long the stream recognises an event that it has. The
// server keeps some 300 bytes per id for it. Consumers have to recognise events
// by source and id in any case.
const duplicateWindow = 10 * time.Minute

// OpenUsage opens the stream, makes it where there is none, and gives it the
// configuration.
func OpenUsage(ctx context.Context, nc *nats.Conn, cfg UsageConfig) (*Usage, error) {
	if cfg.MaxAge == 0 {
		cfg.MaxAge = 90 * 24 * time.Hour
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 8 << 30
	}
	if cfg.Hold == nil {
		cfg.Hold = func() error { return nil }
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(16*inFlight), jetstream.WithPublishAsyncTimeout(askTimeout))
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        UsageStream,
		Description: "Tollgate's usage events, one per admission.",
		Subjects:    []string{"tollgate.usage.>"},
		Storage:     jetstream.FileStorage,
		Replicas:    max(1, cfg.Replicas),
		MaxAge:      cfg.MaxAge,
		MaxBytes:    cfg.MaxBytes,
		Discard:     jetstream.DiscardNew,
		Duplicates:  min(duplicateWindow, cfg.MaxAge),
	})
	if err != nil {
		return nil, fmt.Errorf("the stream %s: %w", UsageStream, err)
	}
	return &Usage{js, stream, cfg.Hold}, nil
}

// Outgoing is an event on its way into the stream.
type Outgoing struct {
	Subject string // see Subject
	MsgID   string // see MsgID; fixed when the event is recorded, so that a repetition is recognised
	Payload []byte // the event's JSON form
}

// inFlight is how many events of a batch are under way at once.
const inFlight = 256

// PublishBatch stores events and tells of each whether it is stored: nil, or why
// that is not known. One that is there already counts as stored, so whatever was
// not may be published again, in any order. It blocks until all are decided, at
// most until ctx ends or, with NATS away, for about 5 s per 256 events.
func (u *Usage) PublishBatch(ctx context.Context, batch []Outgoing) []error {
	errs := make([]error, len(batch))
	futures := make([]jetstream.PubAckFuture, len(batch))
	for i, m := range batch {
		if i >= inFlight {
			errs[i-inFlight] = settled(ctx, futures[i-inFlight], errs[i-inFlight])
		}
		if errs[i] = cmp.Or(ctx.Err(), u.hold()); errs[i] != nil {
			continue
		}
		futures[i], errs[i] = u.js.PublishMsgAsync(&nats.Msg{
			Subject: m.Subject,
			Header:  nats.Header{"Content-Type": {ContentType}},
			Data:    m.Payload,
		}, jetstream.WithMsgID(m.MsgID), jetstream.WithExpectStream(UsageStream))
	}
	for i := max(0, len(batch)-inFlight); i < len(batch); i++ {
		errs[i] = settled(ctx, futures[i], errs[i])
	}
	return errs
}

// settled waits for an event's acknowledgement, unless it was never sent.
func settled(ctx context.Context, f jetstream.PubAckFuture, sent error) error {
	if sent != nil {
		return sent
	}
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
