package events

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"tollgate/authz/key"
	"tollgate/cache"
)

// The store is swapped for another while a replica is cut off from it: wiped, or
// brought back to an older copy, and written to until it is shorter than it was,
// or longer. Nothing of before may stay, and what was written meanwhile counts.
func TestMembersNoticeAnotherStore(t *testing.T) {
	for _, c := range []struct {
		what   string
		wipe   bool
		beyond bool
	}{
		{"wiped", true, false},
		{"wiped and written beyond", true, true},
		{"restored", false, false},
		{"restored and written beyond", false, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newRemote(t)
			nc := r.connect()
			p := newPeer(t, nc, "a", time.Minute, nil)
			put(t, p.store, record("k"), 0)
			eventually(t, "the key opens", p.opens("k"))
			r.stop()
			saved := t.TempDir()
			if err := os.CopyFS(saved, os.DirFS(filepath.Join(r.dir, "jetstream"))); err != nil {
				t.Fatal(err)
			}
			r.start()
			eventually(t, "connected again", nc.IsConnected)
			for i := range 20 {
				put(t, p.store, record(fmt.Sprint("late", i)), 0)
			}
			eventually(t, "the last key opens", p.opens("late19"))
			before := p.feed.Applied()

			r.stop()
			if err := r.wipe(); err != nil {
				t.Fatal(err)
			}
			if !c.wipe {
				if err := os.CopyFS(filepath.Join(r.dir, "jetstream"), os.DirFS(saved)); err != nil {
					t.Fatal(err)
				}
			}
			// It may only come back once the others have written to it.
			r.proxy.swallow(true, true)
			r.start()
			direct, err := nats.Connect("nats://" + r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer direct.Close()
			theirs := openKeys(t, direct)
			if c.wipe {
				put(t, theirs, record("k"), 0)
			}
			last := revokeKey(t, theirs, "k")
			for i := 0; c.beyond && last <= before+20; i++ {
				last = put(t, theirs, record(fmt.Sprint("new", i)), 0)
			}
			if (last > before) != c.beyond {
				t.Fatalf("the store is at %d, and was at %d", last, before)
			}
			r.proxy.heal()
			eventually(t, "the store of now is read", func() bool {
				return p.lease.Valid() && p.feed.Applied() >= last && (c.beyond || p.feed.Applied() < before)
			})
			for _, id := range []string{"k", "late3", "late19"} {
				if p.passes(id) {
					t.Errorf("%s opens, as it did in the store of before", id)
				}
			}
			if c.beyond {
				eventually(t, "a new key opens", p.opens("new3"))
			}
		})
	}
}

// The store lost its end, but not the heartbeat that proves what is before, and
// other things were written in its place.
func TestMembersNoticeALostEnd(t *testing.T) {
	for what, write := range map[string]func(t *testing.T, s *simStream){
		"and nothing more":             func(*testing.T, *simStream) {},
		"less than there was":          func(_ *testing.T, s *simStream) { fill(s, "k.demo.a", 1) },
		"more than there was":          func(_ *testing.T, s *simStream) { fill(s, "k.demo.a", 7) },
		"overwritten in part":          func(_ *testing.T, s *simStream) { fill(s, "k.demo.a", 3); again(s, "k.demo.a0") },
		"overwritten in whole":         func(_ *testing.T, s *simStream) { fill(s, "h.x", 3); again(s, "h.x0", "h.x1", "h.x2") },
		"another change of the key":    func(_ *testing.T, s *simStream) { again(s, "k.demo.changed"); fill(s, "h.x", 7) },
		"the key, behind where it was": func(_ *testing.T, s *simStream) { fill(s, "h.x", 7); again(s, "k.demo.changed") },
		"a revocation that nothing else tells of": func(t *testing.T, s *simStream) {
			rec := record("other")
			rec.Status = key.Revoked
			name, value := simRecord(t, rec)
			if _, err := s.put(name, value, s.now(name).revision); err != nil {
				t.Error(err)
			}
			fill(s, "h.x", 7)
			again(s, "h.x0", "h.x1", "h.x2", "k.demo.changed")
			simPut(t, s, "lost", 0)
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSimStream()
				link, keys, feed, stop := simPeer(t, s, time.Hour)
				defer stop()
				simPut(t, s, "changed", 0)
				simPut(t, s, "other", 0)
				time.Sleep(time.Minute)
				backup := s.backup()
				simPut(t, s, "changed", s.now("k.demo.changed").revision)
				simPut(t, s, "lost", 0)
				for range 2 { // so that all are in memory
					time.Sleep(time.Second)
					for _, id := range []string{"changed", "other", "lost"} {
						if _, err := keys.Lookup(t.Context(), key.DigestOf(id)); err != nil {
							t.Fatal(err)
						}
					}
				}
				was := feed.Applied()
				link.set(true, time.Millisecond)
				s.stop()
				s.start(&backup)
				write(t, s)
				link.set(false, time.Millisecond)
				time.Sleep(10 * time.Second)
				for _, id := range []string{"changed", "other", "lost"} {
					d := key.DigestOf(id)
					rec, err := keys.Lookup(t.Context(), d)
					truth, err2 := decodeRecord(s.now("k.demo."+id).value, "demo", id)
					if got, want := err == nil && rec.Valid(d, time.Now()), err2 == nil && truth.Valid(d, time.Now()); got != want {
						t.Errorf("%s opens: %v (%v), want %v; applied %d, then %d of %d", id, got, err, want, was, feed.Applied(), s.revision())
					}
				}
				if feed.Applied() != s.revision() {
					t.Errorf("applied %d of %d", feed.Applied(), s.revision())
				}
			})
		})
	}
}

