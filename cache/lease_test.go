package cache

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/authz/key"
)

// hand is a clock that is set by hand. A jump is what a process sees that was
// stopped, or a machine that slept.
type hand struct{ ns atomic.Int64 }

func (h *hand) now() time.Duration    { return time.Duration(h.ns.Load()) }
func (h *hand) jump(d time.Duration)  { h.ns.Add(int64(d)) }
func newHand(at time.Duration) *hand  { h := &hand{}; h.jump(at); return h }
func leaseOf(h *hand, b int64) *Lease { return NewLeaseBy(time.Duration(b), h.now) }
func lookup(t *testing.T, k *Keys) error {
	_, err := k.Lookup(t.Context(), key.DigestOf("s"))
	return err
}

func TestLeaseCountsFromTheSending(t *testing.T) {
	h := newHand(0) // a clock may begin at zero, which is a time like others
	l := leaseOf(h, 10)
	if l.Valid() || l.Age() != math.MaxInt64 {
		t.Error("a lease that nobody granted holds")
	}
	first := l.Begin()
	h.jump(4)
	second := l.Begin()
	h.jump(3)
	second()
	first() // came late, and must not shorten
	if got := l.Age(); got != 3 {
		t.Errorf("the lease goes by a proof sent %d ago, want 3", got)
	}
	h.jump(6)
	if !l.Valid() {
		t.Error("the lease is over before its time")
	}
	h.jump(1)
	if l.Valid() {
		t.Error("the lease outlives its bound")
	}
	late := l.Begin()
	h.jump(10)
	late()
	if l.Valid() {
		t.Error("a proof that came back after the bound granted something")
	}
}

func TestLeaseGivenUp(t *testing.T) {
	h := newHand(1)
	l := leaseOf(h, 10)
	before, l2 := l.Begin(), l.Begin()
	before()
	l.GiveUp()
	l2()
	if l.Valid() {
		t.Error("a proof from before the lease was given up granted it again")
	}
	l.Begin()()
	if !l.Valid() {
		t.Error("a lease can't be had again")
	}
}

// The lease holds exactly while the newest proof that came back, of those sent
// since it was given up, is younger than the bound.
func TestLeaseModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHand(time.Duration(rapid.Int64Range(0, 5).Draw(t, "began")))
		const bound = 20
		l := leaseOf(h, bound)
		type proof struct {
			sent  time.Duration
			grant func()
		}
		var flying []proof
		newest := time.Duration(math.MinInt64)
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) { h.jump(time.Duration(rapid.Int64Range(0, 15).Draw(t, "jump"))) },
			"send": func(*rapid.T) { flying = append(flying, proof{h.now(), l.Begin()}) },
			"return": func(t *rapid.T) {
				if len(flying) == 0 {
					return
				}
				p := flying[rapid.IntRange(0, len(flying)-1).Draw(t, "which")]
				p.grant() // again and again, too
				newest = max(newest, p.sent)
			},
			"give up": func(*rapid.T) {
				l.GiveUp()
				for i := range flying {
					flying[i].sent = math.MinInt64 // grants nothing any more
				}
				newest = math.MinInt64
			},
			"": func(t *rapid.T) {
				want := newest != math.MinInt64 && h.now()-newest < bound
				if l.Valid() != want {
					t.Fatalf("valid: %v, want %v", l.Valid(), want)
				}
			},
		})
	})
}

func TestClockSinceBootGoesOn(t *testing.T) {
	before := sinceBoot()
	if before <= 0 {
		t.Fatalf("the clock says %v", before)
	}
	for end := time.Now().Add(5 * time.Second); sinceBoot() <= before; {
		if time.Now().After(end) {
			t.Fatal("the clock stands still")
		}
	}
}

func leasedKeys(t *testing.T, m *memory, l *Lease) *Keys {
	t.Helper()
	k, err := New(Config{Store: m, Records: 1000, Lease: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	k.SetReady(true)
	return k
}

// A process that was stopped finds its lease run out with its first look-up, for
// keys that it knows as for those that it doesn't: 503, and never 401.
func TestLookupNeedsTheLease(t *testing.T) {
	h, m := newHand(1), newMemory()
	l := leaseOf(h, int64(15*time.Second))
	k := leasedKeys(t, m, l)
	k.Apply(m.put(record("a", "s")))
	without := func(when string) {
		t.Helper()
		if err := lookup(t, k); !errors.Is(err, key.ErrUnavailable) {
			t.Errorf("%s: %v", when, err)
		}
		if _, err := k.Lookup(t.Context(), key.DigestOf("unknown")); !errors.Is(err, key.ErrUnavailable) || errors.Is(err, key.ErrNotFound) {
			t.Errorf("%s, an unknown key: %v", when, err)
		}
	}
	without("before the first lease")
	l.Begin()()
	if err := lookup(t, k); err != nil {
		t.Fatal(err)
	}
	h.jump(15*time.Second - 1)
	if err := lookup(t, k); err != nil {
		t.Fatal(err)
	}
	h.jump(1)
	without("after a stop")
	l.Begin()()
	if err := lookup(t, k); err != nil {
		t.Errorf("current again: %v", err)
	}
	l.GiveUp()
	without("given up")
}

// A read of the store that takes as long as the lease answers nothing.
func TestLeaseRunsOutDuringALoad(t *testing.T) {
	h, m := newHand(1), newMemory()
	l := leaseOf(h, 10)
	m.delay = func() { h.jump(10) }
	k := leasedKeys(t, m, l)
	k.Apply(m.put(record("a", "s")))
	l.Begin()()
	if err := lookup(t, k); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("the lease ran out while the record was read: %v", err)
	}
	m.delay = func() { h.jump(4) }
	l.Begin()()
	if err := lookup(t, k); err != nil {
		t.Errorf("the lease held: %v", err)
	}
}

func TestLeaseDoesNotAllocate(t *testing.T) {
	m := newMemory()
	l := NewLease(time.Hour)
	l.Begin()()
	k := leasedKeys(t, m, l)
	k.Apply(m.put(record("a", "s")))
	if err := lookup(t, k); err != nil {
		t.Fatal(err)
	}
	k.records.Wait()
	d, ctx := key.DigestOf("s"), t.Context()
	allocations := func(what string) {
		t.Helper()
		if n := testing.AllocsPerRun(1000, func() { _, _ = k.Lookup(ctx, d) }); n != 0 {
			t.Errorf("%s: %v allocations a look-up", what, n)
		}
	}
	allocations("with a lease")
	l.GiveUp()
	allocations("without")
}

// Grants, and giving up, by many at once.
func TestLeaseByMany(t *testing.T) {
	l := NewLease(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				l.Begin()()
				l.Valid()
			}
		})
	}
	for ctx.Err() == nil {
		l.GiveUp()
		_ = l.Age()
	}
	all.Wait()
	l.GiveUp()
	if l.Valid() {
		t.Error("valid after everybody stopped and it was given up")
	}
}

func BenchmarkLookupHit(b *testing.B) {
	for name, l := range map[string]*Lease{"alone": nil, "leased": NewLease(time.Hour)} {
		b.Run(name, func(b *testing.B) {
			m := newMemory()
			k, err := New(Config{Store: m, Records: 1000, Lease: l})
			if err != nil {
				b.Fatal(err)
			}
			defer k.Close()
			k.SetReady(true)
			k.Apply(m.put(record("a", "s")))
			if l != nil {
				l.Begin()()
			}
			d := key.DigestOf("s")
			_, _ = k.Lookup(b.Context(), d)
			k.records.Wait()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Lookup(b.Context(), d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
