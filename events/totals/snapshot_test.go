package totals

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"tollgate/authz/money"
	"tollgate/events"
)

// sample is a state that has a bit of everything.
func sample(t testing.TB) *state { return sampleOf(t, snapshotVersion) }

// sampleOf is what a version knew: the first nothing of money.
func sampleOf(t testing.TB, version int) *state {
	t.Helper()
	s := newState()
	s.trim(noon)
	seq := uint64(0)
	fold := func(e *events.Event) {
		seq++
		if version > 1 {
			e.Data.Cost, e.Data.ListCost = money.New(int64(seq)*7, 9), money.New(math.MaxInt64, 20).MulInt(int64(seq))
		}
		if !s.Fold(parsed(t, e), events.Position{Replica: "one", Epoch: 1_700_000_000_000_000, Seq: seq + seq%2*600}) {
			t.Fatalf("%s is not new", e.ID)
		}
	}
	for i := range 40 {
		fold(usage(fmt.Sprint("a", i), "demo", "key-1", "m/1", noon.Add(time.Duration(-i)*time.Minute)))
		fold(usage(fmt.Sprint("b", i), "demo", fmt.Sprint("key-", i%3), "m/2", noon.Add(time.Duration(-i)*time.Hour)))
	}
	e := unknown(usage("c", "other", "key-1", "", noon))
	e.Data.User = "u"
	fold(e)
	fold(late(e, "reported"))
	for i := range uint64(blockBits + 10) { // more than a block
		s.Fold(parsed(t, usage(fmt.Sprint("e", i), "demo", "key-2", "m/1", noon)), events.Position{Replica: "two", Epoch: 1, Seq: i + 1})
	}
	s.Fold(parsed(t, usage("d", "other", "key-1", "m/1", noon)), events.Position{})
	return s
}

func written(t testing.TB, s *state, at place) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.writeSnapshot(&b, at); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// settled is a state without what may differ: what is packed.
func settled(s *state) *state {
	for i := range s.series {
		s.series[i].pack(s.floor)
	}
	return s
}

var somewhere = place{created: noon.UnixNano(), seq: 12345, stored: noon.UnixNano() + 1}

func TestSnapshotRoundTrip(t *testing.T) {
	s := sample(t)
	got, at, err := readSnapshot(written(t, s, somewhere))
	if err != nil || at != somewhere {
		t.Fatalf("%v, at %v", err, at)
	}
	if want := settled(s); !reflect.DeepEqual(settled(got), want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

var update = flag.Bool("update", false, "write the newest of testdata/snapshot.v*.bin anew; only before its version is released")

// testdata/snapshot.v1.bin was written by the first program with version 1, and so
// on. Every later one must read it; when the form changes it stays and gets a
// neighbour.
func TestFrozenSnapshots(t *testing.T) {
	for version := 1; version <= snapshotVersion; version++ {
		file := fmt.Sprintf("testdata/snapshot.v%d.bin", version)
		if *update && version == snapshotVersion {
			if err := os.WriteFile(file, written(t, sample(t), somewhere), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, at, err := readSnapshot(b)
		if err != nil || at != somewhere {
			t.Fatalf("%v, at %v", err, at)
		}
		if !reflect.DeepEqual(settled(s), settled(sampleOf(t, version))) {
			t.Errorf("version %d is read as something else", version)
		}
	}
}

// Whatever is missing or changed, a snapshot is refused whole.
func TestSnapshotDamaged(t *testing.T) {
	b := written(t, sample(t), somewhere)
	for n := range b {
		if _, _, err := readSnapshot(b[:n]); !errors.Is(err, errDamaged) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(b), err)
		}
		b[n] ^= 0x10
		if _, _, err := readSnapshot(b); err == nil {
			t.Fatalf("byte %d changed: it is read", n)
		}
		b[n] ^= 0x10
	}
	binary.LittleEndian.PutUint32(b[len(snapshotMagic):], snapshotVersion+1)
	if _, _, err := readSnapshot(b); !errors.Is(err, errNewer) {
		t.Errorf("of a newer version: %v", err)
	}
}

// Any bytes are read without harm, also where somebody made the checksum fit; and
// what is read can be used and written.
func FuzzReadSnapshot(f *testing.F) {
	whole := written(f, sample(f), somewhere)
	f.Add(whole[snapshotHeader : len(whole)-snapshotTrailer])
	whole = written(f, newState(), place{})
	f.Add(whole[snapshotHeader : len(whole)-snapshotTrailer])
	f.Fuzz(func(t *testing.T, body []byte) {
		b := append([]byte(snapshotMagic), snapshotVersion, 0, 0, 0)
		b = append(b, body...)
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
		s, at, err := readSnapshot(b)
		if err != nil {
			return
		}
		s.Fold(parsed(t, usage("new", "demo", "key-1", "m/1", noon)), events.Position{Replica: "one", Epoch: 1, Seq: 1})
		s.trim(noon)
		sum := answer(t, s, Query{})
		again, place, err := readSnapshot(written(t, s, at))
		if err != nil || place != at {
			t.Fatalf("written and read again: %v, at %v", err, place)
		}
		if got := answer(t, again, Query{}); !got[0].equal(&sum[0].Counts) {
			t.Fatalf("%+v became %+v", sum, got)
		}
	})
}

// The newest snapshot that can be read counts; the others are set aside.
func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "totals", "snapshot")
	load := func(want uint64) {
		t.Helper()
		if _, at, err := load(path, quiet); err != nil || at.seq != want {
			t.Errorf("%v, at %v, want %d", err, at, want)
		}
	}
	load(0)
	for seq := range uint64(3) {
		if err := save(path, sample(t), place{seq: seq + 1}); err != nil {
			t.Fatal(err)
		}
		load(seq + 1)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// A kill between the two renames.
	if err := os.Rename(path, path+".writing"); err != nil {
		t.Fatal(err)
	}
	load(2)
	if err := os.Rename(path+".writing", path); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	load(2)
	load(2) // the torn one is set aside
	b, err := os.ReadFile(path + beforeSuffix)
	if err != nil {
		t.Fatal(err)
	}
	b[len(snapshotMagic)] = snapshotVersion + 1
	if err := os.WriteFile(path+beforeSuffix, b, 0o600); err != nil {
		t.Fatal(err)
	}
	load(0)
	for _, aside := range []string{path + ".corrupt", path + beforeSuffix + ".newer"} {
		if _, err := os.Stat(aside); err != nil {
			t.Error(err)
		}
	}
}
