package manage

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestRefusalsAreBounded: whatever the actors and their timing, in any stretch of
// time no more is written down than the bounds allow, nothing is lost from the
// count, and memory is bounded.
func TestRefusalsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r refusals
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		actors := rapid.IntRange(1, 20).Draw(t, "actors")
		var all []time.Time
		by := map[string][]time.Time{}
		tried, counted := map[string]int64{}, map[string]int64{}
		for range rapid.IntRange(1, 400).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
			actor := fmt.Sprint(rapid.IntRange(1, actors).Draw(t, "actor"))
			write, suppressed := r.admit(now, actor)
			tried[actor]++
			if write {
				all, by[actor] = append(all, now), append(by[actor], now)
				counted[actor] += suppressed + 1
			}
		}
		check := func(what string, times []time.Time, burst int, every time.Duration) {
			for i := range times {
				for j := i; j < len(times); j++ {
					if n, most := j-i+1, burst+int(times[j].Sub(times[i])/every)+1; n > most {
						t.Fatalf("%s: %d in %v", what, n, times[j].Sub(times[i]))
					}
				}
			}
		}
		check("all", all, allBurst, allEvery)
		for actor, times := range by {
			check(actor, times, actorBurst, actorEvery)
			if left := r.actors[actor].suppressed; counted[actor]+left != tried[actor] {
				t.Fatalf("%s: %d tried, %d told, %d to be told", actor, tried[actor], counted[actor], left)
			}
		}
	})
}

func TestRefusalsForgetActors(t *testing.T) {
	var r refusals
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 3 * maxActors {
		r.admit(now, fmt.Sprint(i))
		if len(r.actors) > maxActors {
			t.Fatalf("%d actors are remembered", len(r.actors))
		}
	}
	if write, _ := r.admit(now, "another"); write {
		t.Error("many actors together are not bounded")
	}
	if write, _ := r.admit(now.Add(time.Hour), "another"); !write {
		t.Error("an hour later nothing is written down")
	}
}
