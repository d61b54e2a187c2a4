package limit

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/authz/reason"
)

var start = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return start.Add(d) }

// size is how many counters there are.
func (l *Local) size() (n int) {
	for i := range l.shards {
		n += len(l.shards[i].counters)
	}
	return n
}

func reserve(l *Local, now time.Time, tokens int64, demands ...Demand) Verdict {
	var v Verdict
	l.Reserve(now, demands, tokens, &v)
	return v
}

func peek(l *Local, now time.Time, tokens int64, demands ...Demand) Verdict {
	var v Verdict
	l.Peek(now, demands, tokens, &v)
	return v
}

// admitted is what the model of TestLocalAgainstLog knows of a grant.
type admitted struct {
	grant   Grant
	demands []Demand
	settled bool
}

// TestLocalAgainstLog drives a Local with any mix of requests and settlements
// and compares it with the log of all of them.
func TestLocalAgainstLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := NewLocal(start)
		var now time.Duration
		var grants []*admitted
		var debts []struct {
			demands []Demand
			event
		}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			now += time.Duration(rapid.Int64Range(0, int64(8*time.Second)).Draw(t, "pause"))
			open := slices.DeleteFunc(slices.Clone(grants), func(a *admitted) bool { return a.settled })
			if len(open) > 0 && rapid.Bool().Draw(t, "settle") {
				a := open[rapid.IntRange(0, len(open)-1).Draw(t, "which")]
				used := rapid.Int64Range(-1, 2*a.grant.Tokens).Draw(t, "used")
				l.Settle(after(now), a.demands, a.grant, used)
				a.settled = true
				if over := used - a.grant.Tokens; over > 0 {
					debts = append(debts, struct {
						demands []Demand
						event
					}{a.demands, event{now, over}})
				}
				a.grant.Tokens = min(a.grant.Tokens, max(used, 0)) // what the log keeps of it
				if used < 0 {
					a.grant.Counted = 0 // nothing at all
				}
				continue
			}

			var demands []Demand
			for s := range Scopes {
				if rapid.Bool().Draw(t, "demand") {
					limit := func(most int64) int64 { return rapid.Int64Range(0, most).Draw(t, "limit") }
					demands = append(demands, Demand{s, "w", string('a' + rune(rapid.IntRange(0, 1).Draw(t, "name"))), limit(9), limit(60), limit(5)})
				}
			}
			tokens := rapid.Int64Range(0, 40).Draw(t, "tokens")
			before := peek(l, after(now), tokens, demands...)
			v := reserve(l, after(now), tokens, demands...)
			if v.Reason != before.Reason || v.Wait != before.Wait || v.Limit != before.Limit {
				t.Fatalf("peek says %+v, reserve %+v", before, v)
			}
			if v.Reason == reason.None {
				a := &admitted{Grant{after(now), tokens, v.Counted}, demands, false}
				grants = append(grants, a)
			} else {
				if again := peek(l, after(now), tokens, demands...); again != before {
					t.Fatalf("a refusal took something: %+v, then %+v", before, again)
				}
			}

			// What the log says of each demand.
			passes := true
			for _, d := range demands {
				var requests, used []event
				var held int64
				for _, a := range grants {
					for _, other := range a.demands {
						if other.Scope == d.Scope && other.Name == d.Name {
							if !a.settled && a.grant.Counted.Has(d.Scope) {
								held++
							}
							if a.grant.Counted.Has(d.Scope) {
								requests = append(requests, event{a.grant.At.Sub(start), 1})
								used = append(used, event{a.grant.At.Sub(start), a.grant.Tokens})
							}
						}
					}
				}
				for _, debt := range debts {
					for _, other := range debt.demands {
						if other.Scope == d.Scope && other.Name == d.Name && other.limits() {
							used = append(used, debt.event)
						}
					}
				}
				if d.Concurrent > 0 && held > d.Concurrent && v.Reason == reason.None {
					t.Fatalf("%v: %d at once", d, held)
				}
				if d.Requests > 0 && total(requests, now, Span) > d.Requests && v.Reason == reason.None {
					t.Fatalf("%v: %d requests in a minute", d, total(requests, now, Span))
				}
				if d.Tokens > 0 && total(used, now, Span) > d.Tokens && v.Reason == reason.None {
					t.Fatalf("%v: %d tokens in a minute", d, total(used, now, Span))
				}
				if d.Concurrent > 0 && held >= d.Concurrent ||
					d.Requests > 0 && total(requests, now, Span+Cell) >= d.Requests ||
					d.Tokens > 0 && total(used, now, Span+Cell)+tokens > d.Tokens {
					passes = false
				}
			}
			if passes && v.Reason != reason.None {
				t.Fatalf("refused for %v (%v, limit %d) without need", v.Reason, v.Scope, v.Limit)
			}
			if v.Wait > 0 {
				if early := peek(l, after(now+v.Wait-1), tokens, demands...); early.Reason == reason.None {
					t.Fatalf("wait %v is too long", v.Wait)
				}
				now += v.Wait
				if then := peek(l, after(now), tokens, demands...); then.Reason != reason.None {
					t.Fatalf("after a wait of %v: %v for another %v", v.Wait, then.Reason, then.Wait)
				}
			}
		}
	})
}

