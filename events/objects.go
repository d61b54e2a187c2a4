package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tollgate/authz"
)

// Objects keeps what the settlements of requests change beside usage: whose the
// objects in upstreams' accounts are, under o.<hash of dialect, kind and id>, and
// how many of each counted resource workspaces have, under
// r.<workspace>.<generation>.<resource>. It is the bucket TOLLGATE_OBJECTS. All
// changes are by compare-and-set, and all reads from the leader.
//
// All methods are safe for concurrent use. Their errors wrap ErrUnavailable.
type Objects struct {
	bucket *bucket
	fill   fullness
}

const (
	objectsBucket = "TOLLGATE_OBJECTS"
	objectPrefix  = "o."
	// objectsBytes bounds the bucket: some 2 million objects. One that is nearly full
	// takes no new ones, see room.
	objectsBytes = 1 << 30
)

// OpenObjects opens the bucket, and makes it where there is none. replicas is how
// many servers of a cluster hold it; 0 means 3, or 1 on a server that is in no
// cluster.
//
// It is a bucket as others are, but that a message may say for how long it is kept,
// without a marker in its place afterwards: markers would need the right to delete
// many messages by writing one, see SetUp.
func OpenObjects(ctx context.Context, nc *nats.Conn, replicas int) (*Objects, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	stream, err := openStream(ctx, nc, js, jetstream.StreamConfig{
		Name:              objectsStream,
		Description:       "Whose the objects in upstreams' accounts are, and counted resources.",
		Subjects:          []string{"$KV." + objectsBucket + ".>"},
		Replicas:          replicas,
		MaxMsgsPerSubject: 1,
		MaxBytes:          objectsBytes,
		DenyDelete:        true,
		AllowMsgTTL:       true,
	})
	if errors.Is(err, nats.ErrPermissionViolation) {
		return nil, fmt.Errorf("%w: a user that was made for an older Tollgate has no right to it; write the users' files again (tollgate nats setup --dir), and reload the servers", err)
	}
	if err != nil {
		return nil, err
	}
	if !stream.CachedInfo().Config.AllowMsgTTL {
		return nil, fmt.Errorf("the stream %s keeps each message for good, so it would only grow: let an administrator allow a time per message (nats stream edit %s --allow-msg-ttl)",
			objectsStream, objectsStream)
	}
	return &Objects{bucket: &bucket{nc: nc, js: js, name: objectsBucket, errors: storeErrors{ErrNotFound, ErrConflict, ErrUnavailable}}}, nil
}

// errUnreadable says that a record is there and of a form that this program doesn't
// know, as one is that was written by a newer one.
var errUnreadable = errors.New("the record can't be read")

const objectVersion = 1

// storedObject is the written form of a binding. What it is named by stands in it
// too, for people.
type storedObject struct {
	Version    int       `json:"v"`
	Dialect    string    `json:"dialect"`
	Kind       string    `json:"kind"`
	ID         string    `json:"id"`
	Workspace  string    `json:"workspace"`
	Generation string    `json:"generation,omitempty"`
	Model      string    `json:"model,omitempty"`
	Key        string    `json:"key,omitempty"`
	User       string    `json:"user,omitempty"`
	From       time.Time `json:"from"`
	Until      time.Time `json:"until"`
}

func objectName(o authz.Object) string {
	sum := sha256.Sum256([]byte(o.Dialect + "\x00" + o.Kind + "\x00" + o.ID))
	return objectPrefix + hex.EncodeToString(sum[:])
}

func encodeObject(o authz.Object, b *authz.Binding) ([]byte, error) {
	return json.Marshal(storedObject{
		objectVersion, o.Dialect, o.Kind, o.ID, b.Workspace, b.Generation, b.Model, b.Key, b.User, b.From.UTC(), b.Until.UTC(),
	})
}

// decodeObject reads the binding that is stored under a name.
func decodeObject(name string, value []byte) (authz.Binding, error) {
	var s storedObject
	if err := json.Unmarshal(value, &s); err != nil {
		return authz.Binding{}, fmt.Errorf("%s: %w", name, err)
	}
	switch {
	case s.Version != objectVersion:
		return authz.Binding{}, fmt.Errorf("%s has version %d: this Tollgate reads version %d", name, s.Version, objectVersion)
	case objectName(authz.Object{Dialect: s.Dialect, Kind: s.Kind, ID: s.ID}) != name:
		return authz.Binding{}, fmt.Errorf("%s holds another object", name)
	}
	return authz.Binding{
		Tenant: authz.Tenant{Workspace: s.Workspace, Generation: s.Generation},
		Model:  s.Model, Key: s.Key, User: s.User, From: s.From, Until: s.Until,
	}, nil
}

