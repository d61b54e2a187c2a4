package events

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tollgate/events/natstest"
)

// connectTo reaches one server of a cluster and no other.
func connectTo(t *testing.T, addr string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("nats://"+addr, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ReconnectBufSize(-1), nats.IgnoreDiscoveredServers(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Three replicas, each at a server of its own. First all is well; then the server
// of one is cut off from the others; then the leader of the stream is killed.
func TestMembersOnACluster(t *testing.T) {
	const bound = 20 * time.Second // longer than an election on a busy machine
	c := natstest.StartCluster(t, natstest.Options{ProxyRoutes: true})
	if _, err := OpenKeys(t.Context(), connectTo(t, c.Addr(0)), KeysConfig{Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	peers := make([]*peer, 3)
	for i := range peers {
		peers[i] = newPeer(t, connectTo(t, c.Addr(i)), fmt.Sprint("r", i), bound, nil)
	}
	know(t, peers...)
	put(t, peers[0].store, record("known"), 0)
	for _, p := range peers {
		p.remembers("known")
	}

	took := make([]time.Duration, 0, 200)
	for i := range cap(took) {
		by := peers[i%3]
		id := fmt.Sprint("k", i)
		put(t, by.store, record(id), 0)
		rev := revokeKey(t, by.store, id)
		began := time.Now()
		got := by.members.Wait(t.Context(), rev)
		took = append(took, time.Since(began))
		if len(got.Applied) != 3 || len(got.Away) != 0 {
			t.Fatalf("got %+v", got)
		}
		for _, p := range peers {
			if p.passes(id) {
				t.Fatal("a key passes that is revoked everywhere")
			}
		}
	}
	slices.Sort(took)
	t.Logf("a revocation was in force everywhere after: p50 %v, p99 %v, at most %v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])

	// One that does not lead: then the others go on at once.
	leader := c.Leader(keysStream)
	cut := (leader + 1) % 3
	away, by := peers[cut], peers[leader]
	put(t, by.store, record("k"), 0)
	away.remembers("k")
	c.Isolate(cut)
	rev := revokeKey(t, by.store, "k")
	// A feed whose consumer is on the server that is cut off finds out within a
	// second. Where that server also led the cluster, it has another one once there
	// is another leader, which may take 9 s.
	var got Propagation
	for began := time.Now(); len(got.Applied) < 2 && time.Since(began) < bound*9/10; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		got = by.members.Wait(ctx, rev)
		cancel()
	}
	if !slices.Equal(got.Away, []string{away.members.cfg.Replica}) || len(got.Applied) != 2 || time.Until(got.CertainAt) > bound {
		t.Errorf("got %+v", got)
	}
	passed := 0
	for ; time.Now().Before(got.CertainAt); time.Sleep(time.Millisecond) {
		if away.passes("k") {
			passed++
		}
	}
	for range 1000 {
		if away.passes("k") {
			t.Fatal("a check passes after it was certain that none does")
		}
	}
	if passed == 0 {
		t.Error("no check passed before: the test shows nothing")
	}
	c.Heal(cut)
	eventually(t, "it is back", func() bool { return away.passes("known") && !away.passes("k") })
	know(t, peers...)

	// A lease outlasts an election: what is known passes all the time, but on the
	// replica whose server it is, for as long as that.
	leader = c.Leader(keysStream)
	c.Kill9(leader)
	began := time.Now()
	other := peers[(leader+1)%3]
	for !other.members.Fresh(500*time.Millisecond) || time.Since(began) < time.Second {
		if !other.passes("known") {
			t.Fatalf("a key does not pass %v after the leader was killed", time.Since(began))
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal("no heartbeat comes back")
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("heartbeats came back %v after the leader was killed", time.Since(began))
	c.Restart(leader)
	c.WaitReady()
	know(t, peers...)
}