// TestLocalTokensTogether: 20 requests at once don't pass a token limit that
// has room for 3.
func TestLocalTokensTogether(t *testing.T) {
	l := NewLocal(start)
	d := Demand{Scope: Key, Tenant: "k", Tokens: 350}
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if v := reserve(l, start, 100, d); v.Reason == reason.None {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	if passed.Load() != 3 {
		t.Errorf("%d passed, want 3", passed.Load())
	}
}

func TestLocalOrderOfReasons(t *testing.T) {
	l := NewLocal(start)
	d := Demand{Scope: Key, Tenant: "k", Requests: 1, Tokens: 100, Concurrent: 1}
	first := reserve(l, start, 60, d)
	steps := []struct {
		reason reason.Reason
		tokens int64
		limit  int64
		wait   time.Duration
		demand Demand
	}{
		{reason.TokenRequestTooLarge, 101, 100, 0, d},
		{reason.ConcurrencyLimitExceeded, 60, 1, 0, d},
		{reason.RateLimitExceeded, 60, 1, Span, Demand{Scope: Key, Tenant: "k", Requests: 1, Tokens: 100}},
		{reason.TokenLimitExceeded, 60, 100, Span, Demand{Scope: Key, Tenant: "k", Requests: 2, Tokens: 100}},
		{reason.None, 40, 0, 0, Demand{Scope: Key, Tenant: "k", Requests: 2, Tokens: 100}},
	}
	for _, s := range steps {
		v := peek(l, start, s.tokens, s.demand)
		if v.Reason != s.reason || v.Limit != s.limit || v.Wait != s.wait {
			t.Errorf("got %v, limit %d, wait %v; want %v, %d, %v", v.Reason, v.Limit, v.Wait, s.reason, s.limit, s.wait)
		}
	}
	if want := (State{Limit: 100, Remaining: 40, Reset: Span}); first.Tokens != want {
		t.Errorf("tokens after the first: %+v, want %+v", first.Tokens, want)
	}
	if want := (State{Limit: 1, Remaining: 0, Reset: Span}); first.Requests != want {
		t.Errorf("requests after the first: %+v, want %+v", first.Requests, want)
	}
}

// TestLocalScopes: the tightest scope refuses and is told, and the others have
// lost nothing.
func TestLocalScopes(t *testing.T) {
	l := NewLocal(start)
	demands := []Demand{{Scope: Key, Tenant: "k", Requests: 10}, {Scope: User, Tenant: "w", Name: "u"}, {Scope: Workspace, Tenant: "w", Requests: 2}}
	v := reserve(l, start, 1, demands...)
	if v.Requests.Limit != 2 || v.Requests.Remaining != 1 || v.Tokens.Limit != 0 {
		t.Errorf("states %+v and %+v, want 1 of the workspace's 2, and no token limit", v.Requests, v.Tokens)
	}
	if !v.Counted.Has(Key) || v.Counted.Has(User) || !v.Counted.Has(Workspace) {
		t.Errorf("counted %b, want key and workspace: the user has no limit", v.Counted)
	}
	reserve(l, start, 1, demands...)
	if v = reserve(l, start, 1, demands...); v.Reason != reason.RateLimitExceeded || v.Scope != Workspace || v.Counted != 0 {
		t.Errorf("third: %v of the %v, counted %b", v.Reason, v.Scope, v.Counted)
	}
	if left := peek(l, start, 1, demands[0]).Requests.Remaining; left != 8 {
		t.Errorf("the key has %d left, want 8", left)
	}
}

// TestLocalLimitChanges: a changed limit, and one of a kind that there was none
// of, binds the next request by what happened before.
func TestLocalLimitChanges(t *testing.T) {
	l := NewLocal(start)
	for range 3 {
		reserve(l, start, 100, Demand{Scope: Key, Tenant: "k", Requests: 10})
	}
	for _, c := range []struct {
		d    Demand
		want reason.Reason
	}{
		{Demand{Scope: Key, Tenant: "k", Requests: 3}, reason.RateLimitExceeded},
		{Demand{Scope: Key, Tenant: "k", Requests: 4}, reason.None},
		{Demand{Scope: Key, Tenant: "k", Tokens: 399}, reason.TokenLimitExceeded},
		{Demand{Scope: Key, Tenant: "k", Concurrent: 3}, reason.ConcurrencyLimitExceeded},
		{Demand{Scope: Key, Tenant: "k"}, reason.None},
	} {
		if v := peek(l, start, 100, c.d); v.Reason != c.want {
			t.Errorf("%+v: %v, want %v", c.d, v.Reason, c.want)
		}
	}
}

func TestLocalSettle(t *testing.T) {
	d := Demand{Scope: Key, Tenant: "k", Requests: 5, Tokens: 1000, Concurrent: 2}
	for name, c := range map[string]struct {
		used             int64
		late             time.Duration
		requests, tokens int64 // remaining right after settlement
	}{
		"used less":           {300, time.Second, 4, 700},
		"used all":            {500, time.Second, 4, 500},
		"used nothing":        {0, time.Second, 4, 1000},
		"used more":           {1200, time.Second, 4, 0},
		"not sent":            {-1, time.Second, 5, 1000},
		"not sent, late":      {-1, 2 * time.Minute, 5, 1000},
		"used less, late":     {300, 2 * time.Minute, 5, 1000},
		"used more, late":     {700, 2 * time.Minute, 5, 800},
		"used more than ever": {1<<63 - 1, time.Second, 4, 0},
	} {
		l := NewLocal(start)
		v := reserve(l, start, 500, d)
		l.Settle(after(c.late), []Demand{d}, Grant{start, 500, v.Counted}, c.used)
		got := peek(l, after(c.late), 1, d)
		if got.Requests.Remaining != c.requests || got.Tokens.Remaining != c.tokens {
			t.Errorf("%s: %d requests and %d tokens remain, want %d and %d", name, got.Requests.Remaining, got.Tokens.Remaining, c.requests, c.tokens)
		}
		reserve(l, after(5*time.Minute), 1, d)
		if v := reserve(l, after(5*time.Minute), 1, d); v.Reason != reason.None {
			t.Errorf("%s: the slot did not come back: %v", name, v.Reason)
		}
		if v := reserve(l, after(5*time.Minute), 1, d); v.Reason != reason.ConcurrencyLimitExceeded {
			t.Errorf("%s: a slot came back twice: %v", name, v.Reason)
		}
	}
}

// TestLocalRestore: after a restart the counts of the last minute and the slots
// are there again, and a settlement finds them.
func TestLocalRestore(t *testing.T) {
	d := Demand{Scope: Key, Tenant: "k", Requests: 3, Tokens: 1000, Concurrent: 3}
	recent := Grant{after(-30 * time.Second), 400, 1 << Key}
	old := Grant{after(-10 * time.Minute), 500, 1 << Key}
	future := Grant{after(time.Hour), 100, 1 << Key} // of a clock that was set back
	l := NewLocal(start)
	for _, g := range []Grant{recent, old, future} {
		l.Restore(start, []Demand{d}, g)
	}
	v := peek(l, start, 1, d)
	if v.Reason != reason.ConcurrencyLimitExceeded || v.Requests.Remaining != 1 || v.Tokens.Remaining != 500 {
		t.Errorf("after a restart: %v, %+v, %+v", v.Reason, v.Requests, v.Tokens)
	}
	l.Settle(start, []Demand{d}, recent, 100)
	l.Settle(start, []Demand{d}, old, 100)
	v = peek(l, start, 1, d)
	if v.Reason != reason.None || v.Tokens.Remaining != 800 {
		t.Errorf("after settling: %v, %+v", v.Reason, v.Tokens)
	}
	if v = peek(l, after(30*time.Second), 1, d); v.Requests.Remaining != 2 || v.Tokens.Remaining != 900 {
		t.Errorf("when the recent one leaves: %+v, %+v", v.Requests, v.Tokens)
	}
}

// TestLocalForgets: counters go when nothing of them counts, and not before.
func TestLocalForgets(t *testing.T) {
	l := NewLocal(start)
	held := Demand{Scope: Key, Tenant: "held", Requests: 5, Concurrent: 1}
	reserve(l, start, 0, held)
	for i := range 20_000 {
		d := Demand{Scope: Key, Tenant: fmt.Sprint(i), Requests: 1, Tokens: 10}
		v := reserve(l, start, 10, d)
		l.Settle(start, []Demand{d}, Grant{start, 10, v.Counted}, 10)
	}
	busy := Demand{Scope: Workspace, Tenant: "busy", Requests: 1 << 40}
	run := func(from, to time.Duration) {
		for now := from; now <= to; now += sweepEvery {
			v := reserve(l, after(now), 0, busy)
			l.Settle(after(now), []Demand{busy}, Grant{after(now), 0, v.Counted}, 0)
		}
	}
	run(0, Span-time.Second)
	if n := l.size(); n != 20_002 {
		t.Fatalf("within the minute there are %d counters, want all 20002", n)
	}
	run(Span, 2*Span+time.Second)
	if n := l.size(); n != 2 {
		t.Errorf("two minutes later there are %d counters, want the held and the busy one", n)
	}
	for i := range l.shards {
		if peak := l.shards[i].peak; peak > 64 {
			t.Fatalf("a shard kept its room for %d", peak)
		}
	}
	if v := reserve(l, after(3*time.Minute), 0, held); v.Reason != reason.ConcurrencyLimitExceeded {
		t.Errorf("the held slot was forgotten: %v", v.Reason)
	}
}

// TestLocalConcurrent has 32 goroutines share counters, with sweeps between. No
// limit is passed at any time, and at the end every slot is back.
func TestLocalConcurrent(t *testing.T) {
	l := NewLocal(start)
	const requests, tokens, concurrent = 300, 20_000, 8
	var clock, passed, running, reserved atomic.Int64
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			demands := []Demand{
				{Scope: Key, Tenant: fmt.Sprint("key", g), Requests: 1000},
				{Scope: User, Tenant: "w", Name: fmt.Sprint("user", g%4), Tokens: 1 << 40},
				{Scope: Workspace, Tenant: "w", Requests: requests, Tokens: tokens, Concurrent: concurrent},
				{Scope: Model, Tenant: "w", Name: "m", Requests: requests},
			}
			var v Verdict
			for i := range 500 {
				// All within one minute, so that totals are what may pass.
				now := after(time.Duration(min(clock.Add(int64(time.Millisecond)), int64(50*time.Second))))
				n := int64(10 + i%90)
				l.Reserve(now, demands, n, &v)
				if v.Reason != reason.None {
					l.shards[i%shards].sweep(l.since(now))
					continue
				}
				if r := running.Add(1); r > concurrent {
					t.Errorf("%d at once", r)
				}
				passed.Add(1)
				used := n / 2
				reserved.Add(used)
				running.Add(-1)
				l.Settle(now, demands, Grant{now, n, v.Counted}, used)
			}
		})
	}
	wg.Wait()
	if p := passed.Load(); p != requests && reserved.Load() < tokens/2 || p > requests || reserved.Load() > tokens {
		t.Errorf("%d requests with %d tokens passed; the limits are %d and %d", p, reserved.Load(), requests, tokens)
	}
	for i := range l.shards {
		for id, c := range l.shards[i].counters {
			if c.held != 0 {
				t.Errorf("%v still holds %d slots", id, c.held)
			}
		}
	}
}

