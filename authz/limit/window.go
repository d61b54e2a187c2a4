package limit

import "time"

const (
	// Span is what a limit per minute looks back on.
	Span = 60 * time.Second
	// Cell is how much of it shares one count; the package comment has the
	// reason for its length.
	Cell = 5 * time.Second

	// cells is how many of them can touch a Span.
	cells = int(Span/Cell) + 1
	// maxCount is where a cell stops counting, so that no sum overflows.
	maxCount = 1 << 58
)

// Window counts what happened in the last Span. The zero Window is empty and
// ready to use. Times are durations since any fixed instant, at least 0; a time
// before the latest one that the Window has seen counts as the latest, so that
// a late caller neither reopens nor corrupts anything.
//
// A cell counts until its own latest event is a Span ago, which is never too
// early for any event in it, and at most Cell too late for the others.
type Window struct {
	now    time.Duration // the latest time seen
	newest int64         // the number of the cell that now is in
	head   int           // where it is in the ring; the oldest is behind it
	sum    int64         // of the ring
	ring   [cells]cell
}

type cell struct {
	n    int64
	last time.Duration // the time of the latest event counted in n
}

// advance drops what has left the Span by now, and returns now or, if that is
// later, the latest time seen.
func (w *Window) advance(now time.Duration) time.Duration {
	w.now = max(w.now, now)
	number := int64(w.now / Cell)
	for range min(number-w.newest, int64(cells)) {
		w.head = (w.head + 1) % cells
		w.drop(&w.ring[w.head])
	}
	w.newest = number
	// Only the oldest cell can have left while the Span still touches it.
	if oldest := &w.ring[(w.head+1)%cells]; oldest.last+Span <= w.now {
		w.drop(oldest)
	}
	return w.now
}

func (w *Window) drop(c *cell) {
	w.sum -= c.n
	*c = cell{}
}

// cell returns the cell that the time at is in, or nil if the ring has it no
// more, or not yet.
func (w *Window) cell(at time.Duration) *cell {
	back := w.newest - int64(at/Cell)
	if at < 0 || back < 0 || back >= int64(cells) {
		return nil
	}
	return &w.ring[(w.head-int(back)+cells)%cells]
}

// Sum returns what counts at now.
func (w *Window) Sum(now time.Duration) int64 {
	w.advance(now)
	return w.sum
}

// Add counts n at now.
func (w *Window) Add(now time.Duration, n int64) { w.put(w.advance(now), n) }

// AddPast counts n at the time at, which is not after now (if it is, at now);
// nothing if that is a Span ago or more.
func (w *Window) AddPast(now, at time.Duration, n int64) {
	now = w.advance(now)
	if at = min(at, now); at+Span > now {
		w.put(at, n)
	}
}

func (w *Window) put(at time.Duration, n int64) {
	c := w.cell(at)
	if c == nil || n <= 0 {
		return
	}
	n = min(n, maxCount-c.n)
	c.n += n
	c.last = max(c.last, at)
	w.sum += n
}

// Refund takes back up to n of what was counted at the time at, as long as that
// still counts. A cell never has less than nothing.
func (w *Window) Refund(now, at time.Duration, n int64) {
	w.advance(now)
	if c := w.cell(at); c != nil && n > 0 {
		n = min(n, c.n)
		c.n -= n
		w.sum -= n
	}
}

// Wait returns how long after now the first time is at which n more are within
// limit, if nothing else happens; 0 if they are now. n is at most limit.
func (w *Window) Wait(now time.Duration, limit, n int64) time.Duration {
	w.advance(now)
	excess := w.sum - (limit - n)
	if excess <= 0 {
		return 0
	}
	var wait time.Duration
	for i := 1; i <= cells && excess > 0; i++ {
		if c := &w.ring[(w.head+i)%cells]; c.n > 0 {
			excess -= c.n
			wait = c.last + Span - now
		}
	}
	return wait
}

// Reset returns how long after now nothing of what counts is left, if nothing
// else happens.
func (w *Window) Reset(now time.Duration) time.Duration {
	w.advance(now)
	for i := range cells {
		if c := &w.ring[(w.head-i+cells)%cells]; c.n > 0 {
			return c.last + Span - now
		}
	}
	return 0
}
