package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Idempotency remembers what was created for which Idempotency-Key, for a day. It
// is the bucket TOLLGATE_ONCE, whose entries the server forgets by itself.
//
// All methods are safe for concurrent use. Their errors wrap ErrUnavailable.
type Idempotency struct{ bucket *bucket }

// Bounds of what is remembered. A full bucket refuses creations that have an
// Idempotency-Key, and no others.
const (
	onceAge   = 24 * time.Hour
	onceBytes = 128 << 20 // about half a million
)

const onceVersion = 1

type storedOnce struct {
	Version     int    `json:"v"`
	ID          string `json:"id"`
	Fingerprint string `json:"fingerprint"`
}

// OpenIdempotency opens the bucket, and makes it where there is none. replicas is
// how many servers of a cluster hold it; 0 means 3, or 1 on a server that is in
// no cluster.
func OpenIdempotency(ctx context.Context, nc *nats.Conn, replicas int) (*Idempotency, error) {
	b, err := openBucket(ctx, nc, jetstream.KeyValueConfig{
		Bucket:      "TOLLGATE_ONCE",
		Description: "What Tollgate created for which Idempotency-Key.",
		History:     1,
		TTL:         onceAge,
		MaxBytes:    onceBytes,
		Storage:     jetstream.FileStorage,
		Replicas:    replicas,
	}, storeErrors{ErrNotFound, ErrConflict, ErrUnavailable})
	if err != nil {
		return nil, err
	}
	return &Idempotency{b}, nil
}

var onceName = regexp.MustCompile(`^[a-z0-9]{1,64}$`)

// Claim notes the id of what is created for a name, and what tells the request
// from others, unless the name was claimed within the last day: then it returns
// what was noted. Of claims at the same time all return the same. name is
// [a-z0-9]{1,64}.
func (i *Idempotency) Claim(ctx context.Context, name, id, fingerprint string) (isID, isFingerprint string, err error) {
	if !onceName.MatchString(name) {
		return "", "", fmt.Errorf("the name %q of a creation must be 1 to 64 of a-z and 0-9", name)
	}
	value, err := json.Marshal(storedOnce{onceVersion, id, fingerprint})
	if err != nil {
		return "", "", err
	}
	// Anew where the entry that was in the way grows too old in between.
	for range 3 {
		if _, err = i.bucket.put(ctx, name, value, 0); !errors.Is(err, ErrConflict) {
			return id, fingerprint, err
		}
		var e entry
		if e, err = i.bucket.get(ctx, name); errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return "", "", err
		}
		var is storedOnce
		if err := json.Unmarshal(e.value, &is); err != nil || is.Version != onceVersion {
			return "", "", fmt.Errorf("%w: what was created for an Idempotency-Key can't be read: version %d (%w)", ErrUnavailable, is.Version, err)
		}
		return is.ID, is.Fingerprint, nil
	}
	return "", "", fmt.Errorf("%w: %w", ErrUnavailable, err)
}