// The same, where what was read last is gone, and nothing of it is missed but that
// a key has the state of before.
func TestMembersNoticeALostChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimStream()
		link, _, feed, stop := simPeer(t, s, time.Hour)
		defer stop()
		simPut(t, s, "k", 0)
		time.Sleep(time.Hour) // until a heartbeat stands behind it
		backup := s.backup()
		simPut(t, s, "k", s.now("k.demo.k").revision)
		time.Sleep(time.Second)
		epoch := epochOf(feed)
		link.set(true, time.Millisecond)
		s.stop()
		s.start(&backup)
		fill(s, "h.x", 1)
		again(s, "h.x0")
		link.set(false, time.Millisecond)
		time.Sleep(10 * time.Second)
		if epochOf(feed) == epoch {
			t.Error("the change of a key was lost, and nothing was read anew")
		}
	})
}

// What is known of another store counts no more, at once.
func TestMembersForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, feed, stop := simPeer(t, newSimStream(), time.Hour)
		defer stop()
		if !feed.Members.Fresh(time.Hour) {
			t.Fatal("not fresh")
		}
		feed.Members.forget()
		if feed.Members.Fresh(time.Hour) {
			t.Error("the lease from another store holds")
		}
	})
}

// A heartbeat of ours proves what is before it only once all of that was looked at.
func TestMembersGrantNothingBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := newSimLink(newSimStream(), 1)
		lease := cache.NewLeaseBy(time.Hour, func() time.Duration { return 1 })
		m, err := newMembers(link, link, MembersConfig{Replica: "a", Bound: time.Hour, Lease: lease, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.write(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		e, err := link.stream.get("h.a")
		if err != nil {
			t.Fatal(err)
		}
		if confirmed := m.hear("h.a", e); confirmed != 0 || lease.Valid() {
			t.Errorf("confirmed %d, a lease: %v", confirmed, lease.Valid())
		}
		confirmed, stop := m.whole(t.Context(), func(error) {})
		defer stop()
		if confirmed != e.revision || !lease.Valid() {
			t.Errorf("at the end: confirmed %d, a lease: %v", confirmed, lease.Valid())
		}
	})
}

// A store that is the same goes on being the same, whatever was overwritten in it
// while a replica was away: it forgets nothing, and serves on.
func TestMembersKeepTheSameStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimStream()
		link, keys, feed, stop := simPeer(t, s, time.Hour)
		defer stop()
		for i := range 5 {
			simPut(t, s, fmt.Sprint("k", i), 0)
		}
		time.Sleep(time.Second)
		epoch := epochOf(feed)
		// Some are overwritten so often that a reader never gets to see them.
		busy, done := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for busy.Err() == nil {
				again(s, "k.demo.k0", "k.demo.k1")
				time.Sleep(100 * time.Microsecond)
			}
		}()
		for range 4 {
			s.stop() // breaks the connection
			link.set(true, time.Millisecond)
			s.start(nil)
			again(s, "k.demo.k2")
			fill(s, fmt.Sprint("h.x", s.revision()), 3)
			link.set(false, time.Millisecond)
			for range 2000 {
				time.Sleep(time.Millisecond)
				if _, err := keys.Lookup(t.Context(), key.DigestOf("k4")); err != nil {
					t.Fatalf("a key that nothing happened to: %v", err)
				}
			}
		}
		done()
		<-stopped
		if epochOf(feed) != epoch {
			t.Error("it was read anew")
		}
	})
}

// simPeer is a replica on a model, whose heartbeats are as far apart as said.
func simPeer(t *testing.T, s *simStream, every time.Duration) (*simLink, *cache.Keys, *Feed, func()) {
	t.Helper()
	return simPeerAs(t, s, "a", every)
}

func simPeerAs(t *testing.T, s *simStream, name string, every time.Duration) (*simLink, *cache.Keys, *Feed, func()) {
	t.Helper()
	link := newSimLink(s, 1)
	began := time.Now()
	lease := cache.NewLeaseBy(2*every, func() time.Duration { return time.Since(began) })
	keys, err := cache.New(cache.Config{Store: simStore{link}, Records: 10, Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	feed := newFeed(link, quiet)
	feed.Members, err = newMembers(link, link, MembersConfig{Replica: name, Bound: 2 * every, Every: every, Lease: lease, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = feed.Run(ctx, keys) }()
	time.Sleep(time.Second)
	if !lease.Valid() {
		t.Fatal("no lease")
	}
	return link, keys, feed, func() { cancel(); <-done; close(link.dead); keys.Close() }
}

func simPut(t *testing.T, s *simStream, id string, expect uint64) {
	t.Helper()
	name, value := simRecord(t, record(id))
	if _, err := s.put(name, value, expect); err != nil {
		t.Fatal(err)
	}
}

// epochOf changes when a feed starts over.
func epochOf(f *Feed) string {
	f.Members.mu.Lock()
	defer f.Members.mu.Unlock()
	return f.Members.own.epoch
}

// fill writes n new names that say nothing.
func fill(s *simStream, name string, n int) {
	for i := range n {
		_, _ = s.put(fmt.Sprint(name, i), []byte("{}"), 0)
	}
}

// again writes the same to names once more.
func again(s *simStream, names ...string) {
	for _, name := range names {
		if e, err := s.get(name); err == nil {
			_, _ = s.put(name, e.value, e.revision)
		}
	}
}
