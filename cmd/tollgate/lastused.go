package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/events"
)

// lastUsed is when each key was last used, and by which of its secrets. It writes
// nothing: what this process has seen is in memory, what was before is the newest
// usage event of the key. That one does not tell the secret, so it counts for
// each: a secret that is dead may look used as late as that, and none that is in
// use looks dead. What other replicas see by other secrets is not in it.
//
// It is safe for concurrent use.
type lastUsed struct {
	last    func(ctx context.Context, keyID string) (time.Time, error) // of the newest event; zero: there is none
	started time.Time
	keys    sync.Map // key id → *keyUse
}

// keyUse is the last use of a key. Two secrets of a key are valid at most, of
// numbers that follow each other but for rotations of a rotating key, so two
// places are enough for the ones that anybody asks about.
type keyUse struct {
	any     atomic.Int64     // Unix milliseconds, by whichever secret; 0: never
	secrets [2]atomic.Uint64 // at number % 2: the number above useBits, milliseconds below

	asked  atomic.Bool  // the stream was, and before is set
	before atomic.Int64 // when it was used before this process, at the latest; 0: never
}

// useBits are enough for the milliseconds until the year 2527.
const useBits = 44

func newLastUsed(stream *events.Usage) *lastUsed {
	return &lastUsed{last: stream.LastOf, started: time.Now()}
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
func (l *lastUsed) Of(id string, secret int) (time.Time, bool) {
	use := l.of(id)
	l.ask(id, use)
	ms := use.any.Load()
	if secret != 0 {
		ms = use.by(secret)
	}
	ms = max(ms, use.before.Load())
	return time.UnixMilli(ms), ms != 0
}

// ask asks the stream, once, when a key was used before this process.
func (l *lastUsed) ask(id string, use *keyUse) {
	if use.asked.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	when, err := l.last(ctx, id)
	if err != nil {
		return // asked again next time
	}
	if !when.IsZero() {
		use.before.Store(min(when.UnixMilli(), l.started.UnixMilli()))
	}
	use.asked.Store(true)
}
