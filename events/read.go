package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
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

// Bounds of what is under way from the server to this process: it cuts a connection
// that lags behind by more than it holds back, and with it all that goes over it.
const (
	// maxReadBytes is after how many bytes of events a Read ends, with the event
	// that reaches it.
	maxReadBytes = 4 << 20
	// readBatch is how many events are asked for at once.
	readBatch = 32
	// parallelReads is how many Reads of a stream are under way at once; others wait.
	parallelReads = 4
)

// readable is a stream as Reads use it. It is safe for concurrent use.
type readable struct {
	stream jetstream.Stream
	turns  chan struct{} // has one for each Read that is under way
}

func newReadable(stream jetstream.Stream) readable {
	return readable{stream, make(chan struct{}, parallelReads)}
}

// turn waits until few enough Reads are under way. done ends this one; it may be
// called again, and after an error.
func (r readable) turn(ctx context.Context) (done func(), err error) {
	select {
	case r.turns <- struct{}{}:
		return sync.OnceFunc(func() { <-r.turns }), nil
	case <-ctx.Done():
		return func() {}, ctx.Err()
	}
}

// Read returns up to limit events (at most MaxRead) that come behind the place
// after; with 0, those that were stored at or after since, or all from the oldest
// where that is zero too. next is the place to read on from.
//
// It returns fewer than there are where they are large: only when it returns none
// is there no more now. Then it waits for the first, at most for wait, and returns
// no event if none comes. The error is ErrCursor, ctx's, or wraps ErrUnavailable.
func (u *Usage) Read(ctx context.Context, after uint64, since time.Time, limit int, wait time.Duration) (items []Stored, next uint64, err error) {
	limit = min(max(limit, 1), MaxRead)
	items, _, err = u.reads.read(ctx, readFrom(after, since, ""), after, limit, wait)
	if err != nil {
		return nil, after, readError(ctx, err)
	}
	next = after
	if len(items) > 0 {
		next = items[len(items)-1].Seq
	}
	return items, next, nil
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

// read reads what a consumer gets, see Usage.Read, and says whether there is more
// behind it. In a cluster, servers may not have heard yet of a consumer that another
// one has just made: then it asks again.
func (r readable) read(ctx context.Context, cfg jetstream.ConsumerConfig, after uint64, limit int, wait time.Duration) (items []Stored, more bool, err error) {
	const tries, pause = 6, 20 * time.Millisecond
	for try := 0; ; try++ {
		items, more, err := r.once(ctx, cfg, after, limit, wait)
		if !errors.Is(err, nats.ErrNoResponders) || try+1 == tries {
			return items, more, err
		}
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-time.After(pause << try):
		}
	}
}

func (r readable) once(ctx context.Context, cfg jetstream.ConsumerConfig, after uint64, limit int, wait time.Duration) ([]Stored, bool, error) {
	done, err := r.turn(ctx)
	if err != nil {
		return nil, false, err
	}
	defer func() { done() }()
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	info, err := r.stream.Info(ask)
	if err != nil {
		return nil, false, err
	}
	if after > info.State.LastSeq {
		return nil, false, ErrCursor
	}
	consumer, err := consume(ask, r.stream, cfg)
	if err != nil {
		return nil, false, err
	}
	defer forget(ctx, r.stream, consumer)
	page := page{consumer: consumer, limit: limit, pending: consumer.CachedInfo().NumPending}
	if page.pending == 0 && wait > 0 {
		done() // for others, as long as there is nothing to read
		if err := page.wait(ctx, wait); err != nil || len(page.items) == 0 {
			return nil, false, err
		}
		if done, err = r.turn(ctx); err != nil {
			return nil, false, err
		}
	}
	err = page.fill(ctx)
	return page.items, page.pending > 0, err
}

// page is what one Read gathers.
type page struct {
	consumer jetstream.Consumer
	limit    int
	items    []Stored
	bytes    int
	pending  uint64 // how many events wait behind the last one
}

// wait waits for the first event: for it alone, so that it is not held back until
// others are there.
func (p *page) wait(ctx context.Context, most time.Duration) error {
	first, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	batch, err := p.consumer.Fetch(1, jetstream.FetchContext(first))
	if err != nil {
		return err
	}
	if err := p.collect(batch); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return err
	}
	return nil // nothing came within that time
}

// fill takes what is there, within the bounds of a page. A batch may end before all
// of it has come; what comes later is lost to the consumer. So the page then ends with
// what has come in order, and tells that there is more.
func (p *page) fill(ctx context.Context) error {
	for p.pending > 0 && len(p.items) < p.limit && p.bytes < maxReadBytes {
		had, ask := len(p.items), min(readBatch, p.limit-len(p.items), int(min(p.pending, readBatch)))
		fetch, cancel := context.WithTimeout(ctx, askTimeout)
		batch, err := p.consumer.Fetch(ask, jetstream.FetchContext(fetch))
		if err == nil {
			err = p.collect(batch)
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case len(p.items) == had+ask:
		case len(p.items) > 0:
			return nil
		case err != nil:
			return err
		default:
			return fmt.Errorf("%d events wait and none came", p.pending)
		}
	}
	return nil
}

func (p *page) collect(batch jetstream.MessageBatch) error {
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Consumer != uint64(len(p.items)+1) {
			continue // one before it is lost
		}
		p.items = append(p.items, Stored{meta.Sequence.Stream, msg.Data()})
		p.bytes += len(msg.Data())
		p.pending = meta.NumPending
	}
	return batch.Error()
}
