package main

import (
	"context"
	"path/filepath"

	"tollgate/authz"
	"tollgate/events/totals"
)

// startTotals begins to sum up what is in the stream of usage events.
func (n *node) startTotals(context.Context) (err error) {
	var peers totals.Peers
	if !n.alone() {
		peers = totals.NATSPeers(n.conn, n.replica)
	}
	n.totals, err = totals.Open(totals.Config{
		Peers:  peers,
		Stream: n.usage, Path: filepath.Join(n.settings.data, "totals", "snapshot"), Log: n.log,
		// Not before Run.
		Folding: func(id string) { n.budgets.Folding(id) },
		Folded:  func(id string) { n.budgets.Folded(id) },
	})
	if err != nil {
		return err
	}
	n.budgets = authz.NewBudgets(n.totals)
	n.lastUsed = newLastUsed(n.totals)
	n.background("the totals of usage", n.totals.Run)
	if !n.alone() {
		stop, err := totals.Serve(n.conn, n.replica, n.totals)
		if err != nil {
			return err
		}
		n.onStop(func(context.Context) { stop() })
	}
	n.metrics.gauge("tollgate_totals_behind", "Usage events that are stored and not in the totals yet.",
		func() float64 { return float64(n.totals.AsOf().Pending) })
	return nil
}
