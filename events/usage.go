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
	// Replicas is how many servers of a cluster hold each event. Zero: 3, or 1 on
	// a server that is in no cluster.
	Replicas int
	// MaxAge is how long an event is kept, read or not. Zero: 90 days. Like
	// Replicas and MaxBytes it is for a stream that has to be made.
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
	// Replica is whose events are published, for their Position. "": theirs is not
	// told.
	Replica string
}

// Usage is the stream of usage events. All methods are safe for concurrent use.
type Usage struct {
	js      jetstream.JetStream
	stream  jetstream.Stream
	reads   readable
	hold    func() error
	replica string
}

// duplicateWindow is how long the stream recognises an event that it has. The
// server keeps some 300 bytes per id for it. Consumers have to recognise events
// by source and id in any case.
const duplicateWindow = 10 * time.Minute

// OpenUsage opens the stream, and makes it where there is none. One that is there
// stays as it is.
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
	stream, err := openStream(ctx, nc, js, jetstream.StreamConfig{
		Name:        UsageStream,
		Description: "Tollgate's usage events, one per admission.",
		Subjects:    []string{"tollgate.usage.>"},
		Replicas:    cfg.Replicas,
		MaxAge:      cfg.MaxAge,
		MaxBytes:    cfg.MaxBytes,
	})
	if err != nil {
		return nil, err
	}
	if is := stream.CachedInfo().Config; is.Duplicates < min(duplicateWindow, cmp.Or(is.MaxAge, duplicateWindow)) {
		return nil, fmt.Errorf("the stream %s recognises an event that it has for %v only, so events could be counted twice: set its duplicate window to %v",
			UsageStream, is.Duplicates, duplicateWindow)
	}
	return &Usage{js, stream, newReadable(stream), cfg.Hold, cfg.Replica}, nil
}

// Outgoing is an event on its way into the stream.
type Outgoing struct {
	Subject string // see Subject
	MsgID   string // see MsgID; fixed when the event is recorded, so that a repetition is recognised
	Payload []byte // the event's JSON form
	// Epoch and Seq are where it stands in this replica's journal, see Position;
	// zero: not told.
	Epoch, Seq uint64
	// Contested: another replica may publish an event of the same MsgID. Then one
	// that is there already does not count as stored: the error is errContested.
	Contested bool
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
	settle := func(i int) { errs[i] = settled(ctx, &batch[i], futures[i], errs[i]) }
	for i, m := range batch {
		if i >= inFlight {
			settle(i - inFlight)
		}
		if err := cmp.Or(ctx.Err(), u.hold()); err != nil {
			errs[i] = unsent{err}
			continue
		}
		header := nats.Header{"Content-Type": {ContentType}}
		if at := (Position{u.replica, m.Epoch, m.Seq}); at.Known() {
			header[PositionHeader] = []string{at.String()}
		}
		futures[i], errs[i] = u.js.PublishMsgAsync(&nats.Msg{
			Subject: m.Subject,
			Header:  header,
			Data:    m.Payload,
		}, jetstream.WithMsgID(m.MsgID), jetstream.WithExpectStream(UsageStream))
	}
	for i := max(0, len(batch)-inFlight); i < len(batch); i++ {
		settle(i)
	}
	return errs
}

// unsent is why an event was not even sent: it is certainly not stored by that.
type unsent struct{ error }

func (e unsent) Unwrap() error { return e.error }

// settled waits for an event's acknowledgement, unless it was never sent.
func settled(ctx context.Context, m *Outgoing, f jetstream.PubAckFuture, sent error) error {
	if sent != nil {
		return sent
	}
	select {
	case ack := <-f.Ok():
		if ack.Duplicate && m.Contested {
			return errContested
		}
		return nil
	case err := <-f.Err():
		return fullStream(err, UsageStream)
	case <-ctx.Done():
		return ctx.Err()
	}
}
