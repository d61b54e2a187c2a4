package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tollgate/authz/key"
)

// table is a Sink that keeps what it was told.
type table struct {
	mu     sync.Mutex
	ready  bool
	resets int
	keys   map[string]key.Change
	atOnce int // how many keys there were when it became ready first
}

func (s *table) Apply(c key.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[string]key.Change{}
	}
	s.keys[c.ID] = c
}

func (s *table) SetReady(ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ready && !s.ready {
		s.atOnce = len(s.keys)
	}
	s.ready = ready
}

func (s *table) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready, s.keys = false, nil
	s.resets++
}

func (s *table) get(id string) (key.Change, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.keys[id]
	return c, ok
}

func (s *table) isReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// has tells whether the key has been applied at revision rev or later.
func (s *table) has(id string, rev uint64) func() bool {
	return func() bool { c, ok := s.get(id); return ok && c.Revision >= rev }
}

// run runs a feed until the test ends, or stop is called.
func run(t *testing.T, k *Keys, sink Sink) (_ *Feed, stop func()) {
	t.Helper()
	f := NewFeed(k)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, sink) }()
	stop = sync.OnceFunc(func() {
		began := time.Now()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) && !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("Run returned %v", err)
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("it took %s to stop", d)
		}
	})
	t.Cleanup(stop)
	return f, stop
}

func put(t *testing.T, k *Keys, rec *key.Record, expect uint64) uint64 {
	t.Helper()
	rev, err := k.Put(t.Context(), rec, expect)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestFeedEverythingThenChanges(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	var last uint64
	for i := range 50 {
		last = put(t, k, record(fmt.Sprint("id", i)), 0)
	}
	var sink table
	f, _ := run(t, k, &sink)
	eventually(t, "ready", sink.isReady)
	if sink.atOnce != 50 || f.Applied() < last {
		t.Errorf("ready with %d of 50 keys, revision %d of %d", sink.atOnce, f.Applied(), last)
	}
	rec := record("id7")
	rec.Status = key.Revoked
	c, _ := sink.get("id7")
	rev := put(t, k, rec, c.Revision)
	eventually(t, "revocation applied", sink.has("id7", rev))
	if c, _ := sink.get("id7"); c.Workspace != "demo" || c.Record.Status != key.Revoked || c.Record.Revision != rev {
		t.Errorf("applied %+v", c)
	}
}

func TestFeedOfAnEmptyStore(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	var sink table
	run(t, k, &sink)
	eventually(t, "ready", sink.isReady)
}

// A record that can't be read, or that somebody deleted, closes its key and
// nothing else.
func TestFeedUnreadable(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	put(t, k, record("a"), 0)
	b := put(t, k, record("b"), 0)
	var sink table
	f, _ := run(t, k, &sink)
	eventually(t, "ready", sink.isReady)
	c, _ := sink.get("a")
	rev, err := k.bucket.put(t.Context(), "k.demo.a", []byte(`{"v":2}`), c.Revision)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "unreadable record applied", sink.has("a", rev))
	if c, _ := sink.get("a"); c.Record != nil || f.Unreadable() != 1 {
		t.Errorf("applied %+v, %d unreadable", c, f.Unreadable())
	}
	kv, err := k.bucket.js.KeyValue(t.Context(), keysBucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), "k.demo.b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "deletion applied", sink.has("b", b+1))
	if c, _ := sink.get("b"); c.Record != nil {
		t.Errorf("applied %+v", c)
	}
	if _, err := k.bucket.put(t.Context(), "something.else", []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	rev = put(t, k, record("c"), 0)
	eventually(t, "the feed goes on", sink.has("c", rev))
}

// A restart of the server, with changes by others while the feed is away.
func TestFeedSurvivesRestart(t *testing.T) {
	r := newRemote(t)
	k := openKeys(t, r.connect())
	rev := put(t, k, record("a"), 0)
	var sink table
	f, _ := run(t, k, &sink)
	eventually(t, "ready", sink.isReady)
	for range 2 {
		r.stop()
		r.start()
		direct, err := nats.Connect("nats://" + r.addr)
		if err != nil {
			t.Fatal(err)
		}
		rec := record("a")
		rec.Name = fmt.Sprint("changed after ", rev)
		rev = put(t, openKeys(t, direct), rec, rev)
		direct.Close()
		began := time.Now()
		eventually(t, "change applied", sink.has("a", rev))
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("it took %s", d)
		}
	}
	if sink.resets != 0 || f.Applied() < rev {
		t.Errorf("%d resets, applied %d of %d", sink.resets, f.Applied(), rev)
	}
}

