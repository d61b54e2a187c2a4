package limit

import (
	"hash/maphash"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/authz/reason"
)

const (
	shards = 256
	// Each time this has passed one shard is swept, so that an idle counter is
	// forgotten about one Span after it became idle.
	sweepEvery = Span / shards
	// latest keeps sums of times in range.
	latest = time.Duration(1) << 62
)

// Local is the Limiter of one replica: counters in memory, nothing else.
//
// Each counter has its lock and nothing is shared by all of them but a table,
// cut into shards, that is locked for the look-up. A request locks its counters
// in order of Scope; inside of a counter's lock a shard may be locked, and
// inside of a shard's lock counters are only tried: so nothing waits in a ring.
//
// A counter is forgotten once it holds no slot and nothing of it counts any
// more: memory is bounded by the callers of the last two minutes or so, and
// forgetting never gives anything back.
type Local struct {
	epoch  time.Time
	seed   maphash.Seed
	due    atomic.Int64 // when the next shard is swept: a time since epoch
	turn   atomic.Uint32
	shards [shards]shard
}

type shard struct {
	mu       sync.RWMutex // guards the map, not what is in the counters
	counters map[identity]*counter
	peak     int // most entries since the map was made
}

// identity is a Demand's.
type identity struct {
	scope        Scope
	tenant, name string
}

var _ Limiter = (*Local)(nil)

// NewLocal returns a Local without any counts. start is any time of the clock
// that later calls pass as now, such as the present. If both have a monotonic
// reading, that is what counts, and setting the clock changes nothing.
func NewLocal(start time.Time) *Local {
	l := &Local{seed: maphash.MakeSeed()}
	// Grants of before a restart are restored: leave room for them. Cells begin
	// at whole multiples of their length, on every replica.
	l.epoch = start.Add(-2*Span - time.Duration(start.UnixNano()%int64(Cell)))
	for i := range l.shards {
		l.shards[i].counters = make(map[identity]*counter)
	}
	return l
}

// since turns a time into what Window counts in.
func (l *Local) since(t time.Time) time.Duration {
	return min(max(t.Sub(l.epoch), 0), latest)
}

// Reserve implements Limiter. It allocates only for a counter that is new.
func (l *Local) Reserve(now time.Time, demands []Demand, tokens int64, v *Verdict) {
	t := l.since(now)
	l.sweep(t)
	tokens = max(tokens, 0)
	*v = Verdict{}
	var counters [Scopes]*counter
	for i := range demands {
		if demands[i].limits() {
			counters[i] = l.lock(&demands[i], true)
		}
	}
	judge(t, demands, &counters, tokens, v)
	if v.Reason == reason.None {
		for i := range demands {
			if c := counters[i]; c != nil {
				c.take(t, tokens)
				v.Counted |= 1 << demands[i].Scope
			}
		}
	}
	tell(t, demands, &counters, v)
	unlock(&counters)
}

// Peek implements Limiter. It makes no counters.
func (l *Local) Peek(now time.Time, demands []Demand, tokens int64, v *Verdict) {
	t := l.since(now)
	*v = Verdict{}
	var counters, locked [Scopes]*counter
	var unused [Scopes]counter // nobody else's, so without a lock
	for i := range demands {
		if !demands[i].limits() {
			continue
		}
		counters[i] = &unused[i]
		if locked[i] = l.lock(&demands[i], false); locked[i] != nil {
			counters[i] = locked[i]
		}
	}
	judge(t, demands, &counters, max(tokens, 0), v)
	tell(t, demands, &counters, v)
	unlock(&locked)
}

// Settle implements Limiter. Of a grant that this Local does not know, only
// the debt counts.
func (l *Local) Settle(now time.Time, demands []Demand, g Grant, used int64) {
	t, at := l.since(now), l.since(g.At)
	reserved := max(g.Tokens, 0)
	for i := range demands {
		if !g.Counted.Has(demands[i].Scope) {
			continue
		}
		if c := l.lock(&demands[i], used > reserved); c != nil {
			c.settle(t, at, reserved, used)
			c.mu.Unlock()
		}
	}
}

// Restore implements Limiter.
func (l *Local) Restore(now time.Time, demands []Demand, g Grant) {
	t, at := l.since(now), l.since(g.At)
	for i := range demands {
		if g.Counted.Has(demands[i].Scope) {
			c := l.lock(&demands[i], true)
			c.restore(t, at, g.Tokens)
			c.mu.Unlock()
		}
	}
}

// limits reports whether the demand has any limit.
func (d *Demand) limits() bool { return d.Requests > 0 || d.Tokens > 0 || d.Concurrent > 0 }

// lock returns the demand's counter, locked. If there is none it makes one, or
// returns nil.
func (l *Local) lock(d *Demand, create bool) *counter {
	id := identity{d.Scope, d.Tenant, d.Name}
	s := l.shard(&id)
	for {
		s.mu.RLock()
		c := s.counters[id]
		s.mu.RUnlock()
		if c == nil {
			if !create {
				return nil
			}
			c = s.add(id)
		}
		c.mu.Lock()
		if !c.gone {
			return c
		}
		c.mu.Unlock()
	}
}

func unlock(counters *[Scopes]*counter) {
	for _, c := range counters {
		if c != nil {
			c.mu.Unlock()
		}
	}
}

func (l *Local) shard(id *identity) *shard {
	h := maphash.String(l.seed, id.tenant)*31 + maphash.String(l.seed, id.name) + uint64(id.scope)
	return &l.shards[h%shards]
}

func (s *shard) add(id identity) *counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counters[id]
	if c == nil {
		c = new(counter)
		// The caller's strings may be part of something large.
		id.tenant, id.name = strings.Clone(id.tenant), strings.Clone(id.name)
		s.counters[id] = c
		s.peak = max(s.peak, len(s.counters))
	}
	return c
}

// sweep forgets the idle counters of the shard whose turn it is, if it is time.
func (l *Local) sweep(now time.Duration) {
	due := l.due.Load()
	if int64(now) < due || !l.due.CompareAndSwap(due, int64(now+sweepEvery)) {
		return
	}
	l.shards[l.turn.Add(1)%shards].sweep(now)
}

func (s *shard) sweep(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, c := range s.counters {
		if !c.mu.TryLock() {
			continue // in use
		}
		if c.idle(now) {
			c.gone = true
			delete(s.counters, id)
		}
		c.mu.Unlock()
	}
	// A map keeps the room it once had.
	if n := len(s.counters); s.peak > 64 && n < s.peak/4 {
		smaller := make(map[identity]*counter, n)
		maps.Copy(smaller, s.counters)
		s.counters, s.peak = smaller, n
	}
}
