package totals

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"time"
)

// A snapshot, version 2: the magic, the version (32 bits, little-endian), the
// body, and a CRC-32C of all before it. In the body numbers are uvarints, and
// varints where they may be negative; texts and lists begin with their length.
//
//	place       identity of the stream, place in it, when that was stored (nanoseconds)
//	floor
//	workspaces  ids
//	names       of users and models
//	keys        workspace, id, first and last use (microseconds)
//	series      key, user, model, packed history, entries beside it (minute, counts)
//	clock
//	epochs      replica, number, last use, base, blocks (number, 512 bits)
//	ids         16 bytes each, oldest first
//
// What refers to a list above does so by number, from 0. Version 1 is the same
// without amounts of money in the counts.
const (
	snapshotMagic   = "TGTOTALS"
	snapshotVersion = 2
	snapshotHeader  = len(snapshotMagic) + 4
	snapshotTrailer = 4
)

var (
	errDamaged = errors.New("it is damaged")
	errNewer   = errors.New("a newer version wrote it")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// place is how far a stream was counted.
type place struct {
	created int64  // when the stream was made, Unix nanoseconds; its identity
	seq     uint64 // of the last event; 0: none
	stored  int64  // when that was stored, Unix nanoseconds
}

// flushAt is how much of a snapshot is in memory at once.
const flushAt = 64 << 10

// encoder writes a snapshot piece by piece. Its first error is kept.
type encoder struct {
	w   io.Writer
	b   []byte
	crc uint32
	err error
}

func (w *encoder) flush() {
	w.crc = crc32.Update(w.crc, castagnoli, w.b)
	if w.err == nil {
		_, w.err = w.w.Write(w.b)
	}
	w.b = w.b[:0]
}

func (w *encoder) uint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *encoder) int(v int64)   { w.b = binary.AppendVarint(w.b, v) }

// length begins a list or an element of one, where it is fit to flush.
func (w *encoder) length(n int) {
	if len(w.b) > flushAt {
		w.flush()
	}
	w.uint(uint64(n))
}

func (w *encoder) text(s string) {
	w.length(len(s))
	w.b = append(w.b, s...)
}

// writeSnapshot writes a snapshot. The state must not be changed meanwhile; it
// may be read.
func (s *state) writeSnapshot(to io.Writer, at place) error {
	w := &encoder{w: to, b: make([]byte, 0, 2*flushAt)}
	w.b = append(w.b, snapshotMagic...)
	w.b = binary.LittleEndian.AppendUint32(w.b, snapshotVersion)
	w.int(at.created)
	w.uint(at.seq)
	w.int(at.stored)
	w.uint(uint64(s.floor))
	w.length(len(s.workspaces))
	for i := range s.workspaces {
		w.text(s.workspaces[i].id)
	}
	w.length(len(s.names))
	for _, name := range s.names {
		w.text(name)
	}
	w.length(len(s.keys))
	for i := range s.keys {
		k := &s.keys[i]
		w.uint(uint64(k.workspace))
		w.text(k.id)
		w.int(k.since)
		w.int(k.last)
	}
	w.length(len(s.series))
	for i := range s.series {
		w.series(&s.series[i])
	}
	w.seen(&s.seen)
	w.flush()
	w.b = binary.LittleEndian.AppendUint32(w.b, w.crc)
	w.flush()
	return w.err
}

func (w *encoder) series(x *series) {
	w.uint(uint64(x.key))
	w.uint(uint64(x.user))
	w.uint(uint64(x.model))
	w.length(len(x.packed))
	w.b = append(w.b, x.packed...)
	w.length(len(x.hot))
	for i := range x.hot {
		w.uint(uint64(x.hot[i].minute))
		w.b = x.hot[i].append(w.b)
	}
}

func (w *encoder) seen(s *seen) {
	w.uint(s.clock)
	w.length(len(s.epochs))
	for _, name := range s.sorted() {
		e := s.epochs[name]
		w.text(name.replica)
		w.uint(name.number)
		w.uint(e.used)
		w.uint(e.base)
		w.length(len(e.blocks))
		for at, b := range e.blocks {
			w.uint(at)
			for _, word := range b.words {
				w.b = binary.LittleEndian.AppendUint64(w.b, word)
			}
		}
	}
	w.length(len(s.ring))
	for i := range s.ring {
		w.b = append(w.b, s.ring[(s.next+i)%len(s.ring)][:]...)
		if len(w.b) > flushAt {
			w.flush()
		}
	}
}

