package authz

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/authz/catalog"
	"tollgate/authz/money"
)

func usd(text string) money.Amount {
	a, err := money.Parse(text)
	if err != nil {
		panic(err)
	}
	return a
}

// totals is what a folder of events is to Budgets. It fails the test where an event
// is folded twice.
type totals struct {
	t interface{ Errorf(string, ...any) }

	mu     sync.Mutex
	events map[string]spentEvent // by id
	b      *Budgets              // is told
}

type spentEvent struct {
	workspace, key string
	start          time.Time
	cost           money.Amount
}

func (f *totals) Spent(workspace, key string, from time.Time) (sum money.Amount) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e.workspace == workspace && (key == "" || e.key == key) && !e.start.Before(from) {
			sum = sum.Add(e.cost)
		}
	}
	return sum
}

func (f *totals) fold(id string, e spentEvent) {
	f.b.Folding(id)
	defer f.b.Folded(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, twice := f.events[id]; twice {
		f.t.Errorf("event %s is folded twice", id)
	}
	f.events[id] = e
}

func newTotals(t interface{ Errorf(string, ...any) }) (*totals, *Budgets) {
	f := &totals{t: t, events: map[string]spentEvent{}}
	b := NewBudgets(f)
	f.b = b
	b.Ready()
	return f, b
}

// costly is an admission that may cost something.
func costly(id, workspace, key string, at time.Time) *Admission {
	return &Admission{
		ID: id, Workspace: workspace, Key: key, Start: at,
		Rates: []Rate{{Unit: "request", Price: money.New(1, 0)}}, Multiplier: money.New(1, 0),
	}
}

// TestBudgetsModel drives Budgets through any order of requests, settlements, folded
// events and restarts, beside a model that knows everything. What is admitted is what
// fits, to the last digit: so no more is ever spent than the amounts and what answers
// cost beyond their estimates, nobody is refused for nothing, and everything comes
// back.
func TestBudgetsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, b := newTotals(t)
		budgets := []Budget{
			{Kind: KeyBudget, Workspace: "w", Key: "k", Period: catalog.Day, Amount: usd("3")},
			{Kind: PlanBudget, Workspace: "w", Period: catalog.Month, Amount: usd("9.5")},
			{Kind: Credit, Workspace: "w", Period: catalog.Total, Amount: usd("12"), Before: usd("0.25")},
		}
		f.events["old"] = spentEvent{"w", "before", start.AddDate(-1, 0, 0), usd("0.25")}
		m := map[string]*request{}
		now := start
		amounts := rapid.Map(rapid.Int64Range(0, 2000), func(n int64) money.Amount { return money.New(n, 3) })
		some := func(which func(*request) bool) string {
			var ids []string
			for _, id := range slices.Sorted(maps.Keys(m)) {
				if which(m[id]) {
					ids = append(ids, id)
				}
			}
			if len(ids) == 0 {
				return ""
			}
			return rapid.SampledFrom(ids).Draw(t, "of")
		}
		isOpen := func(r *request) bool { return !r.closed }
		isWaiting := func(r *request) bool { return r.closed && !r.folded }
		for step := range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"begin", "begin", "begin", "settle", "settle", "fold", "fold", "time", "restart", "early"}).Draw(t, "what") {
			case "time":
				now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "hours")) * time.Hour)
			case "begin":
				keyID := rapid.SampledFrom([]string{"k", "other"}).Draw(t, "key")
				mine := budgets
				if keyID != "k" {
					mine = budgets[1:]
				}
				a, estimate := costly(fmt.Sprint(step), "w", keyID, now), amounts.Draw(t, "estimate")
				fits := true
				for i := range mine {
					used := modelUsed(m, &mine[i], now)
					if estimate.IsZero() {
						fits = fits && used.Cmp(mine[i].Amount) < 0
					} else {
						fits = fits && used.Add(estimate).Cmp(mine[i].Amount) <= 0
					}
				}
				if _, ok := b.admits(now, a, estimate, mine, true); ok != fits {
					t.Fatalf("asked about %v: %v, want %v", estimate, ok, fits)
				}
				met, ok := b.admits(now, a, estimate, mine, false)
				if ok != fits {
					t.Fatalf("%v: admitted %v, want %v; %+v", estimate, ok, fits, met)
				}
				if ok {
					a.Held = estimate
					m[a.ID] = &request{a: a, cost: estimate}
				}
			case "settle":
				if id := some(isOpen); id != "" {
					r := m[id]
					r.cost, r.closed = amounts.Draw(t, "cost"), true
					b.Settle(now, r.a, r.cost)
					b.Settle(now, r.a, usd("1")) // again: of no consequence
				}
			case "early": // the totals have the event before the settlement is known here
				if id := some(isOpen); id != "" {
					r := m[id]
					r.cost, r.closed, r.folded = amounts.Draw(t, "cost"), true, true
					f.fold(id, r.event())
					b.Settle(now, r.a, r.cost)
				}
			case "fold":
				if id := some(isWaiting); id != "" {
					m[id].folded = true
					f.fold(id, m[id].event())
				}
			case "restart":
				b = NewBudgets(f)
				f.b = b
				for _, r := range m {
					switch {
					case isOpen(r):
						b.Restore(r.a)
						b.Restore(r.a)
					case isWaiting(r), rapid.Bool().Draw(t, "not acknowledged"):
						// The journal has it still, the stream perhaps too.
						b.Owe(now, r.a.ID, "w", r.a.Key, r.a.Start, r.cost)
					}
				}
				// The start waits until the totals have what the stream has.
				for _, id := range slices.Sorted(maps.Keys(m)) {
					if r := m[id]; isWaiting(r) {
						r.folded = true
						f.fold(id, r.event())
					}
				}
				b.Forget(now.Add(1))
				b.Ready()
			}
			checkStandings(t, b, m, budgets, now)
		}
		for id, r := range m {
			if isOpen(r) {
				r.cost, r.closed = money.Amount{}, true
				b.Settle(now, r.a, r.cost)
			}
			if isWaiting(r) {
				r.folded = true
				f.fold(id, r.event())
			}
		}
		checkStandings(t, b, m, budgets, now)
		if n := b.Noted(); n != 0 {
			t.Errorf("%d requests are noted at the end", n)
		}
		if keys := b.tenant("w").keys; len(keys) != 0 {
			t.Errorf("%d keys are noted at the end", len(keys))
		}
	})
}

