package main

import (
	"context"
	"encoding/json"
	"time"

	"tollgate/events"
	"tollgate/events/journal"
	"tollgate/events/relay"
)

const (
	// catchUpWait is how long a start waits for the totals, so that whoever has a
	// budget is not refused for a moment.
	catchUpWait  = 5 * time.Second
	catchUpRetry = 200 * time.Millisecond

	// forgetEvery is how often it is looked for requests that the totals have and that
	// budgets were not told of; forgetAfter is when those of a replica that is gone
	// have been closed in its place.
	forgetEvery = 10 * time.Second
	forgetAfter = 2 * relay.Gone
)

// oweWaiting tells the budgets what requests cost that ended before the restart and
// whose events may not be in the stream yet.
func (n *node) oweWaiting() error {
	now := time.Now()
	return n.journal.EachWaiting(func(waiting journal.Event) {
		var e events.Event
		if json.Unmarshal(waiting.Payload, &e) != nil {
			return // of another version: it counts when the totals have it
		}
		n.budgets.Owe(now, e.ID, e.Data.Workspace, e.Data.Key, e.Time, e.Data.Cost)
	})
}

// startBudgets waits until the totals have what the stream has. Should that take
// long, it goes on meanwhile: then those who have a budget are told that it can't be
// told.
func (n *node) startBudgets(ctx context.Context) error {
	known := make(chan struct{})
	n.background("the budgets", func(ctx context.Context) error {
		if !n.catchUp(ctx) {
			return nil
		}
		close(known)
		every(ctx, forgetEvery, func(now time.Time) { n.forgetCounted(ctx, now.Add(-forgetAfter)) })
		return nil
	})
	n.metrics.gauge("tollgate_budget_requests", "Requests whose cost budgets reserve, or count because the totals of usage do not have it yet.",
		func() float64 { return float64(n.budgets.Noted()) })
	select {
	case <-known:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(catchUpWait):
		n.log.Warn("keys with a budget, and workspaces with a budget or credit, are refused until usage can be read")
		return nil
	}
}

// catchUp returns when the budgets know everything that is stored; false: ctx ended
// first.
func (n *node) catchUp(ctx context.Context) bool {
	tick := time.NewTicker(catchUpRetry)
	defer tick.Stop()
	for {
		now, all := time.Now(), n.journal.Stats().Waiting == 0
		if n.refreshTotals(ctx) {
			if all {
				n.budgets.Forget(now)
			}
			n.budgets.Ready()
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// forgetCounted lets the budgets go of requests that ended before a time, where every
// event that was ever written here is in the totals.
func (n *node) forgetCounted(ctx context.Context, endedBefore time.Time) {
	if n.budgets.Noted() > 0 && n.journal.Stats().Waiting == 0 && n.refreshTotals(ctx) {
		n.budgets.Forget(endedBefore)
	}
}

// refreshTotals reports whether the totals have all that was stored.
func (n *node) refreshTotals(ctx context.Context) bool {
	const most = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return n.totals.Refresh(ctx) == nil
}
