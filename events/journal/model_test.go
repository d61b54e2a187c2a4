package journal

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestAgainstAModel runs random operations and crashes. A crash is a copy of
// the files, in which some operations that had not returned yet are undone as
// far as a kill could have left them.
func TestAgainstAModel(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set("25") // a hundred take 15 s, of which most is fsync
		defer f.Value.Set(f.DefValue)
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{t: t, rt: rt, open: map[string]Ref{}, waiting: map[string]bool{}}
		m.dir = t.TempDir()
		m.j, _ = mustOpen(t, m.dir, small())
		rt.Repeat(map[string]func(*rapid.T){
			"admit":   m.admit,
			"settle":  m.settle,
			"release": m.release,
			"publish": m.publish,
			"compact": m.compact,
			"crash":   m.crash,
			"":        func(*rapid.T) {},
		})
		m.crash(rt)
		for id, ref := range m.open {
			mustSettle(t, m.j, ref, event(id))
			m.waiting[id] = true
		}
		m.publishAll(rt)
		m.j.Close()
		os.RemoveAll(m.dir)
	})
}

type model struct {
	t       *testing.T
	rt      *rapid.T
	dir     string
	j       *Journal
	n       int
	open    map[string]Ref
	waiting map[string]bool // events not acknowledged
}

func (m *model) admit(rt *rapid.T) {
	for range rapid.IntRange(1, 20).Draw(rt, "count") {
		m.n++
		id := fmt.Sprint(m.n)
		size := rapid.SampledFrom([]int{0, 1, 7, 600, 20_000}).Draw(rt, "size")
		ref, err := m.j.Admit([]byte(id + " " + strings.Repeat("p", size)))
		if errors.Is(err, ErrFull) {
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		m.open[id] = ref
	}
}

// draw draws a key of a map, "" if there is none.
func draw[V any](rt *rapid.T, from map[string]V) string {
	if len(from) == 0 {
		return ""
	}
	keys := make([]string, 0, len(from))
	for k := range from {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return rapid.SampledFrom(keys).Draw(rt, "id")
}

func (m *model) settle(rt *rapid.T) {
	for range rapid.IntRange(1, 20).Draw(rt, "count") {
		id := draw(rt, m.open)
		if id == "" {
			return
		}
		if err := m.j.Settle(m.open[id], event(id)); err != nil {
			rt.Fatal(err)
		}
		if err := m.j.Settle(m.open[id], event(id)); !errors.Is(err, ErrSettled) {
			rt.Fatalf("settled twice: %v", err)
		}
		delete(m.open, id)
		m.waiting[id] = true
	}
}

func (m *model) release(rt *rapid.T) {
	for range rapid.IntRange(1, 20).Draw(rt, "count") {
		id := draw(rt, m.open)
		if id == "" {
			return
		}
		if err := m.j.Release(m.open[id]); err != nil {
			rt.Fatal(err)
		}
		if err := m.j.Settle(m.open[id], event(id)); !errors.Is(err, ErrSettled) {
			rt.Fatalf("settled after it was released: %v", err)
		}
		delete(m.open, id)
	}
}

// publish acknowledges some of the next events.
func (m *model) publish(rt *rapid.T) {
	m.hand(rt, func() bool { return rapid.Bool().Draw(rt, "ack") })
}

func (m *model) publishAll(rt *rapid.T) {
	for len(m.waiting) > 0 {
		if !m.hand(rt, func() bool { return true }) {
			rt.Fatalf("never came: %v", m.waiting)
		}
	}
}

func (m *model) hand(rt *rapid.T, ack func() bool) bool {
	refs := m.j.queue.pop()
	m.j.hand(m.t.Context(), refs, func(_ context.Context, batch []Outgoing) []error {
		errs := make([]error, len(batch))
		for i, out := range batch {
			id := strings.TrimPrefix(out.MsgID, "msg-")
			if !m.waiting[id] || string(out.Payload) != string(event(id).Payload) {
				rt.Fatalf("event of %s: %q", id, out.Payload)
			}
			if !ack() {
				errs[i] = errAway
				continue
			}
			delete(m.waiting, id)
		}
		return errs
	})
	return len(refs) > 0
}

// compact moves what is open out of full segments, as the keeper does when the
// journal is crowded.
func (m *model) compact(*rapid.T) {
	stopKeeper(m.j)
	for _, s := range m.j.segs {
		if s.complete() && s.live.Load() > 0 {
			m.j.evacuate(s)
		}
	}
	m.j.keeper.done = make(chan struct{})
	go m.j.keep()
}

// crash goes on with a copy of the files.
func (m *model) crash(rt *rapid.T) {
	stopKeeper(m.j)
	dir := m.t.TempDir()
	for _, path := range files(m.t, m.dir, ".seg*") {
		b, err := os.ReadFile(path)
		if err != nil {
			rt.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), b, 0o600); err != nil {
			rt.Fatal(err)
		}
	}
	for range rapid.IntRange(0, 3).Draw(rt, "undone admissions") {
		m.undoAdmit(rt, dir)
	}
	if rapid.Bool().Draw(rt, "undo an event") {
		m.undoSettle(rt, dir)
	}
	if rapid.Bool().Draw(rt, "undo a move") {
		m.undoMove(rt, dir)
	}
	m.j.Close()
	os.RemoveAll(m.dir)
	m.dir = dir

	var entries []Entry
	m.j, entries = mustOpen(m.t, dir, small())
	found := make(map[string]Ref)
	for _, e := range entries {
		id, _, _ := strings.Cut(string(e.Payload), " ")
		if _, ok := m.open[id]; !ok || found[id] != (Ref{}) {
			rt.Fatalf("open after the crash: %s", id)
		}
		found[id] = e.Ref
	}
	if len(found) != len(m.open) {
		rt.Fatalf("%d open after the crash, %d before", len(found), len(m.open))
	}
	m.open = found
	if s := m.j.Stats(); s.Waiting != int64(len(m.waiting)) || s.Damaged != 0 || s.SetAside != 0 {
		rt.Fatalf("%d events wait, stats %+v", len(m.waiting), s)
	}
}

// tear undoes the writing of a record as a kill would have: nothing there yet,
// or reserved and the body written up to some byte.
func tear(rt *rapid.T, mem []byte, off uint32) {
	n := uint32(load64(mem, off))
	size := recordSize(int(n))
	if rapid.Bool().Draw(rt, "nothing there") {
		clear(mem[off : off+size])
		return
	}
	begin(mem, off, int(n))
	clear(mem[off+8 : off+recordHeader])
	clear(mem[off+recordHeader+rapid.Uint32Range(0, n).Draw(rt, "body") : off+size])
}

// edit changes the file of a segment in dir.
func edit(rt *rapid.T, dir string, s *segment, change func([]byte)) {
	path := segmentPath(dir, s.id)
	b, err := os.ReadFile(path)
	if err != nil {
		rt.Fatal(err)
	}
	change(b)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		rt.Fatal(err)
	}
}

