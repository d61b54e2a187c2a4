package manage

import (
	"sync"
	"time"
)

// The audit trail is one stream of bounded size, for all. So what a tenant's changes
// add to it is bounded, for each workspace and at each replica: trailBurst at once
// and trailPerSecond after that, of which a tenant alone doesn't fill the stream
// within the year that it keeps. Beyond that its entries are shortened, and beyond
// trailShortened of these its changes are refused until there is room: entries of what
// was done are never left out. What takes away (a revocation, a suspension, a deletion) is
// never refused.
const (
	trailBurst     = 4 << 20   // bytes
	trailPerSecond = 64        // bytes
	trailShortened = 256 << 10 // bytes
)

// allowances are what each workspace's changes added lately. The zero value is empty.
// It is safe for concurrent use. It holds no more workspaces than there were lately.
type allowances struct {
	mu sync.Mutex // guards what follows
	of map[string]*allowance
}

type allowance struct {
	used  int64 // bytes
	since time.Time
}

// take notes an entry and reports whether it may be written whole; else it is to be
// shortened.
func (a *allowances) take(now time.Time, workspace string, whole, short int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.at(now, workspace)
	if w.used+int64(whole) <= trailBurst {
		w.used += int64(whole)
		return true
	}
	w.used += int64(short)
	return false
}

// spent is for how long nothing more may be changed; 0: it may.
func (a *allowances) spent(now time.Time, workspace string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	over := a.at(now, workspace).used - (trailBurst + trailShortened)
	if over < 0 {
		return 0
	}
	return time.Duration(over/trailPerSecond+1) * time.Second
}

// at is a workspace's allowance at a time; a.mu is held.
func (a *allowances) at(now time.Time, workspace string) *allowance {
	w := a.of[workspace]
	if w == nil {
		for id, old := range a.of { // those of whom there is nothing to remember
			if old.settle(now); old.used == 0 {
				delete(a.of, id)
			}
		}
		if a.of == nil {
			a.of = map[string]*allowance{}
		}
		w = &allowance{since: now}
		a.of[workspace] = w
	}
	w.settle(now)
	return w
}

// settle gives back what time has.
func (w *allowance) settle(now time.Time) {
	if s := int64(now.Sub(w.since) / time.Second); s > 0 {
		w.used = max(w.used-s*trailPerSecond, 0)
		w.since = w.since.Add(time.Duration(s) * time.Second)
	}
}