// TestLocalForgottenInUse: a request that looked a counter up just before it was
// forgotten leaves the forgotten one alone and finds the one after it.
func TestLocalForgottenInUse(t *testing.T) {
	l := NewLocal(start)
	d := Demand{Scope: Key, Tenant: "k", Concurrent: 1}
	id := identity{Key, "k", ""}
	s := l.shard(&id)
	idle := s.add(id)
	s.sweep(l.since(start))
	if !idle.gone {
		t.Fatal("a forgotten counter does not say so")
	}
	s.mu.Lock()
	s.counters[id] = idle // as a look-up has it that was faster than the sweep
	s.mu.Unlock()
	go func() {
		s.mu.Lock()
		delete(s.counters, id)
		s.mu.Unlock()
	}()
	if l.lock(&d, true) == idle {
		t.Error("the forgotten counter was used")
	}
}

// TestLocalOddCalls: what a caller should not do changes nothing for others.
func TestLocalOddCalls(t *testing.T) {
	l := NewLocal(start)
	d := Demand{Scope: Key, Tenant: "k", Tokens: 10}
	l.Settle(start, []Demand{d}, Grant{start, 10, 1 << Key}, 5)
	if n := l.size(); n != 0 {
		t.Errorf("settling an unknown grant made %d counters", n)
	}
	l.Settle(start, []Demand{d}, Grant{start, 10, 1 << Key}, 25)
	if v := reserve(l, start, -5, d); v.Reason != reason.TokenLimitExceeded {
		t.Errorf("a request for -5 tokens passes in spite of a debt: %v", v.Reason)
	}
	if v := reserve(l, start, 0); v != (Verdict{}) {
		t.Errorf("without demands: %+v", v)
	}
}

