package main

import (
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/authz/catalog"
	"tollgate/authz/money"
	"tollgate/events"
	"tollgate/events/journal"
)

// noSums are totals that nothing was ever counted in.
type noSums struct{}

func (noSums) Spent(string, string, time.Time) money.Amount { return money.Amount{} }

// TestWaitingEventsAreOwed: after a restart, what requests cost counts that ended
// before it and whose events are still in the journal, until the totals have them.
func TestWaitingEventsAreOwed(t *testing.T) {
	dir := t.TempDir()
	open := func() *journal.Journal {
		j, _, err := journal.Open(dir, journal.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	start := time.Now().UTC().Truncate(time.Microsecond)
	j := open()
	for id, cost := range map[string]money.Amount{"dear": money.New(25, 1), "cheap": money.New(1, 3), "free": {}} {
		u := &authz.Usage{
			Admission: &authz.Admission{ID: id, Workspace: "w", Key: "k", Start: start}, Outcome: authz.Completed,
			Measurement: authz.Reported, ListCost: cost, Cost: cost,
		}
		e := events.FromUsage("//test/tollgate", u)
		ref, err := j.Admit([]byte(id))
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Settle(ref, journal.Event{Subject: "s", MsgID: id, Payload: e.AppendJSON(nil)}); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := j.Admit([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Settle(ref, journal.Event{Subject: "s", MsgID: "x", Payload: []byte("of another version")}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	n := &node{journal: open(), budgets: authz.NewBudgets(noSums{})}
	defer n.journal.Close()
	if err := n.oweWaiting(); err != nil {
		t.Fatal(err)
	}
	n.budgets.Ready()
	spent := func(want string) {
		t.Helper()
		plan := &catalog.Plan{Budget: &catalog.Budget{Period: catalog.Day, Amount: money.New(10, 0)}}
		all, ok := n.budgets.OfWorkspace(start, &catalog.Workspace{ID: "w", Plan: plan})
		if !ok || len(all) != 1 || all[0].Spent.String() != want {
			t.Errorf("%v %+v, want %s spent", ok, all, want)
		}
	}
	spent("2.501")
	n.budgets.Folding("dear")
	n.budgets.Folded("dear")
	spent("0.001")
}
