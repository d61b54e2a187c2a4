package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/events"
)

// lastUsed is when each key was last let through. It writes nothing: what this
// process has seen is in memory, what was before is the newest usage event of the
// key. It is safe for concurrent use.
type lastUsed struct {
	stream *events.Usage
	keys   sync.Map // key id → *atomic.Int64, Unix milliseconds; 0: never
}

func newLastUsed(stream *events.Usage) *lastUsed { return &lastUsed{stream: stream} }

// Touch notes that a key was let through.
func (l *lastUsed) Touch(id string, now time.Time) {
	at, ok := l.keys.Load(id)
	if !ok {
		at, _ = l.keys.LoadOrStore(id, new(atomic.Int64))
	}
	at.(*atomic.Int64).Store(now.UnixMilli())
}

// Of returns when a key was last let through; false: never, as far as is known.
func (l *lastUsed) Of(id string) (time.Time, bool) {
	at, ok := l.keys.Load(id)
	if !ok {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var known atomic.Int64
		switch when, err := l.stream.LastOf(ctx, id); {
		case err != nil:
			return time.Time{}, false // asked again next time
		case !when.IsZero():
			known.Store(when.UnixMilli())
		}
		at, _ = l.keys.LoadOrStore(id, &known)
	}
	ms := at.(*atomic.Int64).Load()
	return time.UnixMilli(ms), ms != 0
}
