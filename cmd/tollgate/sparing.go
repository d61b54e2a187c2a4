package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// sparing is a log that a fault doesn't fill: while NATS is away or the disk is full,
// each of a thousand requests a second has something to say. Of warnings and errors
// with one message, the first are written at once. What follows within sparingTime is
// counted, and when that is over the last of it is written, with how many times there
// were. So nothing that goes on is silent for longer than that.
//
// It is safe for concurrent use, and shared by what With and WithGroup make of it.
type sparing struct {
	next slog.Handler
	part string // what With added: other parts have messages of their own
	said *said
}

const (
	sparingTime = 10 * time.Second
	// firstWarnings and firstErrors are how many lines of one message are written at
	// once. Errors are rarer, and each may be about something else.
	firstWarnings, firstErrors = 1, 10
	// onlyRecord is the attribute of a line that is all there is of what it tells:
	// an audit entry that could not be stored.
	onlyRecord = "entry"
)

// said is what a log has said of late.
type said struct {
	mu    sync.Mutex
	lines map[string]*saidLine // by level, part and message; each for as long as it is said
}

// saidLine is one message, since less than sparingTime.
type saidLine struct {
	written int
	spared  int
	last    slog.Record  // of those
	to      slog.Handler // that this one goes to
	timer   *time.Timer
}

func newSparing(next slog.Handler) *sparing {
	return &sparing{next: next, said: &said{lines: map[string]*saidLine{}}}
}

// Enabled implements slog.Handler.
func (s *sparing) Enabled(ctx context.Context, level slog.Level) bool {
	return s.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (s *sparing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &sparing{s.next.WithAttrs(attrs), s.part + fmt.Sprint(attrs), s.said}
}

// WithGroup implements slog.Handler.
func (s *sparing) WithGroup(name string) slog.Handler {
	return &sparing{s.next.WithGroup(name), s.part + name + " ", s.said}
}

// Handle implements slog.Handler.
func (s *sparing) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn || isOnlyRecord(r) || s.said.now(s, r) {
		return s.next.Handle(ctx, r)
	}
	return nil
}

func isOnlyRecord(r slog.Record) (is bool) {
	r.Attrs(func(a slog.Attr) bool {
		is = a.Key == onlyRecord
		return !is
	})
	return is
}

// now reports whether a line is to be written now, else keeps it.
func (d *said) now(s *sparing, r slog.Record) bool {
	first := firstWarnings
	if r.Level >= slog.LevelError {
		first = firstErrors
	}
	key := r.Level.String() + " " + s.part + r.Message
	d.mu.Lock()
	defer d.mu.Unlock()
	line := d.lines[key]
	if line == nil {
		line = &saidLine{}
		line.timer = time.AfterFunc(sparingTime, func() { d.over(key) })
		d.lines[key] = line
	}
	if line.written < first {
		line.written++
		return true
	}
	line.spared++
	line.last, line.to = r.Clone(), s.next
	return false
}

// over ends the time of a message, and begins another one where it is still said.
func (d *said) over(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	line := d.lines[key]
	if line == nil {
		return // flush was first
	}
	if line.spared == 0 {
		delete(d.lines, key)
		return
	}
	line.write()
	line.timer.Reset(sparingTime)
}

// write writes what was kept, if anything was. The lock is held: what is said after it
// comes after it.
func (l *saidLine) write() {
	if l.spared == 0 {
		return
	}
	l.last.AddAttrs(slog.Int("times", l.spared))
	_ = l.to.Handle(context.Background(), l.last) // there is nowhere else to say it
	l.spared = 0
}

// flush writes all that was kept, as before the process ends.
func (s *sparing) flush() {
	s.said.mu.Lock()
	defer s.said.mu.Unlock()
	for _, line := range s.said.lines {
		line.timer.Stop()
		line.write()
	}
	clear(s.said.lines)
}
