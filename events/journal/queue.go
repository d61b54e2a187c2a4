package journal

import (
	"context"
	"sync"
	"time"
)

// queue is the events that wait, in memory only as references.
type queue struct {
	mu        sync.Mutex
	refs      []Ref
	head      int   // refs before it are gone
	waiting   int64 // queued or with publish
	published int64
	failed    int64
	running   bool
	empty     chan struct{} // closed when waiting comes to 0; nil: nobody asked

	wake   chan struct{} // has a token after refs were added
	closed chan struct{}
}

func (q *queue) init() {
	q.wake = make(chan struct{}, 1)
	q.closed = make(chan struct{})
}

func (q *queue) close() { close(q.closed) }

func (q *queue) push(refs ...Ref) {
	q.mu.Lock()
	q.refs = append(q.refs, refs...)
	q.waiting += int64(len(refs))
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for events and takes up to maxBatch.
func (q *queue) take(ctx context.Context) ([]Ref, error) {
	for {
		select {
		case <-q.closed:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		default:
		}
		if refs := q.pop(); len(refs) > 0 {
			return refs, nil
		}
		select {
		case <-q.wake:
		case <-q.closed:
		case <-ctx.Done():
		}
	}
}

func (q *queue) pop() []Ref {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(maxBatch, len(q.refs)-q.head)
	refs := append([]Ref(nil), q.refs[q.head:q.head+n]...)
	clear(q.refs[q.head : q.head+n]) // lets go of segments
	q.head += n
	if q.head > len(q.refs)/2 {
		q.refs = append(q.refs[:0], q.refs[q.head:]...)
		q.head = 0
	}
	return refs
}

// finish ends a batch: failed are queued again.
func (q *queue) finish(acked, dropped int, failed []Ref) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refs = append(q.refs, failed...)
	q.waiting -= int64(acked + dropped)
	q.published += int64(acked)
	q.failed += int64(len(failed))
	if q.waiting == 0 && q.empty != nil {
		close(q.empty)
		q.empty = nil
	}
}

// whenEmpty returns a channel that is closed once nothing waits.
func (q *queue) whenEmpty() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == 0 {
		done := make(chan struct{})
		close(done)
		return done
	}
	if q.empty == nil {
		q.empty = make(chan struct{})
	}
	return q.empty
}

// pause waits for d.
func (q *queue) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-q.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *queue) start() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running {
		return false
	}
	q.running = true
	return true
}

func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running = false
}

func (q *queue) figures() (waiting, published, failed int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting, q.published, q.failed
}
