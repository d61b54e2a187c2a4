package main

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestLastUseBySecret: two secrets of a key each have their own, and a straggler
// by an older one takes neither's place.
func TestLastUseBySecret(t *testing.T) {
	l := &lastUsed{last: func(context.Context, string) (time.Time, error) { return time.Time{}, nil }}
	at := time.UnixMilli(1_800_000_000_000)
	expect := func(secret int, want time.Time) {
		t.Helper()
		got, ok := l.Of("k", secret)
		if ok != !want.IsZero() || ok && !got.Equal(want) {
			t.Errorf("secret %d: %v %t, want %v", secret, got, ok, want)
		}
	}
	l.Touch("k", 0, at) // stored before there was rotation
	expect(0, at)
	expect(1, at)
	expect(2, time.Time{})
	l.Touch("k", 2, at.Add(time.Second))
	l.Touch("k", 1, at.Add(2*time.Second))
	expect(0, at.Add(2*time.Second))
	expect(1, at.Add(2*time.Second))
	expect(2, at.Add(time.Second))
	l.Touch("k", 3, at.Add(3*time.Second))
	l.Touch("k", 1, at.Add(4*time.Second))
	expect(3, at.Add(3*time.Second))
	expect(2, at.Add(time.Second))
	expect(1, time.Time{})
}

// TestLastUseAfterARestart: what the stream knows counts for every secret, but not
// as later than this process began; and an old secret does not look dead because
// it can't be asked.
func TestLastUseAfterARestart(t *testing.T) {
	started := time.UnixMilli(1_800_000_000_000)
	var stored time.Time
	away := errors.New("away")
	asked := 0
	l := &lastUsed{started: started, last: func(context.Context, string) (time.Time, error) {
		asked++
		return stored, away
	}}
	if _, ok := l.Of("k", 0); ok {
		t.Error("known from a stream that is away")
	}
	away, stored = nil, started.Add(-time.Hour)
	for _, secret := range []int{0, 1, 2} {
		if got, ok := l.Of("k", secret); !ok || !got.Equal(stored) {
			t.Errorf("secret %d: %v %t", secret, got, ok)
		}
	}
	l.Touch("k", 2, started.Add(time.Minute))
	if got, _ := l.Of("k", 2); !got.Equal(started.Add(time.Minute)) {
		t.Errorf("the one in use: %v", got)
	}
	if got, _ := l.Of("k", 1); !got.Equal(stored) {
		t.Errorf("the other one: %v", got)
	}
	stored = started.Add(time.Hour) // by this process
	l.Touch("j", 2, stored)
	if got, _ := l.Of("j", 1); !got.Equal(started) {
		t.Errorf("at the latest: %v", got)
	}
	if asked != 3 {
		t.Errorf("asked %d times", asked)
	}
}
