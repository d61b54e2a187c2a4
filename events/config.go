package events

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config keeps documents of which a deployment has one each: its name, the
// catalog, the keys that seal admission tokens, the credentials of consumers. It
// is the bucket TOLLGATE_CONFIG; a document is bytes that only its owner reads,
// versioned by its owner, of at most MaxDocument bytes.
//
// All methods are safe for concurrent use. Their errors wrap ErrNotFound,
// ErrConflict and ErrUnavailable.
type Config struct{ bucket *bucket }

// MaxDocument is how large a document may be: what NATS takes in one message by
// default, less room for the headers of a compare-and-set.
const MaxDocument = 1<<20 - 4<<10

const configBucket = "TOLLGATE_CONFIG"

// OpenConfig opens the documents, and makes the bucket where there is none.
// replicas is how many servers of a cluster hold them; 0 means 3, or 1 on a
// server that is in no cluster.
func OpenConfig(ctx context.Context, nc *nats.Conn, replicas int) (*Config, error) {
	b, err := openBucket(ctx, nc, jetstream.KeyValueConfig{
		Bucket:      configBucket,
		Description: "Tollgate's documents.",
		History:     1,
		Storage:     jetstream.FileStorage,
		Replicas:    replicas,
	}, storeErrors{ErrNotFound, ErrConflict, ErrUnavailable})
	if err != nil {
		return nil, err
	}
	return &Config{b}, nil
}

// Get reads the newest acknowledged form of a document, from the stream's
// leader, and its revision. Where there is none the error is ErrNotFound.
func (c *Config) Get(ctx context.Context, name string) ([]byte, uint64, error) {
	if err := checkID("document", name); err != nil {
		return nil, 0, err
	}
	e, err := c.bucket.get(ctx, name)
	if err != nil {
		return nil, 0, fmt.Errorf("document %s: %w", name, err)
	}
	return e.value, e.revision, nil
}

// Put writes a document if its revision is still expect; with 0, only if there
// is none yet. It returns the new revision. A lost acknowledgement is resolved by
// reading back, which may take 5 s longer than ctx.
func (c *Config) Put(ctx context.Context, name string, value []byte, expect uint64) (uint64, error) {
	if err := checkID("document", name); err != nil {
		return 0, err
	}
	revision, err := c.bucket.put(ctx, name, value, expect)
	if err != nil {
		return 0, fmt.Errorf("document %s: %w", name, err)
	}
	return revision, nil
}
