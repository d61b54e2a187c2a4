package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// patch changes a file in place.
func patch(t *testing.T, path string, change func([]byte)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change(b)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// written is a closed journal with three open admissions, of which the second
// begins at the offset that it returns.
func written(t *testing.T) (dir, path string, second uint32) {
	t.Helper()
	dir = t.TempDir()
	j, _ := mustOpen(t, dir, small())
	mustAdmit(t, j, "one")
	ref := mustAdmit(t, j, "two")
	mustAdmit(t, j, "three")
	j.Close()
	return dir, ref.seg.path, ref.off
}

func names(entries []Entry) string {
	var s []string
	for _, e := range entries {
		s = append(s, string(e.Payload))
	}
	return strings.Join(s, " ")
}

func TestNewerVersionStopsUs(t *testing.T) {
	dir, path, _ := written(t)
	foreign := filepath.Join(dir, "0000000000000000.seg")
	os.WriteFile(foreign, []byte("foreign"), 0o600)
	patch(t, path, func(b []byte) { binary.LittleEndian.PutUint32(b[8:], formatVersion+1) })
	before, _ := os.ReadFile(path)
	_, _, err := Open(dir, small())
	if !errors.Is(err, ErrNewerVersion) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v", err)
	}
	after, _ := os.ReadFile(path)
	if string(before) != string(after) {
		t.Error("the file was changed")
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("another file was changed: %v", err)
	}
}

func TestForeignFilesAreSetAside(t *testing.T) {
	dir, path, _ := written(t)
	b, _ := os.ReadFile(path)
	put := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("00000000000000a0.seg", nil)
	put("00000000000000a1.seg", []byte("something else, long enough to have a header of sixty-four bytes!"))
	put("00000000000000a2.seg", b) // a copy: its events must not come twice
	damaged := append([]byte(nil), b...)
	damaged[40] ^= 1
	put("00000000000000a3.seg", damaged)
	put("00000000000000a4.seg.tmp", b)
	put("README", []byte("not ours"))

	j, entries := mustOpen(t, dir, small())
	if names(entries) != "one two three" {
		t.Errorf("entries: %s", names(entries))
	}
	if s := j.Stats(); s.SetAside != 4 {
		t.Errorf("stats: %+v", s)
	}
	if got := files(t, dir, ".corrupt"); len(got) != 4 {
		t.Errorf("set aside: %v", got)
	}
	if got := files(t, dir, "a4.seg.tmp"); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "README")); err != nil {
		t.Error(err)
	}
	j.Close()
	j, _ = mustOpen(t, dir, small())
	if s := j.Stats(); s.SetAside != 4 {
		t.Errorf("stats after another start: %+v", s)
	}
}

func TestDamagedRecordHidesNoOther(t *testing.T) {
	dir, path, off := written(t)
	patch(t, path, func(b []byte) { b[off+recordHeader] ^= 1 })
	j, entries := mustOpen(t, dir, small())
	if names(entries) != "one three" || j.Stats().Damaged != 1 {
		t.Errorf("entries %s, stats %+v", names(entries), j.Stats())
	}
	for _, e := range entries {
		mustSettle(t, j, e.Ref, event("x"))
	}
	drain(t, j)
	aside := strings.TrimSuffix(path, suffix) + asideSuf
	eventually(t, "kept for a person", func() bool { _, err := os.Stat(aside); return err == nil })
}

func TestShortFileIsFilledUp(t *testing.T) {
	dir, path, off := written(t)
	if err := os.Truncate(path, int64(off)+20); err != nil {
		t.Fatal(err)
	}
	j, entries := mustOpen(t, dir, small())
	if names(entries) != "one" {
		t.Errorf("entries: %s", names(entries))
	}
	mustSettle(t, j, entries[0].Ref, event("x"))
	if got := drain(t, j); len(got) != 1 {
		t.Errorf("events: %v", got)
	}
}