// TestLocalMonotonic: the wall clock's jumps change nothing where times carry a
// monotonic reading.
func TestLocalMonotonic(t *testing.T) {
	now := time.Now()
	l := NewLocal(now)
	d := Demand{Scope: Key, Tenant: "k", Requests: 1}
	reserve(l, now, 0, d)
	if v := reserve(l, now.Add(Span-1), 0, d); v.Reason == reason.None {
		t.Error("passed before a minute was over")
	}
	// A grant's time has been written down and has no monotonic reading.
	l.Settle(now.Add(time.Second), []Demand{d}, Grant{now.Round(0).UTC().Truncate(time.Microsecond), 0, 1 << Key}, -1)
	if v := reserve(l, now.Add(Span-1), 0, d); v.Reason != reason.None {
		t.Errorf("a request that was never sent still counts: %v", v.Reason)
	}
}

func fourDemands(k string) []Demand {
	return []Demand{
		{Scope: Key, Tenant: k, Requests: 1 << 40, Tokens: 1 << 40, Concurrent: 1 << 40},
		{Scope: User, Tenant: "w", Name: k, Requests: 1 << 40, Tokens: 1 << 40},
		{Scope: Workspace, Tenant: "w", Requests: 1 << 40, Tokens: 1 << 40},
		{Scope: Model, Tenant: "w", Name: "meta-llama/*", Requests: 1 << 40, Tokens: 1 << 40},
	}
}

