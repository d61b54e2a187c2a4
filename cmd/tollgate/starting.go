package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"tollgate/events"
)

// startAgain is how long a start waits that found NATS away.
const startAgain = time.Second

// start brings a node up, on addresses that are bound already. On an error everything
// is stopped again.
//
// While an operator's NATS can't be asked it begins again and again, until ctx ends:
// whatever runs this process is told by its probes, and need not start it again. What
// NATS refuses, such as a password, is an error at once.
func start(ctx context.Context, s *settings, withEnvoy bool, log *slog.Logger) (*node, error) {
	n := &node{settings: s, withEnvoy: withEnvoy, log: log, metrics: newMetrics(), failed: make(chan error, 1)}
	n.startProbes()
	for {
		err := n.startParts(ctx)
		if err == nil {
			return n, nil
		}
		n.stopAttempt()
		if !s.nats.external() || ctx.Err() != nil || !events.Away(err) && !errors.Is(err, errNothingRead) {
			n.probes.stop(ctx)
			return nil, err
		}
		log.Warn("NATS can't be asked, so this replica can't start; it goes on trying", "error", err)
		n.probes.does(doesWait)
		select {
		case <-ctx.Done():
			n.probes.stop(ctx)
			return nil, err
		case <-time.After(startAgain):
		}
		n = n.again()
	}
}

// startParts starts everything but the probes.
func (n *node) startParts(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		n.startStore, n.startReplica, n.startTotals, n.startCatalog, n.startKeys, n.startLedger, n.startBudgets, n.startRelay, n.startSweep, n.startChecks, n.startManagement,
		n.startMetrics, n.announce,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stopAttempt stops what was started of a node that can't start.
func (n *node) stopAttempt() {
	const most = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	n.stop(ctx)
}

// again is a node of which nothing is left but the listener of the probes.
func (n *node) again() *node {
	for len(n.failed) > 0 {
		err := <-n.failed
		n.log.Debug("a part of a start that failed ended", "error", err)
	}
	return &node{settings: n.settings, withEnvoy: n.withEnvoy, log: n.log, metrics: newMetrics(), failed: n.failed, probes: n.probes}
}
