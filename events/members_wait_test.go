package events

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A replica whose heartbeat from before a change was overwritten before we read it
// is waited for, though nothing of it has come here when the change has.
func TestWaitForOneNeverHeardOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimStream()
		link, _, feed, stop := simPeer(t, s, 10*time.Second)
		defer stop()
		link.set(true, time.Millisecond)
		beat := func(applied, expect uint64) uint64 {
			value, err := json.Marshal(pulse{Version: 1, Nonce: "n", Incarnation: "b", Epoch: "e", Applied: applied, BoundMs: 20_000})
			if err != nil {
				t.Fatal(err)
			}
			revision, err := s.put("h.b", value, expect)
			if err != nil {
				t.Fatal(err)
			}
			return revision
		}
		first := beat(0, 0)
		simPut(t, s, "k", 0)
		change := s.revision()
		fill(s, "k.demo.filler", 300)
		beat(first-1, first)
		link.set(false, time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		got := feed.Members.Wait(ctx, change)
		if feed.Applied() < change || feed.Applied() == s.revision() {
			t.Fatalf("applied %d: the test shows nothing", feed.Applied())
		}
		if !slices.Equal(got.Away, []string{"b"}) || !slices.Equal(got.Applied, []string{"a"}) {
			t.Errorf("got %+v", got)
		}
		if most := time.Now().Add(20 * time.Second); got.CertainAt.After(most) || got.CertainAt.Before(most.Add(-time.Second)) {
			t.Errorf("certain in %v", time.Until(got.CertainAt))
		}
	})
}

// behind is a server that has not heard of the newest yet, for its first answers.
type behind struct {
	*simLink
	until uint64 // the revision that it has
	times int
}

func (b *behind) heartbeats(ctx context.Context) (map[string]entry, uint64, error) {
	if b.times--; b.times >= 0 {
		return nil, b.until, nil
	}
	return b.simLink.heartbeats(ctx)
}

// A server that is behind does not know who was there before the change.
func TestWaitForAListOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimStream()
		_, _, feed, stop := simPeer(t, s, 10*time.Second)
		defer stop()
		link, _, _, stopOther := simPeerAs(t, s, "b", 10*time.Second)
		defer stopOther()
		link.set(true, time.Millisecond)
		feed.Members.mu.Lock()
		feed.Members.roll = newRoll("a", 20*time.Second) // it has not heard of b
		feed.Members.mu.Unlock()
		simPut(t, s, "k", 0)
		stale := &behind{simLink: feed.Members.lister.(*simLink), until: s.revision() - 1, times: 3}
		feed.Members.lister = stale
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got := feed.Members.Wait(ctx, s.revision())
		if !slices.Equal(got.Away, []string{"b"}) || stale.times >= 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// Another process took our name, and we have not noticed yet.
func TestWaitForATwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimStream()
		_, _, first, stopFirst := simPeer(t, s, time.Minute)
		defer stopFirst()
		link, keys, _, stopTwin := simPeer(t, s, time.Minute)
		defer stopTwin()
		link.set(true, time.Millisecond)
		simPut(t, s, "k", 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got := first.Members.Wait(ctx, s.revision())
		if !keys.Ready() || !slices.Equal(got.Away, []string{"a"}) || len(got.Applied) != 0 {
			t.Errorf("while a twin has a lease: %+v", got)
		}
	})
}

// Where it can't be learned who there is, everybody might be.
func TestWaitForNobodyKnowsWho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimStream()
		link, _, feed, stop := simPeer(t, s, 10*time.Second)
		defer stop()
		simPut(t, s, "k", 0)
		time.Sleep(time.Second)
		link.set(true, time.Millisecond)
		began := time.Now()
		for _, c := range []struct {
			patience time.Duration
			away     []string
		}{{time.Second, []string{UnknownReplicas}}, {time.Hour, nil}} {
			ctx, cancel := context.WithTimeout(t.Context(), c.patience)
			got := feed.Members.Wait(ctx, s.revision())
			cancel()
			if !slices.Equal(got.Away, c.away) || got.CertainAt.IsZero() != (c.away == nil) {
				t.Errorf("after %v: %+v", time.Since(began), got)
			}
		}
		if d := time.Since(began); d > 22*time.Second {
			t.Errorf("it took %v, with a bound of 20 s", d)
		}
	})
}

// After the store turned out to be another one, replicas may go by the one before
// without our knowing of them.
func TestWaitAfterTheStoreWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimStream()
		empty := s.backup()
		link, _, feed, stop := simPeer(t, s, 2*time.Second)
		defer stop()
		link.set(true, time.Millisecond)
		s.stop()
		s.start(&empty)
		link.set(false, time.Millisecond)
		time.Sleep(time.Second)
		simPut(t, s, "k", 0)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if got := feed.Members.Wait(ctx, s.revision()); !slices.Equal(got.Away, []string{UnknownReplicas}) || time.Until(got.CertainAt) > 4*time.Second {
			t.Errorf("a moment later: %+v", got)
		}
		if got := feed.Members.Wait(t.Context(), s.revision()); !slices.Equal(got.Applied, []string{"a"}) {
			t.Errorf("after the bound: %+v", got)
		}
	})
}
