package journal

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// maxBatch is how many events are handed over at once.
	maxBatch = 256
	// While no event gets through, tries are so far apart, doubling.
	minRetry, maxRetry = 50 * time.Millisecond, 5 * time.Second
)

// Outgoing is an event on its way. (Epoch, Seq) numbers the events of one
// journal: within an epoch Seq counts up from 1 in the order of settlement, and
// only a kill leaves numbers out. A repetition has the same numbers.
type Outgoing struct {
	Event
	Epoch, Seq uint64
}

// A PublishFunc hands events to the stream and returns, for each, nil once the
// stream has acknowledged it. It may keep the events. It must return when ctx
// ends; it should not retry for long by itself.
type PublishFunc func(ctx context.Context, batch []Outgoing) []error

var (
	errDamaged  = errors.New("the record does not verify")
	errNoResult = errors.New("publish returned no result")
	errRunning  = errors.New("journal: Run is running already")
)

// Run hands waiting events to publish, up to 256 at a time, about in the order
// of their settlement, and lets go of what was acknowledged. What failed goes to
// the end of the queue, so that one event the stream will not have doesn't hold
// up the rest; while nothing succeeds, Run waits between the tries, from 50 ms
// to 5 s. It returns when ctx ends or the journal is closed, with the reason.
// Only one Run may be under way.
func (j *Journal) Run(ctx context.Context, publish PublishFunc) error {
	if !j.queue.start() {
		return errRunning
	}
	defer j.queue.stop()
	retry := minRetry
	for {
		refs, err := j.queue.take(ctx)
		if err != nil {
			return err
		}
		progress, err := j.hand(ctx, refs, publish)
		if progress {
			retry = minRetry
			continue
		}
		if ctx.Err() == nil && !j.closed.Load() {
			j.cfg.Log.Warn("usage events wait in the journal", "waiting", j.Stats().Waiting, "error", err)
		}
		if err := j.queue.pause(ctx, retry/2+rand.N(retry)); err != nil {
			return err
		}
		retry = min(2*retry, maxRetry)
	}
}

// hand gives events to publish and takes in its answer. It returns whether any
// was let go of, else why not.
func (j *Journal) hand(ctx context.Context, refs []Ref, publish PublishFunc) (bool, error) {
	batch, sent := make([]Outgoing, 0, len(refs)), make([]Ref, 0, len(refs))
	dropped := 0
	for i, ref := range refs {
		out, err := ref.outgoing()
		switch {
		case err == nil:
			batch, sent = append(batch, out), append(sent, ref)
		case errors.Is(err, ErrClosed):
			j.queue.finish(0, dropped, append(sent, refs[i:]...))
			return false, err
		default:
			dropped++
			j.drop(ref, err)
		}
	}
	var first error
	failed := make([]Ref, 0)
	errs := publish(ctx, batch)
	for i, ref := range sent {
		err := errNoResult
		if i < len(errs) {
			err = errs[i]
		}
		if err == nil {
			ref.seg.setState(ref.off, stateDone)
			j.released(ref.seg)
			continue
		}
		failed = append(failed, ref)
		if first == nil {
			first = err
		}
	}
	j.queue.finish(len(sent)-len(failed), dropped, failed)
	return len(failed) < len(refs), first
}

// drop gives up an event that the disk has spoiled since it was written. Its
// segment is set aside instead of deleted.
func (j *Journal) drop(ref Ref, err error) {
	j.cfg.Log.Error("an event is lost", "file", ref.seg.path, "offset", ref.off, "error", err)
	ref.seg.damaged.Add(1)
	j.damaged.Add(1)
	j.released(ref.seg)
}

// Flush waits until every event is acknowledged whose Settle has returned; Run
// must be under way. It returns ctx's error or ErrClosed if that comes first.
func (j *Journal) Flush(ctx context.Context) error {
	empty := j.queue.whenEmpty()
	select {
	case <-empty:
		return nil
	default:
	}
	select {
	case <-empty:
		return nil
	case <-j.queue.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// outgoing reads the event at r. It returns ErrClosed or errDamaged.
func (r Ref) outgoing() (Outgoing, error) {
	r.seg.life.RLock()
	defer r.seg.life.RUnlock()
	if r.seg.mem == nil {
		return Outgoing{}, ErrClosed
	}
	rec, ok := readAt(r.seg.mem, r.off, r.seg.seed)
	if !ok || rec.kind != settled {
		return Outgoing{}, errDamaged
	}
	subject, msgID, payload, _ := splitEvent(rec.body) // readAt has seen that it is one
	return Outgoing{
		Event: Event{Subject: string(subject), MsgID: string(msgID), Payload: append([]byte(nil), payload...)},
		Epoch: r.seg.epoch,
		Seq:   rec.seq,
	}, nil
}
