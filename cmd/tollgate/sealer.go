package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"tollgate/authz"
	"tollgate/events"
)

// sealingKeys is the stored form of the keys that seal admission tokens, shared
// by all replicas of a deployment.
type sealingKeys struct {
	Version int             `json:"v"`
	Current byte            `json:"current"`
	Keys    map[byte][]byte `json:"keys"`
}

const (
	sealingDocument = "sealing-keys"
	sealingVersion  = 1
)

// openSealer reads the sealing keys, and makes the first one where there is none.
func openSealer(ctx context.Context, config *events.Config) (*authz.Sealer, error) {
	text, err := sharedDocument(ctx, config, sealingDocument, func() ([]byte, error) {
		secret := make([]byte, authz.MinSealingKey)
		if _, err := rand.Read(secret); err != nil {
			return nil, err
		}
		return json.Marshal(sealingKeys{sealingVersion, 1, map[byte][]byte{1: secret}})
	})
	if err != nil {
		return nil, fmt.Errorf("the sealing keys: %w", err)
	}
	var stored sealingKeys
	if err := json.Unmarshal(text, &stored); err != nil {
		return nil, fmt.Errorf("the sealing keys can't be read: %w", err)
	}
	if stored.Version != sealingVersion {
		return nil, fmt.Errorf("the sealing keys are of version %d, this Tollgate reads version %d: use the one that wrote them", stored.Version, sealingVersion)
	}
	return authz.NewSealer(stored.Current, stored.Keys)
}

// sharedDocument is what all replicas have in common: the stored document, or a
// fresh one where there is none yet.
func sharedDocument(ctx context.Context, config *events.Config, name string, fresh func() ([]byte, error)) ([]byte, error) {
	text, _, err := config.Get(ctx, name)
	if !errors.Is(err, events.ErrNotFound) {
		return text, err
	}
	if text, err = fresh(); err != nil {
		return nil, err
	}
	if _, err = config.Put(ctx, name, text, 0); errors.Is(err, events.ErrConflict) {
		text, _, err = config.Get(ctx, name) // another replica was first
	}
	return text, err
}
