package authz

import (
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
	"tollgate/authz/limit"
	"tollgate/authz/money"
)

// Spent is what the totals of usage add up to. It is safe for concurrent use and
// does not block on I/O. Whoever counts an event calls Budgets.Folding before, and
// Folded after.
type Spent interface {
	// Spent is the cost of what a key ("": any) of a workspace used in requests that
	// began at from or later: UTC midnight of a day or of the first of a month;
	// zero: ever.
	Spent(workspace, key string, from time.Time) money.Amount
}

// Budgets holds the requests of this replica to what workspaces and keys may
// spend. What counts is, by the period in which a request began:
//
//   - what the totals of usage say, of all replicas' requests;
//   - what requests of this replica cost that have ended, until the totals have
//     their events (Folding);
//   - the estimates of those that are open here.
//
// So an account spends, beyond its budget, at most what open requests cost beyond
// their estimates, and what the other replicas had open, or closed and not yet
// told of, at the time. docs/budgets.md has the numbers.
//
// Every request that may cost something is noted, whether or not there is a budget,
// so that one which is set later binds at once. Memory is bounded by the requests
// that are open or whose events the totals don't have, and by the workspaces that
// were used since the start. All methods are safe for concurrent use; a nil Budgets
// notes nothing and knows nothing. No lock is shared by all keys.
type Budgets struct {
	totals  Spent
	ready   atomic.Bool
	seed    maphash.Seed
	noted   [notedShards]notedShard // by the admission's id
	tenants sync.Map                // workspace → *tenant
}

const notedShards = 64

type notedShard struct {
	mu   sync.Mutex
	byID map[string]*noted // guarded by mu
}

// tenant is what a workspace and its keys have noted.
type tenant struct {
	mu   sync.Mutex
	all  account
	keys map[string]*account
	// folding is what the totals may have already or not, folded the sum of all that
	// was in folding, ever. A reader whose totals may be from before that adds what
	// came to it meanwhile.
	folding, folded money.Amount
}

// account is what counts of one workspace or key.
type account struct{ open, closed limit.Spend }

// NewBudgets makes budgets that know nothing of the time before: see Ready.
func NewBudgets(totals Spent) *Budgets {
	b := &Budgets{totals: totals, seed: maphash.MakeSeed()}
	for i := range b.noted {
		b.noted[i].byID = map[string]*noted{}
	}
	return b
}

// Ready says that the totals have all that was ever stored. Until then nobody who
// has a budget can be told whether it is used up.
func (b *Budgets) Ready() { b.ready.Store(true) }

// Known reports whether Ready was called.
func (b *Budgets) Known() bool { return b != nil && b.ready.Load() }

// admits reports whether a request that begins now can be paid from all budgets,
// and notes it where it can, unless it is only looked at. Else it returns the
// budget that it can't be paid from.
func (b *Budgets) admits(now time.Time, a *Admission, estimate money.Amount, budgets []Budget, onlyLook bool) (met BudgetStanding, ok bool) {
	b.look(now, a.Workspace, budgets, func(t *tenant, spent []money.Amount, doubt money.Amount) bool {
		for i := range budgets {
			met = t.standing(now, &budgets[i], spent[i])
			if !limit.Affords(met.Amount, met.Spent.Add(met.Reserved).Add(doubt), estimate) {
				return doubt.IsZero()
			}
		}
		if ok = true; !onlyLook {
			b.note(t, &noted{id: a.ID, key: a.Key, start: a.Start, cost: estimate})
		}
		return true
	})
	return met, ok
}

// look calls judge with a workspace, locked, and what the totals say of budgets of it.
// doubt is what came to the totals meanwhile, so that it may be in spent or not:
// where judge returns false because of it, it is called again with newer figures.
func (b *Budgets) look(now time.Time, workspace string, budgets []Budget, judge func(t *tenant, spent []money.Amount, doubt money.Amount) bool) {
	t := b.tenant(workspace)
	const tries = 64 // in which whoever folds will have come to an end
	for range tries {
		var spent [budgetKinds]money.Amount
		before := t.foldedNow()
		for i := range budgets {
			spent[i] = b.spent(now, &budgets[i])
		}
		t.mu.Lock()
		certain := judge(t, spent[:], t.folding.Add(t.folded).Sub(before))
		t.mu.Unlock()
		if certain {
			return
		}
		runtime.Gosched() // it may be waiting for a processor
	}
}

func (b *Budgets) spent(now time.Time, of *Budget) money.Amount {
	return b.totals.Spent(of.Workspace, of.Key, of.Period.Begin(now)).Sub(of.Before)
}

func (b *Budgets) tenant(workspace string) *tenant {
	if t, ok := b.tenants.Load(workspace); ok {
		return t.(*tenant)
	}
	t, _ := b.tenants.LoadOrStore(workspace, &tenant{keys: map[string]*account{}})
	return t.(*tenant)
}

func (t *tenant) foldedNow() money.Amount {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.folded
}

// standing is where a budget stands by what the totals say; t.mu is held.
func (t *tenant) standing(now time.Time, of *Budget, spent money.Amount) BudgetStanding {
	s := BudgetStanding{Budget: *of, Spent: spent, Resets: of.Period.End(now)}
	acc := &t.all
	if of.Key != "" {
		if acc = t.keys[of.Key]; acc == nil {
			return s
		}
	}
	from := of.Period.Begin(now)
	s.Spent, s.Reserved = s.Spent.Add(acc.closed.Since(from)), acc.open.Since(from)
	return s
}

// OfWorkspace is where the budgets of a workspace stand, its plan's and its credit.
// ok is false where that is not known yet.
func (b *Budgets) OfWorkspace(now time.Time, w *catalog.Workspace) (_ []BudgetStanding, ok bool) {
	all, _ := appendBudgets(nil, w, nil) // only a key's can't be read
	return b.standings(now, all)
}

// OfKey is where a key's own budget stands; none where it has none. ok is false
// where that is not known.
func (b *Budgets) OfKey(now time.Time, r *key.Record) (_ []BudgetStanding, ok bool) {
	all, err := appendBudgets(nil, nil, r)
	if err != nil {
		return nil, false
	}
	return b.standings(now, all)
}

// standings is where budgets stand, all of one workspace.
func (b *Budgets) standings(now time.Time, budgets []Budget) ([]BudgetStanding, bool) {
	if len(budgets) == 0 {
		return nil, true
	}
	if !b.Known() {
		return nil, false
	}
	standings := make([]BudgetStanding, len(budgets))
	b.look(now, budgets[0].Workspace, budgets, func(t *tenant, spent []money.Amount, doubt money.Amount) bool {
		for i := range budgets {
			standings[i] = t.standing(now, &budgets[i], spent[i])
		}
		return doubt.IsZero()
	})
	return standings, true
}

// SpentEver is what a workspace's requests cost that have ended. ok is false where
// that is not known yet.
func (b *Budgets) SpentEver(workspace string) (_ money.Amount, ok bool) {
	all, ok := b.standings(time.Time{}, []Budget{{Kind: PlanBudget, Workspace: workspace, Period: catalog.Total}})
	if !ok {
		return money.Amount{}, false
	}
	return all[0].Spent, true
}