// request is one that was admitted, as the model knows it.
type request struct {
	a              *Admission
	cost           money.Amount // or its estimate, while it is open
	closed, folded bool
}

func (r *request) event() spentEvent { return spentEvent{"w", r.a.Key, r.a.Start, r.cost} }

func modelUsed(m map[string]*request, of *Budget, now time.Time) (sum money.Amount) {
	for _, r := range m {
		if !r.a.Start.Before(of.Period.Begin(now)) && (of.Key == "" || of.Key == r.a.Key) {
			sum = sum.Add(r.cost)
		}
	}
	return sum
}

func checkStandings(t *rapid.T, b *Budgets, m map[string]*request, budgets []Budget, now time.Time) {
	all, ok := b.standings(now, budgets)
	if !ok {
		t.Fatal("not known")
	}
	for i := range all {
		s := &all[i]
		if want := modelUsed(m, &budgets[i], now); s.Spent.Add(s.Reserved).Cmp(want) != 0 {
			t.Fatalf("the %v budget: %v spent and %v reserved, want %v together", s.Kind, s.Spent, s.Reserved, want)
		}
	}
}

// TestBudgetsConcurrent has many requests and a folder at the same time. Nothing is
// refused that fits: not even while an event is in the totals and not yet taken out
// of what waits for them. And nothing is admitted that doesn't.
func TestBudgetsConcurrent(t *testing.T) {
	const callers, each = 16, 200
	for _, c := range []struct {
		name   string
		amount money.Amount
		want   int
	}{
		// With room for one more: the folder may be kept from going on for long.
		{"all fit", money.New(callers*each+1, 0), callers * each},
		{"half of them fit", money.New(callers*each/2, 0), callers * each / 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			sum := &sums{}
			b := NewBudgets(sum)
			b.Ready()
			of := []Budget{{Kind: PlanBudget, Workspace: "w", Period: catalog.Total, Amount: c.amount}}
			events := make(chan *Admission, callers)
			var folder, all sync.WaitGroup
			folder.Go(func() {
				for a := range events {
					b.Folding(a.ID)
					sum.add(usd("1"))
					b.Folded(a.ID)
				}
			})
			var mu sync.Mutex
			admitted := 0
			for g := range callers {
				all.Go(func() {
					for i := range each {
						a := costly(fmt.Sprint(g, "-", i), "w", fmt.Sprint(g), start)
						if _, ok := b.admits(start, a, usd("1"), of, false); !ok {
							continue
						}
						mu.Lock()
						admitted++
						mu.Unlock()
						b.Settle(start, a, usd("1"))
						events <- a
					}
				})
			}
			all.Wait()
			close(events)
			folder.Wait()
			if admitted != c.want {
				t.Errorf("%d admitted, want %d", admitted, c.want)
			}
			if n := b.Noted(); n != 0 {
				t.Errorf("%d are noted at the end", n)
			}
		})
	}
}

