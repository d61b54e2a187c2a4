package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"

	"tollgate/authz/key"
	"tollgate/events"
	"tollgate/events/natsd"
)

// store is NATS and what is kept in it, the embedded one or the operator's.
type store struct {
	embedded *natsd.Server // nil: the operator's
	conn     *nats.Conn    // with the rights of a replica
	keys     *events.Keys  // read with those, and heartbeats
	changes  *events.Keys  // the same records, with the rights of who makes changes
	admin    *nats.Conn    // which these are
	config   *events.Config
	usage    *events.Usage
	objects  *events.Objects // with the rights of a replica
	once     *events.Idempotency
	audit    *events.AuditTrail // nil: this replica makes no changes
	// consumers are people's durable consumers of the stream.
	consumers *events.Consumers
}

// addr is where consumers from outside reach the embedded NATS; "": nowhere.
func (s *store) addr() string {
	if s.embedded == nil {
		return ""
	}
	return s.embedded.Addr()
}

// startStore opens NATS and what is kept in it.
func (n *node) startStore(ctx context.Context) error {
	if err := os.MkdirAll(n.settings.data, 0o700); err != nil {
		return fmt.Errorf("the data directory: %w", err)
	}
	var err error
	if n.replica, err = n.replicaID(); err != nil {
		return err
	}
	if n.settings.nats.external() {
		return n.connectStore(ctx)
	}
	server, err := natsd.Start(natsd.Config{
		Dir: filepath.Join(n.settings.data, "nats"), Listen: n.settings.natsListen, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.onStop(func(ctx context.Context) {
		if err := server.Close(ctx); err != nil {
			n.log.Warn("NATS did not stop in time", "error", err)
		}
	})
	conn, err := server.Connect("tollgate")
	if err != nil {
		return err
	}
	n.embedded = server
	return n.openStore(ctx, conn, conn, 1)
}

// connectStore uses the operator's NATS: one connection for what a replica does,
// one for changes, which may have more rights.
func (n *node) connectStore(ctx context.Context) error {
	s := &n.settings.nats
	conn, err := s.connect(ctx, "tollgate "+n.settings.name, n.log)
	if err != nil {
		return err
	}
	n.onStop(func(context.Context) { conn.Close() })
	changes, err := s.connectAdmin(ctx, "tollgate "+n.settings.name+" changes", n.log)
	if err != nil {
		return fmt.Errorf("the connection for changes: %w", err)
	}
	n.onStop(func(context.Context) { changes.Close() })
	return n.openStore(ctx, conn, changes, s.copies)
}

func (n *node) openStore(ctx context.Context, conn, changes *nats.Conn, copies int) (err error) {
	n.conn, n.admin = conn, changes
	if n.config, err = events.OpenConfig(ctx, changes, copies); err != nil {
		return err
	}
	if n.changes, err = events.OpenKeys(ctx, changes, events.KeysConfig{Replicas: copies, Logger: n.log}); err != nil {
		return err
	}
	if n.keys, err = events.OpenKeys(ctx, conn, events.KeysConfig{Replicas: copies, Logger: n.log}); err != nil {
		return err
	}
	if err := n.openForChanges(ctx, copies); err != nil {
		return err
	}
	if n.objects, err = n.openObjects(ctx, copies); err != nil {
		return err
	}
	if n.usage, err = events.OpenUsage(ctx, conn, events.UsageConfig{Replicas: copies, Hold: n.hold, Replica: n.replica}); err != nil {
		return err
	}
	if err := n.openConsumers(ctx, copies); err != nil {
		return err
	}
	return n.moveCatalog(ctx)
}

// openForChanges opens what only changes need. A replica that has no rights of its
// own for changes may do without.
func (n *node) openForChanges(ctx context.Context, copies int) (err error) {
	if n.once, err = events.OpenIdempotency(ctx, n.admin, copies); err == nil {
		n.audit, err = events.OpenAudit(ctx, n.admin, events.AuditConfig{Replicas: copies})
	}
	if err == nil || n.alone() || n.settings.nats.admin() || !events.Denied(err) {
		return err
	}
	n.log.Warn("this replica has no right to make changes: make them at one that has --nats-admin-creds or --nats-admin-nkey", "error", err)
	n.once, n.audit = nil, nil
	return nil
}

// openConsumers opens the list of people's consumers, with the rights of who makes
// changes: a replica may not look at consumers of others.
func (n *node) openConsumers(ctx context.Context, copies int) (err error) {
	stream := n.usage
	if !n.alone() {
		if stream, err = events.OpenUsage(ctx, n.admin, events.UsageConfig{Replicas: copies}); err != nil {
			return err
		}
	}
	n.consumers, err = events.OpenConsumers(ctx, n.embedded, n.config, stream)
	return err
}

// hold says why no event should be stored now.
func (n *node) hold() error {
	if n.embedded == nil {
		return nil
	}
	return n.embedded.Health()
}

// moveCatalog brings a catalog that an earlier version stored beside its other
// documents to where it is under the same lease as keys.
func (n *node) moveCatalog(ctx context.Context) error {
	_, _, err := n.keys.GetDocument(ctx, catalogDocument)
	if !errors.Is(err, key.ErrNotFound) {
		return err
	}
	text, _, err := n.config.Get(ctx, catalogDocument)
	if errors.Is(err, events.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = n.changes.PutDocument(ctx, catalogDocument, text, 0)
	if errors.Is(err, key.ErrConflict) {
		return nil // another replica did it
	}
	return err
}
