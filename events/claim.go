package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tollgate/authz/key"
)

// Claim says which key an imported secret belongs to. It is kept in the bucket of
// keys under x.<digest>, so that one order holds for it and for the records.
type Claim struct {
	Workspace, Key string
	// Revision is that of the claim. Whoever has applied all changes of keys up to
	// it knows every key that had the secret by then.
	Revision uint64
}

const noteVersion = 1

type storedClaim struct {
	Version   int    `json:"v"`
	Workspace string `json:"workspace"`
	Key       string `json:"key"`
}

// claimIdle is how long a claim may stand without its key being stored before a
// key of another workspace may have it. It is much longer than the write of a
// record may take, clocks that differ included.
const claimIdle = 2 * time.Minute

// ClaimDigest notes that a key, whose record is written next, has a secret with
// this digest, unless another claimed it before: then it returns that one's claim.
// It is a compare-and-set, so of claims at the same time all return the same.
//
// A claim whose key never came to be, or no longer has the secret, is taken over
// by a key of another workspace after two minutes; before that the error is
// key.ErrConflict. For a key of the same workspace it is returned as it is, to be
// used in its place.
func (k *Keys) ClaimDigest(ctx context.Context, d key.Digest, workspace, id string, now time.Time) (Claim, error) {
	if _, err := keyName(workspace, id); err != nil {
		return Claim{}, err
	}
	name := "x." + d.String()
	value, err := json.Marshal(storedClaim{noteVersion, workspace, id})
	if err != nil {
		return Claim{}, err
	}
	revision, err := k.bucket.put(ctx, name, value, 0)
	if !errors.Is(err, key.ErrConflict) {
		return Claim{workspace, id, revision}, err
	}
	e, err := k.bucket.get(ctx, name)
	if err != nil {
		return Claim{}, err
	}
	var is storedClaim
	if err := json.Unmarshal(e.value, &is); err != nil || is.Version != noteVersion {
		return Claim{}, fmt.Errorf("%w: the claim of an imported key can't be read: version %d (%w)", key.ErrUnavailable, is.Version, err)
	}
	claim := Claim{is.Workspace, is.Key, e.revision}
	if is.Workspace == workspace {
		return claim, nil
	}
	switch _, err := k.Get(ctx, is.Workspace, is.Key); {
	case err == nil: // also where its key has the secret no longer: it is dead for good
		return claim, nil
	case !errors.Is(err, key.ErrNotFound):
		return Claim{}, err
	case now.Sub(e.stored) < claimIdle:
		return Claim{}, key.ErrConflict
	}
	revision, err = k.bucket.put(ctx, name, value, e.revision)
	return Claim{workspace, id, revision}, err
}
