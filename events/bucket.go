package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// bucket is a JetStream key-value bucket with the guarantees that Tollgate needs:
// writes by compare-and-set only, reads from the leader only, and answers that
// tell "not there" from "can't be asked".
type bucket struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	name   string
	errors storeErrors
}

// storeErrors are the sentinels that a bucket's errors wrap.
type storeErrors struct{ notFound, conflict, unavailable error }

// entry is a value and the revision that wrote it.
type entry struct {
	value    []byte
	revision uint64
	stored   time.Time // by the clock of the server that stored it
	deleted  bool      // what was written is a deletion, which somebody made by hand
}

// openBucket opens the bucket that is there, whatever its number of copies: that
// is its operator's business, and who opens it may have no right to change it.
// Only where there is none it is made, with the copies asked for in cfg.Replicas;
// 0: 3, or 1 on a server that is in no cluster.
func openBucket(ctx context.Context, nc *nats.Conn, cfg jetstream.KeyValueConfig, errs storeErrors) (*bucket, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 4*askTimeout)
	defer cancel()
	b := &bucket{nc: nc, js: js, name: cfg.Bucket, errors: errs}
	switch err := b.there(ctx); {
	case err == nil:
		return b, nil
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("the bucket %s: %w", cfg.Bucket, denied(nc, err))
	}
	if err := b.make(ctx, cfg); err != nil {
		return nil, unmade(nc, "the bucket "+cfg.Bucket, err)
	}
	return b, nil
}

// there asks whether the bucket's stream exists.
func (b *bucket) there(ctx context.Context) error {
	_, err := inTries(ctx, 2*askTimeout, func(ctx context.Context) (jetstream.Stream, error) { return b.js.Stream(ctx, b.stream()) })
	return err
}

// make makes the bucket. Another replica may do so at the same time.
func (b *bucket) make(ctx context.Context, cfg jetstream.KeyValueConfig) (err error) {
	if cfg.Replicas, err = copies(b.nc, cfg.Replicas); err != nil {
		return err
	}
	_, err = onceThere(ctx, func(ctx context.Context) (jetstream.KeyValue, error) { return b.js.CreateKeyValue(ctx, cfg) })
	if errors.Is(err, jetstream.ErrBucketExists) {
		return b.there(ctx)
	}
	return err
}

func (b *bucket) stream() string             { return "KV_" + b.name }
func (b *bucket) subject(name string) string { return "$KV." + b.name + "." + name }
func (b *bucket) consumers() streamNamed     { return streamNamed{b.js, b.stream()} }

// The server's codes for a compare-and-set that did not hold, in a stream with
// one copy and with several, and for a subject without a message.
const (
	codeWrongLastSequence         jetstream.ErrorCode = 10071
	codeWrongLastSequenceConstant jetstream.ErrorCode = 10164
	codeNoMessageFound            jetstream.ErrorCode = 10037
)

// get reads the newest acknowledged value of a name. It asks the stream's leader:
// jetstream's own Get may be answered by a copy that was cut off and still has
// what was revoked since.
func (b *bucket) get(ctx context.Context, name string) (entry, error) {
	e, err := b.last(ctx, name)
	if err == nil && e.deleted {
		return entry{}, b.errors.notFound
	}
	return e, err
}

// last is get that also finds deletions.
func (b *bucket) last(ctx context.Context, name string) (entry, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := json.Marshal(struct {
		LastFor string `json:"last_by_subj"`
	}{b.subject(name)})
	if err != nil {
		return entry{}, err
	}
	reply, err := patiently(ctx, shortly, func(ctx context.Context) (*nats.Msg, error) {
		return b.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+b.stream(), request)
	})
	if err != nil {
		return entry{}, fmt.Errorf("%w: %w", b.errors.unavailable, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Seq  uint64    `json:"seq"`
			Hdrs []byte    `json:"hdrs"`
			Data []byte    `json:"data"`
			Time time.Time `json:"time"`
		} `json:"message"`
	}
	switch err := json.Unmarshal(reply.Data, &answer); {
	case err != nil:
		return entry{}, fmt.Errorf("%w: its answer is not JSON: %w", b.errors.unavailable, err)
	case answer.Error != nil && answer.Error.ErrorCode == codeNoMessageFound:
		return entry{}, b.errors.notFound
	case answer.Error != nil: // also a stream that is gone: that says nothing of the name
		return entry{}, fmt.Errorf("%w: %w", b.errors.unavailable, answer.Error)
	case answer.Message == nil:
		return entry{}, fmt.Errorf("%w: its answer has no message", b.errors.unavailable)
	}
	m := answer.Message
	return entry{value: m.Data, revision: m.Seq, stored: m.Time, deleted: tombstone(m.Hdrs)}, nil
}