func TestLocalDoesNotAllocate(t *testing.T) {
	l := NewLocal(start)
	demands := fourDemands("k")
	unknown := fourDemands("unknown")
	var v Verdict
	l.Reserve(start, demands, 1, &v)
	now := start
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Second)
		l.Reserve(now, demands, 100, &v)
		l.Peek(now, demands, 100, &v)
		l.Peek(now, unknown, 100, &v)
		l.Settle(now, demands, Grant{now, 100, v.Counted}, 120)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkReserveSettle(b *testing.B) {
	l := NewLocal(start)
	var keys atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		demands := fourDemands(fmt.Sprint(keys.Add(1)))
		now := start
		var v Verdict
		for pb.Next() {
			now = now.Add(time.Millisecond)
			l.Reserve(now, demands, 100, &v)
			l.Settle(now, demands, Grant{now, 100, v.Counted}, 80)
		}
	})
}

// BenchmarkSweep is how long a request waits whose turn it is to sweep, with a
// million counters.
func BenchmarkSweep(b *testing.B) {
	l := NewLocal(start)
	for i := range 1_000_000 / shards {
		l.shards[0].add(identity{Key, fmt.Sprint(i), ""}).held = 1
	}
	for b.Loop() {
		l.shards[0].sweep(l.since(start))
	}
}
