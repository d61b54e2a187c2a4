package journal

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// Of a Settle and many Releases at the same time one wins, and what was released
// leaves nothing behind: no event, no open admission, no room taken.
func TestRelease(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, small())
	released, events := 0, 0
	for i := range 200 {
		ref := mustAdmit(t, j, "a")
		var won, settled atomic.Int64
		var wg sync.WaitGroup
		settle := func() {
			if err := j.Settle(ref, event("a")); err == nil {
				settled.Add(1)
			} else if !errors.Is(err, ErrSettled) {
				t.Error(err)
			}
		}
		if i%2 == 0 { // who is started last is often the first to run
			wg.Go(settle)
		}
		for range 3 {
			wg.Go(func() {
				if err := j.Release(ref); err == nil {
					won.Add(1)
				} else if !errors.Is(err, ErrSettled) {
					t.Error(err)
				}
			})
		}
		if i%2 != 0 {
			wg.Go(settle)
		}
		wg.Wait()
		if won.Load()+settled.Load() != 1 {
			t.Fatalf("%d released and %d settled one admission", won.Load(), settled.Load())
		}
		released += int(won.Load())
		events += int(settled.Load())
	}
	if got := len(drain(t, j)); got != events || released == 0 || events == 0 {
		t.Errorf("%d events of %d settlements; %d were released", got, events, released)
	}
	if s := j.Stats(); s.Open != 0 || s.Waiting != 0 {
		t.Errorf("something is left: %+v", s)
	}
	kept := mustAdmit(t, j, "kept")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Release(kept); !errors.Is(err, ErrClosed) {
		t.Errorf("released in a closed journal: %v", err)
	}
	_, entries := mustOpen(t, dir, small())
	if len(entries) != 1 || string(entries[0].Payload) != "kept" {
		t.Errorf("open after a restart: %v", entries)
	}
}
