package cache

import (
	"maps"
	"sync"
	"time"
)

// pace lets each workspace do something so many times at once, and then once in each
// `each`. What it knows is this replica's.
//
// It is safe for concurrent use.
type pace struct {
	each   time.Duration
	atOnce int

	mu sync.Mutex
	// rested is when a workspace has all its times again; who isn't there has them.
	// It has no more entries than the catalog has workspaces, or twice those that
	// were busy when it was last looked through. Guarded by mu, as sweepAt.
	rested  map[string]time.Time
	sweepAt int
}

const leastSweep = 1024

func newPace(each time.Duration, atOnce int) *pace {
	return &pace{each: each, atOnce: atOnce, rested: map[string]time.Time{}, sweepAt: leastSweep}
}

// take takes one of a workspace's times. It returns how long to wait where there is
// none, and takes nothing then.
func (p *pace) take(now time.Time, workspace string) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rested := p.rested[workspace]
	if rested.Before(now) {
		rested = now
	}
	rested = rested.Add(p.each)
	if wait = rested.Sub(now) - time.Duration(p.atOnce)*p.each; wait > 0 {
		return wait
	}
	p.rested[workspace] = rested
	if len(p.rested) >= p.sweepAt {
		maps.DeleteFunc(p.rested, func(_ string, rested time.Time) bool { return !now.Before(rested) })
		p.sweepAt = max(leastSweep, 2*len(p.rested))
	}
	return 0
}
