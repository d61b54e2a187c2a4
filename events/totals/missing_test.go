package totals

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A replica that began with a gap while nobody could fill it asks until somebody can,
// over a restart too, and takes nothing from who has a gap as well. What it counted
// meanwhile counts once.
func TestGapIsAskedForAgain(t *testing.T) {
	for name, restart := range map[string]bool{"": false, "over a restart": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, whole := t.TempDir(), newStream()
				for i := range 100 {
					whole.store(costly(fmt.Sprint(i)), position(i+1))
				}
				readers := []*stream{whole}
				after := func(n int) *stream { // the stream later, for one reader
					s := &stream{created: whole.created, messages: slices.Clone(whole.messages[n:]), changed: make(chan struct{})}
					readers = append(readers, s)
					return s
				}
				stored := 100
				store := func() {
					for _, s := range readers {
						s.store(costly(fmt.Sprint(stored)), position(stored+1))
					}
					stored++
					synctest.Wait()
				}
				others, later := &peers{}, after(60)
				start := func(name string, s *stream, p Peers) (*Folder, func()) {
					t.Helper()
					f, err := Open(Config{Stream: s, Path: filepath.Join(dir, name), Peers: p, Log: quiet})
					if err != nil {
						t.Fatal(err)
					}
					return f, run(t, f)
				}
				f, stop := start("new", later, others)
				defer func() { stop() }()
				old, stopOld := start("old", whole, nil)
				defer stopOld()
				partial, stopPartial := start("partial", after(50), nil)
				defer stopPartial()
				time.Sleep(10 * time.Second)
				store()
				if n := requests(t, f); n != 41 {
					t.Fatalf("%d requests of 41", n)
				}
				if got := f.Spent("w", "k", time.Time{}); got.String() != "41" {
					t.Errorf("%s is spent, as far as is known", got)
				}

				asked := others.set(partial)
				time.Sleep(2*askEvery + time.Second)
				if n := requests(t, f); n != 41 || others.set(partial) != asked+2 {
					t.Errorf("%d requests of 41, asked %d times in %v", n, others.set(partial)-asked, 2*askEvery)
				}
				if restart {
					stop()
					f, stop = start("new", later, others)
				}
				others.set(partial, old)
				time.Sleep(askEvery / 2)
				store()
				time.Sleep(askEvery/2 + time.Second)
				if n := requests(t, f); n != 102 {
					t.Errorf("%d requests of 102", n)
				}
				store()
				for _, key := range []string{"", "k"} {
					if got := f.Spent("w", key, time.Time{}); got.String() != "103" {
						t.Errorf("key %q: %s of 103 is spent", key, got)
					}
				}

				// From now on it misses nothing, also after a restart.
				if _, partial, current := f.Offer(); partial || !current {
					t.Errorf("partial %v, current %v", partial, current)
				}
				stop()
				f, stop = start("new", later, others)
				asked = others.set(old)
				time.Sleep(2 * askEvery)
				if n := requests(t, f); n != 103 || others.set(old) != asked {
					t.Errorf("%d requests of 103, asked %d times", n, others.set(old)-asked)
				}
			})
		})
	}
}

// Who begins where only one is that misses something takes that, and goes on asking.
func TestPartialTotalsAreTakenToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, s := t.TempDir(), newStream()
		for i := range 100 {
			s.store(costly(fmt.Sprint(i)), position(i+1))
		}
		folder := func(name string, from int, p Peers) *Folder {
			t.Helper()
			later := &stream{created: s.created, messages: slices.Clone(s.messages[from:]), changed: make(chan struct{})}
			f, err := Open(Config{Stream: later, Path: filepath.Join(dir, name), Peers: p, Log: quiet})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(run(t, f))
			time.Sleep(10 * time.Second)
			return f
		}
		others := &peers{}
		others.set(folder("partial", 30, nil))
		f := folder("new", 60, others)
		if _, partial, _ := f.Offer(); requests(t, f) != 70 || !partial {
			t.Errorf("%d requests of 70, partial %v", requests(t, f), partial)
		}
		others.set(folder("whole", 0, nil))
		time.Sleep(askEvery)
		if _, partial, _ := f.Offer(); requests(t, f) != 100 || partial {
			t.Errorf("%d requests of 100, partial %v", requests(t, f), partial)
		}
	})
}

// Who comes back with a gap once more, and then takes all there is, misses nothing.
func TestNextGapIsFilledToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, whole := t.TempDir(), newStream()
		for i := range 100 {
			whole.store(costly(fmt.Sprint(i)), position(i+1))
		}
		others := &peers{}
		start := func(name string, from, to int) (*Folder, func()) {
			t.Helper()
			s := &stream{created: whole.created, messages: slices.Clone(whole.messages[from:to]), changed: make(chan struct{})}
			f, err := Open(Config{Stream: s, Path: filepath.Join(dir, name), Peers: others, Log: quiet})
			if err != nil {
				t.Fatal(err)
			}
			stop := run(t, f)
			time.Sleep(10 * time.Second)
			return f, stop
		}
		f, stop := start("new", 20, 40)
		if _, partial, _ := f.Offer(); requests(t, f) != 20 || !partial {
			t.Errorf("%d requests of 20, partial %v", requests(t, f), partial)
		}
		stop()
		old, stopOld := start("old", 0, 100)
		defer stopOld()
		others.set(old)
		for what := range 2 {
			f, stop = start("new", 60, 100)
			if _, partial, _ := f.Offer(); requests(t, f) != 100 || partial {
				t.Errorf("start %d: %d requests of 100, partial %v", what, requests(t, f), partial)
			}
			stop()
		}
	})
}

// The offer of who misses nothing comes first, then that of who has counted most.
func TestBetterOffer(t *testing.T) {
	none, little, much, partial := &offer{}, &offer{Replica: "a", Counted: 1}, &offer{Replica: "b", Counted: 2}, &offer{Replica: "c", Counted: 3, Partial: true}
	order := []*offer{none, partial, little, much}
	for i := range order {
		for j := range order {
			if got := i > 0 && order[i].better(order[j]); got != (i > j) {
				t.Errorf("%+v before %+v: %v", order[i], order[j], got)
			}
		}
	}
}