// A caller who puts a record into his payload, and a kill or a power loss that
// takes the header in front of it.
func TestBodiesAreNotTakenForRecords(t *testing.T) {
	fake := make([]byte, 256)
	commit(fake, 64, 8, 0, admitted, 0, position{}) // any seed but the right one
	for _, lost := range []int{4, recordHeader} {
		dir := t.TempDir()
		j, _ := mustOpen(t, dir, small())
		ref := mustAdmit(t, j, string(fake))
		mustAdmit(t, j, "next")
		j.Close()
		patch(t, ref.seg.path, func(b []byte) { clear(b[ref.off : ref.off+uint32(lost)]) })
		if _, entries := mustOpen(t, dir, small()); names(entries) != "next" {
			t.Errorf("entries: %q", names(entries))
		}
	}
}

// A kill while a body is copied: the body is skipped, whatever is in it, even a
// record that would verify.
func TestScanSkipsWhatWasReserved(t *testing.T) {
	mem := make([]byte, 1024)
	begin(mem, 64, 200)
	inside := uint32(64 + recordHeader)
	begin(mem, inside, 8)
	commit(mem, inside, 8, 7, admitted, 0, position{})
	after := 64 + recordSize(200)
	begin(mem, after, 8)
	commit(mem, after, 8, 7, admitted, 0, position{})
	var got []uint32
	scan(mem, 7, func(r record) { got = append(got, r.offset) })
	if len(got) != 1 || got[0] != after {
		t.Errorf("records at %d, want one at %d", got, after)
	}
}

// An event that went bad on disk after it was written is dropped, counted, and
// its file kept; the others go on.
func TestEventThatWentBad(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, small())
	mustSettle(t, j, mustAdmit(t, j, "a"), event("a"))
	mustSettle(t, j, mustAdmit(t, j, "b"), event("b"))
	bad := j.queue.refs[0]
	bad.seg.mem[bad.off+recordHeader+5] ^= 1
	if got := drain(t, j); len(got) != 1 || got[0].MsgID != "msg-b" {
		t.Errorf("events: %v", got)
	}
	if s := j.Stats(); s.Damaged != 1 || s.Waiting != 0 || s.Published != 1 {
		t.Errorf("stats: %+v", s)
	}
}

// Any bytes behind a header: what scan yields lies in bounds and apart.
func FuzzScan(f *testing.F) {
	const seed = 7
	good := make([]byte, 1024)
	begin(good, 64, 5)
	commit(good, 64, 5, seed, admitted, 0, position{})
	ev := event("x")
	at := 64 + recordSize(5)
	encodeEvent(good[at+recordHeader:], &ev)
	commit(good, at, eventSize(&ev), seed, settled, 3, position{1, 64})
	f.Add(good[64:])
	hole := append([]byte(nil), good...)
	begin(hole, 64, 5)
	f.Add(hole[64:])
	f.Add(make([]byte, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := make([]byte, max(64, headerSize+len(b)))
		copy(mem[headerSize:], b)
		next := uint32(headerSize)
		scan(mem, seed, func(r record) {
			size := recordSize(len(r.body))
			if r.offset < next || r.offset%8 != 0 || int(r.offset+size) > len(mem) {
				t.Fatalf("record at %d, %d bytes, after %d of %d", r.offset, size, next, len(mem))
			}
			if r.kind == settled {
				if _, _, _, ok := splitEvent(r.body); !ok {
					t.Fatal("an event that can't be read")
				}
			}
			next = r.offset + size
		})
	})
}

// What the header reader takes can be mapped.
func FuzzHeader(f *testing.F) {
	var b [headerSize]byte
	header{seed: 1, id: 2, epoch: 3, size: minSegment}.put(b[:])
	f.Add(b[:], true)
	f.Add([]byte("TGJOURNL"), false)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) >= headerSize { // get past the checksum
			binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
		}
		h, err := parseHeader(b)
		switch {
		case err == nil && (h.size < minSegment || h.size > maxSegment || h.size%sizeUnit != 0):
			t.Fatalf("%+v", h)
		case err != nil && !errors.Is(err, errForeign) && !errors.Is(err, ErrNewerVersion):
			t.Fatal(err)
		}
	})
}
