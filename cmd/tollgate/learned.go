package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tollgate/authz"
	"tollgate/events"
)

// learnedRatios is the stored form of what estimates were learned from. All
// replicas of a deployment share one: each sees a part of the same traffic, and
// the newest is as good as any.
type learnedRatios struct {
	Version int             `json:"v"`
	Models  []authz.Learned `json:"models"`
}

const (
	learnedDocument = "learned-ratios"
	learnedVersion  = 1
	// maxLearned keeps the document below the 1 MiB that one may have. Further
	// models are learned anew after a restart.
	maxLearned = 2000
	// keepLearned is how often it is written: what a kill loses is learned
	// within as long.
	keepLearned = time.Minute
)

// startEstimator makes an estimator that knows what the one before it knew, and
// goes on keeping what it learns. A document that can't be read is not worth a
// failed start: what is in it is learned anew.
func (n *node) startEstimator(ctx context.Context) (*authz.Estimator, error) {
	e := new(authz.Estimator)
	switch text, _, err := n.config.Get(ctx, learnedDocument); {
	case errors.Is(err, events.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("the learned ratios: %w", err)
	default:
		var stored learnedRatios
		if err := json.Unmarshal(text, &stored); err != nil || stored.Version != learnedVersion {
			n.log.Warn("the learned ratios can't be read and are learned anew", "error", err, "version", stored.Version)
			break
		}
		e.Recall(stored.Models)
	}
	n.background("keeping the learned ratios", func(ctx context.Context) error {
		every(ctx, keepLearned, func(time.Time) { n.keepLearned(ctx, e) })
		return nil
	})
	n.onStop(func(ctx context.Context) { n.keepLearned(ctx, e) })
	return e, nil
}

// keepLearned writes down what an estimator knows. Failing is no more than a
// warning.
func (n *node) keepLearned(ctx context.Context, e *authz.Estimator) {
	models := e.Learned()
	if len(models) == 0 {
		return
	}
	text, err := json.Marshal(learnedRatios{learnedVersion, models[:min(len(models), maxLearned)]})
	if err == nil {
		err = n.writeLearned(ctx, text)
	}
	if err != nil {
		n.log.Warn("what was learned for estimates is not kept over a restart", "error", err)
	}
}

func (n *node) writeLearned(ctx context.Context, text []byte) error {
	_, revision, err := n.config.Get(ctx, learnedDocument)
	if err != nil && !errors.Is(err, events.ErrNotFound) {
		return err
	}
	_, err = n.config.Put(ctx, learnedDocument, text, revision)
	if errors.Is(err, events.ErrConflict) {
		return nil // another replica wrote at the same time
	}
	return err
}
