package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"tollgate/authz"
	"tollgate/authz/manage"
	"tollgate/cache"
	"tollgate/events"
	"tollgate/events/relay"
)

// membership is this replica among others. On the embedded store it is the only one,
// which makes all changes itself: lease, members and relay are nil.
type membership struct {
	replica     string // whose admissions are this data directory's
	incarnation string // this process
	lease       *cache.Lease
	members     *events.Members
	relay       *relay.Relay
}

// alone reports whether there can be no other replica.
func (n *node) alone() bool { return n.embedded != nil }

// startReplica finds out which replica this is and, where there may be others,
// prepares to live with them.
func (n *node) startReplica(context.Context) (err error) {
	n.incarnation = uuid.NewString()
	const ageMetric, ageHelp = "tollgate_lease_age_seconds", "How long ago the heartbeat was sent that the lease goes by; above the revocation bound this replica answers 503. With the embedded store there is no lease: 0."
	if n.alone() {
		n.metrics.gauge(ageMetric, ageHelp, func() float64 { return 0 })
		return nil
	}
	n.lease = cache.NewLease(n.settings.bound)
	n.members, err = events.NewMembers(events.MembersConfig{
		Keys: n.keys, Changes: n.changes, Replica: n.replica, Incarnation: n.incarnation, Bound: n.settings.bound,
		Version: version, Deployment: n.settings.name, Lease: n.lease, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.metrics.gauge(ageMetric, ageHelp, func() float64 { return n.lease.Age().Seconds() })
	n.metrics.gauge("tollgate_replicas", "Replicas whose lease may hold.", func() float64 { return float64(len(n.members.Alive())) })
	return nil
}

// Wait returns once all replicas go by everything up to a revision, this one too, or
// when that is certain all the same, or when ctx ends.
func (n *node) Wait(ctx context.Context, revision uint64) manage.Propagation {
	if n.members == nil {
		return manage.Propagation{Revision: revision, Replicas: []string{n.replica}}
	}
	p := n.members.Wait(ctx, revision)
	return manage.Propagation{Revision: p.Revision, Replicas: p.Applied, Away: p.Away, CertainAt: p.CertainAt}
}

// Prepare implements peers.
func (n *node) Prepare(ctx context.Context, text []byte) error {
	if n.members == nil {
		return nil
	}
	var all sync.WaitGroup
	others := n.others()
	problems := make([]error, len(others))
	for i, other := range others {
		all.Go(func() {
			problems[i] = n.askPrepare(ctx, other, text)
		})
	}
	all.Wait()
	return errors.Join(problems...)
}

var errAlone = errors.New("another replica's admission, and this one reaches no other")

// askPrepare asks another replica, for as long as it counts as living: one that
// starts or ends does not answer for a moment.
func (n *node) askPrepare(ctx context.Context, other string, text []byte) error {
	const most, pause = 15 * time.Second, 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		err := events.AskPrepare(ctx, n.conn, other, text)
		switch {
		case err != nil && n.members.Gone(other) > 0:
			return nil // it went meanwhile; when it is back it reads what is in force
		case !errors.Is(err, nats.ErrNoResponders):
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// others are the other replicas that live.
func (n *node) others() []string {
	return slices.DeleteFunc(n.members.Alive(), func(id string) bool { return id == n.replica })
}

// startRelay sees to settlements and admissions of other replicas, and they to
// ours.
func (n *node) startRelay(context.Context) error {
	if n.alone() {
		// There is another one while this one moves to a cluster: Envoy asks it next.
		n.settler.Foreign = func(*authz.Admission, authz.Observation) error { return errAlone }
		return nil
	}
	n.relay = relay.New(relay.Config{
		Incarnation: n.incarnation, Ledger: n.ledger, Settler: n.settler, Peers: n.members, Link: relay.NATS(n.conn), Log: n.log,
	})
	n.settler.Foreign = n.relay.Take
	n.background("the settlements of other replicas", n.relay.Run)
	stop, err := events.AnswerPrepare(n.conn, n.replica, n.catalog.Prepare)
	if err != nil {
		return err
	}
	n.onStop(func(context.Context) { stop() })
	deaf, err := events.HearLost(n.conn, func(requestID string) { n.reclaim(time.Now(), requestID) })
	if err != nil {
		return err
	}
	n.onStop(func(context.Context) { deaf() })
	n.background("the watch of the connection to NATS", n.watchConnection)
	n.onStop(n.handOver)
	stats := func(of func(relay.Stats) float64) func() float64 {
		return func() float64 { return of(n.relay.Stats()) }
	}
	n.metrics.gauge("tollgate_settlements_held", "Settlements of other replicas' admissions that wait for their owner.", stats(func(s relay.Stats) float64 { return float64(s.Held) }))
	n.metrics.gauge("tollgate_admissions_adopted", "Open admissions that other replicas handed over.", stats(func(s relay.Stats) float64 { return float64(s.Copies) }))
	n.metrics.counter("tollgate_settlements_delivered_total", "Settlements brought to their owner.", stats(func(s relay.Stats) float64 { return float64(s.Delivered) }))
	n.metrics.counter("tollgate_admissions_closed_in_place_total", "Admissions closed in place of an owner that is gone.", stats(func(s relay.Stats) float64 { return float64(s.InPlace) }))
	return nil
}

// watchConnection leaves a NATS server that is there and gets nothing done, such as
// one that is cut off from its cluster, while the lease still holds.
func (n *node) watchConnection(ctx context.Context) error {
	// For as long as a cluster needs for a new leader, another server knows no more.
	const election = 5 * time.Second
	patience := max(n.settings.bound/2, min(election, n.settings.bound-2*time.Second))
	var since time.Time // when this server was begun with
	var reconnects uint64
	every(ctx, time.Second, func(now time.Time) {
		if is := n.conn.Stats().Reconnects; is != reconnects || !n.conn.IsConnected() {
			since, reconnects = now, is // it gets as long as the one before, also after an outage of all
		}
		if n.lease.Age() < patience || now.Sub(since) < patience {
			return
		}
		since = now
		n.log.Warn("NATS does not confirm that this replica is current: trying another server of it",
			"server", n.conn.ConnectedUrlRedacted())
		for _, conn := range []*nats.Conn{n.conn, n.admin} {
			_ = conn.ForceReconnect() // one that is not connected is trying already
		}
	})
	return nil
}

// tellReady keeps Envoys from a replica that could only say 503.
func (n *node) tellReady(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for was := true; ; {
		if ready := n.current(); ready != was {
			n.server.SetReady(ready)
			was = ready
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// handOver gives what is open to another replica, and others' settlements to their
// owners, as the last thing before this replica leaves.
func (n *node) handOver(ctx context.Context) {
	const most = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := errors.New("there is no other replica")
	for _, other := range n.others() {
		var handed int
		if handed, err = n.handOverTo(ctx, other); err == nil {
			n.log.Info("open admissions were handed over", "count", handed, "to", other)
			break
		}
	}
	if err != nil && len(n.ledger.Open(time.Time{})) > 0 {
		n.log.Warn("open admissions stay in the journal until this replica is back", "error", err)
	}
	if err := n.relay.Flush(ctx); err != nil {
		n.log.Warn("settlements of other replicas stay in the journal until this replica is back", "error", err)
	}
}

// handOverTo bounds how long one replica may take, so that another can be asked.
func (n *node) handOverTo(ctx context.Context, other string) (int, error) {
	const most = 1500 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return n.relay.HandOver(ctx, other)
}

// leave gives up the lease and says so.
func (n *node) leave(ctx context.Context) {
	const most = 3 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
	defer cancel()
	if err := n.members.Leave(ctx); err != nil {
		n.log.Warn("other replicas don't know that this one leaves", "error", err)
	}
}

// fleetToken is what Envoys show that get their configuration from us: the same for
// all replicas. It is kept in the data directory too, where envoy bootstrap finds it.
func (n *node) fleetToken(ctx context.Context) (string, error) {
	own, err := n.settings.fleetToken()
	if err != nil {
		return own, err
	}
	text, err := sharedDocument(ctx, n.config, "envoy-token", func() ([]byte, error) { return []byte(own), nil })
	if err != nil {
		return "", fmt.Errorf("the token of Envoys: %w", err)
	}
	token := string(text)
	if token == own {
		return token, nil
	}
	return token, writeFile(filepath.Join(n.settings.data, fleetTokenFile), token+"\n")
}
