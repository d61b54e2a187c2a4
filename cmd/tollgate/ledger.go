package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"time"

	"tollgate/authz"
	"tollgate/authz/limit"
	"tollgate/events"
	"tollgate/events/journal"
	"tollgate/events/relay"
)

// sweepEvery is how often admissions whose time is over are looked for.
const sweepEvery = 10 * time.Second

// startLedger opens the journal and what was open in it, and begins to bring
// events into the stream.
func (n *node) startLedger(ctx context.Context) error {
	j, open, err := journal.Open(filepath.Join(n.settings.data, "journal"), journal.Config{Log: n.log})
	if err != nil {
		return err
	}
	n.journal = j
	n.onStop(func(context.Context) {
		if err := j.Close(); err != nil {
			n.log.Warn("the journal did not close well", "error", err)
		}
	})
	n.ledger = events.OpenLedger(j, open, events.Source(n.settings.name), n.log)
	sharing := events.Sharing{Stream: events.NewSharedUsage(n.usage), Gone: relay.Gone}
	if !n.alone() {
		sharing.Standing = n.members
	}
	n.ledger.Share(sharing)
	n.ledger.Affect(n.objects, n.log)
	if err := n.oweWaiting(); err != nil {
		return err
	}
	n.background("the journal's drain", func(ctx context.Context) error { return n.ledger.Run(ctx, n.usage) })
	n.onStop(func(ctx context.Context) {
		const most = 8 * time.Second // what can't be published must not keep us from leaving well
		ctx, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		if err := j.Flush(ctx); err != nil {
			n.log.Warn("events wait in the journal for the next start", "error", err)
		}
	})

	sealer, err := openSealer(ctx, n.config)
	if err != nil {
		return err
	}
	n.limits = limit.NewLocal(time.Now())
	estimator, err := n.startEstimator(ctx)
	if err != nil {
		return err
	}
	n.settler = &authz.Settler{
		Began:   time.Now(),
		Replica: n.replica, Sealer: sealer, Ledger: n.ledger, Limits: n.limits, Estimator: estimator, Budgets: n.budgets,
		Dropped: func(why string) { n.metrics.settlements.WithLabelValues(why).Inc() },
	}
	n.settler.Restore(time.Now(), n.ledger.Open(time.Time{}))
	n.recount(ctx)
	stats := func(of func(journal.Stats) float64) func() float64 { return func() float64 { return of(j.Stats()) } }
	n.metrics.gauge("tollgate_admissions_open", "Admissions that are not settled.", stats(func(s journal.Stats) float64 { return float64(s.Open) }))
	n.metrics.gauge("tollgate_events_waiting", "Usage events that the stream has not acknowledged.", stats(func(s journal.Stats) float64 { return float64(s.Waiting) }))
	n.metrics.gauge("tollgate_journal_bytes", "Disk that the journal takes.", stats(func(s journal.Stats) float64 { return float64(s.Bytes) }))
	n.metrics.counter("tollgate_events_published_total", "Usage events that the stream acknowledged.", stats(func(s journal.Stats) float64 { return float64(s.Published) }))
	n.metrics.counter("tollgate_journal_full_total", "Records refused because the journal was full.", stats(func(s journal.Stats) float64 { return float64(s.Full) }))
	return nil
}

// startSweep begins to close what nobody settles. It comes after the relay, which
// knows what other replicas closed.
func (n *node) startSweep(context.Context) error {
	n.background("the sweep", func(ctx context.Context) error {
		every(ctx, sweepEvery, n.sweep)
		return nil
	})
	return nil
}

// sweep closes what nobody settled by its deadline.
func (n *node) sweep(now time.Time) {
	if len(n.ledger.Open(now)) == 0 {
		return
	}
	if err := n.reconcile(); err != nil {
		n.log.Warn("admissions that nobody settled stay open until it is known what other replicas closed", "error", err)
		return
	}
	n.abandon(n.ledger.Open(now))
}

// reconcile finds out what other replicas closed in our place, which nobody can
// have done on the embedded store.
func (n *node) reconcile() error {
	if n.relay == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return n.relay.Reconcile(ctx)
}

// recount makes the limits what they were before a restart, from the usage events
// of the last minute.
func (n *node) recount(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := n.journal.Flush(ctx); err != nil {
		n.log.Warn("events of before the restart are not in the stream yet: limits may be generous for a minute", "error", err)
	}
	since, after := time.Now().Add(-limit.Span), uint64(0)
	for {
		stored, next, err := n.usage.Read(ctx, after, since, events.MaxRead, 0)
		if err != nil || len(stored) == 0 {
			if err != nil {
				n.log.Warn("the last minute's usage can't be read: limits may be generous for a minute", "error", err)
			}
			return
		}
		after = next
		for _, s := range stored {
			var e events.Event
			if err := json.Unmarshal(s.Payload, &e); err != nil {
				continue // it was not ours, or is of another version: it counts nothing
			}
			if e.Type != events.TypeUsage {
				continue
			}
			d := &e.Data
			n.settler.Recount(time.Now(), n.tables(), e.Time, d.Workspace, d.Key, d.User, d.Model, d.InputTokens+d.OutputTokens)
		}
	}
}

// Reclaim implements envoy.Reclaimer. Envoy tells any replica; the owner is found
// among all.
func (n *node) Reclaim(now time.Time, requestID string) {
	if n.reclaim(now, requestID) || n.alone() {
		return
	}
	if err := events.TellLost(n.conn, requestID); err != nil {
		n.log.Warn("what a lost request holds stays held until its deadline", "error", err)
	}
}

// reclaim takes back what this replica admitted of a request that went nowhere,
// and reports whether there was anything.
func (n *node) reclaim(now time.Time, requestID string) bool {
	open := n.ledger.OfRequest(requestID)
	for _, a := range open {
		if err := n.settler.TakeBack(now, a); err != nil {
			n.log.Warn("an admission could not be taken back; the sweep tries again", "id", a.ID, "error", err)
		}
	}
	return len(open) > 0
}

// abandon closes admissions that nobody will settle any more.
func (n *node) abandon(open []*authz.Admission) {
	for _, a := range open {
		if err := n.settler.Abandon(time.Now(), a); err != nil {
			n.log.Warn("an admission could not be closed; the sweep tries again", "id", a.ID, "error", err)
			return
		}
	}
	if len(open) > 0 {
		n.log.Warn("closed admissions that nobody settled", "count", len(open))
	}
}
