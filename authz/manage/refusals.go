package manage

import (
	"sync"
	"time"
)

// refusals bounds how many refused requests go into the audit trail, so that a
// stranger, or a tenant's script that runs wild, doesn't fill it: of each actor
// some at once and then one a minute, and of all together some at once and then a
// few a minute. What is left out is counted and told with the next that is not.
// The zero value is empty. It is safe for concurrent use.
type refusals struct {
	mu     sync.Mutex // guards everything below
	all    bucket
	actors map[string]*refused
}

// refused are one actor's.
type refused struct {
	bucket
	suppressed int64
}

const (
	actorBurst, allBurst = 10, 60
	actorEvery           = time.Minute
	allEvery             = 15 * time.Second
	// maxActors bounds the memory; those that refused nothing lately go first.
	maxActors = 4096
)

// admit reports whether a refusal is to be written down and, if so, how many of
// the actor's were not since the last one that was.
func (r *refusals) admit(now time.Time, actor string) (write bool, suppressed int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	by := r.actors[actor]
	if by == nil {
		by = r.add(now, actor)
	}
	if !by.has(now, actorBurst, actorEvery) || !r.all.has(now, allBurst, allEvery) {
		by.suppressed++
		return false, 0
	}
	by.take()
	r.all.take()
	suppressed, by.suppressed = by.suppressed, 0
	return true, suppressed
}

// add makes room for an actor, by forgetting those of whom there is nothing to
// tell or, if that is not enough, everybody.
func (r *refusals) add(now time.Time, actor string) *refused {
	if len(r.actors) >= maxActors {
		for name, by := range r.actors {
			if by.suppressed == 0 && by.full(now, actorBurst, actorEvery) {
				delete(r.actors, name)
			}
		}
	}
	if r.actors == nil || len(r.actors) >= maxActors {
		r.actors = map[string]*refused{} // all still bounds what is written
	}
	by := &refused{}
	r.actors[actor] = by
	return by
}

// bucket holds burst things at most and gets one more each time every has passed.
// The zero value is full.
type bucket struct {
	taken int64     // how many are missing
	since time.Time // when the last one came back, or the first one was taken
}

func (b *bucket) has(now time.Time, burst int64, every time.Duration) bool {
	if b.taken > 0 {
		if back := int64(now.Sub(b.since) / every); back > 0 {
			b.taken = max(b.taken-back, 0)
			b.since = b.since.Add(time.Duration(back) * every)
		}
	}
	if b.taken == 0 {
		b.since = now
	}
	return b.taken < burst
}

func (b *bucket) take() { b.taken++ }

func (b *bucket) full(now time.Time, burst int64, every time.Duration) bool {
	return b.has(now, burst, every) && b.taken == 0
}