// tombstone reports whether raw headers mark a deletion. Tollgate makes none, but
// a person with the nats tool can.
func tombstone(headers []byte) bool {
	if len(headers) == 0 {
		return false
	}
	h, err := nats.DecodeHeadersMsg(headers)
	return err != nil || deletion(h)
}

func deletion(h nats.Header) bool {
	op := h.Get("KV-Operation")
	return op == "DEL" || op == "PURGE" || h.Get("Nats-Marker-Reason") != ""
}

// put writes a value if the name's revision is still expect; 0 means that the
// name must not exist. Where the acknowledgement is lost, the name is read back
// to learn what happened, which may take askTimeout longer than ctx allows.
//
// An error that wraps unavailable leaves it open whether the value is, or will
// be, written. Repeating the same put is safe: it succeeds, or it conflicts.
func (b *bucket) put(ctx context.Context, name string, value []byte, expect uint64, how ...jetstream.PublishOpt) (uint64, error) {
	wctx, cancel := context.WithTimeout(ctx, 2*askTimeout) // longer than an election
	defer cancel()
	// Repeated once, because a write that the embedded server's full disk
	// swallowed succeeds a moment later, see natsd's Server.Health.
	ack, err := b.publish(wctx, firstTry, name, value, expect, how...)
	if unanswered(err) && wctx.Err() == nil {
		ack, err = patiently(wctx, askTimeout, func(ctx context.Context) (*jetstream.PubAck, error) {
			return b.publish(ctx, askTimeout, name, value, expect, how...)
		})
	}
	var api *jetstream.APIError
	switch {
	case err == nil:
		return ack.Sequence, nil
	case errors.Is(err, nats.ErrMaxPayload):
		return 0, fmt.Errorf("%s has %d bytes, more than NATS takes in one message: %w", name, len(value), err)
	case errors.As(err, &api) && api.ErrorCode != codeWrongLastSequence && api.ErrorCode != codeWrongLastSequenceConstant:
		return 0, fmt.Errorf("%w: %w", b.errors.unavailable, err)
	}
	// A conflict is looked at too: the client library repeats a publish that
	// found no responder, so it may be one with ourselves.
	return b.readBack(ctx, name, value, expect, err)
}

// firstTry is how long put waits for an acknowledgement before it sends again.
const firstTry = 2 * time.Second

func (b *bucket) publish(ctx context.Context, most time.Duration, name string, value []byte, expect uint64, how ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	how = append([]jetstream.PublishOpt{jetstream.WithExpectStream(b.stream()), jetstream.WithExpectLastSequencePerSubject(expect)}, how...)
	return b.js.Publish(ctx, b.subject(name), value, how...)
}

// unanswered reports whether a publish failed for want of an answer.
func unanswered(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// readBack tells a write that failed from one whose acknowledgement was lost.
func (b *bucket) readBack(ctx context.Context, name string, value []byte, expect uint64, cause error) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	now, err := b.getPatiently(ctx, name)
	switch {
	case errors.Is(err, b.errors.notFound) && expect > 0:
		return 0, b.errors.conflict // somebody deleted it by hand
	case errors.Is(err, b.errors.notFound):
		return 0, fmt.Errorf("%w: %w", b.errors.unavailable, cause)
	case err != nil:
		return 0, fmt.Errorf("%w: %w", b.errors.unavailable, cause)
	case now.revision > expect && bytes.Equal(now.value, value):
		return now.revision, nil
	case now.revision > expect:
		return 0, b.errors.conflict
	}
	return 0, fmt.Errorf("%w: %w", b.errors.unavailable, cause)
}

// getPatiently is get that asks again until there is an answer or ctx ends: what
// lost an acknowledgement may lose the first question too.
func (b *bucket) getPatiently(ctx context.Context, name string) (entry, error) {
	const try, pause = 500 * time.Millisecond, 50 * time.Millisecond
	for {
		tctx, cancel := context.WithTimeout(ctx, try)
		e, err := b.get(tctx, name)
		cancel()
		if !errors.Is(err, b.errors.unavailable) || b.nc.IsClosed() {
			return e, err
		}
		select {
		case <-ctx.Done():
			return entry{}, err
		case <-time.After(pause):
		}
	}
}
