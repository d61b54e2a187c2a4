package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// changes is the stream of a bucket as Feed and Members use it, and what replicas
// tell each other beside it. A bucket has it; tests have one that is a model. The
// errors are those of package key.
type changes interface {
	// identity tells which stream it is and its last revision.
	identity(ctx context.Context) (created time.Time, last uint64, err error)
	// follow starts to read at the first change whose revision is at least from.
	follow(ctx context.Context, from uint64) (source, error)
	// last reads what was written last under a name, from the leader.
	last(ctx context.Context, name string) (entry, error)
	// swap writes once, and does not look what became of it.
	swap(ctx context.Context, name string, value []byte, expect uint64) (uint64, error)
	// heartbeats reads the newest of every replica, as they were together when
	// upTo was the last revision.
	heartbeats(ctx context.Context) (newest map[string]entry, upTo uint64, err error)
	// say tells all replicas something that nobody stores.
	say(subject string, message []byte) error
	// hear calls f with what is said, one at a time, until stop.
	hear(subject string, f func(message []byte)) (stop func(), err error)
	// closed reports whether it is so for good.
	closed() bool
}

// source is what follow reads from; see reader.
type source interface {
	next() (name string, e entry, err error)
	waiting() uint64
	stop()
}

func (b *bucket) identity(ctx context.Context) (created time.Time, last uint64, err error) {
	stream, err := asked(ctx, func(ctx context.Context) (jetstream.Stream, error) { return b.js.Stream(ctx, b.stream()) })
	if err != nil {
		return time.Time{}, 0, lost(err, b.stream(), "restore a backup (tollgate restore); only where there is none make an empty one (tollgate nats setup)")
	}
	info := stream.CachedInfo()
	return info.Created, info.State.LastSeq, nil
}

func (b *bucket) follow(ctx context.Context, from uint64) (source, error) {
	r, err := b.read(ctx, b.subject(">"), from)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (b *bucket) swap(ctx context.Context, name string, value []byte, expect uint64) (uint64, error) {
	ack, err := b.publish(ctx, firstTry, name, value, expect)
	var api *jetstream.APIError
	switch {
	case err == nil:
		return ack.Sequence, nil
	case errors.As(err, &api) && (api.ErrorCode == codeWrongLastSequence || api.ErrorCode == codeWrongLastSequenceConstant):
		return 0, b.errors.conflict
	}
	return 0, fmt.Errorf("%w: %w", b.errors.unavailable, err)
}

// heartbeats asks any server that has a copy of the stream: upTo says how far that
// one is. The server lets no write in between (it holds the stream for it), so
// that a name is not missed because it is being written. It takes the right to
// DIRECT.GET, see adminPermissions.
func (b *bucket) heartbeats(ctx context.Context) (map[string]entry, uint64, error) {
	newest, upTo, err := b.newest(ctx, heartbeatPrefix+">")
	switch {
	case errors.Is(err, errTooMany):
		return nil, 0, fmt.Errorf("%w: there are heartbeats of more than 1024 replicas in it: delete those that are gone for good (nats kv del %s %s<replica>)",
			b.errors.unavailable, b.name, heartbeatPrefix)
	case err != nil:
		return nil, 0, err
	case len(newest) == 0: // which doesn't tell how far that server is
		return nil, 0, fmt.Errorf("%w: it has no heartbeat, not even this replica's", b.errors.unavailable)
	}
	return newest, upTo, nil
}

func (b *bucket) say(subject string, message []byte) error {
	// A message that is kept until the connection is back would tell of a store
	// that may be another one by then.
	if !b.nc.IsConnected() {
		return nats.ErrDisconnected
	}
	return b.nc.Publish(subject, message)
}

func (b *bucket) hear(subject string, f func(message []byte)) (stop func(), err error) {
	sub, err := b.nc.Subscribe(subject, func(m *nats.Msg) { f(m.Data) })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", b.errors.unavailable, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails where the connection is closed
}

func (b *bucket) closed() bool { return b.nc.IsClosed() }
