package main

import (
	"sync"
	"sync/atomic"
	"time"

	"tollgate/events/totals"
)

// lastUsed is when each key was last used, and by which of its secrets. It writes
// nothing: what this process has seen is in memory, what was before and what other
// replicas see comes from the totals of usage. Those don't tell the secret, so they
// count for each: a secret that is dead may look used as late as that, and none
// that is in use looks dead.
//
// It is safe for concurrent use.
type lastUsed struct {
	totals func(workspace, keyID string) time.Time // of the newest event; zero: there is none
	keys   sync.Map                                // key id → *keyUse
}

// keyUse is the last use of a key. Two secrets of a key are valid at most, of
// numbers that follow each other but for rotations of a rotating key, so two
// places are enough for the ones that anybody asks about.
type keyUse struct {
	any     atomic.Int64     // Unix milliseconds, by whichever secret; 0: never
	secrets [2]atomic.Uint64 // at number % 2: the number above useBits, milliseconds below

	elsewhere atomic.Int64 // before this process or at other replicas, Unix milliseconds; 0: never
}

// useBits are enough for the milliseconds until the year 2527.
const useBits = 44

func newLastUsed(f *totals.Folder) *lastUsed {
	return &lastUsed{totals: func(workspace, keyID string) time.Time { return f.OfKey(workspace, keyID).LastUsed }}
}

// Touch notes that a secret of a key was used.
func (l *lastUsed) Touch(id string, secret int, now time.Time) {
	l.of(id).touch(max(1, secret), now)
}

func (l *lastUsed) of(id string) *keyUse {
	use, ok := l.keys.Load(id)
	if !ok {
		use, _ = l.keys.LoadOrStore(id, new(keyUse))
	}
	return use.(*keyUse)
}

func (u *keyUse) touch(secret int, now time.Time) {
	ms := now.UnixMilli()
	u.any.Store(ms)
	place, value := &u.secrets[secret%2], uint64(secret)<<useBits|uint64(ms)
	// A straggler by a secret that is long dead does not take its successor's place.
	for old := place.Load(); old < value && !place.CompareAndSwap(old, value); old = place.Load() {
	}
}

// by is the last use by a secret here; 0: none.
func (u *keyUse) by(secret int) (ms int64) {
	value := u.secrets[secret%2].Load()
	if int(value>>useBits) != secret {
		return 0
	}
	return int64(value & (1<<useBits - 1))
}

// Of returns when a key was last used by the secret of a number or, with 0, by
// any; false: never, as far as is known.
func (l *lastUsed) Of(workspace, id string, secret int) (time.Time, bool) {
	use := l.of(id)
	here := use.any.Load()
	// What was used here comes to the totals too, and not as later than here.
	if t := l.totals(workspace, id); !t.IsZero() && t.UnixMilli() > here {
		rise(&use.elsewhere, t.UnixMilli())
	}
	if secret != 0 {
		here = use.by(secret)
	}
	ms := max(here, use.elsewhere.Load())
	return time.UnixMilli(ms), ms != 0
}

// rise makes a value at least ms.
func rise(value *atomic.Int64, ms int64) {
	for old := value.Load(); old < ms && !value.CompareAndSwap(old, ms); old = value.Load() {
	}
}
