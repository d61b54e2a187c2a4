package journal

import (
	"errors"
	"os"
	"testing"
)

// A segment isn't let go of while a writer is between reservation and commit.
func TestQuiet(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir(), small())
	s, err := createSegment(t.TempDir(), header{id: 1, size: minSegment}, "", preallocate)
	if err != nil {
		t.Fatal(err)
	}
	defer s.unmap()
	off, ok := s.reserve(104)
	if !ok || off != headerSize {
		t.Fatal(off, ok)
	}
	if s.quiet() {
		t.Error("quiet while it isn't full")
	}
	s.seal()
	if s.quiet() {
		t.Error("quiet while a record is being written")
	}
	if _, ok := s.reserve(8); ok {
		t.Error("sealed, but took a record")
	}
	s.written(104)
	if s.quiet() {
		t.Error("quiet with an open admission")
	}
	j.released(s)
	if !s.quiet() {
		t.Error("not quiet")
	}
}

// A segment that is left before it is full can become quiet too.
func TestAdvanceSeals(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir(), small())
	old := j.cur.Load()
	j.mu.Lock()
	j.advance()
	j.mu.Unlock()
	eventually(t, "let go of", func() bool {
		_, err := os.Stat(old.path)
		return errors.Is(err, os.ErrNotExist)
	})
}

// A record that names a segment ends an admission there, so no new segment may
// get that number, also when no file has one as high.
func TestNumbersThatAreNamedAreNotGivenOut(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, small())
	s, off, err := j.reserve(recordSize(1))
	if err != nil {
		t.Fatal(err)
	}
	begin(s.mem, off, 1)
	commit(s.mem, off, 1, s.seed, admitted, 0, position{100, headerSize})
	s.written(recordSize(1))
	j.Close()
	j, entries := mustOpen(t, dir, small())
	if first := j.cur.Load().id; len(entries) != 1 || first <= 100 {
		t.Errorf("%d entries, segment %d", len(entries), first)
	}
}

// Segments of another size are read, and replaced by ones of the right size.
func TestSegmentSizeChanges(t *testing.T) {
	for _, size := range []int64{minSegment, 3 * minSegment} {
		testSegmentSizeChanges(t, size, 2*minSegment)
	}
}

func testSegmentSizeChanges(t *testing.T, from, to int64) {
	dir := t.TempDir()
	cfg := small()
	cfg.SegmentBytes, cfg.MaxBytes = from, 12*from
	j, _ := mustOpen(t, dir, cfg)
	mustSettle(t, j, mustAdmit(t, j, "x"), event("x"))
	mustAdmit(t, j, "y")
	j.Close()
	cfg.SegmentBytes, cfg.MaxBytes = to, 12*to
	j, entries := mustOpen(t, dir, cfg)
	if names(entries) != "y" {
		t.Errorf("entries: %s", names(entries))
	}
	mustSettle(t, j, entries[0].Ref, event("y"))
	if got := drain(t, j); len(got) != 2 {
		t.Errorf("events: %v", got)
	}
	eventually(t, "all of the new size", func() bool {
		for _, f := range files(t, dir, ".seg") {
			if st, err := os.Stat(f); err != nil || st.Size() != cfg.SegmentBytes {
				return false
			}
		}
		return true
	})
}

// With Sync, Admit and Settle return when the flush is over that took in their
// record.
func TestSyncFlushes(t *testing.T) {
	cfg := small()
	cfg.Sync = true
	j, _ := mustOpen(t, t.TempDir(), cfg)
	for range 20 {
		ref := mustAdmit(t, j, "x")
		if ref.seg.dirty.Load() {
			t.Fatal("Admit returned before the flush")
		}
	}
}
