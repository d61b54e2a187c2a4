package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tollgate/authz/key"
	"tollgate/cache"
)

// peer is a replica as a process has it: a cache under a lease, fed over a
// connection of its own.
type peer struct {
	t       *testing.T
	nc      *nats.Conn
	store   *Keys
	lease   *cache.Lease
	keys    *cache.Keys
	feed    *Feed
	members *Members
	asleep  atomic.Int64 // what the lease's clock is ahead, in ns
	kill    func()       // without saying anything
}

// newPeer starts a replica that ends with the test.
func newPeer(t *testing.T, nc *nats.Conn, name string, bound time.Duration, documents Documents) *peer {
	t.Helper()
	return newPeerOf(t, nc, "", name, bound, documents)
}

// newPeerOf is newPeer of a deployment.
func newPeerOf(t *testing.T, nc *nats.Conn, deployment, name string, bound time.Duration, documents Documents) *peer {
	t.Helper()
	p := &peer{t: t, nc: nc, store: openKeys(t, nc)}
	began := time.Now()
	p.lease = cache.NewLeaseBy(bound, func() time.Duration { return time.Since(began) + time.Duration(p.asleep.Load()) })
	var err error
	if p.keys, err = cache.New(cache.Config{Store: p.store, Records: 1000, Lease: p.lease}); err != nil {
		t.Fatal(err)
	}
	p.members, err = NewMembers(MembersConfig{
		Keys: p.store, Replica: name, Bound: bound, Every: 50 * time.Millisecond, Version: "test", Deployment: deployment, Lease: p.lease, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.feed = NewFeed(p.store)
	p.feed.Members, p.feed.Documents = p.members, documents
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.feed.Run(ctx, p.keys); !errors.Is(err, context.Canceled) && !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("Run returned %v", err)
		}
	}()
	p.kill = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(p.keys.Close)
	t.Cleanup(p.kill)
	return p
}

// passes reports whether a key opens, and that it can be told.
func (p *peer) passes(id string) bool {
	d := key.DigestOf(id)
	rec, err := p.keys.Lookup(p.t.Context(), d)
	return err == nil && rec.Valid(d, time.Now())
}

func (p *peer) opens(id string) func() bool { return func() bool { return p.passes(id) } }

// remembers waits until a key opens without a read of the store.
func (p *peer) remembers(id string) {
	p.t.Helper()
	eventually(p.t, "the key is in memory", func() bool {
		reads := p.keys.Stats().StoreReads
		return p.passes(id) && p.keys.Stats().StoreReads == reads
	})
}

// waitBriefly is Wait for not much longer than it takes to learn who there is.
func (p *peer) waitBriefly(revision uint64) Propagation {
	p.t.Helper()
	for patience := 50 * time.Millisecond; ; patience *= 2 {
		ctx, cancel := context.WithTimeout(p.t.Context(), patience)
		got := p.members.Wait(ctx, revision)
		cancel()
		if !slices.Contains(got.Away, UnknownReplicas) || patience > time.Minute {
			return got
		}
	}
}

// revokeKey revokes a key and says at which revision.
func revokeKey(t *testing.T, k *Keys, id string) uint64 {
	t.Helper()
	rec, err := k.Get(t.Context(), "demo", id)
	if err != nil {
		t.Fatal(err)
	}
	rec.Status = key.Revoked
	return put(t, k, rec, rec.Revision)
}

// know waits until each of the peers has heard of all the others.
func know(t *testing.T, peers ...*peer) {
	t.Helper()
	for _, p := range peers {
		eventually(t, "a lease, and all replicas known", func() bool {
			return p.lease.Valid() && len(p.members.Alive()) == len(peers)
		})
	}
}

