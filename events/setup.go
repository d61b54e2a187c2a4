package events

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Done is one thing that a set-up did, or would do.
type Done struct {
	What   string `json:"what"` // a stream or a file
	State  string `json:"state"`
	Detail string `json:"detail"` // for people
}

// The states of what a set-up is about.
const (
	stateMade    = "made"
	stateChanged = "changed"
	stateThere   = "there"   // as it should be, or as somebody wants it
	stateMissing = "missing" // a dry run would make it
	stateDiffers = "differs" // a dry run would change it
	stateKept    = "kept"    // a secret that was there
	stateWritten = "written" // a file without one
)

// SetUp makes the streams that are missing, with the code that a replica with the
// right to would make them by, and takes from those of keys and documents the
// means to delete many messages by writing one. Limits and numbers of copies of
// streams that are there stay, and are told. nc needs adminPermissions.
//
// asked is how many servers are to hold each record; 0: 3 in a cluster, 1 on a
// single server, where several are refused. With dry nothing is changed. On an
// error it returns what was done until then.
func SetUp(ctx context.Context, nc *nats.Conn, asked int, dry bool) ([]Done, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	want, err := copies(nc, asked)
	if err != nil {
		return nil, err
	}
	var all []Done
	for _, s := range setUpStreams {
		done, err := s.setUp(ctx, nc, js, want, dry)
		if errors.Is(err, nats.ErrPermissionViolation) {
			return all, fmt.Errorf("%w: this takes the administrator's rights of this version: connect by --nats-admin-nkey admin.nk; if that is what you did, write the users' files again (tollgate nats setup --files-only --dir), and reload the servers", err)
		}
		if err != nil {
			return all, err
		}
		all = append(all, done)
	}
	return all, nil
}

// setUpStream is a stream and how it is opened.
type setUpStream struct {
	name string
	open func(ctx context.Context, nc *nats.Conn, copies int) error
}

var setUpStreams = []setUpStream{
	{keysStream, func(ctx context.Context, nc *nats.Conn, copies int) error {
		_, err := OpenKeys(ctx, nc, KeysConfig{Replicas: copies})
		return err
	}},
	{configStream, func(ctx context.Context, nc *nats.Conn, copies int) error {
		_, err := OpenConfig(ctx, nc, copies)
		return err
	}},
	{objectsStream, func(ctx context.Context, nc *nats.Conn, copies int) error {
		_, err := OpenObjects(ctx, nc, copies)
		return err
	}},
	{onceStream, func(ctx context.Context, nc *nats.Conn, copies int) error {
		_, err := OpenIdempotency(ctx, nc, copies)
		return err
	}},
	{UsageStream, func(ctx context.Context, nc *nats.Conn, copies int) error {
		_, err := OpenUsage(ctx, nc, UsageConfig{Replicas: copies})
		return err
	}},
	{auditStream, func(ctx context.Context, nc *nats.Conn, copies int) error {
		_, err := OpenAudit(ctx, nc, AuditConfig{Replicas: copies})
		return err
	}},
}

func (s *setUpStream) setUp(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, want int, dry bool) (Done, error) {
	done := Done{What: "stream " + s.name, State: stateThere}
	stream, err := js.Stream(ctx, s.name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound) && dry:
		done.State, done.Detail = stateMissing, fmt.Sprintf("would have %s", numbered(want, "copy", "copies"))
		return done, nil
	case errors.Is(err, jetstream.ErrStreamNotFound):
		if err := s.open(ctx, nc, want); err != nil {
			return done, err
		}
		done.State = stateMade
		if stream, err = js.Stream(ctx, s.name); err != nil {
			return done, fmt.Errorf("the stream %s: %w", s.name, denied(nc, err))
		}
	case err != nil:
		return done, fmt.Errorf("the stream %s: %w", s.name, denied(nc, err))
	}
	cfg := stream.CachedInfo().Config
	done.Detail = numbered(cfg.Replicas, "copy", "copies")
	if cfg.Replicas != want {
		done.Detail += fmt.Sprintf(", not %d: nats stream edit %s --replicas %d", want, s.name, want)
	}
	if !cfg.AllowRollup {
		return done, nil
	}
	if dry {
		done.State = stateDiffers
		done.Detail += "; one message could delete all others, which would be taken away"
		return done, nil
	}
	cfg.AllowRollup = false
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return done, fmt.Errorf("the stream %s: %w", s.name, denied(nc, err))
	}
	if done.State == stateThere {
		done.State = stateChanged
		done.Detail += "; one message can no longer delete all others"
	}
	return done, nil
}

func numbered(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
