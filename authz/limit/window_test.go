package limit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// event is what a naive log remembers.
type event struct {
	at time.Duration
	n  int64
}

// total is what a log has in the span that ends with now, the span's start
// excluded.
func total(log []event, now, span time.Duration) (sum int64) {
	for _, e := range log {
		if e.at > now-span && e.at <= now {
			sum += e.n
		}
	}
	return sum
}

// TestWindowAgainstLog compares a Window with an exact log: what the log refuses
// is refused, and what a log of a minute and a cell would admit is admitted.
func TestWindowAgainstLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w Window
		var log []event
		var now time.Duration
		limit := rapid.Int64Range(1, 50).Draw(t, "limit")
		step := rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute})
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += time.Duration(rapid.Int64Range(0, int64(step.Draw(t, "scale"))).Draw(t, "pause"))
			n := rapid.Int64Range(1, limit).Draw(t, "n")
			exact, loose := total(log, now, Span), total(log, now, Span+Cell)
			sum := w.Sum(now)
			if sum < exact || sum > loose {
				t.Fatalf("at %v the sum is %d, not from %d to %d", now, sum, exact, loose)
			}
			wait := w.Wait(now, limit, n)
			if (wait == 0) != (sum+n <= limit) {
				t.Fatalf("at %v with %d of %d used, %d more wait %v", now, sum, limit, n, wait)
			}
			if wait > 0 {
				early, late := w, w
				if early.Wait(now+wait-1, limit, n) == 0 {
					t.Fatalf("wait %v is too long", wait)
				}
				if rest := late.Wait(now+wait, limit, n); rest != 0 {
					t.Fatalf("after a wait of %v there is another of %v", wait, rest)
				}
				continue
			}
			w.Add(now, n)
			log = append(log, event{now, n})
			after := w
			if reset := w.Reset(now); after.Sum(now+reset-1) == 0 || after.Sum(now+reset) != 0 {
				t.Fatalf("reset %v is not when the last of it leaves", reset)
			}
		}
	})
}

// TestWindowPaced: a caller that sends exactly at the limit gets 90 % of it or
// more, whatever the limit and wherever in a cell it begins.
func TestWindowPaced(t *testing.T) {
	for limit := int64(1); limit <= 1000; limit += 1 + limit/20 {
		for _, phase := range []time.Duration{0, 1, time.Second, 2500 * time.Millisecond, Cell - 1} {
			var w Window
			var sent, passed int64
			for i := range max(10*limit, 100) {
				now := phase + time.Duration(i*int64(Span)/limit)
				sent++
				if w.Wait(now, limit, 1) == 0 {
					w.Add(now, 1)
					passed++
				}
			}
			if passed*10 < sent*9 {
				t.Errorf("limit %d, phase %v: %d of %d passed", limit, phase, passed, sent)
			}
		}
	}
}

// TestWindowRefund: any mix of additions, refunds and times, also ones that go
// backwards or lie far off, leaves each cell at nothing or more and the sum the
// sum of the cells.
func TestWindowRefund(t *testing.T) {
	times := rapid.OneOf(
		rapid.Int64Range(-int64(time.Minute), int64(5*time.Minute)),
		rapid.SampledFrom([]int64{-1 << 63, 0, int64(Cell), int64(Span), int64(latest)}),
	)
	amounts := rapid.OneOf(rapid.Int64Range(-5, 100), rapid.SampledFrom([]int64{1<<63 - 1, maxCount}))
	rapid.Check(t, func(t *rapid.T) {
		var w Window
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now, at := time.Duration(times.Draw(t, "now")), time.Duration(times.Draw(t, "at"))
			n := amounts.Draw(t, "n")
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				w.Add(now, n)
			case 1:
				w.AddPast(now, at, n)
			case 2:
				w.Refund(now, at, n)
			}
			var sum int64
			for i, c := range w.ring {
				if c.n < 0 {
					t.Fatalf("cell %d holds %d", i, c.n)
				}
				sum += c.n
			}
			if sum != w.sum || sum < 0 {
				t.Fatalf("the sum is %d, of the cells %d", w.sum, sum)
			}
		}
	})
}

func TestWindowRefundOnlyWhileOpen(t *testing.T) {
	var w Window
	w.Add(10*time.Second, 100)
	w.Refund(40*time.Second, 10*time.Second, 60)
	if got := w.Sum(40 * time.Second); got != 40 {
		t.Errorf("after a refund of 60 of 100: %d", got)
	}
	w.Add(69*time.Second, 5)
	w.Refund(71*time.Second, 10*time.Second, 40) // left at 70 s
	if got := w.Sum(71 * time.Second); got != 5 {
		t.Errorf("after a refund that came too late: %d, want 5", got)
	}
	w.Refund(71*time.Second, 131*time.Second, 5) // shares its place in the ring with 69 s
	if got := w.Sum(71 * time.Second); got != 5 {
		t.Errorf("after a refund from the future: %d, want 5", got)
	}
}

// TestWindowBackwards: a late caller's time counts as the latest one, so that
// nothing leaves early and the wait is told from the caller's own time.
func TestWindowBackwards(t *testing.T) {
	var w Window
	w.Add(100*time.Second, 1)
	w.Add(30*time.Second, 1)
	if got := w.Sum(159 * time.Second); got != 2 {
		t.Errorf("a minute later: %d, want 2", got)
	}
	if got := w.Wait(150*time.Second, 2, 1); got != 10*time.Second {
		t.Errorf("wait %v, want 10s", got)
	}
	if got := w.Sum(160 * time.Second); got != 0 {
		t.Errorf("after a minute: %d", got)
	}
}