func TestLeaseComesFromTheFeed(t *testing.T) {
	r := newRemote(t)
	p := newPeer(t, r.connect(), "a", 400*time.Millisecond, nil)
	eventually(t, "a lease", p.lease.Valid)
	put(t, p.store, record("k"), 0)
	eventually(t, "the key opens", p.opens("k"))
	if !p.members.Fresh(time.Minute) || p.members.Fresh(0) {
		t.Error("fresh within no time, or not within a minute")
	}
	// Nothing arrives any more. What is sent does.
	r.proxy.swallow(false, true)
	eventually(t, "the lease runs out", func() bool { return !p.lease.Valid() })
	if _, err := p.keys.Lookup(t.Context(), key.DigestOf("k")); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("without a lease: %v", err)
	}
	r.proxy.heal()
	eventually(t, "a lease again", p.lease.Valid)
	eventually(t, "the key opens again", p.opens("k"))
	// The machine slept, and nothing has come yet since.
	r.proxy.swallow(false, true)
	p.asleep.Add(int64(time.Second))
	if p.passes("k") {
		t.Error("the key opens after the sleep, by the lease of before")
	}
	if p.members.Fresh(500 * time.Millisecond) {
		t.Error("fresh after a sleep of a second")
	}
	r.proxy.heal()
	eventually(t, "awake", p.opens("k"))
}

func TestWaitForAll(t *testing.T) {
	s, nc := embedded(t, natsdConfig)
	const bound = time.Minute
	peers := []*peer{newPeer(t, nc, "a", bound, nil)}
	for _, name := range []string{"b", "c"} {
		nc, err := s.Connect(name)
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, newPeer(t, nc, name, bound, nil))
	}
	know(t, peers...)
	a := peers[0]
	for i := range 50 {
		id := fmt.Sprint("k", i)
		put(t, a.store, record(id), 0)
		for _, p := range peers {
			eventually(t, "the key opens", p.opens(id))
		}
		by := peers[i%3]
		rev := revokeKey(t, by.store, id)
		began := time.Now()
		got := by.members.Wait(t.Context(), rev)
		if d := time.Since(began); d > bound/4 {
			t.Errorf("it took %v while everybody is there, with a bound of %v", d, bound)
		}
		if got.Revision != rev || !slices.Equal(got.Applied, []string{"a", "b", "c"}) || len(got.Away) != 0 || !got.CertainAt.IsZero() {
			t.Errorf("got %+v", got)
		}
		for _, p := range peers {
			if p.passes(id) {
				t.Errorf("%s lets a key pass that is revoked everywhere", p.members.cfg.Replica)
			}
		}
	}
}

