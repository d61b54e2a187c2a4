package authz

import (
	"testing"
	"time"

	"tollgate/authz/limit"
)

// Who has ended since has forgotten what it closed as unknown. What another replica
// has held for it meanwhile becomes an adjustment all the same; what the proxy brings
// once more is dropped.
func TestHeldTruthOutlivesMemory(t *testing.T) {
	now := time.Now()
	l := newLedger(t)
	dropped := 0
	process := func() *Settler {
		return &Settler{
			Replica: "r1", Sealer: sealer(t, 1, 1), Ledger: l, Limits: limit.NewLocal(now), Estimator: new(Estimator),
			Dropped: func(string) { dropped++ },
		}
	}
	s := process()
	a := &Admission{ID: "a", Replica: "r1", Key: "k", Model: "m", Reserved: limit.Grant{At: now}}
	written := a.AppendBinary(nil)
	if err := l.Admit(a, written); err != nil {
		t.Fatal(err)
	}
	if err := s.Abandon(now, a); err != nil {
		t.Fatal(err)
	}
	s = process()
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
}
