package relay

import (
	"strings"

	"tollgate/authz"
	"tollgate/authz/money"
	"tollgate/events"
)

// check is what must hold when everything has come to its end.
func (s *sim) check() {
	for _, r := range s.replicas {
		if r.p == nil {
			if !r.lost {
				s.t.Errorf("%s is not back", r.name)
			}
			continue
		}
		if left := r.p.limits.left(); left != "" {
			s.t.Errorf("%s still holds slots of %s", r.name, left)
		}
		if stats := r.p.relay.Stats(); stats.Held != 0 || stats.Copies != 0 || stats.Malformed != 0 || stats.Refused != 0 {
			s.t.Errorf("%s: %+v", r.name, stats)
		}
		if stats := r.p.journal.Stats(); stats.Open != 0 || stats.Waiting != 0 {
			s.t.Errorf("%s: something is left in its journal: %+v", r.name, stats)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	usage, adjusted := map[string][]events.Event{}, map[string][]events.Event{}
	for _, m := range s.stream {
		if e := m.event; e.Type == events.TypeAdjusted {
			adjusted[e.Data.Adjusts] = append(adjusted[e.Data.Adjusts], e)
		} else {
			usage[e.ID] = append(usage[e.ID], e)
		}
	}
	for _, a := range s.all {
		s.checkEvents(a, usage[a.ID], adjusted[a.ID])
	}
}

func (s *sim) checkEvents(a *admitted, usage, adjusted []events.Event) {
	if len(usage) > 1 || len(adjusted) > 1 || len(adjusted) > len(usage) {
		s.t.Errorf("%s of %s has %d usage events and %d adjustments:\n%s", a.ID, a.owner.name, len(usage), len(adjusted), strings.Join(s.story[events.MsgID("//sim/tollgate", a.ID)], "\n"))
		return
	}
	if len(usage) == 0 {
		if !a.mayBeLost() {
			s.t.Errorf("%s of %s has no event; settled %v, at its owner %v, copied %v", a.ID, a.owner.name, a.settledAt, a.atOwner, a.copiedTo)
		}
		return
	}
	tokens := usage[0].Data.InputTokens + usage[0].Data.OutputTokens
	cost := usage[0].Data.Cost
	unknown := usage[0].Data.Measurement == authz.None
	if len(adjusted) == 1 {
		if !unknown {
			s.t.Errorf("%s was adjusted and is known: %+v", a.ID, usage[0].Data)
		}
		tokens += adjusted[0].Data.InputTokens + adjusted[0].Data.OutputTokens
		cost = cost.Add(adjusted[0].Data.Cost)
		unknown = false
	}
	want, price := int64(10), money.New(114, 8) // (7 × 0.15 + 3 × 0.6) × 0.4 millionths
	switch {
	case unknown && a.Billing.ChargeUnsettled:
		want, price = 0, a.Estimate()
	case unknown:
		want, price = 0, money.Amount{}
	}
	if tokens != want || cost.Cmp(price) != 0 {
		s.t.Errorf("%s has %d tokens and costs %v, want %d and %v", a.ID, tokens, cost, want, price)
	}
	if unknown && !a.settledAt.IsZero() && !a.truthMayBeLost() {
		s.t.Errorf("%s is unknown, although a settlement was recorded", a.ID)
	}
}

// mayBeLost says that the owner lost its disk, and nobody else was left to know of
// the admission.
func (a *admitted) mayBeLost() bool {
	if !a.owner.lost {
		return false
	}
	if a.atOwner {
		return true // and others were told that it is
	}
	for _, r := range a.toldTo {
		if !r.lost {
			return true // who may have brought it to the owner before
		}
	}
	return a.copiedTo == nil || a.copiedTo.lost
}

// truthMayBeLost says that somebody who had it may have lost it, with a disk.
func (a *admitted) truthMayBeLost() bool {
	if a.owner.lost {
		return true
	}
	for _, r := range a.toldTo {
		if r.lost {
			return true
		}
	}
	return false
}
