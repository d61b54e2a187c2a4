package main

import (
	"context"
	"errors"
	"time"

	"tollgate/authz/key"
	"tollgate/authz/manage"
	"tollgate/events"
	"tollgate/events/natsd"
)

// What the management API works on, in the words of package manage.

func changeOf(r *key.Record) key.Change {
	return key.Change{Workspace: r.Workspace, ID: r.ID, Revision: r.Revision, Record: r}
}

type managedEvents struct{ stream *events.Usage }

func (e managedEvents) Read(ctx context.Context, after uint64, since time.Time, limit int, wait time.Duration) ([][]byte, uint64, error) {
	stored, next, err := e.stream.Read(ctx, after, since, limit, wait)
	if errors.Is(err, events.ErrCursor) {
		return nil, after, manage.ErrCursor
	}
	if err != nil {
		return nil, after, asKeyError(err)
	}
	payloads := make([][]byte, len(stored))
	for i := range stored {
		payloads[i] = stored[i].Payload
	}
	return payloads, next, nil
}

type managedConsumers struct{ consumers *events.Consumers }

func (c managedConsumers) Create(ctx context.Context, name, workspace string) (*manage.Credential, error) {
	cred, err := c.consumers.Create(ctx, name, workspace)
	switch {
	case errors.Is(err, events.ErrConflict):
		return nil, manage.ErrConsumerExists
	case errors.Is(err, natsd.ErrNotListening):
		return nil, manage.ErrNotListening
	case err != nil:
		return nil, asKeyError(err)
	}
	made := &manage.Credential{
		Name: cred.Name, URL: "nats://" + cred.Addr, User: cred.Name, Password: cred.Password,
		Stream: cred.Stream, Durable: cred.Durable, Subjects: cred.Subjects,
		Seed: cred.Seed, ServerConfig: cred.ServerConfig,
	}
	if cred.Seed != "" {
		made.URL, made.User = cred.URL, ""
	}
	return made, nil
}

func (c managedConsumers) List(ctx context.Context) ([]manage.Consumer, error) {
	all, err := c.consumers.List(ctx)
	if err != nil {
		return nil, asKeyError(err)
	}
	list := make([]manage.Consumer, len(all))
	for i, one := range all {
		list[i] = manage.Consumer{Name: one.Name, Workspace: orNil(one.Workspace), CreatedAt: manage.Time(one.CreatedAt)}
	}
	return list, nil
}

func (c managedConsumers) Delete(ctx context.Context, name string) error {
	err := c.consumers.Delete(ctx, name)
	if errors.Is(err, events.ErrNotFound) {
		return manage.ErrNoConsumer
	}
	return asKeyError(err)
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
