package events

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

// pulseAt is a heartbeat as it is stored.
func pulseAt(t *testing.T, revision uint64, stored time.Time, change func(*pulse)) entry {
	t.Helper()
	h := pulse{Version: 1, Nonce: "n", Incarnation: "one", Epoch: "e", Applied: revision - 1, BoundMs: 10_000}
	if change != nil {
		change(&h)
	}
	value, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return entry{value: value, revision: revision, stored: stored}
}

func TestRollGone(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRoll("self", 10*time.Second)
	if got := r.gone("b", 7*time.Second); got != 7*time.Second {
		t.Errorf("never heard of in 7 s of listening: gone for %v", got)
	}
	r.hear("b", pulseAt(t, 5, now, nil), now, 7*time.Second)
	for _, c := range []struct{ listened, want time.Duration }{{7 * time.Second, 0}, {16 * time.Second, 0}, {17 * time.Second, 10 * time.Second}} {
		if got := r.gone("b", c.listened); got != c.want {
			t.Errorf("after %v: gone for %v, want %v", c.listened, got, c.want)
		}
	}
	// An older one that comes late says nothing new.
	r.hear("b", pulseAt(t, 4, now, nil), now, 16*time.Second)
	if got := r.gone("b", 17*time.Second); got == 0 {
		t.Error("an old heartbeat brought it back")
	}
	r.hear("b", pulseAt(t, 6, now, func(h *pulse) { h.Left = true }), now, 20*time.Second)
	if got := r.gone("b", 20*time.Second); got <= 0 {
		t.Errorf("it left this moment, and is gone for %v", got)
	}
	if got := r.alive(20 * time.Second); !slices.Equal(got, []string{"self"}) {
		t.Errorf("alive: %v", got)
	}
	if r.gone("self", time.Hour) != 0 {
		t.Error("gone ourselves")
	}
}

// Time in which we were deaf does not make others gone.
func TestEar(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	var e ear
	if e.heard(at(100)) != 0 {
		t.Error("listened before it began")
	}
	e.open(at(100))
	e.close(at(110))
	if got := e.heard(at(500)); got != 10*time.Second {
		t.Errorf("listened for %v, want 10 s", got)
	}
	e.open(at(500))
	if got := e.heard(at(505)); got != 15*time.Second {
		t.Errorf("listened for %v, want 15 s", got)
	}
}

