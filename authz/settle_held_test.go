package authz

import (
	"testing"
	"time"

	"tollgate/authz/limit"
)

// Who has ended since has forgotten what it closed as unknown. What another replica
// has held for it meanwhile, or the proxy brings so late, becomes an adjustment all
// the same; what the proxy brings once more of what this process closed is dropped.
func TestHeldTruthOutlivesMemory(t *testing.T) {
	now := time.Now().Truncate(time.Microsecond) // as an admission's start is
	l := newLedger(t)
	dropped := 0
	process := func(began time.Time) *Settler {
		return &Settler{
			Began:   began,
			Replica: "r1", Sealer: sealer(t, 1, 1), Ledger: l, Limits: limit.NewLocal(now), Estimator: new(Estimator),
			Dropped: func(string) { dropped++ },
		}
	}
	s := process(now.Add(-time.Second))
	a := &Admission{ID: "a", Replica: "r1", Key: "k", Model: "m", Start: now, Reserved: limit.Grant{At: now}}
	written := a.AppendBinary(nil)
	if err := l.Admit(a, written); err != nil {
		t.Fatal(err)
	}
	if err := s.Abandon(now, a); err != nil {
		t.Fatal(err)
	}
	s = process(now) // at the very moment
	token := s.Sealer.Seal(written)
	seen := Observation{Status: 200, Upstream: "u", Reported: true, Tokens: Tokens{Input: 7, Output: 3}}
	if err := s.Settle(t.Context(), now, token, seen); err != nil || dropped != 1 || len(l.late) != 0 {
		t.Errorf("from the proxy: %v, %d dropped, %d adjustments", err, dropped, len(l.late))
	}
	l.err = ErrRetry
	if err := s.SettleHeld(now, token, seen); err == nil {
		t.Error("it could not be written down, and nobody was told")
	}
	l.err = nil
	if err := s.SettleHeld(now, token, seen); err != nil || len(l.late) != 1 || l.late[0].Tokens.Output != 3 {
		t.Errorf("held: %v, adjustments %+v", err, l.late)
	}
	s = process(now.Add(time.Microsecond))
	if err := s.Settle(t.Context(), now, token, seen); err != nil || dropped != 1 || len(l.late) != 2 {
		t.Errorf("from the proxy, to the next process: %v, %d dropped, %d adjustments", err, dropped, len(l.late))
	}
}
