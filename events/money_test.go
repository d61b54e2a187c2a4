package events

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/authz"
	"tollgate/authz/money"
)

// charged is an admission of a deployment that charges the estimate of what nobody
// settles: 0.9 of 1.8 by the list. What it turns out to cost is 0.25 of 0.5.
func charged(id, request string) *authz.Admission {
	a := admission(id, request)
	a.Rates = []authz.Rate{{Unit: "input", Price: money.New(18, 1)}}
	a.InputEstimate, a.Multiplier, a.Billing.ChargeUnsettled = 1_000_000, money.New(5, 1), true
	return a
}

func truth(a *authz.Admission) *authz.Usage {
	u := told(a)
	u.ListCost, u.Cost = money.New(5, 1), money.New(25, 2)
	return u
}

// costs checks what a stream's events add up to.
func costs(t *testing.T, stored map[string]Event, events int, list, cost string) {
	t.Helper()
	var sum authz.Charge
	for _, e := range stored {
		sum.List, sum.Cost = sum.List.Add(e.Data.ListCost), sum.Cost.Add(e.Data.Cost)
	}
	if len(stored) != events || sum.List.String() != list || sum.Cost.String() != cost {
		t.Errorf("%d events cost %s of %s; want %d that cost %s of %s", len(stored), sum.Cost, sum.List, events, cost, list)
	}
}

// However an admission came to be closed, and whoever else closed it too, its
// events add up to what is known of its cost.
func TestAdjustmentsAddUp(t *testing.T) {
	source := Source("test")
	a := charged("1", "r")
	closed := authz.Unsettled(a)
	superseded := authz.Unsettled(a)
	superseded.Supersede()
	none, free := FromUsage(source, closed), FromUsage(source, superseded)
	late := truth(a)
	late.Before = closed.Charge()
	afterFree := truth(a)
	for name, c := range map[string]struct {
		there      []Event
		ours       *authz.Usage
		adjust     bool
		age        time.Duration // of the admission
		events     int
		list, cost string
	}{
		"nobody knows":                                     {nil, closed, false, 0, 1, "1.8", "0.9"},
		"the truth behind what another charged":            {[]Event{none}, truth(a), false, 0, 2, "0.5", "0.25"},
		"the truth behind what another did not charge":     {[]Event{free}, truth(a), false, 0, 2, "0.5", "0.25"},
		"an adjustment of what was charged":                {[]Event{none}, late, true, 0, 2, "0.5", "0.25"},
		"an adjustment of what another did not charge":     {[]Event{free}, late, true, 0, 2, "0.5", "0.25"},
		"an adjustment that did not know of another's":     {[]Event{none}, afterFree, true, 0, 2, "0.5", "0.25"},
		"an adjustment of what was lost with its journal":  {nil, late, true, 2 * baseTime, 1, "0.5", "0.25"},
		"an adjustment of what turned out to be the truth": {[]Event{FromUsage(source, truth(a))}, late, true, 0, 1, "0.5", "0.25"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, stream, _ := sharedLedger(t, t.TempDir())
				defer func() { _ = l.journal.Close() }()
				ours := *c.ours
				b := *ours.Admission
				b.Start = time.Now().Add(-c.age)
				ours.Admission = &b
				for _, e := range c.there {
					stream.put(e)
				}
				if c.adjust {
					if err := l.Adjust(&ours); err != nil {
						t.Fatal(err)
					}
				} else {
					f, err := l.Hold(&b, authz.Observation{})
					if err != nil {
						t.Fatal(err)
					}
					if err := l.CloseForeign(f, &ours); err != nil {
						t.Fatal(err)
					}
				}
				bring(t, l)
				costs(t, stream.stored, c.events, c.list, c.cost)
			})
		})
	}
}

// A superseded admission costs nothing, whatever the policy, because its sibling
// does; and what was charged is found again in the stream after a restart.
func TestSupersededCostsNothing(t *testing.T) {
	t.Parallel()
	l, j := openLedger(t, t.TempDir())
	first, second, alone := charged("1", "r"), charged("2", "r"), charged("3", "q")
	for _, a := range []*authz.Admission{first, second, alone} {
		admit(t, l, a)
	}
	for _, u := range []*authz.Usage{truth(second), authz.Unsettled(first), authz.Unsettled(alone)} {
		if ok, err := l.Close(u); !ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
	}
	stored := map[string]Event{}
	for id, out := range published(t, l, j) {
		var e Event
		if err := json.Unmarshal(out.Payload, &e); err != nil {
			t.Fatal(err)
		}
		stored[id] = e
	}
	costs(t, stored, 3, "2.3", "1.15")
	e := stored[MsgID(l.source, "1")]
	if !e.Data.Superseded || !e.Data.Cost.IsZero() || e.Data.EstimatedCost.String() != "0.9" {
		t.Errorf("superseded: %+v", e.Data)
	}
	found := Found{Usage: &e.Data}
	if u := found.Of(first); u.Cost.Sign() != 0 {
		t.Errorf("found again it costs %s", u.Cost)
	}
	e = stored[MsgID(l.source, "3")]
	found = Found{Usage: &e.Data}
	if u := found.Of(alone); u.Charge() != (authz.Charge{List: money.New(18, 1), Cost: money.New(9, 1)}) || e.Data.Charge() != u.Charge() {
		t.Errorf("found again it costs %+v", u.Charge())
	}
}
