package main

import (
	"testing"
	"time"
)

// TestLastUseBySecret: two secrets of a key each have their own, and a straggler
// by an older one takes neither's place.
func TestLastUseBySecret(t *testing.T) {
	l := &lastUsed{totals: func(string, string) time.Time { return time.Time{} }}
	at := time.UnixMilli(1_800_000_000_000)
	expect := func(secret int, want time.Time) {
		t.Helper()
		got, ok := l.Of("w", "k", secret)
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

// TestLastUseElsewhere: what the totals know and this process doesn't counts for
// every secret, and goes on to when the key is used here; what was used here comes
// back from the totals and makes no other secret look used.
func TestLastUseElsewhere(t *testing.T) {
	began := time.UnixMilli(1_800_000_000_000)
	var folded time.Time
	l := &lastUsed{totals: func(string, string) time.Time { return folded }}
	expect := func(secret int, want time.Time) {
		t.Helper()
		if got, ok := l.Of("w", "k", secret); ok != !want.IsZero() || ok && !got.Equal(want) {
			t.Errorf("secret %d: %v %t, want %v", secret, got, ok, want)
		}
	}
	expect(0, time.Time{})
	folded = began.Add(-time.Hour) // before this process
	for _, secret := range []int{0, 1, 2} {
		expect(secret, folded)
	}
	l.Touch("k", 2, began)
	folded = began // the event of that
	expect(0, began)
	expect(2, began)
	expect(1, began.Add(-time.Hour))
	folded = began.Add(time.Minute) // at another replica
	for _, secret := range []int{0, 1, 2} {
		expect(secret, folded)
	}
}
