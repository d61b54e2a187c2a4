package authz

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// admitted is an admission of the model: what the world knows of it.
type admitted struct {
	until   time.Time
	made    bool // the upstream made one
	settled int  // how often its settlement arrived
	counted bool // one of those said that it was made
}

// world is a Tally and what it must agree with: what upstreams really made, in
// whatever order and however often replicas tell of it.
type world struct {
	now     time.Time
	most    int64
	tally   Tally
	open    map[string]*admitted
	made    int64 // counted creations
	removed int64
	late    int64 // settlements that came when their place was over
	next    int
}

func (w *world) ids() []string {
	ids := make([]string, 0, len(w.open))
	for id := range w.open {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// settle tells the tally what became of an admission, as the drain does.
func (w *world) settle(id string, made bool) {
	a := w.open[id]
	_, held := w.tally.Held[id]
	delta := int64(0)
	if made {
		delta = 1
	}
	w.tally.Free(id)
	if delta != 0 && w.tally.Change(id, delta) {
		if a.counted {
			panic("counted twice")
		}
		a.counted = true
		w.made++
		if !held || !w.now.Before(a.until) {
			w.late++
		}
	}
	a.settled++
}

// The cap holds whatever the order of reservations, settlements, their repetitions
// and kills; the count is what was made less what was removed; nothing is held for
// longer than its time.
func TestTallyModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{now: start, most: int64(rapid.IntRange(1, 4).Draw(t, "most")), open: map[string]*admitted{}}
		one := func(t *rapid.T) string {
			ids := w.ids()
			if len(ids) == 0 {
				t.Skip("nothing is open")
			}
			return rapid.SampledFrom(ids).Draw(t, "id")
		}
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(*rapid.T) {
				id := fmt.Sprint(w.next)
				w.next++
				before := w.tally.Taken(w.now)
				got := w.tally.Reserve(w.now, w.most, id, w.now.Add(time.Minute))
				if got != (before < w.most) {
					t.Fatalf("reserved %t with %d of %d taken", got, before, w.most)
				}
				if got {
					w.open[id] = &admitted{until: w.now.Add(time.Minute)}
				}
			},
			"reserve again": func(t *rapid.T) {
				id := one(t)
				_, held := w.tally.Held[id]
				before := w.tally.Taken(w.now)
				if held && w.now.Before(w.open[id].until) && (!w.tally.Reserve(w.now, w.most, id, w.open[id].until) || w.tally.Taken(w.now) != before) {
					t.Fatal("a repetition changed something")
				}
			},
			"succeed": func(t *rapid.T) { id := one(t); w.open[id].made = true; w.settle(id, true) },
			"fail": func(t *rapid.T) {
				if id := one(t); !w.open[id].made {
					w.settle(id, false)
				}
			},
			"say again what was said": func(t *rapid.T) {
				if id := one(t); w.open[id].settled > 0 {
					w.settle(id, w.open[id].made)
				}
			},
			"remove": func(*rapid.T) {
				if w.tally.Count == 0 {
					t.Skip("nothing to remove")
				}
				name := "removal " + fmt.Sprint(w.next)
				w.next++
				if !w.tally.Change(name, -1) || w.tally.Change(name, -1) {
					t.Fatal("a removal did not count, or twice")
				}
				w.removed++
			},
			"time": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second)
			},
			"": func(t *rapid.T) {
				if w.tally.Count != w.made-w.removed {
					t.Fatalf("the count is %d: %d made, %d removed", w.tally.Count, w.made, w.removed)
				}
				// What was settled in time never goes beyond the cap.
				if over := w.tally.Taken(w.now) - w.most; over > w.late {
					t.Fatalf("%d more than the cap of %d, and %d were late", over, w.most, w.late)
				}
				for id, until := range w.tally.Held {
					if a := w.open[id]; a == nil || a.settled > 0 || !until.Equal(a.until) {
						t.Fatalf("%s is held until %v: %+v", id, until, a)
					}
				}
			},
		})
		w.now = w.now.Add(time.Hour)
		if w.tally.Taken(w.now) != w.tally.Count {
			t.Fatal("something is held for ever")
		}
	})
}

func TestTallyIsBounded(t *testing.T) {
	var tally Tally
	for n := range 3 * maxHeld {
		if got := tally.Reserve(start, 1<<40, fmt.Sprint(n), start.Add(time.Hour)); got != (n < maxHeld) {
			t.Fatalf("place %d: %t", n, got)
		}
	}
	for n := range 3 * maxDone {
		tally.Change(fmt.Sprint(n), 1)
	}
	if len(tally.Done) != maxDone || tally.Count != 3*maxDone {
		t.Errorf("%d changes are remembered, %d were counted", len(tally.Done), tally.Count)
	}
	if tally.Change(fmt.Sprint(3*maxDone-1), 1) {
		t.Error("the last change counts twice")
	}
	tally = Tally{}
	if !tally.Change("a", -1) || tally.Count != 0 {
		t.Errorf("less than nothing: %d", tally.Count)
	}
}