// undoAdmit makes it so that an admission's Admit had not returned.
func (m *model) undoAdmit(rt *rapid.T, dir string) {
	id := draw(rt, m.open)
	if id == "" {
		return
	}
	ref := m.open[id]
	if ref.seg.mem == nil || load32(ref.seg.mem, ref.off+atState) != stateOpen {
		return // it was moved
	}
	if r, _ := readAt(ref.seg.mem, ref.off, ref.seg.seed); r.of.offset != 0 {
		return
	}
	edit(rt, dir, ref.seg, func(b []byte) { tear(rt, b, ref.off) })
	delete(m.open, id)
}

// undoSettle makes it so that an event's Settle had not returned.
func (m *model) undoSettle(rt *rapid.T, dir string) {
	q := m.j.queue.refs[m.j.queue.head:]
	if len(q) == 0 {
		return
	}
	ev := q[len(q)-1]
	r, _ := readAt(ev.seg.mem, ev.off, ev.seg.seed)
	_, msgID, _, _ := splitEvent(r.body) //nolint:dogsled // it is compared by its id
	i := slices.IndexFunc(m.j.segs, func(s *segment) bool { return s.id == r.of.segment })
	if i < 0 {
		return // the admission's segment is gone, so Settle had long returned
	}
	s := m.j.segs[i]
	state := rapid.SampledFrom([]uint32{stateOpen, stateClaimed}).Draw(rt, "state")
	edit(rt, dir, s, func(b []byte) { store32(b, r.of.offset+atState, state) })
	if state == stateClaimed && rapid.Bool().Draw(rt, "event there") {
		return // then the admission is settled all the same
	}
	edit(rt, dir, ev.seg, func(b []byte) { tear(rt, b, ev.off) })
	id := strings.TrimPrefix(string(msgID), "msg-")
	delete(m.waiting, id)
	m.open[id] = Ref{s, r.of.offset}
}

// undoMove makes it so that a move had not come to an end: the copy is there,
// or not yet, and the original is still claimed.
func (m *model) undoMove(rt *rapid.T, dir string) {
	for _, s := range m.j.segs {
		for off, to := range s.moves.to {
			if m.j.attic != to.seg || load32(to.seg.mem, to.off+atState) != stateOpen {
				continue // it went on from there
			}
			edit(rt, dir, s, func(b []byte) { store32(b, off+atState, stateClaimed) })
			if rapid.Bool().Draw(rt, "no copy yet") {
				edit(rt, dir, to.seg, func(b []byte) { tear(rt, b, to.off) })
			}
			return
		}
	}
}
