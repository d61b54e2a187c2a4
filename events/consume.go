package events

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// consumerMaker makes and deletes the consumers of a stream. A jetstream.Stream is one.
type consumerMaker interface {
	CreateConsumer(ctx context.Context, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error)
	DeleteConsumer(ctx context.Context, name string) error
}

// streamNamed is one by the stream's name, without a question to NATS.
type streamNamed struct {
	js     jetstream.JetStream
	stream string
}

func (s streamNamed) CreateConsumer(ctx context.Context, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	return s.js.CreateConsumer(ctx, s.stream, cfg)
}

func (s streamNamed) DeleteConsumer(ctx context.Context, name string) error {
	return s.js.DeleteConsumer(ctx, s.stream, name)
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

// consume makes a consumer of readFrom's. It asks in tries: while a cluster elects who
// places consumers, it says nothing. What a lost answer leaves behind deletes itself.
func consume(ctx context.Context, of consumerMaker, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	return asked(ctx, func(ctx context.Context) (jetstream.Consumer, error) { return of.CreateConsumer(ctx, cfg) })
}

// forget deletes one that is not read any more, also where ctx has ended; or it deletes
// itself. It takes a second at most.
func forget(ctx context.Context, of consumerMaker, c jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = of.DeleteConsumer(ctx, c.CachedInfo().Name)
}
