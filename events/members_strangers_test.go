package events

import (
	"strings"
	"testing"
	"time"
)

func TestRollStranger(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	of := func(name string) func(*pulse) { return func(h *pulse) { h.Deployment = name } }
	r := newRoll("self", 10*time.Second)
	hear := func(replica string, revision uint64, change func(*pulse)) {
		r.hear(replica, pulseAt(t, revision, now, change), now, time.Second)
	}
	expect := func(what, replica string, certain bool, listened time.Duration) {
		t.Helper()
		if got, _, sure := r.stranger("ours", listened); got != replica || sure != certain {
			t.Errorf("%s: %q, %t", what, got, sure)
		}
	}
	hear("old", 1, nil)
	hear("old", 2, nil)
	hear("same", 3, of("ours"))
	hear("same", 4, of("ours"))
	expect("one of a version that doesn't say, and one of ours", "", false, time.Second)
	hear("b", 5, of("theirs"))
	expect("one heartbeat, which may be of long ago", "b", false, time.Second)
	hear("b", 6, func(h *pulse) { h.Deployment, h.Incarnation = "theirs", "another" })
	expect("one of another process of it", "b", false, time.Second)
	hear("b", 7, func(h *pulse) { h.Deployment, h.Incarnation = "theirs", "another" })
	expect("a second one", "b", true, time.Second)
	expect("silent for longer than its bound", "", false, time.Minute)
	hear("b", 8, func(h *pulse) { h.Deployment, h.Incarnation, h.Left = "theirs", "another", true })
	expect("it left", "", false, time.Second)
}

// A replica that is given the NATS of another deployment by mistake learns of it at
// its start, and does not mistake who is gone for one that runs.
func TestStrangers(t *testing.T) {
	s, nc := embedded(t, natsdConfig)
	a := newPeerOf(t, nc, "ours", "a", 2*time.Second, nil)
	eventually(t, "a lease", a.lease.Valid)
	other, err := s.Connect("b")
	if err != nil {
		t.Fatal(err)
	}
	b := newPeerOf(t, other, "theirs", "b", 2*time.Second, nil)
	eventually(t, "a lease", b.lease.Valid)
	know(t, a, b)
	eventually(t, "told of another deployment", func() bool { // whose heartbeats come late on a busy machine
		err = b.members.Strangers(t.Context())
		return err != nil
	})
	if !strings.Contains(err.Error(), `"ours"`) || !strings.Contains(err.Error(), "TOLLGATE_NAME") {
		t.Errorf("beside another deployment: %v", err)
	}
	a.kill()
	c, err := s.Connect("c")
	if err != nil {
		t.Fatal(err)
	}
	b.kill()
	third := newPeerOf(t, c, "third", "third", 2*time.Second, nil)
	eventually(t, "a lease", third.lease.Valid)
	if err := third.members.Strangers(t.Context()); err != nil {
		t.Errorf("after others that are gone: %v", err)
	}
}
