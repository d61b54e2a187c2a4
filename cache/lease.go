package cache

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Lease is a replica's right to answer by what it knows. It is granted by proofs
// that the replica is current, and runs out by itself: what a replica that is cut
// off, or was stopped, does not know can't do harm for longer than the bound.
//
// A proof is something that was sent through the store and came back behind
// everything that the store had before it. What counts is when it was sent, not
// when it came back: then everything that is stored after the lease began is
// unknown for the bound at most. See docs/design/replicas.md.
//
// All methods are safe for concurrent use.
type Lease struct {
	bound time.Duration
	clock func() time.Duration
	from  atomic.Int64 // the clock at the time of sending of the newest proof, in ns; noLease: none

	mu    sync.Mutex // serialises grants and GiveUp; guards given
	given int        // how often the lease was given up
}

const noLease = math.MinInt64

// NewLease makes a lease that holds for bound after the sending of a proof, and
// does not hold before the first. It is measured by a clock that goes on while
// the machine sleeps, where the system has one.
func NewLease(bound time.Duration) *Lease { return NewLeaseBy(bound, sinceBoot) }

// NewLeaseBy is NewLease with a clock of one's own: the time since any moment. It
// must never go back.
func NewLeaseBy(bound time.Duration, clock func() time.Duration) *Lease {
	l := &Lease{bound: bound, clock: clock}
	l.from.Store(noLease)
	return l
}

// Begin is to be called before a proof is sent, and grant when it came back. Then
// the lease holds until the time of Begin + the bound, or longer if it did
// already. A grant after GiveUp, of a proof that was sent before, grants nothing.
func (l *Lease) Begin() (grant func()) {
	l.mu.Lock()
	given := l.given
	l.mu.Unlock()
	sent := int64(l.clock())
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if given == l.given && sent > l.from.Load() {
			l.from.Store(sent)
		}
	}
}

// Valid reports whether the lease holds. It takes no lock and allocates nothing.
func (l *Lease) Valid() bool {
	from := l.from.Load()
	return from != noLease && l.clock()-time.Duration(from) < l.bound
}

// GiveUp ends the lease at once, until a proof comes back that is sent after it.
func (l *Lease) GiveUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.given++
	l.from.Store(noLease)
}

// Age is how long ago the proof was sent that the lease goes by. Where there is
// no lease it is the longest duration there is.
func (l *Lease) Age() time.Duration {
	from := l.from.Load()
	if from == noLease {
		return math.MaxInt64
	}
	return l.clock() - time.Duration(from)
}