// Binding returns whose an object is, or was; zero where it is nobody's.
func (s *Objects) Binding(ctx context.Context, o authz.Object) (authz.Binding, error) {
	b, _, err := s.binding(ctx, objectName(o))
	return b, err
}

// binding also returns the revision to change it at, which is that of a deletion
// where somebody made one by hand.
func (s *Objects) binding(ctx context.Context, name string) (authz.Binding, uint64, error) {
	e, err := s.bucket.last(ctx, name)
	switch {
	case errors.Is(err, ErrNotFound):
		return authz.Binding{}, 0, nil
	case err != nil:
		return authz.Binding{}, 0, err
	case e.deleted:
		return authz.Binding{}, e.revision, nil
	}
	b, err := decodeObject(name, e.value)
	if err != nil {
		return authz.Binding{}, 0, fmt.Errorf("%w: %w: %w", ErrUnavailable, errUnreadable, err)
	}
	return b, e.revision, nil
}

// Bind makes an object a tenant's, unless it is another's: whoever is first has it.
// It reports whether it is the tenant's now. A repetition changes nothing, also
// after a Remove; nor does what tells of the same object again, as the answers to
// whoever polls do, until half of its time is over.
func (s *Objects) Bind(ctx context.Context, o authz.Object, b authz.Binding) (bool, error) {
	name, bound := objectName(o), false
	value, err := encodeObject(o, &b)
	if err != nil {
		return false, err
	}
	err = s.swap(ctx, name, func(there authz.Binding) ([]byte, time.Time) {
		same := there.Tenant == b.Tenant
		bound = same || !there.Taken(b.Tenant, b.From)
		known := same && (!b.From.After(there.From) || b.From.Before(there.Until) && b.Until.Sub(there.Until) < b.Until.Sub(b.From)/2)
		if !bound || known {
			return nil, time.Time{}
		}
		return value, b.Until
	})
	return bound && err == nil, err
}

// Remove ends a tenant's having an object that it had at a time.
func (s *Objects) Remove(ctx context.Context, o authz.Object, t authz.Tenant, at time.Time) error {
	return s.swap(ctx, objectName(o), func(there authz.Binding) ([]byte, time.Time) {
		if !had(&there, t, at) {
			return nil, time.Time{}
		}
		there.Until = at
		value, err := encodeObject(o, &there)
		if err != nil {
			return nil, time.Time{}
		}
		return value, at
	})
}

// had reports whether an object was a tenant's at a time.
func had(b *authz.Binding, t authz.Tenant, at time.Time) bool {
	return !b.From.After(at) && b.Of(t, at)
}

// swap writes what change makes of a binding, again where somebody else was faster;
// nil: nothing. The record is kept until nobody asks for it any more.
func (s *Objects) swap(ctx context.Context, name string, change func(there authz.Binding) (value []byte, until time.Time)) error {
	return s.again(ctx, func() error {
		there, revision, err := s.binding(ctx, name)
		if err != nil {
			return err
		}
		value, until := change(there)
		if value == nil {
			return nil
		}
		if revision == 0 {
			if err := s.room(ctx, bindShare); err != nil {
				return err
			}
		}
		_, err = s.bucket.put(ctx, name, value, revision, jetstream.WithMsgTTL(keptFor(time.Now(), until)))
		return err
	})
}

// keptFor is for how long the record of a binding is stored: until repetitions of
// what made or removed the object are over, in whole seconds as NATS wants it.
func keptFor(now, until time.Time) time.Duration {
	const repetitions = 24 * time.Hour
	return max(until.Sub(now), 0).Truncate(time.Second) + authz.ObjectRest + repetitions
}

// again repeats what was overtaken by somebody else.
func (s *Objects) again(ctx context.Context, try func() error) error {
	const most = 1000 // far more than there are others at once
	for n := 0; ; n++ {
		err := try()
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if n == most || ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
}
