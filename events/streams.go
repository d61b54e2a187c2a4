package events

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// defaultCopies is how many servers of a cluster hold what is stored, where nobody
// says: one may be lost.
const defaultCopies = 3

// openStream opens a stream of events that is there, whatever its configuration: its
// limits and copies are its operator's business, and who opens it may have no right
// to change them. Only where there is none it is made. cfg.Replicas is how many
// copies were asked for; 0: 3, or 1 on a server that is in no cluster. It waits for
// 20 s at most.
func openStream(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*askTimeout)
	defer cancel()
	there := func(ctx context.Context) (jetstream.Stream, error) { return js.Stream(ctx, cfg.Name) }
	stream, err := inTries(ctx, 2*askTimeout, there)
	switch {
	case err == nil:
		return stream, nil
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("the stream %s: %w", cfg.Name, denied(nc, err))
	}
	if cfg.Replicas, err = copies(nc, cfg.Replicas); err != nil {
		return nil, err
	}
	// On disk; what is full refuses what is new rather than lose what nobody has
	// read; a repetition is recognised.
	cfg.Storage, cfg.Discard, cfg.Duplicates = jetstream.FileStorage, jetstream.DiscardNew, min(duplicateWindow, cfg.MaxAge)
	stream, err = onceThere(ctx, func(ctx context.Context) (jetstream.Stream, error) { return js.CreateStream(ctx, cfg) })
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		stream, err = inTries(ctx, 2*askTimeout, there) // another replica was first
	}
	if err != nil {
		return nil, unmade(nc, "the stream "+cfg.Name, err)
	}
	return stream, nil
}

// copies is how many servers are to hold a stream. Several can't be had from a
// server that is in no cluster.
func copies(nc *nats.Conn, asked int) (int, error) {
	clustered := nc.ConnectedClusterName() != ""
	switch {
	case asked == 0 && clustered:
		return defaultCopies, nil
	case asked == 0:
		return 1, nil
	case asked > 1 && !clustered:
		return 0, fmt.Errorf("%d copies of each record were asked for, and the nats-server at %s is in no cluster: ask for 1, or for none in particular", asked, nc.ConnectedAddr())
	}
	return asked, nil
}
