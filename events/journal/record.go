package journal

import (
	"encoding/binary"
	"hash/crc32"
)

// A record, version 1, begins at a multiple of 8 bytes:
//
//	 0  length of the body (32 bits) and mark (32 bits), one atomic word
//	 8  CRC-32C of all from 16 to the body's end, begun with seed ^ offset
//	12  state, changed in place, atomic
//	16  kind (8 bits), zero (24 bits)
//	20  offset of the admission that this record ends (its event) or replaces
//	    (its copy); 0 if none
//	24  sequence of a settled record
//	32  segment of that admission
//	40  body
//
// The writer first stores length and markReserved, then the rest, and
// markCommitted last. So a writer that was killed leaves either zeros, which a
// scan steps over a word at a time, or a length to skip: what callers put into
// a body is not looked at as if it were a record. After a power loss, when
// pages came to disk in any order, the seed (random, one per segment) does
// that: nobody who doesn't know it can put a record into a body.
const (
	recordHeader = 40
	// maxRecord bounds a record with its header, and by that what a segment can
	// leave unused at its end and the time that a scan of garbage takes.
	maxRecord = 64 << 10

	atMark, atCRC, atState, atKind = 0, 8, 12, 16
	atOfOffset, atSeq, atOfSegment = 20, 24, 32

	markReserved  uint32 = 0x52474c54
	markCommitted uint32 = 0x43474c54
)

type kind uint8

const (
	admitted kind = 1
	settled  kind = 2
)

// States of a record. A record is born with zeros, so open is zero. Any value
// that isn't known counts as open: the safe side.
const (
	stateOpen    uint32 = 0 // an admission nobody settled; an event nobody acknowledged
	stateClaimed uint32 = 1 // an admission whose event or copy is being written
	stateDone    uint32 = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// position is where a record is. Segment numbers are not used twice while a
// record that names one is there.
type position struct {
	segment uint64
	offset  uint32
}

// record is a committed record as a scan finds it. Its body is the mapping's.
type record struct {
	offset uint32
	kind   kind
	state  uint32
	seq    uint64
	of     position
	body   []byte
}

// recordSize is the room that a body of n bytes takes.
func recordSize(n int) uint32 { return uint32(recordHeader+n+7) &^ 7 }

func mark(m uint32, n int) uint64 { return uint64(m)<<32 | uint64(uint32(n)) }

// begin makes reserved bytes known as such.
func begin(mem []byte, off uint32, n int) { store64(mem, off+atMark, mark(markReserved, n)) }

// commit completes the record at off, whose body is in place. The store of the
// mark is what makes it exist.
func commit(mem []byte, off uint32, n int, seed uint32, k kind, seq uint64, of position) {
	h := mem[off : off+recordHeader]
	h[atKind] = byte(k)
	binary.LittleEndian.PutUint32(h[atOfOffset:], of.offset)
	binary.LittleEndian.PutUint64(h[atSeq:], seq)
	binary.LittleEndian.PutUint64(h[atOfSegment:], of.segment)
	binary.LittleEndian.PutUint32(h[atCRC:], checksum(mem, off, n, seed))
	store64(mem, off+atMark, mark(markCommitted, n))
}

func checksum(mem []byte, off uint32, n int, seed uint32) uint32 {
	return crc32.Update(seed^off, castagnoli, mem[off+atKind:off+recordHeader+uint32(n)])
}

// found is what a scan saw besides the records.
type found struct {
	used    bool  // something was written to the segment
	damaged int64 // committed records that don't verify
}

// scan calls yield for each committed record of a segment, in order. It reads
// any bytes without harm and looks at each at most a bounded number of times.
func scan(mem []byte, seed uint32, yield func(record)) found {
	var f found
	end := uint32(len(mem)) &^ 7
	for off := uint32(headerSize); off+recordHeader <= end; {
		word := load64(mem, off+atMark)
		if word == 0 {
			off += 8
			continue
		}
		f.used = true
		size := recordSize(int(uint32(word)))
		switch m := uint32(word >> 32); {
		case m == markReserved && fits(mem, off, uint32(word)):
			off += size
		case m == markCommitted:
			r, ok := readAt(mem, off, seed)
			if !ok {
				f.damaged++
				off += 8
				continue
			}
			yield(r)
			off += size
		default:
			off += 8
		}
	}
	return f
}

// fits says whether a record with a body of n bytes can be at off.
func fits(mem []byte, off, n uint32) bool {
	return n <= maxRecord-recordHeader && int(off)+int(recordSize(int(n))) <= len(mem)
}

// readAt takes apart the committed record at off, a header's length before the
// end of mem or earlier; false if it doesn't verify.
func readAt(mem []byte, off, seed uint32) (record, bool) {
	word := load64(mem, off+atMark)
	n := int(uint32(word))
	if uint32(word>>32) != markCommitted || !fits(mem, off, uint32(word)) {
		return record{}, false
	}
	h := mem[off : off+recordHeader]
	if binary.LittleEndian.Uint32(h[atCRC:]) != checksum(mem, off, n, seed) {
		return record{}, false
	}
	r := record{
		offset: off,
		kind:   kind(h[atKind]),
		state:  load32(mem, off+atState),
		seq:    binary.LittleEndian.Uint64(h[atSeq:]),
		of: position{
			segment: binary.LittleEndian.Uint64(h[atOfSegment:]),
			offset:  binary.LittleEndian.Uint32(h[atOfOffset:]),
		},
		body: mem[off+recordHeader : off+recordHeader+uint32(n)],
	}
	switch r.kind {
	case admitted:
		return r, true
	case settled:
		_, _, _, ok := splitEvent(r.body)
		return r, ok
	}
	return record{}, false
}

// The body of a settled record: length of the subject and of the message id
// (16 bits each), subject, message id, payload.
const eventHeader = 4

func eventSize(e *Event) int {
	return eventHeader + len(e.Subject) + len(e.MsgID) + len(e.Payload)
}

// encodeEvent writes e, whose eventSize fits into a record, to b.
func encodeEvent(b []byte, e *Event) {
	binary.LittleEndian.PutUint16(b, uint16(len(e.Subject)))
	binary.LittleEndian.PutUint16(b[2:], uint16(len(e.MsgID)))
	n := eventHeader
	n += copy(b[n:], e.Subject)
	n += copy(b[n:], e.MsgID)
	copy(b[n:], e.Payload)
}

// splitEvent is encodeEvent's reverse, without a copy; false if b is none.
func splitEvent(b []byte) (subject, msgID, payload []byte, ok bool) {
	if len(b) < eventHeader {
		return nil, nil, nil, false
	}
	s, m := int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
	b = b[eventHeader:]
	if s+m > len(b) {
		return nil, nil, nil, false
	}
	return b[:s], b[s : s+m], b[s+m:], true
}