// A change that was on its way when the connection broke is applied although
// nothing comes after it.
func TestFeedLostMessage(t *testing.T) {
	r := newRemote(t)
	k := openKeys(t, r.connect())
	rev := put(t, k, record("a"), 0)
	var sink table
	run(t, k, &sink)
	eventually(t, "ready", sink.isReady)
	direct, err := nats.Connect("nats://" + r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	own := openKeys(t, direct)
	for i := range 5 {
		r.proxy.swallow(false, true)
		rec := record("a")
		rec.Name = fmt.Sprint(i)
		rev = put(t, own, rec, rev)
		if err := direct.Flush(); err != nil {
			t.Fatal(err)
		}
		r.proxy.heal()
		eventually(t, "change applied", sink.has("a", rev))
	}
	// The same without a broken connection: heartbeats are missing.
	r.proxy.swallow(false, true)
	rec := record("a")
	rec.Name = "silence"
	rev = put(t, own, rec, rev)
	went := time.AfterFunc(3*heartbeat, r.proxy.heal)
	defer went.Stop()
	eventually(t, "change applied", sink.has("a", rev))
}

// The stream is made anew, or loses its end: nothing of before may stay.
func TestFeedNoticesAnotherStream(t *testing.T) {
	r := newRemote(t)
	nc := r.connect()
	k := openKeys(t, nc)
	for i := range 10 {
		put(t, k, record(fmt.Sprint("old", i)), 0)
	}
	var sink table
	f, _ := run(t, k, &sink)
	eventually(t, "ready", sink.isReady)

	if err := k.bucket.js.DeleteStream(t.Context(), k.bucket.stream()); err != nil {
		t.Fatal(err)
	}
	again := openKeys(t, nc)
	rev := put(t, again, record("new"), 0)
	eventually(t, "the new key applied", sink.has("new", rev))
	eventually(t, "ready again", sink.isReady)
	if _, there := sink.get("old3"); there || sink.resets != 1 || f.Applied() != rev {
		t.Errorf("old key there: %v, %d resets, applied %d of %d", there, sink.resets, f.Applied(), rev)
	}

	// Shorter than before, at the same name, while the feed is cut off.
	r.stop()
	if err := r.wipe(); err != nil {
		t.Fatal(err)
	}
	r.start()
	direct, err := nats.Connect("nats://" + r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	rev = put(t, openKeys(t, direct), record("newest"), 0)
	eventually(t, "the newest key applied", sink.has("newest", rev))
	if _, there := sink.get("new"); there || sink.resets != 2 {
		t.Errorf("old key there: %v, %d resets", there, sink.resets)
	}
}

func TestFeedReplacedByLength(t *testing.T) {
	now := time.Now()
	f := &Feed{created: now, position: 7}
	for _, c := range []struct {
		created time.Time
		last    uint64
		want    bool
	}{{now, 7, false}, {now, 8, false}, {now, 6, true}, {now.Add(1), 9, true}} {
		if got := f.replaced(c.created, c.last); got != c.want {
			t.Errorf("replaced(%v later, %d) is %v", c.created.Sub(now), c.last, got)
		}
	}
}

func TestFeedEndsWithItsConnection(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	f := NewFeed(k)
	done := make(chan error)
	go func() { done <- f.Run(t.Context(), &table{}) }()
	nc.Close()
	select {
	case err := <-done:
		if !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("Run returned %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("Run goes on")
	}
}

// Readers delete their consumers, so that none pile up in the server.
func TestFeedLeavesNoConsumers(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	put(t, k, record("a"), 0)
	var sink table
	_, stop := run(t, k, &sink)
	eventually(t, "ready", sink.isReady)
	for range 5 {
		listed(t, k, "*")
	}
	stop()
	st, err := k.bucket.js.Stream(t.Context(), k.bucket.stream())
	if err != nil {
		t.Fatal(err)
	}
	if n := st.CachedInfo().State.Consumers; n != 0 {
		t.Errorf("%d consumers are left", n)
	}
}
