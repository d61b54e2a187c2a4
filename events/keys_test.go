package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tollgate/authz/key"
)

func openKeys(t *testing.T, nc *nats.Conn) *Keys {
	t.Helper()
	k, err := OpenKeys(t.Context(), nc, KeysConfig{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func record(id string) *key.Record {
	return &key.Record{
		Version: key.RecordVersion, ID: id, Workspace: "demo", Kind: key.Workspace, Status: key.Active,
		Secrets:   []key.Secret{{Digest: key.DigestOf(id), Prefix: "tg_", CreatedAt: time.Unix(1, 0).UTC()}},
		Actions:   []key.Action{key.Infer},
		CreatedAt: time.Unix(1, 0).UTC(),
	}
}

func TestKeysPutGet(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	ctx := t.Context()
	if _, err := k.Get(ctx, "demo", "a"); !errors.Is(err, key.ErrNotFound) {
		t.Fatalf("Get of nothing: %v", err)
	}
	rec := record("a")
	rec.Models = []string{} // none; must not come back as nil, which is all
	first, err := k.Put(ctx, rec, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.Get(ctx, "demo", "a")
	if err != nil {
		t.Fatal(err)
	}
	if got.Revision != first || got.Secret(key.DigestOf("a")) != 0 || got.Models == nil || got.Opens("m") {
		t.Errorf("Get returned %+v, want what was put at revision %d", got, first)
	}
	rec.Status = key.Revoked
	second, err := k.Put(ctx, rec, first)
	if err != nil || second <= first {
		t.Fatalf("Put: revision %d, %v", second, err)
	}
	if got, err := k.Get(ctx, "demo", "a"); err != nil || got.Status != key.Revoked {
		t.Errorf("after the revocation: %+v, %v", got, err)
	}
	stale := record("a")
	stale.Name = "stale"
	for _, expect := range []uint64{0, first} {
		if _, err := k.Put(ctx, stale, expect); !errors.Is(err, key.ErrConflict) {
			t.Errorf("Put with revision %d: %v; want a conflict", expect, err)
		}
	}
}

func TestKeysRefuseNames(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	for _, rec := range []*key.Record{{ID: "a", Workspace: "b.c"}, {ID: "*", Workspace: "demo"}, {ID: "a", Workspace: ">"}, {ID: "", Workspace: "demo"}} {
		rec.Version = key.RecordVersion
		if _, err := k.Put(t.Context(), rec, 0); err == nil {
			t.Errorf("Put of %q in %q worked", rec.ID, rec.Workspace)
		}
		if _, err := k.Get(t.Context(), rec.Workspace, rec.ID); !errors.Is(err, key.ErrNotFound) {
			t.Errorf("Get of %q in %q: %v", rec.ID, rec.Workspace, err)
		}
	}
}

// Of many who change the same revision exactly one is told that it did.
func TestKeysCompareAndSet(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	expect := uint64(0)
	for round := range 10 {
		var won atomic.Uint64
		var winners atomic.Int64
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				rec := record("a")
				rec.Name = fmt.Sprint(round, "-", i)
				rev, err := k.Put(t.Context(), rec, expect)
				if err == nil {
					winners.Add(1)
					won.Store(rev)
				} else if !errors.Is(err, key.ErrConflict) {
					t.Errorf("Put: %v", err)
				}
			})
		}
		all.Wait()
		if winners.Load() != 1 {
			t.Fatalf("round %d has %d winners", round, winners.Load())
		}
		expect = won.Load()
	}
}

func TestKeysUnreadable(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	for name, value := range map[string]string{
		"newer":  `{"v":2,"id":"newer","workspace":"demo"}`,
		"none":   `{"id":"none","workspace":"demo"}`,
		"broken": `{"v":1,`,
		"other":  `{"v":1,"id":"a","workspace":"demo"}`,
	} {
		if _, err := k.bucket.put(t.Context(), "k.demo."+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
		if rec, err := k.Get(t.Context(), "demo", name); !errors.Is(err, key.ErrUnavailable) {
			t.Errorf("Get of a record that is %s: %v, %v", name, rec, err)
		}
	}
}

func TestKeysDeletedByHand(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	rev, err := k.Put(t.Context(), record("a"), 0)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := k.bucket.js.KeyValue(t.Context(), keysBucket)
	if err != nil {
		t.Fatal(err)
	}
	for what, remove := range map[string]func() error{
		"deleted": func() error { return kv.Delete(t.Context(), "k.demo.a") },
		"purged":  func() error { return kv.Purge(t.Context(), "k.demo.a") },
	} {
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Get(t.Context(), "demo", "a"); !errors.Is(err, key.ErrNotFound) {
			t.Errorf("Get of a %s key: %v", what, err)
		}
		if _, err := k.Put(t.Context(), record("a"), rev); !errors.Is(err, key.ErrConflict) {
			t.Errorf("Put over a %s key: %v", what, err)
		}
	}
}

// A store that can't be asked says nothing of a key, also when what is missing is
// the stream itself.
func TestKeysUnavailable(t *testing.T) {
	r := newRemote(t)
	nc := r.connect()
	k := openKeys(t, nc)
	if _, err := k.Put(t.Context(), record("a"), 0); err != nil {
		t.Fatal(err)
	}
	if err := k.bucket.js.DeleteStream(t.Context(), k.bucket.stream()); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := k.Get(ctx, "demo", "a"); !errors.Is(err, key.ErrUnavailable) || errors.Is(err, key.ErrNotFound) {
			t.Errorf("%s, Get: %v", when, err)
		}
	}
	check("with the stream gone")
	r.stop()
	check("with the server gone")
}

// An acknowledgement that gets lost: the write is looked up, and counts if it
// happened, and is left open if it did not.
func TestKeysLostAck(t *testing.T) {
	r := newRemote(t)
	nc := r.connect()
	k := openKeys(t, nc)
	direct, err := nats.Connect("nats://" + r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	own := openKeys(t, direct)
	// put gives up once ok, and the connection comes back only then.
	put := func(rec *key.Record, expect uint64, ok func() bool) (uint64, error) {
		ctx, cancel := context.WithCancel(t.Context())
		stop := context.AfterFunc(ctx, r.proxy.heal)
		defer stop()
		var watching sync.WaitGroup
		defer watching.Wait()
		watching.Go(func() {
			for end := time.Now().Add(time.Minute); !ok() && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			cancel()
		})
		return k.Put(ctx, rec, expect)
	}
	soon := func() bool { time.Sleep(150 * time.Millisecond); return true }

	r.proxy.swallow(false, true) // applied, unanswered
	rev, err := put(record("a"), 0, func() bool { _, err := own.Get(t.Context(), "demo", "a"); return err == nil })
	if err != nil {
		t.Fatalf("a write that was applied: %v", err)
	}
	if got, err := own.Get(t.Context(), "demo", "a"); err != nil || got.Revision != rev {
		t.Errorf("it is %+v, %v; want revision %d", got, err, rev)
	}

	eventually(t, "connected again", nc.IsConnected)
	r.proxy.swallow(true, true) // never applied
	revoked := record("a")
	revoked.Status = key.Revoked
	if _, err := put(revoked, rev, soon); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("a write that got lost: %v", err)
	}
	eventually(t, "connected again", nc.IsConnected)
	next, err := k.Put(t.Context(), revoked, rev)
	if err != nil {
		t.Errorf("the same again: %v", err)
	}

	eventually(t, "connected again", nc.IsConnected)
	r.proxy.swallow(true, true) // never applied, and somebody else was faster
	theirs := record("a")
	theirs.Name = "theirs"
	if _, err := own.Put(t.Context(), theirs, next); err != nil {
		t.Fatal(err)
	}
	if _, err := put(revoked, next, soon); !errors.Is(err, key.ErrConflict) {
		t.Errorf("a write that got lost, and somebody else was faster: %v", err)
	}
}

func TestConfigDocuments(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	c, err := OpenConfig(t.Context(), nc, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Get(t.Context(), "catalog"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of nothing: %v", err)
	}
	rev, err := c.Put(t.Context(), "catalog", []byte("one"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "catalog", []byte("two"), 0); !errors.Is(err, ErrConflict) {
		t.Errorf("Put over a document: %v", err)
	}
	if _, err := c.Put(t.Context(), "catalog", []byte("two"), rev); err != nil {
		t.Error(err)
	}
	if value, now, err := c.Get(t.Context(), "catalog"); err != nil || string(value) != "two" || now <= rev {
		t.Errorf("Get: %q at %d, %v", value, now, err)
	}
	if _, err := c.Put(t.Context(), "big", make([]byte, 2<<20), 0); !errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, ErrUnavailable) {
		t.Errorf("Put of two megabytes: %v", err)
	}
	if _, err := c.Put(t.Context(), "a.b", nil, 0); err == nil {
		t.Error("Put under a name with a dot worked")
	}
	var api *jetstream.APIError
	if err := nc.Drain(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "closed", nc.IsClosed)
	if _, _, err := c.Get(t.Context(), "catalog"); !errors.Is(err, ErrUnavailable) || errors.As(err, &api) {
		t.Errorf("Get on a closed connection: %v", err)
	}
}