// sums is a Spent of one workspace, as quick as the real one.
type sums struct {
	mu  sync.RWMutex
	sum money.Amount
}

func (s *sums) add(a money.Amount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum = s.sum.Add(a)
}

func (s *sums) Spent(string, string, time.Time) money.Amount {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.sum
}

// inTheMiddle is a Spent in which something happens while it is asked, once.
type inTheMiddle struct {
	*totals
	before, after func()
}

func (s *inTheMiddle) Spent(workspace, key string, from time.Time) money.Amount {
	before, after := s.before, s.after
	s.before, s.after = nil, nil
	if before != nil {
		before()
	}
	sum := s.totals.Spent(workspace, key, from)
	if after != nil {
		after()
	}
	return sum
}

// TestBudgetsFoldedInTheMiddle: an event that the totals get while a request is looked
// at counts once: whoever fits only without it is refused, and who fits with it isn't.
func TestBudgetsFoldedInTheMiddle(t *testing.T) {
	for _, when := range []string{"before the totals are read", "after it"} {
		for estimate, want := range map[string]bool{"1": true, "1.5": false} {
			f, b := newTotals(t)
			of := []Budget{{Kind: PlanBudget, Workspace: "w", Period: catalog.Total, Amount: usd("2")}}
			first := costly("first", "w", "k", start)
			b.admits(start, first, usd("1"), of, false)
			b.Settle(start, first, usd("1"))
			fold := func() { f.fold("first", spentEvent{"w", "k", start, usd("1")}) }
			middle := &inTheMiddle{totals: f}
			if b.totals = middle; when == "after it" {
				middle.after = fold
			} else {
				middle.before = fold
			}
			if _, ok := b.admits(start, costly("second", "w", "k", start), usd(estimate), of, false); ok != want {
				t.Errorf("folded %s, %s more of 1 that is left: admitted %v", when, estimate, ok)
			}
		}
	}
}

// TestBudgetsForget: only what ended before the time is let go of.
func TestBudgetsForget(t *testing.T) {
	_, b := newTotals(t)
	for _, id := range []string{"open", "old", "new"} {
		b.admits(start, costly(id, "w", "k", start), usd("1"), nil, false)
	}
	b.Settle(start, costly("old", "w", "k", start), usd("2"))
	b.Settle(start.Add(time.Minute), costly("new", "w", "k", start), usd("4"))
	b.Forget(start.Add(time.Minute))
	all, _ := b.standings(start, []Budget{{Workspace: "w", Key: "k", Period: catalog.Total}})
	if s := all[0]; s.Spent.Cmp(usd("4")) != 0 || s.Reserved.Cmp(usd("1")) != 0 {
		t.Errorf("%v spent, %v reserved; want 4 and 1", s.Spent, s.Reserved)
	}
}

// TestBudgetsUnknown: before the totals have everything nobody is told anything.
func TestBudgetsUnknown(t *testing.T) {
	b := NewBudgets(&totals{t: t})
	if _, ok := b.OfWorkspace(start, &catalog.Workspace{ID: "w", Plan: &catalog.Plan{Budget: &catalog.Budget{}}}); ok {
		t.Error("a standing was told")
	}
	if _, ok := b.SpentEver("w"); ok {
		t.Error("what was spent was told")
	}
	var none *Budgets
	none.Settle(start, costly("a", "w", "k", start), usd("1"))
	none.Restore(costly("a", "w", "k", start))
	if none.Known() {
		t.Error("nobody knows everything")
	}
}

func BenchmarkBudgets(b *testing.B) {
	f := &sums{}
	budgets := NewBudgets(f)
	of := []Budget{{Kind: PlanBudget, Workspace: "w", Period: catalog.Month, Amount: usd("1000000000")}}
	estimate := usd("0.000123")
	a := costly("", "w", "k", start)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		a.ID = fmt.Sprint(n)
		budgets.admits(start, a, estimate, of, false)
		budgets.Settle(start, a, estimate)
		budgets.Folding(a.ID)
		budgets.Folded(a.ID)
	}
}
