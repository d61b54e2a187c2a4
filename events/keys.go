package events

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tollgate/authz/key"
)

// KeysConfig is what the store of keys needs.
type KeysConfig struct {
	// Replicas is how many servers of a cluster hold each record, where the bucket
	// has to be made. Zero: 3, or 1 on a server that is in no cluster.
	Replicas int
	// Logger. Nil: slog.Default().
	Logger *slog.Logger
}

// Keys is the store of key records: one record per key, in the bucket
// TOLLGATE_KEYS under k.<workspace>.<id>. Records are never deleted, because a
// replica that is away would not learn of it; a revoked key stays, revoked. Beside
// them are documents (d.<name>) and the heartbeats of replicas (h.<replica>): all
// that decides is in one order.
//
// All methods are safe for concurrent use. Their errors are those of package key.
type Keys struct {
	bucket *bucket
	log    *slog.Logger
}

const keysBucket = "TOLLGATE_KEYS"

// OpenKeys opens the store, and makes it where there is none.
func OpenKeys(ctx context.Context, nc *nats.Conn, cfg KeysConfig) (*Keys, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	b, err := openBucket(ctx, nc, jetstream.KeyValueConfig{
		Bucket:      keysBucket,
		Description: "Records of Tollgate's keys. Revoke, never delete.",
		History:     1,
		Storage:     jetstream.FileStorage,
		Replicas:    cfg.Replicas,
	}, storeErrors{key.ErrNotFound, key.ErrConflict, key.ErrUnavailable})
	if err != nil {
		return nil, err
	}
	return &Keys{b, cfg.Logger}, nil
}

// Put writes a record if its revision in the store is still expect; with 0, only
// if there is no such key yet. It returns the new revision and does not change
// rec. A lost acknowledgement is resolved by reading back, which may take 5 s
// longer than ctx.
//
// The error wraps key.ErrConflict where somebody else was first, and
// key.ErrUnavailable where it could not be learned whether the record is written;
// the same Put may be repeated then.
func (k *Keys) Put(ctx context.Context, rec *key.Record, expect uint64) (uint64, error) {
	name, err := keyName(rec.Workspace, rec.ID)
	if err != nil {
		return 0, err
	}
	if rec.Version != key.RecordVersion {
		return 0, fmt.Errorf("a key record of version %d can't be written, only of %d", rec.Version, key.RecordVersion)
	}
	value, err := json.Marshal(rec)
	if err != nil {
		return 0, fmt.Errorf("key %s: %w", rec.ID, err)
	}
	return k.bucket.put(ctx, name, value, expect)
}

// Get reads the newest acknowledged record of a key, from the stream's leader.
// The error is key.ErrNotFound, or wraps key.ErrUnavailable where the store can't
// be asked or holds a record that this program can't read.
func (k *Keys) Get(ctx context.Context, workspace, id string) (*key.Record, error) {
	name, err := keyName(workspace, id)
	if err != nil {
		return nil, key.ErrNotFound // no such key can have been put
	}
	e, err := k.bucket.get(ctx, name)
	if err != nil {
		return nil, err
	}
	rec, err := decodeRecord(e.value, workspace, id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", key.ErrUnavailable, err)
	}
	rec.Revision = e.revision
	return rec, nil
}

// keyIDForm is what a key's id may look like in a subject: a UUID does.
var keyIDForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func keyName(workspace, id string) (string, error) {
	if err := checkID("workspace", workspace); err != nil {
		return "", err
	}
	if !keyIDForm.MatchString(id) {
		return "", fmt.Errorf("key id %q must be 1 to 64 of A-Z, a-z, 0-9, _ and -", id)
	}
	return "k." + workspace + "." + id, nil
}

// splitKeyName is the inverse of keyName; ok is false for any other name.
func splitKeyName(name string) (workspace, id string, ok bool) {
	rest, ok := strings.CutPrefix(name, "k.")
	if !ok {
		return "", "", false
	}
	workspace, id, ok = strings.Cut(rest, ".")
	return workspace, id, ok && idForm.MatchString(workspace) && keyIDForm.MatchString(id)
}

// decodeRecord reads the stored form of a key's record, of this version or the
// one before.
func decodeRecord(value []byte, workspace, id string) (*key.Record, error) {
	var rec key.Record
	if err := json.Unmarshal(value, &rec); err != nil {
		return nil, fmt.Errorf("the record of key %s: %w", id, err)
	}
	switch {
	case rec.Version > key.RecordVersion:
		return nil, fmt.Errorf("the record of key %s has version %d, written by a newer Tollgate; this one reads up to %d", id, rec.Version, key.RecordVersion)
	case rec.Version < max(1, key.RecordVersion-1):
		return nil, fmt.Errorf("the record of key %s has version %d; this Tollgate reads from %d", id, rec.Version, max(1, key.RecordVersion-1))
	case rec.Workspace != workspace || rec.ID != id:
		return nil, fmt.Errorf("the record stored for key %s of workspace %s is another key's", id, workspace)
	}
	return &rec, nil
}
