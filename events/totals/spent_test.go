package totals

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/authz/money"
	"tollgate/events"
)

// TestSpentIsTheSum: whenever accounts are asked about first, and however late
// events come, each has spent the sum of its events.
func TestSpentIsTheSum(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			s, path := newStream(), filepath.Join(t.TempDir(), "snapshot")
			f := open(t, s, path)
			stop := run(t, f)
			var all []*events.Event
			now := time.Now()
			for i := range 300 {
				// Requests go over days and months; the clock that moves usage from
				// minutes to hours follows in leaps.
				now = now.Add(time.Duration(r.Int64N(int64(12 * time.Hour))))
				if r.IntN(100) == 0 {
					time.Sleep(24 * time.Hour)
				}
				at := now
				if r.IntN(4) == 0 {
					at = at.Add(-time.Duration(r.Int64N(int64(90 * 24 * time.Hour))))
				}
				e := usage(fmt.Sprint(i), fmt.Sprint("w", r.IntN(2)), []string{"", "k1", "k2"}[r.IntN(3)], fmt.Sprint("m", r.IntN(2)), at.Truncate(time.Microsecond))
				e.Data.Cost = money.New(r.Int64N(1e12), r.IntN(18))
				all = append(all, e)
				position := events.Position{Replica: "r", Epoch: 1, Seq: uint64(i + 1)}
				s.store(e, position)
				if r.IntN(5) == 0 {
					s.store(e, position) // again
				}
				if r.IntN(100) == 0 {
					stop()
					f = open(t, s, path)
					stop = run(t, f)
				}
				synctest.Wait()
				askSpent(t, r, f, now, all)
			}
			stop()
		})
	}
}

// askSpent asks about any account and period.
func askSpent(t *testing.T, r *rand.Rand, f *Folder, now time.Time, all []*events.Event) {
	t.Helper()
	ws, key := fmt.Sprint("w", r.IntN(3)), []string{"", "k1", "k2", "none"}[r.IntN(4)]
	year, month, day := now.UTC().Date()
	from := [...]time.Time{
		{},
		time.Date(year, month, day-r.IntN(3), 0, 0, 0, 0, time.UTC),
		time.Date(year, month-time.Month(r.IntN(3)), 1, 0, 0, 0, 0, time.UTC),
		time.Date(year, month, day+r.IntN(3), 0, 0, 0, 0, time.UTC),
	}[r.IntN(4)]
	var want money.Amount
	for _, e := range all {
		if e.Data.Workspace == ws && (key == "" || e.Data.Key == key) && !e.Time.Before(from) {
			want = want.Add(e.Data.Cost)
		}
	}
	if got := f.Spent(ws, key, from); got.Cmp(want) != 0 {
		t.Fatalf("%s/%s since %v: %s, want %s", ws, key, from, got, want)
	}
}

// TestFoldingComesFirst: an event is told of before it counts, so that who adds what
// is under way to what was spent never misses one.
func TestFoldingComesFirst(t *testing.T) {
	const n, each = 3000, 7
	s := newStream()
	var mu sync.Mutex
	pending := int64(n) // events that were not told of
	told := map[string]int{}
	f, err := Open(Config{Stream: s, Path: filepath.Join(t.TempDir(), "snapshot"), Log: quiet, Folding: func(id string) {
		mu.Lock()
		defer mu.Unlock()
		if told[id]++; told[id] == 1 {
			pending--
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, f)
	defer stop()
	var asking sync.WaitGroup
	done := make(chan struct{})
	for key := range 3 {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				spent := f.Spent("w", []string{"", "k"}[key%2], time.Time{})
				mu.Lock()
				left := pending
				mu.Unlock()
				if most := money.New(each, 0).MulInt(n - left); spent.Cmp(most) > 0 {
					t.Errorf("spent %s when events of %s were told of", spent, most)
					return
				}
			}
		})
	}
	for i := range n {
		e := usage(fmt.Sprint(i), "w", "k", "m", time.Now())
		e.Data.Cost = money.New(each, 0)
		s.store(e, position(i+1))
	}
	s.store(usage("0", "w", "k", "m", time.Now()), position(1)) // again
	if err := f.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(done)
	asking.Wait()
	if got := f.Spent("w", "k", time.Time{}); got.Cmp(money.New(n*each, 0)) != 0 || pending != 0 || told["0"] != 2 {
		t.Errorf("spent %s, %d not told of, the first %d times", got, pending, told["0"])
	}
}

func BenchmarkSpent(b *testing.B) {
	f := &Folder{state: newState(), spending: newSpending()}
	e := event{id: "1", source: "s", workspace: "w", key: "k", model: "m", at: noon}
	e.counts.Cost = money.New(1, 9)
	f.state.Fold(&e, events.Position{})
	f.Spent("w", "k", time.Time{})
	b.ReportAllocs()
	for b.Loop() {
		f.spending.add(&e)
		f.Spent("w", "k", noon.Truncate(24*time.Hour))
	}
}