// A replica that is cut off is waited for, or told of, and lets nothing pass from
// the time on that was told.
func TestWaitForOneThatIsCutOff(t *testing.T) {
	const bound = 2 * time.Second
	r := newRemote(t)
	direct, err := nats.Connect("nats://" + r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	a, b := newPeer(t, direct, "a", bound, nil), newPeer(t, r.connect(), "b", bound, nil)
	defer a.kill()
	know(t, a, b)
	put(t, a.store, record("k"), 0)
	put(t, a.store, record("other"), 0)
	b.remembers("k")
	b.remembers("other")

	r.proxy.swallow(true, true)
	rev := revokeKey(t, a.store, "k")
	got := a.waitBriefly(rev)
	if !slices.Equal(got.Applied, []string{"a"}) || !slices.Equal(got.Away, []string{"b"}) || got.CertainAt.IsZero() {
		t.Fatalf("got %+v", got)
	}
	if until := time.Until(got.CertainAt); until > bound || until < bound/4 {
		t.Errorf("certain in %v, with a bound of %v", until, bound)
	}
	if !b.passes("other") {
		t.Error("a replica that is cut off refuses at once")
	}
	passed := 0
	for time.Now().Before(got.CertainAt) {
		if b.passes("k") {
			passed++
		}
	}
	if passed == 0 {
		t.Error("no check passed before: the test shows nothing")
	}
	for range 10_000 {
		if b.passes("k") {
			t.Fatalf("a check passes %v after it was certain that none does", time.Since(got.CertainAt))
		}
	}
	// Who waits longer is told that it is certain now.
	if got := a.members.Wait(t.Context(), rev); len(got.Away) != 0 || !slices.Equal(got.Applied, []string{"a"}) {
		t.Errorf("after the bound: %+v", got)
	}
	eventually(t, "b is gone", func() bool { return a.members.Gone("b") > bound })
	r.proxy.heal()
	eventually(t, "b is back", func() bool { return a.members.Gone("b") == 0 && b.passes("other") })
	if b.passes("k") {
		t.Error("the revoked key passes again")
	}
}

// Nobody waits for a replica that has left.
func TestLeave(t *testing.T) {
	s, nc := embedded(t, natsdConfig)
	other, err := s.Connect("b")
	if err != nil {
		t.Fatal(err)
	}
	a, b := newPeer(t, nc, "a", time.Minute, nil), newPeer(t, other, "b", time.Minute, nil)
	know(t, a, b)
	was := a.members.Incarnation("b")
	if err := b.members.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.lease.Valid() || b.members.Fresh(time.Hour) {
		t.Error("the lease holds after leaving")
	}
	rev := put(t, a.store, record("k"), 0)
	if got := a.members.Wait(t.Context(), rev); !slices.Equal(got.Applied, []string{"a"}) || len(got.Away) != 0 {
		t.Errorf("got %+v", got)
	}
	eventually(t, "b is gone", func() bool { return a.members.Gone("b") > 0 && slices.Equal(a.members.Alive(), []string{"a"}) })
	eventually(t, "b has read the key", func() bool { return b.feed.Applied() >= rev })
	if b.lease.Valid() {
		t.Error("a lease after leaving")
	}
	b.kill()
	again := newPeer(t, other, "b", time.Minute, nil)
	know(t, a, again)
	if now := a.members.Incarnation("b"); now == was || now != again.members.Incarnation("b") {
		t.Errorf("incarnation %q after %q", now, was)
	}
	if got := a.members.Wait(t.Context(), rev); !slices.Equal(got.Applied, []string{"a", "b"}) {
		t.Errorf("got %+v", got)
	}
}

// A replica that was killed is waited for until its lease is over, also when its
// next process is there already: the one before may be a copy that runs.
func TestWaitForAProcessOfBefore(t *testing.T) {
	const bound = 3 * time.Second
	s, nc := embedded(t, natsdConfig)
	other, err := s.Connect("b")
	if err != nil {
		t.Fatal(err)
	}
	a, b := newPeer(t, nc, "a", bound, nil), newPeer(t, other, "b", bound, nil)
	know(t, a, b)
	b.kill()
	again := newPeer(t, other, "b", bound, nil)
	eventually(t, "b is back", again.lease.Valid)
	rev := put(t, a.store, record("k"), 0)
	for _, by := range []*peer{a, again} {
		if got := by.waitBriefly(rev); !slices.Equal(got.Away, []string{"b"}) || time.Until(got.CertainAt) > bound {
			t.Errorf("by %s: %+v", by.members.cfg.Replica, got)
		}
	}
	for _, by := range []*peer{a, again} {
		if got := by.members.Wait(t.Context(), rev); !slices.Equal(got.Applied, []string{"a", "b"}) {
			t.Errorf("by %s: %+v", by.members.cfg.Replica, got)
		}
	}
}

// Of two processes under one name the one that was there stops serving, and the
// other goes on; when that ends, the first takes over.
func TestTwin(t *testing.T) {
	s, nc := embedded(t, natsdConfig)
	other, err := s.Connect("twin")
	if err != nil {
		t.Fatal(err)
	}
	const bound = 2 * time.Second
	first := newPeer(t, nc, "a", bound, nil)
	put(t, first.store, record("k"), 0)
	eventually(t, "the key opens", first.opens("k"))
	twin := newPeer(t, other, "a", bound, nil)
	eventually(t, "the first stops", func() bool { return !first.lease.Valid() && twin.lease.Valid() })
	for end := time.Now().Add(10 * first.members.cfg.Every); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if first.lease.Valid() || !twin.lease.Valid() {
			t.Fatalf("the first has a lease: %v, the twin: %v", first.lease.Valid(), twin.lease.Valid())
		}
	}
	twin.kill()
	eventually(t, "the first takes over", first.opens("k"))
}

func TestMembersRefuse(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	good := MembersConfig{Keys: openKeys(t, nc), Replica: "a", Bound: time.Second, Lease: cache.NewLease(time.Second)}
	if _, err := NewMembers(good); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*MembersConfig){
		"a name with a dot": func(c *MembersConfig) { c.Replica = "a.b" },
		"no name":           func(c *MembersConfig) { c.Replica = "" },
		"no bound":          func(c *MembersConfig) { c.Bound = 0 },
		"a week":            func(c *MembersConfig) { c.Bound = 7 * 24 * time.Hour },
	} {
		bad := good
		change(&bad)
		if _, err := NewMembers(bad); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}
