package events

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// reader reads a bucket's changes in order, without gaps. It has one life: at the
// first sign that something may have been lost (a lost connection, a missing
// heartbeat, a gap in the numbers) it fails, and whoever uses it makes a new one
// that goes on where this one ended.
//
// Neither jetstream's watcher nor its ordered consumer does this job: the first
// was deaf for 17 s after a server restart, the second makes its successors
// itself, so that nobody can look whether the stream is still the same before it
// goes on, and waits up to 10 s between tries.
type reader struct {
	bucket   *bucket
	iter     jetstream.MessagesContext
	consumer jetstream.Consumer
	ctx      context.Context
	cancel   context.CancelCauseFunc
	statuses chan nats.Status
	last     uint64 // the consumer's number of the last message
	pending  uint64 // how many messages were waiting behind the last one
}

// heartbeat is how often the server says that it is there; twice that in silence
// is a failure.
const heartbeat = 500 * time.Millisecond

// read starts a reader at the first change whose revision is at least from. It
// must be stopped. ctx ends it too.
func (b *bucket) read(ctx context.Context, filter string, from uint64) (_ *reader, err error) {
	rctx, cancel := context.WithCancelCause(ctx)
	r := &reader{bucket: b, ctx: rctx, cancel: cancel}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	// Before the consumer is made: what breaks from here on is noticed. A
	// message that was under way on a broken connection is not sent again.
	r.statuses = b.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	go func(statuses <-chan nats.Status) {
		if _, ok := <-statuses; ok {
			cancel(nats.ErrDisconnected)
		}
	}(r.statuses)
	if !b.nc.IsConnected() {
		return nil, nats.ErrDisconnected
	}

	r.consumer, err = consume(rctx, b.consumers(), readFrom(max(1, from)-1, time.Time{}, filter))
	if err != nil {
		return nil, err
	}
	r.pending = r.consumer.CachedInfo().NumPending
	r.iter, err = r.consumer.Messages(jetstream.PullHeartbeat(heartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	return r, err
}

// next waits for the next change. After an error the reader is of no more use.
func (r *reader) next() (name string, e entry, err error) {
	msg, err := r.iter.Next(jetstream.NextContext(r.ctx))
	if err != nil {
		if cause := context.Cause(r.ctx); cause != nil {
			err = cause
		}
		return "", entry{}, err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return "", entry{}, err
	}
	if meta.Sequence.Consumer != r.last+1 {
		return "", entry{}, fmt.Errorf("a message was lost on the way: number %d came after %d", meta.Sequence.Consumer, r.last)
	}
	r.last, r.pending = meta.Sequence.Consumer, meta.NumPending
	name = strings.TrimPrefix(msg.Subject(), r.bucket.subject(""))
	return name, entry{msg.Data(), meta.Sequence.Stream, meta.Timestamp, deletion(msg.Headers())}, nil
}

// waiting is how many changes wait behind the last one.
func (r *reader) waiting() uint64 { return r.pending }

// stop gives everything free. The consumer is deleted if the server can be asked;
// if not, it deletes itself.
func (r *reader) stop() {
	if r.iter != nil {
		r.iter.Stop()
	}
	r.bucket.nc.RemoveStatusListener(r.statuses)
	r.cancel(context.Canceled)
	if r.consumer != nil && r.bucket.nc.IsConnected() {
		forget(r.ctx, r.bucket.consumers(), r.consumer)
	}
}