// readSnapshot reads a snapshot. The error is errDamaged or errNewer. It reads any
// bytes without harm.
func readSnapshot(b []byte) (*state, place, error) {
	if len(b) < snapshotHeader+snapshotTrailer || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, place{}, errDamaged
	}
	body, sum := b[:len(b)-snapshotTrailer], binary.LittleEndian.Uint32(b[len(b)-snapshotTrailer:])
	if v := binary.LittleEndian.Uint32(b[len(snapshotMagic):]); v > snapshotVersion {
		return nil, place{}, fmt.Errorf("%w (version %d)", errNewer, v)
	}
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, place{}, errDamaged
	}
	r := &decoder{b: body[snapshotHeader:]}
	s, at := r.state()
	if r.bad || len(r.b) > 0 {
		return nil, place{}, errDamaged
	}
	return s, at, nil
}

// decoder reads a body. After bad all that it returns is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (r *decoder) fail() { r.b, r.bad = nil, true }

func (r *decoder) uint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > most {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *decoder) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// length reads the length of a list whose elements take a byte or more.
func (r *decoder) length() int { return int(r.uint(uint64(len(r.b)))) }

// index reads the number of an element of a list.
func (r *decoder) index(length int) uint32 {
	if length == 0 {
		r.fail()
		return 0
	}
	return uint32(r.uint(uint64(length - 1)))
}

func (r *decoder) bytes(n int) []byte {
	if n > len(r.b) {
		r.fail()
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *decoder) text() string { return string(r.bytes(r.length())) }

func (r *decoder) state() (*state, place) {
	s := newState()
	at := place{created: r.int(), seq: r.uint(math.MaxUint64), stored: r.int()}
	s.floor = hourOf(uint32(r.uint(math.MaxUint32)))
	for n := r.length(); n > 0 && !r.bad; n-- {
		if int(s.workspace(r.text())) != len(s.workspaces)-1 {
			r.fail()
		}
	}
	for n := r.length(); n > 0 && !r.bad; n-- {
		if int(s.name(r.text())) != len(s.names)-1 {
			r.fail()
		}
	}
	for n := r.length(); n > 0 && !r.bad; n-- {
		r.key(s)
	}
	n := r.length()
	s.series = slices.Grow(s.series, n)
	for ; n > 0 && !r.bad; n-- {
		r.series(s)
	}
	r.seen(&s.seen)
	return s, at
}

func (r *decoder) key(s *state) {
	ws, id, since, last := r.index(len(s.workspaces)), r.text(), r.int(), r.int()
	if r.bad {
		return
	}
	before := len(s.keys)
	at := s.key(ws, id)
	if int(at) != before {
		r.fail()
		return
	}
	s.keys[at].since, s.keys[at].last = since, last
}

func (r *decoder) series(s *state) {
	name := seriesName{r.index(len(s.keys)), r.index(len(s.names)), r.index(len(s.names))}
	packed := r.bytes(r.length())
	hot := r.length()
	if r.bad {
		return
	}
	before := len(s.series)
	at := s.seriesOf(name)
	if int(at) != before || !s.series[at].restore(packed) {
		r.fail()
		return
	}
	for ; hot > 0 && !r.bad; hot-- {
		e := entry{minute: uint32(r.uint(math.MaxUint32))}
		rest, ok := e.parse(r.b)
		if !ok {
			r.fail()
			return
		}
		r.b = rest
		s.series[at].add(e.minute, s.floor, &e.Counts)
	}
}

func (r *decoder) seen(s *seen) {
	s.clock = r.uint(math.MaxUint64)
	for n := r.length(); n > 0 && !r.bad; n-- {
		name := epoch{r.text(), r.uint(math.MaxUint64)}
		e := &epochSeen{used: r.uint(math.MaxUint64)}
		e.base = r.uint(math.MaxUint64 / blockBits)
		e.top = e.base
		for n := r.length(); n > 0 && !r.bad; n-- {
			at := r.uint(math.MaxUint64)
			var words [blockWords]uint64
			for i, b := 0, r.bytes(8*blockWords); i < blockWords && b != nil; i++ {
				words[i] = binary.LittleEndian.Uint64(b[8*i:])
			}
			if !r.bad && !e.restore(at, words) {
				r.fail()
			}
		}
		s.epochs[name] = e
	}
	for n := r.length(); n > 0 && !r.bad; n-- {
		if b := r.bytes(len(eventID{})); b != nil {
			s.addID(eventID(b))
		}
	}
}

func (at place) asOf() AsOf {
	a := AsOf{Seq: at.seq}
	if at.stored != 0 {
		a.Stored = time.Unix(0, at.stored).UTC()
	}
	return a
}

func (at place) String() string {
	return fmt.Sprintf("event %d of the stream made %s", at.seq, time.Unix(0, at.created).UTC().Format(time.RFC3339))
}
