package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("JOURNAL_TEST_CHILD"); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// small is a configuration with segments so small that tests meet their ends.
func small() Config {
	return Config{
		SegmentBytes: minSegment, MaxBytes: 12 * minSegment, EventRoom: 256,
		Log: slog.New(slog.DiscardHandler),
	}
}

func mustOpen(t testing.TB, dir string, cfg Config) (*Journal, []Entry) {
	t.Helper()
	j, entries, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, entries
}

func mustAdmit(t testing.TB, j *Journal, payload string) Ref {
	t.Helper()
	ref, err := j.Admit([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func event(id string) Event {
	return Event{Subject: "usage." + id, MsgID: "msg-" + id, Payload: []byte("payload of " + id)}
}

func mustSettle(t testing.TB, j *Journal, ref Ref, ev Event) {
	t.Helper()
	if err := j.Settle(ref, ev); err != nil {
		t.Fatal(err)
	}
}

// drain hands all waiting events to a stream that takes them, and returns them.
func drain(t testing.TB, j *Journal) []Outgoing {
	t.Helper()
	var got []Outgoing
	for {
		refs := j.queue.pop()
		if len(refs) == 0 {
			return got
		}
		j.hand(t.Context(), refs, func(_ context.Context, batch []Outgoing) []error {
			got = append(got, batch...)
			return make([]error, len(batch))
		})
	}
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func files(t testing.TB, dir, suffix string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestAdmissionsAndEventsOutliveTheJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	j, entries := mustOpen(t, dir, small())
	if len(entries) != 0 {
		t.Fatalf("a new journal has entries: %v", entries)
	}
	mustAdmit(t, j, "first")
	two := mustAdmit(t, j, "second")
	mustAdmit(t, j, "")
	mustSettle(t, j, two, event("second"))
	if s := j.Stats(); s.Open != 2 || s.Waiting != 1 {
		t.Errorf("stats: %+v", s)
	}
	epoch := j.Epoch()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	j, entries = mustOpen(t, dir, small())
	if len(entries) != 2 || string(entries[0].Payload) != "first" || string(entries[1].Payload) != "" {
		t.Fatalf("entries: %v", entries)
	}
	if j.Epoch() <= epoch {
		t.Errorf("epoch %d after %d", j.Epoch(), epoch)
	}
	got := drain(t, j)
	want := Outgoing{Event: event("second"), Epoch: epoch, Seq: 1}
	if len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(want) {
		t.Errorf("events: %v, want %v", got, want)
	}
	mustSettle(t, j, entries[0].Ref, event("first"))
	mustSettle(t, j, entries[1].Ref, event("third"))
	if got := drain(t, j); len(got) != 2 || got[0].Seq != 1 || got[1].Seq != 2 || got[0].Epoch != j.Epoch() {
		t.Errorf("events: %v", got)
	}
	j.Close()

	j, entries = mustOpen(t, dir, small())
	if got := drain(t, j); len(entries) != 0 || len(got) != 0 {
		t.Errorf("all was done, but: %v, %v", entries, got)
	}
	// Nothing but the current segment and the spares may stay.
	eventually(t, "old segments deleted", func() bool { return len(files(t, dir, ".seg")) == 4 })
}

func TestSettleOnce(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir(), small())
	for range 2000 {
		ref := mustAdmit(t, j, "x")
		var ok, refused, ready atomic.Int32
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for ready.Add(1); ready.Load() < 4; {
					runtime.Gosched()
				}
				switch err := j.Settle(ref, event(fmt.Sprint(i))); {
				case err == nil:
					ok.Add(1)
				case errors.Is(err, ErrSettled):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if ok.Load() != 1 || refused.Load() != 3 {
			t.Fatalf("%d settled, %d refused", ok.Load(), refused.Load())
		}
	}
	if got := drain(t, j); len(got) != 2000 {
		t.Errorf("%d events", len(got))
	}
	if err := j.Settle(Ref{}, event("none")); !errors.Is(err, ErrSettled) {
		t.Errorf("zero Ref: %v", err)
	}
}

func TestSettleAfterTheSegmentIsGone(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, small())
	ref := mustAdmit(t, j, "x")
	mustSettle(t, j, ref, event("x"))
	for ref.seg.tail.Load() <= ref.seg.size {
		mustSettle(t, j, mustAdmit(t, j, strings.Repeat("y", 4000)), event("y"))
		drain(t, j)
	}
	eventually(t, "segment deleted", func() bool {
		_, err := os.Stat(ref.seg.path)
		return errors.Is(err, os.ErrNotExist)
	})
	if err := j.Settle(ref, event("x")); !errors.Is(err, ErrSettled) {
		t.Errorf("got %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir(), small())
	if _, err := j.Admit(make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("admission: %v", err)
	}
	ref, err := j.Admit(make([]byte, MaxPayload))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Settle(ref, Event{Payload: make([]byte, MaxEvent+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("event: %v", err)
	}
	mustSettle(t, j, ref, Event{Subject: "s", Payload: make([]byte, MaxEvent-1)})
	if got := drain(t, j); len(got) != 1 || len(got[0].Payload) != MaxEvent-1 {
		t.Errorf("%d events", len(got))
	}
}

// stopKeeper makes the test the only goroutine that changes segs and spares.
func stopKeeper(j *Journal) {
	close(j.keeper.stop)
	<-j.keeper.done
	j.keeper.stop = make(chan struct{}) // for Close
}

// fill admits until there is no room and will be none.
func fill(t *testing.T, j *Journal, size int) (refs []Ref) {
	t.Helper()
	for {
		ref, err := j.Admit(make([]byte, size))
		if err == nil {
			refs = append(refs, ref)
			continue
		}
		j.mu.Lock()
		exhausted := j.exhausted
		j.mu.Unlock()
		switch {
		case !errors.Is(err, ErrFull):
			t.Fatal(err)
		case exhausted && j.Stats().Full > 0:
			return refs
		}
	}
}

// When the journal is full, all that was admitted can still be settled, and
// once events are acknowledged it admits again.
func TestFullAndBack(t *testing.T) {
	for name, cfg := range map[string]func() Config{
		"by size": small,
		"by disk": func() Config {
			cfg := small()
			var n atomic.Int32
			cfg.preallocate = func(f *os.File, size int64) error {
				if n.Add(1) > 5 && n.Load() < 50 {
					return syscall.ENOSPC
				}
				return preallocate(f, size)
			}
			return cfg
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := cfg()
			j, _ := mustOpen(t, dir, cfg)
			refs := fill(t, j, 100)
			if len(refs) < 1000 {
				t.Errorf("only %d admissions", len(refs))
			}
			if s := j.Stats(); s.Bytes > cfg.MaxBytes || int64(len(refs)) != s.Open {
				t.Errorf("stats: %+v", s)
			}
			for i, ref := range refs {
				ev := Event{Subject: "s", MsgID: fmt.Sprint(i)}
				ev.Payload = make([]byte, cfg.EventRoom-len(ev.Subject)-len(ev.MsgID))
				mustSettle(t, j, ref, ev)
			}
			if got := drain(t, j); len(got) != len(refs) {
				t.Errorf("%d events of %d admissions", len(got), len(refs))
			}
			eventually(t, "room again", func() bool {
				ref, err := j.Admit(make([]byte, 100))
				if err == nil {
					mustSettle(t, j, ref, event("x"))
				}
				return err == nil
			})
		})
	}
}

// The room that is kept for events outlives a kill while the journal is full and
// the disk too. What is lost with the rest of the current segment was not
// counted on.
func TestRoomForEventsOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	cfg := small()
	cfg.SegmentBytes, cfg.MaxBytes, cfg.EventRoom = 2<<20, 16<<20, 4000
	j, _ := mustOpen(t, dir, cfg)
	n := len(fill(t, j, 100))
	j.Close()
	ev := Event{Payload: make([]byte, cfg.EventRoom)}
	cfg.preallocate = func(*os.File, int64) error { return syscall.ENOSPC }
	for _, all := range []bool{false, true} {
		var entries []Entry
		j, entries = mustOpen(t, dir, cfg)
		stopKeeper(j) // it might find more room meanwhile
		first := j.cur.Load()
		for _, e := range entries {
			mustSettle(t, j, e.Ref, ev)
			if !all && j.cur.Load() != first {
				break // the worst moment: a new segment, about to be lost
			}
		}
		j.Close()
	}
	j, entries := mustOpen(t, dir, cfg)
	if got := drain(t, j); len(entries) != 0 || len(got) != n {
		t.Errorf("%d admitted, %d open, %d events", n, len(entries), len(got))
	}
}

// An event that finds no room can be tried again.
func TestSettleAgainAfterFull(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir(), small())
	var refs []Ref
	for range 100 {
		refs = append(refs, mustAdmit(t, j, "x"))
	}
	ev := Event{Payload: make([]byte, MaxEvent)} // much more than EventRoom
	for _, ref := range refs {
		err := j.Settle(ref, ev)
		if err == nil {
			continue
		}
		if !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		eventually(t, "settled", func() bool {
			drain(t, j)
			err := j.Settle(ref, ev)
			if err != nil && !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			return err == nil
		})
		return
	}
	t.Error("never full")
}

// A disk that is full from the start: nothing to drain is an error, something
// to drain isn't.
func TestFullDiskAtOpen(t *testing.T) {
	dir := t.TempDir()
	cfg := small()
	cfg.preallocate = func(*os.File, int64) error { return syscall.ENOSPC }
	if _, _, err := Open(dir, cfg); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if left := files(t, dir, ".seg*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	j, _ := mustOpen(t, dir, small())
	mustSettle(t, j, mustAdmit(t, j, "x"), event("x"))
	j.Close()
	for _, f := range files(t, dir, ".seg")[1:] {
		os.Remove(f) // the spares
	}
	j, _ = mustOpen(t, dir, cfg)
	if _, err := j.Admit(nil); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	if got := drain(t, j); len(got) != 1 {
		t.Errorf("%d events", len(got))
	}
}

// Spares of the process before are used again: settling what it admitted needs
// no new disk.
func TestSparesAreUsedAgain(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, small())
	mustAdmit(t, j, "x")
	j.Close()
	cfg := small()
	var asked atomic.Int32
	cfg.preallocate = func(*os.File, int64) error { asked.Add(1); return syscall.ENOSPC }
	j, entries := mustOpen(t, dir, cfg)
	mustSettle(t, j, entries[0].Ref, event("x"))
	if got := drain(t, j); len(got) != 1 {
		t.Errorf("%d events", len(got))
	}
	eventually(t, "no spare too many", func() bool { return j.Stats().Segments == len(files(t, dir, ".seg")) })
}

func TestFilesAreOnDiskAndPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	mustOpen(t, dir, small())
	if st, _ := os.Stat(dir); st.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v", st.Mode())
	}
	segs := files(t, dir, ".seg")
	if len(segs) < 2 {
		t.Fatalf("segments: %v", segs)
	}
	for _, f := range segs {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 || st.Size() != minSegment {
			t.Errorf("%s: %v, %d bytes", f, st.Mode(), st.Size())
		}
		if on := st.Sys().(*syscall.Stat_t).Blocks * 512; on < minSegment {
			t.Errorf("%s is sparse: %d bytes on disk", f, on)
		}
	}
}

// populate hides a sparse file, so look at one that was only preallocated.
func TestPreallocate(t *testing.T) {
	for name, alloc := range map[string]func(*os.File, int64) error{
		"preallocate": preallocate,
		"writeZeros":  func(f *os.File, size int64) error { return errors.Join(writeZeros(f, 0, size), f.Sync()) },
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := alloc(f, 1<<20+1); err != nil {
			t.Fatal(err)
		}
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if on := st.Sys().(*syscall.Stat_t).Blocks * 512; st.Size() != 1<<20+1 || on < st.Size() {
			t.Errorf("%s: %d bytes, %d on disk", name, st.Size(), on)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{
		{SegmentBytes: 100 << 10}, {SegmentBytes: 1<<20 + 1}, {SegmentBytes: 2 << 30, MaxBytes: 1 << 40},
		{MaxBytes: 64 << 20}, {EventRoom: 1}, {EventRoom: 1 << 20},
	} {
		if j, _, err := Open(t.TempDir(), cfg); err == nil {
			j.Close()
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, small())
	if _, _, err := Open(dir, small()); !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v", err)
	}
	j.Close()
	mustOpen(t, dir, small())
}

func TestClosed(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir(), small())
	ref := mustAdmit(t, j, "x")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Admit(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Admit: %v", err)
	}
	if err := j.Settle(ref, event("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("Settle: %v", err)
	}
	if err := j.Run(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	if err := j.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("Close: %v", err)
	}
}

// Everything at once, with the journal closed under load in the end: what was
// admitted is open or has its event.
func TestConcurrent(t *testing.T) {
	for _, sync := range []bool{false, true} {
		t.Run(fmt.Sprint("sync ", sync), func(t *testing.T) { testConcurrent(t, sync) })
	}
}

func testConcurrent(t *testing.T, group bool) {
	dir := t.TempDir()
	cfg := small()
	cfg.Sync = group
	j, _ := mustOpen(t, dir, cfg)
	var mu sync.Mutex
	state := make(map[string]string) // id → admitted, settled
	published := make(map[string]int)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := j.Run(t.Context(), func(_ context.Context, batch []Outgoing) []error {
			mu.Lock()
			defer mu.Unlock()
			for _, out := range batch {
				published[strings.TrimPrefix(out.MsgID, "msg-")]++
			}
			return make([]error, len(batch))
		})
		if !errors.Is(err, ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
	var enough atomic.Int64
	for g := range 6 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d", g, i)
				ref, err := j.Admit(append([]byte(id+" "), make([]byte, i%3000)...))
				if errors.Is(err, ErrClosed) {
					return
				}
				if errors.Is(err, ErrFull) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				state[id] = "admitted"
				mu.Unlock()
				enough.Add(1)
				if i%20 == 0 {
					continue
				}
				if err := j.Settle(ref, event(id)); err == nil {
					mu.Lock()
					state[id] = "settled"
					mu.Unlock()
				} else if !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	want := int64(5000)
	if group {
		want = 200
	}
	eventually(t, "enough", func() bool { return enough.Load() > want })
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()

	j, entries := mustOpen(t, dir, cfg)
	open := make(map[string]bool)
	for _, e := range entries {
		id, _, _ := strings.Cut(string(e.Payload), " ")
		open[id] = true
	}
	for _, out := range drain(t, j) {
		published[strings.TrimPrefix(out.MsgID, "msg-")]++
	}
	for id, st := range state {
		switch {
		case st == "admitted" && open[id] == (published[id] > 0): // it may be that only Settle's answer is missing
			t.Errorf("%s was admitted: open %v, published %d times", id, open[id], published[id])
		case st == "settled" && (open[id] || published[id] != 1):
			t.Errorf("%s was settled: open %v, published %d times", id, open[id], published[id])
		}
	}
	if len(open) > len(state) {
		t.Errorf("%d open of %d admitted", len(open), len(state))
	}
}

func TestAdmitDoesNotAllocate(t *testing.T) {
	cfg := small()
	cfg.SegmentBytes, cfg.MaxBytes = 4<<20, 64<<20
	j, _ := mustOpen(t, t.TempDir(), cfg)
	payload := bytes.Repeat([]byte("p"), 600)
	ev := event("x")
	if n := testing.AllocsPerRun(1000, func() {
		ref, err := j.Admit(payload)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Settle(ref, ev); err != nil {
			t.Fatal(err)
		}
		if len(j.queue.refs) > 100 {
			j.queue.refs = j.queue.refs[:0]
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// After a flush that failed nothing is admitted, and what was refused doesn't
// come back.
func TestFailedDisk(t *testing.T) {
	dir := t.TempDir()
	cfg := small()
	cfg.Sync = true
	j, _ := mustOpen(t, dir, cfg)
	ref := mustAdmit(t, j, "before")
	j.group.mu.Lock()
	j.group.failed = ErrDisk
	j.group.mu.Unlock()
	if _, err := j.Admit([]byte("after")); !errors.Is(err, ErrDisk) {
		t.Errorf("got %v", err)
	}
	mustSettle(t, j, ref, event("before"))
	if s := j.Stats(); s.Open != 0 || s.Waiting != 1 {
		t.Errorf("stats: %+v", s)
	}
	j.Close()
	if _, entries := mustOpen(t, dir, cfg); len(entries) != 0 {
		t.Errorf("entries: %v", entries)
	}
}
