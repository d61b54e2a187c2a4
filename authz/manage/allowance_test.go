package manage

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestAllowancesAreBounded: whatever a workspace's changes and their timing, no more
// than the bounds allow comes of them in any stretch of time, whoever waits as long
// as it is told may go on, and others don't matter.
func TestAllowancesAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a allowances
		type written struct {
			at    time.Time
			bytes int
		}
		by := map[string][]written{}
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		now := start
		const largest = 130 << 10
		for range rapid.IntRange(1, 300).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "seconds")) * time.Second)
			id := fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "workspace"))
			if wait := a.spent(now, id); wait > 0 {
				if a.spent(now.Add(wait-time.Second), id) == 0 && wait > time.Second {
					t.Fatalf("it is told to wait for %v, which is too long", wait)
				}
				if now = now.Add(wait); a.spent(now, id) > 0 {
					t.Fatalf("it waited for %v and may not go on", wait)
				}
			}
			whole := rapid.IntRange(500, largest).Draw(t, "bytes")
			w := written{now, whole}
			if !a.take(now, id, whole, 500) {
				w.bytes = 500
			}
			by[id] = append(by[id], w)
		}
		for id, all := range by {
			for i := range all {
				sum := 0
				for j := i; j < len(all); j++ {
					sum += all[j].bytes
					most := trailBurst + trailShortened + largest + int(all[j].at.Sub(all[i].at)/time.Second+1)*trailPerSecond
					if sum > most {
						t.Fatalf("%s: %d bytes in %v", id, sum, all[j].at.Sub(all[i].at))
					}
				}
			}
		}
	})
}

// TestAllowancesForgetWorkspaces that changed nothing lately.
func TestAllowancesForgetWorkspaces(t *testing.T) {
	var a allowances
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 1000 {
		a.take(now.Add(time.Duration(i)*time.Minute), fmt.Sprint(i), 1000, 500)
	}
	if n := len(a.of); n > 2 {
		t.Errorf("%d are remembered", n)
	}
}