func TestRollStanding(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	s := func(n int) time.Time { return now.Add(time.Duration(n) * time.Second) }
	const revision = 100
	for what, c := range map[string]struct {
		hear    func(r *roll)
		applied []string
		away    []string
		until   time.Time
	}{
		"nobody": {func(*roll) {}, nil, nil, time.Time{}},
		"a heartbeat before": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, nil), s(-3), 0)
		}, nil, []string{"b"}, s(7)},
		"a heartbeat that came after we began to wait": {func(r *roll) {
			r.hear("b", pulseAt(t, 110, now, func(h *pulse) { h.Applied = 99 }), s(2), 0)
		}, nil, []string{"b"}, s(10)},
		"a heartbeat that says so": {func(r *roll) {
			r.hear("b", pulseAt(t, 110, now, nil), s(0), 0)
		}, []string{"b"}, nil, time.Time{}},
		"a heartbeat that can't know what it says": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, func(h *pulse) { h.Applied = 200 }), s(0), 0)
		}, nil, []string{"b"}, s(10)},
		"a claim": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, nil), s(0), 0)
			r.say(claim{Replica: "b", Incarnation: "one", Epoch: "e", Applied: 100})
		}, []string{"b"}, nil, time.Time{}},
		"a claim, and an older one that comes late": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, nil), s(0), 0)
			r.say(claim{Replica: "b", Incarnation: "one", Epoch: "e", Applied: 100})
			r.say(claim{Replica: "b", Incarnation: "one", Epoch: "e", Applied: 99})
			r.say(claim{Replica: "b", Incarnation: "zero", Epoch: "e", Applied: 99})
			r.hear("b", pulseAt(t, 91, now, nil), s(0), 0)
		}, []string{"b"}, nil, time.Time{}},
		"a claim of another store": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, nil), s(0), 0)
			r.say(claim{Replica: "b", Incarnation: "one", Epoch: "before", Applied: 1000})
		}, nil, []string{"b"}, s(10)},
		"a claim of another process": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, nil), s(0), 0)
			r.say(claim{Replica: "b", Incarnation: "two", Epoch: "e", Applied: 1000})
		}, nil, []string{"b"}, s(10)},
		"it left": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, func(h *pulse) { h.Left = true }), s(0), 0)
		}, nil, nil, time.Time{}},
		"its lease is over": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, nil), s(-9), 0)
		}, nil, nil, time.Time{}},
		"two, with bounds of their own": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, func(h *pulse) { h.BoundMs = 60_000 }), s(0), 0)
			r.hear("c", pulseAt(t, 91, now, nil), s(0), 0)
		}, nil, []string{"b", "c"}, s(60)},
		"one that we can't read": {func(r *roll) {
			r.hear("b", entry{value: []byte(`{"v":2}`), revision: 90, stored: now}, s(0), 0)
			r.say(claim{Replica: "b", Applied: 1000})
		}, nil, []string{"b"}, s(10)},
		"a process that another one replaced": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, nil), s(-1), 0)
			r.hear("b", pulseAt(t, 110, now, func(h *pulse) { h.Incarnation, h.AfterMs = "two", 9_000 }), s(0), 0)
			r.hear("b", pulseAt(t, 111, now, func(h *pulse) { h.Incarnation, h.AfterMs = "two", 8_000 }), s(1), 0)
		}, []string{"b"}, []string{"b"}, s(9)},
		"a process that left, and another": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, func(h *pulse) { h.Left = true }), s(-1), 0)
			r.hear("b", pulseAt(t, 110, now, func(h *pulse) { h.Incarnation = "two" }), s(0), 0)
		}, []string{"b"}, nil, time.Time{}},
		"a process that left, whose predecessor was killed": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, func(h *pulse) { h.Left, h.AfterMs = true, 5_000 }), s(-1), 0)
		}, nil, []string{"b"}, s(4)},
		"a heartbeat of long ago": {func(r *roll) {
			r.hearAll(map[string]entry{
				"h.b": pulseAt(t, 50, now.Add(-2*time.Hour), func(h *pulse) { h.AfterMs = 9_000 }),
				"h.c": pulseAt(t, 110, now, nil),
			}, s(0), 0)
		}, []string{"c"}, nil, time.Time{}},
		"deleted by hand": {func(r *roll) {
			r.hear("b", pulseAt(t, 90, now, nil), s(-1), 0)
			r.hear("b", entry{revision: 95, stored: now, deleted: true}, s(0), 0)
			r.hear("c", entry{revision: 96, stored: now, deleted: true}, s(0), 0)
		}, nil, []string{"b"}, s(9)},
	} {
		r := newRoll("self", 10*time.Second)
		c.hear(r)
		applied, away, until, next := r.standing(revision, s(0), s(2))
		slices.Sort(applied)
		slices.Sort(away)
		if !slices.Equal(applied, c.applied) || !slices.Equal(away, c.away) || !until.Equal(c.until) {
			t.Errorf("%s: applied %v, away %v until %v; want %v, %v, %v", what, applied, away, until, c.applied, c.away, c.until)
		}
		if next.IsZero() != (len(away) == 0) || next.After(until) {
			t.Errorf("%s: look again at %v", what, next)
		}
		if applied, away, _, _ := r.standing(revision, s(0), s(3600)); len(away) != 0 {
			t.Errorf("%s: after an hour %v are away, %v applied", what, away, applied)
		}
	}
}
